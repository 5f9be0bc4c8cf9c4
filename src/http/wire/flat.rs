//! Requests and answers of data actions: flat scalars in, flat scalars out, because a data action cannot send nested
//! objects. An absent input may be missing, null, empty, or the unresolved text of a template.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, IntoDeserializer as _, MapAccess, Unexpected, Visitor};

use super::answer::{FeatureSeconds, Seconds, WarningList, status};
use super::request::PredictRequest;
use super::values::{FeatureValue, Features, WireText};
use crate::http::edge::error::ApiError;
use crate::routing::TierPolicy;
use crate::scoring::Scored;
use scoreline_domain::score::{cents, round};
use scoreline_domain::{Estimate, Tier};

/// All warnings in one scalar.
fn warnings<E>(scored: &Scored<E>) -> String {
    let mut text = String::new();
    let Ok(()) = WarningList { scored, not_explained: None }.each(|warning| {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(warning);
        Ok::<(), std::convert::Infallible>(())
    });
    text
}

/// An answer of any task without a nested object.
#[derive(Serialize)]
pub(crate) struct FlatAnswer<'a, P> {
    status: &'static str,
    reason: &'static str,
    #[serde(flatten)]
    prediction: P,
    source: &'static str,
    model: &'a str,
    model_version: &'a str,
    inference_latency_ms: f64,
    scored_at: Seconds,
    age_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    features_as_of: Option<FeatureSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features_age_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_level: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    warnings: String,
    request_id: &'a str,
}

/// An error with the neutral prediction beside it.
#[derive(Serialize)]
pub(crate) struct FlatError<'a, P> {
    status: &'static str,
    reason: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(flatten)]
    prediction: P,
    request_id: &'a str,
}

impl<'a, P> FlatAnswer<'a, P> {
    pub(crate) fn new<E>(scored: &'a Scored<E>, prediction: P, request_id: &'a str) -> Self {
        Self {
            status: status(scored),
            reason: scored.reason.map_or("ok", crate::scoring::FallbackReason::as_str),
            prediction,
            source: scored.source.as_str(),
            model: scored.snapshot.name().as_str(),
            model_version: scored.version.as_str(),
            inference_latency_ms: round(scored.latency_ms, 1e4),
            scored_at: Seconds(scored.scored_at),
            age_seconds: scored.age_seconds,
            features_as_of: scored.features_as_of.map(FeatureSeconds),
            features_age_seconds: scored.features_age_seconds(),
            interval_level: scored.interval_level,
            warnings: warnings(scored),
            request_id,
        }
    }
}

impl<'a, P> FlatError<'a, P> {
    /// An `error` shown under `request_id`.
    pub(crate) fn new(error: &'a ApiError, prediction: P, request_id: &'a str) -> Self {
        Self {
            status: "error",
            reason: error.code.as_str(),
            message: &error.message,
            field: error.field.as_deref(),
            prediction,
            request_id,
        }
    }
}

/// The CLV estimate and where it routes to, without a nested object.
#[derive(Serialize)]
pub(crate) struct FlatPrediction<'a> {
    clv_value_usd: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence_interval_low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence_interval_high: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk_score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence_score: Option<f64>,
    clv_tier: Tier,
    skill_id: &'a str,
    priority: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    low_confidence: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<&'static str>,
}

impl<'a> FlatPrediction<'a> {
    pub(crate) fn new(estimate: &Estimate, policy: &'a TierPolicy) -> Self {
        let routing = policy.decide(estimate);
        Self {
            clv_value_usd: cents(estimate.value),
            confidence_interval_low: estimate.interval.map(|interval| cents(interval.low())),
            confidence_interval_high: estimate.interval.map(|interval| cents(interval.high())),
            risk_score: estimate.risk.map(|risk| round(risk.get(), 1e4)),
            confidence_score: estimate.confidence.map(|confidence| round(confidence.get(), 1e4)),
            clv_tier: estimate.tier,
            skill_id: &routing.route.skill_id,
            priority: routing.route.priority,
            queue: routing.route.queue.as_deref(),
            low_confidence: routing.low_confidence,
            badge: routing.badge(),
        }
    }
}

/// A flat object: a handful of known names, everything else is a feature.
pub(crate) struct FlatRequest<R>(pub R);

/// A request that can also come flat.
pub(crate) trait Flat<'a>: Default {
    /// Where the value of a known name goes.
    fn slot(&mut self, name: &str) -> Option<FieldSlot<'_, 'a>>;

    fn set_features(&mut self, features: Option<Features<'a>>);
}

