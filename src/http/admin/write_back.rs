//! `/admin/write-back`: what waits to be written to profiles, what could not be and why, and trying that again. A customer is
//! shown by the first digits of their key.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::http::edge::error::{ApiError, Code, error_response};
use crate::http::edge::request_id::RequestId;
use crate::http::state::{Jobs, WriteBackDesk};
use crate::http::wire::json::respond;
use scoreline_domain::JobName;
use scoreline_domain::privacy::audit::{self, Actor, AuditAction, AuditOutcome};
use scoreline_domain::time::{Clock as _, SystemClock};
use scoreline_store::{FailedWrite, ProfileCounts, Store};

/// Failures that are shown.
const SHOWN: usize = 100;

#[derive(Serialize)]
struct WriteBackBody {
    target: &'static str,
    pending: u64,
    /// Of the pending ones, those that failed before.
    failing: u64,
    applied: u64,
    dead: u64,
    /// Profiles that somebody else had changed when they were written once more.
    edited: u64,
    /// Those that failed most often first, at most a hundred.
    failures: Vec<FailureBody>,
}

#[derive(Serialize)]
struct FailureBody {
    customer: String,
    state: &'static str,
    attempts: u32,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<String>,
}

#[derive(Serialize)]
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
        let ProfileCounts { pending, failing, applied, dead, edited } = store.profile_counts(target).await?;
        let failures = store.profile_failures(target, SHOWN).await?;
        let failures = failures.into_iter().map(FailureBody::from).collect();
        Ok(WriteBackBody { target, pending, failing, applied, dead, edited, failures })
    }

    async fn retry(&self) -> Result<u64, ApiError> {
        let (store, target) = self.open()?;
        Ok(store.retry_dead_profiles(target, SystemClock.now()).await?)
    }
}

pub(crate) async fn handle(State(desk): State<WriteBackDesk>) -> Response {
    match desk.look().await {
        Ok(body) => respond(StatusCode::OK, &body),
        Err(err) => error_response(err),
    }
}

/// Lets what is dead be tried again, at once.
pub(crate) async fn retry(
    State(desk): State<WriteBackDesk>,
    State(jobs): State<Jobs>,
    actor: Option<Extension<Actor>>,
    id: RequestId,
) -> Response {
    let retried = desk.retry().await;
    let Extension(actor) = actor.unwrap_or_default();
    let outcome = if retried.is_ok() { AuditOutcome::Done } else { AuditOutcome::Failed };
    audit::record(&actor, AuditAction::RetryWriteBack, desk.target.unwrap_or("none"), outcome, id.as_str());
    match retried {
        Ok(retried) => {
            (jobs.nudge)(JobName::WriteBack);
            respond(StatusCode::OK, &RetriedBody { retried })
        }
        Err(err) => error_response(err),
    }
}

impl From<FailedWrite> for FailureBody {
    fn from(failure: FailedWrite) -> Self {
        Self {
            customer: format!("{:?}", failure.customer),
            state: if failure.dead { "dead" } else { "pending" },
            attempts: failure.attempts,
            reason: failure.reason.into(),
            next_at: (!failure.dead).then(|| failure.next_at.to_string()),
        }
    }
}
