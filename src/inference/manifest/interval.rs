//! `[interval]`: what the server needs to put a prediction interval around a value.

use serde::{Deserialize, Serialize};

use crate::domain::Probability;

/// Split-conformal calibration, Mondrian by activity group: residuals `(y - f) / (f + offset)` of customers that
/// were not used for fitting (Romano, Patterson & Candes 2019; Bostrom et al. 2021).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    pub method: CalibrationMethod,
    /// The level of the interval that is answered, e.g. 0.9.
    pub level: f64,
    /// US dollars added to the prediction in the denominator, so that small predictions keep a width.
    pub offset: f64,
    /// The feature whose value picks the group; a customer without it falls in the `unknown` row.
    pub group_by: String,
    /// Features that must be given too, or the customer falls in the `unknown` row: without them the model answers
    /// from another part of itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_with: Vec<String>,
    /// At and above this probability of no purchase the lower bound is 0 and the upper bound one-sided.
    #[serde(default = "default_one_sided_risk")]
    pub one_sided_risk: f64,
    /// Over all calibration customers; used when a group has fewer than 100 of them.
    pub pooled: CalibrationGroup,
    /// Customers whose `group_by` feature is not given, calibrated on what the model says without it; `pooled` where
    /// this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<CalibrationGroup>,
    /// Ascending by `from`.
    pub groups: Vec<CalibrationGroup>,
}

fn default_one_sided_risk() -> f64 {
    0.05
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    ScaledResidual,
}

/// One group's residual quantiles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationGroup {
    /// The group starts at this value of `group_by` and ends below the next group's.
    pub from: f64,
    /// Calibration customers in the group.
    pub n: u32,
    /// Residual at rank ceil((n + 1) × level): the one-sided upper bound.
    pub upper: f64,
    /// Residuals at the two-sided ranks, (1 - level) / 2 on either side.
    pub two_sided: [f64; 2],
    /// Share of the group without any purchase.
    pub zero_share: Probability,
    /// Residuals at equally spaced ranks, ascending: the group's predictive distribution for models that give only
    /// a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residuals: Vec<f64>,
}
