//! `[[information]]`: how customers are judged of whom less is known.

use serde::{Deserialize, Serialize};

use super::{Calibration, Tiers};
use crate::features::drift::DriftBins;

/// Customers without one kind of history, for example interactions and no purchases.
///
/// Predictions made from less lie closer together and miss by more: limits, intervals and the drift reference of customers
/// who are known better would put them all into the middle. Each set has its own tables, of the same training customers
/// as they are seen with so much less. A customer belongs to the first set that holds, or to the tables at the top of the
/// bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Information {
    pub name: String,
    /// The set holds where this feature is not given, or is 0.
    pub lacks: String,
    /// Features that say nothing without it: they are left out even where they are given, and need not be given where they
    /// are required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
    pub tiers: Tiers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Calibration>,
    /// Bins of the predicted value, as many as `drift.score` has. Where the features lay is the same in every set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<DriftBins>,
}

impl Information {
    /// Everything that is not read of who belongs to it.
    pub fn blank(&self) -> Vec<String> {
        [&self.lacks].into_iter().chain(&self.unread).cloned().collect()
    }

    /// Whether a value of `lacks` says that the set holds.
    pub fn is_lacking(value: f64) -> bool {
        value.is_nan() || value == 0.0
    }
}
