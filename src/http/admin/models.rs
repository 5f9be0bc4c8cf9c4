//! `/admin/models`: every version on disk with its state, and why a refused one was refused; and the three calls that
//! choose a version.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::comparison::ComparisonBody;
use crate::http::edge::deadline::kept_in_time;
use crate::http::edge::error::{ApiError, Code, error_response};
use crate::http::edge::request_id::RequestId;
use crate::http::openapi::{Operation, Tag, shape};
use crate::http::state::SharedState;
use crate::http::wire::json::respond;
use crate::monitoring::Monitoring;
use crate::monitoring::drift::{ColumnStatus, DriftStatus};
use crate::monitoring::journal::acting;
use crate::scoring::Scorer;
use scoreline_domain::Tier;
use scoreline_domain::privacy::audit::{Actor, AuditAction, AuditOutcome};
use scoreline_domain::score::{cents, round};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::TierWorth;
use scoreline_engine::inference::manifest::TierOutcome;
use scoreline_engine::inference::registry::{CandidateMode, ChangeFault, Hold, Registry, VersionState, VersionStatus};

#[derive(Serialize, ToSchema)]
struct Models {
    models: Vec<ModelBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ModelVersion)]
struct ModelBody {
    name: String,
    version: String,
    state: &'static str,
    /// Whether it answers requests. A serving version whose files were damaged since is refused and serves on.
    serving: bool,
    /// `pinned` by the settings or `promoted` by a call, when that is why this version serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<CandidateBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(flatten)]
    loaded: Option<LoadedBody>,
    /// Of the version that serves, when its bundle carries a reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<DriftBody>,
    /// Of a candidate: how it differs from the version that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<ComparisonBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Candidate)]
struct CandidateBody {
    mode: &'static str,
    /// Of the requests it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LoadedModel)]
struct LoadedBody {
    #[schema(required = false)]
    digest: String,
    /// Of a lone model file without a manifest: the version whose manifest it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    inherited_from: Option<String>,
    #[schema(required = false)]
    task: &'static str,
    #[schema(required = false)]
    backend: &'static str,
    #[schema(required = false, format = DateTime)]
    trained_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    horizon_days: Option<u32>,
    #[schema(required = false)]
    description: String,
    #[schema(required = false)]
    synthetic: String,
    #[schema(required = false)]
    features: Vec<String>,
    /// What the tiers are worth, of calibration customers of whom everything is known and of each information set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tiers: Vec<TierSetBody>,
    #[schema(required = false)]
    metrics: std::collections::BTreeMap<String, f64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TierSet)]
struct TierSetBody {
    /// `all`, or the name of an information set.
    information: String,
    medium_usd: f64,
    high_usd: f64,
    tiers: Vec<TierOutcomeBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TierOutcome)]
struct TierOutcomeBody {
    #[schema(schema_with = shape::tier)]
    tier: Tier,
    /// Of all customers, and of all dollars.
    share: f64,
    share_of_spend: f64,
    /// Means in US dollars: what was predicted, and what was spent.
    predicted_usd: f64,
    spent_usd: f64,
    /// Share of the tier that spent anything.
    spends: f64,
}

impl TierSetBody {
    fn of(snapshot: &ModelSnapshot) -> Vec<Self> {
        let body = |worth: TierWorth| Self {
            information: worth.information,
            medium_usd: cents(worth.limits.medium),
            high_usd: cents(worth.limits.high),
            tiers: Tier::ALL.into_iter().zip(worth.outcomes).map(|(tier, of)| TierOutcomeBody::of(tier, &of)).collect(),
        };
        snapshot.tier_worth().into_iter().map(body).collect()
    }
}

impl TierOutcomeBody {
    fn of(tier: Tier, outcome: &TierOutcome) -> Self {
        Self {
            tier,
            share: round(outcome.share, 1e4),
            share_of_spend: round(outcome.dollars, 1e4),
            predicted_usd: cents(outcome.said),
            spent_usd: cents(outcome.spent),
            spends: round(1.0 - outcome.zero, 1e4),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Drift)]
struct DriftBody {
    /// When the open window began, and its rows so far.
    window_opened_at: String,
    window_rows: u64,
    /// Columns with a raised alarm.
    alarms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_window: Option<WindowBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DriftWindow)]
struct WindowBody {
    from: String,
    to: String,
    rows: u64,
    columns: Vec<ColumnBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DriftColumn)]
