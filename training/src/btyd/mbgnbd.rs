//! MBG/NBD: BG/NBD whose customers may also leave right after their first purchase (Batislam, Denizel & Filiztekin
//! 2007, "Empirical validation and comparison of models for customer base analysis").

use super::bgnbd::purchases_of_the_living;
use super::special::{ln_add, ln_gamma};
use super::{History, Model, Purchasing};

/// Rates are gamma(`r`, `alpha`) a week, the probability to leave is beta(`a`, `b`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MbgNbd {
    pub r: f64,
    pub alpha: f64,
    pub a: f64,
    pub b: f64,
}

impl Model for MbgNbd {
    const NAMES: &'static [&'static str] = &["r", "alpha", "a", "b"];

    const START: &'static [f64] = &[0.5, 5.0, 1.0, 2.0];

    fn of(parameters: &[f64]) -> Self {
        Self { r: parameters[0], alpha: parameters[1], a: parameters[2], b: parameters[3] }
    }

    fn parameters(&self) -> Vec<f64> {
        vec![self.r, self.alpha, self.a, self.b]
    }

    fn reads(history: &History) -> Option<History> {
        Some(History { mean_amount: 0.0, ..*history })
    }

    fn log_likelihood(&self, history: &History) -> f64 {
        let Self { r, alpha, a, b } = *self;
        let x = history.repeats;
        let common = ln_gamma(r + x) - ln_gamma(r) + r * alpha.ln() + ln_gamma(a + b) + ln_gamma(b + x + 1.0)
            - ln_gamma(b)
            - ln_gamma(a + b + x + 1.0);
        let stayed = -(r + x) * (alpha + history.age).ln();
        let left = (a / (b + x)).ln() - (r + x) * (alpha + history.last).ln();
        common + ln_add(stayed, left)
    }
}

impl Purchasing for MbgNbd {
    fn alive(&self, history: &History) -> f64 {
        let Self { r, alpha, a, b } = *self;
        let x = history.repeats;
        let odds = (a / (b + x)).ln() + (r + x) * ((alpha + history.age) / (alpha + history.last)).ln();
        1.0 / (1.0 + odds.exp())
    }

    fn expected_purchases(&self, history: &History, weeks: f64) -> f64 {
        let Self { r, alpha, a, b } = *self;
        let z = weeks / (alpha + history.age + weeks);
        purchases_of_the_living(a, a + b + history.repeats, a + b - r, z) * self.alive(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_integrating_over_rates_and_probabilities() {
        // By scipy's dblquad over the definition: lambda ~ gamma, p ~ beta.
        let model = MbgNbd { r: 1.5, alpha: 4.4, a: 1.8, b: 2.4 };
        let repeat = History { repeats: 3.0, last: 20.0, age: 39.0, mean_amount: 0.0 };
        let once = History { repeats: 0.0, last: 0.0, age: 39.0, mean_amount: 0.0 };
        // The integral over rates stops at 3 a week, which costs the second row its last digits.
        for (history, expected, close) in [
            (repeat, [-12.089_711_663_115, 0.183_497_174_860_9, 0.487_042_934_192_6], 1e-8),
            (once, [-0.805_164_838_844, 0.041_265_301_094, 0.040_744_221_302_7], 1e-4),
        ] {
            let found =
                [model.log_likelihood(&history), model.alive(&history), model.expected_purchases(&history, 39.0)];
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < close * b.abs(), "{found:?} is not {expected:?}");
            }
        }
    }
}
