//! `[tiers]`: where the value tiers begin.

use serde::{Deserialize, Serialize};

/// Tier limits in US dollars of expected spend, fixed at training: `Low < medium <= Medium < high <= High`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierThresholds {
    pub medium: f64,
    pub high: f64,
}
