//! One live call, read whole.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::HeaderValue;
use bytes::Bytes;
use serde::Serialize;

use crate::http::edge::body;
use crate::http::edge::deadline::{self, Hurry};
use crate::http::edge::error::ApiError;
use crate::http::edge::head::Head;
use crate::http::edge::request_id::{RequestId, given};
use crate::http::state::SharedState;
use crate::http::wire::json;
use crate::http::wire::response::Reply;

/// A request whose body has arrived, or failed to. What is wrong with it is for its endpoint to say.
pub(crate) struct Call {
    body: Result<Bytes, ApiError>,
    id: RequestId,
    deadline: Result<Option<Duration>, ApiError>,
    /// There is no room: the model is not asked.
    pub shed: bool,
    /// A caller that there is no room for is refused. Everybody else gets an answer from the ladder.
    pub refuse: bool,
}

impl FromRequest<SharedState> for Call {
    type Rejection = Infallible;

    async fn from_request(request: Request, app: &SharedState) -> Result<Self, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body::read(body, app.settings.body_limit, app.settings.body_timeout).await;
        let head = Head::of_map(&parts.headers);
        Ok(Self::new(&head, given(&head), body))
    }
}

impl Call {
    /// `given` is the id in its head.
    pub(crate) fn new(head: &Head<'_>, given: Option<HeaderValue>, body: Result<Bytes, ApiError>) -> Self {
        Self { body, id: RequestId::of(given), deadline: deadline::of(head), shed: false, refuse: false }
    }

    /// # Errors
    /// Too large, too late, or cut off.
    pub(crate) fn body(&self) -> Result<&[u8], ApiError> {
        self.body.as_deref().map_err(ApiError::clone)
    }

    /// With the deadline that the caller gives.
    ///
    /// # Errors
    /// Names the header when it cannot be read.
    pub(crate) fn hurry(&self) -> Result<Hurry, ApiError> {
        Ok(Hurry { deadline: self.deadline.clone()?, shed: self.shed, refuse: self.refuse })
    }

    /// The id of the request unless its body carries a better one.
    pub(crate) fn id(&self) -> &str {
        self.id.as_str()
    }

    /// Replies with `answer`, under the id that it shows.
    pub(crate) fn reply<T: Serialize>(&self, answer: &T, request_id: &str) -> Reply {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_the_id_of_the_answer_wherever_it_comes_from() {
        let body = Bytes::from_static(br#"{"request_id":"req-1"}"#);
        let own = std::str::from_utf8(&body[15..20]).expect("ASCII").to_owned();
        let call = Call::new(&Head::default(), None, Ok(body.clone()));
        let inside = std::str::from_utf8(&body[15..20]).expect("ASCII");
        for id in [inside, own.as_str(), ""] {
            let reply = call.reply(&"answer", id);
            assert_eq!(reply.request_id.expect("visible ASCII"), id);
        }
    }
}
