//! Two models asked about the same rows: how far their scores lie apart, whether they order customers alike, and how
//! often a customer changes tier. Pure, and bounded in memory whatever the number of rows.
//!
//! Means and rates are over all rows. Quantiles and the rank correlation are exact over the last rows.

use scoreline_domain::Tier;

/// Rows that quantiles and the rank correlation are over.
pub const WINDOW: usize = 2_000;

/// What one model said of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// US dollars, or percentage points of a probability.
    pub score: f64,
    /// Absent for tasks without tiers.
    pub tier: Option<Tier>,
    /// How long the model took, in seconds.
    pub seconds: f64,
}

/// The rows so far.
#[derive(Clone, Debug)]
pub struct Comparison {
    rows: u64,
    mean: f64,
    mean_abs: f64,
    serving_seconds: f64,
    candidate_seconds: f64,
    tiered: u64,
    up: u64,
    down: u64,
    /// Scores of the serving model and of the candidate; the oldest is at `next` once the window is full.
    window: Vec<[f64; 2]>,
    next: usize,
    most: usize,
}

/// What the rows say. Deltas are candidate minus serving.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub rows: u64,
    /// Rows behind the quantiles and the rank correlation.
    pub window: usize,
    pub mean: f64,
    pub mean_abs: f64,
    pub p05: f64,
    pub p50: f64,
    pub p95: f64,
    /// Spearman's, from -1 to 1; `None` while one of the models has said one thing only.
    pub rank_correlation: Option<f64>,
    /// `None` for tasks without tiers.
    pub flips: Option<Flips>,
    /// Mean time of a run, in seconds.
    pub serving_seconds: f64,
    pub candidate_seconds: f64,
}

/// Shares of the rows that the candidate puts in another tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flips {
    pub up: f64,
    pub down: f64,
}

impl Comparison {
    /// With quantiles and rank correlation over the last `most` rows, at least one.
    pub fn new(most: usize) -> Self {
        Self {
            rows: 0,
            mean: 0.0,
            mean_abs: 0.0,
            serving_seconds: 0.0,
            candidate_seconds: 0.0,
            tiered: 0,
            up: 0,
            down: 0,
            window: Vec::new(),
            next: 0,
            most: most.max(1),
        }
    }

    pub fn record(&mut self, serving: &Judgement, candidate: &Judgement) {
        self.rows += 1;
        let rows = self.rows as f64;
        let delta = candidate.score - serving.score;
        // Updating the mean itself keeps its precision where a growing sum would lose it (Welford 1962).
        let update = |mean: &mut f64, value: f64| *mean += (value - *mean) / rows;
        update(&mut self.mean, delta);
        update(&mut self.mean_abs, delta.abs());
        update(&mut self.serving_seconds, serving.seconds);
        update(&mut self.candidate_seconds, candidate.seconds);
        if let Some((serving, candidate)) = serving.tier.zip(candidate.tier) {
            self.tiered += 1;
            self.up += u64::from(candidate > serving);
            self.down += u64::from(candidate < serving);
        }
        let pair = [serving.score, candidate.score];
        if self.window.len() < self.most {
            self.window.push(pair);
        } else {
            self.window[self.next] = pair;
            self.next = (self.next + 1) % self.most;
        }
    }

    /// `None` before the first row. Sorts the window: for whoever looks, not for every row.
    pub fn summary(&self) -> Option<Summary> {
        if self.rows == 0 {
            return None;
        }
        let mut deltas: Vec<f64> = self.window.iter().map(|[serving, candidate]| candidate - serving).collect();
        deltas.sort_by(f64::total_cmp);
        let share = |part: u64| part as f64 / self.tiered as f64;
        Some(Summary {
            rows: self.rows,
            window: self.window.len(),
            mean: self.mean,
            mean_abs: self.mean_abs,
            p05: quantile(&deltas, 0.05),
            p50: quantile(&deltas, 0.5),
            p95: quantile(&deltas, 0.95),
            rank_correlation: rank_correlation(&self.window),
            flips: (self.tiered > 0).then(|| Flips { up: share(self.up), down: share(self.down) }),
            serving_seconds: self.serving_seconds,
            candidate_seconds: self.candidate_seconds,
        })
    }
}

