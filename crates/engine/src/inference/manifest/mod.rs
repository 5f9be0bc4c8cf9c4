//! `bundle.toml`: what a bundle says about its model. Read by the server, written by training and `models pack`.
//!
//! Every table refuses keys it does not know, so that a typo is named instead of silently ignored.

mod bands;
mod baselines;
mod drift;
mod information;
mod interval;
mod lead;
mod outputs;
mod tiers;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::features::{DerivedRule, FeatureRule};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{ModelName, ModelVersion};

pub use bands::{Bands, TierOutcome};
pub use baselines::{Baseline, Baselines};
pub use drift::DriftReference;
pub use information::Information;
pub use interval::{Calibration, CalibrationGroup, CalibrationMethod};
pub use lead::{CUTS, LeadTable, NoReference, ScoreReference, SourceBaseline};
pub use outputs::{Apply, Curve, MappedOutput, Output, Outputs};
pub use tiers::{Band, Hysteresis, LogOdds, TierLimits, TierThresholds, Tiers};

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
    /// What `clv_value_usd` covers: expected spend over this many days. Required for a `clv` model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon_days: Option<u32>,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// Of a lone model file without a manifest: the version whose manifest this is. Never written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited_from: Option<ModelVersion>,
    /// A customer with 0 here has no history and is answered from a baseline: `frequency_count` for a `clv` model that
    /// names none, nobody for a `lead` model. Of several, the first that is given decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start_feature: Option<ColdStartFeature>,
    /// Whether the model reads z-scores of its (transformed) features.
    #[serde(default)]
    pub standardize: bool,
    pub outputs: Outputs,
    /// Required for a `clv` model, refused for a `lead` model; `neutral` likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiers: Option<Tiers>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neutral: Option<Baseline>,
    /// Required for a `lead` model, refused for a `clv` model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<LeadTable>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Calibration>,
    /// What live traffic is compared with; without it the model is not watched for drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftReference>,
    /// How customers are judged of whom less is known. Refused for a `lead` model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub information: Vec<Information>,
    #[serde(default)]
    pub training: TrainingSummary,
    #[serde(default)]
    pub baselines: Baselines,
    pub features: Vec<FeatureRule>,
    /// Columns the model reads behind the features.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived: Vec<DerivedRule>,
}

/// One feature or several, as `cold_start_feature` names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ColdStartFeature {
    One(String),
    Several(Vec<String>),
}

impl Manifest {
    /// The features whose 0 means a customer without history; the first that is given decides.
    pub fn cold_start(&self) -> Vec<&str> {
        match (&self.cold_start_feature, self.task) {
            (Some(ColdStartFeature::One(name)), _) => vec![name],
            (Some(ColdStartFeature::Several(names)), _) => names.iter().map(String::as_str).collect(),
            (None, Task::Clv) => vec!["frequency_count"],
            (None, Task::Lead) => Vec::new(),
        }
    }
}

/// The question a model answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// What a customer is worth.
    Clv,
    /// Which lead to call next.
    Lead,
}

impl Task {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clv => "clv",
            Self::Lead => "lead",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Tree ensembles in ONNX, compiled and run natively.
    Trees,
    /// Linear models: scoreline's own JSON or ONNX linear graphs.
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
    /// How `metrics` were measured: always on customers used neither for fitting nor for calibration.
    #[serde(default)]
    pub protocol: String,
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// What a perfect model shows on the same customers, of the metrics that luck moves most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub luck: BTreeMap<String, Luck>,
    /// Features that look like leaks and were accepted, each with the reason why it is known in time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allowed: BTreeMap<String, String>,
    /// Why it was published although its errors are larger than a model's should be. Empty where they are not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub accepted: String,
    /// Hashes of some rows that fitted the model, by which `models calibrate` knows them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fitted_sample: Vec<String>,
}

/// A figure of a perfect model, over draws of the outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Luck {
    pub mean: f64,
    /// 5 and 95 % of the draws.
    pub low: f64,
    pub high: f64,
}
