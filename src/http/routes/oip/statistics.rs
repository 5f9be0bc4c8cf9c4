//! `GET /v2/models/…/stats`: rows that serving models have answered, whichever way they were asked, in Triton's words.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::{MODEL, ModelPath, NamedModel, VERSION, scope_of};
use crate::http::edge::auth::Asker;
use crate::http::edge::error::Code;
use crate::http::openapi::{Operation, Tag};
use crate::http::state::{HttpState, SharedState};
use crate::http::wire::json::respond;
use scoreline_engine::inference::ModelSnapshot;

#[derive(Serialize, ToSchema)]
struct Statistics {
    model_stats: Vec<ModelStatistics>,
}

/// What one version has answered since it is served here. A row is an inference by itself.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelStatistics {
    pub name: String,
    pub version: String,
    pub inference_count: u64,
    pub execution_count: u64,
    pub inference_stats: InferenceStatistics,
}

/// A row that is refused reaches no model, and a failing one is answered by something else: none of them fails.
#[derive(Serialize, ToSchema)]
pub(super) struct InferenceStatistics {
    pub success: CountedTime,
    pub fail: CountedTime,
    pub queue: CountedTime,
    pub compute_input: CountedTime,
    pub compute_infer: CountedTime,
    pub compute_output: CountedTime,
}

#[derive(Clone, Copy, Default, Serialize, ToSchema)]
pub(super) struct CountedTime {
    pub count: u64,
    pub ns: u64,
}

pub(crate) fn describe_all() -> Operation {
    Operation::new(Tag::Inference, "v2_statistics", "How often and how long models answered")
        .gives::<Statistics>(StatusCode::OK, "Of every model that the caller may ask.")
        .refuses_inference(&[])
}

pub(crate) fn describe() -> Operation {
    described("v2_model_statistics")
}

pub(crate) fn describe_of_version() -> Operation {
    described("v2_model_version_statistics").at("version", VERSION)
}

fn described(id: &'static str) -> Operation {
    Operation::new(Tag::Inference, id, "How often and how long a model answered")
        .at("model", MODEL)
        .gives::<Statistics>(StatusCode::OK, "Of this model.")
        .refuses_inference(&[Code::NotFound, Code::NoModel])
}

/// Of all models that the caller may ask.
pub(crate) async fn all(State(app): State<SharedState>, asker: Asker) -> axum::response::Result<Response> {
    Ok(respond(StatusCode::OK, &Statistics { model_stats: of_all(&app, &asker)? }))
}

pub(crate) async fn handle(
    State(app): State<SharedState>,
    asker: Asker,
    path: ModelPath,
) -> axum::response::Result<Response> {
    let snapshot = NamedModel::of(path)?.asked(&app, &asker)?;
    Ok(respond(StatusCode::OK, &Statistics { model_stats: vec![of(&app, &snapshot)] }))
}

pub(super) fn of_all(app: &HttpState, asker: &Asker) -> axum::response::Result<Vec<ModelStatistics>> {
    asker.admit(None)?;
    let serving = app.scorer.registry().all_serving();
    let serving = serving.iter().filter(|snapshot| asker.has(scope_of(snapshot)));
    Ok(serving.map(|snapshot| of(app, snapshot)).collect())
}

pub(super) fn of(app: &HttpState, snapshot: &ModelSnapshot) -> ModelStatistics {
    let answered = app.monitoring.traffic().counts().read().model(snapshot.digest());
    let time = CountedTime { count: answered.count, ns: (answered.total * 1e9) as u64 };
    let nothing = CountedTime { count: answered.count, ns: 0 };
    ModelStatistics {
        name: snapshot.name().to_string(),
        version: snapshot.version().to_string(),
        inference_count: answered.count,
        execution_count: answered.count,
        inference_stats: InferenceStatistics {
            success: time,
            fail: CountedTime::default(),
            queue: nothing,
            compute_input: nothing,
            compute_infer: time,
            compute_output: nothing,
        },
    }
}
