//! The public listener's service: hot routes are looked up here, everything else goes to the router, which knows the
//! hot ones too. The short way is worth it: matching, boxing and layering a request in the router costs more than
//! scoring it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response};
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::{BoxError, Service};

use super::auth::identity;
use super::hot::{Answering, Hot, ROUTES};
use super::listener::{Connect, Peer};
use super::observe::{Observe, Observed};
use super::router;
use super::state::Shared;
use crate::auth;

/// Answers every request to the public listener. Cheap to clone.
#[derive(Clone)]
pub struct Public {
    hot: Arc<[HotRoute; ROUTES.len()]>,
    router: Router,
}

struct HotRoute {
    path: &'static str,
    observe: Observe,
    hot: Hot,
}

/// The body of a hot route's answer, or of the router's.
pub type ReplyBody = Either<Full<Bytes>, Body>;

impl Public {
    pub fn new(state: Shared) -> Self {
        let hot = ROUTES.map(|(path, name, endpoint)| HotRoute {
            path,
            observe: Observe::new(name),
            hot: Hot::new(state.clone(), name, endpoint),
        });
        Self { hot: Arc::new(hot), router: router::public(state) }
    }

    fn answer<B>(&self, request: Request<B>, peer: Option<&auth::Peer>) -> Answer<B>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        match self.hot(&request) {
            Some(route) => {
                Answer::Hot { answer: route.observe.start(request, |request| route.hot.answer(request, peer)) }
            }
            None => Answer::Routed { answer: self.router.clone().call(request.map(Body::new)) },
        }
    }

    fn hot<B>(&self, request: &Request<B>) -> Option<&HotRoute> {
        let path = request.uri().path();
        self.hot.iter().find(|route| route.path == path).filter(|_| request.method() == Method::POST)
    }
}

impl Connect for Public {
    type Service = Connection;

    fn connect(&self, peer: &Peer) -> Connection {
        Connection { public: self.clone(), identity: identity(peer), peer: peer.clone() }
    }
}

/// The service of one connection, which knows who is at its other end.
pub struct Connection {
    public: Public,
    identity: Option<Arc<auth::Peer>>,
    peer: Peer,
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Answer<Incoming>;

    fn call(&self, mut request: Request<Incoming>) -> Answer<Incoming> {
        if self.public.hot(&request).is_none() {
            // Only handlers behind the router look for these, and each costs an allocation.
            self.peer.describe(self.identity.as_ref(), request.extensions_mut());
        }
        self.public.answer(request, self.identity.as_deref())
    }
}

impl<B> Service<Request<B>> for Public
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Answer<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer<B> {
        self.answer(request, None)
    }
}

pin_project! {
    /// A request on its way through.
    #[project = AnswerProjection]
    pub enum Answer<B> {
        Hot { #[pin] answer: Observed<Answering<B>> },
        Routed { #[pin] answer: RouteFuture<Infallible> },
    }
}

impl<B> Future for Answer<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Output = Result<Response<ReplyBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AnswerProjection::Hot { answer } => answer.poll(context).map_ok(|response| response.map(Either::Left)),
            AnswerProjection::Routed { answer } => answer.poll(context).map_ok(|response| response.map(Either::Right)),
        }
    }
}
