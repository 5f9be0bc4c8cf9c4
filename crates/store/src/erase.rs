//! Erasing customers: their rows, what indexes and the write-ahead log hold of them, and who keeps them in memory.
//!
//! In SQLite deleted rows are overwritten and the log is cut to nothing. PostgreSQL overwrites what it deleted in its own
//! time (vacuum, recycling of its log); what its backups keep is up to who runs it.

use super::Store;
use super::customers::{digest, numbers};
use super::db::Column;
use super::error::StoreError;
use super::features::tell_gone;
use scoreline_domain::CustomerKey;
use scoreline_domain::privacy::{Erasable, erasure::EraseError};

/// Every table with rows of a customer.
const REMOVE: [&str; 7] = [
    "WITH given(num) AS ({rows}) DELETE FROM interactions WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM purchases WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM profiles WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM scores WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM features WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM dirty WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM customers WHERE num IN (SELECT given.num FROM given)",
];

impl Store {
    /// Removes everything about these customers and refuses them from now on, in every replica; how many entries that were.
    ///
    /// # Errors
    /// When something may be left. It can be asked for again.
    pub async fn erase_customers(&self, customers: &[CustomerKey]) -> Result<u64, StoreError> {
        const LAY: &str = "INSERT INTO tombstones (digest) {rows} ON CONFLICT (digest) DO NOTHING";
        if customers.is_empty() {
            return Ok(0);
        }
        let mut tx = self.write("cleared of a customer").await?;
        let mut digests: Vec<_> = customers.iter().map(digest).collect();
        digests.sort_unstable();
        digests.dedup();
        tx.bulk(LAY, &[Column::Keys(digests)]).await?;
        let found: Vec<_> = numbers(&mut tx, customers.to_vec()).await?.into_values().collect();
        let mut entries = 0;
        for sql in REMOVE {
            entries += tx.bulk(sql, &[Column::Ints(found.clone())]).await?;
        }
        tell_gone(&mut tx, found).await?;
        tx.commit().await?;
        // After an interrupted erasure too, when there is nothing left to delete.
        self.inner.db.scrub().await?;
        Ok(entries)
    }

    /// As `erase_customers`, in a runtime of its own: a connection to a server belongs to the runtime it was made in.
    async fn erase_apart(&self, customers: &[CustomerKey]) -> Result<u64, StoreError> {
        let apart = self.apart();
        let erased = apart.erase_customers(customers).await;
        apart.inner.db.leave().await;
        erased
    }
}

impl Erasable for Store {
    fn name(&self) -> &'static str {
        "store"
    }

    /// Blocks; may be called on any thread.
    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError> {
        let erased = std::thread::scope(|scope| {
            let work = || -> Result<u64, EraseError> {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|err| EraseError(format!("store could not be reached: {err}")))?;
                runtime.block_on(self.erase_apart(customers)).map_err(EraseError::from)
            };
            std::thread::Builder::new()
                .name("erase".to_owned())
                .spawn_scoped(scope, work)
                .map(std::thread::ScopedJoinHandle::join)
                .map_err(|err| EraseError(format!("store could not be reached: {err}")))
        })?;
        erased.unwrap_or_else(|_| Err(EraseError("erasing panicked".to_owned())))
    }
}
