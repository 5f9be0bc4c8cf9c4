//! `POST /v1/genesys/lead`: which lead to call next, for data actions: flat, as `genesys_clv`.

use axum::http::StatusCode;
use serde_json::json;

use super::call::Call;
use super::predict_lead::{note, score};
use crate::http::edge::error::ApiError;
use crate::http::openapi::{Operation, Tag};
use crate::http::state::HttpState;
use crate::http::wire::answer::Context;
use crate::http::wire::flat::{FLAT, Flat as _, FlatAnswer, FlatError, FlatRequest, Spelling};
use crate::http::wire::json::{parse_object, to_vec};
use crate::http::wire::lead::{LeadPrediction, LeadRequest};
use crate::http::wire::response::Reply;
use crate::scoring::task::Score as _;
use scoreline_domain::LeadScore;
use scoreline_engine::inference::manifest::Task;

pub(in crate::http) fn describe() -> Operation {
    let known = ["lead_id", "conversation_id", "request_id", "model", "model_version", "timestamp_utc", "lead_source"];
    let example = json!({"lead_id": "LEAD-000042", "age": 41, "job": "technician"});
    Operation::new(Tag::DataActions, "data_action_lead", "Which lead to call next, for data actions")
        .about("As the data action of customers.")
        .in_time()
        .takes_scalars("FlatLeadRequest", &known, &example)
        .within::<LeadPrediction>()
        .gives_as::<FlatAnswer<'static, LeadPrediction>>("FlatLeadAnswer", StatusCode::OK, FLAT)
        .refuses_flat::<FlatError<'static, LeadPrediction>>("FlatLeadError")
}

pub(super) async fn handle(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    let mut flat: FlatRequest<LeadRequest<'_>> = parse_object(call.body()?)?;
    let answer = answered(app, call, flat.request, &mut flat.spelling).await;
    answer.map_err(|error| flat.spelling.of(error))
}

/// The neutral answer beside the error. Who is set up wrongly may be a stranger, and learns nothing of models.
pub(super) fn error(app: &HttpState, error: &ApiError, request_id: &str) -> Vec<u8> {
    let neutral = if error.code.is_of_setup() { LeadScore::OF_NOBODY } else { app.scorer.neutral_lead() };
    to_vec(&FlatError::new(error, LeadPrediction::new(neutral), request_id))
}

async fn answered(
    app: &HttpState,
    call: &Call,
    mut request: LeadRequest<'_>,
    spelling: &mut Spelling,
) -> Result<Reply, ApiError> {
    let feature_named = app.scorer.feature_named(Task::Lead, request.model.as_deref());
    let dropped = request.drop_unknown(spelling, feature_named);
    app.scorer.count_unknown(dropped.count());
    let (scored, Context { request_id, .. }) =
        score(&request, &app.scorer, &app.hasher, || call.id(), call.hurry()?).await?;
    let page = note(&request, app, &scored);
    let flat = FlatAnswer::new(&scored, LeadPrediction::new(scored.estimate), &dropped, page, request_id);
    Ok(call.reply(&flat, request_id))
}
