//! The id of a request: the caller's own where it may be echoed, otherwise a new one.

use std::convert::Infallible;
use std::sync::OnceLock;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::head::Head;
use super::headers::REQUEST_ID;
use scoreline_domain::privacy::screen::public;
use scoreline_domain::template::is_unfilled;

/// Longest request id that is taken from a caller.
const LONGEST_ID: usize = 128;

/// Under which id a request was answered.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(crate) struct RequestMetadata<'a> {
    pub request_id: &'a str,
}

/// The id of a request: the caller's header, or a new one, made when somebody asks for it. A body may carry a better one,
/// see `accepted`. A handler that shows it puts it on its reply too, see `with_request_id`.
#[derive(Debug, Default)]
pub(crate) struct RequestId {
    given: Option<HeaderValue>,
    made: OnceLock<String>,
}

impl RequestId {
    /// From what `given` found.
    pub(crate) fn of(given: Option<HeaderValue>) -> Self {
        Self { given, made: OnceLock::new() }
    }

    pub(crate) fn as_str(&self) -> &str {
        let given = self.given.as_ref().and_then(|value| value.to_str().ok());
        given.unwrap_or_else(|| self.made.get_or_init(|| uuid::Uuid::now_v7().to_string()))
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(given(&Head::of_map(&parts.headers))))
    }
}

/// The caller's header, if it may be echoed.
pub(crate) fn given(head: &Head<'_>) -> Option<HeaderValue> {
    let id = str::from_utf8(head.request_id.first()?).ok()?;
    // What may be personal data is passed over like anything else that cannot be shown: proxies set this header too. So is
    // the text of a template, which would be the id of many requests.
    if accepted(id) && public(id).is_ok() && !is_unfilled(id) { HeaderValue::from_str(id).ok() } else { None }
}

/// Whether a caller's id may be echoed: visible ASCII, not too long.
pub(crate) fn accepted(id: &str) -> bool {
    !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Marks a response with the request id its body carried, so that the header says the same.
pub(crate) fn with_request_id<B>(mut response: Response<B>, id: &str) -> Response<B> {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    response
}
