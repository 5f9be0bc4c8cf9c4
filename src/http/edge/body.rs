//! Bodies, read whole under a size and a time limit.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRef, FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::error::{ApiError, Code};
use crate::http::state::HttpSettings;
use scoreline_domain::trace;

/// The body of a single request.
pub(crate) struct Payload(pub Bytes);

impl<S> FromRequest<S> for Payload
where
    HttpSettings: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let settings = HttpSettings::from_ref(state);
        read(request.into_body(), settings.body_limit, settings.body_timeout).await.map(Self)
    }
}

/// The body of a batch, with its own, larger limit.
pub(crate) struct BatchPayload(pub Bytes);

impl<S> FromRequest<S> for BatchPayload
where
    HttpSettings: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let settings = HttpSettings::from_ref(state);
        read(request.into_body(), settings.batch_body_limit, settings.body_timeout).await.map(Self)
    }
}

/// Reads to the end.
///
/// # Errors
/// Too large, too late, or cut off.
pub(crate) async fn read(mut body: Body, limit: usize, timeout: Duration) -> Result<Bytes, ApiError> {
    let whole = async {
        let mut pieces = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::new(Code::BodyUnreadable, "body ended before it was complete"))?;
            let Ok(data) = frame.into_data() else { continue };
            if pieces.len() + data.len() > limit {
                return Err(ApiError::new(Code::BodyTooLarge, format!("body must be at most {limit} bytes")));
            }
            // Most bodies come in one piece, which is not copied.
            if pieces.is_empty() && body.is_end_stream() {
                return Ok(data);
            }
            pieces.extend_from_slice(&data);
        }
        Ok(pieces.freeze())
    };
    let read = tokio::time::timeout(timeout, whole).await.unwrap_or_else(|_| {
        let problem = format!("body must arrive within {} ms", timeout.as_millis());
        Err(ApiError::new(Code::BodyTimeout, problem))
    });
    trace::stage("read");
    read
}
