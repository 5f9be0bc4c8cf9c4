//! Which connections to a PostgreSQL are still used, and how long each statement is waited for.
//!
//! A server that lost its power, or became a standby, tells nobody: its connections stay open and give no answer, or refuse
//! every write. So no statement is waited for without end, and after a failure of that kind connections that are as old
//! are closed instead of used again. The next one is made to wherever the address leads by then; when that is another
//! server than before, whoever still waits for the old one stops.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scoreline_domain::time::Stopwatch;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, error::DatabaseError};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How much later than the server's own limit a statement is given up.
const GRACE: Duration = Duration::from_secs(5);
/// How long a connection that is to be used, or was given back, may take to say that it is there.
const PING: Duration = Duration::from_secs(1);

/// How long a transaction may take to begin: acquiring its connection has a limit of its own.
const BEGIN: Duration = Duration::from_secs(10);
/// When the server was started, in microseconds: it tells one server from another, and from itself before a restart.
const STARTED: &str = "SELECT CAST(EXTRACT(EPOCH FROM pg_postmaster_start_time()) * 1000000 AS BIGINT)";

/// PostgreSQL: it takes no writes, it is shut down, another of its processes crashed, it cannot be connected to now.
const ELSEWHERE: [&str; 4] = ["25006", "57P01", "57P02", "57P03"];

/// Decides about the connections of a pool.
#[derive(Debug)]
pub(super) struct Connections {
    /// Longest that a statement is waited for.
    patience: Duration,
    /// Runs since a connection failed last: those that are older are not used again.
    failed: Mutex<Option<Stopwatch>>,
    /// When the server was started that the last connection led to.
    server: Mutex<Option<i64>>,
    /// Wakes up whoever waits for a server that the address does not lead to any more.
    moved: Notify,
}

impl Connections {
    /// `statement_timeout` is when the server gives up by itself.
    pub(super) fn new(statement_timeout: Duration) -> Self {
        let patience = statement_timeout + GRACE;
        Self { patience, failed: Mutex::default(), server: Mutex::default(), moved: Notify::new() }
    }

    /// Waits for a statement, or a few of them, as long as the server may take.
    ///
    /// # Errors
    /// Its own, and that there was no answer: whether it was done is not known then.
    pub(super) fn in_time<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> impl Future<Output = Result<T, sqlx::Error>> {
        // Boxed at once: whoever awaits many statements has no room for each.
        let statement = Box::pin(statement);
        async move {
            let moved = self.moved.notified();
            let done = tokio::select! {
                biased;
                done = statement => done,
                () = moved => Err(broken_off()),
                () = sleep(self.patience) => Err(silent(self.patience)),
            };
            self.noted(done)
        }
    }

    /// Waits for a transaction to begin.
    ///
    /// # Errors
    /// As `in_time`.
    pub(super) fn begun<T>(
        &self,
        begin: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> impl Future<Output = Result<T, sqlx::Error>> {
        let begin = Box::pin(begin);
        async move { self.noted(timeout(BEGIN, begin).await.unwrap_or_else(|_| Err(silent(BEGIN)))) }
    }

    fn noted<T>(&self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        done.inspect_err(|err| {
            if leads_elsewhere(err) {
                self.distrust();
            }
        })
    }

    /// Asks a new connection which server it leads to. When that is another one, no older connection is used or waited for.
    ///
    /// # Errors
    /// When it does not say.
    pub(super) async fn meet(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let started: i64 = sqlx::query_scalar(STARTED).fetch_one(connection).await?;
        let before = self.server.lock().unwrap_or_else(PoisonError::into_inner).replace(started);
        if before.is_some_and(|before| before != started) {
            tracing::warn!("the database was started anew, or another server has taken over: it is connected to anew");
            self.distrust();
            self.moved.notify_waiters();
        }
        Ok(())
    }

    /// Uses no connection again that is open now.
    pub(super) fn distrust(&self) {
        *self.failed() = Some(Stopwatch::start());
    }

    /// Whether a connection of this age may be used again. Whoever gave it back may have broken off in the middle of
    /// something: what it owes is asked for here, where somebody stops waiting.
    pub(super) async fn is_usable(&self, connection: &mut PgConnection, age: Duration) -> bool {
        let failed = *self.failed();
        if failed.is_some_and(|failed| age >= failed.elapsed()) {
            return false;
        }
        timeout(PING, connection.ping()).await.is_ok_and(|pinged| pinged.is_ok())
    }

    fn failed(&self) -> MutexGuard<'_, Option<Stopwatch>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That the server gave no answer.
pub(super) fn silent(patience: Duration) -> sqlx::Error {
    let problem = format!("the database gave no answer within {} s", patience.as_secs());
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, problem))
}

/// That the answer would come from a server that is not asked any more.
fn broken_off() -> sqlx::Error {
    let problem = "the database was started anew, or another server has taken over";
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, problem))
}

/// Whether the other end of the connection is gone, or is not where facts are kept any more.
fn leads_elsewhere(err: &sqlx::Error) -> bool {
    let code = err.as_database_error().and_then(DatabaseError::code);
    matches!(err, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)
        || code.is_some_and(|code| ELSEWHERE.contains(&code.as_ref()))
}
