//! `POST /v1/predict/lead`: which lead to call next, as a place from 1 to 100.

use axum::http::StatusCode;
use serde_json::json;

use super::call::Call;
use super::conversation::Asked;
use crate::http::edge::deadline::Hurry;
use crate::http::edge::error::{ASK, ApiError};
use crate::http::openapi::{Operation, Tag};
use crate::http::state::HttpState;
use crate::http::wire::Explained;
use crate::http::wire::answer::Context;
use crate::http::wire::json::parse_object;
use crate::http::wire::lead::{LeadAnswer, LeadRequest};
use crate::http::wire::request::{checked_request_id, time};
use crate::http::wire::response::Reply;
use crate::http::wire::values::Features;
use crate::scoring::{Ask, Scored, Scorer};
use scoreline_domain::LeadScore;
use scoreline_domain::privacy::IdHasher;

pub(in crate::http) fn describe() -> Operation {
    let example = json!({"leadId": "LEAD-000042", "features": {"age": 41, "job": "technician", "poutcome": "success"}});
    Operation::new(Tag::Leads, "predict_lead", "Which lead to call next, as a place from 1 to 100")
        .about("`features` or `leadId` is needed.")
        .in_time()
        .takes::<LeadRequest<'static>>(&example)
        .gives::<LeadAnswer<'static>>(StatusCode::OK, "The answer.")
        .refuses(&ASK)
}

pub(super) async fn handle(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    let request: LeadRequest<'_> = parse_object(call.body()?)?;
    let (scored, context) = score(&request, &app.scorer, &app.hasher, || call.id(), call.hurry()?).await?;
    note(&request, app, &scored);
    let explained = explain(&request, &app.scorer, &scored).await;
    Ok(call.reply(&LeadAnswer::new(&scored, context, explained.as_ref()), context.request_id))
}

/// Scores the lead of a request; `otherwise` gives the id of one that brings none.
pub(super) async fn score<'s>(
    request: &'s LeadRequest<'_>,
    scorer: &Scorer,
    hasher: &IdHasher,
    otherwise: impl FnOnce() -> &'s str,
    hurry: Hurry,
) -> Result<(Scored<LeadScore>, Context<'s>), ApiError> {
    let (mut scored, context) = score_of_many(request, scorer, hasher, otherwise, hurry).await?;
    scorer.place_lead(&mut scored);
    Ok((scored, context))
}

/// As `score`, for one of several leads of a request, which are placed together afterwards.
pub(super) async fn score_of_many<'s>(
    request: &'s LeadRequest<'_>,
    scorer: &Scorer,
    hasher: &IdHasher,
    otherwise: impl FnOnce() -> &'s str,
    hurry: Hurry,
) -> Result<(Scored<LeadScore>, Context<'s>), ApiError> {
    let own_id = request.request_id.as_deref();
    let request_id = checked_request_id(own_id, hasher.screen(), otherwise)?;
    let features_as_of = time(request.timestamp_utc.as_deref()).map_err(|err| err.of_request(own_id))?;
    request.pass(hasher.screen())?;
    let features = request.features.as_ref().map(Features::named);
    let Hurry { deadline, shed, .. } = hurry;
    let ask = Ask { dated: features_as_of, deadline, shed, ..request.ask(features.as_deref(), hasher) };
    let scored = scorer.score_lead_of_many(ask).await.map_err(|fault| ApiError::from(fault).of_request(own_id))?;
    hurry.takes(scored.reason).map_err(|full| ApiError::from(full).of_request(own_id))?;
    Ok((scored, Context { request_id, features_as_of }))
}

/// Notes the answer for the agent's page, where the request names a conversation; the address of the page.
pub(super) fn note(request: &LeadRequest<'_>, app: &HttpState, scored: &Scored<LeadScore>) -> Option<String> {
    // A page that nobody can look at costs nothing.
    app.widget.as_ref()?;
    let conversation = request.conversation_id.as_deref()?;
    let features = request.features.as_ref().map(Features::named);
    let customer = request.lead_id().map(|id| app.hasher.key(id));
    Asked { conversation, customer, features: features.as_deref() }.note_lead(app, scored)
}

/// Explains the answer where the request asks for it; one that does not pays nothing.
pub(super) async fn explain(
    request: &LeadRequest<'_>,
    scorer: &Scorer,
    scored: &Scored<LeadScore>,
) -> Option<Explained> {
    let detail = request.explain?.0?;
    let features = request.features.as_ref().map(Features::named);
    // Boxed, so that a request without reasons has no room for them in its future.
    Some(Explained::new(Box::pin(scorer.explain(features.as_deref(), None, scored, detail)).await, scorer))
}