struct ColumnBody {
    /// A feature, or `score`.
    column: String,
    psi: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    alarm: bool,
    /// The values whose share changed most, and that share at training and in the window.
    most_moved: String,
    share_at_training: f64,
    share_now: f64,
}

pub(crate) fn describe() -> Operation {
    Operation::new(
        Tag::Administration,
        "models",
        "Every version on disk with its state, and why a refused one was refused",
    )
    .gives::<Models>(StatusCode::OK, "The versions.")
}

pub(crate) fn describe_promote() -> Operation {
    changes("promote_model", "Makes a version serve and keeps it").at("version", "Name of the version.")
}

pub(crate) fn describe_rollback() -> Operation {
    changes("roll_back_model", "Goes back to the version that served before and keeps it")
}

pub(crate) fn describe_latest() -> Operation {
    changes("follow_latest_model", "Lets the newest complete version serve, now and from now on")
}

fn changes(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Tag::Administration, id, summary)
        .at("model", "Name of the model.")
        .gives::<Models>(StatusCode::OK, "How the versions of the model stand then.")
        .refuses(&[Code::NotFound, Code::ModelNotChanged, Code::StoreUnavailable])
}

pub(crate) async fn handle(State(scorer): State<Scorer>, State(monitoring): State<Monitoring>) -> Response {
    let (drift, trials) = (monitoring.drift().status(), monitoring.trials().status());
    let with_drift = |status: VersionStatus| {
        let comparison = ComparisonBody::of(&status, &trials);
        let watched = drift.iter().find(|it| it.model == status.model && it.version == status.version);
        let drift = watched.filter(|_| status.snapshot.is_some()).map(DriftBody::from);
        ModelBody { drift, comparison, ..ModelBody::from(status) }
    };
    let models = scorer.registry().status().into_iter().map(with_drift).collect();
    respond(StatusCode::OK, &Models { models })
}

/// Makes a version serve and keeps it.
pub(crate) async fn promote(by: By, Path((model, version)): Path<(String, String)>) -> Response {
    let object = format!("{model}/{version}");
    by.change(AuditAction::PromoteModel, object, move |registry| registry.promote(&model, &version)).await
}

/// Goes back to the version that served before and keeps it.
pub(crate) async fn rollback(by: By, Path(model): Path<String>) -> Response {
    by.change(AuditAction::RollBackModel, model.clone(), move |registry| registry.rollback(&model)).await
}

/// Lets the newest complete version serve again.
pub(crate) async fn latest(by: By, Path(model): Path<String>) -> Response {
    by.change(AuditAction::FollowLatestModel, model.clone(), move |registry| registry.follow_latest(&model)).await
}

/// Who changes what serves, and under which request.
#[derive(FromRequestParts)]
#[from_request(state(SharedState))]
pub(crate) struct By {
    #[from_request(via(State))]
    scorer: Scorer,
    #[from_request(via(State))]
    monitoring: Monitoring,
    actor: Option<Extension<Actor>>,
    id: RequestId,
}

impl By {
    pub(super) fn actor(&self) -> Actor {
        self.actor.as_ref().map(|Extension(actor)| actor.clone()).unwrap_or_default()
    }

    pub(super) fn request_id(&self) -> &str {
        self.id.as_str()
    }

    /// Changes what serves, and answers how the model's versions stand then.
    async fn change(
        self,
        action: AuditAction,
        object: String,
        call: impl FnOnce(&Registry) -> Result<Vec<VersionStatus>, ChangeFault> + Send + 'static,
    ) -> Response {
        match self.apply(action, object, call).await {
            Ok(models) => {
                respond(StatusCode::OK, &Models { models: models.into_iter().map(ModelBody::from).collect() })
            }
            Err(err) => error_response(err),
        }
    }

