//! JSON in and out. Bodies are read whole under a size and a time limit; errors name the field by path and never
//! repeat a value.

use axum::body::Body;
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};

use super::error::{ApiError, Code};
use super::state::HttpSettings;

/// The body of a single request.
pub struct Payload(pub Bytes);

/// The body of a batch, with its own, larger limit.
pub struct BatchPayload(pub Bytes);

impl<S> FromRequest<S> for Payload
where
    HttpSettings: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let settings = HttpSettings::from_ref(state);
        read(request, settings.body_limit, settings).await.map(Self)
    }
}

impl<S> FromRequest<S> for BatchPayload
where
    HttpSettings: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let settings = HttpSettings::from_ref(state);
        read(request, settings.batch_body_limit, settings).await.map(Self)
    }
}

async fn read(request: Request, limit: usize, settings: HttpSettings) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::new(Code::BodyTooLarge, format!("body must be at most {limit} bytes"));
    let body = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(settings.body_timeout, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(err)) if err.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::new(Code::BodyUnreadable, "body ended before it was complete")),
        Err(_) => Err(ApiError::new(
            Code::BodyTimeout,
            format!("body must arrive within {} ms", settings.body_timeout.as_millis()),
        )),
    }
}

/// Parses a body. The fast path is plain `serde_json`; only a body that fails is read again to find the field.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|err| describe::<T>(body, &err))
}

/// Parses a body that must be a JSON object. A derived struct would also take an array of its fields.
pub fn parse_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    match body.trim_ascii_start().first() {
        Some(b'{') | None => parse(body),
        Some(_) => {
            parse::<serde::de::IgnoredAny>(body)?;
            Err(ApiError::field(Code::InvalidField, "body", "`body` must be a JSON object"))
        }
    }
}

fn describe<'a, T: Deserialize<'a>>(body: &'a [u8], err: &serde_json::Error) -> ApiError {
    let text = err.to_string();
    let out_of_range = text.starts_with("number out of range");
    if (err.is_syntax() && !out_of_range) || err.is_eof() || err.is_io() {
        let place = format!("body is not valid JSON at line {} column {}", err.line(), err.column());
        return ApiError::new(Code::MalformedJson, place);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let path = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(err) => err.path().to_string(),
        Ok(_) => ".".to_owned(),
    };
    let code = if path.starts_with("features.") { Code::InvalidFeature } else { Code::InvalidField };
    let field = if path == "." { "body".to_owned() } else { path };
    let problem = if out_of_range {
        "must be a finite number".to_owned()
    } else {
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        // "invalid type: <the value>, expected <what>", "unknown variant `<the value>`, expected one of <what>": only
        // what is allowed is repeated.
        match text.rsplit_once(", expected ") {
            Some((problem, expected)) if problem.starts_with("invalid ") => format!("must be {expected}"),
            Some((problem, expected)) if problem.starts_with("unknown variant") => format!("must be {expected}"),
            Some((problem, expected)) if problem.starts_with("unknown field") => {
                format!("is not a known field; known are {}", expected.trim_start_matches("one of "))
            }
            _ => text.to_owned(),
        }
    };
    ApiError::field(code, &field, format!("`{field}` {problem}"))
}

/// A JSON response. Serialising our own types can not fail; should it ever, the client gets a counted 500.
pub fn respond<T: Serialize>(status: StatusCode, value: &T) -> Response {
    // Most answers fit: growing would copy them.
    let mut body = Vec::with_capacity(1536);
    match serde_json::to_writer(&mut body, value) {
        Ok(()) => with_body(status, "application/json", body),
        Err(err) => {
            tracing::error!(error = %err, "response could not be serialised");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

/// A response of finished bytes.
pub fn with_body(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
