//! Sockets: accept under caps, speak HTTP/1.1 or HTTP/2 under timers, drain without losing a request.
//!
//! `axum::serve` sets no timers, and hyper's own header timer also runs while a kept-alive connection is idle, costs an
//! allocation per request, and does not cover the bytes that are read to tell the two protocols apart. So the timers are
//! ours, see `timed_connection`: one per connection, and a usual request never touches it.

mod caps;
mod connection;
mod connection_stats;
mod drain;
mod head;
mod io;
mod lane;
mod peer;
mod plain;
mod service;
mod timed_connection;
pub mod tls;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

pub use caps::OpenConnections;
pub use drain::Drain;
pub use head::{HeadFault, check_head};
pub use peer::{Connect, Handle, Peer, PeerAddress, PeerCertificates};
pub use plain::{OfferResult, Plain, offer};
pub use service::RequestBody;

use caps::Caps;
use connection::ListenerShared;
use scoreline_domain::time::Stopwatch;

/// The TLS settings of the moment, asked for at each handshake. They must offer `h2` and `http/1.1` by ALPN themselves.
pub type TlsConfigs = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// A connection to be run to its end by whoever owns the process.
pub type ConnectionTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What one listener and its connections may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. At the limit nothing is accepted: the kernel's queue holds newcomers back.
    pub connections: usize,
    /// Open connections from one IPv4 address or one IPv6 /64 network. One too many is closed at once.
    pub connections_per_peer: usize,
    /// Loopback addresses are not counted by peer: for a proxy on the same machine.
    pub exempt_loopback: bool,
    pub handshake_timeout: Duration,
    /// Longest time from a connection's start, or from the first byte of a later head, to the end of the head.
    pub header_timeout: Duration,
    /// Longest time without a request, give or take a quarter.
    pub idle_timeout: Duration,
    /// A client that takes almost nothing of its answer for so long is disconnected.
    pub write_timeout: Duration,
    /// Requests of a connection before it is closed.
    pub requests: u32,
    /// Age at which a connection is closed after its next answer.
    pub age: Duration,
    /// Largest request head, in bytes.
    pub head_bytes: usize,
    /// Most headers of a request.
    pub headers: usize,
    /// Most open HTTP/2 streams of a connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_peer: 256,
            exempt_loopback: false,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(65),
            write_timeout: Duration::from_secs(10),
            requests: 10_000,
            age: Duration::from_hours(1),
            head_bytes: 16 * 1024,
            headers: 64,
            streams: 100,
        }
    }
}

/// How one listener serves.
pub struct Listener {
    /// Label of its metrics.
    pub name: &'static str,
    pub limits: Limits,
    /// Without it the listener speaks plain HTTP.
    pub tls: Option<TlsConfigs>,
    pub drain: Drain,
    /// Where its open connections are counted for people.
    pub open: OpenConnections,
}

/// Connections the kernel completes ahead of `accept`.
const BACKLOG: u32 = 1024;
/// Answers the kernel holds for a connection whose client does not read. It would grow to megabytes by itself, and each
/// of thousands of slow readers could have it filled before the write timer begins.
const SEND_BUFFER: u32 = 256 * 1024;
/// Pause after an accept error such as too many open files: what is short comes back when others end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// An accept error is told of once in this time, however often it comes.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// Opens a listening socket.
///
/// # Errors
/// What the operating system says.
pub fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Tells the recorder what the metrics mean.
fn describe() {
    for (name, meaning) in [
        ("scoreline_connections_accepted_total", "Connections that were accepted."),
        ("scoreline_connections_refused_total", "Connections that were closed at once, by reason."),
        ("scoreline_connections_held_back_total", "Times that newcomers had to wait for a place."),
        ("scoreline_connections_ended_total", "Connections by how they ended."),
        ("scoreline_requests_cancelled_total", "Requests whose client went away before the answer."),
        ("scoreline_tls_handshakes_refused_total", "TLS handshakes that were refused, by code."),
        ("scoreline_tls_reloads_total", "Changed TLS files that were taken or refused."),
    ] {
        metrics::describe_counter!(name, meaning);
    }
    for (name, meaning) in [
        ("scoreline_connections_open", "Open connections."),
        ("scoreline_tls_certificate_expiry_seconds", "Time until the certificate expires, negative after it."),
        (
            "scoreline_tls_revocation_list_expiry_seconds",
            "Time until the first revocation list is past its next update.",
        ),
    ] {
        metrics::describe_gauge!(name, meaning);
    }
}

impl Listener {
    /// Serves what `connect` makes for each connection until the drain closes the listener, then waits until the open
    /// connections have ended. Every connection is handed to `spawn`.
    pub async fn serve<C: Connect>(self, listener: TcpListener, connect: C, spawn: impl Fn(ConnectionTask)) {
        describe();
        let caps = Caps::new(self.name, &self.limits, self.open.clone());
        let drain = self.drain.clone();
        let shared = Arc::new(ListenerShared::new(self, connect));
        let mut told: Option<Stopwatch> = None;
        loop {
            let place = tokio::select! {
                place = caps.place() => place,
                () = drain.closed() => break,
            };
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = drain.closed() => break,
            };
            match accepted {
                Ok((stream, address)) => {
                    if let Some(slot) = caps.admit(place, address) {
                        start(&shared, slot, stream, address, &spawn);
                    }
                }
                // The client was gone before it was accepted; nothing is wrong here.
                Err(err) if err.kind() == ErrorKind::ConnectionAborted => {}
                Err(err) => {
                    if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                        told = Some(Stopwatch::start());
                        tracing::warn!(listener = shared.name(), error = %err, "connection could not be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // The kernel has completed these already: closing the socket now would reset them.
        while let Some(place) = caps.free_place()
            && let Ok(Ok((stream, address))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await
        {
            if let Some(slot) = caps.admit(place, address) {
                start(&shared, slot, stream, address, &spawn);
            }
        }
        drop(listener);
        caps.empty().await;
    }
}

fn start<C: Connect>(
    shared: &Arc<ListenerShared<C>>,
    slot: caps::ConnectionSlot,
    stream: TcpStream,
    address: SocketAddr,
    spawn: &impl Fn(ConnectionTask),
) {
    // Answers are small: waiting to fill a segment only delays them.
    if let Err(err) = stream.set_nodelay(true) {
        tracing::debug!(error = %err, "TCP_NODELAY could not be set");
    }
    let shared = Arc::clone(shared);
    spawn(Box::pin(async move {
        let end = connection::run(&shared, stream, address).await;
        slot.end(end);
    }));
}
