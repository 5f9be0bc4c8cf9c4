//! `POST /v1/genesys/clv`: the prediction for data actions, flat. What a flow can go on with is HTTP 200 with `status` and
//! `reason`, because a voice flow cannot read failure outputs.

use axum::http::StatusCode;
use serde_json::json;

use super::call::Call;
use super::question::ClvQuestion;
use crate::http::edge::error::ApiError;
use crate::http::openapi::{Operation, Tag};
use crate::http::state::HttpState;
use crate::http::wire::flat::{FLAT, Flat as _, FlatAnswer, FlatError, FlatPrediction, FlatRequest, Spelling};
use crate::http::wire::json::{parse_object, to_vec};
use crate::http::wire::request::PredictRequest;
use crate::http::wire::response::Reply;
use crate::routing::{Routing, TierRoute};
use crate::scoring::Prefer;
use crate::scoring::task::Score as _;
use scoreline_domain::Estimate;
use scoreline_engine::inference::manifest::Task;

pub(in crate::http) fn describe() -> Operation {
    described("data_action_clv", "What a customer is worth, for data actions")
}

pub(super) fn described(id: &'static str, summary: &'static str) -> Operation {
    let known = [
        "customer_id",
        "conversation_id",
        "request_id",
        "model",
        "model_version",
        "timestamp_utc",
        "acquisition_channel",
        "segment",
        "interval_level",
        "previous_tier",
    ];
    let example = json!({"customer_id": "CUST-000042", "recency_days": 12, "frequency_count": 48});
    Operation::new(Tag::DataActions, id, summary)
        .about("Blank texts, null and texts of templates that nobody filled in are absent. Features stand beside the other names.")
        .in_time()
        .takes_scalars("FlatClvRequest", &known, &example)
        .within::<FlatPrediction<'static>>()
        .gives_as::<FlatAnswer<'static, FlatPrediction<'static>>>("FlatClvAnswer", StatusCode::OK, FLAT)
        .refuses_flat::<FlatError<'static, FlatPrediction<'static>>>("FlatClvError")
}

pub(super) async fn handle(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    answer(app, call, Prefer::Exact).await
}

pub(super) async fn answer(app: &HttpState, call: &Call, prefer: Prefer) -> Result<Reply, ApiError> {
    let mut flat: FlatRequest<PredictRequest<'_>> = parse_object(call.body()?)?;
    let answer = answered(app, call, prefer, flat.request, &mut flat.spelling).await;
    answer.map_err(|error| flat.spelling.of(error))
}

/// The neutral answer beside the error. Who is set up wrongly may be a stranger, and learns nothing of models and skills.
pub(super) fn error(app: &HttpState, error: &ApiError, request_id: &str) -> Vec<u8> {
    let nowhere = TierRoute { skill_id: String::new(), priority: 0, queue: None };
    let (neutral, routing) = if error.code.is_of_setup() {
        let nobody = Estimate::OF_NOBODY;
        (
            nobody,
            Routing { tier: nobody.tier, route: &nowhere, low_confidence: true, use_default: true, control: false },
        )
    } else {
        let neutral = app.scorer.neutral();
        (neutral, app.policy.decide(&neutral, true, None))
    };
    to_vec(&FlatError::new(error, FlatPrediction::new(&neutral, routing), request_id))
}

async fn answered(
    app: &HttpState,
    call: &Call,
    prefer: Prefer,
    mut request: PredictRequest<'_>,
    spelling: &mut Spelling,
) -> Result<Reply, ApiError> {
    let feature_named = app.scorer.feature_named(Task::Clv, request.model.as_deref());
    let dropped = request.drop_unknown(spelling, feature_named);
    app.scorer.count_unknown(dropped.count());
    let question = ClvQuestion::new(&request, app.hasher.screen(), || call.id(), call.hurry()?)?;
    let scored = question.score(&app.scorer, &app.hasher, prefer).await?;
    let request_id = question.context().request_id;
    let routing = app.policy.decide(&scored.estimate, scored.is_neutral(), question.customer(&app.hasher));
    let page = question.note(app, &scored);
    let flat = FlatAnswer::new(&scored, FlatPrediction::new(&scored.estimate, routing), &dropped, page, request_id);
    Ok(call.reply(&flat, request_id))
}
