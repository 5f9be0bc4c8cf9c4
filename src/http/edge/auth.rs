//! Authentication at the edge: the header and the peer go in, a caller or a finished refusal comes out.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderValue, Response};
use axum::routing::MethodRouter;
use pin_project_lite::pin_project;
use scoreline_listener as listener;
use scoreline_listener::PeerAddress;
use scoreline_listener::tls::{self, San};
use tower::{Layer, Service};

use super::error::{ApiError, Code, error_response};
use super::head::{Head, Repeated};
use super::observe::is_logged;
use super::refusal::Refusal;
use crate::auth::{AuthFault, Authenticator, Caller, NotAdmitted, PeerIdentity, Scope};
use crate::http::state::SharedState;
use scoreline_domain::privacy::audit::Actor;
use scoreline_domain::trace;

/// What a route asks of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing here. The token endpoint asks for a client's secret itself.
    Open,
    /// Credentials with this scope.
    Scoped(Scope),
    /// Credentials with this scope, or a signed message: its handler looks at the signature.
    SignedOr(Scope),
    /// Credentials that may ask for scores of some task: its handler asks for the scope of the model's, see `Asker`.
    Scoring,
}

/// The scopes of the tasks.
pub(crate) const SCORING: [Scope; 2] = [Scope::Predict, Scope::Leads];

/// The header of a signed message.
pub(crate) const SIGNATURE: &str = "webhook-signature";

/// Request extension: the caller's rate has been charged for this request.
#[derive(Clone, Copy)]
pub(crate) struct Charged;

/// The answer to somebody at `address` who is not let in. `observe` writes its body.
pub(crate) fn refused<B: Default>(NotAdmitted { fault, caller }: NotAdmitted, address: Option<IpAddr>) -> Response<B> {
    metrics::counter!("scoreline_auth_refused_total", "reason" => fault.reason()).increment(1);
    let code = match fault {
        AuthFault::Missing | AuthFault::Basic | AuthFault::Malformed | AuthFault::Refused(_) => Code::Unauthenticated,
        AuthFault::Forbidden(_) => Code::Forbidden,
        AuthFault::TooFast { .. } => Code::RateLimited,
    };
    let mut response = error_response(ApiError::new(code, fault.to_string()));
    response.extensions_mut().insert(Refusal { reason: fault.reason(), caller, address });
    if let Some(challenge) = fault.challenge() {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let AuthFault::TooFast { retry_after } = fault {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    response
}

/// Puts a route behind its guard, if it has one.
pub(crate) fn guarded(
    state: &SharedState,
    access: Access,
    methods: MethodRouter<SharedState>,
) -> MethodRouter<SharedState> {
    match ScopeGuard::of(state, access) {
        Some(guard) => methods.layer(guard),
        None => methods,
    }
}

/// Lets requests of one scope through; behind the router with `Arc<Caller>` as an extension.
#[derive(Clone)]
pub(crate) struct ScopeGuard {
    authenticator: Arc<Authenticator>,
    /// `None`: that of any task.
    scope: Option<Scope>,
    /// Whether signed messages pass: their handler looks at them.
    passes_signed: bool,
}

impl ScopeGuard {
    /// None for an open route, and where nobody is asked who they are.
    pub(crate) fn of(state: &SharedState, access: Access) -> Option<Self> {
        let authenticator = Arc::clone(state.auth.as_ref()?);
        let (scope, passes_signed) = match access {
            Access::Open => return None,
            Access::Scoped(scope) => (Some(scope), false),
            Access::SignedOr(scope) => (Some(scope), state.event_keys.verifier.is_some()),
            Access::Scoring => (None, false),
        };
        Some(Self { authenticator, scope, passes_signed })
    }

    /// Lets a request in, or says why not. `peer` is the identity in the client's certificate.
    ///
    /// # Errors
    /// `NotAdmitted`, to be answered with `refused`.
    pub(crate) fn admit(&self, head: &Head<'_>, peer: Option<&PeerIdentity>) -> Result<Arc<Caller>, NotAdmitted> {
        let admitted = match self.scope {
            Some(scope) => self.authenticator.admit(authorization(head)?, peer, scope),
            // The rate is charged by `Asker`.
            None => Ok(self.known(head, peer)?),
        };
        trace::stage("auth");
        admitted
    }

    /// As `admit`, of a request that was let in before.
    fn check(&self, head: &Head<'_>, peer: Option<&PeerIdentity>) -> Result<Arc<Caller>, NotAdmitted> {
        let checked = self.known(head, peer);
        trace::stage("auth");
        Ok(checked?)
    }

    fn known(&self, head: &Head<'_>, peer: Option<&PeerIdentity>) -> Result<Arc<Caller>, AuthFault> {
        let authorization = authorization(head)?;
        match self.scope {
            Some(scope) => self.authenticator.check(authorization, peer, scope),
            None => self.authenticator.check_any(authorization, peer, SCORING),
        }
    }
}

/// Who asks a route of `Access::Scoring`. They are let in once it is known what they ask about.
#[derive(Clone)]
pub(crate) struct Asker {
    /// `None` where nobody is asked who they are.
    caller: Option<Arc<Caller>>,
    address: Option<IpAddr>,
}

impl Asker {
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let address = extensions.get::<PeerAddress>().map(|address| address.0.ip());
        Self { caller: extensions.get().cloned(), address }
    }

    /// Whether they may ask about models of a task with this scope.
    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.caller.as_ref().is_none_or(|caller| caller.scopes().contains(scope))
    }

    /// Lets them ask about a model of a task with this scope, `None` for no model in particular, and charges their rate.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn admit(&self, scope: Option<Scope>) -> Result<(), Response<Body>> {
        let Some(caller) = &self.caller else { return Ok(()) };
        let own = || SCORING.into_iter().find(|scope| caller.scopes().contains(*scope)).unwrap_or(Scope::Predict);
        caller
            .admit(scope.unwrap_or_else(own))
            .map_err(|fault| refused(NotAdmitted { fault, caller: Some(Arc::clone(caller)) }, self.address))
    }
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

