//! `POST /v1/route/tier`: the routing endpoint in front. A customer with a recent score is routed by it; the model runs
//! only for one without.

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
    let example = json!({"customerId": "CUST-000042", "features": {"recency_days": 12, "frequency_count": 48}});
    Operation::new(Tag::Customers, "route_tier", "Where a customer is routed to")
        .about("A customer with a recent score is routed by it; the model runs for one without.")
        .in_time()
        .takes::<PredictRequest<'static>>(&example)
        .gives::<ClvAnswer<'static>>(StatusCode::OK, "The answer, with `routing`.")
        .refuses(&ASK)
}

pub(super) async fn handle(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    let request: PredictRequest<'_> = parse_object(call.body()?)?;
    let question = ClvQuestion::new(&request, app.hasher.screen(), || call.id(), call.hurry()?)?;
    let scored = question.score(&app.scorer, &app.hasher, Prefer::LastScore).await?;
    let routing = app.policy.decide(&scored.estimate, scored.is_neutral(), question.customer(&app.hasher));
    question.note(app, &scored);
    let explained = question.explain(&app.scorer, &app.hasher, &scored).await;
    let answer = ClvAnswer::new(&scored, Some(routing), question.context()).explained(explained.as_ref());
    Ok(call.reply(&answer, question.context().request_id))
}
