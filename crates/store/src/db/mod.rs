//! One way to speak to either database: numbered parameters, rows by position, many rows at once, one writer at a time.
//!
//! The statements above this folder are written once, in what SQLite and PostgreSQL have in common.

mod bulk;
mod connections;
mod postgres;
mod row;
mod sqlite;

use std::sync::Arc;

use sqlx::{Sqlite, Transaction};

pub(super) use bulk::BulkColumn;
pub(super) use row::{Arg, DbRow};

use super::error::{StoreError, failed};
use super::health::StoreHealth;
use super::settings::{StorePlace, StoreSettings};
use postgres::{ServerTx, TAKES_NO_WRITES};
use scoreline_domain::time::Timestamp;

/// The database, open. Every writing transaction is alone: in SQLite there is one connection that writes, in PostgreSQL
/// one lock that all replicas take first. So what is read in a writing transaction still holds when it commits, and the
/// numbers it hands out become visible in their order.
pub(super) enum Db {
    Sqlite(sqlite::File),
    Postgres(postgres::Server),
}

/// Whether a store is opened to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DbAccess {
    Write,
    Read,
}

/// A transaction. Dropped without `commit`, it never was.
pub(super) struct Tx {
    inner: EngineTx,
    /// For the message of a failed statement.
    doing: &'static str,
    /// Told how it ends, when it writes.
    health: Option<Arc<StoreHealth>>,
}

enum EngineTx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(postgres::ServerTx),
}

impl Db {
    pub(super) async fn open(settings: &StoreSettings, access: DbAccess) -> Result<Self, StoreError> {
        Ok(match &settings.place {
            StorePlace::Sqlite(path) => Self::Sqlite(sqlite::File::open(path, settings, access).await?),
            StorePlace::Memory => Self::Sqlite(sqlite::File::in_memory(settings).await?),
            StorePlace::Postgres(url) => Self::Postgres(postgres::Server::open(url, settings, access).await?),
        })
    }

    /// Begins a transaction that writes; `doing` completes "store could not be ...".
    pub(super) async fn write(&self, doing: &'static str, health: &Arc<StoreHealth>) -> Result<Tx, StoreError> {
        let begun = match self {
            Self::Sqlite(file) => file.write(doing).await.map(EngineTx::Sqlite),
            Self::Postgres(server) => server.write().await.map(EngineTx::Postgres).map_err(failed(doing)),
        };
        let inner = begun.inspect_err(|err| health.not_written(err))?;
        Ok(Tx { inner, doing, health: Some(Arc::clone(health)) })
    }

    /// Begins a transaction that sees one state and writes nothing.
    pub(super) async fn read(&self, doing: &'static str) -> Result<Tx, StoreError> {
        let inner = match self {
            Self::Sqlite(file) => EngineTx::Sqlite(file.read(doing).await?),
            Self::Postgres(server) => EngineTx::Postgres(server.read().await.map_err(failed(doing))?),
        };
        Ok(Tx { inner, doing, health: None })
    }

    /// Leaves nothing of deleted rows in the files, as far as that is in this program's hands.
    pub(super) async fn scrub(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(file) => file.scrub().await,
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Looks where the server's address leads, when it gave no answer.
    pub(super) async fn look_around(&self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(server) => server.look_around().await,
        }
    }

    /// Whether what is written outlasts the process.
    pub(super) fn lasts(&self) -> bool {
        match self {
            Self::Sqlite(file) => !file.is_in_memory(),
            Self::Postgres(_) => true,
        }
    }

    /// Whether other processes may write, too.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(file) => file.close().await,
            Self::Postgres(server) => server.close().await,
        }
    }
}

