//! Scores of the last 24 hours, twice: by exact question, and the last one of each customer.
//!
//! The exact key is model digest, hashed customer and features, so an answer can never be another model's or another
//! customer's. The last score of a customer is what the ladder falls back on and what routing uses.

use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use moka::sync::Cache;

use scoreline_domain::privacy::Tombstones;
use scoreline_domain::privacy::erasure::{Erasable, EraseError};
use scoreline_domain::time::{Timestamp, seconds_between};
use scoreline_domain::{CustomerKey, ModelName, ModelVersion};
use scoreline_engine::inference::bundle::{BundleDigest, ModelSnapshot};

use super::estimate::Wish;
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
}

/// One exact question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExactKey {
    digest: BundleDigest,
    customer: CustomerKey,
    question: [u64; 2],
}

/// A customer of one model.
#[derive(Clone, PartialEq, Eq)]
struct LastKey {
    customer: CustomerKey,
    model: ModelName,
}

// A customer's key is a digest under a secret: eight bytes of it are as good as all of the key to spread entries, nobody
// can aim at them, and there is nothing left to hash.

/// Takes the one number a key is spread by as it is.
#[derive(Clone, Default)]
struct AsItIs(u64);

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

type Spread = BuildHasherDefault<AsItIs>;

impl std::hash::Hash for ExactKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.customer.prefix() ^ self.question[0]);
    }
}

impl std::hash::Hash for LastKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.customer.prefix());
    }
}

/// Both caches. Cheap to clone.
#[derive(Clone)]
pub struct ScoreCache {
    exact: Cache<ExactKey, Arc<CachedScore>, Spread>,
    last: Cache<LastKey, Arc<CachedScore>, Spread>,
    ttl: Duration,
    // Two independently keyed hashes of the question: 128 bits that a caller cannot aim at.
    hashers: [RandomState; 2],
    /// Customers of whom nothing is kept.
    tombstones: Arc<OnceLock<Tombstones>>,
}

/// What one entry of either cache costs in bytes, with its share of the score, moka's own nodes and what the allocator loses:
/// measured over full caches by `benches/footprint --customers`.
const ENTRY_BYTES: u32 = 600;

impl ScoreCache {
    /// `bytes` is shared by both caches, half each.
    pub fn new(bytes: u64, ttl: Duration) -> Self {
        Self {
            exact: half(bytes, ttl),
            last: half(bytes, ttl),
            ttl,
            hashers: [RandomState::new(), RandomState::new()],
            tombstones: Arc::default(),
        }
    }

    /// Keeps nothing of these customers from now on. Told once, before the first answer.
    pub fn refuse(&self, tombstones: Tombstones) {
        // A second set would be the same one.
        let _ = self.tombstones.set(tombstones);
    }

    pub fn key(&self, snapshot: &ModelSnapshot, customer: CustomerKey, raw: &[f64], wish: Wish) -> ExactKey {
        let question = [&self.hashers[0], &self.hashers[1]].map(|hasher| hasher.hash_one(QuestionBits(raw, wish)));
        ExactKey { digest: *snapshot.digest(), customer, question }
    }

    /// The answer to exactly this question, if it is still fresh at `now`.
    pub fn exact(&self, key: &ExactKey, now: Timestamp) -> Option<Arc<CachedScore>> {
        self.exact.get(key).filter(|score| self.is_fresh(score, now))
    }

    /// The customer's last score by any version of the model, if it is still fresh at `now`.
    pub fn last(&self, model: &ModelName, customer: CustomerKey, now: Timestamp) -> Option<Arc<CachedScore>> {
        self.last.get(&LastKey { customer, model: model.clone() }).filter(|score| self.is_fresh(score, now))
    }

    pub fn put(&self, key: ExactKey, model: &ModelName, score: CachedScore) {
        let customer = key.customer;
        let score = Arc::new(score);
        self.exact.insert(key, Arc::clone(&score));
        let last = || LastKey { customer, model: model.clone() };
        self.last.insert(last(), score);
        // Looked at afterwards, so that an erasure beside this either finds the score or is seen here.
        if self.tombstones.get().is_some_and(|tombstones| tombstones.contains(&customer)) {
            self.exact.invalidate(&key);
            self.last.invalidate(&last());
        }
    }

    pub fn entries(&self) -> u64 {
        self.exact.entry_count() + self.last.entry_count()
    }

    /// What both caches weigh now, in bytes as reckoned for an entry; at most the budget, but for what waits to be evicted.
    pub fn weighted_bytes(&self) -> u64 {
        self.exact.weighted_size() + self.last.weighted_size()
    }

    /// Removes every score of these customers; how many there were.
    fn remove(&self, gone: impl Fn(&CustomerKey) -> bool) -> u64 {
        let mut entries = 0;
        for (key, _) in self.exact.iter().filter(|(key, _)| gone(&key.customer)) {
            self.exact.invalidate(&*key);
            entries += 1;
        }
        for (key, _) in self.last.iter().filter(|(key, _)| gone(&key.customer)) {
            self.last.invalidate(&*key);
            entries += 1;
        }
        // Frees them now rather than with the next insertions.
        self.exact.run_pending_tasks();
        self.last.run_pending_tasks();
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

fn half<K: Eq + std::hash::Hash + Send + Sync + 'static>(
    bytes: u64,
    ttl: Duration,
) -> Cache<K, Arc<CachedScore>, Spread> {
    let builder = Cache::builder().max_capacity(bytes / 2).weigher(|_, _| ENTRY_BYTES).time_to_live(ttl);
    builder.build_with_hasher(Spread::default())
}

struct QuestionBits<'a>(&'a [f64], Wish);

impl std::hash::Hash for QuestionBits<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for value in self.0 {
            // -0.0 equals 0.0 and must hash like it.
            (value + 0.0).to_bits().hash(state);
        }
        self.1.level.map(f64::to_bits).hash(state);
        self.1.previous.hash(state);
    }
}
