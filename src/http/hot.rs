//! The hot routes: one JSON object in, one out. They are what live calls wait for, so they are answered without the
//! router's boxed futures, without extractors, and, where no model has threads of its own, within a single poll.
//!
//! To add one: a variant of [`Endpoint`], its line in [`ROUTES`], its arm in `answer`.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::http::{HeaderValue, Request, Response};
use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::Full;
use tokio::time::Sleep;
use tower::Service;

use super::admission::{Class, WhenOverloaded};
use super::call::{self, Call, Reply};
use super::error::{ApiError, Code};
use super::head::Head;
use super::observe::{error_response, given};
use super::state::{HttpState, Shared};
use super::{auth, deadline, genesys, predict_clv, predict_lead, route_tier};
use crate::auth::{AuthFault, Peer, Scope};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint {
    PredictClv,
    PredictLead,
    RouteTier,
    GenesysClv,
    GenesysRoute,
    GenesysLead,
}

/// Path, name in metrics, and what answers. All are `POST`.
pub const ROUTES: [(&str, &str, Endpoint); 6] = [
    ("/v1/predict/clv", "predict_clv", Endpoint::PredictClv),
    ("/v1/route/tier", "route_tier", Endpoint::RouteTier),
    ("/v1/genesys/clv", "genesys_clv", Endpoint::GenesysClv),
    ("/v1/genesys/route", "genesys_route", Endpoint::GenesysRoute),
    ("/v1/predict/lead", "predict_lead", Endpoint::PredictLead),
    ("/v1/genesys/lead", "genesys_lead", Endpoint::GenesysLead),
];

impl Endpoint {
    async fn answer(self, app: &HttpState, call: &mut Call) -> Result<Reply, ApiError> {
        let permit = app.admission.enter(Class::Live);
        call.hurry.shed = permit.is_err();
        call.hurry.refuse = !self.is_flat() && app.admission.when_overloaded() == WhenOverloaded::Refuse;
        match self {
            Self::PredictClv => predict_clv::handle(app, call).await,
            Self::PredictLead => predict_lead::handle(app, call).await,
            Self::RouteTier => route_tier::handle(app, call).await,
            Self::GenesysClv => Ok(genesys::clv(app, call).await),
            Self::GenesysRoute => Ok(genesys::route(app, call).await),
            Self::GenesysLead => Ok(predict_lead::genesys(app, call).await),
        }
    }

    /// Whether it is for data actions: a flow can not read a failure.
    fn is_flat(self) -> bool {
        match self {
            Self::GenesysClv | Self::GenesysRoute | Self::GenesysLead => true,
            Self::PredictClv | Self::PredictLead | Self::RouteTier => false,
        }
    }
}

/// One hot route as a service.
#[derive(Clone)]
pub struct Hot {
    app: Shared,
    endpoint: Endpoint,
    scope: Option<Scope>,
}

impl Hot {
    /// `name` is the route's in metrics.
    pub fn new(app: Shared, name: &str, endpoint: Endpoint) -> Self {
        Self { app, endpoint, scope: auth::scope_of(name) }
    }

    /// Answers a request of a client whose certificate names `peer`. `given` is the id in its head.
    pub fn answer<B>(&self, head: &Head<'_>, given: Option<HeaderValue>, body: B, peer: Option<&Peer>) -> Answering<B> {
        let settings = self.app.settings;
        Answering {
            app: self.app.clone(),
            endpoint: self.endpoint,
            refused: self.admit(head, peer).err(),
            given,
            deadline: deadline::of(head),
            body: Reading::new(body, settings.body_limit, settings.body_timeout),
            waiting: None,
        }
    }

    /// Answers a request that has come whole; `None` when that would have to wait, or the body is too large.
    pub fn at_once(
        &self,
        head: &Head<'_>,
        given: Option<HeaderValue>,
        body: &[u8],
        peer: Option<&Peer>,
    ) -> Option<Result<Reply, Response<Vec<u8>>>> {
        if body.len() > self.app.settings.body_limit || !self.app.scorer.never_waits() {
            return None;
        }
        if let Err(fault) = self.admit(head, peer) {
            return Some(Err(auth::refused(fault)));
        }
        let mut call = Call::new(given, deadline::of(head), Ok(Bytes::copy_from_slice(body)));
        let outcome = now(self.endpoint.answer(&self.app, &mut call))?;
        Some(outcome.map_err(error_response))
    }

