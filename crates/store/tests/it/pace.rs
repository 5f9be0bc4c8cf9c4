//! The pace of tokens: no change is lost between processes, all are told one clock, and what was kept before is not forgotten.

use futures_util::future::join_all;
use scoreline_store::{Store, StorePlace};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Connection as _};

use super::ground::Ground;
use super::on_both;

on_both!(no_change_is_lost_and_time_goes_on, what_was_kept_among_positions_counts_as_a_full_period);

const CHANGES: u32 = 60;

fn is_shared(ground: &Ground) -> bool {
    matches!(ground.settings.place, StorePlace::Postgres(_))
}

/// Adds one to what is kept, which also says when that was.
async fn add(store: &Store, clock: &str) {
    let read = |kept: &str| {
        let (count, at) = kept.split_once(' ').expect("two numbers");
        (count.parse::<u32>().expect("a number"), at.parse::<i64>().expect("a number"))
    };
    let own = fastrand::i64(0..1000);
    let change = |kept: Option<&str>, named: &str, now: i64| {
        let (count, before) = kept.map_or((0, i64::MIN), read);
        assert_eq!(named, clock);
        assert!(now >= before || named != "database", "{now} after {before}");
        assert!(named == "database" || now == own, "a file's clock is what its machine says");
        format!("{} {now}", count + 1)
    };
    store.change_pace("token", "machine", || own, change).await.expect("kept");
}

async fn kept(store: &Store) -> String {
    let mut found = None;
    let look = |kept: Option<&str>, _: &str, _: i64| {
        found = kept.map(str::to_owned);
        kept.unwrap_or_default().to_owned()
    };
    store.change_pace("token", "machine", || 0, look).await.expect("kept");
    found.unwrap_or_default()
}

async fn no_change_is_lost_and_time_goes_on(ground: &Ground) {
    let clock = if is_shared(ground) { "database" } else { "machine" };
    let one = ground.open().await;
    // A file has one process at a time: its jobs are two who write.
    let two = if is_shared(ground) { ground.open().await } else { one.clone() };
    let writers = [&one, &two, &one, &two];
    join_all(writers.map(async |store| {
        for _ in 0..CHANGES {
            add(store, clock).await;
        }
    }))
    .await;
    let all = CHANGES * 4;
    assert!(kept(&one).await.starts_with(&format!("{all} ")), "of {all}");
    for store in [one, two] {
        store.close().await;
    }
    let again = ground.open().await;
    assert!(kept(&again).await.starts_with(&format!("{all} ")), "also for whoever comes later");
    again.close().await;
}

async fn what_was_kept_among_positions_counts_as_a_full_period(ground: &Ground) {
    ground.open().await.close().await;
    let bucket = "0123456789abcdef0123456789abcdef";
    let before = [
        "DROP TABLE pace".to_owned(),
        "DELETE FROM _sqlx_migrations WHERE version = 4".to_owned(),
        format!("INSERT INTO positions (source, position, saved_ms) VALUES ('pace:{bucket}:one machine', '{{}}', 1)"),
        format!("INSERT INTO positions (source, position, saved_ms) VALUES ('pace:{bucket}:another', '{{}}', 2)"),
        "INSERT INTO positions (source, position, saved_ms) VALUES ('platform', '{}', 3)".to_owned(),
    ];
    for sql in before {
        execute(ground, sql).await;
    }
    let store = ground.open().await;
    assert!(store.position(&format!("pace:{bucket}:another")).await.expect("read").is_none());
    assert!(store.position("platform").await.expect("read").is_some());
    let mut found = None;
    let look = |kept: Option<&str>, _: &str, _: i64| {
        found = kept.map(str::to_owned);
        String::new()
    };
    store.change_pace(bucket, "machine", || 0, look).await.expect("kept");
    assert_eq!(found.as_deref(), Some(""), "something that cannot be read, not nothing");
    store.close().await;
}

async fn execute(ground: &Ground, sql: String) {
    match &ground.settings.place {
        StorePlace::Postgres(url) => {
            let mut connection = sqlx::PgConnection::connect(url.expose_secret()).await.expect("reached");
            sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("executed");
            connection.close().await.expect("closed");
        }
        StorePlace::Sqlite(_) | StorePlace::Memory => {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(ground.path());
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("opened");
            sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("executed");
            connection.close().await.expect("closed");
        }
    }
}
