//! The schema's versions, compiled in. They only go forward; each is checked against what was applied.

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgConnection, SqlSafeStr as _, SqliteConnection};

use super::error::StoreError;

/// Version, name, SQLite, PostgreSQL.
const VERSIONS: [(i64, &str, &str, &str); 11] = [
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
];

/// The newest version that this program knows.
pub(super) fn newest() -> i64 {
    VERSIONS.last().map_or(0, |(version, ..)| *version)
}

/// Brings an SQLite file to the newest version. The caller is its only writer.
pub(super) async fn migrate_sqlite(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    run(connection, |(version, name, sqlite, _)| migration(*version, name, sqlite)).await
}

/// Brings a PostgreSQL database to the newest version; replicas that start together wait for one another.
pub(super) async fn migrate_postgres(connection: &mut PgConnection) -> Result<(), StoreError> {
    run(connection, |(version, name, _, postgres)| migration(*version, name, postgres)).await
}

fn migration(version: i64, name: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

async fn run<C: Migrate>(
    connection: &mut C,
    each: impl Fn(&'static (i64, &'static str, &'static str, &'static str)) -> Migration,
) -> Result<(), StoreError> {
    let migrator = Migrator::with_migrations(VERSIONS.iter().map(each).collect());
    let known = newest();
    let Err(err) = migrator.run_direct(None, connection, false).await else { return Ok(()) };
    Err(if let MigrateError::VersionMissing(found) = err {
        StoreError::Newer { found, known }
    } else if let MigrateError::VersionMismatch(version) = err {
        StoreError::OtherSchema { version }
    } else {
        StoreError::Migration(err)
    })
}
