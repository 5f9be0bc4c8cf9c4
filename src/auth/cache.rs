//! Tokens whose signature was verified a moment ago, so that a hot check is a look-up and not a signature.
//!
//! A fixed table of slots that are read without locks and without counting references (arc-swap). A slot is found by a
//! keyed hash of the token's last 64 bytes (the signature, or most of it), then the whole token is compared: hashing all
//! of it with SHA-256 would cost most of the microsecond there is. Whoever does not know the signature does not get as
//! far as the comparison, so its duration tells nothing.
//!
//! An entry is not used after its time or after the generation it was verified in: credentials and keys that change
//! start a new generation. Tokens are wiped from memory when their entry goes.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

use super::caller::Caller;

/// Places a token may be in; one of them is given up when all are taken.
const WAYS: usize = 4;
const SETS: usize = 512;
/// Tokens above this many bytes are verified every time, so that the table stays below 8 MiB whatever is presented.
const LONGEST_KEPT: usize = 4096;
/// Bytes of the token's end that choose the place.
const TAIL: usize = 64;

pub(super) struct Cache {
    slots: Box<[ArcSwapOption<CachedToken>]>,
    hasher: RandomState,
}

struct CachedToken {
    token: Zeroizing<Box<[u8]>>,
    caller: Arc<Caller>,
    generation: u64,
    until: Duration,
}

impl CachedToken {
    fn lives(&self, generation: u64, now: Duration) -> bool {
        self.generation == generation && now < self.until
    }
}

impl Cache {
    pub(super) fn new() -> Self {
        let slots = (0..SETS * WAYS).map(|_| ArcSwapOption::empty()).collect();
        Self { slots, hasher: RandomState::new() }
    }

    /// The caller of a token verified in this generation; `now` is monotonic.
    pub(super) fn get(&self, token: &[u8], generation: u64, now: Duration) -> Option<Arc<Caller>> {
        self.set(token).iter().find_map(|slot| {
            let held = slot.load();
            let entry = held.as_ref()?;
            (entry.lives(generation, now) && entry.token.as_ref() == token).then(|| Arc::clone(&entry.caller))
        })
    }

    /// Keeps a verified token until the monotonic time `until`.
    pub(super) fn put(&self, token: &[u8], caller: &Arc<Caller>, generation: u64, now: Duration, until: Duration) {
        if token.len() > LONGEST_KEPT {
            return;
        }
        let set = self.set(token);
        let free =
            |slot: &&ArcSwapOption<CachedToken>| slot.load().as_ref().is_none_or(|entry| !entry.lives(generation, now));
        // The one to give up when all live is as good as random: it follows from the time.
        let slot = set.iter().find(free).unwrap_or(&set[now.subsec_nanos() as usize / 64 % WAYS]);
        let token = Zeroizing::new(Box::from(token));
        slot.store(Some(Arc::new(CachedToken { token, caller: Arc::clone(caller), generation, until })));
    }

    /// Wipes what cannot be used any more.
    pub(super) fn sweep(&self, generation: u64, now: Duration) {
        for slot in &self.slots {
            if slot.load().as_ref().is_some_and(|entry| !entry.lives(generation, now)) {
                slot.store(None);
            }
        }
    }

    /// Entries there are, usable or not.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.load().is_some()).count()
    }

    fn set(&self, token: &[u8]) -> &[ArcSwapOption<CachedToken>] {
        let tail = &token[token.len().saturating_sub(TAIL)..];
        let set = self.hasher.hash_one(tail) as usize % SETS;
        &self.slots[set * WAYS..(set + 1) * WAYS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::caller::{Proof, Scopes};
    use crate::auth::pace::{Pace, Rate, Rates};
    use scoreline_domain::time::{Clock, SystemClock};

    fn caller(name: &str) -> Arc<Caller> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let none = Rate { per_second: 0, burst: 1 };
        let pace = Arc::new(Pace::new(Rates { predict: none, leads: none }, &clock));
        Arc::new(Caller::new(name.to_owned(), Proof::IssuerToken, Scopes::default(), pace))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_entry_ends_with_its_time_and_its_generation() {
        let cache = Cache::new();
        cache.put(b"a.b.c", &caller("one"), 7, SECOND, SECOND * 60);
        let name = |token: &[u8], generation, now| cache.get(token, generation, now).map(|who| who.name().to_owned());
        assert_eq!(name(b"a.b.c", 7, SECOND).as_deref(), Some("one"));
        assert_eq!(name(b"x.b.c", 7, SECOND), None, "same length, other token");
        assert_eq!(name(b"a.b.c", 8, SECOND), None);
        assert_eq!(name(b"a.b.c", 7, SECOND * 60), None);
        cache.sweep(7, SECOND * 59);
        assert_eq!(cache.len(), 1);
        cache.sweep(8, SECOND * 59);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn tokens_that_end_alike_are_not_mistaken() {
        let cache = Cache::new();
        let tail = "s".repeat(TAIL);
        for name in ["a", "b", "c"] {
            cache.put(format!("{name}{tail}").as_bytes(), &caller(name), 0, SECOND, SECOND * 2);
        }
        for name in ["a", "b", "c"] {
            let found = cache.get(format!("{name}{tail}").as_bytes(), 0, SECOND).expect("kept");
            assert_eq!(found.name(), name);
        }
        assert!(cache.get(format!("d{tail}").as_bytes(), 0, SECOND).is_none());
    }

    #[test]
    fn it_is_bounded_and_takes_no_giants() {
        let cache = Cache::new();
        let who = caller("one");
        for number in 0..20_000 {
            cache.put(format!("token-{number}").as_bytes(), &who, 0, SECOND, SECOND * 2);
        }
        assert!(cache.len() <= SETS * WAYS);
        cache.put(&vec![b'x'; LONGEST_KEPT + 1], &who, 0, SECOND, SECOND * 2);
        assert!(cache.get(&vec![b'x'; LONGEST_KEPT + 1], 0, SECOND).is_none());
    }
}
