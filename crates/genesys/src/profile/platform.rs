//! Custom fields of an external contact: read, compared, and what differs is written.
//!
//! Contacts carry no version, so a writer that comes in between is noticed only when the platform says so with a 409: then
//! the contact is read once more. What was read tells, too, whether somebody changed by hand what was written last.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ProfileScores, ProfileUpdate, ProfileWritten, SharedContacts, WriteFault, fault};
use crate::GenesysError;
use crate::settings::{GenesysSettings, ProfileWrite};
use crate::transport::{ApiOperation, HASTY, Method, Request, Transport};
use scoreline_domain::time::Timestamp;

/// Numbers are the same when they differ by less than they are written with.
const SAME: f64 = 1e-9;

/// What of a contact is looked at; the rest is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Contact {
    /// The one that this one was merged into.
    #[serde(default)]
    canonical_contact: Option<CanonicalContact>,
    #[serde(default)]
    custom_fields: Option<Map<String, Value>>,
    #[serde(default)]
    schema: Option<Schema>,
}

#[derive(Deserialize)]
struct CanonicalContact {
    id: Option<String>,
}

#[derive(Deserialize)]
struct Schema {
    id: Option<String>,
    version: Option<u32>,
}

pub(super) async fn write(
    transport: &Transport,
    settings: &GenesysSettings,
    shared: &SharedContacts,
    contact: &SecretString,
    update: &ProfileUpdate,
) -> Result<ProfileWritten, WriteFault> {
    let wanted = fields(settings, &update.scores);
    let path = ["externalcontacts", "contacts", contact.expose_secret()];
    let mut has_conflicted = false;
    loop {
        let read = Request {
            operation: ApiOperation::ContactRead,
            method: Method::GET,
            path: &path,
            query: &[],
            body: None,
            attempts: HASTY,
        };
        let answer = transport.call(&read).await.map_err(|err| fault(&err))?;
        let current: Contact = answer.json().map_err(|err| fault(&err))?;
        let canonical = current.canonical_contact.as_ref().and_then(|canonical| canonical.id.as_deref());
        let is_shared = shared.look(contact.expose_secret(), canonical);
        let changed = changed(&wanted, current.custom_fields.as_ref());
        if changed.is_empty() {
            return Ok(ProfileWritten::AsItWas);
        }
        let edited = update.last.as_ref().zip(current.custom_fields.as_ref());
        let edited = !is_shared && edited.is_some_and(|(last, current)| is_edited(settings, last, current));
        let (method, body) = match settings.profile_write {
            ProfileWrite::Patch => (Method::PATCH, patch(settings, &current, &changed)),
            ProfileWrite::Put => {
                let whole: Map<String, Value> = answer.json().map_err(|err| fault(&err))?;
                (Method::PUT, put(settings, whole, &changed))
            }
        };
        let body = Some(body.to_string().into_bytes());
        let operation = ApiOperation::ContactWrite;
        let write = Request { operation, method, path: &path, query: &[], body, attempts: HASTY };
        match transport.call(&write).await {
            Ok(_) if edited => return Ok(ProfileWritten::ChangedOverEdit),
            Ok(_) => return Ok(ProfileWritten::Changed),
            Err(GenesysError::Refused { status: 409, .. }) if !has_conflicted => has_conflicted = true,
            Err(err) => return Err(fault(&err)),
        }
    }
}

/// The fields that scores are written to; what is not known is left alone.
fn fields(settings: &GenesysSettings, scores: &ProfileScores) -> Vec<(String, Value)> {
    let names = &settings.fields;
    let share = |share: f64| json!((share * 1e4).round() / 1e4);
    let mut fields = vec![
        (names.predicted_clv_value.clone(), json!((scores.predicted_clv_value * 1e2).round() / 1e2)),
        (names.clv_tier.clone(), json!(scores.clv_tier.as_str())),
        (names.last_calculated_at.clone(), json!(format!("{:.3}", scores.last_calculated_at))),
    ];
    fields.extend(scores.confidence_score.map(|confidence| (names.confidence_score.clone(), share(confidence))));
    fields.extend(scores.risk_score.map(|risk| (names.risk_score.clone(), share(risk))));
    fields
}

