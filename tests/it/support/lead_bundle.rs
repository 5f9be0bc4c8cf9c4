//! A small, complete lead bundle: one number, one category, one tree, numbers that can be checked by hand.

use super::TestBundle;

impl TestBundle {
    /// log odds = -2 + (age - 40) / 10 × 0.5 + 0.5 for `cellular`, -0.5 for `telephone`, + 1 above three previous calls.
    pub fn lead(version: &str) -> Self {
        Self {
            name: "lead".into(),
            version: version.into(),
            model: MODEL.into(),
            onnx: None,
            manifest: MANIFEST,
            edits: Vec::new(),
            golden: GOLDEN.into(),
        }
    }
}

const MODEL: &str = r#"{"format": "scoreline-additive/1", "intercept": -2.0,
    "terms": [{"number": "age", "coefficient": 0.5, "center": 40.0, "scale": 10.0},
        {"category": "contact", "coefficients": [0.5, -0.5], "missing": 0.0}],
    "trees": [[{"feature": "previous", "at_most": 3.0, "left": 1, "right": 2}, {"leaf": 0.0}, {"leaf": 1.0}]]}"#;

/// 1 / (1 + e^1.5) is between the 18th and the 19th hundredth.
const GOLDEN: &str = r#"{"request": {"features": {"age": 40, "contact": "cellular"}}, "expect": {"conversion_probability": 0.18242552380635635, "priority_score": 19}, "tolerance": 1e-9}
{"request": {"features": {"age": 40, "contact": "pigeon", "previous": null}}, "expect": {"conversion_probability": 0.11920292202211755, "priority_score": 12}, "tolerance": 1e-9}
"#;

/// The reference is 0.01 to 0.99: the place is the hundredths, plus one.
const MANIFEST: &str = r#"
bundle_version = 1
name = "{name}"
version = "{version}"
task = "lead"
backend = "linear"
file = "model.json"
sha256 = "{sha256}"
trained_at = "2026-01-01T00:00:00Z"

[outputs]
probability = "probability"

[lead]
population = "1,000 leads of May 2026"
rows = 1000
made_at = "2026-05-01T00:00:00Z"
base_rate = 0.125
reference = [
    0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.10, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17, 0.18, 0.19, 0.20,
    0.21, 0.22, 0.23, 0.24, 0.25, 0.26, 0.27, 0.28, 0.29, 0.30, 0.31, 0.32, 0.33, 0.34, 0.35, 0.36, 0.37, 0.38, 0.39, 0.40,
    0.41, 0.42, 0.43, 0.44, 0.45, 0.46, 0.47, 0.48, 0.49, 0.50, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56, 0.57, 0.58, 0.59, 0.60,
    0.61, 0.62, 0.63, 0.64, 0.65, 0.66, 0.67, 0.68, 0.69, 0.70, 0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.77, 0.78, 0.79, 0.80,
    0.81, 0.82, 0.83, 0.84, 0.85, 0.86, 0.87, 0.88, 0.89, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99,
]

[lead.sources.referral]
probability = 0.25
n = 120
weight = 0.8

[[features]]
name = "age"
unit = "years"
required = true
lowest = 0.0
highest = 130.0
min = 17.0
max = 98.0
mean = 40.0
std = 10.0

[[features]]
name = "contact"
impute = "none"
categories = ["cellular", "telephone"]
min = 0.0
max = 1.0
mean = 0.0
std = 1.0

[[features]]
name = "previous"
impute = "none"
min = 0.0
max = 7.0
mean = 0.2
std = 0.5
"#;
