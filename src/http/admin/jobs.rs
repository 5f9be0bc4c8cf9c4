//! `/admin/jobs`: how the jobs beside the answers stand, and asking one of them for a run.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::edge::error::{ApiError, Code, error_response};
use crate::http::edge::request_id::RequestId;
use crate::http::openapi::{Operation, Tag};
use crate::http::state::{HttpState, Jobs, SharedState};
use crate::http::wire::json::respond;
use scoreline_domain::job::RunResult;
use scoreline_domain::privacy::audit::{Actor, AuditAction, AuditOutcome};
use scoreline_domain::{JobName, JobStatus};

#[derive(Serialize, ToSchema)]
#[schema(as = Jobs)]
struct JobsBody {
    jobs: Vec<JobBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobBody {
    job: &'static str,
    /// `running`, else how the last run ended: `done`, `idle`, `elsewhere`, `stopped`, `failed`; `waiting` before the
    /// first.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    running_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    last_started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    last_ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    last_success_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    next_at: Option<String>,
    /// Failures in a row, and why the last one was.
    #[serde(skip_serializing_if = "is_zero")]
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Of the run under way, else of the last one.
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = JobAskedFor)]
struct Nudged {
    status: &'static str,
    job: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

pub(crate) fn describe() -> Operation {
    Operation::new(Tag::Administration, "jobs", "How the jobs stand").gives::<JobsBody>(StatusCode::OK, "The jobs.")
}

pub(crate) fn describe_run() -> Operation {
    Operation::new(Tag::Administration, "run_job", "Asks for a run of a job")
        .at("job", "Name of the job.")
        .gives::<Nudged>(StatusCode::ACCEPTED, "It is run as soon as possible.")
        .refuses(&[Code::NotFound])
}

pub(crate) async fn handle(State(jobs): State<Jobs>) -> Response {
    let jobs = (jobs.statuses)().into_iter().map(JobBody::from).collect();
    respond(StatusCode::OK, &JobsBody { jobs })
}

pub(crate) async fn run(
    State(app): State<SharedState>,
    Path(name): Path<String>,
    actor: Option<Extension<Actor>>,
    id: RequestId,
) -> Response {
    let Extension(actor) = actor.unwrap_or_default();
    match nudge(&app, &name, &actor, id.as_str()) {
        Ok(job) => respond(StatusCode::ACCEPTED, &Nudged { status: "asked_for", job: job.as_str() }),
        Err(err) => error_response(err),
    }
}

/// Asks for a run of a job, for somebody.
///
/// # Errors
/// Names the jobs that there are when this is none of them.
pub(super) fn nudge(app: &HttpState, name: &str, actor: &Actor, request_id: &str) -> Result<JobName, ApiError> {
    let asked = JobName::parse(name).filter(|job| (app.jobs.nudge)(*job));
    let outcome = if asked.is_some() { AuditOutcome::Done } else { AuditOutcome::Refused };
    let object = asked.map_or("unknown", JobName::as_str);
    app.monitoring.journal().asked(app.scorer.now(), actor, AuditAction::RunJob, object, outcome, request_id);
    asked.ok_or_else(|| {
        let there: Vec<_> = (app.jobs.statuses)().into_iter().map(|(job, _)| format!("`{}`", job.as_str())).collect();
        let message = match there.as_slice() {
            [] => "no jobs run here".to_owned(),
            there => format!("there is no such job; jobs are {}", there.join(", ")),
        };
        ApiError::new(Code::NotFound, message)
    })
}

impl From<(JobName, JobStatus)> for JobBody {
    fn from((job, status): (JobName, JobStatus)) -> Self {
        let last = status.last.as_ref();
        let state = match (status.running_since, last) {
            (Some(_), _) => "running",
            (None, Some(last)) => last.result.as_str(),
            (None, None) => "waiting",
        };
        let reason = last.and_then(|last| match &last.result {
            RunResult::Failed(reason) => Some(reason.clone()),
            RunResult::Done | RunResult::Idle | RunResult::Elsewhere | RunResult::Stopped => None,
        });
        Self {
            job: job.as_str(),
            state,
            running_since: status.running_since.map(|at| at.to_string()),
            last_started_at: last.map(|last| last.started.to_string()),
            last_ended_at: last.map(|last| last.ended.to_string()),
            last_success_at: status.last_success.map(|at| at.to_string()),
            next_at: status.next_at.map(|at| at.to_string()),
            failures: status.failures,
            reason,
            counts: status.counts,
        }
    }
}
