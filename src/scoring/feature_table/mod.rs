//! The table of stored features, in memory: what a prediction by id is made from.
//!
//! A reader loads one atomic pointer and searches an immutable shard: it never waits, neither for the database, nor for
//! whoever writes, nor for another reader. Writers take turns. A batch replaces each shard it touches once, so that a
//! reader sees a customer's whole old row or their whole new one. A lock around each shard would do for readers most of
//! the time; not while a large batch is taken in on a machine with a busy core.
//!
//! `recency_days` is not advanced between passes: the answer is as of `features_as_of` and says so.

mod batch;
mod shard;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Counter, counter, describe_counter, describe_gauge, gauge};

use scoreline_domain::CustomerKey;
use scoreline_domain::feature::CatalogueRow;
use scoreline_domain::privacy::Tombstones;
use scoreline_domain::privacy::erasure::{Erasable, EraseError};
use scoreline_domain::time::{Timestamp, seconds_between};

use batch::EntryEdit;
pub use batch::TableBatch;
use shard::{Merged, Shard};

/// A change copies one of these: with ten million customers half a megabyte.
const SHARDS: usize = 4096;
/// Changes that are taken in together, at most, while the table is small: each time the shards they touch are copied.
const FEW_AT_ONCE: usize = 65_536;
/// A large table takes in this part of itself together: while it is filled it is copied seven times in all, not once for
/// each batch, and what waits is a small part of it.
const PART_AT_ONCE: usize = 6;

/// One customer's features, as of a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredFeatures {
    /// To the second.
    pub as_of: Timestamp,
    /// Until when the passing of time alone changes nothing in them, to the minute; absent when it never does.
    pub exact_until: Option<Timestamp>,
    pub values: CatalogueRow,
}

/// What is new about a customer.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "most changes are of the large kind, and they lie in one list")]
pub enum TableChange {
    Stored {
        /// The store's own name of the customer, theirs for ever.
        number: i64,
        customer: CustomerKey,
        features: StoredFeatures,
    },
    /// Nothing is stored of them any more. The number is all that is left to know them by.
    Gone { number: i64 },
}

/// What became of a batch of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// Customers whose features were taken in.
    pub stored: u64,
    /// Customers who were there and no longer are.
    pub removed: u64,
    /// Changes about customers who were erased.
    pub refused: u64,
}

/// The stored features of all customers. Cheap to clone.
#[derive(Clone)]
pub struct FeatureTable(Arc<TableRows>);

struct TableRows {
    shards: Box<[ArcSwap<Shard>]>,
    /// Held by whoever replaces shards.
    writing: Mutex<()>,
    customers: AtomicUsize,
    /// Whether everything that was stored has been read once.
    complete: AtomicBool,
    stale_after: Duration,
    tombstones: OnceLock<Tombstones>,
    changes: Changes,
}

struct Changes {
    stored: Counter,
    removed: Counter,
    refused: Counter,
}

impl FeatureTable {
    /// An empty table. Features older than `stale_after` that may have changed since are said to be stale.
    pub fn new(stale_after: Duration) -> Self {
        describe();
        let change = |kind| counter!("scoreline_book_changes_total", "kind" => kind);
        let empty = Arc::new(Shard::default());
        Self(Arc::new(TableRows {
            shards: (0..SHARDS).map(|_| ArcSwap::new(Arc::clone(&empty))).collect(),
            writing: Mutex::new(()),
            customers: AtomicUsize::new(0),
            complete: AtomicBool::new(false),
            stale_after,
            tombstones: OnceLock::new(),
            changes: Changes { stored: change("stored"), removed: change("removed"), refused: change("refused") },
        }))
    }

    /// Keeps nothing of these customers from now on. Told once, before the first change.
    pub fn refuse(&self, tombstones: Tombstones) {
        // A second set would be the same one.
        let _ = self.0.tombstones.set(tombstones);
    }

    /// What is stored of a customer. Never waits and allocates nothing.
    pub fn find(&self, customer: &CustomerKey) -> Option<StoredFeatures> {
        let found = self.0.shards[shard_of(customer)].load().find(customer)?;
        // One who was erased under an earlier pepper is only known as such once they are asked about.
        (!self.is_erased(customer)).then_some(found)
    }

    /// How many changes are best taken in together, where there are that many.
    pub fn most_at_once(&self) -> usize {
        FEW_AT_ONCE.max(self.customers() / PART_AT_ONCE)
    }

    /// Takes in changes, in the order they were made.
    pub fn absorb(&self, changes: impl IntoIterator<Item = TableChange>) -> Absorbed {
        self.take_in(changes.into_iter().collect())
    }

    /// Takes in a batch. Copies every shard it touches: many changes at once cost far less than one by one.
    pub fn take_in(&self, batch: TableBatch) -> Absorbed {
        let TableBatch { mut edits, packed, gone } = batch;
        let is_gone = |number: &i64| gone.contains(number);
        edits.retain(|edit| !is_gone(&edit.entry.number));
        let writing = self.write();
        let all = edits.len();
        // Under the lock that `erase` waits for: an erasure beside this is either seen here or comes after it.
        edits.retain(|edit| !self.is_erased(&edit.customer));
        let refused = (all - edits.len()) as u64;
        let Merged { stored, removed } = self.replace(&writing, edits, &packed);
        // Not often, and then of many: looking through all is cheaper than to keep everybody by number too.
        let removed = removed + if gone.is_empty() { 0 } else { self.remove(&writing, is_gone) };
        drop(writing);
        let metrics = &self.0.changes;
        metrics.stored.increment(stored);
        metrics.removed.increment(removed);
        metrics.refused.increment(refused);
        Absorbed { stored, removed, refused }
    }

