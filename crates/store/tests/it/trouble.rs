//! What happens to a store that is open: its disk fills up, its file goes, its server goes. It says so, and heals.

use std::fs;
use std::time::Duration;

use scoreline_store::{Store, StoreError, StorePlace, StoreSettings};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Connection as _};

use super::ground::Ground;
use super::rows::{at, batch, interaction, key, new, record};
use super::small_disk::SmallDisk;

/// Other customers in each round of a hundred thousand: those of the one before are erased.
fn customer(number: u32) -> u32 {
    number / 100_000 * 40 + number % 40
}

/// Records interactions until the disk is full; why it ended.
async fn record_until_full(store: &Store, from: u32) -> StoreError {
    for step in 0..200 {
        let rows: Vec<_> = (0..100)
            .map(|row| from + step * 100 + row)
            .map(|number| new(interaction(number, customer(number), i64::from(number))))
            .collect();
        if let Err(err) = store.record(&batch(&rows, None)).await {
            return err;
        }
    }
    panic!("20,000 interactions fit into what is left of two MiB");
}

#[tokio::test]
async fn a_full_disk_is_said_and_what_it_left_behind_does_not_last() {
    let Some(disk) = SmallDisk::mounted("a_full_disk_is_said_and_what_it_left_behind_does_not_last") else { return };
    let store = Store::open(&StoreSettings::sqlite(disk.path().join("scoreline.db"))).await.expect("opened");
    for round in 0..4_u32 {
        let from = round * 100_000;
        record(&store, [interaction(from, customer(from), 0)]).await;
        assert_eq!(store.trouble(), None, "round {round}");
        disk.fill();
        let err = record_until_full(&store, from + 1).await;
        assert!(err.is_passing(), "round {round}: {err:?}");
        let trouble = store.trouble().expect("said");
        assert!(trouble.contains("full"), "round {round}: {trouble}");
        // Whatever is tried meanwhile fails for the disk, and for nothing that is left of an attempt before.
        for _ in 0..5 {
            let err = store.save_position("test", &"x".repeat(200_000), at(0), None).await.expect_err("full").reason();
            assert!(err.contains("full"), "round {round}: {err}");
            store.check().await;
            assert!(store.trouble().is_some_and(|trouble| trouble.contains("full")), "round {round}");
        }
        assert!(store.counts().await.expect("counted").interactions > 0, "it is read meanwhile");
        disk.empty();
        store.check().await;
        assert_eq!(store.trouble(), None, "round {round}");
        let gone: Vec<_> = (0..40).map(|number| key(customer(from + number))).collect();
        store.erase_customers(&gone).await.expect("room is made");
    }
    store.close().await;
}

#[tokio::test]
async fn a_file_that_is_moved_or_replaced_under_a_store_is_noticed() {
    let ground = Ground::sqlite();
    let store = ground.open().await;
    record(&store, [interaction(1, 1, 0)]).await;
    let away = ground.path().with_file_name("away");
    fs::rename(ground.path(), &away).expect("moved");
    let writing = store.save_position("test", "{}", at(0), None).await.expect_err("gone");
    assert!(matches!(writing, StoreError::Gone { .. }), "{writing:?}");
    assert!(matches!(store.counts().await, Err(StoreError::Gone { .. })));
    store.check().await;
    let trouble = store.trouble().expect("said");
    assert!(trouble.contains("was deleted or moved away while it was in use"), "{trouble}");
    assert!(trouble.contains(&ground.path().display().to_string()), "{trouble}");

    // Another file of the same content is not the one that is written to.
    fs::copy(&away, ground.path()).expect("copied");
    let replaced = store.save_position("test", "{}", at(0), None).await.expect_err("another").to_string();
    assert!(replaced.contains("was replaced while it was in use"), "{replaced}");
    fs::rename(&away, ground.path()).expect("put back");
    store.check().await;
    assert_eq!(store.trouble(), None);
    record(&store, [interaction(2, 1, 0)]).await;
    store.close().await;
}

#[tokio::test]
async fn a_deleted_file_is_noticed() {
    let ground = Ground::sqlite();
    let store = ground.open().await;
    let folder = ground.path().parent().expect("a folder").to_owned();
    fs::remove_dir_all(&folder).expect("deleted, and its log with it");
    store.check().await;
    assert!(store.trouble().is_some_and(|trouble| trouble.contains("deleted")));
    assert!(matches!(store.lease("features", "a", Duration::from_secs(1), at(0)).await, Err(StoreError::Gone { .. })));
    store.close().await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_said_and_found_again() {
    let ground = Ground::postgres("gone").await;
    let store = ground.open().await;
    record(&store, [interaction(1, 1, 0)]).await;
    let StorePlace::Postgres(url) = &ground.settings.place else { panic!("a server") };
    let (server, database) = url.expose_secret().rsplit_once('/').expect("a URL with a database");
    let mut admin = sqlx::PgConnection::connect(&format!("{server}/postgres")).await.expect("the server");
    let mut run = async |sql: String| {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.expect("run");
    };
    run(format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false")).await;
    run(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")).await;
    store.check().await;
    let trouble = store.trouble().expect("said");
    store.save_position("test", "{}", at(0), None).await.expect_err("gone");
    run(format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true")).await;
    store.check().await;
    assert_eq!(store.trouble(), None, "after {trouble}");
    record(&store, [interaction(2, 1, 0)]).await;
    store.close().await;
    ground.remove().await;
}
