//! What comes back for a request: read up to the largest size, counted, and understood when it is an error. Of an error only
//! stable names are kept.

use std::time::{Duration, SystemTime};

use metrics::{counter, histogram};
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use super::ApiOperation;
use super::decide::Attempt;
use super::patience::retry_after;
use crate::GenesysError;
use crate::error::{AttemptFault, Correlation, PlatformCode};
use scoreline_domain::time::{Clock, Stopwatch};
use scoreline_domain::trace::{self, TRACEPARENT};

/// Keys of limits that are told apart in the metrics; others are `other`.
const LIMIT_KEYS: [&str; 15] = [
    "client.credentials.token.rate.per.minute",
    "token.rate.per.minute",
    "org.app.user.rate.per.minute",
    "details.jobs.rate.per.second",
    "details.jobs.concurrent.access.max",
    "details.query.rate.per.minute",
    "aggregates.query.rate.per.minute",
    "query.rate.per.minute",
    "external.contacts.rate.per.minute",
    "contacts.rate.per.minute",
    "request.rate.per.minute",
    "contact.list.bulk.rate.per.minute",
    "outbound.contacts.rate.per.minute",
    "outbound.contactlist.rate.per.minute",
    "none",
];

/// A complete answer of whatever status.
pub(crate) struct Received {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) correlation: Correlation,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) hints: RateHints,
    /// By how many milliseconds our clock was ahead of the sender's, to a second.
    pub(crate) clock_ahead: Option<i64>,
    /// Whether it says that it is JSON, or is empty.
    is_json: bool,
}

/// What an answer says of the rate besides. Not every answer does, and the platform calls some of it deprecated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RateHints {
    /// Requests a period.
    pub(crate) allowed: Option<u32>,
    /// Requests that are left of them.
    pub(crate) remaining: Option<u32>,
}

impl Received {
    pub(crate) fn attempt(&self) -> Attempt {
        match self.status {
            // A page for people, of something in between that answers for the platform.
            200..=299 if !self.is_json => Attempt::Failed(AttemptFault::NotJson),
            status => Attempt::Answered(status),
        }
    }
}

/// Why there is no complete answer.
pub(crate) enum Missing {
    Failed(AttemptFault),
    TooLarge,
    /// The request could not even be written.
    Unsendable,
}

impl Missing {
    fn label(&self) -> &'static str {
        match self {
            Self::Failed(reason) => reason.label(),
            Self::TooLarge => "too_large",
            Self::Unsendable => "unsendable",
        }
    }
}

/// Sends a request, in the trace of whoever asks, and reads its answer up to the largest size.
pub(crate) async fn receive(
    operation: ApiOperation,
    mut builder: reqwest::RequestBuilder,
    largest: usize,
    clock: &dyn Clock,
) -> Result<Received, Missing> {
    let call = trace::Call::begin(operation.as_str());
    if let Some(call) = &call {
        builder = builder.header(TRACEPARENT, call.parent().to_string());
    }
    let received = answer(builder, largest, clock).await;
    if let Some(call) = call {
        call.end(match &received {
            Ok(received) => Ok(received.status),
            Err(missing) => Err(missing.label()),
        });
    }
    received
}