    fn replace(&self, _: &MutexGuard<'_, ()>, mut edits: Vec<EntryEdit>, packed: &[u8]) -> Merged {
        // The last edit of a customer stays the last. Rows are in the order of their customers.
        edits.sort_unstable_by_key(|edit| (edit.entry.key, edit.order));
        let mut merged = Merged::default();
        let mut before = 0;
        let mut after = 0;
        for of_shard in edits.chunk_by(|left, right| shard_of(&left.customer) == shard_of(&right.customer)) {
            let place = &self.0.shards[shard_of(&of_shard[0].customer)];
            let old = place.load();
            let (new, Merged { stored, removed }) = old.with(of_shard, packed);
            before += old.len();
            after += new.len();
            merged.stored += stored;
            merged.removed += removed;
            place.store(Arc::new(new));
        }
        let customers = self.customers() + after - before;
        self.0.customers.store(customers, Ordering::Relaxed);
        merged
    }

    /// Takes out whom the store no longer has; how many there were.
    fn remove(&self, _: &MutexGuard<'_, ()>, is_gone: impl Fn(&i64) -> bool) -> u64 {
        let mut removed = 0;
        for place in &self.0.shards {
            let old = place.load();
            if let Some(new) = old.without(&is_gone) {
                removed += old.len() - new.len();
                place.store(Arc::new(new));
            }
        }
        self.0.customers.fetch_sub(removed, Ordering::Relaxed);
        removed as u64
    }

    /// Says that everything that was stored has been read once: from now on a customer who is not here is unknown.
    pub fn set_complete(&self) {
        self.0.complete.store(true, Ordering::Release);
    }

    pub fn is_complete(&self) -> bool {
        self.0.complete.load(Ordering::Acquire)
    }

    /// Whether features are too old to pass without a word: older than the limit, and time alone may have changed them.
    pub fn is_stale(&self, features: &StoredFeatures, now: Timestamp) -> bool {
        seconds_between(features.as_of, now) > self.0.stale_after.as_secs()
            && features.exact_until.is_some_and(|until| until <= now)
    }

    pub fn customers(&self) -> usize {
        self.0.customers.load(Ordering::Relaxed)
    }

    /// Memory of all entries, in bytes.
    pub fn bytes(&self) -> usize {
        let shard = |shard: &ArcSwap<Shard>| size_of::<ArcSwap<Shard>>() + size_of::<Shard>() + shard.load().bytes();
        self.0.shards.iter().map(shard).sum()
    }

    /// When the features that were computed longest ago were; `None` for an empty table.
    pub fn oldest(&self) -> Option<Timestamp> {
        let oldest = self.0.shards.iter().filter_map(|shard| shard.load().oldest()).min()?;
        Timestamp::from_second(oldest).ok()
    }

    /// Sets the gauges that are read off rather than counted.
    pub fn report_gauges(&self, now: Timestamp) {
        gauge!("scoreline_book_customers").set(self.customers() as f64);
        gauge!("scoreline_book_bytes").set(self.bytes() as f64);
        gauge!("scoreline_book_complete").set(if self.is_complete() { 1.0 } else { 0.0 });
        let age = self.oldest().map_or(0, |oldest| seconds_between(oldest, now));
        gauge!("scoreline_book_oldest_features_age_seconds").set(age as f64);
    }

    fn is_erased(&self, customer: &CustomerKey) -> bool {
        self.0.tombstones.get().is_some_and(|tombstones| tombstones.contains(customer))
    }

    fn write(&self) -> MutexGuard<'_, ()> {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By the first twelve bits: a customer's key is a digest, which spreads them, and shards stay in the order of keys.
fn shard_of(customer: &CustomerKey) -> usize {
    let [first, second, ..] = *customer.as_bytes();
    usize::from(u16::from_be_bytes([first, second]) >> 4)
}

/// Tells the recorder what the metrics mean.
fn describe() {
    describe_counter!("scoreline_book_changes_total", "Changes of features held in memory, by kind.");
    for (name, meaning) in [
        ("scoreline_book_customers", "Customers whose features are held in memory."),
        ("scoreline_book_bytes", "Memory of the features that are held."),
        ("scoreline_book_complete", "1 once the features of every customer in the store are held in memory."),
        ("scoreline_book_oldest_features_age_seconds", "Age of the features in memory that were computed longest ago."),
    ] {
        describe_gauge!(name, meaning);
    }
}

impl Erasable for FeatureTable {
    fn name(&self) -> &'static str {
        "feature_table"
    }

    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError> {
        let edits = (0..).zip(customers).map(|(order, &customer)| EntryEdit::removal(customer, order)).collect();
        let writing = self.write();
        let removed = self.replace(&writing, edits, &[]).removed;
        drop(writing);
        self.0.changes.removed.increment(removed);
        Ok(removed)
    }
}

#[cfg(test)]
mod tests;
