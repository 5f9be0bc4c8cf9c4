//! A JSON object whose members are kept as they came, for requests that hold another request.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json;
use crate::http::edge::error::{ApiError, Code};

/// The members in their order, to the digit. A name may be there twice, for whoever reads it to refuse.
pub(crate) struct RawObject<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// A member that may be there once; `null` is absent.
    ///
    /// # Errors
    /// When it is there twice.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&'a RawValue>, ApiError> {
        let mut given = self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| *value);
        let (first, second) = (given.next(), given.next());
        if second.is_some() {
            return Err(ApiError::field(Code::InvalidField, name, format!("`{name}` is there twice")));
        }
        Ok(first.filter(|value| value.get() != "null"))
    }

    /// A text that may be there once.
    ///
    /// # Errors
    /// When it is there twice, or no text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, ApiError> {
        let not_text = |_| ApiError::field(Code::InvalidField, name, format!("`{name}` must be a text"));
        self.one(name)?.map(|value| serde_json::from_str(value.get()).map_err(not_text)).transpose()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// The object without these members.
    pub(crate) fn without(&self, left_out: &[&str]) -> Vec<u8> {
        let mut text = vec![b'{'];
        for (name, value) in self.0.iter().filter(|(name, _)| !left_out.contains(&&**name)) {
            if text.len() > 1 {
                text.push(b',');
            }
            json::append(&mut text, name);
            text.push(b':');
            text.extend_from_slice(value.get().as_bytes());
        }
        text.push(b'}');
        text
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    fields.push((name, map.next_value::<&'de RawValue>()?));
                }
                Ok(RawObject(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_asked_without_what_is_left_out() {
        let body = br#"{ "customerId": "C-1", "features": {"a\"b": 0.10000000000000000555, "n": 12345678901234567890},
            "callback_url": "https:\/\/hooks.example.com\/", "explain" : true }"#;
        let object: RawObject<'_> = json::parse_object(body).expect("an object");
        assert_eq!(object.text("callback_url").expect("a text").as_deref(), Some("https://hooks.example.com/"));
        let kept = object.without(&["customerId", "callback_url"]);
        let kept = String::from_utf8(kept).expect("UTF-8");
        assert_eq!(kept, r#"{"features":{"a\"b": 0.10000000000000000555, "n": 12345678901234567890},"explain":true}"#);
        let twice = br#"{"features":{},"features":{}}"#;
        let twice: RawObject<'_> = json::parse_object(twice).expect("an object");
        assert_eq!(twice.without(&[]), br#"{"features":{},"features":{}}"#, "for the request's own reader to refuse");
        for bad in [r#"{"callback_url":7}"#, r#"{"callback_url":"a","callback_url":"b"}"#] {
            let object: RawObject<'_> = json::parse_object(bad.as_bytes()).expect("an object");
            assert_eq!(object.text("callback_url").expect_err(bad).field.as_deref(), Some("callback_url"));
        }
    }
}
