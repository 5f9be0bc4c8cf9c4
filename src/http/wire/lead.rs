//! Lead requests and answers, as they stand on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{AnswerMetadata, Context, status};
use super::explanation::{Explain, Explained, ExplanationBody, PointsExplanation};
use super::flat::{FieldSlot, Flat};
use super::personal::Texts;
use super::request::check_conversation;
use super::values::{Features, WireText, optional, optional_text};
use crate::http::edge::error::ApiError;
use crate::http::openapi::shape;
use crate::scoring::baseline::KnownLabels;
use crate::scoring::{Ask, Scored};
use scoreline_domain::LeadScore;
use scoreline_domain::privacy::{IdHasher, Screen};
use scoreline_domain::score::round;
use scoreline_engine::features::Value;

/// Body of `POST /v1/predict/lead`.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeadRequest<'a> {
    #[serde(borrow, default, deserialize_with = "optional")]
    #[schema(schema_with = shape::features)]
    pub features: Option<Features<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    pub model: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    pub model_version: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_request_id)]
    pub request_id: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text", rename = "leadId")]
    #[schema(schema_with = shape::optional_text)]
    pub lead_id: Option<WireText<'a>>,
    /// The conversation that is going on with the lead.
    #[serde(borrow, default, deserialize_with = "optional_text", rename = "conversationId")]
    #[schema(schema_with = shape::optional_request_id)]
    pub conversation_id: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_time)]
    pub timestamp_utc: Option<WireText<'a>>,
    /// Where the lead comes from: picks the baseline when there is nothing to score.
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    pub lead_source: Option<WireText<'a>>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(schema_with = shape::explain)]
    pub explain: Option<Explain>,
}

/// Reply of `POST /v1/predict/lead`.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeadAnswer<'a> {
    /// `success`, or `fallback` when no model answered.
    status: &'static str,
    prediction: LeadPrediction,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<PointsExplanation>)]
    explanation: Option<ExplanationBody<'a>>,
    #[schema(value_type = AnswerMetadata)]
    metadata: AnswerMetadata<'a, LeadScore>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct LeadPrediction {
    pub priority_score: u8,
    pub conversion_probability: f64,
}

impl LeadRequest<'_> {
    /// Whom it is about.
    pub(crate) fn lead_id(&self) -> Option<&str> {
        self.lead_id.as_deref()
    }

    /// Looks at every text for what must not be sent.
    pub(crate) fn pass(&self, screen: Screen) -> Result<(), ApiError> {
        check_conversation(self.conversation_id.as_deref(), self.request_id.as_deref())?;
        let texts = Texts {
            request_id: self.request_id.as_deref(),
            id: ("leadId", self.lead_id.as_deref()),
            conversation: self.conversation_id.as_deref(),
            others: [
                ("lead_source", self.lead_source.as_deref()),
                ("model", self.model.as_deref()),
                ("model_version", self.model_version.as_deref()),
            ],
            features: self.features.as_ref(),
        };
        texts.pass(screen)
    }

    /// The question this request asks, about `features` and the hashed lead.
    pub(crate) fn ask<'s>(
        &'s self,
        features: Option<&'s [(&'s str, Option<Value<'s>>)]>,
        hasher: &IdHasher,
    ) -> Ask<'s> {
        Ask {
            model: self.model.as_deref(),
            version: self.model_version.as_deref(),
            customer: self.lead_id.as_deref().map(|id| hasher.key(id)),
            features,
            known: KnownLabels { channel: self.lead_source.as_deref(), segment: None },
            ..Ask::default()
        }
    }
}

impl<'a> Flat<'a> for LeadRequest<'a> {
    fn slot(&mut self, name: &str) -> Option<FieldSlot<'_, 'a>> {
        Some(FieldSlot::Text(match name {
            "model" => &mut self.model,
            "model_version" => &mut self.model_version,
            "request_id" => &mut self.request_id,
            "lead_id" | "leadId" => &mut self.lead_id,
            "conversation_id" | "conversationId" => &mut self.conversation_id,
            "timestamp_utc" => &mut self.timestamp_utc,
            "lead_source" => &mut self.lead_source,
            _ => return None,
        }))
    }

    fn features(&mut self) -> &mut Option<Features<'a>> {
        &mut self.features
    }
}

impl<'a> LeadAnswer<'a> {
    pub(crate) fn new(scored: &'a Scored<LeadScore>, context: Context<'a>, explained: Option<&Explained>) -> Self {
        let mut metadata = AnswerMetadata::new(scored, context);
        Self {
            status: status(scored),
            prediction: LeadPrediction::new(scored.estimate),
            explanation: metadata.explanation(explained),
            metadata,
        }
    }
}

impl LeadPrediction {
    pub(crate) fn new(score: LeadScore) -> Self {
        Self { priority_score: score.priority, conversion_probability: round(score.probability.get(), 1e6) }
    }
}
