//! Outermost layer of every route: request id in, request id out, error bodies, one metric pair, one line in the log at
//! `debug`, panics caught.
//!
//! It stands outside the handler so that a panic is still answered, counted and carries its request id.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use metrics::{Counter, Histogram, describe_counter, describe_histogram};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::error::{ApiError, Code, error_response};
use super::grpc::{failed, is_grpc};
use super::head::Head;
use super::headers::{JSON, REQUEST_ID, secure};
use super::refusal::Refusal;
use super::request_id::{RequestId, given, with_request_id};
use crate::auth::Caller;
use crate::monitoring::Traffic;
use crate::monitoring::traffic::RequestClass;
use crate::telemetry::{Exemplars, REQUEST_SECONDS};
use scoreline_domain::score::round;
use scoreline_domain::time::Stopwatch;
use scoreline_domain::trace::{self, Recording, SpanKind, Tracer};

/// Headers of an error that stay when its body is written.
const KEPT: [HeaderName; 4] = [ALLOW, WWW_AUTHENTICATE, RETRY_AFTER, HeaderName::from_static("webhook-delivery")];

/// Methods by name in the log. Any other word is the caller's own, and `other` there.
static NAMED: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];

/// Counts panics of handlers.
const PANICS: &str = "scoreline_panics_total";

/// Observes one route.
#[derive(Clone)]
pub(crate) struct Observe {
    route: Arc<ObservedRoute>,
}

struct ObservedRoute {
    /// In metrics.
    name: &'static str,
    /// In the log: as the route table has it.
    path: &'static str,
    duration: Histogram,
    statuses: Vec<(StatusCode, Counter)>,
    errors: ErrorForm,
    /// Where it is counted for people, and as what; what is asked by them is not.
    traffic: Option<(Arc<Traffic>, RequestClass)>,
    followed: Option<Followed>,
}

/// How requests of a route are followed, where they are.
pub(crate) struct Followed {
    pub tracer: Tracer,
    pub exemplars: Exemplars,
}

/// How the errors of a route are written.
pub(crate) enum ErrorForm {
    /// The documented body.
    Documented,
    /// For data actions.
    Flat(FlatErrors),
    /// As the Open Inference Protocol has them: a text, beside it our code.
    Inference,
    /// As `Documented`, but for calls of gRPC, which have them in the head.
    Grpc,
}

/// Writes the body of an error for data actions, under the request id to be shown.
type FlatErrors = Box<dyn Fn(&ApiError, &str) -> Vec<u8> + Send + Sync>;

impl ErrorForm {
    fn is_of_grpc(&self) -> bool {
        matches!(self, Self::Grpc)
    }

    /// Status and body of an error under this request id.
    fn write(&self, error: &ApiError, id: &str) -> (StatusCode, Vec<u8>) {
        let written = |body: serde_json::Result<Vec<u8>>| body.expect("texts can be written");
        match self {
            Self::Documented | Self::Grpc => (error.code.status(), written(serde_json::to_vec(&error.body(id)))),
            Self::Flat(flat) => (error.code.flat_status(), flat(error, id)),
            Self::Inference => (error.code.inference_status(), written(serde_json::to_vec(&error.inference_body(id)))),
        }
    }
}

/// Which way a request came.
#[derive(Clone, Copy)]
pub(crate) enum Door {
    Lane,
    Router,
}

/// A request that is not answered yet.
pub(crate) struct Begun {
    pub watch: Stopwatch,
    pub door: Door,
    pub method: Method,
    /// The id in its head.
    pub given: Option<HeaderValue>,
    /// Of the few that are followed.
    pub recording: Option<Arc<Recording>>,
    /// A call of gRPC, whose errors are written as its callers know them.
    pub is_grpc: bool,
}

impl Begun {
    fn method_name(&self) -> &'static str {
        NAMED.iter().find(|known| **known == self.method).map_or("other", Method::as_str)
    }

    /// Does some of the work for it.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.recording {
            Some(recording) => recording.during(work),
            None => work(),
        }
    }
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

