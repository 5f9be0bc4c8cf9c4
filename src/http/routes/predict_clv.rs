//! `POST /v1/predict/clv`: the documented prediction.

use super::call::Call;
use super::question::ClvQuestion;
use crate::http::edge::error::ApiError;
use crate::http::state::HttpState;
use crate::http::wire::answer::ClvAnswer;
use crate::http::wire::json::parse_object;
use crate::http::wire::request::PredictRequest;
use crate::http::wire::response::Reply;
use crate::scoring::Prefer;

pub(super) async fn handle(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    let request: PredictRequest<'_> = parse_object(call.body()?)?;
    let question = ClvQuestion::new(&request, app.hasher.screen(), || call.id(), call.hurry()?)?;
    let scored = question.score(&app.scorer, &app.hasher, Prefer::Exact).await?;
    question.note(app, &scored);
    let explained = question.explain(&app.scorer, &app.hasher, &scored).await;
    let answer = ClvAnswer::new(&scored, None, question.context()).explained(explained.as_ref());
    Ok(call.reply(&answer, question.context().request_id))
}
