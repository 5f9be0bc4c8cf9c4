//! Outermost layer of every route: request id in, request id out, error bodies, one metric pair, panics caught.
//!
//! It stands outside the handler so that a panic is still answered, counted and carries its request id.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use metrics::{Counter, Histogram};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::error::{ApiError, Code, error_response};
use super::head::Head;
use super::headers::{JSON, REQUEST_ID, secure};
use super::request_id::{RequestId, given, with_request_id};
use crate::http::admission::RETRY_AFTER_SECONDS;
use scoreline_domain::time::Stopwatch;

/// Headers of an error that stay when its body is written.
const KEPT: [HeaderName; 4] = [ALLOW, WWW_AUTHENTICATE, RETRY_AFTER, HeaderName::from_static("webhook-delivery")];

/// Observes one route under a stable name.
#[derive(Clone)]
pub(crate) struct Observe {
    metrics: Arc<RouteMetrics>,
}

struct RouteMetrics {
    route: &'static str,
    duration: Histogram,
    statuses: Vec<(StatusCode, Counter)>,
}

/// Statuses counted by their own label; any other falls under `other`.
const COUNTED: [StatusCode; 13] = [
    StatusCode::OK,
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNPROCESSABLE_ENTITY,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

impl Observe {
    pub(crate) fn new(route: &'static str) -> Self {
        let statuses = COUNTED
            .iter()
            .map(|status| {
                let code = status.as_u16().to_string();
                (*status, metrics::counter!("scoreline_http_requests_total", "route" => route, "status" => code))
            })
            .collect();
        let duration = metrics::histogram!("scoreline_http_request_duration_seconds", "route" => route);
        Self { metrics: Arc::new(RouteMetrics { route, duration, statuses }) }
    }

    /// Counts an answer that was not observed on its way.
    pub(crate) fn record(&self, status: StatusCode, watch: Stopwatch) {
        self.metrics.record(status, watch);
    }
}

impl RouteMetrics {
    fn record(&self, status: StatusCode, watch: Stopwatch) {
        self.duration.record(watch.elapsed().as_secs_f64());
        match self.statuses.iter().find(|(counted, _)| *counted == status) {
            Some((_, counter)) => counter.increment(1),
            None => metrics::counter!("scoreline_http_requests_total", "route" => self.route, "status" => "other")
                .increment(1),
        }
    }
}

impl<S> Layer<S> for Observe {
    type Service = ObserveService<S>;

    fn layer(&self, inner: S) -> ObserveService<S> {
        ObserveService { inner, observe: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct ObserveService<S> {
    inner: S,
    observe: Observe,
}

impl<S, R, B> Service<Request<R>> for ObserveService<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
    B: From<Vec<u8>> + Default,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Observed<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let watch = Stopwatch::start();
        let given = given(&Head::of_map(request.headers()));
        Observed { inner: self.inner.call(request), given, watch, metrics: Arc::clone(&self.observe.metrics) }
    }
}

pin_project! {
    pub struct Observed<F> {
        #[pin]
        inner: F,
        given: Option<HeaderValue>,
        watch: Stopwatch,
        metrics: Arc<RouteMetrics>,
    }
}

impl<F, B> Future for Observed<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: From<Vec<u8>> + Default,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match caught(|| this.inner.poll(context)) {
            Ok(poll) => {
                let Ok(response) = ready!(poll);
                response
            }
            Err(error) => error_response(error),
        };
        let response = finish(response, this.given.take());
        this.metrics.record(response.status(), *this.watch);
        Poll::Ready(Ok(response))
    }
}

/// What `work` gives, or the error that answers for its panic.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, ApiError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|_| {
        // The panic hook has logged the message; it is not the caller's business.
        metrics::counter!("scoreline_panics_total").increment(1);
        ApiError::new(Code::Internal, "internal error")
    })
}

/// Writes an error's body and puts the headers of every reply on it.
pub(crate) fn finish<B>(response: Response<B>, given: Option<HeaderValue>) -> Response<B>
where
    B: From<Vec<u8>> + Default,
{
    let mut response = identified(response, given);
    secure(response.headers_mut());
    response
}

fn identified<B>(mut response: Response<B>, given: Option<HeaderValue>) -> Response<B>
where
    B: From<Vec<u8>> + Default,
{
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let id = RequestId::of(given);
        let id = error.request_id.as_deref().unwrap_or_else(|| id.as_str());
        if response.status().is_server_error() {
            tracing::error!(code = error.code.as_str(), request.id = id, "request failed");
        } else {
            // Without the field: callers can name it as they like.
            tracing::debug!(code = error.code.as_str(), request.id = id, "request refused");
        }
        let kept = KEPT.map(|name| response.headers_mut().remove(&name).map(|value| (name, value)));
        let body = serde_json::to_vec(&error.body(id)).expect("texts can be written");
        response = with_request_id(Response::new(body.into()), id);
        *response.status_mut() = error.code.status();
        response.headers_mut().insert(CONTENT_TYPE, JSON.clone());
        response.headers_mut().extend(kept.into_iter().flatten());
        if error.code == Code::Overloaded {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        return response;
    }
    if !response.headers().contains_key(&REQUEST_ID) {
        let id = RequestId::of(given);
        response = with_request_id(response, id.as_str());
    }
    response
}
