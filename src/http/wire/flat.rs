//! Requests and answers of data actions: flat scalars in, flat scalars out, because a data action cannot send nested
//! objects. An absent input may be missing, null, empty, or the unresolved text of a template.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, IntoDeserializer as _, MapAccess, Unexpected, Visitor};
use smallvec::SmallVec;
use utoipa::ToSchema;

use super::answer::{FeatureSeconds, Seconds, WarningList, status};
use super::request::PredictRequest;
use super::values::{DIGITS_AS_TEXT, FeatureValue, Features, WireText};
use crate::http::edge::error::{ApiError, LONGEST_NAME};
use crate::http::openapi::shape;
use crate::routing::Routing;
use crate::scoring::Scored;
use scoreline_domain::privacy::screen::public;
use scoreline_domain::score::{cents, round};
use scoreline_domain::template::is_unfilled;
use scoreline_domain::text::shown;
use scoreline_domain::{Estimate, Tier};

/// What the document says of a reply.
pub(crate) const FLAT: &str = "An answer, or an error with the neutral answer beside it: `status` says which.";

/// All warnings in one scalar.
fn warnings<E>(scored: &Scored<E>, dropped: &Dropped) -> String {
    let mut text = String::new();
    let mut say = |word: &str, name: &str| {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(word);
        text.push_str(name);
    };
    let Ok(()) = WarningList { scored, not_explained: None }.each(|warning| {
        say(warning, "");
        Ok::<(), std::convert::Infallible>(())
    });
    dropped.0.iter().for_each(|name| say("unknown: ", name));
    text
}

/// An answer of any task without a nested object.
#[derive(Serialize, ToSchema)]
pub(crate) struct FlatAnswer<'a, P> {
    /// `success`, or `fallback` when no model answered.
    status: &'static str,
    /// `ok`, or why no model answered.
    reason: &'static str,
    #[serde(flatten)]
    prediction: P,
    source: &'static str,
    model: &'a str,
    model_version: &'a str,
    inference_latency_ms: f64,
    #[schema(schema_with = shape::moment)]
    scored_at: Seconds,
    age_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = shape::moment)]
    features_as_of: Option<FeatureSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features_age_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_level: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    /// Apart by `; `.
    warnings: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The agent's page of the conversation.
    widget_url: Option<String>,
    request_id: &'a str,
}

/// An error with the neutral prediction beside it.
#[derive(Serialize, ToSchema)]
pub(crate) struct FlatError<'a, P> {
    /// `error`.
    status: &'static str,
    /// The code of the error.
    reason: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(flatten)]
    prediction: P,
    request_id: &'a str,
}

impl<'a, P> FlatAnswer<'a, P> {
    /// `page` is the address of the agent's page.
    pub(crate) fn new<E>(
        scored: &'a Scored<E>,
        prediction: P,
        dropped: &Dropped,
        page: Option<String>,
        request_id: &'a str,
    ) -> Self {
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
            warnings: warnings(scored, dropped),
            widget_url: page,
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
#[derive(Serialize, ToSchema)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    tier_probability: Option<f64>,
    #[schema(schema_with = shape::tier)]
    clv_tier: Tier,
    skill_id: &'a str,
    priority: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    low_confidence: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<&'static str>,
    use_default_routing: bool,
    /// Routed as if there were no score, to learn what the scores earn.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    control: bool,
}

impl<'a> FlatPrediction<'a> {
    pub(crate) fn new(estimate: &Estimate, routing: Routing<'a>) -> Self {
        Self {
            clv_value_usd: cents(estimate.value),
            confidence_interval_low: estimate.interval.map(|interval| cents(interval.low())),
            confidence_interval_high: estimate.interval.map(|interval| cents(interval.high())),
            risk_score: estimate.risk.map(|risk| round(risk.get(), 1e4)),
            confidence_score: estimate.confidence.map(|confidence| round(confidence.get(), 1e4)),
            tier_probability: estimate.tier_probability.map(|share| round(share.get(), 1e4)),
            clv_tier: estimate.tier,
            skill_id: &routing.route.skill_id,
            priority: routing.route.priority,
            queue: routing.route.queue.as_deref(),
            low_confidence: routing.low_confidence,
            badge: routing.badge(),
            use_default_routing: routing.use_default,
            control: routing.control,
        }
    }
}

/// A flat object: a handful of known names, everything else is a feature.
pub(crate) struct FlatRequest<R> {
    pub request: R,
    pub spelling: Spelling,
}

/// Which fields came under a name that only data actions use, and how they are called elsewhere.
#[derive(Default)]
pub(crate) struct Spelling(SmallVec<[(Cow<'static, str>, Cow<'static, str>); 3]>);

/// The names of data actions, and those of a request that is not flat.
const SPELLINGS: [(&str, &str); 3] =
    [("customer_id", "customerId"), ("conversation_id", "conversationId"), ("lead_id", "leadId")];

impl Spelling {
    fn note(&mut self, name: &str) {
        let known = SPELLINGS.into_iter().find(|(flat, _)| *flat == name);
        self.0.extend(known.map(|(flat, nested)| (flat.into(), nested.into())));
    }