    /// Changes what serves, away from the threads that answer requests; how the model's versions stand then.
    ///
    /// # Errors
    /// Says why nothing was changed.
    pub(super) async fn apply(
        self,
        action: AuditAction,
        object: String,
        call: impl FnOnce(&Registry) -> Result<Vec<VersionStatus>, ChangeFault> + Send + 'static,
    ) -> Result<Vec<VersionStatus>, ApiError> {
        let registry = Arc::clone(self.scorer.registry());
        let actor = self.actor();
        let who = actor.clone();
        let changing = tokio::task::spawn_blocking(move || acting(&who, || call(&registry)));
        // What is kept later than that is followed as if another replica had asked for it.
        let in_time = kept_in_time(Code::StoreUnavailable, changing).await;
        let changed = in_time.and_then(|changed| changed.map_err(|_| ApiError::new(Code::Internal, "internal error")));
        let outcome = match &changed {
            Ok(Ok(_)) => AuditOutcome::Done,
            Ok(Err(ChangeFault::NotKept(_))) | Err(_) => AuditOutcome::Failed,
            Ok(Err(_)) => AuditOutcome::Refused,
        };
        // A path holds what its caller wrote; a name that no model has is not worth a line of theirs.
        let unknown = matches!(changed, Ok(Err(ChangeFault::UnknownModel { .. } | ChangeFault::UnknownVersion { .. })));
        let object = if unknown { "unknown" } else { &object };
        self.monitoring.journal().asked(self.scorer.now(), &actor, action, object, outcome, self.id.as_str());
        match changed {
            Ok(Ok(models)) => Ok(models),
            Ok(Err(fault)) => {
                let code = match &fault {
                    ChangeFault::UnknownModel { .. } | ChangeFault::UnknownVersion { .. } => Code::NotFound,
                    ChangeFault::Pinned { .. }
                    | ChangeFault::Settling { .. }
                    | ChangeFault::Refused { .. }
                    | ChangeFault::NothingBefore { .. } => Code::ModelNotChanged,
                    ChangeFault::NotKept(_) => Code::StoreUnavailable,
                };
                Err(ApiError::new(code, fault.to_string()))
            }
            Err(err) => Err(err),
        }
    }
}

impl From<VersionStatus> for ModelBody {
    fn from(status: VersionStatus) -> Self {
        let refusal = status.state.refusal();
        let (code, reason) = match (&status.state, refusal) {
            (VersionState::Held { reason }, _) => (Some("held"), Some(reason.clone())),
            (_, Some((code, reason))) => (Some(code), Some(reason.to_owned())),
            (_, None) => (None, status.behind.clone()),
        };
        let candidate = status.trial.map(|mode| CandidateBody {
            mode: mode.as_str(),
            share: match mode {
                CandidateMode::Shadow => None,
                CandidateMode::Canary { share } => Some(share),
            },
        });
        let loaded = status.snapshot.as_deref().map(|snapshot| {
            let manifest = snapshot.manifest();
            LoadedBody {
                digest: snapshot.digest().to_string(),
                inherited_from: manifest.inherited_from.as_ref().map(ToString::to_string),
                task: manifest.task.as_str(),
                backend: manifest.backend.as_str(),
                trained_at: manifest.trained_at.to_string(),
                horizon_days: manifest.horizon_days,
                description: manifest.description.clone(),
                synthetic: manifest.training.synthetic.clone(),
                features: manifest.features.iter().map(|rule| rule.name.clone()).collect(),
                tiers: TierSetBody::of(snapshot),
                metrics: manifest.training.metrics.clone(),
            }
        });
        Self {
            name: status.model.to_string(),
            version: status.version.to_string(),
            state: status.state.as_str(),
            serving: status.serves,
            held: status.held.map(Hold::as_str),
            candidate,
            code,
            reason,
            loaded,
            drift: None,
            comparison: None,
        }
    }
}

impl From<&DriftStatus> for DriftBody {
    fn from(status: &DriftStatus) -> Self {
        let columns = status.closed.iter().flat_map(|window| &window.columns);
        Self {
            window_opened_at: status.opened_at.to_string(),
            window_rows: status.open_rows,
            alarms: columns.filter(|column| column.alarm).map(|column| column.subject.as_str().to_owned()).collect(),
            last_window: status.closed.as_ref().map(|window| WindowBody {
                from: window.from.to_string(),
                to: window.to.to_string(),
                rows: window.rows,
                columns: window.columns.iter().map(ColumnBody::from).collect(),
            }),
        }
    }
}

impl From<&ColumnStatus> for ColumnBody {
    fn from(status: &ColumnStatus) -> Self {
        let ColumnStatus { subject, psi, worst, worst_trained, alarm, .. } = status;
        Self {
            column: subject.as_str().to_owned(),
            psi: round(psi.value, 1e4),
            limit: psi.limit.is_finite().then(|| round(psi.limit, 1e4)),
            alarm: *alarm,
            most_moved: worst.clone(),
            share_at_training: round(*worst_trained, 1e4),
            share_now: round(psi.worst_share, 1e4),
        }
    }
}
