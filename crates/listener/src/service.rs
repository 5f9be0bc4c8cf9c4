//! Around every request: counted for the connection's timers, refused when its head has too many fields, and told when
//! its answer is the connection's last.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;
use pin_project_lite::pin_project;

use super::connection_stats::ConnectionStats;
use super::drain::Drain;
use super::io::HttpVersion;
use super::peer::Handle;

/// A connection's service, under watch.
pub(super) struct WatchedService<S> {
    pub(super) inner: S,
    pub(super) stats: Arc<ConnectionStats>,
    pub(super) drain: Drain,
    pub(super) version: HttpVersion,
    /// Requests before the connection is closed.
    pub(super) requests: u32,
    /// Most headers. hyper has a limit of its own, at the price of an allocation for each request.
    pub(super) headers: usize,
}

pin_project! {
    /// A request's body, which notes when it was given up before its end.
    pub struct RequestBody {
        #[pin]
        inner: Incoming,
        rest: Rest,
    }
}

/// Dropped before the end of its body, there are bytes on their way that nobody will read.
struct Rest {
    stats: Arc<ConnectionStats>,
    ended: bool,
}

impl Drop for Rest {
    fn drop(&mut self) {
        if !self.ended {
            self.stats.cut_short();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(context));
        this.rest.ended |= frame.is_none() || this.inner.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<S: Handle> Service<Request<Incoming>> for WatchedService<S> {
    type Response = Response<Either<AnswerBody<S::Body>, Empty<Bytes>>>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let count = self.stats.called();
        let fits = request.headers().len() <= self.headers;
        let request = request.map(|inner| {
            let rest = Rest { stats: Arc::clone(&self.stats), ended: inner.is_end_stream() };
            RequestBody { inner, rest }
        });
        let last = !fits || count >= self.requests || self.stats.is_retired() || self.drain.is_leaving();
        Answering {
            inner: fits.then(|| self.inner.handle(request)),
            // HTTP/2 knows no such header: its connection says goodbye by itself.
            says_last: last && self.version == HttpVersion::One,
            open: Some(Open { stats: Arc::clone(&self.stats), answered: false }),
        }
    }
}

pin_project! {
    pub(super) struct Answering<F> {
        // None when the head was refused.
        #[pin]
        inner: Option<F>,
        says_last: bool,
        // None once it is answered.
        open: Option<Open>,
    }
}

/// A request in flight. Dropped without an answer, its caller has gone away.
struct Open {
    stats: Arc<ConnectionStats>,
    answered: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stats.ended(self.answered);
    }
}

pin_project! {
    /// An answer's body. One that is made while it is sent is being answered until its end.
    pub(super) struct AnswerBody<B> {
        #[pin]
        inner: B,
        open: Option<Open>,
    }
}

impl<B: Body> Body for AnswerBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().inner.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<F: Future<Output = Result<Response<B>, Infallible>>, B: Body> Future for Answering<F> {
    type Output = Result<Response<Either<AnswerBody<B>, Empty<Bytes>>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = if let Some(inner) = this.inner.as_pin_mut() {
            let Ok(response) = ready!(inner.poll(context));
            if let Some(open) = this.open.as_mut() {
                open.answered = true;
            }
            response.map(|inner| {
                let open = this.open.take().filter(|_| inner.size_hint().exact().is_none());
                Either::Left(AnswerBody { inner, open })
            })
        } else {
            let mut response = Response::new(Either::Right(Empty::new()));
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            response
        };
        if let Some(mut open) = this.open.take() {
            open.answered = true;
        }
        if *this.says_last {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}
