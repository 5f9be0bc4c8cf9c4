//! Where the pace of a token is kept. All who use the token share one ledger: jobs, processes, replicas.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use scoreline_domain::time::Clock;

/// Turns what is kept into what is to be kept. It is told the name of the ledger's clock and its milliseconds: times of
/// clocks of another name tell nothing.
pub type PaceChange<'a> = Box<dyn FnOnce(Option<&str>, &str, i64) -> String + Send + 'a>;

/// Keeps the pace of tokens.
pub trait PaceLedger: Send + Sync + 'static {
    /// Replaces what is kept in a bucket. Nobody else changes it meanwhile, and when this returns it outlasts the process.
    ///
    /// # Errors
    /// Why it may not have been kept. Nothing is sent then.
    fn change<'a>(&'a self, bucket: &'a str, change: PaceChange<'a>) -> BoxFuture<'a, Result<(), String>>;
}

/// A ledger of this process: for commands that ask the platform a few things and keep nothing.
pub struct MemoryLedger {
    clock: Arc<dyn Clock>,
    kept: Mutex<HashMap<String, String>>,
}

impl MemoryLedger {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: Mutex::default() }
    }
}

impl PaceLedger for MemoryLedger {
    fn change<'a>(&'a self, bucket: &'a str, change: PaceChange<'a>) -> BoxFuture<'a, Result<(), String>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        let next = change(kept.get(bucket).map(String::as_str), "process", now);
        kept.insert(bucket.to_owned(), next);
        std::future::ready(Ok(())).boxed()
    }
}
