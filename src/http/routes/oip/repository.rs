//! `/v2/repository/…`: every version in the models folder, and why one does not serve. Models are files: nothing is loaded or
//! unloaded by a call.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::http::edge::body::Payload;
use crate::http::edge::error::{ApiError, Code};
use crate::http::openapi::{Operation, Tag};
use crate::http::wire::json::{parse_object, respond};
use crate::scoring::Scorer;
use scoreline_engine::inference::registry::{CandidateMode, VersionState, VersionStatus};

#[derive(Default, Deserialize, ToSchema)]
struct IndexRequest {
    /// Only versions that serve.
    #[serde(default)]
    ready: Option<bool>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct IndexEntry {
    pub name: String,
    pub version: String,
    pub state: &'static str,
    pub reason: String,
}

pub(crate) fn describe() -> Operation {
    Operation::new(Tag::Inference, "v2_repository", "Every version on disk, with why it does not serve")
        .takes::<IndexRequest>(&json!({"ready": true}))
        .needs_no_body()
        .gives_as::<Vec<IndexEntry>>("RepositoryIndex", StatusCode::OK, "The versions.")
        .refuses_inference(&[])
}

pub(crate) fn describe_load() -> Operation {
    Operation::new(Tag::Inference, "v2_load", FILES).at("model", super::MODEL).refuses_inference(&[Code::Forbidden])
}

pub(crate) fn describe_unload() -> Operation {
    Operation::new(Tag::Inference, "v2_unload", FILES).at("model", super::MODEL).refuses_inference(&[Code::Forbidden])
}

pub(crate) async fn index(State(scorer): State<Scorer>, Payload(body): Payload) -> Result<Response, ApiError> {
    let request = if body.is_empty() { IndexRequest::default() } else { parse_object(&body)? };
    Ok(respond(StatusCode::OK, &entries(&scorer, request.ready.unwrap_or_default())))
}

/// Every version, or only those that serve.
pub(super) fn entries(scorer: &Scorer, ready: bool) -> Vec<IndexEntry> {
    let versions = scorer.registry().status().into_iter().filter(|status| status.serves || !ready);
    versions.map(IndexEntry::from).collect()
}

impl From<VersionStatus> for IndexEntry {
    fn from(status: VersionStatus) -> Self {
        let mode = status.trial.map(CandidateMode::as_str);
        let reason = match (status.state, status.behind) {
            (VersionState::Refused { code, reason }, _) => format!("{code}: {reason}"),
            (VersionState::Held { reason }, _) => format!("held: {reason}"),
            (VersionState::Serving, _) => String::new(),
            (VersionState::Candidate, _) => format!("candidate: {}", mode.unwrap_or_default()),
            (state, None) => state.as_str().to_owned(),
            (state, Some(behind)) => format!("{}: {behind}", state.as_str()),
        };
        Self {
            name: status.model.to_string(),
            version: status.version.to_string(),
            state: if status.serves { "READY" } else { "UNAVAILABLE" },
            reason,
        }
    }
}

/// Why nothing is loaded or unloaded.
pub(super) const FILES: &str = "models are files: drop them into the models folder, and see /admin/models";

pub(crate) async fn refuse() -> ApiError {
    ApiError::new(Code::Forbidden, FILES)
}
