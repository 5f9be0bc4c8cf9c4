//! The documented request, as it stands on the wire. Strings borrow from the body.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use smallvec::SmallVec;

use super::error::{ApiError, Code};
use super::observe::accepted;
use super::personal::{Texts, request_id_passes};
use crate::scoring::baseline::Known;
use crate::scoring::{Ask, Prefer};
use scoreline_domain::Tier;
use scoreline_domain::privacy::{IdHasher, Screen};
use scoreline_domain::time::Timestamp;
use scoreline_engine::features::Value;

/// Body of `POST /v1/predict/clv` and `POST /v1/route/tier`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest<'a> {
    #[serde(borrow, default)]
    pub features: Option<Features<'a>>,
    #[serde(borrow, default)]
    pub model: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub model_version: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub request_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "customerId")]
    pub customer_id: Option<Text<'a>>,
    /// The conversation that is going on. Only closed ones are ever in stored features, so naming it changes nothing:
    /// callers may send what they have.
    #[serde(borrow, default, rename = "conversationId")]
    pub conversation_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub timestamp_utc: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub acquisition_channel: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub segment: Option<Text<'a>>,
    #[serde(default)]
    pub explain: Option<bool>,
    /// Level of the prediction interval, among those the bundle is calibrated for.
    #[serde(default)]
    pub interval_level: Option<f64>,
    /// The tier the customer has been in, so that a value near a limit does not move them.
    #[serde(default)]
    pub previous_tier: Option<Tier>,
}

/// Named feature values; `None` for null.
#[derive(Default)]
pub struct Features<'a>(pub Vec<(Cow<'a, str>, Option<FeatureValue<'a>>)>);

/// A feature's value on the wire.
pub enum FeatureValue<'a> {
    Number(f64),
    Text(Cow<'a, str>),
    /// Text of a caller that knows no types.
    Typed(Cow<'a, str>),
}

/// A string of the request, at most 256 bytes, borrowed unless it holds escapes.
#[derive(Clone)]
pub struct Text<'a>(pub Cow<'a, str>);

/// Longest string of a request, in bytes.
const LONGEST_TEXT: usize = 256;
/// Most entries of `features`.
const MOST_FEATURES: usize = 1024;
/// Room that is made for them at once.
const USUAL_FEATURES: usize = 16;

impl PredictRequest<'_> {
    pub fn id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// When the features were computed, if the caller says so.
    pub fn features_as_of(&self) -> Result<Option<Timestamp>, ApiError> {
        time(self.timestamp_utc.as_deref())
    }

    /// The features in the form a question takes.
    pub fn named_features(&self) -> Option<NamedFeatures<'_>> {
        self.features.as_ref().map(Features::named)
    }

    /// Looks at every text for what must not be sent.
    pub fn pass(&self, screen: Screen) -> Result<(), ApiError> {
        if self.conversation_id.as_deref().is_some_and(|id| !accepted(id)) {
            let problem = "`conversationId` must be 1 to 128 visible ASCII characters";
            return Err(ApiError::field(Code::InvalidField, "conversationId", problem).of_request(self.id()));
        }
        let texts = Texts {
            request_id: self.id(),
            id: ("customerId", self.customer_id.as_deref()),
            others: [
                ("acquisition_channel", self.acquisition_channel.as_deref()),
                ("segment", self.segment.as_deref()),
                ("model", self.model.as_deref()),
                ("model_version", self.model_version.as_deref()),
                ("conversationId", self.conversation_id.as_deref()),
            ],
            features: self.features.as_ref(),
        };
        texts.pass(screen)
    }

    /// The question this request asks, about `features` and the hashed customer.
    pub fn ask<'s>(
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
            known: Known { channel: self.acquisition_channel.as_deref(), segment: self.segment.as_deref() },
            prefer,
            level: self.interval_level,
            previous: self.previous_tier,
            deadline: None,
            shed: false,
        }
    }
}

/// The time in `timestamp_utc`, if there is one.
pub fn time(text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let problem = "`timestamp_utc` must be an RFC 3339 time such as `2023-10-27T14:30:00Z`";
        ApiError::field(Code::InvalidField, "timestamp_utc", problem)
    })
}

/// The id to answer under: the caller's own, if it may be echoed.
pub fn checked_request_id<'a>(own: Option<&'a str>, otherwise: impl FnOnce() -> &'a str) -> Result<&'a str, ApiError> {
    match own {
        Some(id) if !accepted(id) => {
            let problem = "`request_id` must be 1 to 128 visible ASCII characters";
            Err(ApiError::field(Code::InvalidField, "request_id", problem))
        }
        Some(id) => request_id_passes(id).map(|()| id),
        None => Ok(otherwise()),
    }
}

/// Feature names and values, borrowed from a request.
pub type NamedFeatures<'a> = SmallVec<[(&'a str, Option<Value<'a>>); 16]>;

impl Features<'_> {
    /// In the form a question takes.
    pub fn named(&self) -> NamedFeatures<'_> {
        self.0.iter().map(|(name, value)| (&**name, value.as_ref().map(FeatureValue::value))).collect()
    }
}

impl FeatureValue<'_> {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Text(text),
            Self::Typed(text) => Value::Typed(text),
        }
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a non-empty string of at most {LONGEST_TEXT} bytes")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                if text.is_empty() || text.len() > LONGEST_TEXT {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                if text.is_empty() || text.len() > LONGEST_TEXT {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Features<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The list is invariant in its lifetime, so the visitor must name it.
        struct FeaturesVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for FeaturesVisitor<'a> {
            type Value = Features<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of feature names with numbers or texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Features<'a>, A::Error> {
                // On the heap: a list of this size would be moved several times on its way to the handler.
                let mut features = Vec::with_capacity(USUAL_FEATURES);
                while let Some(name) = map.next_key::<Text<'a>>()? {
                    let value: Option<FeatureValue<'a>> = map.next_value()?;
                    if features.len() == MOST_FEATURES {
                        return Err(serde::de::Error::custom(format!("holds more than {MOST_FEATURES} features")));
                    }
                    features.push((name.0, value));
                }
                Ok(Features(features))
            }
        }

        deserializer.deserialize_map(FeaturesVisitor(PhantomData))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for FeatureValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = FeatureValue<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number, a text of at most {LONGEST_TEXT} bytes or null")
            }

            fn visit_f64<E>(self, value: f64) -> Result<FeatureValue<'de>, E> {
                Ok(FeatureValue::Number(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<FeatureValue<'de>, E> {
                Ok(FeatureValue::Number(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<FeatureValue<'de>, E> {
                Ok(FeatureValue::Number(value as f64))
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<FeatureValue<'de>, E> {
                if text.len() > LONGEST_TEXT {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(FeatureValue::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FeatureValue<'de>, E> {
                if text.len() > LONGEST_TEXT {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(FeatureValue::Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}
