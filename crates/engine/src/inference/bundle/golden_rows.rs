//! `golden.jsonl`: requests with the answers a bundle promises, one in a line.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::BundleError;
use crate::features::Value;
use scoreline_domain::Tier;
use scoreline_domain::text::in_plain_words;

/// One line of `golden.jsonl`: a request and the answer the model must give.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRow {
    pub request: GoldenRequest,
    pub expect: GoldenAnswer,
    /// Largest accepted difference, relative to the larger of the expected number and 1.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
}

fn default_tolerance() -> f64 {
    1e-6
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRequest {
    pub features: BTreeMap<String, Option<GoldenValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquisition_channel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_source: Option<String>,
}

/// A feature of a golden request: a number or a category.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum GoldenValue {
    Number(f64),
    Text(String),
}

impl From<f64> for GoldenValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a GoldenValue> for Value<'a> {
    fn from(value: &'a GoldenValue) -> Self {
        match value {
            GoldenValue::Number(number) => Self::Number(*number),
            GoldenValue::Text(text) => Self::Text(text),
        }
    }
}

/// Expected numbers; those left out are not checked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenAnswer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clv_value_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_interval_low: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_interval_high: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_score: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_score: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clv_tier: Option<Tier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_score: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion_probability: Option<f64>,
}

/// Reads the lines of `golden.jsonl`; empty ones are skipped.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<GoldenRow>, BundleError> {
    let mut rows = Vec::new();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        rows.push(serde_json::from_slice(line).map_err(|err| BundleError::Text {
            path: path.to_owned(),
            reason: format!("line {}: {}", number + 1, in_plain_words(&err.to_string())),
        })?);
    }
    Ok(rows)
}
