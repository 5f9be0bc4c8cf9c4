//! The values of a request: texts and features, borrowed from the body where they hold no escapes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use smallvec::SmallVec;

use scoreline_engine::features::Value;

/// Named feature values; `None` for null.
#[derive(Default)]
pub(crate) struct Features<'a>(pub Vec<(Cow<'a, str>, Option<FeatureValue<'a>>)>);

/// A feature's value on the wire.
pub(crate) enum FeatureValue<'a> {
    Number(f64),
    Text(Cow<'a, str>),
    /// Text of a caller that knows no types.
    Typed(Cow<'a, str>),
}

/// A string of the request, at most 256 bytes, borrowed unless it holds escapes.
#[derive(Clone)]
pub(crate) struct WireText<'a>(pub Cow<'a, str>);

/// Longest string of a request, in bytes.
const LONGEST_TEXT: usize = 256;
/// Most entries of `features`.
const MOST_FEATURES: usize = 1024;
/// Room that is made for them at once.
const USUAL_FEATURES: usize = 16;

/// Feature names and values, borrowed from a request.
pub(crate) type NamedFeatures<'a> = SmallVec<[(&'a str, Option<Value<'a>>); 16]>;

impl Features<'_> {
    /// In the form a question takes.
    pub(crate) fn named(&self) -> NamedFeatures<'_> {
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

impl std::ops::Deref for WireText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for WireText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = WireText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a non-empty string of at most {LONGEST_TEXT} bytes")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<WireText<'de>, E> {
                if text.is_empty() || text.len() > LONGEST_TEXT {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(WireText(Cow::Borrowed(text)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WireText<'de>, E> {
                if text.is_empty() || text.len() > LONGEST_TEXT {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(WireText(Cow::Owned(text.to_owned())))
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
                while let Some(name) = map.next_key::<WireText<'a>>()? {
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
