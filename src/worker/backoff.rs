//! When what failed is tried again.

use std::time::Duration;

use scoreline_domain::time::Timestamp;

/// Pauses between tries: the first, doubled after each further failure, up to the longest.
pub(super) struct Pauses {
    pub(super) first: Duration,
    pub(super) most: Duration,
}

impl Pauses {
    /// Between half of the doubled pause and all of it; `draw` is from 0 to 1.
    pub(super) fn after(&self, attempts: u32, draw: f64) -> Duration {
        self.first.saturating_mul(1 << attempts.min(20)).min(self.most).mul_f64(0.5 + draw / 2.0)
    }
}

/// A time later than another one; the calendar's end is none that anybody waits for.
pub(super) fn after(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (first, most) = (Duration::from_secs(30), Duration::from_hours(1));
        let pauses = Pauses { first, most };
        assert_eq!((pauses.after(0, 1.0), pauses.after(1, 1.0), pauses.after(1, 0.0)), (first, 2 * first, first));
        assert_eq!(pauses.after(500, 1.0), most);
    }
}
