//! JSON in and out. Errors name the field by path and never repeat a value.

use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::fault::describe;
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::headers::JSON;

/// Room for the usual answer, its reasons included: growing would copy it.
const USUAL_BYTES: usize = 1536;

/// Parses a body. The fast path is plain `serde_json`; only a body that fails is read again to find the field.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let body = without_mark(body);
    serde_json::from_slice(body).map_err(|err| describe::<T>(body, &err))
}

/// A body behind the byte order mark that some clients write. RFC 8259 lets a reader ignore it.
pub(crate) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Parses a body that must be a JSON object. A derived struct would also take an array of its fields.
pub(crate) fn parse_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    match without_mark(body).trim_ascii_start().first() {
        Some(b'{') | None => parse(body),
        Some(_) => {
            parse::<serde::de::IgnoredAny>(body)?;
            Err(ApiError::field(Code::InvalidField, "body", "`body` must be a JSON object"))
        }
    }
}

/// Writes one of our own answers, which cannot fail: they hold no keys but text.
pub(crate) fn to_vec<T: Serialize>(answer: &T) -> Vec<u8> {
    let mut body = Vec::with_capacity(USUAL_BYTES);
    append(&mut body, answer);
    body
}

/// As `to_vec`, behind what is already there.
pub(crate) fn append<T: Serialize>(body: &mut Vec<u8>, answer: &T) {
    serde_json::to_writer(body, answer).expect("our own answers can be written");
}

/// A JSON response.
pub(crate) fn respond<B: From<Vec<u8>>>(status: StatusCode, value: &impl Serialize) -> Response<B> {
    with_body(status, JSON.clone(), to_vec(value))
}

/// A response of finished bytes.
pub(crate) fn with_body<B: From<Vec<u8>>>(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Response<B> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
