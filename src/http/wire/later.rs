//! A question to be answered later: the documented request and whom to tell, in one object.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json;
use crate::http::edge::error::{ApiError, Code};

/// Names whom to tell.
pub(crate) const CALLBACK: &str = "callback_url";

/// The object's fields as they came, so that what is kept of them is what was asked, to the digit.
pub(crate) struct LaterRequest<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl LaterRequest<'_> {
    /// The address to tell.
    ///
    /// # Errors
    /// When it is there twice, or no text.
    pub(crate) fn callback(&self) -> Result<Option<Cow<'_, str>>, ApiError> {
        let mut given = self.0.iter().filter(|(name, _)| name == CALLBACK).map(|(_, value)| value);
        let (first, second) = (given.next(), given.next());
        let problem = || ApiError::field(Code::InvalidField, CALLBACK, format!("`{CALLBACK}` must be one URL"));
        match (first, second) {
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(problem()),
            (Some(value), None) => serde_json::from_str(value.get()).map_err(|_| problem()),
        }
    }

    /// The object without whom to tell, and without these fields.
    pub(crate) fn without(&self, left_out: &[&str]) -> Vec<u8> {
        let mut text = vec![b'{'];
        for (name, value) in self.0.iter().filter(|(name, _)| name != CALLBACK && !left_out.contains(&&**name)) {
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

impl<'de: 'a, 'a> Deserialize<'de> for LaterRequest<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = LaterRequest<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LaterRequest<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    fields.push((name, map.next_value::<&'de RawValue>()?));
                }
                Ok(LaterRequest(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_asked_without_whom_it_is_about() {
        let body = br#"{ "customerId": "C-1", "features": {"a\"b": 0.10000000000000000555, "n": 12345678901234567890},
            "callback_url": "https:\/\/hooks.example.com\/", "explain" : true }"#;
        let later: LaterRequest<'_> = json::parse_object(body).expect("an object");
        assert_eq!(later.callback().expect("a text").as_deref(), Some("https://hooks.example.com/"));
        let kept = later.without(&["customerId"]);
        let kept = String::from_utf8(kept).expect("UTF-8");
        assert_eq!(kept, r#"{"features":{"a\"b": 0.10000000000000000555, "n": 12345678901234567890},"explain":true}"#);
        let twice = br#"{"features":{},"features":{}}"#;
        let twice: LaterRequest<'_> = json::parse_object(twice).expect("an object");
        assert_eq!(twice.without(&[]), br#"{"features":{},"features":{}}"#, "for the request's own reader to refuse");
        for bad in [r#"{"callback_url":7}"#, r#"{"callback_url":"a","callback_url":"b"}"#] {
            let later: LaterRequest<'_> = json::parse_object(bad.as_bytes()).expect("an object");
            assert_eq!(later.callback().expect_err(bad).field.as_deref(), Some(CALLBACK));
        }
    }
}
