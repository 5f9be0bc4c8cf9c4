//! A small, complete CLV bundle in a temporary folder: a hurdle on four features whose numbers can be checked by hand.

use std::fs;
use std::path::Path;

use scoreline_engine::inference::bundle::sha256_hex;

/// A bundle to be written; tests change what they are about.
#[derive(Clone)]
pub struct TestBundle {
    pub name: String,
    pub version: String,
    pub model: String,
    /// An ONNX file in place of `model`.
    pub onnx: Option<Vec<u8>>,
    /// With `{name}`, `{version}`, `{sha256}` and `{hundredths}` to be filled in.
    pub manifest: &'static str,
    /// Text replacements on the manifest, applied last.
    pub edits: Vec<(String, String)>,
    pub golden: String,
}

impl TestBundle {
    pub fn clv(version: &str) -> Self {
        Self {
            name: "clv".into(),
            version: version.into(),
            model: hurdle(3.0),
            onnx: None,
            manifest: MANIFEST,
            edits: Vec::new(),
            golden: golden(),
        }
    }

    /// The same bundle with another intercept of ln(spend), so that its answers can be told apart.
    pub fn with_log_mean(self, log_mean: f64) -> Self {
        Self { model: hurdle(log_mean), golden: String::new(), ..self }
    }

    /// The same bundle around an ONNX model of the four features with the output `value`, on the raw scale.
    pub fn clv_onnx(version: &str, backend: &str, model: Vec<u8>) -> Self {
        let bundle = Self { onnx: Some(model), golden: String::new(), ..Self::clv(version) };
        bundle
            .edit("backend = \"linear\"", &format!("backend = \"{backend}\""))
            .edit("model.json", "model.onnx")
            .edit("standardize = true", "standardize = false")
            .edit("risk = \"risk\"\nlog_mean = \"log_mean\"\nlog_sigma = \"log_sigma\"\n", "")
    }

    pub fn edit(mut self, from: &str, to: &str) -> Self {
        self.edits.push((from.into(), to.into()));
        self
    }

    /// Writes the bundle to `<models>/<name>/<version>/`.
    pub fn write(&self, models: &Path) {
        let folder = models.join(&self.name).join(&self.version);
        fs::create_dir_all(&folder).expect("temporary folder is writable");
        let (file, model) = match &self.onnx {
            Some(onnx) => ("model.onnx", onnx.as_slice()),
            None => ("model.json", self.model.as_bytes()),
        };
        let mut manifest = self
            .manifest
            .replace("{name}", &self.name)
            .replace("{version}", &self.version)
            .replace("{sha256}", &sha256_hex(model))
            .replace("{hundredths}", &hundredths());
        for (from, to) in &self.edits {
            assert!(manifest.contains(from), "the manifest has `{from}`");
            manifest = manifest.replace(from, to);
        }
        fs::write(folder.join(file), model).expect("model is written");
        fs::write(folder.join("golden.jsonl"), &self.golden).expect("golden rows are written");
        fs::write(folder.join("bundle.toml"), manifest).expect("manifest is written");
    }
}

/// P(purchase) depends on recency alone, ln(spend) on frequency alone; both z-scored.
/// 0.01 to 0.99: a reference population of leads in which a probability's place is its hundredths, plus one.
fn hundredths() -> String {
    (1..100).map(|hundredth| format!("0.{hundredth:02},")).collect::<Vec<_>>().join(" ")
}

fn hurdle(log_mean: f64) -> String {
    format!(
        r#"{{"kind": "hurdle", "format": "scoreline-linear/1", "variants": [{{
            "uses": ["recency_days", "frequency_count"],
            "purchase": {{"intercept": 0.0, "coefficients": [-1.0, 0.0], "floor": -4.0, "ceiling": 4.0}},
            "spend": {{"intercept": {log_mean:?}, "coefficients": [0.0, 0.5], "floor": 0.0, "ceiling": 8.0}},
            "smearing": 1.5, "sigma": 0.9}}]}}"#
    )
}

/// recency 30 and frequency 10 are the training means: P = 1/2, value = 0.5 * 1.5 * e^3.
fn golden() -> String {
    let value = 0.75 * 3.0_f64.exp();
    format!(
        r#"{{"request": {{"features": {{"recency_days": 30, "frequency_count": 10}}}}, "expect": {{"clv_value_usd": {value}, "risk_score": 0.5}}, "tolerance": 1e-9}}"#
    )
}

const MANIFEST: &str = r#"
bundle_version = 1
name = "{name}"
version = "{version}"
task = "clv"
backend = "linear"
file = "model.json"
sha256 = "{sha256}"
trained_at = "2026-01-01T00:00:00Z"
horizon_days = 273
standardize = true

[outputs]
value = "value"
risk = "risk"
log_mean = "log_mean"
log_sigma = "log_sigma"

[tiers]
medium = 10.0
high = 40.0

[neutral]
value = 20.0
low = 0.0
high = 80.0
risk = 0.6
tier_share = [0.6, 0.3, 0.1]

[interval]
method = "scaled_residual"
level = 0.9
levels = [0.8, 0.9]
offset = 5.0
group_by = "frequency_count"

[interval.pooled]
from = -1.0
n = 1000
upper = [1.5, 2.0]
two_sided = [[-0.8, 2.0], [-0.9, 2.5]]
zero_share = 0.5

[[interval.groups]]
from = 1.0
n = 500
upper = [0.5, 1.0]
two_sided = [[-0.7, 0.9], [-0.8, 1.2]]
zero_share = 0.5

[baselines.channel.referral]
value = 30.0
low = 0.0
high = 120.0
risk = 0.5
tier_share = [0.5, 0.3, 0.2]
n = 200
weight = 0.8

[baselines.channel.organic]
value = 8.0
low = 0.0
high = 30.0
risk = 0.8
tier_share = [0.8, 0.15, 0.05]
n = 400
weight = 0.9

[baselines.segment.loyal]
value = 60.0
low = 0.0
high = 200.0
risk = 0.2
tier_share = [0.2, 0.3, 0.5]
n = 100
weight = 0.7

[[features]]
name = "recency_days"
unit = "days"
required = true
min = 0.0
max = 365.0
mean = 30.0
std = 30.0

[[features]]
name = "frequency_count"
unit = "count"
required = true
min = 0.0
max = 60.0
mean = 10.0
std = 10.0

[[features]]
name = "sentiment_score_avg"
unit = "score"
impute = 0.1
min = -1.0
max = 1.0
mean = 0.1
std = 0.4

[[features]]
name = "topic_diversity"
unit = "count"
impute = "mean"
min = 0.0
max = 12.0
mean = 3.0
std = 2.0
"#;
