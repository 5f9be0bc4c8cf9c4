//! Outermost layer of every route: request id in, request id out, error bodies, one metric pair, panics caught.
//!
//! It stands outside the handler so that a panic is still answered, counted and carries its request id.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::extract::FromRequestParts;
use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use metrics::{Counter, Histogram};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::admission::RETRY_AFTER_SECONDS;
use super::error::{ApiError, Code};
use super::head::Head;
use super::headers::secure;
use super::json;
use scoreline_domain::privacy::screen::public;
use scoreline_domain::time::Stopwatch;

pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers of an error that stay when its body is written.
const KEPT: [HeaderName; 3] = [ALLOW, WWW_AUTHENTICATE, RETRY_AFTER];

/// Longest request id that is taken from a caller.
const LONGEST_ID: usize = 128;

/// The id of a request: the caller's header, or a new one, made when somebody asks for it. A body may carry a better one,
/// see `accepted`. A handler that shows it puts it on its reply too, see `with_request_id`.
#[derive(Debug, Default)]
pub struct RequestId {
    given: Option<HeaderValue>,
    made: OnceLock<String>,
}

impl RequestId {
    /// From what `given` found.
    pub fn of(given: Option<HeaderValue>) -> Self {
        Self { given, made: OnceLock::new() }
    }

    pub fn as_str(&self) -> &str {
        let given = self.given.as_ref().and_then(|value| value.to_str().ok());
        given.unwrap_or_else(|| self.made.get_or_init(new_id))
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(given(&Head::of(&parts.headers))))
    }
}

/// The caller's header, if it may be echoed.
pub fn given(head: &Head<'_>) -> Option<HeaderValue> {
    let id = str::from_utf8(head.request_id.first()?).ok()?;
    // What may be personal data is passed over like anything else that can not be shown: proxies set this header too.
    if accepted(id) && public(id).is_ok() { HeaderValue::from_str(id).ok() } else { None }
}

/// Marks a response with the request id its body carried, so that the header says the same.
pub fn with_request_id<B>(mut response: Response<B>, id: &str) -> Response<B> {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    response
}

/// Whether a caller's id may be echoed: visible ASCII, not too long.
pub fn accepted(id: &str) -> bool {
    !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Observes one route under a stable name.
#[derive(Clone)]
pub struct Observe {
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
    pub fn new(route: &'static str) -> Self {
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

    /// Observes the answer to one request, under the id that its head gave.
    pub fn start<F>(&self, given: Option<HeaderValue>, answer: impl FnOnce() -> F) -> Observed<F> {
        let watch = Stopwatch::start();
        Observed { inner: answer(), given, watch, metrics: Arc::clone(&self.metrics) }
    }

    /// Counts an answer that was not observed on its way.
    pub fn record(&self, status: StatusCode, watch: Stopwatch) {
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
pub struct ObserveService<S> {
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
        let given = given(&Head::of(request.headers()));
        self.observe.start(given, || self.inner.call(request))
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
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, ApiError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|_| {
        // The panic hook has logged the message; it is not the caller's business.
        metrics::counter!("scoreline_panics_total").increment(1);
        ApiError::new(Code::Internal, "internal error")
    })
}

/// Writes an error's body and puts the headers of every reply on it.
pub fn finish<B>(response: Response<B>, given: Option<HeaderValue>) -> Response<B>
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
        response = with_request_id(json::respond(error.code.status(), &error.body(id)), id);
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

/// An empty reply that only carries an error to here, where its body is written.
pub fn error_response<B: Default>(error: ApiError) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = error.code.status();
    response.extensions_mut().insert(error);
    response
}
