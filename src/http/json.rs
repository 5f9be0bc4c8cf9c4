//! JSON in and out. Bodies are read whole under a size and a time limit; errors name the field by path and never
//! repeat a value.

use axum::extract::{FromRef, FromRequest, Request};
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::{ApiError, Code};
use super::hot::Reading;
use super::state::HttpSettings;
use super::writer;

/// Content type of every answer that is not a batch of lines.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Room for the usual answer, its reasons included: growing would copy it.
const USUAL_BYTES: usize = 1536;

/// The body of a single request.
pub struct Payload(pub Bytes);

impl<S> FromRequest<S> for Payload
where
    HttpSettings: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        read(request, state, |settings| settings.body_limit).await.map(Self)
    }
}

/// The body of a batch, with its own, larger limit.
pub struct BatchPayload(pub Bytes);

impl<S> FromRequest<S> for BatchPayload
where
    HttpSettings: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        read(request, state, |settings| settings.batch_body_limit).await.map(Self)
    }
}

async fn read<S>(request: Request, state: &S, limit: fn(&HttpSettings) -> usize) -> Result<Bytes, ApiError>
where
    HttpSettings: FromRef<S>,
{
    let settings = HttpSettings::from_ref(state);
    Reading::new(request.into_body(), limit(&settings), settings.body_timeout).whole().await
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

/// Writes one of our own answers, which can not fail: they hold no bytes and no keys but text.
pub fn to_vec<T: Serialize>(answer: &T) -> Vec<u8> {
    let mut body = Vec::with_capacity(USUAL_BYTES);
    append(&mut body, answer);
    body
}

/// As `to_vec`, behind what is already there.
pub fn append<T: Serialize>(body: &mut Vec<u8>, answer: &T) {
    writer::write(body, answer).expect("our own answers can be written");
}

/// A JSON response.
pub fn respond<B: From<Vec<u8>>>(status: StatusCode, value: &impl Serialize) -> Response<B> {
    with_body(status, JSON, to_vec(value))
}

/// A response of finished bytes.
pub fn with_body<B: From<Vec<u8>>>(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Response<B> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
