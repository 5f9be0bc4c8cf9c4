//! Conversations from a file: served as they were recorded.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::SimulatorError;
use super::ids::Id;
use super::moment::Moment;
use scoreline_domain::time::Timestamp;

pub(super) struct Recorded {
    pub(super) id: Id,
    pub(super) start: Moment,
    pub(super) end: Option<Moment>,
    /// The conversation's JSON, without blanks.
    pub(super) json: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "they are called so in the JSON")]
struct Head {
    conversation_id: String,
    conversation_start: Timestamp,
    conversation_end: Option<Timestamp>,
}

/// Reads NDJSON, or JSON values one after another: each a conversation, or a page with `conversations`.
pub(super) fn read(path: &Path) -> Result<Vec<Recorded>, SimulatorError> {
    let text = fs::read_to_string(path)
        .map_err(|source| SimulatorError::RecordedUnreadable { path: path.to_owned(), source })?;
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        let invalid =
            |source| SimulatorError::RecordedInvalid { path: path.to_owned(), number: found.len() + 1, source };
        match value.map_err(invalid)? {
            Value::Object(mut page) if page.contains_key("conversations") => {
                let conversations = page.remove("conversations").unwrap_or_default();
                let invalid =
                    |source| SimulatorError::RecordedInvalid { path: path.to_owned(), number: found.len() + 1, source };
                let conversations: Vec<Value> = serde_json::from_value(conversations).map_err(invalid)?;
                for conversation in conversations {
                    let number = found.len() + 1;
                    found.push(recorded(&conversation).map_err(|source| SimulatorError::RecordedInvalid {
                        path: path.to_owned(),
                        number,
                        source,
                    })?);
                }
            }
            conversation @ (Value::Object(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => {
                let recorded = recorded(&conversation).map_err(invalid)?;
                found.push(recorded);
            }
        }
    }
    Ok(found)
}

fn recorded(conversation: &Value) -> Result<Recorded, serde_json::Error> {
    let head = Head::deserialize(conversation)?;
    let id = Id::parse(&head.conversation_id)
        .ok_or_else(|| serde::de::Error::custom(format!("`{}` is no conversation id", head.conversation_id)))?;
    Ok(Recorded {
        id,
        start: head.conversation_start.into(),
        end: head.conversation_end.map(Moment::from),
        json: conversation.to_string(),
    })
}

impl Recorded {
    /// Every value that the record has under a name, at any depth.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut open: Vec<Value> = serde_json::from_str(&self.json).ok().into_iter().collect();
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    for (key, value) in fields {
                        if let Some(text) = value.as_str().filter(|_| key == name) {
                            found.push(text.to_owned());
                        } else {
                            open.push(value);
                        }
                    }
                }
                Value::Array(values) => open.extend(values),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        found
    }

    /// As a job saw it before the conversation's end: without the end.
    pub(super) fn json_as_of(&self, as_of: i64) -> String {
        if self.end.is_none_or(|end| end.0 <= as_of) {
            return self.json.clone();
        }
        let mut value: serde_json::Map<String, Value> = serde_json::from_str(&self.json).unwrap_or_default();
        value.remove("conversationEnd");
        Value::Object(value).to_string()
    }
}
