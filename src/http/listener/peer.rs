//! Who is at the other end, and what serves them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;

/// What serves a connection's requests.
pub trait Handle:
    Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static> + Send + 'static
{
}

impl<S> Handle for S where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Send
        + 'static
{
}

/// Makes the service of a connection. A service that keeps what it needs of the peer pays for it once per connection.
pub trait Connect: Send + Sync + 'static {
    type Service: Handle;

    fn connect(&self, peer: &Peer) -> Self::Service;
}

impl<F, S> Connect for F
where
    F: Fn(&Peer) -> S + Send + Sync + 'static,
    S: Handle,
{
    type Service = S;

    fn connect(&self, peer: &Peer) -> S {
        self(peer)
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: PeerAddress,
    /// Only of a TLS client that showed a certificate the settings asked for and accepted.
    pub certificates: Option<PeerCertificates>,
}

/// Request extension: where the connection comes from.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// Request extension: the client's certificate chain, its own first.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<Vec<CertificateDer<'static>>>);

/// Serves every connection with a copy of `service`; requests carry `PeerAddress` and `PeerCertificates` as extensions.
pub fn with_peer<S: Handle + Clone + Sync>(service: S) -> impl Connect {
    move |peer: &Peer| WithPeer { inner: service.clone(), peer: peer.clone() }
}

/// As `with_peer`, of a router.
pub fn router(router: Router) -> impl Connect {
    with_peer(TowerToHyperService::new(router))
}

#[derive(Clone)]
struct WithPeer<S> {
    inner: S,
    peer: Peer,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        let extensions = request.extensions_mut();
        extensions.insert(self.peer.address);
        if let Some(certificates) = &self.peer.certificates {
            extensions.insert(certificates.clone());
        }
        self.inner.call(request)
    }
}