/// Tells the recorder what is counted at the edge, and begins at 0 what should stay there.
pub(crate) fn describe() {
    for (name, meaning) in [
        ("scoreline_http_requests_total", "Requests by route and status."),
        (PANICS, "Panics that were answered as internal errors."),
        ("scoreline_auth_refused_total", "Requests whose credentials were refused, by reason."),
        ("scoreline_oauth_refused_total", "Requests for a token that were refused, by error."),
        ("scoreline_lead_events_unsigned_total", "Events with scores of leads whose signature was refused."),
    ] {
        describe_counter!(name, meaning);
    }
    describe_histogram!("scoreline_http_request_duration_seconds", "Time of a request in the server, by route.");
    metrics::counter!(PANICS).increment(0);
}

impl Observe {
    pub(crate) fn new(
        name: &'static str,
        path: &'static str,
        errors: ErrorForm,
        traffic: Option<(Arc<Traffic>, RequestClass)>,
        followed: Option<Followed>,
    ) -> Self {
        let statuses = COUNTED
            .iter()
            .map(|status| {
                let code = status.as_u16().to_string();
                (*status, metrics::counter!("scoreline_http_requests_total", "route" => name, "status" => code))
            })
            .collect();
        let duration = metrics::histogram!(REQUEST_SECONDS, "route" => name);
        Self { route: Arc::new(ObservedRoute { name, path, duration, statuses, errors, traffic, followed }) }
    }

    /// A request that `watch` has begun with.
    pub(crate) fn begin(&self, watch: Stopwatch, door: Door, method: Method, head: &Head<'_>) -> Begun {
        let followed = self.route.followed.as_ref();
        let parent = || head.traceparent.once().ok().flatten();
        let recording = followed.and_then(|followed| followed.tracer.follow(parent, watch));
        Begun { watch, door, method, given: given(head), recording, is_grpc: false }
    }

    /// Ends a request: an error gets its body, a reply the headers of every reply, and both are recorded.
    pub(crate) fn end<B>(&self, begun: &Begun, response: Response<B>, caller: Option<Arc<Caller>>) -> Response<B>
    where
        B: From<Vec<u8>> + Default,
    {
        begun.during(|| self.ended(begun, response, caller))
    }

    fn ended<B>(&self, begun: &Begun, mut response: Response<B>, caller: Option<Arc<Caller>>) -> Response<B>
    where
        B: From<Vec<u8>> + Default,
    {
        let extensions = response.extensions_mut();
        let refusal = extensions.remove::<Refusal>();
        let caller = caller.or_else(|| extensions.remove());
        let error = extensions.remove::<ApiError>();
        let code = error.as_ref().map(|error| error.code);
        let id = RequestId::of(begun.given.clone());
        let mut response = match &error {
            Some(error) => self.told(error, begun.is_grpc, response.headers(), &id),
            None if response.headers().contains_key(&REQUEST_ID) => response,
            None => with_request_id(response, id.as_str()),
        };
        secure(response.headers_mut());
        // A failed call of gRPC is an HTTP success.
        let status = error.filter(|_| begun.is_grpc).map_or(response.status(), |error| error.code.status());
        let id = response.headers().get(&REQUEST_ID);
        if let Some(refusal) = &refusal {
            refusal.say(self.route.path, status, id);
        }
        let caller = refusal.and_then(|refusal| refusal.caller).or(caller);
        self.record(begun, status, code, id, caller.as_deref());
        response
    }