    /// An error in the names that the caller wrote: there is no `features` in a flat object.
    pub(crate) fn of(&self, error: ApiError) -> ApiError {
        let Some(field) = error.field.as_deref() else { return error };
        let feature = field.strip_prefix("features.");
        let known = self.0.iter().find(|(_, nested)| nested == feature.unwrap_or(field)).map(|(flat, _)| &**flat);
        let Some(flat) = known.or(feature) else { return error };
        let (flat, named) = (flat.to_owned(), format!("`{field}`"));
        let message = error.message.replacen(&named, &format!("`{flat}`"), 1);
        ApiError { message, field: Some(flat), ..error }
    }
}

/// A request that can also come flat.
pub(crate) trait Flat<'a>: Default {
    /// Where the value of a known name goes.
    fn slot(&mut self, name: &str) -> Option<FieldSlot<'_, 'a>>;

    fn features(&mut self) -> &mut Option<Features<'a>>;

    /// Calls features by the names of the model and takes out those that nobody knows, and names them: a published contract of
    /// a data action cannot be changed, so that an input more is no mistake.
    fn drop_unknown(
        &mut self,
        spelling: &mut Spelling,
        feature_named: impl Fn(&str) -> Option<Cow<'_, str>>,
    ) -> Dropped {
        let Some(features) = self.features() else { return Dropped::default() };
        let mut dropped = Dropped::default();
        features.0.retain_mut(|(name, _)| {
            let own = match feature_named(name) {
                Some(Cow::Borrowed(_)) => return true,
                Some(Cow::Owned(own)) => own,
                None => {
                    // What is personal is not repeated.
                    let is_public = public(name).is_ok();
                    let told = if is_public { shown(name, LONGEST_NAME).into() } else { "a personal name".to_owned() };
                    dropped.0.push(told);
                    return false;
                }
            };
            spelling.0.push((Cow::Owned(name.to_string()), Cow::Owned(own.clone())));
            *name = Cow::Owned(own);
            true
        });
        if features.0.is_empty() {
            *self.features() = None;
        }
        dropped
    }
}

/// Names of scalars that mean nothing here.
#[derive(Default)]
pub(crate) struct Dropped(Vec<String>);

impl Dropped {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
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

