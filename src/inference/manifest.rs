//! `bundle.toml`: what a bundle says about its model. Read by the server, written by training and `models pack`.
//!
//! Every table refuses keys it does not know, so that a typo is named instead of silently ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;
use crate::domain::{ModelName, ModelVersion, Probability};
use crate::features::FeatureRule;

/// The one manifest format this program reads and writes.
pub const BUNDLE_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub bundle_version: u32,
    pub name: ModelName,
    pub version: ModelVersion,
    pub task: Task,
    pub backend: BackendKind,
    /// Model file beside the manifest: a bare file name.
    pub file: String,
    /// SHA-256 of that file, 64 hex digits.
    pub sha256: String,
    pub trained_at: Timestamp,
    /// What `clv_value_usd` covers: expected spend over this many days.
    pub horizon_days: u32,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// A customer with 0 here has no history and is answered from a baseline.
    #[serde(default = "default_cold_start_feature")]
    pub cold_start_feature: String,
    /// Whether the model reads z-scores of its (transformed) features.
    #[serde(default)]
    pub standardize: bool,
    pub outputs: Outputs,
    pub tiers: TierThresholds,
    pub neutral: Baseline,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Calibration>,
    #[serde(default)]
    pub training: TrainingSummary,
    #[serde(default)]
    pub baselines: Baselines,
    pub features: Vec<FeatureRule>,
}

fn default_cold_start_feature() -> String {
    "frequency_count".to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    Clv,
    Lead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Tree ensembles in ONNX, compiled and run natively.
    Trees,
    /// Linear models: scoreline's own JSON (trained with linfa) or ONNX linear graphs.
    Linear,
    /// Any other ONNX graph, through ONNX Runtime.
    Onnx,
    /// Forests and boosted trees serialised by smartcore.
    Smartcore,
}

impl BackendKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trees => "trees",
            Self::Linear => "linear",
            Self::Onnx => "onnx",
            Self::Smartcore => "smartcore",
        }
    }
}

/// Which model output means what. `value` (or `probability` for a lead model) is required.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outputs {
    /// Expected spend over the horizon, US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Output>,
    /// Probability of no purchase within the horizon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Output>,
    /// Bounds from quantile outputs, where the model has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Output>,
    /// Mean and standard deviation of ln(spend) given any spend: with `risk`, the whole predictive distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_mean: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_sigma: Option<Output>,
    /// Lead models: probability of conversion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<Output>,
}

/// A model output by name, with what is still to be done to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Output {
    /// The column as it is.
    Name(String),
    Mapped(MappedOutput),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappedOutput {
    pub output: String,
    pub apply: Apply,
}

/// A last step from a model's own scale to dollars or a probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Apply {
    Identity,
    /// e^x, for models of ln(spend).
    Exp,
    /// e^x - 1, for models of ln(1 + spend).
    Expm1,
    /// 1 - x, for a probability of purchase served as a risk.
    Complement,
    /// 1 / (1 + e^-x), for a raw margin.
    Sigmoid,
}

impl Apply {
    pub fn to(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Exp => x.exp(),
            Self::Expm1 => x.exp_m1(),
            Self::Complement => 1.0 - x,
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }
}

impl Output {
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Mapped(mapped) => &mapped.output,
        }
    }

    pub fn apply(&self) -> Apply {
        match self {
            Self::Name(_) => Apply::Identity,
            Self::Mapped(mapped) => mapped.apply,
        }
    }
}

/// Tier limits in US dollars of expected spend, fixed at training: `Low < medium <= Medium < high <= High`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierThresholds {
    pub medium: f64,
    pub high: f64,
}

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

/// Answers for customers the model can not score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baselines {
    /// How the tables were made, for people.
    #[serde(default)]
    pub note: String,
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

/// Where the model comes from; shown by `models list` and `/admin/models`, never used to compute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSummary {
    #[serde(default)]
    pub data: String,
    /// What in the training data was simulated. Empty means nothing was.
    #[serde(default)]
    pub synthetic: String,
    #[serde(default)]
    pub licence: String,
    #[serde(default)]
    pub command: String,
    #[serde(default)]
    pub rows: u32,
    #[serde(default)]
    pub calibration_rows: u32,
    #[serde(default)]
    pub seed: u64,
    /// Measured on customers used neither for fitting nor for calibration.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}
