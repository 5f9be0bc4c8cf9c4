//! Pareto/NBD: Poisson purchases with gamma-distributed rates during a lifetime that is exponential with
//! gamma-distributed rates (Schmittlein, Morrison & Colombo 1987, "Counting your customers"; likelihood as derived by
//! Fader & Hardie 2005, "A note on deriving the Pareto/NBD model").

use super::special::{hypergeometric_one, ln_add, ln_gamma, ln_subtract};
use super::{History, Model, Purchasing};

/// Purchase rates are gamma(`r`, `alpha`) a week, leaving rates gamma(`s`, `beta`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ParetoNbd {
    pub r: f64,
    pub alpha: f64,
    pub s: f64,
    pub beta: f64,
}

impl ParetoNbd {
    /// Logarithms of the likelihood's two parts, but for a common factor: still there, and gone since some time.
    fn parts(&self, history: &History) -> (f64, f64) {
        let Self { r, alpha, s, beta } = *self;
        let x = history.repeats;
        let power = |t: f64| -(r + x) * (alpha + t).ln() - s * (beta + t).ln();
        // The note's A_0 = F(t_x) - F(T), F by Euler's transformation: 2F1(r + s + x, s + 1; r + s + x + 1; z) over
        // (alpha + t)^(r + s + x) is the power above times 2F1(1, r + x; r + s + x + 1; z).
        let tail = |t: f64| {
            let a = alpha + t;
            let b = beta + t;
            let c = r + s + x + 1.0;
            let factor = if alpha >= beta {
                hypergeometric_one(r + x, c, (alpha - beta) / a)
            } else {
                a / b * hypergeometric_one(s + 1.0, c, (beta - alpha) / b)
            };
            power(t) + factor.ln()
        };
        let left = (s / (r + s + x)).ln() + ln_subtract(tail(history.last), tail(history.age));
        (power(history.age), left)
    }
}

impl Model for ParetoNbd {
    const NAMES: &'static [&'static str] = &["r", "alpha", "s", "beta"];

    const START: &'static [f64] = &[0.5, 10.0, 0.5, 10.0];

    fn of(parameters: &[f64]) -> Self {
        Self { r: parameters[0], alpha: parameters[1], s: parameters[2], beta: parameters[3] }
    }

    fn parameters(&self) -> Vec<f64> {
        vec![self.r, self.alpha, self.s, self.beta]
    }

    fn reads(history: &History) -> Option<History> {
        Some(History { mean_amount: 0.0, ..*history })
    }

    fn log_likelihood(&self, history: &History) -> f64 {
        let Self { r, alpha, s, beta } = *self;
        let (stayed, left) = self.parts(history);
        ln_gamma(r + history.repeats) - ln_gamma(r) + r * alpha.ln() + s * beta.ln() + ln_add(stayed, left)
    }
}

impl Purchasing for ParetoNbd {
    fn alive(&self, history: &History) -> f64 {
        let (stayed, left) = self.parts(history);
        1.0 / (1.0 + (left - stayed).exp())
    }

    fn expected_purchases(&self, history: &History, weeks: f64) -> f64 {
        let Self { r, alpha, s, beta } = *self;
        let now = beta + history.age;
        // (1 - q^(s - 1)) / (s - 1) with q = now / (now + weeks), and its limit at s = 1.
        let log = (weeks / now).ln_1p();
        let lived = if (s - 1.0).abs() < 1e-12 { log } else { -(-(s - 1.0) * log).exp_m1() / (s - 1.0) };
        (r + history.repeats) / (alpha + history.age) * now * lived * self.alive(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPEAT: History = History { repeats: 3.0, last: 20.0, age: 39.0, mean_amount: 0.0 };
    const ONCE: History = History { repeats: 0.0, last: 0.0, age: 39.0, mean_amount: 0.0 };

    #[test]
    fn values_are_those_of_integrating_over_rates() {
        // By scipy's dblquad over the definition: lambda ~ gamma, mu ~ gamma; once with alpha below beta, once above.
        let below = ParetoNbd { r: 1.5, alpha: 10.5, s: 1.6, beta: 11.7 };
        let above = ParetoNbd { r: 1.5, alpha: 14.0, s: 1.6, beta: 6.0 };
        for (model, history, expected) in [
            (below, REPEAT, [-12.092_011_529_469_8, 0.180_608_585_664_7, 0.402_185_706_771_5]),
            (below, ONCE, [-0.692_643_667_807_9, 0.018_697_008_131_7, 0.013_878_390_484_3]),
            (above, REPEAT, [-12.734_456_875_199, 0.161_605_553_826_8, 0.321_449_114_963_2]),
            (above, ONCE, [-0.396_607_450_161_5, 0.008_033_867_315, 0.005_326_713_670_0]),
        ] {
            let found =
                [model.log_likelihood(&history), model.alive(&history), model.expected_purchases(&history, 39.0)];
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-7 * b.abs(), "{found:?} is not {expected:?}");
            }
        }
    }

    #[test]
    fn a_purchase_today_means_alive_and_the_limits_hold() {
        let model = ParetoNbd { r: 0.5, alpha: 10.0, s: 0.6, beta: 11.0 };
        assert_eq!(model.alive(&History { repeats: 4.0, last: 39.0, age: 39.0, mean_amount: 0.0 }), 1.0);
        let at = |s: f64| ParetoNbd { s, ..model }.expected_purchases(&REPEAT, 39.0);
        assert!((at(1.0) - at(1.000_001)).abs() < 1e-6);
        let equal = |beta: f64| ParetoNbd { beta, ..model }.log_likelihood(&REPEAT);
        assert!((equal(10.0) - equal(10.000_001)).abs() < 1e-6);
    }
}
