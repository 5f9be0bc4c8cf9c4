//! Messages that were already applied, for as long as their timestamp would still be believed. Bounded, in memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::time::Timestamp;

/// What became of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplayClaim {
    /// First seen: apply it.
    New,
    /// Applied before, or being applied: answer as if it were new, and do nothing.
    Replayed,
    /// Too many are remembered. Forgetting one would let it be applied twice, so the message has to come again later.
    Full,
}

/// Remembers message ids. Each is claimed by one caller.
#[derive(Debug)]
pub struct ReplayWindow {
    most: usize,
    tolerance: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Until when each is remembered, in seconds.
    ids: HashMap<String, i64>,
    /// The same, the first to be forgotten first.
    ends: BTreeSet<(i64, String)>,
}

impl ReplayWindow {
    /// At most `most` ids; `tolerance` is the verifier's.
    pub fn new(most: usize, tolerance: Duration) -> Self {
        Self { most, tolerance, seen: Mutex::default() }
    }

    /// Claims a verified message. `sent_at` is its signed timestamp.
    pub fn claim(&self, id: &str, sent_at: Timestamp, now: Timestamp) -> ReplayClaim {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.as_second();
        while let Some((end, _)) = seen.ends.first()
            && *end < now
        {
            if let Some((_, id)) = seen.ends.pop_first() {
                seen.ids.remove(&id);
            }
        }
        if seen.ids.contains_key(id) {
            return ReplayClaim::Replayed;
        }
        if seen.ids.len() >= self.most {
            return ReplayClaim::Full;
        }
        // Later than that, its timestamp is too old.
        let end = sent_at.as_second().saturating_add(i64::try_from(self.tolerance.as_secs()).unwrap_or(i64::MAX));
        seen.ids.insert(id.to_owned(), end);
        seen.ends.insert((end, id.to_owned()));
        ReplayClaim::New
    }

    /// Gives a claim back: the message could not be applied and will be sent again.
    pub fn release(&self, id: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = seen.ids.remove(id) {
            seen.ends.remove(&(end, id.to_owned()));
        }
    }

    pub fn len(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const TOLERANCE: Duration = Duration::from_mins(5);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_thousand_replays_from_many_threads_are_applied_once() {
        let window = ReplayWindow::new(10, TOLERANCE);
        let applied = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        if window.claim("msg_1", at(1000), at(1010)) == ReplayClaim::New {
                            applied.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(applied.into_inner(), 1);
    }

    #[test]
    fn an_id_is_remembered_until_its_timestamp_is_too_old_and_no_longer() {
        let window = ReplayWindow::new(10, TOLERANCE);
        // Sent by a clock that is ahead.
        assert_eq!(window.claim("msg_1", at(1300), at(1000)), ReplayClaim::New);
        assert_eq!(window.claim("msg_1", at(1300), at(1600)), ReplayClaim::Replayed, "still within the tolerance");
        assert_eq!(window.len(), 1);
        assert_eq!(window.claim("msg_2", at(1601), at(1601)), ReplayClaim::New);
        assert_eq!(window.len(), 1, "the verifier refuses the first by its timestamp now");
    }

    #[test]
    fn a_full_window_refuses_instead_of_forgetting() {
        let window = ReplayWindow::new(2, TOLERANCE);
        assert_eq!(
            ["a", "b", "c", "a"].map(|id| window.claim(id, at(1000), at(1000))),
            [ReplayClaim::New, ReplayClaim::New, ReplayClaim::Full, ReplayClaim::Replayed]
        );
        window.release("a");
        window.release("unknown");
        assert_eq!(window.claim("c", at(1000), at(1000)), ReplayClaim::New);
        assert_eq!(window.claim("a", at(1000), at(1000)), ReplayClaim::Full);
        assert_eq!(window.claim("a", at(1400), at(1400)), ReplayClaim::New, "the others are too old");
    }
}
