//! The values of a request: texts and features, borrowed from the body where they hold no escapes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, Error as _, IntoDeserializer as _, MapAccess, SeqAccess, Unexpected, Visitor};
use smallvec::SmallVec;

use scoreline_domain::Tier;
use scoreline_domain::template::is_unfilled;
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

/// A string of the request without outer blanks, at most 256 bytes, borrowed unless it holds escapes.
#[derive(Clone)]
pub(crate) struct WireText<'a>(pub Cow<'a, str>);

/// Longest string of a request, in bytes.
pub(crate) const LONGEST_TEXT: usize = 256;
/// What a text must be that came as a number which no identifier or version is.
pub(crate) const DIGITS_AS_TEXT: &str = "a text, or a whole number of at most 19 digits";
/// Most entries of `features`.
pub(crate) const MOST_FEATURES: usize = 1024;
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
    /// The same value, borrowed.
    pub(crate) fn lent(&self) -> FeatureValue<'_> {
        match self {
            Self::Number(number) => FeatureValue::Number(*number),
            Self::Text(text) => FeatureValue::Text(Cow::Borrowed(text)),
            Self::Typed(text) => FeatureValue::Typed(Cow::Borrowed(text)),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Text(text),
            Self::Typed(text) => Value::Typed(text),
        }
    }
}

impl WireText<'_> {
    /// The same text, borrowed.
    pub(crate) fn lent(&self) -> WireText<'_> {
        WireText(Cow::Borrowed(&self.0))
    }
}

impl<'a> WireText<'a> {
    /// Blanks around a text are a part of no name and no identifier.
    pub(crate) fn new(text: Cow<'a, str>) -> Self {
        Self(match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) if text.trim().len() < text.len() => Cow::Owned(text.trim().to_owned()),
            Cow::Owned(text) => Cow::Owned(text),
        })
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
        let text = deserializer.deserialize_any(TextVisitor { may_be_absent: false })?;
        text.ok_or_else(|| D::Error::invalid_type(Unexpected::Unit, &TextVisitor { may_be_absent: false }))
    }
}

/// A text that may be missing: null, blank, or what a template says that nobody filled in.
pub(crate) fn optional_text<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<WireText<'a>>, D::Error> {
    deserializer.deserialize_any(TextVisitor { may_be_absent: true })
}

/// A tier that may be missing, as `optional_text`.
pub(crate) fn optional_tier<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Tier>, D::Error> {
    optional_text(deserializer)?.map(|text| Tier::deserialize((*text).into_deserializer())).transpose()
}

/// Whether a text says that there is no value: a blank one, or a template's that nobody filled in.
fn is_absent(text: &str) -> bool {
    text.trim().is_empty() || is_unfilled(text)
}

/// A value of another kind that may be missing: null, or a text that says so.
pub(crate) fn optional<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct OptionalVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OptionalVisitor<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value or null")
        }

        fn visit_unit<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Option<T>, E> {
            T::deserialize(value.into_deserializer()).map(Some)
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Option<T>, E> {
            T::deserialize(value.into_deserializer()).map(Some)
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Option<T>, E> {
            T::deserialize(value.into_deserializer()).map(Some)
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<Option<T>, E> {
            T::deserialize(value.into_deserializer()).map(Some)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<T>, E> {
            if is_absent(text) { Ok(None) } else { T::deserialize(text.into_deserializer()).map(Some) }
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Option<T>, A::Error> {
            T::deserialize(SeqAccessDeserializer::new(list)).map(Some)
        }
    }

    deserializer.deserialize_any(OptionalVisitor(PhantomData))
}

struct TextVisitor {
    may_be_absent: bool,
}

impl TextVisitor {
    /// The text, `None` for one that says that there is none.
    fn take<E: de::Error>(self, text: Cow<'_, str>) -> Result<Option<WireText<'_>>, E> {
        if is_absent(&text) {
            return if self.may_be_absent { Ok(None) } else { Err(E::invalid_length(0, &self)) };
        }
        if text.len() > LONGEST_TEXT {
            Err(E::invalid_length(text.len(), &self))
        } else {
            Ok(Some(WireText::new(text)))
        }
    }
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Option<WireText<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a non-empty string of at most {LONGEST_TEXT} bytes")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        self.take(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.take(Cow::Owned(text.to_owned()))
    }

    /// An account number typed as a number is still an identifier, with the digits it came with.
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(WireText(Cow::Owned(number.to_string()))))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Err(E::invalid_type(Unexpected::Float(number), &DIGITS_AS_TEXT))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        if self.may_be_absent { Ok(None) } else { Err(E::invalid_type(Unexpected::Unit, &self)) }
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
