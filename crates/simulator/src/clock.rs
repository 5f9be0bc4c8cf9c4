//! The platform's clock: another clock, moved by an offset.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use scoreline_domain::time::{Clock, Timestamp};

/// Runs as its base does, ahead of it or behind.
#[derive(Clone)]
pub struct PlatformClock {
    base: Arc<dyn Clock>,
    ahead_ms: Arc<AtomicI64>,
    /// What `advance` added; the monotonic clock does not start with a jump.
    advanced_ms: Arc<AtomicI64>,
}

impl PlatformClock {
    /// A clock that shows `now` at this moment; what its base shows when `None`.
    pub(super) fn new(base: Arc<dyn Clock>, now: Option<Timestamp>) -> Self {
        let ahead = now.map_or(0, |now| now.as_millisecond() - base.now().as_millisecond());
        Self { base, ahead_ms: Arc::new(AtomicI64::new(ahead)), advanced_ms: Arc::default() }
    }

    pub(super) fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.ahead_ms.fetch_add(by, Ordering::AcqRel);
        self.advanced_ms.fetch_add(by, Ordering::AcqRel);
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.base.now().as_millisecond() + self.ahead_ms.load(Ordering::Acquire)
    }
}

impl Clock for PlatformClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now_ms()).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.base.monotonic() + Duration::from_millis(self.advanced_ms.load(Ordering::Acquire) as u64)
    }
}
