//! The pace of the platform's token, kept in the store: a process that takes over, or runs beside, goes on with it.
//!
//! Times are those since the machine was started, so that no change of the wall clock forgets a request. Each machine keeps
//! its own: what another one's times mean here is not known.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use scoreline_domain::time::{Clock as _, SystemClock};
use scoreline_genesys::{PaceChange, PaceLedger};
use scoreline_store::Store;
use tokio::sync::Mutex;

/// `PaceLedger` of the store.
pub(super) struct KeptPace {
    store: Store,
    machine: Box<str>,
    /// Held from reading to writing: jobs of this process take turns.
    turn: Arc<Mutex<()>>,
}

impl KeptPace {
    pub(super) fn new(store: Store) -> Self {
        // Where the machine does not say when it was started, every process is a machine of its own.
        let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let machine = read.map_or_else(|_| "process".into(), |id| id.trim().into());
        Self { store, machine, turn: Arc::default() }
    }

    async fn change_kept(&self, bucket: &str, change: PaceChange<'_>) -> Result<(), String> {
        let place = format!("pace:{bucket}:{}", self.machine);
        let _turn = self.turn.lock().await;
        let kept = self.store.position(&place).await.map_err(|err| err.to_string())?;
        let kept = kept.map(|(kept, _)| kept);
        let next = change(kept.as_deref().map(str::as_bytes), &self.machine, since_start());
        let next = String::from_utf8(next).map_err(|err| err.to_string())?;
        let saved = self.store.save_position(&place, &next, SystemClock.now(), None).await;
        saved.map_err(|err| err.to_string())
    }
}

impl PaceLedger for KeptPace {
    fn change<'a>(&'a self, bucket: &'a str, change: PaceChange<'a>) -> BoxFuture<'a, Result<(), String>> {
        self.change_kept(bucket, change).boxed()
    }
}

/// Milliseconds since the machine was started, its sleep included.
fn since_start() -> i64 {
    let since = clock_gettime(ClockId::Boottime);
    since.tv_sec * 1000 + since.tv_nsec / 1_000_000
}
