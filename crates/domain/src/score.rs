//! What a score is: a value with its interval, its risk, its confidence, its tier and where it came from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A finite number from 0 to 1.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Serialize)]
#[serde(transparent)]
pub struct Probability(f64);

/// How far rounding takes a probability out of 0 to 1.
const ROUNDING: f64 = 1e-6;

impl Probability {
    pub const ZERO: Self = Self(0.0);

    /// A probability as a model says it: what is outside 0 to 1 by rounding alone is clamped. `None` for what is no
    /// probability.
    pub fn read(value: f64) -> Option<Self> {
        (-ROUNDING..=1.0 + ROUNDING).contains(&value).then(|| Self(value.clamp(0.0, 1.0)))
    }

    /// Clamps into 0..=1; `None` for a value that is not a number.
    pub fn clamped(value: f64) -> Option<Self> {
        (!value.is_nan()).then(|| Self(value.clamp(0.0, 1.0)))
    }

    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Probability {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(serde::de::Error::custom(format!("a probability is from 0 to 1, got `{value}`")))
        }
    }
}

/// A prediction interval in US dollars that contains its point: `0 <= low <= point <= high`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Interval {
    low: f64,
    high: f64,
}

impl Interval {
    /// Widens the bounds where needed so that they hold the point and do not go below zero.
    /// `None` when a bound is not finite.
    pub fn around(point: f64, low: f64, high: f64) -> Option<Self> {
        (low.is_finite() && high.is_finite() && point.is_finite())
            .then(|| Self { low: low.min(point).max(0.0), high: high.max(point).max(0.0) })
    }

    pub fn low(self) -> f64 {
        self.low
    }

    pub fn high(self) -> f64 {
        self.high
    }
}

/// The three value tiers. Never more than a handful: a queue per hundred dollars cannot be staffed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Tier {
    #[serde(rename = "Low_Value")]
    Low,
    #[serde(rename = "Medium_Value")]
    Medium,
    #[serde(rename = "High_Value")]
    High,
}

impl Tier {
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// The name on the wire and in routing rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "Low_Value",
            Self::Medium => "Medium_Value",
            Self::High => "High_Value",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One customer's score, as one model version sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// Expected spend over the model's horizon, US dollars, >= 0.
    pub value: f64,
    /// Prediction interval at the model's level; absent when the model carries no calibration.
    pub interval: Option<Interval>,
    /// Probability of no purchase within the horizon.
    pub risk: Option<Probability>,
    /// Probability that the order the customer is routed by is right: that they spend more than a random customer of the
    /// tier below, or in the lowest tier less than one of the tier above, given that the two differ.
    pub confidence: Option<Probability>,
    /// Probability that what the customer spends lies within `tier`.
    pub tier_probability: Option<Probability>,
    pub tier: Tier,
}

/// US dollars to the cent. Rounding is monotone, so an interval still holds its value.
pub fn cents(amount: f64) -> f64 {
    round(amount, 100.0)
}

/// Rounds to `1 / scale`. Amounts too large for that are whole anyway.
pub fn round(value: f64, scale: f64) -> f64 {
    let scaled = value * scale;
    if scaled.is_finite() { scaled.round() / scale } else { value }
}

/// Where an answer came from, best first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The model ran for this request.
    Model,
    /// The same model gave this answer for the same customer and features within the last 24 hours.
    Cache,
    /// The model could not answer; this is the customer's last score, at most 24 hours old.
    StaleCache,
    /// A customer without history: the baseline of their acquisition channel or segment.
    ColdStart,
    /// The model could not answer and there is no recent score: a baseline.
    Fallback,
}

impl Source {
    pub const ALL: [Self; 5] = [Self::Model, Self::Cache, Self::StaleCache, Self::ColdStart, Self::Fallback];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Cache => "cache",
            Self::StaleCache => "stale_cache",
            Self::ColdStart => "cold_start",
            Self::Fallback => "fallback",
        }
    }

    /// Whether the answer is a normal one (`success`) or the ladder had to step down (`fallback`).
    pub fn is_success(self) -> bool {
        match self {
            Self::Model | Self::Cache | Self::ColdStart => true,
            Self::StaleCache | Self::Fallback => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_always_holds_its_point_and_never_goes_below_zero() {
        let interval = Interval::around(10.0, 12.0, 8.0).expect("finite");
        assert_eq!((interval.low(), interval.high()), (10.0, 10.0));
        let interval = Interval::around(1.0, -5.0, 8.0).expect("finite");
        assert_eq!((interval.low(), interval.high()), (0.0, 8.0));
        assert!(Interval::around(1.0, f64::NAN, 2.0).is_none());
    }

    #[test]
    fn a_probability_is_outside_its_range_by_rounding_alone() {
        let read = |value| Probability::read(value).map(Probability::get);
        assert_eq!([read(0.0), read(0.25), read(1.0)], [Some(0.0), Some(0.25), Some(1.0)]);
        assert_eq!([read(1.0 + 1e-7), read(-1e-7)], [Some(1.0), Some(0.0)]);
        for value in [1.001, -0.001, 1.7, -3.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    #[test]
    fn tiers_order_by_value() {
        assert!(Tier::Low < Tier::Medium && Tier::Medium < Tier::High);
    }
}
