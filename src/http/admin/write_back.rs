//! `/admin/write-back`: what waits to be written to profiles, what could not be and why, and trying that again. A customer is
//! shown by the first digits of their key.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::edge::error::{ApiError, Code, error_response};
use crate::http::edge::request_id::RequestId;
use crate::http::openapi::{Operation, Tag};
use crate::http::state::{HttpState, SharedState, WriteBackDesk};
use crate::http::wire::json::respond;
use scoreline_domain::JobName;
use scoreline_domain::privacy::audit::{Actor, AuditAction, AuditOutcome};
use scoreline_domain::time::{Clock as _, SystemClock};
use scoreline_store::{FailedWrite, OutboxCounts, Store, WishState};

/// Failures that are shown.
const SHOWN: usize = 100;

#[derive(Serialize, ToSchema)]
#[schema(as = WriteBack)]
struct WriteBackBody {
    target: &'static str,
    pending: u64,
    /// Of the pending ones, those that failed before.
    failing: u64,
    applied: u64,
    /// The platform has no such contact.
    absent: u64,
    dead: u64,
    /// Those that failed most often first, at most a hundred.
    failures: Vec<FailureBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FailedWrite)]
pub(crate) struct FailureBody {
    /// The first digits of the key.
    pub(crate) key: String,
    pub(crate) state: &'static str,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub(crate) next_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Retried)]
struct RetriedBody {
    retried: u64,
}

impl WriteBackDesk {
    fn open(&self) -> Result<(&Store, &'static str), ApiError> {
        let target = self
            .target
            .ok_or_else(|| ApiError::new(Code::NotFound, "nothing is written back: `write_back.sink` is `none`"))?;
        let store = self.store.get().ok_or_else(ApiError::store_not_open)?;
        Ok((store, target))
    }

    async fn look(&self) -> Result<WriteBackBody, ApiError> {
        let (store, target) = self.open()?;
        let OutboxCounts { pending, failing, applied, absent, dead, .. } = store.outbox_counts(target).await?;
        let failures = store.failed_writes(target, SHOWN).await?;
        let failures = failures.into_iter().map(FailureBody::from).collect();
        Ok(WriteBackBody { target, pending, failing, applied, absent, dead, failures })
    }

    async fn retry(&self) -> Result<u64, ApiError> {
        let (store, target) = self.open()?;
        Ok(store.retry_writes(target, SystemClock.now()).await?)
    }
}

pub(crate) fn describe() -> Operation {
    Operation::new(Tag::Administration, "write_back", "What waits to be written to profiles, and what could not be")
        .gives::<WriteBackBody>(StatusCode::OK, "The profiles.")
        .refuses(&[Code::NotFound, Code::StoreUnavailable])
}

pub(crate) fn describe_retry() -> Operation {
    Operation::new(Tag::Administration, "retry_write_back", "Tries profiles again that are dead or absent")
        .gives::<RetriedBody>(StatusCode::OK, "How many.")
        .refuses(&[Code::NotFound, Code::StoreUnavailable])
}

pub(crate) async fn handle(State(desk): State<WriteBackDesk>) -> Response {
    match desk.look().await {
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
    let retried = app.write_back.retry().await;
    let outcome = if retried.is_ok() { AuditOutcome::Done } else { AuditOutcome::Failed };
    let (now, target) = (app.scorer.now(), app.write_back.target.unwrap_or("none"));
    app.monitoring.journal().asked(now, actor, AuditAction::RetryWriteBack, target, outcome, request_id);
    if retried.is_ok() {
        (app.jobs.nudge)(JobName::WriteBack);
    }
    retried
}

impl From<FailedWrite> for FailureBody {
    fn from(failure: FailedWrite) -> Self {
        Self {
            key: format!("{:?}", failure.key),
            state: failure.state.as_str(),
            attempts: failure.attempts,
            reason: failure.reason.into(),
            next_at: (failure.state != WishState::Dead).then(|| failure.next_at.to_string()),
        }
    }
}
