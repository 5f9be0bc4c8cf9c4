//! Which field of a body is wrong and what it may hold, in the words of the types that read it.
//!
//! Only a body that could not be read comes here. It is read a second time, by a deserialiser whose error keeps what was
//! expected where a library's would keep a sentence. Nothing of what a caller sent is repeated.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserialize, Deserializer, Expected, IntoDeserializer, MapAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

use crate::http::edge::error::{ApiError, Code, LONGEST_NAME, public_name};
use scoreline_domain::text::{number_in_words, shown};

/// The error of a body that `T` could not be read from, for the reason `err`.
pub(super) fn describe<'a, T: Deserialize<'a>>(body: &'a [u8], err: &serde_json::Error) -> ApiError {
    let raw: &RawValue = match serde_json::from_slice(body) {
        Ok(raw) => raw,
        Err(broken) => return malformed(if err.is_data() { &broken } else { err }),
    };
    let Err(found) = serde_path_to_error::deserialize::<_, T>(Raw(raw)) else { return malformed(err) };
    let path = found.path().to_string();
    let fault = found.into_inner();
    if fault == FieldFault::NoText {
        return malformed(err);
    }
    if let Err(why) = public_name(&path) {
        return ApiError::personal_name(&path, place(raw, &path), why);
    }
    let code = if path.starts_with("features.") { Code::InvalidFeature } else { Code::InvalidField };
    let field = if path == "." { "body".into() } else { shown(&path, LONGEST_NAME) };
    ApiError::field(code, &*field, format!("`{field}` {fault}"))
}

/// Which field of its object the one at `path` is, from 1.
fn place(object: &RawValue, path: &str) -> Option<usize> {
    let Fields(fields) = serde_json::from_str(object.get()).ok()?;
    fields.iter().zip(1..).find_map(|((name, value), number)| match path.strip_prefix(name.as_str())? {
        "" => Some(number),
        below => place(value.0, below.strip_prefix('.')?),
    })
}

fn malformed(err: &serde_json::Error) -> ApiError {
    let place = format!("body is not valid JSON at line {} column {}", err.line(), err.column());
    ApiError::new(Code::MalformedJson, place)
}

/// Reads fields that came otherwise than in a body of JSON.
///
/// # Errors
/// Names the field, as a part of what is called `above`.
pub(super) fn read_fields<'a, T, D>(above: &str, fields: D) -> Result<T, ApiError>
where
    T: Deserialize<'a>,
    D: Deserializer<'a, Error = FieldFault>,
{
    serde_path_to_error::deserialize(fields).map_err(|found| {
        let path = format!("{above}.{}", found.path());
        match public_name(&path) {
            Ok(()) => ApiError::field(Code::InvalidField, &*path, format!("`{path}` {}", found.inner())),
            Err(why) => ApiError::personal_name(&path, None, why),
        }
    })
}

/// Why a value is not taken, as it is said behind the name of its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FieldFault {
    /// It is something else than the one thing that is allowed.
    MustBe(String),
    /// An object has a field that is none of these.
    Unknown(&'static [&'static str]),
    Missing(&'static str),
    Repeated(&'static str),
    NotFinite,
    /// A text with escapes that stand for no characters: the body is no JSON.
    NoText,
    /// In the words of the type.
    Said(String),
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MustBe(allowed) => write!(f, "must be {allowed}"),
            Self::Unknown(known) => write!(f, "is not a known field; known are {}", quoted(known)),
            Self::Missing(field) => write!(f, "must hold `{field}`"),
            Self::Repeated(field) => write!(f, "must hold `{field}` once"),
            Self::NotFinite => f.write_str("must be a finite number"),
            Self::NoText => f.write_str("must be a text"),
            Self::Said(problem) => f.write_str(problem),
        }
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl std::error::Error for FieldFault {}

/// What is allowed, to somebody who does not know the types of this program.
fn in_words(allowed: &dyn Expected) -> String {
    let allowed = allowed.to_string();
    number_in_words(&allowed).unwrap_or(allowed)
}

impl de::Error for FieldFault {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::Said(problem.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, allowed: &dyn Expected) -> Self {
        Self::MustBe(in_words(allowed))
    }

    fn invalid_value(_: Unexpected<'_>, allowed: &dyn Expected) -> Self {
        Self::MustBe(in_words(allowed))
    }

    fn invalid_length(_: usize, allowed: &dyn Expected) -> Self {
        Self::MustBe(allowed.to_string())
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::MustBe(format!("one of {}", quoted(known)))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::Unknown(known)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Repeated(field)
    }
}

/// A part of a body that is known to be JSON.
#[derive(Clone, Copy)]
struct Raw<'de>(&'de RawValue);

/// The fields of an object in their order.
struct Fields<'de>(Vec<(String, Raw<'de>)>);

impl<'de> Raw<'de> {
    fn parts<T: Deserialize<'de>>(self) -> Result<T, FieldFault> {
        serde_json::from_str(self.0.get()).map_err(|_| FieldFault::NoText)
    }

    fn starts_with(self, first: char) -> bool {
        self.0.get().starts_with(first)
    }
}