impl Tx {
    /// Runs a statement; how many rows it changed.
    pub(super) async fn run(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<u64, StoreError> {
        let done = match &mut self.inner {
            EngineTx::Sqlite(tx) => {
                row::sqlite_query(sql, args).execute(&mut **tx).await.map(|done| done.rows_affected())
            }
            EngineTx::Postgres(ServerTx { tx, connections }) => {
                let done = connections.in_time(row::postgres_query(sql, args).execute(&mut **tx)).await;
                done.map(|done| done.rows_affected())
            }
        };
        self.noted(done)
    }

    pub(super) async fn rows(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<DbRow>, StoreError> {
        let found = match &mut self.inner {
            EngineTx::Sqlite(tx) => {
                let found = row::sqlite_query(sql, args).fetch_all(&mut **tx).await;
                found.map(|rows| rows.into_iter().map(DbRow::Sqlite).collect())
            }
            EngineTx::Postgres(ServerTx { tx, connections }) => {
                let found = connections.in_time(row::postgres_query(sql, args).fetch_all(&mut **tx)).await;
                found.map(|rows| rows.into_iter().map(DbRow::Postgres).collect())
            }
        };
        self.noted(found)
    }

    /// The first row, if there is any.
    pub(super) async fn row(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Option<DbRow>, StoreError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Runs a statement for many rows at once. `{rows}` in it stands for a table of the columns' values, in their order.
    pub(super) async fn bulk(&mut self, sql: &'static str, columns: &[BulkColumn]) -> Result<u64, StoreError> {
        let done = match &mut self.inner {
            EngineTx::Sqlite(tx) => bulk::sqlite(tx, sql, columns).await,
            EngineTx::Postgres(ServerTx { tx, connections }) => {
                connections.in_time(bulk::postgres(tx, sql, columns)).await
            }
        };
        self.noted(done)
    }

    /// As `bulk`, for a statement that answers with rows. Their order means nothing.
    pub(super) async fn bulk_rows(
        &mut self,
        sql: &'static str,
        columns: &[BulkColumn],
    ) -> Result<Vec<DbRow>, StoreError> {
        let found = match &mut self.inner {
            EngineTx::Sqlite(tx) => bulk::sqlite_rows(tx, sql, columns).await,
            EngineTx::Postgres(ServerTx { tx, connections }) => {
                connections.in_time(bulk::postgres_rows(tx, sql, columns)).await
            }
        };
        self.noted(found)
    }

    /// Takes the next `count` numbers of a counter; the first of them. They begin at 1.
    pub(super) async fn take(&mut self, counter: &'static str, count: usize) -> Result<i64, StoreError> {
        const TAKE: &str = "INSERT INTO counters (name, value) VALUES ($1, $2) \
                            ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value RETURNING value";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let row = self.row(TAKE, &[Arg::Text(counter), Arg::Int(count)]).await?;
        let last = row.map_or(Ok(count), |row| row.int(0))?;
        Ok(last - count + 1)
    }

    /// Milliseconds since 1970 by the one clock that everybody who writes here shares: the server's own. A file has one
    /// writer, so `here` is the time that it says.
    pub(super) async fn clock(&mut self, here: Timestamp) -> Result<i64, StoreError> {
        const NOW: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
        match &self.inner {
            EngineTx::Sqlite(_) => Ok(here.as_millisecond()),
            EngineTx::Postgres(_) => {
                let row = self.row(NOW, &[]).await?;
                row.map_or(Ok(here.as_millisecond()), |row| row.int(0))
            }
        }
    }

    /// Looks whether the server takes writes; where it does not, its connections are not used again.
    ///
    /// # Errors
    /// `Standby` when it does not.
    pub(super) async fn check_writable(&mut self) -> Result<(), StoreError> {
        if let EngineTx::Sqlite(_) = &self.inner {
            return Ok(());
        }
        let refuses = self.row(TAKES_NO_WRITES, &[]).await?.map_or(Ok(0), |row| row.int(0))?;
        if refuses == 0 {
            return Ok(());
        }
        if let EngineTx::Postgres(ServerTx { connections, .. }) = &self.inner {
            connections.distrust();
        }
        Err(StoreError::Standby)
    }

    /// # Errors
    /// When it is not known to be on disk.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        let Self { inner, doing, health } = self;
        let committed = match inner {
            EngineTx::Sqlite(tx) => tx.commit().await.map_err(failed(doing)),
            EngineTx::Postgres(ServerTx { tx, connections }) => {
                connections.in_time(tx.commit()).await.map_err(failed(doing))
            }
        };
        if let Some(health) = health {
            match &committed {
                Ok(()) => health.written(),
                Err(err) => health.not_written(err),
            }
        }
        committed
    }

    fn noted<T>(&self, done: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        let done = done.map_err(failed(self.doing));
        if let (Err(err), Some(health)) = (&done, &self.health) {
            health.not_written(err);
        }
        done
    }
}
