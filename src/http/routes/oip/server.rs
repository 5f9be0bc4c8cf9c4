//! `GET /v2` and `/v2/health/…`: what this server is, and whether it answers.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::edge::auth::Asker;
use crate::http::openapi::{Operation, Tag};
use crate::http::routes::health::not_ready;
use crate::http::state::Readiness;
use crate::http::wire::json::respond;
use crate::scoring::Scorer;

/// What this program calls itself.
pub(super) const NAME: &str = env!("CARGO_PKG_NAME");
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What is answered beside the protocol itself, in Triton's words.
pub(super) const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_repository", "statistics"];

#[derive(Serialize, ToSchema)]
struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 3],
}

#[derive(Serialize, ToSchema)]
#[schema(as = InferenceLive)]
struct Live {
    live: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = InferenceReady)]
struct ServerReadiness {
    live: bool,
    ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

pub(crate) fn describe() -> Operation {
    Operation::new(Tag::Inference, "v2_server", "What this server is")
        .gives::<ServerMetadata>(StatusCode::OK, "Its name, version and extensions.")
        .refuses_inference(&[])
}

pub(crate) fn describe_live() -> Operation {
    Operation::new(Tag::Inference, "v2_live", "Whether the process answers")
        .gives::<Live>(StatusCode::OK, "It does.")
        .refuses_inference(&[])
}

pub(crate) fn describe_ready() -> Operation {
    Operation::new(Tag::Inference, "v2_ready", "Whether the server wants traffic")
        .gives::<ServerReadiness>(StatusCode::OK, "It does.")
        .gives::<ServerReadiness>(StatusCode::SERVICE_UNAVAILABLE, "It does not.")
        .refuses_inference(&[])
}

pub(crate) async fn metadata(asker: Asker) -> Response {
    match asker.admit(None) {
        Ok(()) => respond(StatusCode::OK, &ServerMetadata { name: NAME, version: VERSION, extensions: EXTENSIONS }),
        Err(refused) => refused.into_response(),
    }
}

pub(crate) async fn live() -> Response {
    respond(StatusCode::OK, &Live { live: true })
}

pub(crate) async fn ready(State(scorer): State<Scorer>, State(readiness): State<Readiness>) -> Response {
    let error = not_ready(&scorer, &readiness);
    let status = if error.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    respond(status, &ServerReadiness { live: true, ready: error.is_none(), error })
}
