//! Reason codes: how much each feature moved a model's output away from what it says about a reference customer.
//!
//! The players are groups of features: features of a group rise and fall together, and what one of them did while the
//! others stood still says nothing about a customer (`FeatureGroup` has those of the catalogue). A group is either the
//! customer's or the reference's (Lundberg & Lee 2017), and a group's share is its Shapley value.
//!
//! A model that is a sum, of terms or of trees, is split exactly (`interventional.rs`). Of any other, and wherever a
//! column is derived from features of several groups, every hypothetical customer between the two is answered, up to ten
//! groups: what is derived is derived anew, and the shares are exact in the unit that is served (`groups.rs`). With more
//! groups the backend is asked about rows: by the continuous form of Aumann & Shapley for functions of linear predictors
//! (`path.rs`), by subsets or samples for any other model (`sampling.rs`). What is then still done to the output, a link,
//! a probability's curve, dollars, rescales the shares: [`through`].
//!
//! | model | method | `method` |
//! |---|---|---|
//! | trees, their sums and means, terms with boosted trees on top | interventional, one reference: exact | `tree_shap` |
//! | one linear predictor | its terms | `linear`, behind a link `path` |
//! | any other, or derived columns, up to 10 groups | Shapley values over all hypothetical customers | `exact` |
//! | hurdle with more: two predictors, each within its bounds | integral along the straight line | `path` |
//! | any other with more, or no time for all of them | up to 32 antithetic pairs of orders | `permutation` |
//!
//! Trees are after Lundberg et al. 2020, the integral after Sundararajan et al. 2017; orders are the same for every
//! request. A function of one number rescales its shares to the new difference (the rescale rule, Shrikumar et al.
//! 2017). Shares sum to the difference of the two answers to 1e-6.

pub mod groups;
pub(in crate::inference) mod interventional;
pub(in crate::inference) mod path;
pub(in crate::inference) mod sampling;

use std::time::Duration;

use super::backend::BackendError;
use scoreline_domain::time::Stopwatch;

/// What is to be explained: one output's difference between two rows, as the model reads them.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// One number a column; `NaN` is missing.
    pub row: &'a [f64],
    /// The row the difference is taken from, as long as `row`. A column in which both agree has a share of zero.
    pub reference: &'a [f64],
    /// Who decides each column, as long as `row`. Columns of one player are the row's or the reference's together.
    pub players: &'a [u32],
    /// Which of the backend's outputs, by position.
    pub output: usize,
    pub budget: Budget,
}

/// Time that may be spent, counted from when it was given.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    watch: Stopwatch,
    limit: Duration,
}

impl Budget {
    /// Starts counting.
    pub fn of(limit: Duration) -> Self {
        Self { watch: Stopwatch::start(), limit }
    }

    pub fn spent(&self) -> Duration {
        self.watch.elapsed()
    }

    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.spent())
    }

    /// # Errors
    /// When nothing is left.
    pub fn check(&self) -> Result<(), Unexplained> {
        if self.left().is_zero() { Err(Unexplained::OutOfTime) } else { Ok(()) }
    }

    /// The same start and this share of the time, from 0 to 1.
    pub(in crate::inference) fn part(self, share: f64) -> Self {
        Self { limit: self.limit.mul_f64(share), ..self }
    }
}

impl Question<'_> {
    /// How many players there are.
    pub(in crate::inference) fn count(&self) -> usize {
        self.players.iter().max().map_or(0, |last| *last as usize + 1)
    }
}

/// One output's difference, split: `to - from` is the sum of `players` up to rounding.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// One a player, in the output's own unit.
    pub players: Vec<f64>,
    /// The output for the reference row, and for the row.
    pub from: f64,
    pub to: f64,
    pub method: Method,
}

impl Shares {
    /// Rescales to `map` of the output; see [`through`].
    pub fn through(&mut self, map: impl Fn(f64) -> f64) {
        through(&mut self.players, (self.from, self.to), &map);
        (self.from, self.to) = (map(self.from), map(self.to));
    }

    /// # Errors
    /// When a number is not finite.
    pub fn finite(self) -> Result<Self, Unexplained> {
        let all = self.players.iter().chain([&self.from, &self.to]).all(|number| number.is_finite());
        if all { Ok(self) } else { Err(Unexplained::NotANumber) }
    }
}

