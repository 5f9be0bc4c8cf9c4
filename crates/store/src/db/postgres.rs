//! PostgreSQL: a pool, limits on how long a statement may take, and proof that a commit is on disk.

use std::str::FromStr as _;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Postgres, Transaction};

use super::DbAccess;
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

pub(crate) struct Server {
    pool: PgPool,
}

impl Server {
    pub(super) async fn open(
        url: &SecretString,
        settings: &StoreSettings,
        access: DbAccess,
    ) -> Result<Self, StoreError> {
        let options = options(url, settings)?;
        let mut connection = sqlx::PgConnection::connect_with(&options).await.map_err(failed("reached"))?;
        let set: String = sqlx::query_scalar("SELECT current_setting('synchronous_commit')")
            .fetch_one(&mut connection)
            .await
            .map_err(failed("opened"))?;
        if set == "off" || set == "local" {
            let allowed = "`on`, `remote_write` or `remote_apply`";
            return Err(StoreError::Setting { setting: "synchronous_commit", allowed, found: set });
        }
        if access == DbAccess::Write {
            schema::migrate_postgres(&mut connection).await?;
        }
        connection.close().await.map_err(failed("opened"))?;
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    pub(super) async fn write(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITERS).execute(&mut *tx).await?;
        Ok(tx)
    }

    pub(super) async fn read(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
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