/// The quantile of sorted numbers, interpolated between the two that lie around it (Hyndman & Fan 1996, definition 7).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

/// Spearman's rank correlation: Pearson's correlation of the ranks, where equal numbers share the mean of their ranks
/// (Spearman 1904; for ties Kendall & Gibbons, Rank Correlation Methods, 5th ed. 1990, chapter 3).
///
/// `None` with fewer than two pairs, or when all numbers of one side are equal.
fn rank_correlation(pairs: &[[f64; 2]]) -> Option<f64> {
    let [left, right] = [0, 1].map(|side| ranks(pairs.iter().map(|pair| pair[side])));
    // Ranks, shared or not, have this mean.
    let mean = f64::midpoint(1.0, pairs.len() as f64);
    let mut both = 0.0;
    let mut of_left = 0.0;
    let mut of_right = 0.0;
    for (left, right) in left.iter().zip(&right) {
        let (left, right) = (left - mean, right - mean);
        both += left * right;
        of_left += left * left;
        of_right += right * right;
    }
    let spread = f64::sqrt(of_left * of_right);
    (spread > 0.0).then(|| (both / spread).clamp(-1.0, 1.0))
}

/// The rank of every number, from 1; equal numbers share the mean of theirs.
fn ranks(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = numbers.enumerate().collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut ranks = vec![0.0; order.len()];
    let mut before = 0;
    for equal in order.chunk_by(|(_, a), (_, b)| a == b) {
        let shared = f64::midpoint(before as f64 + 1.0, (before + equal.len()) as f64);
        for (index, _) in equal {
            ranks[*index] = shared;
        }
        before += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judgement(score: f64, tier: Option<Tier>, seconds: f64) -> Judgement {
        Judgement { score, tier, seconds }
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() <= 1e-9 * left.abs().max(right.abs()).max(1.0)
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// Ranks by counting, correlation by the textbook's moments.
    fn naive_correlation(pairs: &[(f64, f64)]) -> Option<f64> {
        let rank = |of: f64, all: &[f64]| {
            let less = all.iter().filter(|it| **it < of).count() as f64;
            let equal = all.iter().filter(|it| **it == of).count() as f64;
            f64::midpoint(less + 1.0, less + equal)
        };
        let (left, right): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let [left, right] = [left, right].map(|side| side.iter().map(|it| rank(*it, &side)).collect::<Vec<f64>>());
        let product = |a: &[f64], b: &[f64]| mean(&a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<_>>());
        let covariance = |a: &[f64], b: &[f64]| product(a, b) - mean(a) * mean(b);
        let spread = covariance(&left, &left) * covariance(&right, &right);
        (spread > 1e-9).then(|| covariance(&left, &right) / spread.sqrt())
    }

    fn tier() -> impl Strategy<Value = Option<Tier>> {
        prop::sample::select(vec![None, Some(Tier::Low), Some(Tier::Medium), Some(Tier::High)])
    }

    /// Whole numbers of a small range, so that ties are common, and any others.
    fn score() -> impl Strategy<Value = f64> {
        prop_oneof![(0_i32..6).prop_map(f64::from), 0.0..5_000.0]
    }

    fn row() -> impl Strategy<Value = (Judgement, Judgement)> {
        let side = || (score(), tier(), 0.0..0.01).prop_map(|(score, tier, seconds)| judgement(score, tier, seconds));
        (side(), side())
    }

    proptest! {
        #[test]
        fn statistics_are_those_of_a_naive_computation(
            rows in prop::collection::vec(row(), 1..120),
            most in 1_usize..80,
        ) {
            let mut comparison = Comparison::new(most);
            for (serving, candidate) in &rows {
                comparison.record(serving, candidate);
            }
            let summary = comparison.summary().expect("rows");

            let deltas: Vec<f64> = rows.iter().map(|(serving, candidate)| candidate.score - serving.score).collect();
            prop_assert_eq!(summary.rows, rows.len() as u64);
            prop_assert!(near(summary.mean, mean(&deltas)));
            prop_assert!(near(summary.mean_abs, mean(&deltas.iter().map(|delta| delta.abs()).collect::<Vec<_>>())));
            let seconds = |pick: fn(&(Judgement, Judgement)) -> f64| mean(&rows.iter().map(pick).collect::<Vec<_>>());
            prop_assert!(near(summary.serving_seconds, seconds(|row| row.0.seconds)));
            prop_assert!(near(summary.candidate_seconds, seconds(|row| row.1.seconds)));

            let tiers: Vec<_> = rows.iter().filter_map(|(a, b)| a.tier.zip(b.tier)).collect();
            let share = |is: fn(&&(Tier, Tier)) -> bool| tiers.iter().filter(is).count() as f64 / tiers.len() as f64;
            match summary.flips {
                None => prop_assert!(tiers.is_empty()),
                Some(flips) => {
                    prop_assert!(near(flips.up, share(|(serving, candidate)| candidate > serving)));
                    prop_assert!(near(flips.down, share(|(serving, candidate)| candidate < serving)));
                }
            }

            let last = &rows[rows.len().saturating_sub(most)..];
            prop_assert_eq!(summary.window, last.len());
            let mut sorted: Vec<f64> = deltas[rows.len() - last.len()..].to_vec();
            sorted.sort_by(f64::total_cmp);
            for (found, share) in [(summary.p05, 0.05), (summary.p50, 0.5), (summary.p95, 0.95)] {
                // Definition 7 by its own words: the share of steps between the first and the last number.
                let steps = share * (sorted.len() - 1) as f64;
                let low = sorted[steps.floor() as usize];
                let high = sorted[steps.ceil() as usize];
                prop_assert!(near(found, low * (1.0 - steps.fract()) + high * steps.fract()));
            }
            let pairs: Vec<_> = last.iter().map(|(serving, candidate)| (serving.score, candidate.score)).collect();
            match (summary.rank_correlation, naive_correlation(&pairs)) {
                (Some(found), Some(expected)) => prop_assert!((found - expected).abs() < 1e-9),
                (found, expected) => prop_assert_eq!(found, expected),
            }
        }

        #[test]
        fn ranks_do_not_see_how_far_apart_scores_lie(
            scores in prop::collection::vec(0.0..5_000.0_f64, 2..60),
        ) {
            let pairs: Vec<[f64; 2]> = scores.iter().map(|score| [*score, score.sqrt().mul_add(3.0, 1.0)]).collect();
            let turned: Vec<[f64; 2]> = scores.iter().map(|score| [*score, -score]).collect();
            let differ = scores.iter().any(|score| *score != scores[0]);
            if differ {
                prop_assert!(rank_correlation(&pairs).expect("scores differ") > 1.0 - 1e-9);
                prop_assert!(rank_correlation(&turned).expect("scores differ") < -1.0 + 1e-9);
            }
        }
    }

    #[test]
    fn the_rank_correlation_is_that_of_a_published_example_with_ties() {
        // scipy.stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]), the example of its documentation.
        let pairs = [[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, 8.0], [5.0, 7.0]];
        let found = rank_correlation(&pairs).expect("both differ");
        assert!((found - 0.820_782_681_668_123_3).abs() < 1e-12, "{found}");
    }

    #[test]
    fn what_has_no_answer_has_none() {
        assert_eq!(Comparison::new(10).summary(), None);
        let mut comparison = Comparison::new(10);
        for score in [3.0, 4.0] {
            comparison.record(&judgement(7.0, None, 0.0), &judgement(score, None, 0.0));
        }
        let summary = comparison.summary().expect("rows");
        assert_eq!((summary.rank_correlation, summary.flips), (None, None));
    }
}