/// How shares were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Exact Shapley values of tree ensembles.
    TreeShap,
    /// The terms of one linear model.
    Linear,
    /// Aumann-Shapley shares of a function of linear predictors.
    Path,
    /// Shapley values over all subsets of the features that differ.
    Exact,
    /// Shapley values estimated from random orders of the features.
    Permutation,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TreeShap => "tree_shap",
            Self::Linear => "linear",
            Self::Path => "path",
            Self::Exact => "exact",
            Self::Permutation => "permutation",
        }
    }
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum Unexplained {
    #[error("the time for an explanation ended before there was one")]
    OutOfTime,
    #[error("the model gives no finite number somewhere between the reference and the customer")]
    NotANumber,
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Carries shares of a number that goes from `from` to `to` through a function of it: the rescale rule (Shrikumar,
/// Greenside & Kundaje 2017). Every share is multiplied by the slope of the chord, so that they sum to
/// `map(to) - map(from)`. For a linear predictor this is what the path integral gives too.
///
/// Where shares cancel and the chord is too short to have a slope, the function's slope around the middle is used and
/// the rest is given out in proportion to size.
pub fn through(shares: &mut [f64], (from, to): (f64, f64), map: impl Fn(f64) -> f64) {
    /// Part of the shares' size below which the chord counts as too short.
    const SHORT: f64 = 1e-3;
    let size: f64 = shares.iter().map(|share| share.abs()).sum();
    let difference = map(to) - map(from);
    let slope = if (to - from).abs() > SHORT * size {
        difference / (to - from)
    } else {
        let middle = from.midpoint(to);
        let step = SHORT * size;
        let slope = (map(middle + step) - map(middle - step)) / (2.0 * step);
        if slope.is_finite() { slope } else { 0.0 }
    };
    let scaled: f64 = shares.iter().map(|share| slope * share).sum();
    for share in shares {
        *share = slope * *share + spread(difference - scaled, share.abs(), size);
    }
}

/// Gives what is missing to `difference` out in proportion to the shares' size: rounding of models that compute in
/// `f32`, and the error of an integral. `false` when that is too much to be rounding: more than a thousandth of the
/// shares and of what an `f32` of `magnitude` resolves.
pub(in crate::inference) fn settle(shares: &mut [f64], difference: f64, magnitude: f64) -> bool {
    let size: f64 = shares.iter().map(|share| share.abs()).sum();
    let missing = difference - shares.iter().sum::<f64>();
    for share in shares {
        *share += spread(missing, share.abs(), size);
    }
    missing == 0.0 || size > 0.0 && missing.abs() <= 1e-3 * size + 1e-5 * magnitude
}

fn spread(amount: f64, part: f64, whole: f64) -> f64 {
    if whole > 0.0 { amount * (part / whole) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chord_rescales_and_a_short_one_uses_the_slope() {
        let mut shares = [1.0, 2.0];
        through(&mut shares, (0.0, 3.0), |x| x * x);
        assert_eq!(shares, [3.0, 6.0]);
        // The shares cancel: around 1 the square rises by 2, and what is left over is nothing.
        let mut shares = [0.5, -0.5];
        through(&mut shares, (1.0, 1.0), |x| x * x);
        assert!((shares[0] - 1.0).abs() < 1e-9 && (shares[1] + 1.0).abs() < 1e-9, "{shares:?}");
    }

    #[test]
    fn a_flat_or_broken_function_leaves_the_sum_right() {
        let mut shares = [4.0, -1.0];
        through(&mut shares, (0.0, 3.0), |_| 7.0);
        assert_eq!(shares, [0.0, 0.0]);
        let mut shares = [1.0, -1.0];
        through(&mut shares, (0.0, 1e-9), |x| if x > 0.0 { 5.0 } else { 1.0 });
        assert!((shares.iter().sum::<f64>() - 4.0).abs() < 1e-9, "{shares:?}");
        let mut nothing = [0.0, 0.0];
        through(&mut nothing, (2.0, 2.0), f64::exp);
        assert_eq!(nothing, [0.0, 0.0]);
    }

    #[test]
    fn rounding_is_given_out_and_anything_more_is_refused() {
        let mut shares = [3.0, -1.0];
        assert!(settle(&mut shares, 2.000_004, 2.0));
        assert_eq!(shares, [3.000_003, -0.999_999]);
        assert!(!settle(&mut [3.0, -1.0], 2.5, 2.0));
        assert!(!settle(&mut [0.0, 0.0], 2.5, 2.5));
        assert!(settle(&mut [0.0, 0.0], 0.0, 9.0));
    }
}
