//! `[baselines]` and `[neutral]`: answers for customers the model cannot score.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use scoreline_domain::Probability;

/// Answers for customers the model cannot score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baselines {
    /// How the tables were made, for people.
    #[serde(default)]
    pub note: String,
    /// The day from which spend was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Date>,
    #[serde(default)]
    pub segment: BTreeMap<String, Baseline>,
    #[serde(default)]
    pub channel: BTreeMap<String, Baseline>,
}

/// A group's typical customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Expected spend over the horizon, US dollars, shrunk towards the overall mean.
    pub value: f64,
    /// Quantiles of the group's spend at the interval's level.
    pub low: f64,
    pub high: f64,
    /// Share without a purchase in the horizon.
    pub risk: Probability,
    /// Share of the group in Low, Medium and High.
    pub tier_share: [Probability; 3],
    /// Customers behind the figure, and the weight of their own mean against the overall mean.
    #[serde(default)]
    pub n: u32,
    #[serde(default)]
    pub weight: f64,
}