/// A field of a request, by what it holds.
pub(crate) enum FieldSlot<'s, 'a> {
    Text(&'s mut Option<WireText<'a>>),
    Number(&'s mut Option<f64>),
    Tier(&'s mut Option<Tier>),
}

impl<'a> Flat<'a> for PredictRequest<'a> {
    fn slot(&mut self, name: &str) -> Option<FieldSlot<'_, 'a>> {
        Some(FieldSlot::Text(match name {
            "interval_level" => return Some(FieldSlot::Number(&mut self.interval_level)),
            "previous_tier" => return Some(FieldSlot::Tier(&mut self.previous_tier)),
            "model" => &mut self.model,
            "model_version" => &mut self.model_version,
            "request_id" => &mut self.request_id,
            "customer_id" | "customerId" => &mut self.customer_id,
            "conversation_id" | "conversationId" => &mut self.conversation_id,
            "timestamp_utc" => &mut self.timestamp_utc,
            "acquisition_channel" => &mut self.acquisition_channel,
            "segment" => &mut self.segment,
            _ => return None,
        }))
    }

    fn set_features(&mut self, features: Option<Features<'a>>) {
        self.features = features;
    }
}

impl<'de: 'a, 'a, R: Flat<'a>> Deserialize<'de> for FlatRequest<R>
where
    R: 'a,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlatVisitor<'a, R>(PhantomData<&'a R>);

        impl<'de: 'a, 'a, R: Flat<'a> + 'a> Visitor<'de> for FlatVisitor<'a, R> {
            type Value = FlatRequest<R>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a flat object of strings, numbers and booleans")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FlatRequest<R>, A::Error> {
                let mut request = R::default();
                let mut features = Features::default();
                while let Some(name) = map.next_key::<WireText<'a>>()? {
                    match request.slot(&name) {
                        Some(FieldSlot::Text(slot)) => *slot = map.next_value::<FlatScalar<'a>>()?.text()?,
                        Some(FieldSlot::Number(slot)) => *slot = map.next_value::<FlatScalar<'a>>()?.number()?,
                        Some(FieldSlot::Tier(slot)) => *slot = map.next_value::<FlatScalar<'a>>()?.tier()?,
                        None => {
                            if let Some(value) = map.next_value::<FlatScalar<'a>>()?.feature()? {
                                features.0.push((name.0, Some(value)));
                            }
                        }
                    }
                }
                // Only an id and nothing else means "whatever is known about them".
                request.set_features((!features.0.is_empty()).then_some(features));
                Ok(FlatRequest(request))
            }
        }

        deserializer.deserialize_map(FlatVisitor(PhantomData))
    }
}

/// One value of a data action: what the template made of an input.
enum FlatScalar<'a> {
    Absent,
    Number(f64),
    Text(Cow<'a, str>),
}

impl<'a> FlatScalar<'a> {
    fn of_text(text: Cow<'a, str>) -> Self {
        // `${input.x}` is what a template prints for an input nobody gave.
        let unresolved = text.starts_with("${") || text.starts_with("$!{") || text == "null";
        if unresolved || text.trim().is_empty() { Self::Absent } else { Self::Text(text) }
    }

    /// Whether a feature's text is a number or a category is for the schema to say.
    fn feature<E: serde::de::Error>(self) -> Result<Option<FeatureValue<'a>>, E> {
        match self {
            Self::Absent => Ok(None),
            Self::Number(number) => Ok(Some(FeatureValue::Number(number))),
            Self::Text(text) if text.len() <= 256 => Ok(Some(FeatureValue::Typed(text))),
            Self::Text(_) => Err(E::invalid_value(Unexpected::Other("a longer text"), &"at most 256 bytes")),
        }
    }

    fn number<E: serde::de::Error>(self) -> Result<Option<f64>, E> {
        match self {
            Self::Absent => Ok(None),
            Self::Number(number) => Ok(Some(number)),
            Self::Text(text) => {
                text.trim().parse().map(Some).map_err(|_| E::invalid_value(Unexpected::Other("a text"), &"a number"))
            }
        }
    }

    fn tier<E: serde::de::Error>(self) -> Result<Option<Tier>, E> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Tier::deserialize(text.trim().into_deserializer()).map(Some),
            Self::Number(_) => Err(E::invalid_value(Unexpected::Other("a number"), &"the name of a tier")),
        }
    }

    fn text<E: serde::de::Error>(self) -> Result<Option<WireText<'a>>, E> {
        match self {
            Self::Absent => Ok(None),
            // An account number typed as a number is still an identifier.
            Self::Number(number) => Ok(Some(WireText(Cow::Owned(number.to_string())))),
            Self::Text(text) if text.len() <= 256 => Ok(Some(WireText(text))),
            Self::Text(_) => Err(E::invalid_value(Unexpected::Other("a longer text"), &"at most 256 bytes")),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for FlatScalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = FlatScalar<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, number, boolean or null")
            }

            fn visit_unit<E>(self) -> Result<FlatScalar<'de>, E> {
                Ok(FlatScalar::Absent)
            }

            fn visit_bool<E>(self, value: bool) -> Result<FlatScalar<'de>, E> {
                Ok(FlatScalar::Number(f64::from(u8::from(value))))
            }

            fn visit_f64<E>(self, value: f64) -> Result<FlatScalar<'de>, E> {
                Ok(FlatScalar::Number(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<FlatScalar<'de>, E> {
                Ok(FlatScalar::Number(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<FlatScalar<'de>, E> {
                Ok(FlatScalar::Number(value as f64))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<FlatScalar<'de>, E> {
                Ok(FlatScalar::of_text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<FlatScalar<'de>, E> {
                Ok(FlatScalar::of_text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}
