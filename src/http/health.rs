//! `/health/live` and `/health/ready`. Liveness is "the process answers"; readiness is "there is something to answer
//! from and nobody asked us to leave".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::json::respond;
use crate::scoring::Scorer;

/// Whether this process wants traffic. Flipped first when it is asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
}

impl Readiness {
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

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

pub async fn live() -> Response {
    respond(StatusCode::OK, &Live { status: "live" })
}

pub async fn ready(State(scorer): State<Scorer>, State(readiness): State<Readiness>) -> Response {
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
