//! Events about leads, in the shapes that senders have: bare, the payload of Standard Webhooks, the envelope of a bus (`EventBridge`).

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::parse_object;
use super::raw_object::RawObject;
use crate::http::edge::error::{ApiError, Code};
use scoreline_domain::time::Timestamp;

/// The guide's event: it brings a score.
const SCORE_UPDATE: &str = "LEAD_SCORE_UPDATE";
/// What is known of a lead has changed: its score is made here.
const LEAD_UPDATED: &str = "LEAD_UPDATED";
/// Members of the bare form.
const BARE: [&str; 8] =
    ["leadId", "timestamp", "new_score", "event", "sequence", "features", "lead_source", "request_id"];
/// Members that a question to the lead model takes.
const ASKED: [&str; 3] = ["leadId", "features", "lead_source"];

/// An event, taken out of its envelope.
pub(crate) struct LeadEvent<'a> {
    /// What the envelope calls it; one that comes again is answered as before.
    pub id: Option<String>,
    /// Whether it came over a bus that repeats what is refused.
    pub is_enveloped: bool,
    /// `None` for an event of another kind.
    pub told: Option<ToldLead<'a>>,
}

/// What an event tells of a lead.
pub(crate) struct ToldLead<'a> {
    /// 1 to 100; absent when it is to be made.
    pub score: Option<u8>,
    pub timestamp: Timestamp,
    pub sequence: u64,
    members: RawObject<'a>,
}

impl<'a> LeadEvent<'a> {
    /// # Errors
    /// Names what is missing or wrong.
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, ApiError> {
        let object: RawObject<'a> = parse_object(body)?;
        if let Some(detail) = object.one("detail")? {
            return Self::enveloped(&object, detail);
        }
        let (data, kind) = (object.one("data")?, object.text("type")?);
        if let (Some(data), Some(kind)) = (data, kind) {
            let timestamp = object.text("timestamp")?;
            let told = told(&kind, parse_object(data.get().as_bytes())?, timestamp.as_deref())?;
            return Ok(Self { id: None, is_enveloped: false, told });
        }
        if let Some(unknown) = object.names().find(|name| !BARE.contains(name)) {
            let allowed: Vec<_> = BARE.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("`{unknown}` is not known here; an event has {}", allowed.join(", "));
            return Err(ApiError::field(Code::InvalidField, unknown, message));
        }
        let kind = object.text("event")?;
        let kind = kind.unwrap_or(Cow::Borrowed(SCORE_UPDATE)).into_owned();
        let kind = if object.one("new_score")?.is_none() && kind == SCORE_UPDATE && object.one("features")?.is_some() {
            LEAD_UPDATED
        } else {
            &kind
        };
        Ok(Self { id: None, is_enveloped: false, told: told(kind, object, None)? })
    }

    fn enveloped(object: &RawObject<'a>, detail: &'a RawValue) -> Result<Self, ApiError> {
        let kind = object.text("detail-type")?.ok_or_else(|| missing("detail-type"))?;
        let id =
            object.text("id")?.map(|id| format!("{} {id}", object.text("source").ok().flatten().unwrap_or_default()));
        let mut inner: RawObject<'a> = parse_object(detail.get().as_bytes())?;
        if let Some(body) = inner.one("eventBody")? {
            inner = parse_object(body.get().as_bytes())?;
        }
        let told = told(&kind, inner, object.text("time")?.as_deref())?;
        Ok(Self { id, is_enveloped: true, told })
    }
}

impl ToldLead<'_> {
    /// What is asked of the lead model, or of its identifier alone, as a body of `POST /v1/predict/lead`.
    pub(crate) fn question(&self) -> Vec<u8> {
        let others: Vec<&str> = self.members.names().filter(|name| !ASKED.contains(name)).collect();
        self.members.without(&others)
    }
}

/// `otherwise` is the time of the envelope.
fn told<'a>(kind: &str, members: RawObject<'a>, otherwise: Option<&str>) -> Result<Option<ToldLead<'a>>, ApiError> {
    let brings_score = match kind {
        SCORE_UPDATE => true,
        LEAD_UPDATED => false,
        _ => return Ok(None),
    };
    if members.one("leadId")?.is_none() {
        return Err(missing("leadId"));
    }
    let timestamp = members.text("timestamp")?;
    let timestamp = timestamp.as_deref().or(otherwise).ok_or_else(|| missing("timestamp"))?;
    let timestamp = moment("timestamp", timestamp)?;
    let score = members.one("new_score")?.map(|score| read_score("new_score", score)).transpose()?;
    if brings_score && score.is_none() {
        return Err(missing("new_score"));
    }
    let sequence = sequence(&members)?;
    Ok(Some(ToldLead { score: score.filter(|_| brings_score), timestamp, sequence, members }))
}

/// A score as it is told: a number from 1 to 100, rounded half up.
///
/// # Errors
/// Names what it must be.
pub(crate) fn read_score(field: &'static str, value: &RawValue) -> Result<u8, ApiError> {
    let number: Option<f64> = serde_json::from_str(value.get()).ok();
    let number = number.filter(|number| (1.0..=100.0).contains(number));
    // Within 1 and 100.
    number.map(|number| (number + 0.5).floor() as u8).ok_or_else(|| invalid(field, "must be a number from 1 to 100"))
}