impl<'de> Deserializer<'de> for Raw<'de> {
    type Error = FieldFault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldFault> {
        let text = self.0.get();
        match text.as_bytes().first() {
            Some(b'{') => visitor.visit_map(MapDeserializer::new(self.parts::<Fields<'de>>()?.0.into_iter())),
            Some(b'[') => {
                visitor.visit_seq(SeqDeserializer::new(self.parts::<Vec<&'de RawValue>>()?.into_iter().map(Raw)))
            }
            Some(b'"') => visitor.visit_string(self.parts()?),
            Some(b't') => visitor.visit_bool(true),
            Some(b'f') => visitor.visit_bool(false),
            Some(b'n') => visitor.visit_unit(),
            Some(_) | None => {
                if let Ok(number) = text.parse::<u64>() {
                    return visitor.visit_u64(number);
                }
                if let Ok(number) = text.parse::<i64>() {
                    return visitor.visit_i64(number);
                }
                match text.parse::<f64>() {
                    Ok(number) if number.is_finite() => visitor.visit_f64(number),
                    Ok(_) | Err(_) => Err(FieldFault::NotFinite),
                }
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldFault> {
        if self.starts_with('n') { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, FieldFault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldFault> {
        if !self.starts_with('"') {
            return Err(de::Error::unknown_variant("", known));
        }
        let name: String = self.parts()?;
        visitor.visit_enum(name.into_deserializer())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldFault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

impl<'de> IntoDeserializer<'de, FieldFault> for Raw<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((name, Raw(value)));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::flat::FlatRequest;
    use super::super::json::parse_object;
    use super::super::request::PredictRequest;
    use super::*;

    fn refused<'a, T: Deserialize<'a>>(body: &'a str) -> ApiError {
        parse_object::<T>(body.as_bytes()).map(drop).expect_err(body)
    }

    #[test]
    fn a_wrong_field_is_named_with_what_it_may_hold() {
        let long = format!(r#"{{"segment": "{}"}}"#, "x".repeat(257));
        for (body, field, problem) in [
            (r#"{"segment": [5]}"#, "segment", "must be a non-empty string of at most 256 bytes"),
            (&long, "segment", "must be a non-empty string of at most 256 bytes"),
            (r#"{"explain": "yes"}"#, "explain", "must be `true`, `false` or `members`"),
            (r#"{"explain": 1}"#, "explain", "must be `true`, `false` or `members`"),
            (r#"{"interval_level": [0.9]}"#, "interval_level", "must be a number"),
            (r#"{"features": 5}"#, "features", "must be an object of feature names with numbers or texts"),
            (r#"{"features": {"age": {}}}"#, "features.age", "must be a number, a text of at most 256 bytes or null"),
            (r#"{"features": {"age": -1e999}}"#, "features.age", "must be a finite number"),
            (
                r#"{"previous_tier": "SECRET"}"#,
                "previous_tier",
                "must be one of `Low_Value`, `Medium_Value`, `High_Value`",
            ),
            (r#"{"previous_tier": 7}"#, "previous_tier", "must be one of `Low_Value`, `Medium_Value`, `High_Value`"),
            (r#"{"explain": true, "explain": true}"#, "body", "must hold `explain` once"),
        ] {
            let error = refused::<PredictRequest<'_>>(body);
            assert_eq!(error.message, format!("`{field}` {problem}"), "{body}");
            assert_eq!(error.field.as_deref(), Some(field), "{body}");
        }
        let unknown = refused::<PredictRequest<'_>>(r#"{"SECRET": 1}"#).message;
        assert!(unknown.starts_with("`SECRET` is not a known field; known are `features`, `model`,"), "{unknown}");
        let long = format!(r#"{{"{}": 1}}"#, "x".repeat(5000));
        let cut = refused::<PredictRequest<'_>>(&long);
        assert!(cut.message.len() < 500 && cut.field.as_deref().is_some_and(|field| field.len() < 100), "{cut:?}");
        let of_data_action = refused::<FlatRequest<PredictRequest<'_>>>(r#"{"age": []}"#).message;
        assert_eq!(of_data_action, "`age` must be a string, number, boolean or null");
    }

    #[test]
    fn a_name_that_is_personal_data_is_told_by_its_place() {
        for name in ["4155550123", "415.555.0123", "+14155550123", "a@example.com"] {
            for (body, above, place) in [
                (format!(r#"{{"features": {{"age": 1, "{name}": [1]}}}}"#), "features", 2),
                (format!(r#"{{"segment": "x", "model": "y", "{name}": 1}}"#), "body", 3),
            ] {
                let error = refused::<PredictRequest<'_>>(&body);
                assert_eq!((error.code, error.field.as_deref()), (Code::PiiRefused, Some(above)), "{body}");
                let told = format!("the name of field {place} in `{above}` looks like ");
                assert!(error.message.starts_with(&told) && !error.message.contains(name), "{}", error.message);
            }
            let flat = format!(r#"{{"age": 1, "{name}": []}}"#);
            let error = refused::<FlatRequest<PredictRequest<'_>>>(&flat);
            assert!(error.message.starts_with("the name of field 2 in ") && !error.message.contains(name), "{error:?}");
        }
    }

    #[test]
    fn what_is_no_json_is_said_to_be_none_whatever_stands_before() {
        for body in [
            r#"{"segment": "#,
            r#"{"segment": 5, broken"#,
            r#"{"features": {"age": NaN}}"#,
            r#"{"segment": "\ud800"}"#,
            r#"{"segment": "x"} {}"#,
            "\u{0}",
            "",
        ] {
            let error = refused::<PredictRequest<'_>>(body);
            assert_eq!((error.code, error.field), (Code::MalformedJson, None), "{body}");
        }
    }
}
