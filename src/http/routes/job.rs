//! `GET /v1/jobs/{id}`: a question that was to be answered later, its answer, and whether its callback was told. Whoever has
//! the id may look: it cannot be guessed.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::request_id::{RequestId, RequestMetadata, with_request_id};
use crate::http::openapi::{Operation, Tag};
use crate::http::state::{Jobs, QuestionDesk};
use crate::http::wire::json::respond;
use crate::sinks::callback::{QuestionBody, QuestionReport};
use scoreline_store::{KeptQuestion, QuestionStage, Store};

#[derive(Serialize, ToSchema)]
struct JobAnswer<'a> {
    status: &'static str,
    #[serde(flatten)]
    report: QuestionReport<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<CallbackBody<'a>>,
    metadata: RequestMetadata<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = QuestionCallback)]
struct CallbackBody<'a> {
    /// `waiting` for the answer, `pending`, `told`, or `given_up`.
    state: &'static str,
    attempts: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    next_at: Option<String>,
}

impl QuestionDesk {
    /// # Errors
    /// While it is not open.
    pub(super) fn opened(&self) -> Result<&Store, ApiError> {
        self.store.get().ok_or_else(ApiError::store_not_open)
    }
}

pub(crate) fn describe() -> Operation {
    Operation::new(Tag::Customers, "job", "A question that is answered later, and its answer")
        .at("id", "What the question was answered with when it came.")
        .gives::<JobAnswer<'static>>(StatusCode::OK, "The question, and the answer once there is one.")
        .refuses(&[Code::NotFound, Code::StoreUnavailable])
}

pub(crate) async fn handle(
    State(jobs): State<Jobs>,
    id: RequestId,
    job: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::new(Code::NotFound, "no such job is known; an answer is kept for 24 hours");
    let Path(job) = job.map_err(|_| unknown())?;
    let kept = jobs.questions.opened()?.question(&job).await?.ok_or_else(unknown)?;
    let finished = kept.finished_at.map(|at| (at, kept.refused));
    let answer: Option<&RawValue> = serde_json::from_str(&kept.answer).ok();
    let answer = JobAnswer {
        status: "success",
        report: QuestionReport { job: QuestionBody::new(&job, kept.accepted_at, finished), answer },
        callback: callback(&kept),
        metadata: RequestMetadata { request_id: id.as_str() },
    };
    Ok(with_request_id(respond(StatusCode::OK, &answer), id.as_str()))
}

fn callback(kept: &KeptQuestion) -> Option<CallbackBody<'_>> {
    let state = match kept.stage {
        QuestionStage::Waiting => "waiting",
        QuestionStage::Telling => "pending",
        QuestionStage::Over if kept.told => "told",
        QuestionStage::Over => "given_up",
    };
    let next_at = (kept.stage == QuestionStage::Telling).then(|| kept.next_at.to_string());
    kept.has_callback.then(|| CallbackBody { state, attempts: kept.attempts, last_error: &kept.last_error, next_at })
}
