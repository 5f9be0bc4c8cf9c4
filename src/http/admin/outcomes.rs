//! `/admin/outcomes`: how the answers of each model version turned out, and the state of the ledger.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::openapi::{Operation, Tag, shape};
use crate::http::routes::outcomes::NOT_KEPT;
use crate::http::state::{Readiness, StoreTrouble};
use crate::http::wire::json::respond;
use crate::monitoring::Monitoring;
use crate::monitoring::ledger::LedgerStatus;
use crate::monitoring::quality::{Calibrated, Earned, Quality, Share};
use scoreline_domain::Tier;
use scoreline_domain::score::{cents, round};

pub(crate) fn describe() -> Operation {
    Operation::new(Tag::Administration, "outcomes", "How the answers of each model version turned out")
        .gives::<OutcomesBody>(StatusCode::OK, "What is known.")
}

pub(crate) async fn handle(State(monitoring): State<Monitoring>, State(readiness): State<Readiness>) -> Response {
    let body = match monitoring.ledger() {
        Some(ledger) => OutcomesBody::kept(ledger.status(), readiness.store_trouble()),
        None => OutcomesBody { kept: false, reason: Some(NOT_KEPT.to_owned()), ledger: None, models: Vec::new() },
    };
    respond(StatusCode::OK, &body)
}

#[derive(Serialize, ToSchema)]
#[schema(as = Outcomes)]
struct OutcomesBody {
    kept: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<LedgerBody>,
    models: Vec<QualityBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OutcomeLedger)]
struct LedgerBody {
    predictions_waiting: usize,
    outcomes_remembered: usize,
    /// Reported before the horizon was over.
    immature: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ModelQuality)]
struct QualityBody {
    model: String,
    version: String,
    outcomes: usize,
    coverage: Vec<CoverageBody>,
    predicted_total_usd: f64,
    actual_total_usd: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted_to_actual: Option<f64>,
    no_purchase: ShareBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<CalibratedBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier_probability: Option<CalibratedBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<CalibratedBody>,
    /// What routing by value earns, with its 95 % bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_by_value: Option<EarnedBody>,
    tiers: Vec<TierBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Coverage)]
struct CoverageBody {
    level: f64,
    #[serde(flatten)]
    observed: ShareBody,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Earned)]
struct EarnedBody {
    customers: usize,
    control_customers: usize,
    mean_spend_usd: f64,
    control_mean_spend_usd: f64,
    earned_usd: f64,
    earned_low_usd: f64,
    earned_high_usd: f64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TierHits)]
struct TierBody {
    #[schema(schema_with = shape::tier)]
    tier: Tier,
    #[serde(flatten)]
    hit: ShareBody,
}

/// A share with its 95 % bounds.
#[derive(Serialize, ToSchema)]
#[schema(as = Share)]
struct ShareBody {
    n: usize,
    share: f64,
    low: f64,
    high: f64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Calibrated)]
struct CalibratedBody {
    n: usize,
    predicted: f64,
    observed: f64,
    calibration_error: f64,
}

impl OutcomesBody {
    fn kept(status: LedgerStatus, trouble: Option<StoreTrouble>) -> Self {
        let LedgerStatus { predictions, outcomes, immature, open, quality } = status;
        let models = quality
            .into_iter()
            .map(|(model, version, quality)| QualityBody::new(model.to_string(), version.to_string(), quality));
        let trouble = trouble.or_else(|| (!open).then_some(StoreTrouble::NotOpen));
        Self {
            kept: trouble.is_none(),
            reason: trouble.map(StoreTrouble::reason),
            ledger: Some(LedgerBody { predictions_waiting: predictions, outcomes_remembered: outcomes, immature }),
            models: models.collect(),
        }
    }
}

impl QualityBody {
    fn new(model: String, version: String, quality: Quality) -> Self {
        let coverage = quality.coverage.into_iter();
        let tiers = quality.tiers.into_iter();
        Self {
            model,
            version,
            outcomes: quality.outcomes,
            coverage: coverage.map(|(level, share)| CoverageBody { level, observed: share.into() }).collect(),
            predicted_total_usd: cents(quality.predicted_total),
            actual_total_usd: cents(quality.actual_total),
            predicted_to_actual: quality.total_ratio.map(|ratio| round(ratio, 1e4)),
            no_purchase: quality.no_purchase.into(),
            risk: quality.risk.map(Into::into),
            tier_probability: quality.tier_probability.map(Into::into),
            confidence: quality.confidence.map(Into::into),
            routing_by_value: quality.earned.map(Into::into),
            tiers: tiers.map(|(tier, share)| TierBody { tier, hit: share.into() }).collect(),
        }
    }
}

impl From<Earned> for EarnedBody {
    fn from(earned: Earned) -> Self {
        Self {
            customers: earned.routed,
            control_customers: earned.control,
            mean_spend_usd: cents(earned.routed_mean),
            control_mean_spend_usd: cents(earned.control_mean),
            earned_usd: cents(earned.difference),
            earned_low_usd: cents(earned.low),
            earned_high_usd: cents(earned.high),
        }
    }
}

impl From<Share> for ShareBody {
    fn from(Share { n, share, low, high }: Share) -> Self {
        Self { n, share: round(share, 1e4), low: round(low, 1e4), high: round(high, 1e4) }
    }
}

impl From<Calibrated> for CalibratedBody {
    fn from(Calibrated { n, mean, observed, error }: Calibrated) -> Self {
        Self { n, predicted: round(mean, 1e4), observed: round(observed, 1e4), calibration_error: round(error, 1e4) }
    }
}
