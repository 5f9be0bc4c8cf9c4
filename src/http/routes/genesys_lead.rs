//! `POST /v1/genesys/lead`: which lead to call next, for data actions: flat and always HTTP 200.

use super::call::Call;
use super::predict_lead::score;
use crate::http::edge::error::ApiError;
use crate::http::state::HttpState;
use crate::http::wire::answer::Context;
use crate::http::wire::flat::{Flat as _, FlatAnswer, FlatRequest};
use crate::http::wire::json::parse_object;
use crate::http::wire::lead::{LeadPrediction, LeadRequest};
use crate::http::wire::response::Reply;
use scoreline_engine::inference::manifest::Task;

pub(super) async fn handle(app: &HttpState, call: &Call) -> Reply {
    match scored(app, call).await {
        Ok(reply) => reply,
        Err(error) => call.flat_error(&error, LeadPrediction::new(app.scorer.neutral_lead())),
    }
}

async fn scored(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    let flat: FlatRequest<LeadRequest<'_>> = parse_object(call.body()?)?;
    let answer = answered(app, call, flat.request).await;
    answer.map_err(|error| flat.spelling.of(error))
}

async fn answered(app: &HttpState, call: &Call, mut request: LeadRequest<'_>) -> Result<Reply, ApiError> {
    let reads = app.scorer.reads(Task::Lead, request.model.as_deref());
    let dropped = request.drop_unknown(reads);
    let (scored, Context { request_id, .. }) =
        score(&request, &app.scorer, &app.hasher, || call.id(), call.hurry()?).await?;
    let flat = FlatAnswer::new(&scored, LeadPrediction::new(scored.estimate), &dropped, request_id);
    Ok(call.reply(&flat, request_id))
}
