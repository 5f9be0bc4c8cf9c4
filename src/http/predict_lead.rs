//! `POST /v1/predict/lead` and its batch twin: which lead to call next, as a place from 1 to 100.

use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::answer::{Context, Metadata, round, status};
use super::call::{Call, Hurry, Reply};
use super::error::ApiError;
use super::explanation::{Explained, ExplanationBody};
use super::genesys::{Flat, FlatAnswer, FlatError, FlatRequest, Slot};
use super::json::{BatchPayload, append, parse_object};
use super::personal::Texts;
use super::predict_batch::{Batch, Row};
use super::request::{Features, Text, checked_request_id, time};
use super::state::HttpState;
use crate::domain::LeadScore;
use crate::privacy::IdHasher;
use crate::scoring::baseline::Known;
use crate::scoring::{Ask, Scored, Scorer};

/// Body of `POST /v1/predict/lead`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct LeadRequest<'a> {
    #[serde(borrow, default)]
    features: Option<Features<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow, default)]
    model_version: Option<Text<'a>>,
    #[serde(borrow, default)]
    request_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "leadId")]
    lead_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    timestamp_utc: Option<Text<'a>>,
    /// Where the lead comes from: picks the baseline when there is nothing to score.
    #[serde(borrow, default)]
    lead_source: Option<Text<'a>>,
    #[serde(default)]
    explain: Option<bool>,
}

/// Reply of `POST /v1/predict/lead`.
#[derive(Serialize)]
struct LeadAnswer<'a> {
    status: &'static str,
    prediction: LeadPrediction,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<ExplanationBody<'a>>,
    metadata: Metadata<'a, LeadScore>,
}

#[derive(Serialize)]
struct LeadPrediction {
    priority_score: u8,
    conversion_probability: f64,
}

pub async fn handle(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    let request: LeadRequest<'_> = parse_object(call.body()?)?;
    let (scored, context) = request.score(&app.scorer, &app.hasher, || call.id(), call.hurry()?).await?;
    let explained = request.explain(&app.scorer, &scored).await;
    Ok(call.reply(&LeadAnswer::new(&scored, context, explained.as_ref()), context.request_id))
}

pub async fn batch(batch: Batch, BatchPayload(body): BatchPayload) -> Result<Response, ApiError> {
    batch.answer::<Lead>(&body).await
}

struct Lead;

impl Row for Lead {
    async fn score(
        row: &[u8],
        row_id: &str,
        batch: &Batch,
        hurry: Hurry,
        results: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let request: LeadRequest<'_> = parse_object(row)?;
        let (scored, context) = request.score(&batch.scorer, &batch.hasher, || row_id, hurry).await?;
        let explained = request.explain(&batch.scorer, &scored).await;
        append(results, &LeadAnswer::new(&scored, context, explained.as_ref()));
        Ok(())
    }
}

/// `POST /v1/genesys/lead`: the same for data actions, flat and always HTTP 200.
pub async fn genesys(app: &HttpState, call: &Call) -> Reply {
    match flat(app, call).await {
        Ok(reply) => reply,
        Err(error) => FlatError::reply(&error, app.scorer.neutral_lead().map(LeadPrediction::new), call),
    }
}

async fn flat(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    let FlatRequest(request): FlatRequest<LeadRequest<'_>> = parse_object(call.body()?)?;
    let (scored, Context { request_id, .. }) =
        request.score(&app.scorer, &app.hasher, || call.id(), call.hurry()?).await?;
    let flat = FlatAnswer::new(&scored, LeadPrediction::new(scored.estimate), request_id);
    Ok(call.reply(&flat, request_id))
}

impl LeadRequest<'_> {
    async fn score<'s>(
        &'s self,
        scorer: &Scorer,
        hasher: &IdHasher,
        otherwise: impl FnOnce() -> &'s str,
        hurry: Hurry,
    ) -> Result<(Scored<LeadScore>, Context<'s>), ApiError> {
        let own_id = self.request_id.as_deref();
        let request_id = checked_request_id(own_id, otherwise)?;
        let features_as_of = time(self.timestamp_utc.as_deref()).map_err(|err| err.of_request(own_id))?;
        let context = Context { request_id, features_as_of };
        let texts = Texts {
            request_id: own_id,
            id: ("leadId", self.lead_id.as_deref()),
            others: [
                ("lead_source", self.lead_source.as_deref()),
                ("model", self.model.as_deref()),
                ("model_version", self.model_version.as_deref()),
            ],
            features: self.features.as_ref(),
        };
        texts.pass(hasher.screen())?;
        let features = self.features.as_ref().map(Features::named);
        let ask = Ask {
            model: self.model.as_deref(),
            version: self.model_version.as_deref(),
            customer: self.lead_id.as_deref().map(|id| hasher.key(id)),
            features: features.as_deref(),
            known: Known { channel: self.lead_source.as_deref(), segment: None },
            deadline: hurry.deadline,
            shed: hurry.shed,
            ..Ask::default()
        };
        let scored = scorer.score_lead(ask).await.map_err(|fault| ApiError::from(fault).of_request(own_id))?;
        hurry.takes(scored.reason).map_err(|full| ApiError::from(full).of_request(own_id))?;
        Ok((scored, context))
    }

    /// Explains the answer where the request asks for it; one that does not pays nothing.
    async fn explain(&self, scorer: &Scorer, scored: &Scored<LeadScore>) -> Option<Explained> {
        if self.explain != Some(true) {
            return None;
        }
        let features = self.features.as_ref().map(Features::named);
        // Boxed, so that a request without reasons has no room for them in its future.
        Some(Explained::new(Box::pin(scorer.explain(features.as_deref(), None, scored)).await, scorer))
    }
}

impl<'a> Flat<'a> for LeadRequest<'a> {
    fn slot(&mut self, name: &str) -> Option<Slot<'_, 'a>> {
        Some(Slot::Text(match name {
            "model" => &mut self.model,
            "model_version" => &mut self.model_version,
            "request_id" => &mut self.request_id,
            "lead_id" | "leadId" => &mut self.lead_id,
            "timestamp_utc" => &mut self.timestamp_utc,
            "lead_source" => &mut self.lead_source,
            _ => return None,
        }))
    }

    fn set_features(&mut self, features: Option<Features<'a>>) {
        self.features = features;
    }
}

impl<'a> LeadAnswer<'a> {
    fn new(scored: &'a Scored<LeadScore>, context: Context<'a>, explained: Option<&Explained>) -> Self {
        let mut metadata = Metadata::new(scored, context);
        Self {
            status: status(scored),
            prediction: LeadPrediction::new(scored.estimate),
            explanation: metadata.explanation(explained),
            metadata,
        }
    }
}

impl LeadPrediction {
    fn new(score: LeadScore) -> Self {
        Self { priority_score: score.priority, conversion_probability: round(score.probability.get(), 1e6) }
    }
}
