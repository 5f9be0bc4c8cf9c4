//! Schemas of values that many bodies hold, and of those that are read in more than one form.

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};

use scoreline_domain::Tier;

/// The tier of an answer.
pub(crate) fn tier() -> RefOr<Schema> {
    read(json!({"type": "string", "enum": Tier::ALL.map(Tier::as_str)}))
}

/// A tier that may be missing.
pub(crate) fn optional_tier() -> RefOr<Schema> {
    let names = Tier::ALL.iter().map(|tier| json!(tier.as_str())).chain([Value::Null]);
    read(json!({"type": ["string", "null"], "enum": names.collect::<Vec<_>>()}))
}

/// A name or identifier that may be missing. A whole number is taken by its digits.
pub(crate) fn optional_text() -> RefOr<Schema> {
    read(json!({"type": ["string", "integer", "null"], "maxLength": 256, "minimum": 0, "maximum": u64::MAX}))
}

/// As `optional_text`, of what is required.
pub(crate) fn text() -> RefOr<Schema> {
    read(json!({"type": ["string", "integer"], "minLength": 1, "maxLength": 256, "minimum": 0, "maximum": u64::MAX}))
}

/// The id to answer under.
pub(crate) fn optional_request_id() -> RefOr<Schema> {
    read(json!({
        "type": ["string", "integer", "null"], "pattern": "^[!-~]{0,128}$", "minimum": 0, "maximum": u64::MAX,
    }))
}

/// A time that may be missing; without an offset it is UTC.
pub(crate) fn optional_time() -> RefOr<Schema> {
    read(json!({"anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": ["string", "null"], "maxLength": 0, "description": "Absent."},
    ]}))
}

/// A time. One that is read may have no offset, and is UTC then.
pub(crate) fn moment() -> RefOr<Schema> {
    read(json!({"type": "string", "format": "date-time"}))
}

/// A day.
pub(crate) fn day() -> RefOr<Schema> {
    read(json!({"type": "string", "format": "date"}))
}

/// US dollars.
pub(crate) fn amount() -> RefOr<Schema> {
    read(json!({"type": "number", "minimum": 0}))
}

/// `explain` of a question.
pub(crate) fn explain() -> RefOr<Schema> {
    read(json!({
        "type": ["boolean", "string", "null"], "enum": [true, false, "members", null],
        "description": "`true` asks for what moved the answer by groups of features, `members` for their features too.",
    }))
}

/// Features by name. What the models that serve take is put in later.
pub(crate) fn features() -> RefOr<Schema> {
    read(json!({"type": ["object", "null"], "additionalProperties": {"type": ["number", "string", "null"]}}))
}

/// Features of a lead, which are needed.
pub(crate) fn lead_features() -> RefOr<Schema> {
    read(json!({"$ref": "#/components/schemas/LeadFeatures"}))
}

/// A model's name or version.
pub(crate) fn optional_name() -> RefOr<Schema> {
    read(json!({"type": ["string", "null"], "pattern": "^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$"}))
}

/// As `optional_name`, of what is required.
pub(crate) fn name() -> RefOr<Schema> {
    read(json!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}))
}

/// Where an answer is told to.
pub(crate) fn callback() -> Value {
    json!({
        "type": ["string", "null"], "format": "uri", "maxLength": 2048,
        "description": "Told the answer, signed; on a host that the settings allow.",
    })
}

/// The value of a feature that was given, a category by its name.
pub(crate) fn given() -> RefOr<Schema> {
    read(json!({"type": ["number", "string"]}))
}

/// The elements of a tensor; null is missing.
pub(crate) fn values() -> RefOr<Schema> {
    read(json!({"type": "array", "items": {"type": ["number", "string", "boolean", "null"]}}))
}

/// The elements of a tensor that is answered.
pub(crate) fn outputs() -> RefOr<Schema> {
    read(json!({"type": "array", "description": "Numbers or texts, row by row; null where there is none."}))
}

/// A number that may come as a text of its digits.
pub(crate) fn figure() -> RefOr<Schema> {
    read(json!({
        "type": ["number", "string"], "minimum": -1e12, "maximum": 1e12, "pattern": "^-?[0-9]{1,12}([.][0-9]+)?$",
    }))
}

fn read(value: Value) -> RefOr<Schema> {
    serde_json::from_value(value).expect("a schema")
}
