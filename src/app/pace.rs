//! The pace of the platform's token, kept in the store: a process that takes over, or runs beside, goes on with it.
//!
//! In PostgreSQL times are the server's, the same for all machines. A file belongs to one machine, and its times are those
//! since that was started. Neither forgets a request when a wall clock is changed: the latter does not notice, and whether the
//! server's was set forward is seen by the machine's own.

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use scoreline_genesys::{PaceChange, PaceLedger};
use scoreline_store::Store;
use serde::{Deserialize, Serialize};

/// A clock that is ahead of ours by more, since both were read last, was set forward, in milliseconds. Less is the time
/// between two readings.
const SET_FORWARD: i64 = 1000;

/// `PaceLedger` of the store.
pub struct KeptPace {
    store: Store,
    machine: Box<str>,
    /// The last ones of this process. Locked for a moment, never across an await.
    last: Mutex<Option<ClockReadings>>,
}

/// What the ledger's clock and a machine's own said at one moment, in milliseconds. The first line of what is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ClockReadings {
    machine: Box<str>,
    there: i64,
    here: i64,
}

impl KeptPace {
    pub fn new(store: Store) -> Self {
        // Where the machine does not say when it was started, every process is a machine of its own.
        let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let machine = read.map_or_else(|_| format!("process {:016x}", fastrand::u64(..)), |id| id.trim().to_owned());
        Self { store, machine: machine.into(), last: Mutex::default() }
    }

    async fn change_kept(&self, bucket: &str, change: PaceChange<'_>) -> Result<(), String> {
        let change = |kept: Option<&str>, clock: &str, there: i64| {
            let now = ClockReadings { machine: self.machine.clone(), there, here: since_start() };
            let (before, window) = kept.map_or((None, None), |kept| {
                let (before, window) = kept.split_once('\n').unwrap_or_default();
                (serde_json::from_str::<ClockReadings>(before).ok(), Some(window))
            });
            // Of another machine nothing is known but that its own clock is another one.
            let own = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now.clone());
            let before = before.filter(|before| before.machine == self.machine).or(own);
            let next = if before.is_some_and(|before| now.is_set_forward(&before)) {
                tracing::warn!(
                    "the database's clock was set forward: what was asked of the platform counts as just asked"
                );
                // Times of a clock with another name tell nothing, so everything counts as if it had just been; and once more
                // with the next change, which names the clock as before.
                change(window, &format!("{clock}, set forward"), there)
            } else {
                change(window, clock, there)
            };
            // Numbers and one text: there is nothing in it that cannot be written.
            format!("{}\n{next}", serde_json::to_string(&now).unwrap_or_default())
        };
        self.store.change_pace(bucket, &self.machine, since_start, change).await.map_err(|err| err.to_string())
    }
}

impl ClockReadings {
    /// Whether the ledger's clock has run ahead of the machine's own.
    fn is_set_forward(&self, before: &Self) -> bool {
        (self.there - before.there) - (self.here - before.here) > SET_FORWARD
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
