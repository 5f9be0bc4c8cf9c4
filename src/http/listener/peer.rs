//! Who is at the other end, and what serves them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::BoxError;
use axum::http::{Extensions, Request, Response};
use bytes::Bytes;
use http_body::Body;
use hyper::service::Service;
use rustls::pki_types::CertificateDer;

use super::plain::Plain;
use super::service::RequestBody;

/// What serves a connection's requests: every hyper service that never fails and whose bodies are plain bytes.
pub trait Handle: Send + 'static {
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
    type Future: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + 'static;

    fn handle(&self, request: Request<RequestBody>) -> Self::Future;
}

impl<S, B> Handle for S
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible, Future: Send + 'static>
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
    type Future = S::Future;

    fn handle(&self, request: Request<RequestBody>) -> S::Future {
        self.call(request)
    }
}

/// Makes the service of a connection. A service that keeps what it needs of the peer pays for it once per connection.
pub trait Connect: Send + Sync + 'static {
    type Service: Handle;

    fn connect(&self, peer: &Peer) -> Self::Service;

    /// Answers a plain request by writing the whole HTTP/1.1 answer to `out`; `false`, with nothing written, for those
    /// that shall go the long way. Never waits, never panics.
    fn at_once(_service: &Self::Service, _plain: &Plain<'_>, _out: &mut Vec<u8>) -> bool {
        false
    }
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

impl Peer {
    /// Puts into a request's extensions where it comes from, and the certificates.
    pub fn describe(&self, extensions: &mut Extensions) {
        extensions.insert(self.address);
        if let Some(certificates) = &self.certificates {
            extensions.insert(certificates.clone());
        }
    }
}

/// Request extension: where the connection comes from.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// Request extension: the client's certificate chain, its own first.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<Vec<CertificateDer<'static>>>);
