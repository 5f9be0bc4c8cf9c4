//! One connection from its first byte to its last: handshake, protocol, requests.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::caps::End;
use super::connection_stats::ConnectionStats;
use super::drain::Drain;
use super::io::{HttpVersion, Io};
use super::lane::{Handed, Lane, LaneExit};
use super::peer::{Connect, Peer, PeerAddress, PeerCertificates};
use super::service::WatchedService;
use super::timed_connection::TimedConnection;
use super::{Limits, Listener, TlsConfigs};
use crate::tls::HandshakeRefusal;

/// What a client may send of one stream, and of all its streams, before we have read it.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams the client has reset before we looked at them; streams we have reset for its mistakes.
const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 1024;
const PING: std::time::Duration = std::time::Duration::from_secs(20);
/// Read buffer of an HTTP/1 connection, at most.
const BUFFER: usize = 64 * 1024;
/// Unsent answers of an HTTP/2 stream.
const SEND_BUFFER: usize = 64 * 1024;

/// What all connections of a listener have in common.
pub(super) struct ListenerShared<C> {
    name: &'static str,
    connect: C,
    limits: Limits,
    tls: Option<TlsConfigs>,
    drain: Drain,
    one: http1::Builder,
    two: http2::Builder<TokioExecutor>,
    cancelled: Counter,
}

impl<C: Connect> ListenerShared<C> {
    pub(super) fn new(listener: Listener, connect: C) -> Self {
        let Listener { name, limits, tls, drain, .. } = listener;
        let mut one = http1::Builder::new();
        // No timer: see `timed_connection`. No limit of the number of headers: see `service`. No `pipeline_flush`: it holds an answer
        // back while a part of the next request, or a head that was refused, is in the buffer.
        // Answers are small: copied behind their head they go out in one piece, for less than the kernel takes for two.
        one.writev(false);
        one.header_read_timeout(None).max_buf_size(BUFFER).max_header_size(limits.head_bytes);
        let mut two = http2::Builder::new(TokioExecutor::new());
        two.timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(ERROR_RESETS)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let cancelled = metrics::counter!("scoreline_requests_cancelled_total", "listener" => name);
        Self { name, connect, limits, tls, drain, one, two, cancelled }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

/// Runs a connection to its end.
pub(super) async fn run<C: Connect>(shared: &ListenerShared<C>, stream: TcpStream, address: SocketAddr) -> End {
    let mut peer = Peer { address: PeerAddress(address), certificates: None };
    let Some(configs) = &shared.tls else { return serve(shared, stream, &peer, None).await };
    // Here and not where connections are accepted: a client that says nothing keeps only itself waiting. Boxed, because
    // most of it is gone once the handshake is done.
    let handshake = Box::pin(TlsAcceptor::from(configs()).accept(stream));
    let stream = match tokio::time::timeout(shared.limits.handshake_timeout, handshake).await {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(err)) => {
            HandshakeRefusal::of_handshake(&err).report(shared.name, address);
            return End::HandshakeFailed;
        }
        Err(_) => return End::HandshakeTimeout,
    };
    let session = stream.get_ref().1;
    // A client that does not choose can only mean HTTP/1.1: over TLS, HTTP/2 must be agreed on.
    let version = if session.alpn_protocol() == Some(b"h2") { HttpVersion::Two } else { HttpVersion::One };
    peer.certificates = session.peer_certificates().map(|chain| PeerCertificates(Arc::new(chain.to_vec())));
    serve(shared, stream, &peer, Some(version)).await
}

async fn serve<C, T>(shared: &ListenerShared<C>, stream: T, peer: &Peer, version: Option<HttpVersion>) -> End
where
    C: Connect,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (limits, drain) = (&shared.limits, &shared.drain);
    // One timer from here to the end of the first head, so that nobody gets the time twice.
    let timer = Box::pin(tokio::time::sleep(limits.header_timeout));
    let service = shared.connect.connect(peer);
    let lane = Lane::<C, T>::new(stream, service, version, timer, limits, drain);
    let Handed { version, stream, service, unread, timer, calls, age } = match lane.run().await {
        LaneExit::Ended(end) => return end,
        LaneExit::ForHyper(handed) => handed,
    };
    let stats = Arc::new(ConnectionStats::new(shared.cancelled.clone(), calls, version));
    let io = TokioIo::new(Io::new(stream, unread, Arc::clone(&stats)));
    let service = WatchedService {
        inner: service,
        stats: Arc::clone(&stats),
        drain: drain.clone(),
        version,
        requests: limits.requests,
        headers: limits.headers,
    };
    match version {
        HttpVersion::One => {
            let connection = shared.one.serve_connection(io, service);
            TimedConnection::new(connection, version, stats, limits, timer, age, drain.clone()).await
        }
        HttpVersion::Two => {
            let connection = shared.two.serve_connection(io, service);
            TimedConnection::new(connection, version, stats, limits, timer, age, drain.clone()).await
        }
    }
}
