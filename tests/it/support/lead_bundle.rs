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
reference = [{hundredths}]

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