/// The one `authorization` header.
fn authorization<'a>(head: &Head<'a>) -> Result<Option<&'a [u8]>, AuthFault> {
    head.authorization.once().map_err(|Repeated| AuthFault::Malformed)
}

impl<S> Layer<S> for ScopeGuard {
    type Service = GuardService<S>;

    fn layer(&self, inner: S) -> GuardService<S> {
        GuardService { inner, guard: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct GuardService<S> {
    inner: S,
    guard: ScopeGuard,
}

impl<S> Service<Request> for GuardService<S>
where
    S: Service<Request, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Guarded<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if self.guard.passes_signed && request.headers().contains_key(SIGNATURE) {
            return Guarded { refused: None, logged: None, inner: Some(self.inner.call(request)) };
        }
        let peer = request.extensions().get::<Arc<PeerIdentity>>().map(AsRef::as_ref);
        let is_charged = request.extensions().get::<Charged>().is_some();
        let let_in = if is_charged { ScopeGuard::check } else { ScopeGuard::admit };
        match let_in(&self.guard, &Head::of_map(request.headers()), peer) {
            Ok(caller) => {
                let logged = is_logged().then(|| Arc::clone(&caller));
                request.extensions_mut().insert(Actor::named(caller.name()));
                request.extensions_mut().insert(caller);
                Guarded { refused: None, logged, inner: Some(self.inner.call(request)) }
            }
            Err(why) => {
                let address = request.extensions().get::<PeerAddress>().map(|address| address.0.ip());
                Guarded { refused: Some(refused(why, address)), logged: None, inner: None }
            }
        }
    }
}

pin_project! {
    /// The refusal, or what is behind the guard.
    pub struct Guarded<F> {
        refused: Option<Response<Body>>,
        // Who asked, for the log: goes out as an extension of the response.
        logged: Option<Arc<Caller>>,
        #[pin]
        inner: Option<F>,
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Guarded<F> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match (this.inner.as_pin_mut(), this.refused.take()) {
            (Some(inner), _) => {
                let Ok(mut response) = ready!(inner.poll(context));
                if let Some(caller) = this.logged.take() {
                    response.extensions_mut().insert(caller);
                }
                Poll::Ready(Ok(response))
            }
            (None, Some(refused)) => Poll::Ready(Ok(refused)),
            (None, None) => Poll::Pending,
        }
    }
}

/// The identity in the certificate a client showed; `None` for one that names nobody.
pub(crate) fn identity(peer: &listener::Peer) -> Option<Arc<PeerIdentity>> {
    let certificates = peer.certificates.as_ref()?;
    let named = tls::CertificateNames::of(&certificates.0).inspect_err(|err| {
        tracing::warn!(address = %peer.address.0, error = %err, "client certificate names nobody");
    });
    let tls::CertificateNames { subject_cn, sans, .. } = named.ok()?;
    let text = |san: San| match san {
        San::Dns(name) | San::Uri(name) => name,
    };
    Some(Arc::new(PeerIdentity { subject: subject_cn.unwrap_or_default(), sans: sans.into_iter().map(text).collect() }))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use scoreline_domain::time::ManualClock;

    use super::*;
    use crate::auth::{AuthSettings, Rate, RateRecord, Rates, Scopes, add_key};

    #[tokio::test]
    async fn a_request_that_was_charged_is_not_charged_again() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("credentials.toml");
        let now = "2026-11-21T10:00:00Z".parse().expect("a time");
        let scopes = Scopes::parse(["predict"]).expect("scopes");
        let made = add_key(&path, "test", scopes, RateRecord::default(), now).expect("made");
        let rate = Rate { per_second: 1, burst: 2 };
        let settings = AuthSettings {
            credentials_file: Some(path),
            token_key_file: None,
            token_ttl: std::time::Duration::from_mins(15),
            rates: Rates { predict: rate, leads: rate },
        };
        let authenticator = Authenticator::open(&settings, Arc::new(ManualClock::at(now))).expect("valid");
        let authenticator = authenticator.expect("credentials");
        let guard = ScopeGuard { authenticator, scope: Some(Scope::Predict), passes_signed: false };
        let handler = async |_: Request| Ok::<_, Infallible>(Response::new(Body::empty()));
        let mut service = guard.layer(tower::service_fn(handler));
        let authorization = format!("Bearer {}", made.secret.as_str());
        let mut ask = async |is_charged: bool| {
            let mut request = Request::new(Body::empty());
            request.headers_mut().insert("authorization", authorization.parse().expect("visible"));
            if is_charged {
                request.extensions_mut().insert(Charged);
            }
            let Ok(response) = service.call(request).await;
            response.status()
        };
        for is_charged in [true, true, true, false, true, false] {
            assert_eq!(ask(is_charged).await, StatusCode::OK);
        }
        assert_eq!(ask(false).await, StatusCode::TOO_MANY_REQUESTS, "two were charged here");
        assert_eq!(ask(true).await, StatusCode::OK);
    }
}
