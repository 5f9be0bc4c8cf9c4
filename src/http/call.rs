//! One request to a hot route, read whole, and what is replied to it.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Response, header};
use bytes::Bytes;
use http_body_util::Full;
use serde::Serialize;

use super::admission::Overloaded;
use super::error::ApiError;
use super::json::{self, JSON};
use super::observe::{REQUEST_ID, RequestId, error_response};
use super::wire;
use crate::scoring::Reason;

/// A request whose body has arrived, or failed to.
pub struct Call {
    body: Result<Bytes, ApiError>,
    id: RequestId,
    deadline: Result<Option<Duration>, ApiError>,
    pub hurry: Hurry,
}

/// What keeps a question from being asked at leisure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hurry {
    /// How long the caller waits; as long as the settings say when absent.
    pub deadline: Option<Duration>,
    /// There is no room: the model is not asked.
    pub shed: bool,
    /// A caller that there is no room for is refused. Everybody else gets an answer from the ladder.
    pub refuse: bool,
}

impl Hurry {
    /// Whether the caller takes an answer that the ladder gave for this reason.
    ///
    /// # Errors
    /// When there was no room, and the caller is to be refused then.
    pub fn takes(self, reason: Option<Reason>) -> Result<(), Overloaded> {
        if self.refuse && reason == Some(Reason::Overloaded) { Err(Overloaded) } else { Ok(()) }
    }
}

/// An answer: always HTTP 200 and JSON. Everything else is an [`ApiError`].
pub struct Reply {
    body: Vec<u8>,
    request_id: Option<HeaderValue>,
}

impl Call {
    /// `given` is the id in its head.
    pub fn new(
        given: Option<HeaderValue>,
        deadline: Result<Option<Duration>, ApiError>,
        body: Result<Bytes, ApiError>,
    ) -> Self {
        Self { body, id: RequestId::of(given), deadline, hurry: Hurry::default() }
    }

    /// # Errors
    /// Too large, too late, or cut off.
    pub fn body(&self) -> Result<&[u8], ApiError> {
        self.body.as_deref().map_err(ApiError::clone)
    }

    /// With the deadline that the caller gives.
    ///
    /// # Errors
    /// Names the header when it can not be read.
    pub fn hurry(&self) -> Result<Hurry, ApiError> {
        Ok(Hurry { deadline: self.deadline.clone()?, ..self.hurry })
    }

    /// The id of the request unless its body carries a better one.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// Replies with `answer`, under the id that it shows.
    pub fn reply<T: Serialize>(&self, answer: &T, request_id: &str) -> Reply {
        Reply { body: json::to_vec(answer), request_id: self.header(request_id) }
    }

    /// Most callers send their id in the body: the header then shares the body's bytes.
    fn header(&self, id: &str) -> Option<HeaderValue> {
        let bytes = match &self.body {
            Ok(body) if body.as_ptr_range().contains(&id.as_ptr()) => body.slice_ref(id.as_bytes()),
            _ => Bytes::copy_from_slice(id.as_bytes()),
        };
        HeaderValue::from_maybe_shared(bytes).ok()
    }
}

impl Reply {
    /// As it goes over an HTTP/1.1 connection.
    pub fn write(&self, out: &mut Vec<u8>) {
        wire::reply(self.request_id.as_ref(), &self.body, out);
    }

    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, JSON);
        if let Some(id) = self.request_id {
            headers.insert(&REQUEST_ID, id);
        }
        let mut response = Response::new(Full::from(self.body));
        *response.headers_mut() = headers;
        response
    }
}

/// The response to a call: the reply, or the error on its way to `observe`, which writes it.
pub fn response(outcome: Result<Reply, ApiError>) -> Response<Full<Bytes>> {
    match outcome {
        Ok(reply) => reply.into_response(),
        Err(error) => error_response(error),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn the_header_says_the_id_of_the_answer_wherever_it_comes_from() {
        let body = Bytes::from_static(br#"{"request_id":"req-1"}"#);
        let own = std::str::from_utf8(&body[15..20]).expect("ASCII").to_owned();
        let call = Call::new(None, Ok(None), Ok(body.clone()));
        let inside = std::str::from_utf8(&body[15..20]).expect("ASCII");
        for id in [inside, own.as_str(), ""] {
            let response = call.reply(&"answer", id).into_response();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[&REQUEST_ID], id);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        }
    }
}
