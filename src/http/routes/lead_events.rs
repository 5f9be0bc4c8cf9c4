//! `POST /v1/events/lead-score`: events about leads from other systems. A success means that the score, the event's id and the
//! verdict are on disk: one that comes again is answered as before. Never 410: senders switch off whoever says that.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use utoipa::ToSchema;

use super::lead_scores::{LeadIntake, ReadLead, newer_is_kept};
use crate::auth::Caller;
use crate::http::edge::auth::SIGNATURE;
use crate::http::edge::body::BatchPayload;
use crate::http::edge::deadline::kept_in_time;
use crate::http::edge::error::{ASK, ApiError, Code, error_response};
use crate::http::edge::request_id::{RequestId, RequestMetadata, with_request_id};
use crate::http::openapi::{Operation, Tag, shape};
use crate::http::state::{EventKeys, SharedState};
use crate::http::wire::json::{parse, respond, without_mark};
use crate::http::wire::lead_event::LeadEvent;
use crate::http::wire::rows::{RowError, RowResult};
use crate::leads::is_conflict;
use scoreline_domain::privacy::signature::{Headers, Unverified};
use scoreline_domain::time::Timestamp;
use scoreline_store::{LeadFact, LeadRuling, LeadSource, LeadVerdict};

/// Events of a request.
const MOST_EVENTS: usize = 100;
/// Tells senders that obey it not to send this again.
const DELIVERY: &str = "webhook-delivery";

#[derive(Serialize, ToSchema)]
struct EventAnswer<'a> {
    status: &'static str,
    event: EventBody,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    metadata: RequestMetadata<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TakenEvent)]
struct EventBody {
    /// `applied`, `unchanged`, `superseded`, `conflict`, `ignored` or `not_stored`.
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    last_calculated_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct EventsAnswer<'a> {
    status: &'static str,
    results: Vec<RowResult<'a, EventBody>>,
    metadata: RequestMetadata<'a>,
}

/// An event that was read; `None` for one of another kind, or without anything to keep.
struct ReadEvent {
    read: Option<ReadLead>,
    is_enveloped: bool,
}

/// As the document has the guide's event: it brings a score.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its shape is used")]
struct LeadScoreUpdate {
    #[schema(schema_with = shape::text)]
    #[serde(rename = "leadId")]
    lead_id: (),
    #[schema(format = DateTime)]
    timestamp: String,
    #[schema(minimum = 1, maximum = 100)]
    new_score: f64,
    #[schema(pattern = "^LEAD_SCORE_UPDATE$")]
    event: Option<String>,
    /// Decides between facts of one moment.
    sequence: Option<u64>,
}

/// As the document has an event about a lead that is scored here.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its shape is used")]
struct LeadUpdated {
    #[schema(schema_with = shape::text)]
    #[serde(rename = "leadId")]
    lead_id: (),
    #[schema(format = DateTime)]
    timestamp: String,
    #[schema(schema_with = shape::lead_features)]
    features: (),
    #[schema(schema_with = shape::optional_text, required = false)]
    lead_source: (),
    #[schema(pattern = "^LEAD_UPDATED$")]
    event: Option<String>,
    /// Decides between facts of one moment.
    sequence: Option<u64>,
}

