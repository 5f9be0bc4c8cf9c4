//! How late a runtime begins what is ready: sampled on that runtime, watched from another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Admission;
use super::controller::Controller;
use crate::domain::time::Stopwatch;

/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// Between two looks of the watchdog.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// A runtime that has not moved for so long is worth a line in the log.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// The pulse of one runtime, shared by the sampler in it and the watchdog outside.
#[derive(Clone)]
pub struct Lag(Arc<Beat>);

struct Beat {
    since: Stopwatch,
    /// When the sampler last ran, in microseconds of `since`.
    last: AtomicU64,
    /// The worst sample since the watchdog looked, in microseconds.
    worst: AtomicU64,
}

impl Default for Lag {
    fn default() -> Self {
        Self::new()
    }
}

impl Lag {
    pub fn new() -> Self {
        Self(Arc::new(Beat { since: Stopwatch::start(), last: AtomicU64::new(0), worst: AtomicU64::new(0) }))
    }

    /// Samples the runtime this is run on, and moves `door` with it, until `stop` is ready. A supervised task.
    pub async fn sample(self, door: Admission, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut controller = Controller::new();
        loop {
            let asleep = Stopwatch::start();
            tokio::select! {
                () = tokio::time::sleep(SAMPLE_EVERY) => {}
                () = &mut stop => return,
            }
            // A timer fires up to a millisecond after its time even when nothing is late.
            let lag = asleep.elapsed().saturating_sub(SAMPLE_EVERY + Duration::from_millis(1));
            self.0.last.store(micros(self.0.since.elapsed()), Ordering::Relaxed);
            self.0.worst.fetch_max(micros(lag), Ordering::Relaxed);
            door.apply(controller.observe(lag));
        }
    }

    /// Publishes the lag as `scoreline_runtime_lag_seconds`: the worst since the last look, and a runtime that is stuck
    /// counts as late for as long as it is. Run where it can not get stuck with it.
    pub async fn watch(self, stop: impl Future<Output = ()>) {
        let gauge = metrics::gauge!("scoreline_runtime_lag_seconds");
        let mut stop = std::pin::pin!(stop);
        let mut stuck = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_EVERY) => {}
                () = &mut stop => return,
            }
            let lag = self.worst();
            gauge.set(lag.as_secs_f64());
            if (lag >= STUCK_AFTER) != stuck {
                stuck = !stuck;
                if stuck {
                    tracing::error!(lag_ms = lag.as_millis() as u64, "request threads are stuck");
                } else {
                    tracing::warn!("request threads move again");
                }
            }
        }
    }

    /// The worst lag since this was last asked.
    fn worst(&self) -> Duration {
        let silent = micros(self.0.since.elapsed()).saturating_sub(self.0.last.load(Ordering::Relaxed));
        let overdue = silent.saturating_sub(micros(SAMPLE_EVERY));
        Duration::from_micros(self.0.worst.swap(0, Ordering::Relaxed).max(overdue))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{AdmissionSettings, WhenOverloaded};
    use super::*;

    #[test]
    fn a_stuck_runtime_is_seen_from_outside_and_while_it_lasts() {
        let settings = AdmissionSettings { live: 1, batches: 1, when_overloaded: WhenOverloaded::Refuse };
        let lag = Lag::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let sampled = lag.clone();
        let outside = lag.clone();
        let watcher = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(250));
            outside.worst()
        });
        runtime.block_on(async {
            let stop = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                std::thread::sleep(Duration::from_millis(300));
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            sampled.sample(Admission::new(settings), stop).await;
        });
        let while_stuck = watcher.join().expect("no panic");
        assert!(while_stuck >= Duration::from_millis(100), "{while_stuck:?}");
        assert!(lag.worst() >= Duration::from_millis(200), "and afterwards");
    }
}
