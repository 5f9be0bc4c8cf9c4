//! Around every request: counted for the connection's timers, refused when its head has too many fields, and told when
//! its answer is the connection's last.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::service::Service;
use pin_project_lite::pin_project;

use super::drain::Drain;
use super::io::Version;
use super::peer::Handle;
use super::pulse::Pulse;

/// A connection's service, under watch.
pub(super) struct Watched<S> {
    pub(super) inner: S,
    pub(super) pulse: Arc<Pulse>,
    pub(super) drain: Drain,
    pub(super) version: Version,
    /// Requests before the connection is closed.
    pub(super) requests: u32,
    /// Most headers. hyper has a limit of its own, at the price of an allocation for each request.
    pub(super) headers: usize,
}

impl<S: Handle> Service<Request<Incoming>> for Watched<S> {
    type Response = Response<Either<S::Body, Empty<Bytes>>>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let count = self.pulse.called();
        let fits = request.headers().len() <= self.headers;
        let last = !fits || count >= self.requests || self.pulse.is_retired() || self.drain.is_leaving();
        Answering {
            inner: fits.then(|| self.inner.handle(request)),
            // HTTP/2 knows no such header: its connection says goodbye by itself.
            says_last: last && self.version == Version::One,
            open: Open { pulse: Arc::clone(&self.pulse), answered: false },
        }
    }
}

pin_project! {
    pub(super) struct Answering<F> {
        // None when the head was refused.
        #[pin]
        inner: Option<F>,
        says_last: bool,
        open: Open,
    }
}

/// A request in flight. Dropped without an answer, its caller has gone away.
struct Open {
    pulse: Arc<Pulse>,
    answered: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.pulse.ended(self.answered);
    }
}

impl<F: Future<Output = Result<Response<B>, Infallible>>, B> Future for Answering<F> {
    type Output = Result<Response<Either<B, Empty<Bytes>>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = if let Some(inner) = this.inner.as_pin_mut() {
            let Ok(response) = ready!(inner.poll(context));
            response.map(Either::Left)
        } else {
            let mut response = Response::new(Either::Right(Empty::new()));
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            response
        };
        this.open.answered = true;
        if *this.says_last {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}
