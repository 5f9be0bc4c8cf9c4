//! The two doors of a listener. Plain live calls are answered in the short lane, between two bytes of the connection;
//! everything else goes through the router, which knows every route. Both call the same functions.

use std::convert::Infallible;
use std::fs;
use std::future::{Ready, ready};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use futures_util::future::Either;
use tokio::net::{UnixListener, UnixStream};
use tower::Service as _;

use super::edge::auth::{Charged, ScopeGuard, identity, refused};
use super::edge::error::{ApiError, error_response};
use super::edge::head::Head;
use super::edge::observe::{Door, ErrorForm, Observe, caught};
use super::router::{ListenerName, ROUTES, RouteAnswer, UNMATCHED, local, router};
use super::routes::Call;
use super::routes::live::Endpoint;
use super::state::SharedState;
use super::wire::response::{Reply, write_response};
use crate::auth;
use scoreline_domain::time::Stopwatch;
use scoreline_listener::{Connect, Peer, Plain, RequestBody, check_head};

/// How soon a socket that gives no connection is asked again.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// What one listener answers. Cheap to clone.
#[derive(Clone)]
pub struct Endpoints {
    lane: Arc<[LaneRoute]>,
    router: Router,
    /// Of requests that no route is looked for.
    unmatched: Observe,
}

/// A live call's route as the lane takes it.
struct LaneRoute {
    path: &'static str,
    endpoint: Endpoint,
    app: SharedState,
    guard: Option<ScopeGuard>,
    observe: Observe,
}

impl Endpoints {
    pub fn public(state: SharedState) -> Self {
        let lane = ROUTES.iter().filter(|row| row.listener == ListenerName::Public && row.method == Method::POST);
        let lane = lane.filter_map(|row| match row.answer {
            RouteAnswer::Live(endpoint) => Some(LaneRoute {
                path: row.path,
                endpoint,
                app: state.clone(),
                guard: ScopeGuard::of(&state, row.access),
                observe: row.observe(&state),
            }),
            RouteAnswer::Routed(_) => None,
        });
        Self { lane: lane.collect(), ..router(ListenerName::Public, state).into() }
    }

    pub fn admin(state: SharedState) -> Self {
        router(ListenerName::Admin, state).into()
    }

    /// What commands of this machine ask.
    pub fn local(state: SharedState) -> Self {
        local(state).into()
    }

    /// Answers who runs as the user of this process, until `stopped` is ready.
    pub async fn answer_commands(&self, socket: UnixListener, stopped: impl Future<Output = ()> + Send + 'static) {
        let Ok(own) = fs::metadata("/proc/self") else { return };
        let commands = OwnCommands { socket, user: own.uid() };
        let served = axum::serve(commands, self.router.clone()).with_graceful_shutdown(stopped).await;
        if let Err(error) = served {
            tracing::warn!(%error, "commands of this machine are not answered any more");
        }
    }

    /// The door of everything that is not plain.
    pub fn router(&self) -> &Router {
        &self.router
    }
}

/// Without a short lane.
impl From<Router> for Endpoints {
    fn from(router: Router) -> Self {
        Self {
            lane: Arc::default(),
            router,
            unmatched: Observe::new(UNMATCHED, UNMATCHED, ErrorForm::Documented, None, None),
        }
    }
}

impl LaneRoute {
    /// Writes the answer to a request that has come whole; `false` when that has to wait, or is for the router to refuse.
    fn write(&self, plain: &Plain<'_>, from: &Connection, out: &mut Vec<u8>) -> bool {
        if plain.body.len() > self.app.settings.body_limit || !self.app.scorer.never_waits() {
            return false;
        }
        let watch = Stopwatch::start();
        let head = Head::of(plain.headers());
        let begun = self.observe.begin(watch, Door::Lane, Method::POST, &head);
        let mut caller = None;
        let answer = || self.answer(&head, begun.given.clone(), plain.body, from, &mut caller);
        let refused = match caught(|| begun.during(answer)) {
            Ok(None) => {
                // The router answers this request next, and its caller has paid for it.
                from.charged.store(self.guard.is_some(), Ordering::Relaxed);
                return false;
            }
            Ok(Some(Ok(reply))) => {
                reply.write(out);
                self.observe.record(&begun, StatusCode::OK, None, reply.request_id.as_ref(), caller.as_deref());
                return true;
            }
            Ok(Some(Err(response))) => response,
            Err(error) => error_response(error),
        };
        write_response(&self.observe.end(&begun, refused, caller), out);
        true
    }

