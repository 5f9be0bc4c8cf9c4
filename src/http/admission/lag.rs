//! How late a runtime begins what is ready: sampled on that runtime, governed from another one, because a queue delays
//! whoever is in it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::Admission;
use super::controller::Controller;
use scoreline_domain::time::Stopwatch;

/// Between two samples, between two looks from outside, and between two samples while calls are refused.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);
const PRESSED_EVERY: Duration = Duration::from_millis(1);
/// Tasks to be run for each runtime.
pub const SAMPLERS: usize = 2;
/// A moment that is not there: no sample is outstanding, no governor looks.
const NONE: u64 = u64::MAX;
/// A timer fires up to a millisecond after its time even when nothing is late.
const TIMER_STEP: Duration = Duration::from_millis(1);
/// Looks between two values of the metric.
const LOOKS_PER_VALUE: u32 = 50;
/// A runtime that has not moved for so long is worth a line in the log.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// The pulse of one runtime, shared by the sampler in it and the governor outside.
#[derive(Clone)]
pub struct Lag(Arc<Beat>);

struct Beat {
    since: Stopwatch,
    /// When the outstanding sample is due, in microseconds of `since`.
    due: AtomicU64,
    /// Calls that had come when it was sent.
    calls: AtomicU32,
    /// How long the process had stood still by then, and has by now, in microseconds: what the governor's own looks came
    /// late by. Nobody's queue is behind that.
    stood_then: AtomicU64,
    stood: AtomicU64,
    /// When the governor last looked, in microseconds of `since`.
    looked: AtomicU64,
    /// The worst lag since the metric was set, in microseconds.
    worst: AtomicU64,
    /// Locked for a moment, every few milliseconds.
    controller: Mutex<Controller>,
}

impl Default for Lag {
    fn default() -> Self {
        Self::new()
    }
}

impl Lag {
    pub fn new() -> Self {
        Self(Arc::new(Beat {
            since: Stopwatch::start(),
            due: AtomicU64::new(NONE),
            calls: AtomicU32::new(0),
            stood_then: AtomicU64::new(0),
            stood: AtomicU64::new(0),
            looked: AtomicU64::new(NONE),
            worst: AtomicU64::new(0),
            controller: Mutex::new(Controller::new()),
        }))
    }

    /// Samples the runtime this is run on, and moves `door` with it, until `stop` is ready. A supervised task, to be run
    /// `SAMPLERS` times: a sample is begun by whichever task comes first, so that one thread that has lost its processor
    /// does not pass for a queue while the others go on.
    pub async fn sample(self, door: Admission, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let due = self.outstanding(&door);
            tokio::select! {
                () = tokio::time::sleep(due.saturating_sub(self.0.since.elapsed())) => {}
                () = &mut stop => break,
            }
            to_the_end_of_the_queue().await;
            self.begun(due, &door);
        }
        self.0.due.store(NONE, Ordering::Relaxed);
    }

    /// When the outstanding sample is due; sends one if there is none.
    fn outstanding(&self, door: &Admission) -> Duration {
        let controller = self.controller();
        if self.0.due.load(Ordering::Relaxed) == NONE {
            self.send(&controller, door);
        }
        Duration::from_micros(self.0.due.load(Ordering::Relaxed))
    }

    /// The sample that was due then is begun; the first to say so counts.
    fn begun(&self, due: Duration, door: &Admission) {
        let mut controller = self.controller();
        if self.0.due.load(Ordering::Relaxed) != micros(due) {
            return;
        }
        let lag = self.0.since.elapsed().saturating_sub(due + TIMER_STEP);
        self.0.worst.fetch_max(micros(lag), Ordering::Relaxed);
        door.apply(controller.observe(lag.saturating_sub(self.stood_still()), self.calls_since(door)));
        self.send(&controller, door);
    }

    /// Under the lock, because several tasks do.
    fn send(&self, controller: &Controller, door: &Admission) {
        let pause = if controller.is_pressed() { PRESSED_EVERY } else { SAMPLE_EVERY };
        self.0.calls.store(door.calls(), Ordering::Relaxed);
        self.0.stood_then.store(self.0.stood.load(Ordering::Relaxed), Ordering::Relaxed);
        self.0.due.store(micros(self.0.since.elapsed() + pause), Ordering::Relaxed);
    }

    fn controller(&self) -> MutexGuard<'_, Controller> {
        self.0.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves `door` when a sample is overdue, notes when the whole process stood still, and publishes the worst lag as
    /// `scoreline_runtime_lag_seconds`; a runtime that is stuck counts as late for as long as it is. To be run where it can
    /// not get stuck with it.
    pub async fn govern(self, door: Admission, stop: impl Future<Output = ()>) {
        let gauge = metrics::gauge!("scoreline_runtime_lag_seconds");
        let mut stop = std::pin::pin!(stop);
        let (mut looks, mut stuck) = (0, false);
        loop {
            tokio::select! {
                () = tokio::time::sleep(SAMPLE_EVERY) => {}
                () = &mut stop => break,
            }
            self.look();
            let late = self.late();
            self.0.worst.fetch_max(micros(late), Ordering::Relaxed);
            let overdue = late.saturating_sub(self.stood_still());
            if !overdue.is_zero() {
                door.apply(self.controller().overdue(overdue, self.calls_since(&door)));
            }
            if (overdue >= STUCK_AFTER) != stuck {
                stuck = !stuck;
                if stuck {
                    tracing::error!("request threads are stuck");
                } else {
                    tracing::warn!("request threads move again");
                }
            }
            looks += 1;
            if looks % LOOKS_PER_VALUE == 0 {
                gauge.set(self.worst().as_secs_f64());
            }
        }
        self.0.looked.store(NONE, Ordering::Relaxed);
    }

    /// Calls that came since the outstanding sample was sent.
    fn calls_since(&self, door: &Admission) -> u32 {
        door.calls().wrapping_sub(self.0.calls.load(Ordering::Relaxed))
    }

    /// The governor is awake: what it is late by, the process stood still.
    fn look(&self) {
        let now = self.0.since.elapsed();
        self.0.stood.fetch_add(micros(self.unlooked(now)), Ordering::Relaxed);
        self.0.looked.store(micros(now), Ordering::Relaxed);
    }

    /// By how much the governor's next look is late.
    fn unlooked(&self, now: Duration) -> Duration {
        let looked = Duration::from_micros(self.0.looked.load(Ordering::Relaxed));
        now.saturating_sub(looked.saturating_add(SAMPLE_EVERY + TIMER_STEP))
    }

    /// How long the process has stood still since the outstanding sample was sent.
    fn stood_still(&self) -> Duration {
        let stood = self.0.stood.load(Ordering::Relaxed) - self.0.stood_then.load(Ordering::Relaxed);
        Duration::from_micros(stood) + self.unlooked(self.0.since.elapsed())
    }

    /// By how much the outstanding sample is late.
    fn late(&self) -> Duration {
        let due = Duration::from_micros(self.0.due.load(Ordering::Relaxed));
        self.0.since.elapsed().saturating_sub(due.saturating_add(TIMER_STEP))
    }

    /// The worst lag since this was last asked.
    fn worst(&self) -> Duration {
        Duration::from_micros(self.0.worst.swap(0, Ordering::Relaxed))
    }
}

/// Whom a timer wakes is begun before those whose sockets became ready with it. A task that wakes itself goes behind them,
/// where a request that comes now would stand. (`yield_now` does not: it comes back with the timers.)
async fn to_the_end_of_the_queue() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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
            outside.late()
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