async fn answer(builder: reqwest::RequestBuilder, largest: usize, clock: &dyn Clock) -> Result<Received, Missing> {
    let mut response = builder.send().await.map_err(|err| missing(&err))?;
    let status = response.status().as_u16();
    let text =
        |headers: &HeaderMap, name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let correlation =
        text(response.headers(), "inin-correlation-id").map(|id| Correlation::of(&id)).unwrap_or_default();
    let now = SystemTime::from(clock.now());
    let date = text(response.headers(), DATE.as_str()).and_then(|value| httpdate::parse_http_date(&value).ok());
    // A date is one of the sender's clock, so it is not measured against ours.
    let retry_after =
        text(response.headers(), RETRY_AFTER.as_str()).and_then(|value| retry_after(&value, date.unwrap_or(now)));
    let clock_ahead = date.map(|date| signed_ms(now, date));
    let number = |name: &str| text(response.headers(), name).and_then(|value| value.trim().parse().ok());
    let hints = RateHints { allowed: number("inin-ratelimit-allowed"), remaining: number("x-rate-limit-remaining") };
    let kind = text(response.headers(), CONTENT_TYPE.as_str());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|err| missing(&err))? {
        if body.len() + chunk.len() > largest {
            return Err(Missing::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    let is_json = body.is_empty() || kind.is_none_or(|kind| kind.contains("json"));
    Ok(Received { status, body, correlation, retry_after, hints, clock_ahead, is_json })
}

/// How much later `one` is than `other`.
fn signed_ms(one: SystemTime, other: SystemTime) -> i64 {
    let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    one.duration_since(other).map_or_else(|earlier| -ms(earlier.duration()), ms)
}

fn missing(err: &reqwest::Error) -> Missing {
    if err.is_builder() {
        Missing::Unsendable
    } else if err.is_timeout() {
        Missing::Failed(AttemptFault::Timeout)
    } else if err.is_connect() {
        Missing::Failed(AttemptFault::Connect)
    } else {
        Missing::Failed(AttemptFault::Cut)
    }
}

pub(crate) fn count(operation: ApiOperation, received: &Result<Received, Missing>, taken: Stopwatch) {
    let outcome = match received {
        Ok(Received { status, .. }) => match status {
            200..=299 => "ok",
            401 => "unauthorised",
            404 => "not_found",
            429 => "rate_limited",
            500.. => "server_error",
            _ => "refused",
        },
        Err(missing) => missing.label(),
    };
    counter!("scoreline_genesys_requests_total", "operation" => operation.as_str(), "outcome" => outcome).increment(1);
    histogram!("scoreline_genesys_request_seconds", "operation" => operation.as_str())
        .record(taken.elapsed().as_secs_f64());
}

/// What the platform says in the body of an error. Its message is not read: it may repeat what was sent.
#[derive(Deserialize, Default)]
struct ErrorBody {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    limit: Option<Limit>,
}

#[derive(Deserialize)]
struct Limit {
    #[serde(default)]
    key: Option<String>,
}

fn error_body(body: &[u8]) -> ErrorBody {
    serde_json::from_slice(body).unwrap_or_default()
}

pub(crate) fn refusal(operation: ApiOperation, received: &Received) -> GenesysError {
    match received.status {
        401 | 403 => not_let_in(operation, received),
        status => {
            GenesysError::Refused { operation, status, code: code(received), correlation: received.correlation.clone() }
        }
    }
}

pub(crate) fn not_let_in(operation: ApiOperation, received: &Received) -> GenesysError {
    let (status, correlation) = (received.status, received.correlation.clone());
    GenesysError::NotLetIn { operation, status, code: code(received), correlation }
}

fn code(received: &Received) -> PlatformCode {
    error_body(&received.body).code.map(|code| PlatformCode::of(&code)).unwrap_or_default()
}

pub(super) fn limit_key(body: &[u8]) -> &'static str {
    let Some(key) = error_body(body).limit.and_then(|limit| limit.key) else { return "none" };
    LIMIT_KEYS.into_iter().find(|known| *known == key).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_only_stable_names_are_kept() {
        let received = |body: &str| Received {
            status: 400,
            body: body.as_bytes().to_vec(),
            correlation: Correlation::of("f3ac4404-0000-4000-8000-000000000000"),
            retry_after: None,
            hints: RateHints::default(),
            clock_ahead: None,
            is_json: true,
        };
        let shown = refusal(ApiOperation::Query, &received(r#"{"code":"bad.request","message":"canary"}"#)).to_string();
        assert_eq!(
            shown,
            "`query` was refused with status 400 `bad.request`, correlation id `f3ac4404-0000-4000-8000-000000000000`"
        );
        for odd in [r#"{"code":"canary 5551234"}"#, r#"{"code":"5551234"}"#, "canary", r#"{"code":{"x":1}}"#] {
            let shown = refusal(ApiOperation::Query, &received(odd)).to_string();
            assert!(!shown.contains("canary") && !shown.contains("555"), "{shown}");
        }
        assert_eq!(limit_key(br#"{"limit":{"key":"token.rate.per.minute","value":300}}"#), "token.rate.per.minute");
        assert_eq!(limit_key(br#"{"limit":{"key":"made.up"}}"#), "other");
        assert_eq!(limit_key(b"<html>"), "none");
    }
}
