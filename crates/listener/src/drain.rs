//! The two steps of leaving: first ask clients to go elsewhere while still accepting, then stop accepting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Shared by whoever decides to leave and every connection.
#[derive(Clone, Default)]
pub struct Drain {
    leaving: DrainFlag,
    closed: DrainFlag,
}

/// A flag that is read for every request, with a token for those who sleep. The token alone takes a lock to be read.
#[derive(Clone, Default)]
struct DrainFlag {
    flag: Arc<AtomicBool>,
    token: CancellationToken,
}

impl DrainFlag {
    fn set(&self) {
        self.flag.store(true, Ordering::Release);
        self.token.cancel();
    }

    fn is_set(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }
}

impl Drain {
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on, answers ask clients to open another connection. New ones are still accepted: whoever balances the
    /// load needs a moment to notice.
    pub fn leave(&self) {
        self.leaving.set();
    }

    /// Stop accepting; connections end with their next answer, or when they stay idle.
    pub fn close(&self) {
        self.leave();
        self.closed.set();
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.is_set()
    }

    pub fn is_closed(&self) -> bool {
        self.closed.is_set()
    }

    /// Ready once the listener should stop accepting.
    pub async fn closed(&self) {
        self.closed.token.cancelled().await;
    }

    /// As futures that wake a connection.
    pub(super) fn steps(&self) -> [WaitForCancellationFutureOwned; 2] {
        [self.leaving.token.clone().cancelled_owned(), self.closed.token.clone().cancelled_owned()]
    }
}
