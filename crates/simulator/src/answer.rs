//! Answers and the platform's error bodies.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What an endpoint answers: always JSON, or nothing (204).
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    /// Besides those every answer has.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// A request as an endpoint sees it.
pub(super) struct ReceivedCall<'a> {
    /// What stood in the place of the template's `{…}`, in order.
    pub(super) parameters: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: &'a [u8],
    /// `Authorization`, as it came.
    pub(super) authorization: Option<&'a str>,
    /// Milliseconds since 1970 on the platform's clock.
    pub(super) now: i64,
    pub(super) fault: Option<&'a super::faults::FaultKind>,
}

/// A refusal: becomes an `RefusalBody`.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: Box<str>,
    pub(super) limit: Option<Limit>,
    pub(super) headers: Vec<(&'static str, String)>,
    /// It is answered so many milliseconds later.
    pub(super) delay_ms: u64,
}

/// A limit of the platform, in errors and in the listing of limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Limit {
    pub(super) key: String,
    pub(super) namespace: &'static str,
    pub(super) value: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RefusalBody<'a> {
    message: &'a str,
    code: &'a str,
    status: u16,
    message_params: BTreeMap<&'a str, &'a str>,
    context_id: &'a str,
    details: [(); 0],
    errors: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a Limit>,
}

impl Answer {
    pub(super) fn json(value: &impl Serialize) -> Self {
        Self::with(StatusCode::OK, value)
    }

    pub(super) fn with(status: StatusCode, value: &impl Serialize) -> Self {
        // Our own structs and maps with text keys: nothing in them can fail to be written.
        Self::bytes(status, serde_json::to_vec(value).unwrap_or_default())
    }

    pub(super) fn bytes(status: StatusCode, body: Vec<u8>) -> Self {
        Self { status, body, headers: Vec::new() }
    }

    pub(super) fn nothing() -> Self {
        Self::bytes(StatusCode::NO_CONTENT, Vec::new())
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into().into(), limit: None, headers: Vec::new(), delay_ms: 0 }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad.request", message)
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not.found", format!("{what} not found"))
    }

    /// 429 by a limit.
    pub(super) fn too_many(key: &str, namespace: &'static str, value: u64) -> Self {
        let limit = Limit { key: key.to_owned(), namespace, value };
        let message = "Rate limit exceeded the maximum";
        Self { limit: Some(limit), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too.many.requests", message) }
    }

    pub(super) fn into_answer(self, correlation: &str) -> Answer {
        let body = RefusalBody {
            message: &self.message,
            code: self.code,
            status: self.status.as_u16(),
            message_params: BTreeMap::new(),
            context_id: correlation,
            details: [],
            errors: [],
            limit: self.limit.as_ref(),
        };
        Answer { headers: self.headers, ..Answer::with(self.status, &body) }
    }
}

impl ReceivedCall<'_> {
    pub(super) fn parameter(&self, position: usize) -> &str {
        self.parameters.get(position).map_or("", String::as_str)
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A whole number of the query string, from 1.
    pub(super) fn count(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let Some(text) = self.query(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|&number| number > 0);
        number.map(Some).ok_or_else(|| Refusal::bad(format!("{name} must be a positive integer, got {text}")))
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.query(name) == Some("true")
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(self.body).map_err(|err| Refusal::bad(format!("request body is not valid: {err}")))
    }
}
