//! Why the store could not be opened, read or written.

use std::io;
use std::path::PathBuf;

use scoreline_domain::privacy::erasure::EraseError;
use scoreline_domain::text::with_causes;

/// A failure of the store, with its cause.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("store `{}` cannot be {what}", path.display())]
    File { path: PathBuf, what: &'static str, source: io::Error },
    #[error("folder `{}` of the store cannot be made", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("store `{}` is in use by process {process}: one process at a time may write to it (lock `{}`)", path.display(), lock.display())]
    Locked { path: PathBuf, lock: PathBuf, process: String },
    #[error("store `{}` is damaged and was left as it is: {finding}; put a copy in its place, or move it away to begin anew", path.display())]
    Corrupt { path: PathBuf, finding: String },
    #[error("store `{}` was {what} while it was in use: nothing more is kept; stop the server, put the file back and start again", path.display())]
    Gone { path: PathBuf, what: &'static str },
    #[error("`{}` is not a store of scoreline", path.display())]
    NotAStore { path: PathBuf },
    #[error("the store's schema has version {found}, this program knows versions up to {known}: run the newer program")]
    Newer { found: i64, known: i64 },
    #[error("migration {version} was applied with another content: this program does not belong to this store")]
    OtherSchema { version: i64 },
    #[error("migrations of the store failed")]
    Migration(#[source] sqlx::migrate::MigrateError),
    #[error("`{setting}` must be {allowed}, the database has `{found}`")]
    Setting { setting: &'static str, allowed: &'static str, found: String },
    #[error(
        "the database takes no writes: it is a standby, or read-only; `store.url` must lead to the primary, also after another server has taken over"
    )]
    Standby,
    #[error("URL of the store is not one of PostgreSQL, such as `postgres://user:password@host/database`")]
    Url(#[source] Box<sqlx::Error>),
    #[error("store could not be {doing}")]
    Database { doing: &'static str, source: Box<sqlx::Error> },
    #[error("store holds `{value}` for `{column}`, which cannot be")]
    Unreadable { column: &'static str, value: String },
    #[error("lease of job `{job}` was lost: another process does it now")]
    LeaseLost { job: Box<str> },
    #[error("store was opened for reading only")]
    ReadOnly,
    #[error(
        "what is in the store is kept under another pepper (id {kept}) than the one in use (id {given}), and nobody would be found again: give that one as `privacy.pepper_file`, or name its file in `privacy.previous_pepper_files`"
    )]
    OtherPepper { kept: String, given: String },
    #[error(
        "customers have the keys of a newer pepper (id {id}) by now: start this process anew with that one as `privacy.pepper_file`"
    )]
    NewerPepper { id: String },
    #[error("`{}` cannot be taken over into the store: {problem}", path.display())]
    TakeOver { path: PathBuf, problem: String },
}

impl StoreError {
    /// The error with its causes.
    pub fn reason(&self) -> String {
        with_causes(self)
    }

    /// Whether the same call may succeed a moment later: the database was not reached, was busy, or another writer came
    /// first.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Database { source, .. } => {
                matches!(source.as_ref(), sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)
                    || source
                        .as_database_error()
                        .and_then(sqlx::error::DatabaseError::code)
                        .is_some_and(|code| PASSING.contains(&code.as_ref()))
            }
            Self::File { source, .. } | Self::Folder { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Standby => true,
            Self::Locked { .. }
            | Self::Corrupt { .. }
            | Self::Gone { .. }
            | Self::NotAStore { .. }
            | Self::Newer { .. }
            | Self::OtherSchema { .. }
            | Self::Migration(_)
            | Self::Setting { .. }
            | Self::Url(_)
            | Self::Unreadable { .. }
            | Self::LeaseLost { .. }
            | Self::ReadOnly
            | Self::OtherPepper { .. }
            | Self::NewerPepper { .. }
            | Self::TakeOver { .. } => false,
        }
    }

    /// Whether others were at it: nothing is wrong with the store.
    pub(super) fn is_busy(&self) -> bool {
        let Self::Database { source, .. } = self else { return false };
        let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| BUSY.contains(&code.as_ref()))
    }
}

/// SQLite: busy, busy snapshot, disk full. PostgreSQL: serialisation failure, deadlock, lock not available, statement
/// cancelled, going down, crashed, starting up, too many connections, disk full, it is a standby, idle for too long in a
/// transaction.
const PASSING: [&str; 14] = [
    "5", "517", "13", "40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "53300", "53100", "25006", "25P03",
];

/// SQLite: busy, busy snapshot. PostgreSQL: serialisation failure, deadlock, lock not available.
const BUSY: [&str; 5] = ["5", "517", "40001", "40P01", "55P03"];

/// What was being done, for the message of a failed statement.
pub(super) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { doing, source: Box::new(source) }
}

impl From<StoreError> for EraseError {
    fn from(err: StoreError) -> Self {
        Self(err.reason())
    }
}
