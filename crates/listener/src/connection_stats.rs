//! What a connection's socket and its service note for its timers: a few counters, no clock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use metrics::Counter;

use super::io::HttpVersion;

/// Bytes a connection may bring in before it lets others go first. HTTP/2 can make hundreds of frames of the smaller
/// one: a flood of them could else hold a thread for milliseconds.
const READ_AT_ONCE: u64 = 16 * 1024;
const READ_AT_ONCE_TWO: u64 = 2 * 1024;

/// One connection's notes. Written by its own task (an HTTP/2 stream only ends elsewhere), so nothing needs an order.
pub(super) struct ConnectionStats {
    version: HttpVersion,
    /// Requests whose caller left before the answer.
    cancelled: Counter,
    /// Requests so far.
    calls: AtomicU32,
    /// Requests whose answer is not made yet.
    open: AtomicU32,
    /// Bytes have come that no request has come of yet.
    reading: AtomicBool,
    /// The socket took nothing when it was last written to.
    blocked: AtomicBool,
    written: AtomicU64,
    /// Bytes read since the last request, while none was being answered.
    talk: AtomicU64,
    /// What may be read in one turn, and what of it is left.
    read_at_once: u64,
    allowance: AtomicU64,
    /// A body was given up before its end, and nothing has been asked since.
    cut_short: AtomicBool,
    /// All is said; what still comes is read so that the other end can hear it.
    lingering: AtomicBool,
    /// The next answer is the last.
    retired: AtomicBool,
}

impl ConnectionStats {
    /// Of a connection that has answered `calls` requests.
    pub(super) fn new(cancelled: Counter, calls: u32, version: HttpVersion) -> Self {
        let read_at_once = match version {
            HttpVersion::One => READ_AT_ONCE,
            HttpVersion::Two => READ_AT_ONCE_TWO,
        };
        Self {
            version,
            cancelled,
            calls: AtomicU32::new(calls),
            open: AtomicU32::new(0),
            reading: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            written: AtomicU64::new(0),
            talk: AtomicU64::new(0),
            read_at_once,
            allowance: AtomicU64::new(read_at_once),
            cut_short: AtomicBool::new(false),
            lingering: AtomicBool::new(false),
            retired: AtomicBool::new(false),
        }
    }

    pub(super) fn turn_begins(&self) {
        self.allowance.store(self.read_at_once, Ordering::Relaxed);
    }

    /// Bytes that may still be read in this turn.
    pub(super) fn may_read(&self) -> usize {
        usize::try_from(self.allowance.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    pub(super) fn read(&self, bytes: u64) {
        self.discarded(bytes);
        if self.open.load(Ordering::Relaxed) == 0 {
            self.reading.store(true, Ordering::Relaxed);
            self.talk.store(self.talk.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.written.store(self.written.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    pub(super) fn cut_short(&self) {
        self.cut_short.store(true, Ordering::Relaxed);
    }

    /// Whether the client may be in the middle of a request that is not read on. (HTTP/2 has frames to refuse one.)
    pub(super) fn is_interrupted(&self) -> bool {
        let interrupted = self.cut_short.load(Ordering::Relaxed) || self.reading.load(Ordering::Relaxed);
        interrupted && self.version == HttpVersion::One
    }

    pub(super) fn linger(&self) {
        self.lingering.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_lingering(&self) -> bool {
        self.lingering.load(Ordering::Relaxed)
    }

    /// What is read and thrown away; it counts for the turn.
    pub(super) fn discarded(&self, bytes: u64) {
        self.allowance.store(self.allowance.load(Ordering::Relaxed).saturating_sub(bytes), Ordering::Relaxed);
    }

    /// A request has come whole as far as its head; how many that makes.
    pub(super) fn called(&self) -> u32 {
        self.reading.store(false, Ordering::Relaxed);
        self.cut_short.store(false, Ordering::Relaxed);
        self.talk.store(0, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A request is over, `answered` or given up by its caller.
    pub(super) fn ended(&self, answered: bool) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if !answered {
            self.cancelled.increment(1);
        }
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn is_answering(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Inside a request's head.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.load(Ordering::Relaxed) && !self.is_answering()
    }

    pub(super) fn idle_talk(&self) -> u64 {
        self.talk.load(Ordering::Relaxed)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}
