//! `/health/live` and `/health/ready`. Liveness is "the process answers"; readiness is "there is something to answer
//! from, known customers are known, and nobody asked us to leave". A store that fails costs no answer, so it costs no
//! traffic; it is said.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::openapi::{Operation, Tag};
use crate::http::state::{Readiness, StoreTrouble};
use crate::http::wire::json::respond;
use crate::scoring::Scorer;

#[derive(Serialize, ToSchema)]
struct Live {
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
struct Ready {
    /// `ready`, `degraded`, `loading`, `draining` or `no_model`.
    status: &'static str,
    models: Vec<ReadyModel>,
    /// `not_open` or `failing`; absent while the store does its work.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'static str>,
}

#[derive(Serialize, ToSchema)]
struct ReadyModel {
    name: String,
    version: String,
}

pub(crate) fn describe_live() -> Operation {
    Operation::new(Tag::Server, "health_live", "Whether the process answers").gives::<Live>(StatusCode::OK, "It does.")
}

pub(crate) fn describe_ready() -> Operation {
    Operation::new(Tag::Server, "health_ready", "Whether the server wants traffic")
        .gives::<Ready>(StatusCode::OK, "It does.")
        .gives::<Ready>(
            StatusCode::SERVICE_UNAVAILABLE,
            "It does not: no model is loaded, known customers are being read, or it is stopping.",
        )
}

pub(crate) async fn live() -> Response {
    respond(StatusCode::OK, &Live { status: "live" })
}

pub(crate) async fn ready(State(scorer): State<Scorer>, State(readiness): State<Readiness>) -> Response {
    let models = scorer
        .registry()
        .status()
        .into_iter()
        .filter_map(|status| status.snapshot)
        .map(|snapshot| ReadyModel { name: snapshot.name().to_string(), version: snapshot.version().to_string() })
        .collect();
    let trouble = readiness.store_trouble();
    let store = trouble.as_ref().map(StoreTrouble::as_str);
    let (code, status) = match not_ready(&scorer, &readiness) {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        None if store.is_some() => (StatusCode::OK, "degraded"),
        None => (StatusCode::OK, "ready"),
    };
    respond(code, &Ready { status, models, store })
}

/// Why nothing is to be asked here at the moment, if it is so.
pub(super) fn not_ready(scorer: &Scorer, readiness: &Readiness) -> Option<&'static str> {
    if readiness.is_draining() {
        Some("draining")
    } else if !scorer.can_answer() {
        Some("no_model")
    } else if readiness.is_loading() {
        Some("loading")
    } else {
        None
    }
}