    /// Counts an answer, and says it in the log.
    pub(crate) fn record(
        &self,
        begun: &Begun,
        status: StatusCode,
        code: Option<Code>,
        request_id: Option<&HeaderValue>,
        caller: Option<&Caller>,
    ) {
        let ObservedRoute { name, path, duration, statuses, traffic, .. } = &*self.route;
        let took = begun.watch.elapsed();
        duration.record(took.as_secs_f64());
        if let Some((traffic, class)) = traffic {
            traffic.counts().request(*class, status.as_u16(), took);
        }
        match statuses.iter().find(|(counted, _)| *counted == status) {
            Some((_, counter)) => counter.increment(1),
            None => {
                metrics::counter!("scoreline_http_requests_total", "route" => *name, "status" => "other").increment(1);
            }
        }
        let recording = begun.recording.as_deref();
        // Without the query, the field of an error and the path itself: callers write them as they like.
        tracing::debug!(
            door = begun.door.as_str(),
            method = begun.method_name(),
            route = path,
            status = status.as_u16(),
            code = code.map(Code::as_str),
            caller = caller.map(Caller::name),
            request.id = request_id.and_then(|id| id.to_str().ok()),
            ms = round(begun.watch.elapsed_ms(), 1e3),
            trace_id = recording.map(|recording| tracing::field::display(recording.trace())),
            "request answered"
        );
        if let Some(recording) = recording {
            self.traced(begun, recording, status, code);
        }
    }

    /// Hands over what was noted of a request that was followed.
    fn traced(&self, begun: &Begun, recording: &Recording, status: StatusCode, code: Option<Code>) {
        let ObservedRoute { name, path, followed, .. } = &*self.route;
        recording.stage("write");
        let method = begun.method_name();
        let mut attributes = vec![
            ("http.request.method", method.into()),
            ("http.route", (*path).into()),
            ("http.response.status_code", status.as_u16().into()),
            ("scoreline.door", begun.door.as_str().into()),
        ];
        attributes.extend(code.map(|code| ("error.type", code.as_str().into())));
        let failed = status.is_server_error() || code == Some(Code::Internal);
        recording.finish(format!("{method} {path}").into(), SpanKind::Server, attributes, failed);
        if let Some(followed) = followed {
            followed.exemplars.note(name, begun.watch.elapsed().as_secs_f64(), recording.trace());
        }
    }

    /// The answer to an error, which so far only stands in the reply with these headers.
    fn told<B: From<Vec<u8>> + Default>(
        &self,
        error: &ApiError,
        is_grpc: bool,
        carried: &HeaderMap,
        id: &RequestId,
    ) -> Response<B> {
        let id = error.request_id.as_deref().unwrap_or_else(|| id.as_str());
        let (status, body) = self.route.errors.write(error, id);
        if status.is_server_error() || error.code == Code::Internal {
            let trace_id = trace::current().map(tracing::field::display);
            tracing::error!(code = error.code.as_str(), request.id = id, trace_id, "request failed");
        }
        if is_grpc {
            return with_request_id(failed(error), id);
        }
        let mut response = with_request_id(Response::new(body.into()), id);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON.clone());
        let kept = |name: HeaderName| carried.get(&name).map(|value| (name.clone(), value.clone()));
        headers.extend(KEPT.into_iter().filter_map(kept));
        if let Some(seconds) = error.code.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl Door {
    fn as_str(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Router => "router",
        }
    }
}

/// Whether requests are said in the log, so that somebody has to tell who asked.
pub(crate) fn is_logged() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
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
        let method = request.method().clone();
        let mut begun = self.observe.begin(watch, Door::Router, method, &Head::of_map(request.headers()));
        begun.is_grpc = self.observe.route.errors.is_of_grpc() && is_grpc(request.headers());
        let inner = begun.during(|| self.inner.call(request));
        Observed { inner, begun, observe: self.observe.clone() }
    }
}

pin_project! {
    pub struct Observed<F> {
        #[pin]
        inner: F,
        begun: Begun,
        observe: Observe,
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
        let response = match caught(|| this.begun.during(|| this.inner.poll(context))) {
            Ok(poll) => {
                let Ok(response) = ready!(poll);
                response
            }
            Err(error) => error_response(error),
        };
        Poll::Ready(Ok(this.observe.end(this.begun, response, None)))
    }
}

/// What `work` gives, or the error that answers for its panic.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, ApiError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|_| {
        // The panic hook has logged the message; it is not the caller's business.
        metrics::counter!(PANICS).increment(1);
        ApiError::new(Code::Internal, "internal error")
    })
}
