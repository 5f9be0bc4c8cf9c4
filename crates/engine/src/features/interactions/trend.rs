//! Where a customer's sentiment is going: the Theil-Sen slope over the latest scores, shrunk towards none.

use super::MustRefold;

/// At most this many scored interactions, those that began last, count for the sentiment trend: Theil-Sen looks at every
/// pair.
pub const TREND_INTERACTIONS: usize = 64;

/// Below this many scored interactions there is no trend to speak of.
pub const TREND_LEAST: usize = 3;

/// The trend is shrunk by `n / (n + TREND_SHRINKAGE)`.
pub const TREND_SHRINKAGE: f64 = 8.0;

/// Scores held before the oldest are thrown out: sorting out half of them at once costs each of them next to nothing.
const HELD: usize = 2 * TREND_INTERACTIONS;

/// What turns millionths a millisecond into a score per 30 days.
const PER_30_DAYS: f64 = 30.0 * super::DAY_MS as f64 / 1e6;

/// A score and when its interaction began. The order is total, so which ones are the latest does not depend on the order
/// they come in: of two that began together the higher score is the later one, and two that are equal are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    pub(super) start_ms: i64,
    pub(super) millionths: i32,
}

/// The latest scores, among them always the latest 64 of all that were added.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest {
    held: Vec<Score>,
    /// How many were thrown out, and the latest of them.
    thrown: u32,
    last_thrown: Option<Score>,
}

impl Latest {
    #[inline]
    pub(super) fn add(&mut self, score: Score) {
        if self.thrown > 0 && Some(score) <= self.last_thrown {
            self.thrown += 1;
            return;
        }
        self.held.push(score);
        // After it, because it may be among the oldest itself.
        if self.held.len() == HELD {
            self.throw_out();
        }
    }

    /// Takes back one that was added.
    ///
    /// # Errors
    /// When one that was thrown out would have to come back. Nothing has changed then.
    pub(super) fn retract(&mut self, score: Score) -> Result<(), MustRefold> {
        if self.thrown > 0 && Some(score) <= self.last_thrown {
            if Some(score) == self.last_thrown {
                return Err(MustRefold);
            }
            self.thrown -= 1;
            return Ok(());
        }
        let position = self.held.iter().position(|held| *held == score).ok_or(MustRefold)?;
        if self.thrown > 0 && self.held.len() <= TREND_INTERACTIONS {
            return Err(MustRefold);
        }
        self.held.swap_remove(position);
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.thrown = 0;
        self.last_thrown = None;
    }

    /// Theil-Sen slope in score per 30 days over pairs that began at different times, shrunk towards 0; 0 below three
    /// scores. Sen 1968, "Estimates of the regression coefficient based on Kendall's tau".
    pub(super) fn slope(&self) -> f64 {
        if self.held.len() < TREND_LEAST {
            return 0.0;
        }
        let mut scores = self.held.clone();
        scores.sort_unstable();
        let scores = &scores[scores.len().saturating_sub(TREND_INTERACTIONS)..];
        let n = scores.len();
        let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
        for (i, earlier) in scores.iter().enumerate() {
            for later in &scores[i + 1..] {
                let milliseconds = later.start_ms - earlier.start_ms;
                if milliseconds > 0 {
                    slopes.push(f64::from(later.millionths - earlier.millionths) / milliseconds as f64);
                }
            }
        }
        let n = n as f64;
        median(&mut slopes).map_or(0.0, |slope| slope * PER_30_DAYS * n / (n + TREND_SHRINKAGE))
    }

    #[cold]
    fn throw_out(&mut self) {
        let surplus = self.held.len() - TREND_INTERACTIONS;
        self.held.select_nth_unstable(surplus);
        let last_thrown = self.held.drain(..surplus).max();
        self.last_thrown = self.last_thrown.max(last_thrown);
        self.thrown += surplus as u32;
    }
}

fn median(numbers: &mut [f64]) -> Option<f64> {
    let middle = numbers.len() / 2;
    if numbers.is_empty() {
        return None;
    }
    let (below, upper, _) = numbers.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if below.len() == middle && numbers.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = numbers[..middle].iter().copied().max_by(f64::total_cmp)?;
    Some(f64::midpoint(lower, upper))
}
