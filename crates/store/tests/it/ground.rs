//! An empty database for one test.

use std::sync::atomic::{AtomicU32, Ordering};

use scoreline_store::{Store, StoreSettings};
use sqlx::{AssertSqlSafe, Connection as _};

/// Where a test's store is.
pub struct Ground {
    pub settings: StoreSettings,
    folder: Option<tempfile::TempDir>,
    database: Option<String>,
}

impl Ground {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = StoreSettings::sqlite(folder.path().join("scoreline.db"));
        Self { settings, folder: Some(folder), database: None }
    }

    /// A database of its own on the server the tests were given.
    pub async fn postgres(test: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = server();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let test: String = test.chars().take(30).collect();
        let database = format!("scoreline_{}_{number}_{test}", std::process::id());
        let mut admin = sqlx::PgConnection::connect(&server).await.expect("the server of SCORELINE_TEST_POSTGRES");
        let sql = format!("CREATE DATABASE {database} TEMPLATE template0");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.expect("may create databases");
        let (base, _) = server.rsplit_once('/').expect("a URL with a database");
        let settings = StoreSettings::postgres(format!("{base}/{database}"));
        Self { settings, folder: None, database: Some(database) }
    }

    pub async fn remove(self) {
        let Some(database) = self.database else { return };
        let mut admin = sqlx::PgConnection::connect(&server()).await.expect("the server");
        let sql = format!("DROP DATABASE {database} WITH (FORCE)");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.expect("dropped");
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.settings).await.expect("opened")
    }

    /// Of an SQLite store.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.as_ref().expect("an SQLite store").path().join("scoreline.db")
    }
}

#[expect(clippy::disallowed_methods, reason = "tests are told their server this way")]
fn server() -> String {
    std::env::var("SCORELINE_TEST_POSTGRES")
        .expect("SCORELINE_TEST_POSTGRES names a server: `export SCORELINE_TEST_POSTGRES=$(bash tests/postgres start)`")
}
