//! Erasing customers: their rows, what indexes and the write-ahead log hold of them, and who keeps them in memory.
//!
//! In SQLite deleted rows are overwritten and the log is cut to nothing. PostgreSQL overwrites what it deleted in its own
//! time (vacuum, recycling of its log); what its backups keep is up to who runs it.

use super::Store;
use super::customers::{digest, numbers};
use super::db::{Arg, BulkColumn, Tx};
use super::error::StoreError;
use super::features::tell_gone;
use super::leads;
use scoreline_domain::CustomerKey;
use scoreline_domain::privacy::Tombstone;

/// Every table with rows of a customer or a lead, by their number.
const REMOVE: [&str; 9] = [
    "WITH given(num) AS ({rows}) DELETE FROM interactions WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM purchases WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM wishes WHERE subject IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM lead_log WHERE subject IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM scores WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM features WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM dirty WHERE customer IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM leads WHERE num IN (SELECT given.num FROM given)",
    "WITH given(num) AS ({rows}) DELETE FROM customers WHERE num IN (SELECT given.num FROM given)",
];

/// And by their key.
const REMOVE_BY_KEY: [&str; 6] = [
    "WITH given(key) AS ({rows}) DELETE FROM predictions WHERE customer IN (SELECT given.key FROM given)",
    "WITH given(key) AS ({rows}) DELETE FROM outcomes WHERE customer IN (SELECT given.key FROM given)",
    "WITH given(key) AS ({rows}) DELETE FROM questions WHERE customer IN (SELECT given.key FROM given)",
    "WITH given(key) AS ({rows}) DELETE FROM conversations WHERE customer IN (SELECT given.key FROM given)",
    "WITH given(key) AS ({rows}) DELETE FROM last_tiers WHERE customer IN (SELECT given.key FROM given)",
    "WITH given(key) AS ({rows}) DELETE FROM replay_log WHERE customer IN (SELECT given.key FROM given)",
];

impl Store {
    /// Removes everything about these customers and refuses them from now on, in every replica; how many entries that were.
    ///
    /// # Errors
    /// When something may be left. It can be asked for again.
    pub async fn erase_customers(&self, customers: &[CustomerKey]) -> Result<u64, StoreError> {
        if customers.is_empty() {
            return Ok(0);
        }
        let mut tx = self.write("cleared of a customer").await?;
        let entries = erase(&mut tx, customers).await?;
        tx.commit().await?;
        // After an interrupted erasure too, when there is nothing left to delete.
        self.inner.db.scrub().await?;
        Ok(entries)
    }

    /// Tombstones after `seq` (-1 for all), and the last one's.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn tombstones_since(&self, seq: i64) -> Result<(Vec<Tombstone>, i64), StoreError> {
        let mut tx = self.read("read").await?;
        let rows = tx.rows("SELECT digest, seq FROM tombstones WHERE seq > $1", &[Arg::Int(seq)]).await?;
        let mut last = seq;
        let mut tombstones = Vec::with_capacity(rows.len());
        for row in &rows {
            tombstones.push(Tombstone(row.array(0, "tombstones.digest")?));
            last = last.max(row.int(1)?);
        }
        Ok((tombstones, last))
    }

    /// Does again what a kill may have interrupted behind the commit of an erasure: leaves nothing of deleted rows.
    ///
    /// # Errors
    /// When something may be left.
    pub async fn finish_erasures(&self) -> Result<(), StoreError> {
        let any = self.read("read").await?.row("SELECT 1 FROM tombstones LIMIT 1", &[]).await?;
        if any.is_some() { self.inner.db.scrub().await } else { Ok(()) }
    }
}

/// Lays tombstones and deletes every row of these customers; how many that were.
pub(super) async fn erase(tx: &mut Tx, customers: &[CustomerKey]) -> Result<u64, StoreError> {
    const LAY: &str = "INSERT INTO tombstones (digest, seq) {rows} ON CONFLICT (digest) DO NOTHING";
    let mut keys: Vec<_> = customers.iter().map(|customer| *customer.as_bytes()).collect();
    keys.sort_unstable();
    keys.dedup();
    let digests = keys.iter().map(|key| digest(&CustomerKey::from_digest(*key))).collect();
    let first = tx.take("tombstone", keys.len()).await?;
    let seqs = (first..).take(keys.len()).collect();
    tx.bulk(LAY, &[BulkColumn::Keys(digests), BulkColumn::Ints(seqs)]).await?;
    let found: Vec<_> = numbers(tx, customers.to_vec()).await?.into_values().collect();
    let leads: Vec<_> = leads::numbers(tx, &keys).await?;
    let subjects: Vec<_> = found.iter().copied().chain(leads).collect();
    let mut entries = 0;
    for sql in REMOVE {
        entries += tx.bulk(sql, &[BulkColumn::Ints(subjects.clone())]).await?;
    }
    for sql in REMOVE_BY_KEY {
        entries += tx.bulk(sql, &[BulkColumn::Keys(keys.clone())]).await?;
    }
    tell_gone(tx, found).await?;
    Ok(entries)
}
