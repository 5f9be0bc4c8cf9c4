//! The tier that each customer was in last, by whichever replica answered them: a value near a limit moves nobody because another
//! replica answers, or because one was started anew.
//!
//! Tiers are told to the store behind the answer and followed from there. No answer waits for either.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

use super::cache::{LastKey, Spread};
use scoreline_domain::time::{Timestamp, seconds_between};
use scoreline_domain::{CustomerKey, ModelName, Tier};
use scoreline_store::LastTier;

/// What an entry is reckoned to cost in bytes, with what the cache itself takes.
const ENTRY_BYTES: u32 = 300;
/// Tiers that may wait to be told, which is done every second. What is more is told when the customer is answered again.
const MOST_UNTOLD: usize = 10_000;
/// A tier that stays is told again when this part of its time is over.
const PART: u64 = 4;

/// A tier, and when it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownTier {
    tier: Tier,
    at: Timestamp,
}

/// Last tiers in memory. Cheap to clone.
#[derive(Clone)]
pub struct LastTiers {
    known: Cache<LastKey, KnownTier, Spread>,
    ttl: Duration,
    /// `None` where nothing is kept. Locked for a moment.
    untold: Option<Arc<Mutex<Untold>>>,
}

/// What was answered since replicas were told last.
#[derive(Default)]
struct Untold {
    tiers: Vec<LastTier>,
    /// The newest of each customer. They are among the known ones when they are told: a request has no time for that.
    newest: HashMap<LastKey, KnownTier, Spread>,
}

impl LastTiers {
    pub(super) fn new(bytes: u64, ttl: Duration) -> Self {
        let builder = Cache::builder().max_capacity(bytes).weigher(|_: &LastKey, _: &KnownTier| ENTRY_BYTES);
        let known = builder.time_to_live(ttl).build_with_hasher(Spread::default());
        Self { known, ttl, untold: (bytes > 0).then(Arc::default) }
    }

    /// How long a tier counts.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The tier that a customer was in last: the later of this one and that of `own`.
    pub(super) fn before(
        &self,
        model: &ModelName,
        customer: CustomerKey,
        now: Timestamp,
        own: Option<(Tier, Timestamp)>,
    ) -> Option<Tier> {
        let known = self.known.get(&LastKey { customer, model: model.clone() });
        let known = known.filter(|known| seconds_between(known.at, now) <= self.ttl.as_secs());
        match (known, own) {
            (Some(known), Some((_, at))) if known.at > at => Some(known.tier),
            (Some(known), None) => Some(known.tier),
            (_, own) => own.map(|(tier, _)| tier),
        }
    }

    /// Takes down an answer of this process.
    pub(super) fn answered(&self, key: LastKey, tier: Tier, at: Timestamp) {
        let Some(untold) = &self.untold else { return };
        let fresh = self.ttl.as_secs() / PART;
        let known = self.known.get(&key);
        let mut untold = lock(untold);
        let known = untold.newest.get(&key).copied().or(known);
        if known.is_some_and(|known| known.tier == tier && seconds_between(known.at, at) < fresh) {
            return;
        }
        if untold.tiers.len() < MOST_UNTOLD {
            untold.tiers.push(LastTier { customer: key.customer, model: key.model.clone(), tier, answered_at: at });
            untold.newest.insert(key, KnownTier { tier, at });
        }
    }

    /// What other replicas do not know yet.
    pub fn take_untold(&self) -> Vec<LastTier> {
        let Some(untold) = &self.untold else { return Vec::new() };
        let Untold { tiers, newest } = std::mem::take(&mut *lock(untold));
        for (key, known) in newest {
            self.known.insert(key, known);
        }
        tiers
    }

    /// What could not be told yet.
    pub fn give_back(&self, tiers: Vec<LastTier>) {
        if let Some(untold) = &self.untold {
            let mut untold = lock(untold);
            let room = MOST_UNTOLD.saturating_sub(untold.tiers.len());
            untold.tiers.extend(tiers.into_iter().take(room));
        }
    }

    /// Takes down what others have answered.
    pub fn follow(&self, tiers: Vec<LastTier>) {
        for LastTier { customer, model, tier, answered_at } in tiers {
            let key = LastKey { customer, model };
            if self.known.get(&key).is_none_or(|known| known.at < answered_at) {
                self.known.insert(key, KnownTier { tier, at: answered_at });
            }
        }
    }

    /// Forgets one customer of one model.
    pub(super) fn forget(&self, key: &LastKey) {
        self.leave_untold(|customer| *customer == key.customer);
        self.known.invalidate(key);
    }

    /// Forgets these customers.
    pub(super) fn remove(&self, gone: impl Fn(&CustomerKey) -> bool) {
        self.leave_untold(&gone);
        for (key, _) in self.known.iter().filter(|(key, _)| gone(&key.customer)) {
            self.known.invalidate(&*key);
        }
    }

    fn leave_untold(&self, gone: impl Fn(&CustomerKey) -> bool) {
        if let Some(untold) = &self.untold {
            let mut untold = lock(untold);
            untold.tiers.retain(|tier| !gone(&tier.customer));
            untold.newest.retain(|key, _| !gone(&key.customer));
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_hours(24);

    fn tiers() -> LastTiers {
        LastTiers::new(1 << 20, TTL)
    }

    fn key(byte: u8) -> LastKey {
        LastKey { customer: CustomerKey::from_digest([byte; 32]), model: model() }
    }

    fn model() -> ModelName {
        ModelName::parse("clv").expect("a name")
    }

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + hour * 3600).expect("a time")
    }

    #[test]
    fn a_tier_is_told_when_it_changes_and_now_and_then() {
        let tiers = tiers();
        tiers.answered(key(1), Tier::High, at(0));
        tiers.answered(key(1), Tier::High, at(5));
        assert_eq!(tiers.take_untold().len(), 1);
        tiers.answered(key(1), Tier::Medium, at(5));
        tiers.answered(key(1), Tier::Medium, at(11));
        let told: Vec<_> = tiers.take_untold().iter().map(|told| (told.tier, told.answered_at)).collect();
        assert_eq!(told, [(Tier::Medium, at(5)), (Tier::Medium, at(11))]);
        tiers.remove(|customer| *customer == key(1).customer);
        assert_eq!(tiers.before(&model(), key(1).customer, at(12), None), None);
        let nothing = LastTiers::new(0, TTL);
        nothing.answered(key(1), Tier::High, at(0));
        assert!(nothing.take_untold().is_empty());
    }

    #[test]
    fn the_later_tier_counts_for_as_long_as_scores_are_kept() {
        let tiers = tiers();
        let told = |tier, answered_at| LastTier { customer: key(1).customer, model: model(), tier, answered_at };
        tiers.follow(vec![told(Tier::High, at(4)), told(Tier::Low, at(3))]);
        let before = |now, own| tiers.before(&model(), key(1).customer, now, own);
        assert_eq!(before(at(5), None), Some(Tier::High));
        assert_eq!(before(at(5), Some((Tier::Medium, at(3)))), Some(Tier::High));
        assert_eq!(before(at(5), Some((Tier::Medium, at(5)))), Some(Tier::Medium));
        assert_eq!(before(at(29), None), None);
        assert!(tiers.take_untold().is_empty(), "what is followed is not told again");
    }
}
