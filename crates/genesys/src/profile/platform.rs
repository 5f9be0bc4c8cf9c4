//! Custom fields of an external contact: read, compared, and what differs is written.
//!
//! Contacts carry no version, so a writer that comes in between is noticed only when the platform says so with a 409.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ProfileUpdate, SeenProfile};
use crate::SendFault;
use crate::settings::{GenesysSettings, ProfileWrite};
use crate::transport::{ApiOperation, Method, ONE, Permits, Request, Transport};
use scoreline_domain::time::Timestamp;

/// Numbers are the same when they differ by less than they are written with.
const SAME: f64 = 1e-9;

/// The two things of a contact that are looked at; the rest is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Contact {
    /// The one that this one was merged into.
    #[serde(default, rename = "canonicalContact")]
    canonical: Option<CanonicalContact>,
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

/// A contact as it was read. It is held for one write only.
pub(super) struct ReadContact {
    body: Vec<u8>,
    changed: Vec<(String, Value)>,
}

pub(super) async fn read(
    transport: &Transport,
    settings: &GenesysSettings,
    permits: &Permits,
    contact: &SecretString,
    update: &ProfileUpdate,
) -> Result<(SeenProfile, ReadContact), SendFault> {
    let request = Request {
        operation: ApiOperation::ContactRead,
        method: Method::GET,
        path: &["externalcontacts", "contacts", contact.expose_secret()],
        query: &[],
        body: None,
        attempts: ONE,
    };
    let answer = transport.once(&request, permits).await?;
    let current: Contact = answer.json().map_err(|err| SendFault::from(&err))?;
    let fields = current.custom_fields.as_ref();
    let changed = changed(&wanted(settings, update), fields);
    let field = |name: &str| fields.and_then(|fields| fields.get(name));
    let calculated_at = field(&settings.fields.last_calculated_at).and_then(Value::as_str);
    let calculated_at: Option<Timestamp> = calculated_at.and_then(|text| text.parse().ok());
    let seen = match calculated_at {
        _ if changed.is_empty() => SeenProfile::AsItWas,
        Some(calculated_at) if calculated_at > update.last_calculated_at => SeenProfile::Newer { calculated_at },
        calculated_at => {
            // What a merged contact says was written for another customer, too: nobody's edit.
            let canonical = current.canonical.as_ref().and_then(|canonical| canonical.id.as_deref());
            let is_own = canonical.is_none_or(|id| id == contact.expose_secret());
            let tier = field(&settings.fields.clv_tier).and_then(Value::as_str).filter(|_| is_own).map(Into::into);
            SeenProfile::Differs { tier, calculated_at }
        }
    };
    Ok((seen, ReadContact { body: answer.body, changed }))
}

pub(super) async fn write(
    transport: &Transport,
    settings: &GenesysSettings,
    permits: &Permits,
    contact: &SecretString,
    read: &ReadContact,
) -> Result<(), SendFault> {
    let unreadable = |err: serde_json::Error| SendFault::Refused { status: 422, reason: err.to_string() };
    let (method, body) = match settings.profile_write {
        ProfileWrite::Patch => {
            let current: Contact = serde_json::from_slice(&read.body).map_err(unreadable)?;
            (Method::PATCH, patch(settings, &current, &read.changed))
        }
        ProfileWrite::Put => {
            let whole: Map<String, Value> = serde_json::from_slice(&read.body).map_err(unreadable)?;
            (Method::PUT, put(settings, whole, &read.changed))
        }
    };
    let request = Request {
        operation: ApiOperation::ContactWrite,
        method,
        path: &["externalcontacts", "contacts", contact.expose_secret()],
        query: &[],
        body: Some(body.to_string().into_bytes()),
        attempts: ONE,
    };
    transport.once(&request, permits).await.map(drop)
}

/// The fields an update wants; what is not known is left alone.
fn wanted(settings: &GenesysSettings, update: &ProfileUpdate) -> Vec<(String, Value)> {
    let fields = &settings.fields;
    let score = |score: f64| json!((score * 1e4).round() / 1e4);
    let mut wanted = vec![
        (fields.predicted_clv_value.clone(), json!((update.predicted_clv_value * 1e2).round() / 1e2)),
        (fields.clv_tier.clone(), json!(update.clv_tier.as_str())),
        (fields.last_calculated_at.clone(), json!(format!("{:.3}", update.last_calculated_at))),
    ];
    wanted.extend(update.confidence_score.map(|confidence| (fields.confidence_score.clone(), score(confidence))));
    wanted.extend(update.risk_score.map(|risk| (fields.risk_score.clone(), score(risk))));
    wanted
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
