//! How long to wait before the next attempt, and how many of them everybody together may make.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);
/// Retries earned by a first attempt.
const EARNED: f64 = 0.2;
/// Retries earned by a second.
const PER_SECOND: f64 = 1.0;
/// Retries that can be saved up.
const MOST: f64 = 20.0;

/// A pause between nothing and what doubles with every failure (full jitter). `draw` is a random number from 0 to 1.
pub(crate) fn backoff(failures: u32, draw: f64) -> Duration {
    let ceiling = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST);
    ceiling.mul_f64(draw.clamp(0.0, 1.0))
}

/// What a `Retry-After` asks for: seconds, or a date. `None` when it says neither.
pub(crate) fn retry_after(value: &str, now: std::time::SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    // A date in the past asks for nothing.
    httpdate::parse_http_date(value).ok().map(|date| date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// Keeps retries to a share of the first attempts, so that a platform in trouble is not asked more than a healthy one.
pub(crate) struct RetryBudget(Mutex<RetryTokens>);

struct RetryTokens {
    retries: f64,
    at: Duration,
}

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(RetryTokens { retries: MOST / 2.0, at: Duration::ZERO }))
    }

    pub(crate) fn first_attempt(&self, now: Duration) {
        self.with(now, |tokens| tokens.retries = (tokens.retries + EARNED).min(MOST));
    }

    /// Takes one retry; when there is none, it has to wait as long as is returned.
    pub(crate) fn retry(&self, now: Duration) -> Duration {
        self.with(now, |tokens| {
            tokens.retries -= 1.0;
            Duration::from_secs_f64((-tokens.retries).max(0.0) / PER_SECOND)
        })
    }

    fn with<T>(&self, now: Duration, change: impl FnOnce(&mut RetryTokens) -> T) -> T {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.saturating_sub(tokens.at).as_secs_f64() * PER_SECOND;
        tokens.retries = (tokens.retries + earned).min(MOST);
        tokens.at = tokens.at.max(now);
        change(&mut tokens)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn pauses_grow_and_are_spread() {
        let ceilings: Vec<_> = (1..=9).map(|failures| backoff(failures, 1.0).as_millis()).collect();
        assert_eq!(ceilings, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(backoff(5, 0.0), Duration::ZERO);
        assert_eq!(backoff(u32::MAX, 0.5), Duration::from_secs(30));
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(" 25 ", now), Some(Duration::from_secs(25)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:40:07 GMT", now), Some(Duration::ZERO));
        for neither in ["", "soon", "-5", "1.5"] {
            assert_eq!(retry_after(neither, now), None, "{neither}");
        }
    }

    #[test]
    fn retries_are_a_share_of_first_attempts_and_one_a_second() {
        let budget = RetryBudget::new();
        let mut now = Duration::ZERO;
        let mut waited = Duration::ZERO;
        for _ in 0..1_000 {
            budget.first_attempt(now);
            waited = budget.retry(now);
        }
        // 10 at the beginning, 200 earned: the last of 1,000 comes 790 seconds late.
        assert_eq!(waited.as_secs(), 790);
        now += Duration::from_hours(1);
        assert_eq!(budget.retry(now), Duration::ZERO);
    }
}
