//! `POST /v1/predict/clv`: the documented prediction.

use axum::http::StatusCode;
use serde_json::json;

use super::call::Call;
use super::question::ClvQuestion;
use crate::http::edge::error::{ASK, ApiError};
use crate::http::openapi::{Operation, Tag};
use crate::http::state::HttpState;
use crate::http::wire::answer::ClvAnswer;
use crate::http::wire::json::parse_object;
use crate::http::wire::request::PredictRequest;
use crate::http::wire::response::Reply;
use crate::scoring::Prefer;

pub(in crate::http) fn describe() -> Operation {
    let example = json!({
        "features": {
            "recency_days": 12, "frequency_count": 48, "avg_handling_time_sec": 245, "sentiment_score_avg": 0.65,
            "topic_diversity": 7,
        },
        "model_version": "v1.2", "request_id": "req-998877",
    });
    Operation::new(Tag::Customers, "predict_clv", "What a customer is worth")
        .about("`features` or `customerId` is needed. A model that fails is no error: the answer comes from the ladder, and `metadata.source` says so.")
        .in_time()
        .takes::<PredictRequest<'static>>(&example)
        .gives::<ClvAnswer<'static>>(StatusCode::OK, "The answer.")
        .refuses(&ASK)
}

pub(super) async fn handle(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    let request: PredictRequest<'_> = parse_object(call.body()?)?;
    let question = ClvQuestion::new(&request, app.hasher.screen(), || call.id(), call.hurry()?)?;
    let scored = question.score(&app.scorer, &app.hasher, Prefer::Exact).await?;
    question.note(app, &scored);
    let explained = question.explain(&app.scorer, &app.hasher, &scored).await;
    let answer = ClvAnswer::new(&scored, None, question.context()).explained(explained.as_ref());
    Ok(call.reply(&answer, question.context().request_id))
}