pub(crate) fn describe() -> Operation {
    let example = json!({"leadId": "LEAD-000042", "timestamp": "2026-11-28T10:00:00Z", "new_score": 87});
    // The payload of Standard Webhooks, and the envelope of a bus: what is not listed is not read.
    let enveloped = json!({"type": "object", "anyOf": [
        {"required": ["type", "data"], "properties": {"type": {"type": "string"}, "data": {"type": "object"}}},
        {"required": ["detail-type", "detail"], "properties": {"detail-type": {"type": "string"}, "detail": {"type": "object"}}},
    ]});
    Operation::new(Tag::Facts, "lead_event", "Takes an event about a lead, or up to 100")
        .about("Bare, as the payload of Standard Webhooks, or in the envelope of EventBridge. One that comes again is answered as before.")
        .takes_any(
            |schemas| {
                let one = json!({"anyOf": [schemas.request::<LeadScoreUpdate>(), schemas.request::<LeadUpdated>(), enveloped]});
                json!({"anyOf": [one, {"type": "array", "items": one}]})
            },
            &example,
        )
        .gives::<EventAnswer<'static>>(StatusCode::ACCEPTED, "An event, or results of events.")
        .gives::<EventsAnswer<'static>>(StatusCode::ACCEPTED, "An event, or results of events.")
        .refuses(&ASK)
        .refuses(&[Code::TooManyRows, Code::Conflict, Code::StoreUnavailable])
}

pub(crate) async fn handle(
    State(app): State<SharedState>,
    caller: Option<Extension<Arc<Caller>>>,
    headers: HeaderMap,
    id: RequestId,
    BatchPayload(body): BatchPayload,
) -> Response {
    let sender = match app.event_keys.sender(&headers, &body, caller.is_some(), app.leads.now()) {
        Ok(sender) => sender,
        Err(refusal) => return error_response(refusal),
    };
    let intake = LeadIntake { scorer: &app.scorer, hasher: &app.hasher, desk: &app.leads };
    match answer(&intake, sender.as_deref(), &body, &id).await {
        Ok(response) => response,
        Err(error) => {
            // Sent again, it would be refused again.
            let is_final = matches!(error.code.status(), StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY);
            let mut response = error_response(error);
            if is_final {
                response.headers_mut().insert(DELIVERY, HeaderValue::from_static("abort-message"));
            }
            response
        }
    }
}

impl EventKeys {
    /// The id of the message when it is signed; `None` for a caller with a token, or where nobody is asked.
    ///
    /// # Errors
    /// One answer for every fault of a signature, so that nobody learns how far they came.
    fn sender(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        is_known: bool,
        now: Timestamp,
    ) -> Result<Option<String>, ApiError> {
        let Some(verifier) = &self.verifier else { return Ok(None) };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if header(SIGNATURE).is_none() && is_known {
            return Ok(None);
        }
        let signed =
            Headers { id: header("webhook-id"), timestamp: header("webhook-timestamp"), signature: header(SIGNATURE) };
        match verifier.verify(signed, body, now) {
            Ok(verified) => Ok(Some(verified.id.to_owned())),
            Err(Unverified::TooLarge { most }) => {
                Err(ApiError::new(Code::BodyTooLarge, format!("body must be at most {most} bytes")))
            }
            Err(why) => {
                tracing::debug!(%why, "an event is not signed by anybody known");
                metrics::counter!("scoreline_lead_events_unsigned_total").increment(1);
                Err(ApiError::new(
                    Code::Unauthenticated,
                    "the event is not signed with a secret of `events.secrets_file`, and its sender has no token with scope `events`",
                ))
            }
        }
    }
}

