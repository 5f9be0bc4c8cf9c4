//! Latest feature vector of each customer, and the order of their changes for whoever keeps them in memory.

use std::collections::HashSet;

use super::Store;
use super::customers::CustomerNumber;
use super::db::{Arg, BulkColumn, DbRow, Tx};
use super::error::StoreError;
use super::leases::Lease;
use super::positions::check_lease;
use super::scan::ChangeMark;
use super::time;
use scoreline_domain::CustomerKey;
use scoreline_domain::time::Timestamp;

/// What was computed for one customer of a scan.
#[derive(Clone, Debug)]
pub struct Computed {
    pub number: CustomerNumber,
    /// The mark of their history. Cleared when nothing was recorded since.
    pub mark: Option<ChangeMark>,
    /// Absent for a customer without features: nothing known in the look-back window.
    pub features: Option<FeatureRow>,
}

/// A feature vector as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureRow {
    pub as_of: Timestamp,
    /// Made and read by whoever computes it.
    pub vector: Box<[u8]>,
    /// The earliest time at which it changes although nothing is recorded.
    pub next_change_at: Option<Timestamp>,
    /// Whether a queue's sentiment stands in for the customer's.
    pub fills_from_queue: bool,
}

/// What became of computed features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    pub written: u64,
    /// Whose features are gone.
    pub removed: u64,
    /// Erased in the meantime.
    pub unknown: u64,
    /// Something was recorded in the meantime: they are still due.
    pub still_dirty: u64,
}

/// One change, after all with a lower `seq`.
#[derive(Clone, Debug, PartialEq)]
pub enum FeatureChange {
    Saved {
        number: CustomerNumber,
        customer: CustomerKey,
        features: FeatureRow,
    },
    /// Erased, or without features now. Only the number is left to know them by.
    Gone {
        number: CustomerNumber,
    },
}

/// Changes in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureChanges {
    /// Of a customer only the last.
    pub changes: Vec<FeatureChange>,
    /// Everything up to here is told: ask for what is after it next.
    pub seq: i64,
    pub more: bool,
}

impl Store {
    /// Saves what was computed, whole or not at all.
    ///
    /// # Errors
    /// When nothing was saved, or that is not known.
    pub async fn save_features(&self, computed: &[Computed], lease: Option<&Lease>) -> Result<Saved, StoreError> {
        const UPSERT: &str = "INSERT INTO features (customer, seq, as_of_ms, vector, next_change_ms, \
                              fills_from_queue) {rows} ON CONFLICT (customer) DO UPDATE SET seq = excluded.seq, \
                              as_of_ms = excluded.as_of_ms, vector = excluded.vector, \
                              next_change_ms = excluded.next_change_ms, \
                              fills_from_queue = excluded.fills_from_queue";
        const REMOVE: &str = "WITH given(customer) AS ({rows}) DELETE FROM features \
                              WHERE customer IN (SELECT given.customer FROM given) RETURNING customer";
        const CLEAR: &str = "WITH given(customer, mark) AS ({rows}) DELETE FROM dirty \
                             WHERE (customer, mark) IN (SELECT given.customer, given.mark FROM given)";
        let mut tx = self.write("written").await?;
        check_lease(&mut tx, lease).await?;
        let known = living(&mut tx, computed).await?;
        let living = || computed.iter().filter(|one| known.contains(&one.number.0));

        let some: Vec<_> = living().filter_map(|one| Some((one.number.0, one.features.as_ref()?))).collect();
        let seq = tx.take("change", some.len()).await?;
        let columns = [
            BulkColumn::Ints(some.iter().map(|(number, _)| *number).collect()),
            BulkColumn::Ints((seq..).take(some.len()).collect()),
            BulkColumn::Ints(some.iter().map(|(_, features)| features.as_of.as_millisecond()).collect()),
            BulkColumn::Bytes(some.iter().map(|(_, features)| features.vector.to_vec()).collect()),
            BulkColumn::OptInts(
                some.iter().map(|(_, features)| features.next_change_at.map(Timestamp::as_millisecond)).collect(),
            ),
            BulkColumn::Ints(some.iter().map(|(_, features)| i64::from(features.fills_from_queue)).collect()),
        ];
        tx.bulk(UPSERT, &columns).await?;
        let without = living().filter(|one| one.features.is_none()).map(|one| one.number.0).collect();
        let rows = tx.bulk_rows(REMOVE, &[BulkColumn::Ints(without)]).await?;
        let gone: Vec<_> = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
        let removed = gone.len() as u64;
        tell_gone(&mut tx, gone).await?;

        let marks: Vec<_> = living().filter_map(|one| Some((one.number.0, one.mark?.0))).collect();
        let (customers, seen): (Vec<_>, Vec<_>) = marks.iter().copied().unzip();
        let cleared = tx.bulk(CLEAR, &[BulkColumn::Ints(customers), BulkColumn::Ints(seen)]).await?;
        tx.commit().await?;
        Ok(Saved {
            written: some.len() as u64,
            removed,
            unknown: (computed.len() - known.len()) as u64,
            still_dirty: (marks.len() as u64).saturating_sub(cleared),
        })
    }

