//! PostgreSQL: a pool, limits on how long a statement may take, and proof that a commit is on disk.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, Postgres, Transaction};
use tokio::time::timeout;

use super::DbAccess;
use super::connections::{Connections, silent};
use crate::error::{StoreError, failed};
use crate::schema;
use crate::settings::StoreSettings;

/// Whoever writes takes this lock first, in every replica: "scorelin" in ASCII.
const WRITERS: i64 = 0x7363_6f72_656c_696e;
/// A replica gives up waiting for the others' writes after this long.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// A replica that hangs in the middle of a write loses it after this long: the others wait for it.
const IDLE_IN_TRANSACTION: Duration = Duration::from_mins(1);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the first connection may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// 1 where nothing can be written: a standby, or a server that was made one for everybody.
pub(super) const TAKES_NO_WRITES: &str = "SELECT CAST(CAST(pg_is_in_recovery() OR \
    CAST(current_setting('default_transaction_read_only') AS BOOLEAN) AS INTEGER) AS BIGINT)";

pub(crate) struct Server {
    pool: PgPool,
    options: Box<PgConnectOptions>,
    connections: Arc<Connections>,
}

/// A transaction, and what decides about its connection.
pub(super) struct ServerTx {
    pub(super) tx: Transaction<'static, Postgres>,
    pub(super) connections: Arc<Connections>,
}

impl Server {
    pub(super) async fn open(
        url: &SecretString,
        settings: &StoreSettings,
        access: DbAccess,
    ) -> Result<Self, StoreError> {
        let options = options(url, settings)?;
        let reached = timeout(OPEN_TIMEOUT, reach(&options, access)).await;
        let mut connection = reached.unwrap_or_else(|_| Err(failed("reached")(silent(OPEN_TIMEOUT))))?;
        if access == DbAccess::Write {
            schema::migrate_postgres(&mut connection, WRITERS).await?;
        }
        connection.close().await.map_err(failed("opened"))?;
        let connections = Arc::new(Connections::new(settings.statement_timeout));
        let [made, before, after] = [(); 3].map(|()| Arc::clone(&connections));
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // Its own test waits as long as the other end pleases.
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let connections = Arc::clone(&made);
                Box::pin(async move { connections.meet(connection).await })
            })
            .before_acquire(move |connection, meta| {
                let connections = Arc::clone(&before);
                Box::pin(async move { Ok(connections.is_usable(connection, meta.age).await) })
            })
            .after_release(move |connection, meta| {
                let connections = Arc::clone(&after);
                Box::pin(async move { Ok(connections.is_usable(connection, meta.age).await) })
            })
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options: Box::new(options), connections })
    }

    /// Looks where the address leads, beside the pool, all of whose connections may wait for a server that is gone. A server that
    /// does not answer either is no news.
    pub(super) async fn look_around(&self) {
        let looked = timeout(ACQUIRE_TIMEOUT, async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            self.connections.meet(&mut connection).await?;
            connection.close().await
        });
        if let Ok(Err(error)) = looked.await {
            tracing::debug!(%error, "the database cannot be connected to");
        }
    }

    pub(super) async fn write(&self) -> Result<ServerTx, sqlx::Error> {
        let connections = Arc::clone(&self.connections);
        let mut tx = connections.begun(self.pool.begin()).await?;
        let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITERS);
        connections.in_time(lock.execute(&mut *tx)).await?;
        Ok(ServerTx { tx, connections })
    }

    pub(super) async fn read(&self) -> Result<ServerTx, sqlx::Error> {
        let connections = Arc::clone(&self.connections);
        let begun = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        let tx = connections.begun(begun).await?;
        Ok(ServerTx { tx, connections })
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection to a server that keeps what it commits.
async fn reach(options: &PgConnectOptions, access: DbAccess) -> Result<PgConnection, StoreError> {
    let mut connection = PgConnection::connect_with(options).await.map_err(failed("reached"))?;
    let set: String = sqlx::query_scalar("SELECT current_setting('synchronous_commit')")
        .fetch_one(&mut connection)
        .await
        .map_err(failed("opened"))?;
    if set == "off" || set == "local" {
        let allowed = "`on`, `remote_write` or `remote_apply`";
        return Err(StoreError::Setting { setting: "synchronous_commit", allowed, found: set });
    }
    let refuses: i64 =
        sqlx::query_scalar(TAKES_NO_WRITES).fetch_one(&mut connection).await.map_err(failed("opened"))?;
    if refuses != 0 && access == DbAccess::Write { Err(StoreError::Standby) } else { Ok(connection) }
}

fn options(url: &SecretString, settings: &StoreSettings) -> Result<PgConnectOptions, StoreError> {
    let options =
        PgConnectOptions::from_str(url.expose_secret()).map_err(|source| StoreError::Url(Box::new(source)))?;
    let limits = [
        ("statement_timeout", settings.statement_timeout),
        ("lock_timeout", LOCK_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
    ];
    Ok(options
        .application_name("scoreline")
        .options([("synchronous_commit", "on")])
        .options(limits.map(|(name, limit)| (name, limit.as_millis()))))
}
