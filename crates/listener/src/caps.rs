//! How many connections there may be, in all and from one peer, and the count of how each one ended.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limits;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By the client, or by both as agreed: the last answer of a connection says so.
    Finished,
    /// The connection broke or did not keep to the protocol.
    Error,
    HandshakeFailed,
    HandshakeTimeout,
    HeaderTimeout,
    IdleTimeout,
    WriteTimeout,
    /// Bytes and bytes, and no request.
    Flood,
    /// Still there long after it was told to end.
    Overstayed,
}

impl End {
    const ALL: [Self; 9] = [
        Self::Finished,
        Self::Error,
        Self::HandshakeFailed,
        Self::HandshakeTimeout,
        Self::HeaderTimeout,
        Self::IdleTimeout,
        Self::WriteTimeout,
        Self::Flood,
        Self::Overstayed,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Error => "error",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HeaderTimeout => "header_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::Flood => "flood",
            Self::Overstayed => "overstayed",
        }
    }
}

/// How many connections of a listener are open, to be shown. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Arc<AtomicUsize>);

impl OpenConnections {
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The caps of one listener.
pub(super) struct Caps {
    places: Arc<Semaphore>,
    total: u32,
    per_peer: usize,
    exempt_loopback: bool,
    book: Arc<ConnectionCounts>,
}

/// Touched when a connection starts and when it ends, never by a request.
struct ConnectionCounts {
    /// Locked for a moment, never across an await.
    peers: Mutex<HashMap<IpAddr, usize>>,
    open: Gauge,
    shown: OpenConnections,
    accepted: Counter,
    refused: Counter,
    held_back: Counter,
    ended: [Counter; End::ALL.len()],
}

/// An open connection's place; given back when dropped.
pub(super) struct ConnectionSlot {
    _place: OwnedSemaphorePermit,
    peer: Option<IpAddr>,
    book: Arc<ConnectionCounts>,
    end: End,
}

impl Caps {
    pub(super) fn new(listener: &'static str, limits: &Limits, shown: OpenConnections) -> Self {
        let ended = End::ALL.map(|end| {
            metrics::counter!("scoreline_connections_ended_total", "listener" => listener, "reason" => end.as_str())
        });
        let book = ConnectionCounts {
            peers: Mutex::default(),
            open: metrics::gauge!("scoreline_connections_open", "listener" => listener),
            shown,
            accepted: metrics::counter!("scoreline_connections_accepted_total", "listener" => listener),
            refused: metrics::counter!("scoreline_connections_refused_total", "listener" => listener, "reason" => "per_peer"),
            held_back: metrics::counter!("scoreline_connections_held_back_total", "listener" => listener),
            ended,
        };
        let total = limits.connections.clamp(1, u32::MAX as usize >> 3);
        Self {
            places: Arc::new(Semaphore::new(total)),
            total: total as u32,
            per_peer: limits.connections_per_peer,
            exempt_loopback: limits.exempt_loopback,
            book: Arc::new(book),
        }
    }

    /// A place for one more connection, as soon as there is one.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        if let Some(place) = self.free_place() {
            return place;
        }
        self.book.held_back.increment(1);
        let waiting = Arc::clone(&self.places).acquire_owned();
        waiting.await.expect("the semaphore is never closed")
    }

    pub(super) fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The connection's slot, or none when its peer has too many.
    pub(super) fn admit(&self, place: OwnedSemaphorePermit, address: SocketAddr) -> Option<ConnectionSlot> {
        let exempt = self.exempt_loopback && address.ip().to_canonical().is_loopback();
        let peer = (!exempt).then(|| peer_of(address));
        if let Some(peer) = peer {
            let mut peers = self.book.peers.lock().unwrap_or_else(PoisonError::into_inner);
            let open = peers.entry(peer).or_default();
            if *open >= self.per_peer {
                self.book.refused.increment(1);
                return None;
            }
            *open += 1;
        }
        self.book.accepted.increment(1);
        self.book.open.increment(1.0);
        self.book.shown.0.fetch_add(1, Ordering::Relaxed);
        // A task that is dropped half way never says how it ended.
        Some(ConnectionSlot { _place: place, peer, book: Arc::clone(&self.book), end: End::Error })
    }

    /// Ready when no connection is left.
    pub(super) async fn empty(&self) {
        let all = self.places.acquire_many(self.total).await;
        drop(all.expect("the semaphore is never closed"));
    }
}

impl ConnectionSlot {
    pub(super) fn end(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.book.open.decrement(1.0);
        self.book.shown.0.fetch_sub(1, Ordering::Relaxed);
        if let Some(index) = End::ALL.iter().position(|end| *end == self.end) {
            self.book.ended[index].increment(1);
        }
        let Some(peer) = self.peer else { return };
        let mut peers = self.book.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = peers.get_mut(&peer) {
            *open -= 1;
            if *open == 0 {
                peers.remove(&peer);
            }
        }
    }
}

/// Who is counted together: an IPv6 host usually has a whole /64 of addresses to choose from.
fn peer_of(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_peer_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(peer_of(address("192.0.2.7:1")), peer_of(address("[::ffff:192.0.2.7]:2")));
        assert_eq!(peer_of(address("[2001:db8::1]:1")), peer_of(address("[2001:db8::ffff:2]:1")));
        assert_ne!(peer_of(address("[2001:db8:0:1::1]:1")), peer_of(address("[2001:db8:0:2::1]:1")));
    }

    #[tokio::test]
    async fn places_and_peers_come_back() {
        let limits = Limits { connections: 3, connections_per_peer: 2, ..Limits::default() };
        let shown = OpenConnections::default();
        let caps = Caps::new("test", &limits, shown.clone());
        let one = address("192.0.2.1:1");
        let slots: Vec<_> = (0..2).filter_map(|_| caps.admit(caps.free_place()?, one)).collect();
        assert_eq!((slots.len(), shown.get()), (2, 2));
        assert!(caps.admit(caps.place().await, one).is_none(), "a third from the same peer");
        let other = caps.admit(caps.place().await, address("192.0.2.2:1")).expect("another peer");
        assert!(caps.free_place().is_none(), "three are open");
        drop(slots);
        other.end(End::Finished);
        caps.empty().await;
        assert!(caps.book.peers.lock().expect("lock").is_empty());
        assert!(caps.admit(caps.place().await, one).is_some());
    }

    #[tokio::test]
    async fn loopback_can_be_exempt() {
        let limits = Limits { connections_per_peer: 1, exempt_loopback: true, ..Limits::default() };
        let caps = Caps::new("test", &limits, OpenConnections::default());
        let slots: Vec<_> = (0..5).filter_map(|_| caps.admit(caps.free_place()?, address("127.0.0.1:1"))).collect();
        assert_eq!(slots.len(), 5);
    }
}