    fn features(&mut self) -> &mut Option<Features<'a>> {
        &mut self.features
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
                let mut spelling = Spelling::default();
                while let Some(name) = map.next_key::<WireText<'a>>()? {
                    match request.slot(&name) {
                        // An absent value takes nothing back: a field may come under both of its names.
                        Some(FieldSlot::Text(slot)) => {
                            if let Some(text) = map.next_value::<FlatText<'a>>()?.0 {
                                *slot = Some(text);
                                spelling.note(&name);
                            }
                        }
                        Some(FieldSlot::Number(slot)) => *slot = map.next_value::<FlatNumber>()?.0.or(*slot),
                        Some(FieldSlot::Tier(slot)) => *slot = map.next_value::<FlatTier>()?.0.or(*slot),
                        None => {
                            if let Some(value) = map.next_value::<FlatFeature<'a>>()?.0 {
                                features.0.push((name.0, Some(value)));
                            }
                        }
                    }
                }
                // Only an id and nothing else means "whatever is known about them".
                *request.features() = (!features.0.is_empty()).then_some(features);
                Ok(FlatRequest { request, spelling })
            }
        }

        deserializer.deserialize_map(FlatVisitor(PhantomData))
    }
}

/// One value of a data action: what the template made of an input.
enum FlatScalar<'a> {
    Absent,
    Number(f64),
    /// A whole number, whose digits may be an identifier's.
    Whole(u64),
    Text(Cow<'a, str>),
}

impl<'a> FlatScalar<'a> {
    fn of_text(text: Cow<'a, str>) -> Self {
        let is_absent = matches!(text.trim(), "" | "null") || is_unfilled(&text);
        if is_absent { Self::Absent } else { Self::Text(text) }
    }

    /// Whether a feature's text is a number or a category is for the schema to say.
    fn feature<E: serde::de::Error>(self) -> Result<Option<FeatureValue<'a>>, E> {
        match self {
            Self::Absent => Ok(None),
            Self::Number(number) => Ok(Some(FeatureValue::Number(number))),
            Self::Whole(number) => Ok(Some(FeatureValue::Number(number as f64))),
            Self::Text(text) if text.len() <= 256 => Ok(Some(FeatureValue::Typed(text))),
            Self::Text(_) => Err(E::invalid_value(Unexpected::Other("a longer text"), &"at most 256 bytes")),
        }
    }

    fn number<E: serde::de::Error>(self) -> Result<Option<f64>, E> {
        match self {
            Self::Absent => Ok(None),
            Self::Number(number) => Ok(Some(number)),
            Self::Whole(number) => Ok(Some(number as f64)),
            Self::Text(text) => {
                text.trim().parse().map(Some).map_err(|_| E::invalid_value(Unexpected::Other("a text"), &"a number"))
            }
        }
    }

    fn tier<E: serde::de::Error>(self) -> Result<Option<Tier>, E> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Tier::deserialize(text.trim().into_deserializer()).map(Some),
            Self::Number(_) | Self::Whole(_) => {
                Err(E::invalid_value(Unexpected::Other("a number"), &"the name of a tier"))
            }
        }
    }

    fn text<E: serde::de::Error>(self) -> Result<Option<WireText<'a>>, E> {
        match self {
            Self::Absent => Ok(None),
            // An account number typed as a number is still an identifier, with the digits it came with.
            Self::Whole(number) => Ok(Some(WireText(Cow::Owned(number.to_string())))),
            Self::Number(_) => Err(E::invalid_value(Unexpected::Other("a number"), &DIGITS_AS_TEXT)),
            Self::Text(text) if text.len() <= 256 => Ok(Some(WireText::new(text))),
            Self::Text(_) => Err(E::invalid_value(Unexpected::Other("a longer text"), &"at most 256 bytes")),
        }
    }
}

/// What a scalar is read as: a value that is no such thing is an error at its own place.
struct FlatText<'a>(Option<WireText<'a>>);
struct FlatNumber(Option<f64>);
struct FlatTier(Option<Tier>);
struct FlatFeature<'a>(Option<FeatureValue<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for FlatText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FlatScalar::deserialize(deserializer)?.text().map(Self)
    }
}

impl<'de> Deserialize<'de> for FlatNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FlatScalar::deserialize(deserializer)?.number().map(Self)
    }
}

impl<'de> Deserialize<'de> for FlatTier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FlatScalar::deserialize(deserializer)?.tier().map(Self)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for FlatFeature<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FlatScalar::deserialize(deserializer)?.feature().map(Self)
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
                Ok(FlatScalar::Whole(value))
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