    /// Changes of features after `seq` (0 for all), at most `limit` vectors. Told in the order of their commits: nothing
    /// before `seq` appears later.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn features_since(&self, seq: i64, limit: usize) -> Result<FeatureChanges, StoreError> {
        const SAVED: &str = "SELECT f.seq, f.customer, c.key, f.as_of_ms, f.vector, f.next_change_ms, \
                             f.fills_from_queue FROM features f JOIN customers c ON c.num = f.customer \
                             WHERE f.seq > $1 ORDER BY f.seq LIMIT $2";
        const GONE: &str = "SELECT seq, customer FROM forgotten WHERE seq > $1 AND seq <= $2";
        const LAST: &str = "SELECT value FROM counters WHERE name = 'change'";
        let mut tx = self.read("read").await?;
        let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
        let rows = tx.rows(SAVED, &[Arg::Int(seq), Arg::Int(limit)]).await?;
        let mut changes = Vec::with_capacity(rows.len());
        for row in &rows {
            changes.push((row.int(0)?, saved(row)?));
        }
        let more = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
        let last = tx.row(LAST, &[]).await?.map_or(Ok(0), |row| row.int(0))?;
        let upto = changes.last().filter(|_| more).map_or(last.max(seq), |(seq, _)| *seq);
        for row in tx.rows(GONE, &[Arg::Int(seq), Arg::Int(upto)]).await? {
            changes.push((row.int(0)?, FeatureChange::Gone { number: CustomerNumber(row.int(1)?) }));
        }
        changes.sort_by_key(|(seq, _)| *seq);
        Ok(FeatureChanges { changes: changes.into_iter().map(|(_, change)| change).collect(), seq: upto, more })
    }

    /// One customer's latest features.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn features_of(&self, customer: &CustomerKey) -> Result<Option<FeatureRow>, StoreError> {
        const FIND: &str = "SELECT f.seq, f.customer, c.key, f.as_of_ms, f.vector, f.next_change_ms, \
                            f.fills_from_queue FROM customers c JOIN features f ON f.customer = c.num \
                            WHERE c.key = $1";
        let mut tx = self.read("read").await?;
        let row = tx.row(FIND, &[Arg::Bytes(customer.as_bytes())]).await?;
        row.map(|row| features(&row)).transpose()
    }
}

/// The numbers among these that are still a customer's.
async fn living(tx: &mut Tx, computed: &[Computed]) -> Result<HashSet<i64>, StoreError> {
    const FIND: &str = "WITH given(num) AS ({rows}) \
                        SELECT c.num FROM given CROSS JOIN customers c WHERE c.num = given.num";
    let numbers = computed.iter().map(|one| one.number.0).collect();
    tx.bulk_rows(FIND, &[BulkColumn::Ints(numbers)]).await?.iter().map(|row| row.int(0)).collect()
}

/// Tells followers that these customers have no features any more.
pub(super) async fn tell_gone(tx: &mut Tx, customers: Vec<i64>) -> Result<(), StoreError> {
    if customers.is_empty() {
        return Ok(());
    }
    let seq = tx.take("change", customers.len()).await?;
    let seqs = (seq..).take(customers.len()).collect();
    let columns = [BulkColumn::Ints(seqs), BulkColumn::Ints(customers)];
    tx.bulk("INSERT INTO forgotten (seq, customer) {rows}", &columns).await?;
    Ok(())
}

fn saved(row: &DbRow) -> Result<FeatureChange, StoreError> {
    Ok(FeatureChange::Saved {
        number: CustomerNumber(row.int(1)?),
        customer: CustomerKey::from_digest(row.array(2, "customers.key")?),
        features: features(row)?,
    })
}

fn features(row: &DbRow) -> Result<FeatureRow, StoreError> {
    let next = row.opt_int(5)?.map(|ms| time(ms, "features.next_change_ms")).transpose()?;
    Ok(FeatureRow {
        as_of: time(row.int(3)?, "features.as_of_ms")?,
        vector: row.bytes(4)?.into(),
        next_change_at: next,
        fills_from_queue: row.int(6)? == 1,
    })
}
