//! The platform's own limit: so many requests in any window of a period, counted exactly, for each token.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Accepted requests of the last period, by whom they are counted for.
pub(super) struct Limiter<K> {
    requests: u32,
    period: Duration,
    accepted: HashMap<K, VecDeque<Duration>>,
}

/// What the limiter says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RateVerdict {
    /// Accepted requests of the last period, with this one.
    Accepted(u32),
    /// When the next one will be accepted. Refused requests do not count.
    Refused(Duration),
}

impl<K: std::hash::Hash + Eq> Limiter<K> {
    pub(super) fn new(requests: u32, period: Duration) -> Self {
        Self { requests, period, accepted: HashMap::new() }
    }

    /// Decides about a request at `now` (monotonic).
    pub(super) fn ask(&mut self, who: K, now: Duration) -> RateVerdict {
        let accepted = self.accepted.entry(who).or_default();
        while accepted.front().is_some_and(|&at| at + self.period <= now) {
            accepted.pop_front();
        }
        if accepted.len() < self.requests as usize {
            accepted.push_back(now);
            return RateVerdict::Accepted(accepted.len() as u32);
        }
        let free_at = accepted.front().map_or(now + self.period, |&at| at + self.period);
        RateVerdict::Refused(free_at.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_of_a_period_holds_more_than_the_limit() {
        let mut limiter = Limiter::new(3, Duration::from_mins(1));
        let at = Duration::from_secs;
        assert_eq!(limiter.ask(1, at(0)), RateVerdict::Accepted(1));
        assert_eq!(limiter.ask(1, at(50)), RateVerdict::Accepted(2));
        assert_eq!(limiter.ask(1, at(59)), RateVerdict::Accepted(3));
        assert_eq!(limiter.ask(1, at(59)), RateVerdict::Refused(at(1)));
        assert_eq!(limiter.ask(2, at(59)), RateVerdict::Accepted(1), "each token for itself");
        assert_eq!(limiter.ask(1, at(60)), RateVerdict::Accepted(3));
        assert_eq!(limiter.ask(1, at(61)), RateVerdict::Refused(at(49)));
    }
}
