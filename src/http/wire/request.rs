//! The documented request, as it stands on the wire. Strings borrow from the body.

use serde::Deserialize;
use utoipa::ToSchema;

use super::explanation::Explain;
use super::personal::{Texts, refusal};
use super::values::{Features, NamedFeatures, WireText, optional, optional_text, optional_tier};
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::request_id::accepted;
use crate::http::openapi::shape;
use crate::scoring::baseline::KnownLabels;
use crate::scoring::{Ask, FEATURES_TIME, Prefer, TIME_ALLOWED};
use scoreline_domain::Tier;
use scoreline_domain::privacy::{IdHasher, Screen};
use scoreline_domain::time::{Timestamp, utc_time};
use scoreline_engine::features::Value;

/// Body of `POST /v1/predict/clv` and `POST /v1/route/tier`.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictRequest<'a> {
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
    #[serde(borrow, default, deserialize_with = "optional_text", rename = "customerId")]
    #[schema(schema_with = shape::optional_text)]
    pub customer_id: Option<WireText<'a>>,
    /// The conversation that is going on. Only closed ones are ever in stored features, so naming it changes nothing:
    /// callers may send what they have.
    #[serde(borrow, default, deserialize_with = "optional_text", rename = "conversationId")]
    #[schema(schema_with = shape::optional_request_id)]
    pub conversation_id: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_time)]
    pub timestamp_utc: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    pub acquisition_channel: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    pub segment: Option<WireText<'a>>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(schema_with = shape::explain)]
    pub explain: Option<Explain>,
    /// Level of the prediction interval, among those the bundle is calibrated for.
    #[serde(default, deserialize_with = "optional")]
    pub interval_level: Option<f64>,
    /// The tier the customer has been in, so that a value near a limit does not move them.
    #[serde(default, deserialize_with = "optional_tier")]
    #[schema(schema_with = shape::optional_tier)]
    pub previous_tier: Option<Tier>,
}

impl PredictRequest<'_> {
    pub(crate) fn id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// When the features were computed, if the caller says so.
    pub(crate) fn features_as_of(&self) -> Result<Option<Timestamp>, ApiError> {
        time(self.timestamp_utc.as_deref())
    }

    /// The features in the form a question takes.
    pub(crate) fn named_features(&self) -> Option<NamedFeatures<'_>> {
        self.features.as_ref().map(Features::named)
    }

    /// Looks at every text for what must not be sent.
    pub(crate) fn pass(&self, screen: Screen) -> Result<(), ApiError> {
        check_conversation(self.conversation_id.as_deref(), self.id())?;
        let texts = Texts {
            request_id: self.id(),
            id: ("customerId", self.customer_id.as_deref()),
            conversation: self.conversation_id.as_deref(),
            others: [
                ("acquisition_channel", self.acquisition_channel.as_deref()),
                ("segment", self.segment.as_deref()),
                ("model", self.model.as_deref()),
                ("model_version", self.model_version.as_deref()),
            ],
            features: self.features.as_ref(),
        };
        texts.pass(screen)
    }

    /// The question this request asks, about `features` and the hashed customer.
    pub(crate) fn ask<'s>(
        &'s self,
        features: Option<&'s [(&'s str, Option<Value<'s>>)]>,
        hasher: &IdHasher,
        prefer: Prefer,
    ) -> Ask<'s> {
        Ask {
            model: self.model.as_deref(),
            version: self.model_version.as_deref(),
            customer: self.customer_id.as_deref().map(|id| hasher.key(id)),
            features,
            stored: None,
            dated: None,
            known: KnownLabels { channel: self.acquisition_channel.as_deref(), segment: self.segment.as_deref() },
            prefer,
            level: self.interval_level,
            previous: self.previous_tier,
            deadline: None,
            shed: false,
        }
    }
}

/// # Errors
/// When the id of a conversation is none that a platform gives. The error is that of the request of this id.
pub(crate) fn check_conversation(id: Option<&str>, request_id: Option<&str>) -> Result<(), ApiError> {
    if id.is_none_or(accepted) {
        return Ok(());
    }
    let problem = "`conversationId` must be 1 to 128 visible ASCII characters";
    Err(ApiError::field(Code::InvalidField, "conversationId", problem).of_request(request_id))
}

/// The time in `timestamp_utc`, if there is one.
pub(crate) fn time(text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    utc_time(text).map(Some).ok_or_else(|| {
        let problem = format!("`{FEATURES_TIME}` must be {TIME_ALLOWED}");
        ApiError::field(Code::InvalidField, FEATURES_TIME, problem)
    })
}

/// The id to answer under: the caller's own, if it may be echoed.
pub(crate) fn checked_request_id<'a>(
    own: Option<&'a str>,
    screen: Screen,
    otherwise: impl FnOnce() -> &'a str,
) -> Result<&'a str, ApiError> {
    own.map_or_else(|| Ok(otherwise()), |id| checked_id("request_id", id, screen))
}

/// The id of a request in this field, if it may be echoed.
pub(crate) fn checked_id<'a>(field: &str, id: &'a str, screen: Screen) -> Result<&'a str, ApiError> {
    if !accepted(id) {
        let problem = format!("`{field}` must be 1 to 128 visible ASCII characters");
        return Err(ApiError::field(Code::InvalidField, field, problem));
    }
    screen.request(id).map(|()| id).map_err(|why| refusal(field, why))
}
