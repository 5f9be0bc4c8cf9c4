//! Where the store is and how much it may take.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    pub place: StorePlace,
    pub check: Check,
    /// Memory for pages of an SQLite file, bytes.
    pub cache_size: u64,
    /// Connections: of a PostgreSQL pool, or that read an SQLite file beside the one that writes.
    pub connections: u32,
    /// Longest that PostgreSQL may work on one statement.
    pub statement_timeout: Duration,
}

/// Which database.
#[derive(Clone, Debug)]
pub enum StorePlace {
    /// A file of this process.
    Sqlite(PathBuf),
    /// Nowhere: it ends with the process.
    Memory,
    /// A server that several replicas share: `postgres://user:password@host/database`.
    Postgres(SecretString),
}

/// How an SQLite file is looked at before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Every page, without comparing indexes with their tables.
    Quick,
    /// Indexes too: several times as long.
    Full,
}

impl StoreSettings {
    /// Whether what is kept outlasts the process.
    pub fn lasts(&self) -> bool {
        match &self.place {
            StorePlace::Sqlite(_) | StorePlace::Postgres(_) => true,
            StorePlace::Memory => false,
        }
    }

    /// The defaults of the reference for a file.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::at(StorePlace::Sqlite(path.into()))
    }

    /// The defaults of the reference for a server.
    pub fn postgres(url: impl Into<SecretString>) -> Self {
        Self::at(StorePlace::Postgres(url.into()))
    }

    fn at(place: StorePlace) -> Self {
        Self {
            place,
            check: Check::Quick,
            cache_size: 16 << 20,
            connections: 4,
            statement_timeout: Duration::from_mins(1),
        }
    }
}
