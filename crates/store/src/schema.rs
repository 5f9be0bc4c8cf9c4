//! The schema's versions, compiled in. They only go forward; each is checked against what was applied.
//!
//! A store may be of a newer program: replicas of two releases share one while they are upgraded. The table `oldest_program`
//! says which programs may do that. A migration that only adds lets those from before it go on.

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgConnection, SqlSafeStr as _, SqliteConnection};

use super::error::{StoreError, failed};

/// Version, name, SQLite, PostgreSQL.
const VERSIONS: [(i64, &str, &str, &str); 13] = [
    (1, "store", include_str!("migrations/sqlite/0001_store.sql"), include_str!("migrations/postgres/0001_store.sql")),
    (
        2,
        "records",
        include_str!("migrations/sqlite/0002_records.sql"),
        include_str!("migrations/postgres/0002_records.sql"),
    ),
    (
        3,
        "questions",
        include_str!("migrations/sqlite/0003_questions.sql"),
        include_str!("migrations/postgres/0003_questions.sql"),
    ),
    (4, "pace", include_str!("migrations/sqlite/0004_pace.sql"), include_str!("migrations/postgres/0004_pace.sql")),
    (
        5,
        "pepper layers",
        include_str!("migrations/sqlite/0005_pepper_layers.sql"),
        include_str!("migrations/postgres/0005_pepper_layers.sql"),
    ),
    (
        6,
        "served before",
        include_str!("migrations/sqlite/0006_served_before.sql"),
        include_str!("migrations/postgres/0006_served_before.sql"),
    ),
    (
        7,
        "inherited",
        include_str!("migrations/sqlite/0007_inherited.sql"),
        include_str!("migrations/postgres/0007_inherited.sql"),
    ),
    (8, "leads", include_str!("migrations/sqlite/0008_leads.sql"), include_str!("migrations/postgres/0008_leads.sql")),
    (
        9,
        "conversations",
        include_str!("migrations/sqlite/0009_conversations.sql"),
        include_str!("migrations/postgres/0009_conversations.sql"),
    ),
    (
        10,
        "lead places",
        include_str!("migrations/sqlite/0010_lead_places.sql"),
        include_str!("migrations/postgres/0010_lead_places.sql"),
    ),
    (
        11,
        "replay log",
        include_str!("migrations/sqlite/0011_replay_log.sql"),
        include_str!("migrations/postgres/0011_replay_log.sql"),
    ),
    (
        12,
        "oldest program",
        include_str!("migrations/sqlite/0012_oldest_program.sql"),
        include_str!("migrations/postgres/0012_oldest_program.sql"),
    ),
    (
        13,
        "last tiers",
        include_str!("migrations/sqlite/0013_last_tiers.sql"),
        include_str!("migrations/postgres/0013_last_tiers.sql"),
    ),
];

/// The newest version that this program knows.
pub(super) fn newest() -> i64 {
    VERSIONS.last().map_or(0, |(version, ..)| *version)
}

/// The newest version that was applied.
pub(super) const APPLIED: &str = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";
/// The newest version that the oldest program knows that may use the store.
pub(super) const OLDEST: &str = "SELECT COALESCE(MAX(schema_version), 0) FROM oldest_program";

/// Whether this program may use a store whose newest version is `found`. `oldest` is asked for where it is a newer program's.
///
/// # Errors
/// `Newer` when it may not.
pub(super) fn check_oldest(found: i64, oldest: i64) -> Result<(), StoreError> {
    let known = newest();
    if oldest > known { Err(StoreError::Newer { found, known }) } else { Ok(()) }
}

/// Brings an SQLite file to the newest version. The caller is its only writer.
pub(super) async fn migrate_sqlite(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    const BEGUN: &str = "SELECT COUNT(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
    let begun: i64 = sqlx::query_scalar(BEGUN).fetch_one(&mut *connection).await.map_err(failed("opened"))?;
    let found: i64 = match begun {
        0 => 0,
        _ => sqlx::query_scalar(APPLIED).fetch_one(&mut *connection).await.map_err(failed("opened"))?,
    };
    if found > newest() {
        let oldest = sqlx::query_scalar(OLDEST).fetch_one(&mut *connection).await;
        check_oldest(found, oldest.unwrap_or(found))?;
    }
    run(connection, |(version, name, sqlite, _)| migration(*version, name, sqlite)).await
}

/// Brings a PostgreSQL database to the newest version. Replicas that start together wait for one another, and those that run
/// write before or after it: `writers` is the lock that they take.
pub(super) async fn migrate_postgres(connection: &mut PgConnection, writers: i64) -> Result<(), StoreError> {
    const BEGUN: &str = "SELECT COUNT(to_regclass('_sqlx_migrations'))";
    let begun: i64 = sqlx::query_scalar(BEGUN).fetch_one(&mut *connection).await.map_err(failed("opened"))?;
    let found: i64 = match begun {
        0 => 0,
        _ => sqlx::query_scalar(APPLIED).fetch_one(&mut *connection).await.map_err(failed("opened"))?,
    };
    if found > newest() {
        let oldest = sqlx::query_scalar(OLDEST).fetch_one(&mut *connection).await;
        check_oldest(found, oldest.unwrap_or(found))?;
    }
    if found < newest() {
        // Given back with the connection.
        let lock = sqlx::query("SELECT pg_advisory_lock($1)").bind(writers);
        lock.execute(&mut *connection).await.map_err(failed("brought forward"))?;
    }
    run(connection, |(version, name, _, postgres)| migration(*version, name, postgres)).await
}

fn migration(version: i64, name: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

async fn run<C: Migrate>(
    connection: &mut C,
    each: impl Fn(&'static (i64, &'static str, &'static str, &'static str)) -> Migration,
) -> Result<(), StoreError> {
    let mut migrator = Migrator::with_migrations(VERSIONS.iter().map(each).collect());
    // Of a newer program, which was looked at.
    migrator.set_ignore_missing(true);
    let Err(err) = migrator.run_direct(None, connection, false).await else { return Ok(()) };
    Err(if let MigrateError::VersionMismatch(version) = err {
        StoreError::OtherSchema { version }
    } else {
        StoreError::Migration(err)
    })
}
