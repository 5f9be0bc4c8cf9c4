//! `[drift]`: how many training rows the drift bins of the features stand for, and the bins of the score.

use serde::{Deserialize, Serialize};

use crate::features::drift::DriftBins;

/// The frozen reference that live traffic is compared with. The bins of a feature are in its `[[features]]` entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftReference {
    /// Rows behind the bins of the features.
    pub rows: u32,
    /// Rows behind the bins of the score. Not the rows the model was fitted on: its answers to those are not what it
    /// says about a customer it has not seen.
    #[serde(default)]
    pub score_rows: u32,
    /// The predicted value in US dollars, or the probability of a lead model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<DriftBins>,
}

impl DriftReference {
    /// What is wrong with a reference that somebody wrote, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        match &self.score {
            _ if self.rows == 0 => Some("must have `rows` above 0"),
            Some(_) if self.score_rows == 0 => Some("must have `score_rows` above 0 beside `score`"),
            Some(bins) => bins.problem(),
            None => None,
        }
    }
}
