//! The public listener's service: hot routes are looked up here, everything else goes to the router, which knows the
//! hot ones too. The short way is worth it: matching, boxing and layering a request in the router costs more than
//! scoring it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::{Extensions, Method, Request, Response, StatusCode};
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper_util::service::TowerToHyperService;
use pin_project_lite::pin_project;
use scoreline_listener::{Connect, Peer, Plain, RequestBody};
use tower::{BoxError, Service};

use super::auth::identity;
use super::head::Head;
use super::hot::{Answering, Hot, ROUTES};
use super::observe::{Observe, Observed, caught, error_response, finish, given};
use super::state::Shared;
use super::{router, wire};
use crate::auth;
use scoreline_domain::time::Stopwatch;

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
        match self.hot(request.method(), request.uri().path()) {
            Some(route) => {
                let (parts, body) = request.into_parts();
                let head = Head::of(&parts.headers);
                let given = given(&head);
                let answer = route.observe.start(given.clone(), || route.hot.answer(&head, given, body, peer));
                Answer::Hot { answer }
            }
            None => Answer::Routed { answer: self.router.clone().call(request.map(Body::new)) },
        }
    }

    fn hot(&self, method: &Method, path: &str) -> Option<&HotRoute> {
        self.hot.iter().find(|route| route.path == path).filter(|_| method == Method::POST)
    }
}

impl HotRoute {
    /// Writes the answer to a request that has come whole; `false` when it has to wait for it.
    fn at_once(&self, plain: &Plain<'_>, peer: Option<&auth::Peer>, out: &mut Vec<u8>) -> bool {
        let watch = Stopwatch::start();
        let head = Head::of_pairs(plain.headers());
        let given = given(&head);
        let refused = match caught(|| self.hot.at_once(&head, given.clone(), plain.body, peer)) {
            Ok(None) => return false,
            Ok(Some(Ok(reply))) => {
                reply.write(out);
                self.observe.record(StatusCode::OK, watch);
                return true;
            }
            Ok(Some(Err(response))) => response,
            Err(error) => error_response(error),
        };
        let response = finish(refused, given);
        wire::write(&response, out);
        self.observe.record(response.status(), watch);
        true
    }
}

impl Connect for Public {
    type Service = Connection;

    fn connect(&self, peer: &Peer) -> Connection {
        Connection { public: self.clone(), identity: identity(peer), peer: peer.clone() }
    }

    fn at_once(service: &Connection, plain: &Plain<'_>, out: &mut Vec<u8>) -> bool {
        let route = service.public.hot(&Method::POST, plain.path);
        route.is_some_and(|route| route.at_once(plain, service.identity.as_deref(), out))
    }
}

/// The service of one connection, which knows who is at its other end.
pub struct Connection {
    public: Public,
    identity: Option<Arc<auth::Peer>>,
    peer: Peer,
}

impl hyper::service::Service<Request<RequestBody>> for Connection {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Answer<RequestBody>;

    fn call(&self, mut request: Request<RequestBody>) -> Answer<RequestBody> {
        if self.public.hot(request.method(), request.uri().path()).is_none() {
            // Only handlers behind the router look for these, and each costs an allocation.
            describe(&self.peer, self.identity.as_ref(), request.extensions_mut());
        }
        self.public.answer(request, self.identity.as_deref())
    }
}

/// Serves every connection with the router; requests carry what is known of the peer as extensions, which costs each one
/// an allocation.
pub fn routed(router: Router) -> impl Connect {
    let service = TowerToHyperService::new(router);
    move |peer: &Peer| WithPeer { inner: service.clone(), identity: identity(peer), peer: peer.clone() }
}

#[derive(Clone)]
struct WithPeer<S> {
    inner: S,
    identity: Option<Arc<auth::Peer>>,
    peer: Peer,
}

impl<S: hyper::service::Service<Request<RequestBody>>> hyper::service::Service<Request<RequestBody>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<RequestBody>) -> S::Future {
        describe(&self.peer, self.identity.as_ref(), request.extensions_mut());
        self.inner.call(request)
    }
}

/// Puts into a request's extensions where it comes from, the certificates, and whom they name.
fn describe(peer: &Peer, identity: Option<&Arc<auth::Peer>>, extensions: &mut Extensions) {
    peer.describe(extensions);
    if let Some(identity) = identity {
        extensions.insert(Arc::clone(identity));
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
        let identity = request.extensions().get::<Arc<auth::Peer>>().cloned();
        self.answer(request, identity.as_deref())
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
