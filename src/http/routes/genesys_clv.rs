//! `POST /v1/genesys/clv`: the prediction for data actions, always HTTP 200 with `status` and `reason`, because a voice flow
//! cannot read failure outputs.

use super::call::Call;
use super::question::ClvQuestion;
use crate::http::edge::error::ApiError;
use crate::http::state::HttpState;
use crate::http::wire::flat::{Flat as _, FlatAnswer, FlatPrediction, FlatRequest};
use crate::http::wire::json::parse_object;
use crate::http::wire::request::PredictRequest;
use crate::http::wire::response::Reply;
use crate::scoring::Prefer;
use scoreline_engine::inference::manifest::Task;

pub(super) async fn handle(app: &HttpState, call: &Call) -> Reply {
    answer(app, call, Prefer::Exact).await
}

/// The answer, or the neutral one beside the error.
pub(super) async fn answer(app: &HttpState, call: &Call, prefer: Prefer) -> Reply {
    match scored(app, call, prefer).await {
        Ok(reply) => reply,
        Err(error) => {
            let neutral = app.scorer.neutral();
            let routing = app.policy.decide(&neutral, true);
            call.flat_error(&error, FlatPrediction::new(&neutral, routing))
        }
    }
}

async fn scored(app: &HttpState, call: &Call, prefer: Prefer) -> Result<Reply, ApiError> {
    let flat: FlatRequest<PredictRequest<'_>> = parse_object(call.body()?)?;
    let answer = answered(app, call, prefer, flat.request).await;
    answer.map_err(|error| flat.spelling.of(error))
}

async fn answered(
    app: &HttpState,
    call: &Call,
    prefer: Prefer,
    mut request: PredictRequest<'_>,
) -> Result<Reply, ApiError> {
    let reads = app.scorer.reads(Task::Clv, request.model.as_deref());
    let dropped = request.drop_unknown(reads);
    let question = ClvQuestion::new(&request, app.hasher.screen(), || call.id(), call.hurry()?)?;
    let scored = question.score(&app.scorer, &app.hasher, prefer).await?;
    let request_id = question.context().request_id;
    let routing = app.policy.decide(&scored.estimate, scored.is_neutral());
    let flat = FlatAnswer::new(&scored, FlatPrediction::new(&scored.estimate, routing), &dropped, request_id);
    Ok(call.reply(&flat, request_id))
}