/// Whether somebody else changed what was written last. Scores of another time are some that we wrote without hearing that
/// they arrived. Where there are none at all, the contact is a new one.
fn is_edited(settings: &GenesysSettings, last: &ProfileScores, current: &Map<String, Value>) -> bool {
    let time = &settings.fields.last_calculated_at;
    let written_at = current.get(time).and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    let last_at = last.last_calculated_at.as_millisecond();
    if written_at.is_some_and(|written_at| written_at.as_millisecond() != last_at) {
        return false;
    }
    let mut last = fields(settings, last);
    last.retain(|(name, _)| name != time);
    let is_there = |(name, _): &(String, Value)| current.get(name).is_some_and(|value| !value.is_null());
    last.iter().any(is_there) && !changed(&last, Some(current)).is_empty()
}

fn changed(wanted: &[(String, Value)], current: Option<&Map<String, Value>>) -> Vec<(String, Value)> {
    let differs = |(name, value): &&(String, Value)| {
        !current.and_then(|fields| fields.get(name)).is_some_and(|is| same(is, value))
    };
    wanted.iter().filter(differs).cloned().collect()
}

fn same(one: &Value, another: &Value) -> bool {
    match (one.as_f64(), another.as_f64()) {
        (Some(one), Some(another)) => (one - another).abs() < SAME,
        (None, Some(_)) | (Some(_), None) => false,
        (None, None) => one == another,
    }
}

fn patch(settings: &GenesysSettings, current: &Contact, changed: &[(String, Value)]) -> Value {
    let mut changes: Vec<Value> = Vec::new();
    if let Some(schema) = schema(settings, current.schema.as_ref()) {
        changes.push(json!({ "field": "$.schema", "value": schema, "action": "Update" }));
    }
    changes.extend(
        changed.iter().map(
            |(name, value)| json!({ "field": format!("$.customFields.{name}"), "value": value, "action": "Update" }),
        ),
    );
    json!({ "changes": changes })
}

/// The contact as it was read, with what has changed. It is held for this moment only.
fn put(settings: &GenesysSettings, mut whole: Map<String, Value>, changed: &[(String, Value)]) -> Value {
    let current = whole.get("schema").and_then(|schema| Schema::deserialize(schema).ok());
    if let Some(schema) = schema(settings, current.as_ref()) {
        whole.insert("schema".to_owned(), schema);
    }
    let mut fields = match whole.remove("customFields") {
        Some(Value::Object(fields)) => fields,
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) | None => Map::new(),
    };
    fields.extend(changed.iter().cloned());
    whole.insert("customFields".to_owned(), Value::Object(fields));
    Value::Object(whole)
}

/// The schema that has to be named, when the contact has another one or none.
fn schema(settings: &GenesysSettings, current: Option<&Schema>) -> Option<Value> {
    let wanted = settings.contact_schema.as_ref()?;
    let is_there = current.is_some_and(|schema| {
        schema.id.as_deref() == Some(&wanted.id) && schema.version.is_some_and(|version| version >= wanted.version)
    });
    (!is_there).then(|| json!({ "id": wanted.id, "version": wanted.version }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let wanted = vec![("a_number".to_owned(), json!(1.5)), ("b_text".to_owned(), json!("High_Value"))];
        let current = json!({ "a_number": 1.5, "b_text": "Low_Value", "others": 1 });
        let current = current.as_object();
        assert_eq!(changed(&wanted, current), [("b_text".to_owned(), json!("High_Value"))]);
        assert_eq!(changed(&wanted, None).len(), 2);
        assert!(same(&json!(2), &json!(2.0)) && !same(&json!("2"), &json!(2.0)));
    }
}