    /// `None` when the endpoint would have to wait. `caller` is who was let in.
    fn answer(
        &self,
        head: &Head<'_>,
        given: Option<HeaderValue>,
        body: &[u8],
        from: &Connection,
        caller: &mut Option<Arc<auth::Caller>>,
    ) -> Option<Result<Reply, Response<Vec<u8>>>> {
        match self.guard.as_ref().map(|guard| guard.admit(head, from.identity.as_deref())) {
            Some(Ok(admitted)) => *caller = Some(admitted),
            Some(Err(why)) => return Some(Err(refused(why, Some(from.peer.address.0.ip())))),
            None => {}
        }
        let mut call = Call::new(head, given, Ok(Bytes::copy_from_slice(body)));
        let answer = pin!(self.endpoint.answer(&self.app, &mut call));
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome.map_err(error_response)),
            Poll::Pending => None,
        }
    }
}

impl Connect for Endpoints {
    type Service = Connection;

    fn connect(&self, peer: &Peer) -> Connection {
        let charged = AtomicBool::new(false);
        Connection { endpoints: self.clone(), identity: identity(peer), peer: peer.clone(), charged }
    }

    fn at_once(service: &Connection, plain: &Plain<'_>, out: &mut Vec<u8>) -> bool {
        let route = service.endpoints.lane.iter().find(|route| route.path == plain.path);
        route.is_some_and(|route| route.write(plain, service, out))
    }
}

/// Connections of this user, and of root, who may write the store's file anyway.
struct OwnCommands {
    socket: UnixListener,
    user: u32,
}

impl axum::serve::Listener for OwnCommands {
    type Io = UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (UnixStream, ()) {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    let user = stream.peer_cred().map(|peer| peer.uid());
                    if user.is_ok_and(|user| user == self.user || user == 0) {
                        return (stream, ());
                    }
                }
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The service of one connection, which knows who is at its other end.
pub struct Connection {
    endpoints: Endpoints,
    identity: Option<Arc<auth::PeerIdentity>>,
    peer: Peer,
    /// The lane has taken the next request from its caller's rate and left the answer to the router.
    charged: AtomicBool,
}

impl Connection {
    /// Answers a request that HTTP does not allow. Where the next one of the connection begins is not certain then.
    fn refuse(&self, request: &Request<RequestBody>, error: ApiError) -> Response<Body> {
        let (watch, head) = (Stopwatch::start(), Head::of_map(request.headers()));
        let begun = self.endpoints.unmatched.begin(watch, Door::Router, request.method().clone(), &head);
        let mut response = self.endpoints.unmatched.end(&begun, error_response(error), None);
        if request.version() < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl hyper::service::Service<Request<RequestBody>> for Connection {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<RouteFuture<Infallible>, Ready<Result<Response<Body>, Infallible>>>;

    fn call(&self, mut request: Request<RequestBody>) -> Self::Future {
        let is_charged = self.charged.swap(false, Ordering::Relaxed);
        if let Err(fault) = check_head(&request) {
            return Either::Right(ready(Ok(self.refuse(&request, fault.into()))));
        }
        self.peer.describe(request.extensions_mut());
        if let Some(identity) = &self.identity {
            request.extensions_mut().insert(Arc::clone(identity));
        }
        if is_charged {
            request.extensions_mut().insert(Charged);
        }
        Either::Left(self.endpoints.router.clone().call(request))
    }
}
