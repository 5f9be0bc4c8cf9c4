//! What only an SQLite file can suffer: damage, another process, another program's file, a newer schema.

use std::fs;

use scoreline_store::{Check, Store, StoreError, StoreSettings};
use sqlx::{Connection as _, SqliteConnection};

use super::ground::Ground;
use super::rows::{at, interaction, record};

async fn refused(ground: &Ground) -> String {
    match Store::open(&ground.settings).await {
        Ok(_) => panic!("opened"),
        Err(err) => err.to_string().replace(&ground.path().display().to_string(), "FILE"),
    }
}

async fn filled() -> Ground {
    let ground = Ground::sqlite();
    let store = ground.open().await;
    record(&store, (0..3000).map(|number| interaction(number, number % 100, i64::from(number)))).await;
    store.close().await;
    ground
}

#[tokio::test]
async fn a_second_writer_is_refused_and_told_who_the_first_is() {
    let ground = Ground::sqlite();
    let store = ground.open().await;
    let process = std::process::id();
    assert_eq!(
        refused(&ground).await,
        format!(
            "store `FILE` is in use by process {process}: one process at a time may write to it (lock `FILE.lock`)"
        )
    );
    record(&store, [interaction(1, 1, 0)]).await;
    let reader = Store::open_to_read(&ground.settings).await.expect("opened beside it");
    assert_eq!(reader.counts().await.expect("counted").interactions, 1);
    let write = reader.save_position("test", "{}", at(0), None).await;
    assert!(matches!(write, Err(StoreError::ReadOnly)), "{write:?}");
    reader.close().await;
    store.close().await;
    ground.open().await.close().await;
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_as_it_is() {
    let ground = filled().await;
    let whole = fs::read(ground.path()).expect("read");
    let mut torn = whole.clone();
    let middle = whole.len() / 2;
    torn[middle..middle + 20_000].fill(0xa5);
    for damaged in [Vec::new(), vec![b'x'; 5000], whole[..whole.len() / 2].to_vec(), torn] {
        fs::write(ground.path(), &damaged).expect("written");
        for check in [Check::Quick, Check::Full] {
            let settings = StoreSettings { check, ..ground.settings.clone() };
            let err = Store::open(&settings).await.err().expect("refused");
            let known = matches!(err, StoreError::Corrupt { .. } | StoreError::NotAStore { .. });
            assert!(known, "{} bytes: {err:?}", damaged.len());
        }
        assert!(fs::read(ground.path()).expect("read") == damaged, "{} bytes: it was changed", damaged.len());
    }
    fs::write(ground.path(), &whole).expect("written");
    let store = ground.open().await;
    assert_eq!(store.counts().await.expect("counted").interactions, 3000);
    store.close().await;
}

#[tokio::test]
async fn a_file_that_is_gone_is_not_begun_anew_beside_its_log() {
    let ground = filled().await;
    fs::rename(ground.path(), ground.path().with_extension("moved")).expect("moved");
    fs::write(format!("{}-wal", ground.path().display()), b"of the file that was moved").expect("written");
    let refusal = refused(&ground).await;
    assert!(refusal.contains("`FILE-wal` is there without its store"), "{refusal}");
}

#[tokio::test]
async fn what_is_not_a_store_or_is_newer_is_refused() {
    let ground = filled().await;
    execute(&ground, "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1").await;
    assert_eq!(
        refused(&ground).await,
        "migration 1 was applied with another content: this program does not belong to this store"
    );
    execute(&ground, "UPDATE _sqlx_migrations SET version = 999 WHERE version = 2").await;
    execute(&ground, "UPDATE oldest_program SET schema_version = 999").await;
    assert_eq!(
        refused(&ground).await,
        "the store's schema has version 999, this program knows versions up to 13: run the newer program"
    );
    // As programs left it that did not know the table.
    execute(&ground, "DROP TABLE oldest_program").await;
    assert!(refused(&ground).await.contains("run the newer program"));
    execute(&ground, "PRAGMA application_id = 7").await;
    assert_eq!(refused(&ground).await, "`FILE` is not a store of scoreline");
}

async fn execute(ground: &Ground, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(ground.path());
    let mut connection = SqliteConnection::connect_with(&options).await.expect("opened");
    sqlx::query(sql).execute(&mut connection).await.expect("executed");
    connection.close().await.expect("closed");
}

#[tokio::test]
async fn what_an_interrupted_start_left_is_no_store() {
    let ground = Ground::sqlite();
    fs::write(format!("{}.new", ground.path().display()), b"half of a new store").expect("written");
    let store = ground.open().await;
    record(&store, [interaction(1, 1, 0)]).await;
    store.close().await;
    let left: Vec<_> = fs::read_dir(ground.path().parent().expect("a folder"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    assert!(left.iter().all(|name| name == "scoreline.db" || name == "scoreline.db.lock"), "{left:?}");
}

#[tokio::test]
async fn a_newer_server_s_store_is_refused_too() {
    let ground = Ground::postgres("newer").await;
    ground.open().await.close().await;
    let store = ground.open().await;
    store.close().await;
    let scoreline_store::StorePlace::Postgres(url) = &ground.settings.place else { panic!("a server") };
    let mut connection = sqlx::PgConnection::connect(secrecy::ExposeSecret::expose_secret(url)).await.expect("reached");
    let mut execute = async |sql: &'static str| {
        sqlx::query(sql).execute(&mut connection).await.expect("executed");
    };
    execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, 'next', true, '', 0)",
    )
    .await;
    // It only added.
    let beside = ground.open().await;
    beside.save_position("test", "{}", at(0), None).await.expect("saved");
    assert_eq!(beside.schema().await.expect("read"), (999, 13));
    execute("UPDATE oldest_program SET schema_version = 999").await;
    let refused = beside.save_position("test", "{}", at(0), None).await;
    assert!(matches!(refused, Err(StoreError::Newer { found: 999, known: 13 })), "{refused:?}");
    beside.check().await;
    assert!(beside.trouble().is_some_and(|trouble| trouble.contains("run the newer program")));
    assert!(matches!(beside.schema().await, Err(StoreError::Newer { .. })));
    beside.close().await;
    let err = Store::open(&ground.settings).await.err().expect("refused");
    assert!(matches!(err, StoreError::Newer { found: 999, known: 13 }), "{err:?}");
    connection.close().await.expect("closed");
    ground.remove().await;
}