async fn answer(
    intake: &LeadIntake<'_>,
    sender: Option<&str>,
    body: &[u8],
    id: &RequestId,
) -> Result<Response, ApiError> {
    intake.desk.store()?;
    let body = without_mark(body);
    let is_array = body.trim_ascii_start().first() == Some(&b'[');
    let rows: Vec<&[u8]> = if is_array {
        parse::<Vec<&RawValue>>(body)?.into_iter().map(|row| row.get().as_bytes()).collect()
    } else {
        vec![body]
    };
    if rows.len() > MOST_EVENTS {
        let problem = format!("{} events came at once, at most {MOST_EVENTS} are taken", rows.len());
        return Err(ApiError::new(Code::TooManyRows, problem));
    }
    let mut read = Vec::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        read.push(read_event(intake, row, sender, place).await);
    }
    intake.place(read.iter_mut().flatten().filter_map(|event| event.read.as_mut()));
    let facts: Vec<LeadFact> = read.iter().flatten().filter_map(|event| event.read.as_ref()?.fact.clone()).collect();
    let mut verdicts = kept_in_time(Code::StoreUnavailable, intake.desk.take(facts)).await??.into_iter();
    let mut judged = Vec::with_capacity(read.len());
    for event in read {
        judged.push(event.map(|event| {
            let fact = event.read.as_ref().and_then(|read| read.fact.as_ref());
            let verdict = fact.and_then(|_| verdicts.next());
            (verdict, event)
        }));
    }
    let request_id = id.as_str();
    let metadata = RequestMetadata { request_id };
    if !is_array {
        let (verdict, event) =
            judged.pop().unwrap_or_else(|| Err(ApiError::new(Code::MalformedJson, "there is no event")))?;
        if verdict.is_some_and(|verdict| is_conflict(verdict.ruling)) && !event.is_enveloped {
            return Err(newer_is_kept("timestamp"));
        }
        let replayed = verdict.is_some_and(|verdict| verdict.is_repeated);
        let answer = EventAnswer { status: "accepted", event: event_body(verdict, &event), replayed, metadata };
        return Ok(with_request_id(respond(StatusCode::ACCEPTED, &answer), request_id));
    }
    let row_ids: Vec<String> = (0..judged.len()).map(|row| format!("{request_id}-{row}")).collect();
    let results = judged.iter().enumerate().map(|(row, judged)| match judged {
        Ok((verdict, event)) => RowResult::Answer(event_body(*verdict, event)),
        Err(error) => RowResult::Error(RowError { row, error: error.body(&row_ids[row]) }),
    });
    let answer = EventsAnswer { status: "accepted", results: results.collect(), metadata };
    Ok(with_request_id(respond(StatusCode::ACCEPTED, &answer), request_id))
}

async fn read_event(
    intake: &LeadIntake<'_>,
    row: &[u8],
    sender: Option<&str>,
    place: usize,
) -> Result<ReadEvent, ApiError> {
    let LeadEvent { id, is_enveloped, told } = LeadEvent::read(row)?;
    let Some(told) = told else { return Ok(ReadEvent { read: None, is_enveloped }) };
    let question = told.question();
    let mut read = match told.score {
        Some(score) => intake.given(&question, score, told.timestamp, told.sequence, LeadSource::Event)?,
        None => intake.made(&question, Some(told.timestamp), told.sequence).await?,
    };
    // The envelope's own id, or that of the signed message and the place in it.
    let named = id.map(|id| format!("envelope {id}")).or_else(|| Some(format!("message {} {place}", sender?)));
    if let (Some(fact), Some(named)) = (&mut read.fact, named) {
        let digest: [u8; 32] = Sha256::digest(named.as_bytes()).into();
        let (half, _) = digest.split_at(16);
        fact.event = half.try_into().ok();
    }
    Ok(ReadEvent { read: Some(read), is_enveloped })
}

fn event_body(verdict: Option<LeadVerdict>, event: &ReadEvent) -> EventBody {
    let (result, reason) = match (verdict.map(|verdict| verdict.ruling), &event.read) {
        (Some(LeadRuling::Stored), _) => ("applied", None),
        (Some(LeadRuling::Unchanged), _) => ("unchanged", None),
        (Some(LeadRuling::Superseded), _) => ("superseded", None),
        (Some(LeadRuling::Older | LeadRuling::Equal), _) => ("conflict", Some("newer_is_kept")),
        (Some(LeadRuling::Stale), _) => ("conflict", Some("stale")),
        (Some(LeadRuling::Erased), _) => ("ignored", Some("erased")),
        (None, Some(_)) => ("not_stored", Some("fallback")),
        (None, None) => ("ignored", Some("unknown_event")),
    };
    let read = event.read.as_ref();
    let last_calculated_at = read.map(|read| format!("{:.3}", read.calculated_at));
    EventBody { result, reason, last_calculated_at }
}
