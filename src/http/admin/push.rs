//! `/admin/push`: how scores of leads stand in each target, what could not be written and why, and trying that again. A lead is
//! shown by the first digits of its key.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::write_back::FailureBody;
use crate::http::edge::error::{ApiError, Code, error_response};
use crate::http::edge::request_id::RequestId;
use crate::http::openapi::{Operation, Tag};
use crate::http::state::{HttpState, SharedState};
use crate::http::wire::json::respond;
use crate::leads::LeadDesk;
use scoreline_domain::JobName;
use scoreline_domain::privacy::audit::{Actor, AuditAction, AuditOutcome};
use scoreline_domain::time::seconds_between;
use scoreline_store::OutboxCounts;

/// Failures that are shown.
const SHOWN: usize = 100;

#[derive(Serialize, ToSchema)]
#[schema(as = Push)]
pub(crate) struct PushBody {
    pub(crate) targets: Vec<TargetBody>,
    pub(crate) leads: LeadsBody,
}

/// Leads by whether their score counts.
#[derive(Serialize, ToSchema)]
#[schema(as = LeadCounts)]
pub(crate) struct LeadsBody {
    pub(crate) fresh: u64,
    pub(crate) stale: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PushTarget)]
pub(crate) struct TargetBody {
    pub(crate) target: String,
    /// `running`; `limited` for its rate, `silent` when it does not answer, `down` when somebody has to act.
    pub(crate) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub(crate) until: Option<String>,
    /// To be written, those that are read first included.
    pub(crate) pending: u64,
    pub(crate) unknown: u64,
    /// The target has no such contact.
    pub(crate) absent: u64,
    pub(crate) applied: u64,
    pub(crate) dead: u64,
    /// Leads that are called by an old score because the new one could not be written.
    pub(crate) drift: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) oldest_pending_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sweep: Option<SweepBody>,
    /// Those that failed most often first, at most a hundred.
    pub(crate) failures: Vec<FailureBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PushSweep)]
pub(crate) struct SweepBody {
    #[schema(format = DateTime)]
    pub(crate) started_at: String,
    /// Scores from before this moment become nothing.
    #[schema(format = DateTime)]
    cutoff: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Retried)]
struct RetriedBody {
    retried: u64,
}

/// How every target stands.
///
/// # Errors
/// When the store is not open, or does not answer.
pub(crate) async fn look(desk: &LeadDesk) -> Result<PushBody, ApiError> {
    let (store, now) = (desk.store()?, desk.now());
    let mut targets = Vec::new();
    for target in desk.targets() {
        let OutboxCounts { pending, failing, unknown, applied, absent, dead } = store.outbox_counts(target).await?;
        let pause = desk.pauses().of(target).filter(|pause| pause.until > now);
        let oldest = store.oldest_write(target).await?;
        let sweep = store.sweep_of(target).await?;
        targets.push(TargetBody {
            target: target.clone(),
            state: pause.as_ref().map_or("running", |pause| pause.state),
            until: pause.as_ref().map(|pause| format!("{:.3}", pause.until)),
            reason: pause.map(|pause| pause.reason),
            pending,
            unknown,
            absent,
            applied,
            dead,
            drift: failing + dead,
            oldest_pending_seconds: oldest.map(|oldest| seconds_between(oldest, now)),
            sweep: sweep.map(|sweep| SweepBody {
                started_at: format!("{:.3}", sweep.started_at),
                cutoff: format!("{:.3}", sweep.cutoff),
            }),
            failures: store.failed_writes(target, SHOWN).await?.into_iter().map(FailureBody::from).collect(),
        });
    }
    let (fresh, stale) = store.lead_counts(desk.settings().stale_before(now)).await?;
    Ok(PushBody { targets, leads: LeadsBody { fresh, stale } })
}

async fn again(desk: &LeadDesk) -> Result<u64, ApiError> {
    let store = desk.store()?;
    if desk.targets().is_empty() {
        return Err(ApiError::new(Code::NotFound, "scores of leads are not pushed: `push.sink` is `none`"));
    }
    let mut retried = 0;
    for target in desk.targets() {
        retried += store.retry_writes(target, desk.now()).await?;
    }
    Ok(retried)
}

pub(crate) fn describe() -> Operation {
    Operation::new(
        Tag::Administration,
        "push",
        "How scores of leads stand in each target, and what could not be written",
    )
    .gives::<PushBody>(StatusCode::OK, "The targets.")
    .refuses(&[Code::StoreUnavailable])
}

pub(crate) fn describe_retry() -> Operation {
    Operation::new(Tag::Administration, "retry_push", "Tries scores of leads again that are dead or absent")
        .gives::<RetriedBody>(StatusCode::OK, "How many.")
        .refuses(&[Code::NotFound, Code::StoreUnavailable])
}

pub(crate) async fn handle(State(desk): State<LeadDesk>) -> Response {
    match look(&desk).await {
        Ok(body) => respond(StatusCode::OK, &body),
        Err(err) => error_response(err),
    }
}

/// Lets what is dead or absent be tried again, at once.
pub(crate) async fn retry(State(app): State<SharedState>, actor: Option<Extension<Actor>>, id: RequestId) -> Response {
    let Extension(actor) = actor.unwrap_or_default();
    match retry_all(&app, &actor, id.as_str()).await {
        Ok(retried) => respond(StatusCode::OK, &RetriedBody { retried }),
        Err(err) => error_response(err),
    }
}

/// As `retry`, for somebody; how many there are.
pub(super) async fn retry_all(app: &HttpState, actor: &Actor, request_id: &str) -> Result<u64, ApiError> {
    let retried = again(&app.leads).await;
    let outcome = if retried.is_ok() { AuditOutcome::Done } else { AuditOutcome::Failed };
    let journal = app.monitoring.journal();
    journal.asked(app.scorer.now(), actor, AuditAction::RetryPush, "push", outcome, request_id);
    if retried.is_ok() {
        (app.jobs.nudge)(JobName::Push);
    }
    retried
}
