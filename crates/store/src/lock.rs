//! The lock file beside an SQLite store: one process at a time writes. The kernel frees it when the process ends,
//! however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// What the lock file's name ends in.
pub(super) const LOCK: &str = ".lock";

/// Held for as long as the store is open for writing.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// # Errors
    /// When another process, or another store of this one, holds it.
    pub(super) fn take(store: &Path) -> Result<Self, StoreError> {
        let lock = beside(store, LOCK);
        let failed = |what| {
            let path = lock.clone();
            move |source| StoreError::File { path, what, source }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(failed("locked"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let read = (&file).take(32).read_to_string(&mut process);
                if read.is_err() || process.trim().is_empty() {
                    "unknown".clone_into(&mut process);
                }
                let process = process.trim().to_owned();
                return Err(StoreError::Locked { path: store.to_owned(), lock, process });
            }
            Err(TryLockError::Error(source)) => return Err(failed("locked")(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed("locked"))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("locked"))?;
        Ok(Self { _file: file })
    }
}

/// A file beside the store that begins with its name.
pub(super) fn beside(store: &Path, ending: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