/// A time as it is told.
///
/// # Errors
/// Names what it must be.
pub(crate) fn moment(field: &'static str, text: &str) -> Result<Timestamp, ApiError> {
    text.trim().parse().map_err(|_| invalid(field, "must be an RFC 3339 time such as `2023-10-27T14:30:00Z`"))
}

/// What decides between facts of the same time; 0 when nothing is told.
///
/// # Errors
/// When it is not a whole number, 0 or more.
pub(crate) fn sequence(members: &RawObject<'_>) -> Result<u64, ApiError> {
    let told = members.one("sequence")?;
    let read = told.map(|value| {
        serde_json::from_str(value.get()).map_err(|_| invalid("sequence", "must be a whole number, 0 or more"))
    });
    Ok(read.transpose()?.unwrap_or(0))
}

pub(crate) fn missing(field: &'static str) -> ApiError {
    invalid(field, "is missing")
}

pub(crate) fn invalid(field: &'static str, problem: &str) -> ApiError {
    ApiError::field(Code::InvalidField, field, format!("`{field}` {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-28T10:00:00Z";

    fn read(body: &str) -> Result<LeadEvent<'_>, ApiError> {
        LeadEvent::read(body.as_bytes())
    }

    #[test]
    fn one_event_is_read_from_every_envelope() {
        let inner = format!(r#"{{"leadId":"10000045","timestamp":"{TIME}","new_score":86.5}}"#);
        let late = r#"{"leadId":10000045,"new_score":86.5}"#;
        for (body, enveloped, id) in [
            (inner.clone(), false, None),
            (format!(r#"{{"type":"LEAD_SCORE_UPDATE","timestamp":"{TIME}","data":{late}}}"#), false, None),
            (
                format!(
                    r#"{{"version":"0","id":"58fb","detail-type":"LEAD_SCORE_UPDATE","source":"crm","time":"{TIME}","detail":{late}}}"#
                ),
                true,
                Some("crm 58fb"),
            ),
            (
                format!(
                    r#"{{"id":"58fb","detail-type":"LEAD_SCORE_UPDATE","time":"{TIME}","detail":{{"eventBody":{inner}}}}}"#
                ),
                true,
                Some(" 58fb"),
            ),
        ] {
            let event = read(&body).unwrap_or_else(|err| panic!("{body}: {}", err.message));
            let told = event.told.expect("of this kind");
            assert_eq!((told.score, told.timestamp), (Some(87), TIME.parse().expect("a time")), "{body}");
            assert_eq!((event.is_enveloped, event.id.as_deref()), (enveloped, id), "{body}");
            let question = String::from_utf8(told.question()).expect("text");
            assert!(question == r#"{"leadId":"10000045"}"# || question == r#"{"leadId":10000045}"#, "{question}");
        }
    }

    #[test]
    fn features_are_asked_about_and_other_kinds_are_passed_over() {
        let body = format!(
            r#"{{"leadId":"L","timestamp":"{TIME}","event":"LEAD_UPDATED","features":{{"a":1}},"lead_source":"web"}}"#
        );
        let told = read(&body).ok().and_then(|event| event.told).expect("a lead");
        assert_eq!(told.score, None);
        assert_eq!(told.question(), br#"{"leadId":"L","features":{"a":1},"lead_source":"web"}"#);
        for other in [
            r#"{"detail-type":"ORDER_PLACED","detail":{"order":7}}"#,
            r#"{"type":"contact.created","timestamp":"x","data":{}}"#,
        ] {
            assert!(read(other).is_ok_and(|event| event.told.is_none()), "{other}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (body, field) in [
            (r#"{"timestamp":"2026-11-28T10:00:00Z","new_score":87}"#, "leadId"),
            (r#"{"leadId":"L","new_score":87}"#, "timestamp"),
            (r#"{"leadId":"L","timestamp":"yesterday","new_score":87}"#, "timestamp"),
            (r#"{"leadId":"L","timestamp":"2026-11-28T10:00:00Z"}"#, "new_score"),
            (r#"{"leadId":"L","timestamp":"2026-11-28T10:00:00Z","new_score":"87"}"#, "new_score"),
            (r#"{"leadId":"L","timestamp":"2026-11-28T10:00:00Z","new_score":0}"#, "new_score"),
            (r#"{"leadId":"L","timestamp":"2026-11-28T10:00:00Z","new_score":100.5}"#, "new_score"),
            (r#"{"leadId":"L","timestamp":"2026-11-28T10:00:00Z","new_score":1e400}"#, "new_score"),
            (r#"{"leadId":"L","timestamp":"2026-11-28T10:00:00Z","new_score":87,"new_score":88}"#, "new_score"),
            (r#"{"leadId":"L","timestamp":"2026-11-28T10:00:00Z","new_score":87,"sequence":-1}"#, "sequence"),
            (r#"{"leadId":"L","timestamp":"2026-11-28T10:00:00Z","new_score":87,"colour":"red"}"#, "colour"),
            (r#"{"detail":{}}"#, "detail-type"),
        ] {
            let Err(error) = read(body) else { panic!("{body}") };
            assert_eq!(error.field.as_deref(), Some(field), "{body}: {}", error.message);
        }
    }
}
