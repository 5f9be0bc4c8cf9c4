//! BG/NBD: Poisson purchases with gamma-distributed rates; after every repeat purchase the customer leaves with a
//! beta-distributed probability (Fader, Hardie & Lee 2005, "Counting your customers the easy way").

use super::special::{hypergeometric, ln_add, ln_gamma};
use super::{History, Model, Purchasing};

/// Rates are gamma(`r`, `alpha`) a week, the probability to leave is beta(`a`, `b`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BgNbd {
    pub r: f64,
    pub alpha: f64,
    pub a: f64,
    pub b: f64,
}

impl Model for BgNbd {
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

    /// Equation 6 of the paper.
    fn log_likelihood(&self, history: &History) -> f64 {
        let Self { r, alpha, a, b } = *self;
        let x = history.repeats;
        let common = ln_gamma(r + x) - ln_gamma(r) + r * alpha.ln() + ln_gamma(a + b) + ln_gamma(b + x)
            - ln_gamma(b)
            - ln_gamma(a + b + x);
        let stayed = -(r + x) * (alpha + history.age).ln();
        let left =
            if x > 0.0 { (a / (b + x - 1.0)).ln() - (r + x) * (alpha + history.last).ln() } else { f64::NEG_INFINITY };
        common + ln_add(stayed, left)
    }
}

impl Purchasing for BgNbd {
    /// 1 for everybody without a repeat purchase: nobody leaves before one.
    fn alive(&self, history: &History) -> f64 {
        let Self { r, alpha, a, b } = *self;
        let x = history.repeats;
        if x == 0.0 {
            return 1.0;
        }
        let odds = (a / (b + x - 1.0)).ln() + (r + x) * ((alpha + history.age) / (alpha + history.last)).ln();
        1.0 / (1.0 + odds.exp())
    }

    /// Equation 10 of the paper, its hypergeometric function transformed.
    fn expected_purchases(&self, history: &History, weeks: f64) -> f64 {
        let Self { r, alpha, a, b } = *self;
        let while_alive = purchases_of_the_living(
            a,
            a + b + history.repeats - 1.0,
            a + b - 1.0 - r,
            weeks / (alpha + history.age + weeks),
        );
        while_alive * self.alive(history)
    }
}

/// c / (a - 1) [1 - (1 - z)^(a - 1) 2F1(d, a - 1; c; z)]: expected purchases of a customer who is there, for a
/// probability to leave of posterior beta(`a`, c + 1 - a). The paper's (1 - z)^(r + x) 2F1(r + x, b + x; c; z), whose
/// parameters grow with the purchases, becomes the term here by Euler's transformation, with d = c - r - x.
pub(super) fn purchases_of_the_living(a: f64, c: f64, d: f64, z: f64) -> f64 {
    // The value at a = 1 and c = 0 is a limit; a step beside it costs no digit that the parameters have.
    let beside = |value: f64, hole: f64| if (value - hole).abs() < 1e-7 { hole + 1e-7 } else { value };
    let (a, c) = (beside(a, 1.0), beside(c, 0.0));
    let grown = (1.0 - z).powf(a - 1.0) * hypergeometric(d, a - 1.0, c, z);
    c / (a - 1.0) * (1.0 - grown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_integrating_over_rates_and_probabilities() {
        // By scipy's dblquad over the definition: lambda ~ gamma, p ~ beta.
        let model = BgNbd { r: 1.5, alpha: 4.4, a: 1.8, b: 2.4 };
        let repeat = History { repeats: 3.0, last: 20.0, age: 39.0, mean_amount: 0.0 };
        let once = History { repeats: 0.0, last: 0.0, age: 39.0, mean_amount: 0.0 };
        for (history, expected) in [
            (repeat, [-11.631_806_911_082, 0.154_775_641_162_5, 0.391_707_901_447_9]),
            (once, [-3.433_282_350_273_2, 1.0, 0.927_482_054_595_2]),
        ] {
            let found =
                [model.log_likelihood(&history), model.alive(&history), model.expected_purchases(&history, 39.0)];
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-8 * b.abs(), "{found:?} is not {expected:?}");
            }
        }
    }

    #[test]
    fn the_holes_of_the_formula_are_filled() {
        let once = History { repeats: 0.0, last: 0.0, age: 39.0, mean_amount: 0.0 };
        let at = |a: f64, b: f64| BgNbd { r: 0.5, alpha: 5.0, a, b }.expected_purchases(&once, 39.0);
        assert!((at(1.0, 2.0) - at(1.0001, 2.0)).abs() < 1e-4);
        assert!((at(0.4, 0.6) - at(0.4, 0.6001)).abs() < 1e-4, "{} {}", at(0.4, 0.6), at(0.4, 0.6001));
        let never = BgNbd { r: 0.5, alpha: 5.0, a: 1e-9, b: 5.0 };
        // Nobody leaves: the rate's posterior mean times the weeks.
        assert!((never.expected_purchases(&once, 39.0) - 0.5 / 44.0 * 39.0).abs() < 1e-6);
    }
}
