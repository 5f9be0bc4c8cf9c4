//! `POST /v1/predict/clv`: the documented prediction.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::answer::{Answer, Context};
use super::error::ApiError;
use super::json::{Payload, parse_object, respond};
use super::observe::{RequestId, with_request_id};
use super::request::{PredictRequest, checked_request_id};
use crate::privacy::IdHasher;
use crate::scoring::{Prefer, Scored, Scorer};

pub async fn handle(
    State(scorer): State<Scorer>,
    State(hasher): State<IdHasher>,
    id: RequestId,
    Payload(body): Payload,
) -> Result<Response, ApiError> {
    let request: PredictRequest<'_> = parse_object(&body)?;
    let question = Question::new(&request, id.as_str())?;
    let scored = question.score(&scorer, &hasher, Prefer::Exact).await?;
    let response = respond(StatusCode::OK, &Answer::new(&scored, None, question.context()));
    Ok(with_request_id(response, question.context().request_id))
}

/// A request with its checked transport fields.
pub struct Question<'r, 'b> {
    request: &'r PredictRequest<'b>,
    context: Context<'r>,
}

impl<'r, 'b> Question<'r, 'b> {
    pub fn new(request: &'r PredictRequest<'b>, generated_id: &'r str) -> Result<Self, ApiError> {
        let request_id = checked_request_id(request.id(), generated_id)?;
        let features_as_of = request.features_as_of().map_err(|err| err.of_request(request.id()))?;
        let explain = request.explain.unwrap_or(false);
        Ok(Self { request, context: Context { request_id, features_as_of, explain } })
    }

    pub fn context(&self) -> Context<'r> {
        self.context
    }

    pub async fn score(&self, scorer: &Scorer, hasher: &IdHasher, prefer: Prefer) -> Result<Scored, ApiError> {
        let features = self.request.named_features();
        let ask = self.request.ask(features.as_deref(), hasher, prefer);
        scorer.score(ask).await.map_err(|fault| ApiError::from(fault).of_request(self.request.id()))
    }
}
