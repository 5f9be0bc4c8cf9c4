//! The `comparison` of `/admin/models`: how a candidate's scores differ from those of the version that serves.

use serde::Serialize;
use utoipa::ToSchema;

use crate::monitoring::comparison::Summary;
use crate::monitoring::trials::TrialStatus;
use scoreline_domain::score::round;
use scoreline_engine::inference::manifest::Task;
use scoreline_engine::inference::registry::{VersionState, VersionStatus};

#[derive(Serialize, ToSchema)]
#[schema(as = Comparison)]
pub(super) struct ComparisonBody {
    /// The version that serves.
    against: String,
    /// Rows that the candidate scored, could not score, and that were not compared for want of time.
    scored: u64,
    failures: u64,
    dropped: u64,
    /// Rows that both models scored.
    rows: u64,
    #[serde(flatten)]
    found: Option<FoundBody>,
}

/// Deltas are candidate minus serving.
#[derive(Serialize, ToSchema)]
#[schema(as = ComparisonFound)]
struct FoundBody {
    #[schema(required = false)]
    delta: DeltaBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank_correlation: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier_flips: Option<FlipsBody>,
    #[schema(required = false)]
    latency_ms: LatencyBody,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ComparisonDelta)]
struct DeltaBody {
    /// `usd`, or `points` of a probability.
    unit: &'static str,
    mean: f64,
    mean_abs: f64,
    p05: f64,
    p50: f64,
    p95: f64,
    /// The last rows, which the quantiles and the rank correlation are over.
    quantile_rows: usize,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TierFlips)]
struct FlipsBody {
    up: f64,
    down: f64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ComparisonLatency)]
struct LatencyBody {
    serving: f64,
    candidate: f64,
}

impl ComparisonBody {
    /// Of a candidate that was put to the test at least once.
    pub(super) fn of(status: &VersionStatus, trials: &[TrialStatus]) -> Option<Self> {
        let snapshot = status.snapshot.as_ref().filter(|_| status.state == VersionState::Candidate)?;
        let trial = trials.iter().find(|trial| trial.model == status.model && trial.digest == *snapshot.digest())?;
        let unit = match snapshot.task() {
            Task::Clv => "usd",
            Task::Lead => "points",
        };
        Some(Self {
            against: trial.against.to_string(),
            scored: trial.scored,
            failures: trial.failures,
            dropped: trial.dropped,
            rows: trial.summary.map_or(0, |summary| summary.rows),
            found: trial.summary.map(|summary| FoundBody::new(&summary, unit)),
        })
    }
}

impl FoundBody {
    fn new(summary: &Summary, unit: &'static str) -> Self {
        let rounded = |value| round(value, 1e4);
        Self {
            delta: DeltaBody {
                unit,
                mean: rounded(summary.mean),
                mean_abs: rounded(summary.mean_abs),
                p05: rounded(summary.p05),
                p50: rounded(summary.p50),
                p95: rounded(summary.p95),
                quantile_rows: summary.window,
            },
            rank_correlation: summary.rank_correlation.map(rounded),
            tier_flips: summary.flips.map(|flips| FlipsBody { up: rounded(flips.up), down: rounded(flips.down) }),
            latency_ms: LatencyBody {
                serving: rounded(summary.serving_seconds * 1e3),
                candidate: rounded(summary.candidate_seconds * 1e3),
            },
        }
    }
}
