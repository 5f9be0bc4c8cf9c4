//! `POST /v1/route/tier`: the routing endpoint in front. A customer with a recent score is routed by it; the model runs
//! only for one without.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::answer::Answer;
use super::error::ApiError;
use super::json::{Payload, parse_object, respond};
use super::observe::{RequestId, with_request_id};
use super::predict_clv::Question;
use super::request::PredictRequest;
use crate::privacy::IdHasher;
use crate::routing::TierPolicy;
use crate::scoring::{Prefer, Scorer};

pub async fn handle(
    State(scorer): State<Scorer>,
    State(hasher): State<IdHasher>,
    State(policy): State<Arc<TierPolicy>>,
    id: RequestId,
    Payload(body): Payload,
) -> Result<Response, ApiError> {
    let request: PredictRequest<'_> = parse_object(&body)?;
    let question = Question::new(&request, || id.as_str())?;
    let scored = question.score(&scorer, &hasher, Prefer::LastScore).await?;
    let routing = policy.decide(&scored.estimate);
    let explained = question.explain(&scorer, &scored).await;
    let answer = Answer::new(&scored, Some(routing), question.context()).explained(explained.as_ref());
    let response = respond(StatusCode::OK, &answer);
    Ok(with_request_id(response, question.context().request_id))
}
