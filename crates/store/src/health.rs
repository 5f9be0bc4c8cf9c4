//! Whether the store does its work: what the last look and the last write said. Whoever shows how the server is reads it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::Store;
use super::db::{Arg, DbAccess};
use super::error::StoreError;

/// How long a look may take before the store counts as gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is written and removed again to see whether there is room, in bytes: about what a small batch takes.
const ROOM: usize = 256 << 10;

/// What went wrong last and was not done since.
#[derive(Debug, Default)]
pub(super) struct StoreHealth {
    faults: Mutex<StoreFaults>,
}

#[derive(Debug, Default)]
struct StoreFaults {
    reading: Option<String>,
    writing: Option<String>,
}

impl StoreHealth {
    /// A transaction that writes failed. Waiting for other writers is no fault.
    pub(super) fn not_written(&self, err: &StoreError) {
        if !err.is_busy() {
            self.faults().writing = Some(err.reason());
        }
    }

    /// A transaction that writes is committed.
    pub(super) fn written(&self) {
        self.faults().writing = None;
    }

    fn faults(&self) -> MutexGuard<'_, StoreFaults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// What is wrong with the store at the moment, as far as is known: nothing else is kept or found until it is mended.
    pub fn trouble(&self) -> Option<String> {
        let faults = self.inner.health.faults();
        faults.reading.clone().or_else(|| faults.writing.clone())
    }

    /// Looks whether the store can be read, and after a failed write, whether it can be written again. `trouble` tells.
    pub async fn check(&self) {
        let read = timeout(PATIENCE, async {
            let mut tx = self.read("read").await?;
            if self.inner.access == DbAccess::Write {
                tx.check_writable().await?;
            }
            self.check_standing(&mut tx).await
        });
        let reading = match read.await {
            Ok(read) => read.err().map(|err| err.reason()),
            Err(_) => Some(format!("store gave no answer within {} s", PATIENCE.as_secs())),
        };
        let is_readable = reading.is_none();
        self.inner.health.faults().reading = reading;
        if !is_readable {
            self.inner.db.look_around().await;
        }
        let is_written = self.inner.health.faults().writing.is_none();
        if is_readable && !is_written {
            // A success is noted by its commit, and a failure by what failed.
            let _ = timeout(PATIENCE, self.try_to_write()).await;
        }
    }

    async fn try_to_write(&self) -> Result<(), StoreError> {
        const FILL: &str = "INSERT INTO positions (source, position, saved_ms) VALUES ('room', $1, 0) \
                            ON CONFLICT (source) DO UPDATE SET position = excluded.position";
        let mut tx = self.write("written").await?;
        tx.run(FILL, &[Arg::Text(&" ".repeat(ROOM))]).await?;
        tx.run("DELETE FROM positions WHERE source = 'room'", &[]).await?;
        tx.commit().await
    }
}
