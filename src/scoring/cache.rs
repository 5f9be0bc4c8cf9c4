//! The last score of each customer by each model, for 24 hours: one entry with the question it answers.
//!
//! Exactly the same question is answered from it again; the ladder falls back on it, and routing uses it, whatever was
//! asked. An entry holds the question itself, so an answer can never be another model's or that of other features. Beside them
//! are the tiers that any replica answered last.

use std::hash::BuildHasherDefault;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use scoreline_domain::privacy::Tombstones;
use scoreline_domain::privacy::erasure::{Erasable, EraseError};
use scoreline_domain::time::{Timestamp, seconds_between};
use scoreline_domain::{CustomerKey, ModelName, ModelVersion};
use scoreline_engine::inference::bundle::{BundleDigest, ModelSnapshot};

use super::estimate::Wish;
use super::last_tiers::LastTiers;
use super::task::TaskScore;

/// A score as it was given, with everything an answer says about it.
#[derive(Clone, Debug)]
pub struct CachedScore {
    pub outcome: TaskScore,
    pub scored_at: Timestamp,
    pub version: ModelVersion,
    pub interval_level: Option<f64>,
    /// The time of the stored features it was made from, if it was.
    pub features_as_of: Option<Timestamp>,
    /// What it answers.
    pub question: Question,
}

/// One exact question about a customer: the version, the values and what else was asked of the answer.
#[derive(Clone, Debug)]
pub struct Question {
    digest: BundleDigest,
    raw: Box<[f64]>,
    wish: Wish,
}

impl Question {
    /// `raw` are the values of the bundle's features; `NaN` where there is none.
    pub fn new(snapshot: &ModelSnapshot, raw: &[f64], wish: Wish) -> Self {
        Self { digest: *snapshot.digest(), raw: raw.into(), wish }
    }

    /// Whether this is that question.
    pub fn is(&self, snapshot: &ModelSnapshot, raw: &[f64], wish: Wish) -> bool {
        // What is missing equals what is missing, and 0.0 equals -0.0.
        let same = |(one, other): (&f64, &f64)| one == other || one.is_nan() && other.is_nan();
        self.wish == wish
            && self.digest == *snapshot.digest()
            && self.raw.len() == raw.len()
            && self.raw.iter().zip(raw).all(same)
    }
}

/// A customer of one model.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct LastKey {
    pub(super) customer: CustomerKey,
    pub(super) model: ModelName,
}

// A customer's key is a digest under a secret: eight bytes of it are as good as all of the key to spread entries, nobody
// can aim at them, and there is nothing left to hash.

/// Takes the one number a key is spread by as it is.
#[derive(Clone, Default)]
pub(super) struct AsItIs(u64);

impl std::hash::Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "{} bytes where one number is expected", bytes.len());
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(super) type Spread = BuildHasherDefault<AsItIs>;

impl std::hash::Hash for LastKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.customer.prefix());
    }
}

/// The scores. Cheap to clone.
#[derive(Clone)]
pub struct ScoreCache {
    entries: Cache<LastKey, Arc<CachedScore>, Spread>,
    tiers: LastTiers,
    ttl: Duration,
    /// Customers of whom nothing is kept.
    tombstones: Arc<OnceLock<Tombstones>>,
}

/// What one entry costs in bytes, with its score, its question, moka's own nodes and what the allocator loses: measured
/// over a full cache by `benches/footprint --customers`.
const ENTRY_BYTES: u32 = 800;

impl ScoreCache {
    /// Of at most so many bytes, and an eighth of that for last tiers.
    pub fn new(bytes: u64, ttl: Duration) -> Self {
        let builder = Cache::builder().max_capacity(bytes).weigher(|_, _| ENTRY_BYTES).time_to_live(ttl);
        // By default a full cache keeps whom many ask for and turns others away: who is scored now is routed next.
        let builder = builder.eviction_policy(EvictionPolicy::lru());
        let entries = builder.build_with_hasher(Spread::default());
        Self { entries, tiers: LastTiers::new(bytes / 8, ttl), ttl, tombstones: Arc::default() }
    }

    /// Keeps nothing of these customers from now on. Told once, before the first answer.
    pub fn refuse(&self, tombstones: Tombstones) {
        // A second set would be the same one.
        let _ = self.tombstones.set(tombstones);
    }

    /// The customer's last score by any version of the model, if it is still fresh at `now`.
    pub fn last(&self, model: &ModelName, customer: CustomerKey, now: Timestamp) -> Option<Arc<CachedScore>> {
        self.entries.get(&LastKey { customer, model: model.clone() }).filter(|score| self.is_fresh(score, now))
    }

    /// The tiers that customers were in last.
    pub fn last_tiers(&self) -> &LastTiers {
        &self.tiers
    }

    /// Keeps a score in the place of the one before.
    pub fn put(&self, model: &ModelName, customer: CustomerKey, score: CachedScore) {
        let key = || LastKey { customer, model: model.clone() };
        if let TaskScore::Clv(estimate) = &score.outcome {
            self.tiers.answered(key(), estimate.tier, score.scored_at);
        }
        self.entries.insert(key(), Arc::new(score));
        // Looked at afterwards, so that an erasure beside this either finds the score or is seen here.
        if self.tombstones.get().is_some_and(|tombstones| tombstones.contains(&customer)) {
            self.entries.invalidate(&key());
            self.tiers.forget(&key());
        }
    }

    pub fn entries(&self) -> u64 {
        self.entries.entry_count()
    }

    /// What the cache weighs now, in bytes as reckoned for an entry; at most the budget, but for what waits to be evicted.
    pub fn weighted_bytes(&self) -> u64 {
        self.entries.weighted_size()
    }

    /// Removes every score of these customers; how many there were.
    fn remove(&self, gone: impl Fn(&CustomerKey) -> bool) -> u64 {
        self.tiers.remove(&gone);
        let mut entries = 0;
        for (key, _) in self.entries.iter().filter(|(key, _)| gone(&key.customer)) {
            self.entries.invalidate(&*key);
            entries += 1;
        }
        // Frees them now rather than with the next insertions.
        self.entries.run_pending_tasks();
        entries
    }

    // The cache's own timer runs on the monotonic clock; the age that is promised is by the wall clock.
    fn is_fresh(&self, score: &CachedScore, now: Timestamp) -> bool {
        seconds_between(score.scored_at, now) <= self.ttl.as_secs()
    }
}

impl Erasable for ScoreCache {
    fn name(&self) -> &'static str {
        "score_cache"
    }

    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError> {
        Ok(self.remove(|customer| customers.contains(customer)))
    }

    fn sweep(&self, tombstones: &Tombstones) {
        self.remove(|customer| tombstones.contains(customer));
    }
}
