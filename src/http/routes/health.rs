//! `/health/live` and `/health/ready`. Liveness is "the process answers"; readiness is "there is something to answer
//! from and nobody asked us to leave".

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::http::state::Readiness;
use crate::http::wire::json::respond;
use crate::scoring::Scorer;

#[derive(Serialize)]
struct Live {
    status: &'static str,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    models: Vec<ReadyModel>,
}

#[derive(Serialize)]
struct ReadyModel {
    name: String,
    version: String,
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
    let (code, status) = if readiness.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if scorer.can_answer() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no_model")
    };
    respond(code, &Ready { status, models })
}
