//! An SQLite file: locked, checked, in WAL mode with every commit synced, one connection that writes and a few that read.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous, SqliteTransaction,
};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::DbAccess;
use crate::error::{StoreError, failed};
use crate::lock::{Lock, beside};
use crate::schema;
use crate::settings::{Check, StoreSettings};
use scoreline_domain::durable::{self, folder_of, rename};

/// The path that stands for a database in memory.
const MEMORY: &str = ":memory:";
/// In the header of the file: whose it is.
const APPLICATION: u32 = 0x5343_4c4e;
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Before it, a commit in WAL mode could be lost to a race of two checkpoints.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);
/// Pages of the write-ahead log that are taken over into the file at a time. A page that changed often is written once.
const CHECKPOINT_PAGES: u32 = 16_384;
const PAGE_SIZE: u32 = 4096;
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many rows a reading connection may be ahead of who reads.
const ROWS_AHEAD: usize = 2048;

pub(crate) struct File {
    path: PathBuf,
    /// One connection; none when the file was opened for reading only.
    writer: Option<SqlitePool>,
    readers: SqlitePool,
    /// What was opened: none in memory.
    opened: Option<FileIdentity>,
    /// Given back by `close`. Locked for a moment.
    lock: Mutex<Option<Lock>>,
}

/// Device and number of a file: another one may come to have its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity(u64, u64);

impl FileIdentity {
    fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|file| Self(file.dev(), file.ino()))
    }
}

impl File {
    pub(super) async fn open(path: &Path, settings: &StoreSettings, access: DbAccess) -> Result<Self, StoreError> {
        let (lock, writer) = match access {
            DbAccess::Write => {
                let folder = folder_of(path);
                let unmade = |source| StoreError::Folder { folder: folder.to_owned(), source };
                fs::create_dir_all(folder).map_err(unmade)?;
                let lock = Lock::take(path)?;
                begin_if_absent(path, settings).await?;
                belongs_to_us(path)?;
                // Those that read take what is there: a copy from a back-up has no log yet, and they may not begin one.
                let writing = options(path, settings).journal_mode(SqliteJournalMode::Wal);
                let writer = pool(writing.pragma("secure_delete", "ON"), 1);
                let mut connection = writer.acquire().await.map_err(|err| unopened(path, err))?;
                check(&mut connection, path, settings.check).await?;
                schema::migrate_sqlite(&mut connection).await?;
                assert_settings(&mut connection).await?;
                (Some(lock), Some(writer))
            }
            DbAccess::Read => {
                belongs_to_us(path)?;
                (None, None)
            }
        };
        let readers = pool(options(path, settings).read_only(true), settings.connections);
        let mut reader = readers.acquire().await.map_err(|err| unopened(path, err))?;
        // Looks at the file: what is damaged at its beginning is told of here.
        let looked = sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1").fetch_optional(&mut *reader).await;
        looked.map_err(|err| unopened(path, err))?;
        drop(reader);
        let opened = FileIdentity::at(path).map_err(|source| file_failed(path, "opened", source))?;
        Ok(Self { path: path.to_owned(), writer, readers, opened: Some(opened), lock: Mutex::new(lock) })
    }

    /// A database that ends with the process: one connection that writes and reads, because another would have its own.
    pub(super) async fn in_memory(settings: &StoreSettings) -> Result<Self, StoreError> {
        let path = PathBuf::from(MEMORY);
        let options = options(&path, settings).in_memory(true).journal_mode(SqliteJournalMode::Memory);
        let only = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options);
        let mut connection = only.acquire().await.map_err(failed("begun"))?;
        schema::migrate_sqlite(&mut connection).await?;
        drop(connection);
        Ok(Self { path, writer: Some(only.clone()), readers: only, opened: None, lock: Mutex::default() })
    }

    pub(super) async fn write(&self, doing: &'static str) -> Result<SqliteTransaction<'static>, StoreError> {
        self.is_in_place()?;
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed(doing))
    }

    pub(super) async fn read(&self, doing: &'static str) -> Result<SqliteTransaction<'static>, StoreError> {
        self.is_in_place()?;
        self.readers.begin().await.map_err(failed(doing))
    }

    /// SQLite goes on with a file that was deleted, and what it writes there ends with the process.
    fn is_in_place(&self) -> Result<(), StoreError> {
        let Some(opened) = self.opened else { return Ok(()) };
        match FileIdentity::at(&self.path) {
            Ok(found) if found == opened => Ok(()),
            Ok(_) => Err(StoreError::Gone { path: self.path.clone(), what: "replaced" }),
            Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(StoreError::Gone { path: self.path.clone(), what: "deleted or moved away" })
            }
            Err(source) => Err(file_failed(&self.path, "looked at", source)),
        }
    }

    /// Takes the write-ahead log over into the file and cuts it to nothing. Deleted rows were overwritten there.
    pub(super) async fn scrub(&self) -> Result<(), StoreError> {
        let Some(writer) = &self.writer else { return Err(StoreError::ReadOnly) };
        self.is_in_place()?;
        if self.is_in_memory() {
            return Ok(());
        }
        // Whoever reads an earlier state keeps the log; `busy_timeout` waits for them.
        let (busy, ..): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(writer)
            .await
            .map_err(failed("cleared of what was deleted"))?;
        if busy != 0 {
            let source = std::io::Error::other("a reader holds an earlier state");
            return Err(StoreError::File { path: beside(&self.path, "-wal"), what: "cut to nothing", source });
        }
        Ok(())
    }

    pub(super) fn is_in_memory(&self) -> bool {
        self.path.as_os_str() == MEMORY
    }

    /// The last connection to close takes the log over and removes it.
    pub(super) async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn pool(options: SqliteConnectOptions, connections: u32) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        // What SQLite rolls back by itself, such as on a full disk, leaves the connection counting a transaction that is
        // none: it would begin no other, for ever.
        .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
        .connect_lazy_with(options)
}

