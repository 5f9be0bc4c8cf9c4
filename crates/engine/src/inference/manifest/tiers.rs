//! `[tiers]`: where the value tiers begin, how firmly a customer stays in theirs, and how sure the model may be of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Bands;
use scoreline_domain::Tier;

/// Tier limits in US dollars of expected spend, fixed at training: `Low < medium <= Medium < high <= High`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierThresholds {
    pub medium: f64,
    pub high: f64,
}

/// A bundle's tiers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiers {
    pub medium: f64,
    pub high: f64,
    /// How far past a limit a customer's value must be before the tier changes; absent means not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hysteresis: Option<Hysteresis>,
    /// Recalibration of P(spend < medium) and P(spend < high) under the predictive distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_medium: Option<LogOdds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_high: Option<LogOdds>,
    /// The share of the certainty that is lost where a feature is imputed or outside of what training saw: how much less
    /// of the order the model gets right without it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost_without: BTreeMap<String, f64>,
    /// What customers spent by their prediction. Without it a confidence is the probability of the tier, and limits by
    /// share cannot be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bands: Option<Bands>,
}

/// Tier limits of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TierLimits {
    /// US dollars of expected spend, for customers of every information set.
    Dollars(TierThresholds),
    /// The shares of customers that each information set has in High and in Medium.
    Shares { high: f64, medium: f64 },
}

/// Recalibration of a probability on the log-odds scale: `intercept + slope × log-odds` (Platt 1999).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogOdds {
    pub intercept: f64,
    /// Above 0.
    pub slope: f64,
}

/// For each limit, the dead band around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hysteresis {
    pub medium: Band,
    pub high: Band,
}

/// A dead band as multiples of the limit: a customer below it rises at `rise × limit`, one above falls below
/// `fall × limit`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// 0 to 1.
    pub fall: f64,
    /// 1 or more.
    pub rise: f64,
}

impl LogOdds {
    /// The recalibrated probability; what is certain stays certain.
    pub fn at(&self, probability: f64) -> f64 {
        if probability <= 0.0 || probability >= 1.0 {
            return probability;
        }
        let odds = self.intercept + self.slope * (probability / (1.0 - probability)).ln();
        1.0 / (1.0 + (-odds).exp())
    }
}

impl Tiers {
    /// Limits and nothing else.
    pub fn between(medium: f64, high: f64) -> Self {
        Self {
            medium,
            high,
            hysteresis: None,
            below_medium: None,
            below_high: None,
            lost_without: BTreeMap::new(),
            bands: None,
        }
    }

    pub fn thresholds(&self) -> TierThresholds {
        TierThresholds { medium: self.medium, high: self.high }
    }

    /// The limits in effect. `None` when shares are asked for and there are no bands.
    pub fn limits(&self, overriding: Option<TierLimits>) -> Option<TierThresholds> {
        match overriding {
            None => Some(self.thresholds()),
            Some(TierLimits::Dollars(limits)) => Some(limits),
            Some(TierLimits::Shares { high, medium }) => {
                let bands = self.bands.as_ref()?;
                Some(TierThresholds { medium: bands.limit(high + medium), high: bands.limit(high) })
            }
        }
    }
}

impl TierThresholds {
    /// The tier that holds `value` for a customer about whom nothing was said before.
    pub fn tier(&self, value: f64) -> Tier {
        if value >= self.high {
            Tier::High
        } else if value >= self.medium {
            Tier::Medium
        } else {
            Tier::Low
        }
    }

    /// The tier of a customer who was in `previous`: the old one, unless the value is clearly past a limit.
    pub fn tier_from(&self, value: f64, previous: Tier, hysteresis: &Hysteresis) -> Tier {
        let passes = |limit: f64, band: Band, was_above: bool| {
            let factor = if was_above { band.fall } else { band.rise };
            value >= limit * factor
        };
        if passes(self.high, hysteresis.high, previous >= Tier::High) {
            Tier::High
        } else if passes(self.medium, hysteresis.medium, previous >= Tier::Medium) {
            Tier::Medium
        } else {
            Tier::Low
        }
    }

    /// The spend range of a tier in US dollars: from (inclusive) to (exclusive).
    pub fn range(&self, tier: Tier) -> (f64, f64) {
        match tier {
            Tier::Low => (f64::NEG_INFINITY, self.medium),
            Tier::Medium => (self.medium, self.high),
            Tier::High => (self.high, f64::INFINITY),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: TierThresholds = TierThresholds { medium: 10.0, high: 100.0 };

    fn bands() -> Hysteresis {
        Hysteresis { medium: Band { fall: 0.8, rise: 1.25 }, high: Band { fall: 0.7, rise: 1.5 } }
    }

    #[test]
    fn a_customer_moves_only_when_clearly_past_a_limit() {
        let from = |value, previous| LIMITS.tier_from(value, previous, &bands());
        assert_eq!(from(11.0, Tier::Low), Tier::Low);
        assert_eq!(from(12.5, Tier::Low), Tier::Medium);
        assert_eq!(from(9.0, Tier::Medium), Tier::Medium);
        assert_eq!(from(7.9, Tier::Medium), Tier::Low);
        assert_eq!(from(149.0, Tier::Medium), Tier::Medium);
        assert_eq!(from(150.0, Tier::Low), Tier::High, "a leap passes both limits");
        assert_eq!(from(70.0, Tier::High), Tier::High);
        assert_eq!(from(9.0, Tier::High), Tier::Medium, "was above the lower limit too");
    }

    #[test]
    fn log_odds_keep_what_is_certain() {
        let doubled = LogOdds { intercept: 0.0, slope: 2.0 };
        assert_eq!([doubled.at(0.0), doubled.at(0.5), doubled.at(1.0)], [0.0, 0.5, 1.0]);
        assert!((doubled.at(0.75) - 0.9).abs() < 1e-12, "odds of 3 become odds of 9");
    }

    proptest! {
        #[test]
        fn more_value_never_means_a_lower_tier(a in 0.0..300.0f64, b in 0.0..300.0f64, previous in 0..3usize) {
            let previous = Tier::ALL[previous];
            let low = a.min(b);
            let high = a.max(b);
            prop_assert!(LIMITS.tier(low) <= LIMITS.tier(high));
            prop_assert!(LIMITS.tier_from(low, previous, &bands()) <= LIMITS.tier_from(high, previous, &bands()));
        }

        #[test]
        fn the_same_value_twice_changes_nothing_the_second_time(value in 0.0..300.0f64, previous in 0..3usize) {
            let first = LIMITS.tier_from(value, Tier::ALL[previous], &bands());
            prop_assert_eq!(LIMITS.tier_from(value, first, &bands()), first);
        }

        #[test]
        fn ranges_hold_their_tier(value in 0.0..300.0f64) {
            let (from, to) = LIMITS.range(LIMITS.tier(value));
            prop_assert!(from <= value && value < to);
        }
    }
}
