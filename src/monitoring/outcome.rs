//! A prediction that was given, what came of it, and whether it is time to compare the two. Pure.
//!
//! An outcome is the spend of the `horizon_days` after the prediction's `scored_at`. One that is observed earlier is
//! kept as immature and feeds nothing. An outcome that does not bring its prediction belongs to the customer's last
//! recorded one whose horizon is over. Two outcomes are the same when customer, model, version and `scored_at` are; the
//! second is a duplicate and changes nothing, as long as the first is among the remembered ones.

use serde::{Deserialize, Serialize};

use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, ModelName, ModelVersion, Tier};
use scoreline_engine::inference::manifest::TierThresholds;

const SECONDS_PER_DAY: i64 = 86_400;

/// What a model said about a customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    pub version: ModelVersion,
    pub scored_at: Timestamp,
    /// The value covers this many days after `scored_at`.
    pub horizon_days: u32,
    /// Expected spend, US dollars.
    pub value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<LevelInterval>,
    /// Probability of no purchase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<AssignedTier>,
    /// The customer was routed as if there were no score.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
}

/// Bounds in US dollars and the share of customers they should hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelInterval {
    pub low: f64,
    pub high: f64,
    pub level: f64,
}

/// The tier that was assigned, what the model said of it, and the limits that decide which tier a spend is in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssignedTier {
    pub tier: Tier,
    /// Probability that the spend is in the tier. Kept under the name it was first kept under.
    #[serde(default, rename = "confidence", skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Probability that the order of tiers is right for this customer.
    #[serde(default, rename = "order", skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    pub limits: TierThresholds,
}

impl AssignedTier {
    /// Whether a spend lies in the tier that was assigned.
    pub fn is_hit(&self, spend_usd: f64) -> bool {
        self.limits.tier(spend_usd) == self.tier
    }
}

impl Prediction {
    /// When the horizon is over: seconds since the epoch.
    pub fn matures_at(&self) -> i64 {
        self.scored_at.as_second().saturating_add(i64::from(self.horizon_days) * SECONDS_PER_DAY)
    }
}

/// What a caller reports about a customer.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub customer: CustomerKey,
    pub model: ModelName,
    /// What the customer spent within the prediction's horizon, US dollars, finite and >= 0.
    pub spend_usd: f64,
    pub observed_at: Timestamp,
    /// The prediction it belongs to; the recorded one when absent.
    pub prediction: Option<Prediction>,
}

/// What an outcome says about its prediction.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    pub value: f64,
    pub spend_usd: f64,
    /// Level of the interval and whether it held the spend.
    pub covered: Option<(f64, bool)>,
    pub risk: Option<f64>,
    pub tier: Option<(Tier, bool)>,
    pub tier_probability: Option<f64>,
    pub confidence: Option<f64>,
    /// Routed as if there were no score.
    pub control: bool,
}

impl Judged {
    pub fn new(prediction: &Prediction, spend_usd: f64) -> Self {
        Self {
            value: prediction.value,
            spend_usd,
            covered: prediction.interval.map(|it| (it.level, it.low <= spend_usd && spend_usd <= it.high)),
            risk: prediction.risk,
            tier: prediction.tier.map(|assigned| (assigned.tier, assigned.is_hit(spend_usd))),
            tier_probability: prediction.tier.and_then(|assigned| assigned.probability),
            confidence: prediction.tier.and_then(|assigned| assigned.confidence),
            control: prediction.control,
        }
    }
}

/// What became of a reported outcome.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Kept, and part of the gauges from now on.
    Recorded(Prediction),
    /// Kept and counted, but the horizon is not over.
    Immature(Prediction),
    /// Known already; nothing was changed.
    Duplicate(Prediction),
    /// No prediction was given and none is recorded.
    Unmatched,
    /// The customer was erased; nothing is kept of them.
    Erased,
}

impl Verdict {
    pub const NAMES: [&'static str; 5] = ["recorded", "immature", "duplicate", "unmatched", "erased"];

    pub fn as_str(&self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// Position in `NAMES`.
    pub fn index(&self) -> usize {
        match self {
            Self::Recorded(_) => 0,
            Self::Immature(_) => 1,
            Self::Duplicate(_) => 2,
            Self::Unmatched => 3,
            Self::Erased => 4,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn prediction(scored_at: &str) -> Prediction {
        Prediction {
            version: ModelVersion::parse("v1").expect("a version"),
            scored_at: scored_at.parse().expect("a time"),
            horizon_days: 30,
            value: 20.0,
            interval: Some(LevelInterval { low: 0.0, high: 50.0, level: 0.9 }),
            risk: Some(0.25),
            tier: Some(AssignedTier {
                tier: Tier::Medium,
                probability: Some(0.5),
                confidence: None,
                limits: TierThresholds { medium: 10.0, high: 40.0 },
            }),
            control: false,
        }
    }

    /// An outcome with or without its prediction.
    pub fn told(customer: u8, given: bool, observed_at: &str) -> Outcome {
        Outcome {
            customer: CustomerKey::from_digest([customer; 32]),
            model: ModelName::parse("clv").expect("a name"),
            spend_usd: 5.0,
            observed_at: observed_at.parse().expect("a time"),
            prediction: given.then(|| prediction("2026-01-01T00:00:00Z")),
        }
    }

    #[test]
    fn a_tier_is_hit_by_a_spend_within_its_limits() {
        let limits = TierThresholds { medium: 10.0, high: 40.0 };
        let tier = |tier| AssignedTier { tier, probability: None, confidence: None, limits };
        let hits = |assigned| [9.99, 10.0, 39.99, 40.0].map(|spend| tier(assigned).is_hit(spend));
        assert_eq!(hits(Tier::Low), [true, false, false, false]);
        assert_eq!(hits(Tier::Medium), [false, true, true, false]);
        assert_eq!(hits(Tier::High), [false, false, false, true]);
    }
}