fn file_failed(path: &Path, what: &'static str, source: io::Error) -> StoreError {
    StoreError::File { path: path.to_owned(), what, source }
}

fn options(path: &Path, settings: &StoreSettings) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .page_size(PAGE_SIZE)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .row_buffer_size(ROWS_AHEAD)
        // Negative: KiB.
        .pragma("cache_size", format!("-{}", settings.cache_size / 1024))
        // A damaged or cut file would end the process with a signal.
        .pragma("mmap_size", "0")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
        .pragma("temp_store", "MEMORY")
}

/// A new file is made under another name and takes its place whole: a file that is there is never taken for a new one.
async fn begin_if_absent(path: &Path, settings: &StoreSettings) -> Result<(), StoreError> {
    if path.exists() {
        return Ok(());
    }
    let begun = beside(path, ".new");
    let failed_at = |what| {
        let path = path.to_owned();
        move |source| StoreError::File { path, what, source }
    };
    for ending in ["", "-wal", "-shm", "-journal"] {
        let left = beside(&begun, ending);
        if left.exists() {
            fs::remove_file(&left).map_err(failed_at("begun"))?;
        }
    }
    // Of a file that somebody moved away: it would be taken for the new file's own.
    for ending in ["-wal", "-shm"] {
        let left = beside(path, ending);
        if left.exists() {
            let finding = format!("`{}` is there without its store", left.display());
            return Err(StoreError::Corrupt { path: path.to_owned(), finding });
        }
    }
    // Its log and index get the same permissions.
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(durable::PRIVATE).open(&begun);
    drop(made.map_err(failed_at("begun"))?);
    let options = options(&begun, settings).journal_mode(SqliteJournalMode::Wal);
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed("begun"))?;
    let mark = AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION}"));
    sqlx::query(mark).execute(&mut connection).await.map_err(failed("begun"))?;
    schema::migrate_sqlite(&mut connection).await?;
    connection.close().await.map_err(failed("begun"))?;
    let synced = fs::File::open(&begun).and_then(|file| file.sync_all());
    synced.and_then(|()| rename(&begun, path)).map_err(failed_at("begun"))
}

async fn check(connection: &mut SqliteConnection, path: &Path, check: Check) -> Result<(), StoreError> {
    let sql = match check {
        Check::Quick => "PRAGMA quick_check(1)",
        Check::Full => "PRAGMA integrity_check(1)",
    };
    let finding: String = sqlx::query_scalar(sql).fetch_one(connection).await.map_err(|err| unopened(path, err))?;
    if finding == "ok" { Ok(()) } else { Err(StoreError::Corrupt { path: path.to_owned(), finding }) }
}

/// Looks at the header before SQLite does: an empty file would be a new one to it.
fn belongs_to_us(path: &Path) -> Result<(), StoreError> {
    let mut header = [0; 100];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut header));
    if let Err(source) = read {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            let finding = "it is shorter than its header".to_owned();
            return Err(StoreError::Corrupt { path: path.to_owned(), finding });
        }
        return Err(StoreError::File { path: path.to_owned(), what: "opened", source });
    }
    if header.starts_with(MAGIC) && header[68..72] == APPLICATION.to_be_bytes() {
        Ok(())
    } else {
        Err(StoreError::NotAStore { path: path.to_owned() })
    }
}

/// What a commit promises depends on these.
async fn assert_settings(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let version: String = text(connection, "SELECT sqlite_version()").await?;
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    if (part(), part(), part()) < OLDEST_SQLITE {
        return Err(StoreError::Setting { setting: "sqlite_version", allowed: "`3.51.3` or newer", found: version });
    }
    for (setting, sql, allowed) in [
        ("journal_mode", "SELECT journal_mode FROM pragma_journal_mode", "wal"),
        ("synchronous", "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous", "2"),
        ("secure_delete", "SELECT CAST(secure_delete AS TEXT) FROM pragma_secure_delete", "1"),
    ] {
        let found = text(connection, sql).await?;
        if found != allowed {
            return Err(StoreError::Setting { setting, allowed, found });
        }
    }
    Ok(())
}

async fn text(connection: &mut SqliteConnection, sql: &'static str) -> Result<String, StoreError> {
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(failed("opened"))
}

/// SQLite's own words for a damaged file (11) and for something else (26); anything else is a failure to open.
fn unopened(path: &Path, err: sqlx::Error) -> StoreError {
    let code = err.as_database_error().and_then(|err| err.code().map(Cow::into_owned));
    match code.as_deref() {
        Some("11" | "26" | "267" | "523" | "779" | "522") => {
            StoreError::Corrupt { path: path.to_owned(), finding: err.to_string() }
        }
        Some(_) | None => failed("opened")(err),
    }
}
