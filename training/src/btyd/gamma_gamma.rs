//! Gamma-Gamma: amounts of a customer are gamma-distributed, and so is their scale among customers (Fader & Hardie
//! 2013, "The gamma-gamma model of monetary value").

use super::special::ln_gamma;
use super::{History, Model};

/// Amounts are gamma(`p`, nu) with nu gamma(`q`, `gamma`); `gamma` is in the amounts' unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GammaGamma {
    pub p: f64,
    pub q: f64,
    pub gamma: f64,
}

impl GammaGamma {
    /// Expected amount of a purchase day: the customer's own mean, drawn towards everybody's. Infinite for a customer
    /// without a repeat purchase if `q` is 1 or less.
    pub(crate) fn expected_amount(&self, history: &History) -> f64 {
        let Self { p, q, gamma } = *self;
        let x = history.repeats;
        let freedom = p * x + q - 1.0;
        if freedom > 0.0 { p * (gamma + x * history.mean_amount) / freedom } else { f64::INFINITY }
    }
}

impl Model for GammaGamma {
    const NAMES: &'static [&'static str] = &["p", "q", "gamma"];

    const START: &'static [f64] = &[3.0, 3.0, 30.0];

    fn of(parameters: &[f64]) -> Self {
        Self { p: parameters[0], q: parameters[1], gamma: parameters[2] }
    }

    fn parameters(&self) -> Vec<f64> {
        vec![self.p, self.q, self.gamma]
    }

    /// Customers whose repeat purchases were worth something.
    fn reads(history: &History) -> Option<History> {
        (history.repeats > 0.0 && history.mean_amount > 0.0).then_some(History { last: 0.0, age: 0.0, ..*history })
    }

    fn log_likelihood(&self, history: &History) -> f64 {
        let Self { p, q, gamma } = *self;
        let x = history.repeats;
        let z = history.mean_amount;
        let shape = p * x;
        ln_gamma(shape + q) - ln_gamma(shape) - ln_gamma(q) + q * gamma.ln() + (shape - 1.0) * z.ln() + shape * x.ln()
            - (shape + q) * (gamma + x * z).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_integrating_over_the_scale() {
        // By scipy's quad over the definition: nu ~ gamma(q, gamma), mean of x amounts ~ gamma(p x, nu x).
        let model = GammaGamma { p: 6.25, q: 3.74, gamma: 15.44 };
        let three = History { repeats: 3.0, last: 0.0, age: 0.0, mean_amount: 20.0 };
        assert!((model.log_likelihood(&three) + 3.476_003_282_985_8).abs() < 1e-10);
        assert!((model.expected_amount(&three) - 21.940_437_412_750_1).abs() < 1e-10);
    }

    #[test]
    fn nobody_known_is_worth_the_mean_of_all_if_there_is_one() {
        let once = History { repeats: 0.0, last: 0.0, age: 9.0, mean_amount: 0.0 };
        let model = GammaGamma { p: 6.25, q: 3.74, gamma: 15.44 };
        assert!((model.expected_amount(&once) - 6.25 * 15.44 / 2.74).abs() < 1e-12);
        assert_eq!(GammaGamma { q: 0.9, ..model }.expected_amount(&once), f64::INFINITY);
        assert_eq!(GammaGamma::reads(&once), None);
    }
}