    fn admit(&self, head: &Head<'_>, peer: Option<&Peer>) -> Result<(), AuthFault> {
        match (&self.app.auth, self.scope) {
            (Some(authenticator), Some(scope)) => auth::admit(authenticator, head, peer, scope).map(drop),
            (None, _) | (_, None) => Ok(()),
        }
    }
}

impl<B> Service<Request<B>> for Hot
where
    B: Body<Data = Bytes> + Unpin,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Answering<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering<B> {
        let (parts, body) = request.into_parts();
        let head = Head::of(&parts.headers);
        let peer = parts.extensions.get::<Arc<Peer>>();
        self.answer(&head, given(&head), body, peer.map(AsRef::as_ref))
    }
}

type Waiting = Pin<Box<dyn Future<Output = Result<Reply, ApiError>> + Send>>;

/// A request being answered.
pub struct Answering<B> {
    app: Shared,
    endpoint: Endpoint,
    refused: Option<AuthFault>,
    given: Option<HeaderValue>,
    deadline: Result<Option<Duration>, ApiError>,
    body: Reading<B>,
    /// The answer, when it has to wait for a model on another thread.
    waiting: Option<Waiting>,
}

impl<B> Future for Answering<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(fault) = this.refused {
            return Poll::Ready(Ok(auth::refused(fault)));
        }
        if this.waiting.is_none() {
            let body = ready!(this.body.poll(context));
            let deadline = std::mem::replace(&mut this.deadline, Ok(None));
            let mut call = Call::new(this.given.take(), deadline, body);
            if this.app.scorer.never_waits()
                && let Some(outcome) = now(this.endpoint.answer(&this.app, &mut call))
            {
                return Poll::Ready(Ok(call::response(outcome)));
            }
            // A future of its own, so that those that need not wait are not as large as this one.
            let (app, endpoint) = (this.app.clone(), this.endpoint);
            this.waiting = Some(Box::pin(async move { endpoint.answer(&app, &mut call).await }));
        }
        let Some(waiting) = &mut this.waiting else { return Poll::Pending };
        waiting.as_mut().poll(context).map(|outcome| Ok(call::response(outcome)))
    }
}

/// What a future gives at once; `None` when it would have to wait, and then it is dropped.
fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A body being read under a size and a time limit.
pub struct Reading<B> {
    body: B,
    limit: usize,
    timeout: Duration,
    /// What came so far, of a body that comes in several pieces.
    pieces: BytesMut,
    /// Set when the body is first waited for: most have arrived with their head.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Reading<B> {
    pub fn new(body: B, limit: usize, timeout: Duration) -> Self {
        Self { body, limit, timeout, pieces: BytesMut::new(), timer: None }
    }
}

impl<B> Reading<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Reads to the end.
    ///
    /// # Errors
    /// Too large, too late, or cut off.
    pub async fn whole(mut self) -> Result<Bytes, ApiError> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, ApiError>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if self.pieces.len() + data.len() > self.limit {
                        let problem = format!("body must be at most {} bytes", self.limit);
                        return Poll::Ready(Err(ApiError::new(Code::BodyTooLarge, problem)));
                    }
                    if self.pieces.is_empty() && self.body.is_end_stream() {
                        return Poll::Ready(Ok(data));
                    }
                    self.pieces.extend_from_slice(&data);
                }
                Poll::Ready(Some(Err(_))) => {
                    let problem = "body ended before it was complete";
                    return Poll::Ready(Err(ApiError::new(Code::BodyUnreadable, problem)));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(std::mem::take(&mut self.pieces).freeze())),
                Poll::Pending => {
                    let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.timeout)));
                    ready!(timer.as_mut().poll(context));
                    let problem = format!("body must arrive within {} ms", self.timeout.as_millis());
                    return Poll::Ready(Err(ApiError::new(Code::BodyTimeout, problem)));
                }
            }
        }
    }
}
