//! Signals, stop tokens and supervised tasks: how the process ends.
//!
//! Two tokens. *Soft* asks everybody to finish what they have begun; *hard* drops what is left. The first SIGTERM or
//! SIGINT is soft, a second one or the end of the drain time is hard. A supervised task that ends or panics before the
//! soft token stops the whole process: it is better restarted than limping. SIGHUP ends nothing: it asks for what can be
//! read anew. Nothing else listens to signals or spawns.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// After the hard token, a task that does not even let itself be dropped (it blocks its thread) is left behind.
const ABANDON_AFTER: Duration = Duration::from_millis(500);

/// Owned by whoever runs the process; everybody else holds a [`Stop`].
#[derive(Default)]
pub struct Lifecycle {
    stop: Stop,
}

/// A handle on the process's end: start tasks, learn that the end has come, bring it about.
#[derive(Clone, Default)]
pub struct Stop {
    soft: CancellationToken,
    hard: CancellationToken,
    /// Set just before `hard`: reading the token takes a lock, and every turn of every connection asks.
    dropping: Arc<AtomicBool>,
    tasks: TaskTracker,
    /// The first thing that went wrong. Locked for a moment, never across an await.
    failure: Arc<Mutex<Option<StopError>>>,
}

/// Why the process did not end cleanly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    #[error("task `{task}` failed: {reason}")]
    TaskFailed { task: &'static str, reason: String },
    #[error("task `{task}` ended although nothing asked it to")]
    TaskEnded { task: &'static str },
    #[error("task `{task}` panicked")]
    TaskPanicked { task: &'static str },
    #[error("{tasks} task(s) did not finish in time and were dropped")]
    NotDrained { tasks: usize },
}

/// What a supervised task ends with: nothing, or a result.
pub trait Ending {
    /// Why it failed, if it did.
    fn outcome(self) -> Result<(), String>;
}

impl Ending for () {
    fn outcome(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> Ending for Result<(), E> {
    fn outcome(self) -> Result<(), String> {
        self.map_err(|err| err.to_string())
    }
}

impl Lifecycle {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits for SIGTERM, SIGINT or a failed task, then for the tasks to finish. `signals` have been listened to since
    /// before anybody could know that there is a process to stop.
    ///
    /// # Errors
    /// What ended the process, unless it was one signal and everything finished in time.
    pub async fn run(self, mut signals: Signals, drain: Duration) -> Result<(), StopError> {
        self.run_with(async || signals.next().await, drain).await
    }

    /// As `run`, with the signals coming from `next_signal`.
    pub async fn run_with(
        self,
        mut next_signal: impl AsyncFnMut() -> &'static str,
        drain: Duration,
    ) -> Result<(), StopError> {
        let Stop { soft, hard, dropping, tasks, failure } = &self.stop;
        tokio::select! {
            () = soft.cancelled() => {}
            name = next_signal() => info!(signal = name, "stopping: finishing what has begun"),
        }
        soft.cancel();
        tasks.close();
        let dropped = tokio::select! {
            () = tasks.wait() => 0,
            name = next_signal() => {
                warn!(signal = name, tasks = tasks.len(), "second signal: dropping what is left");
                tasks.len()
            }
            () = tokio::time::sleep(drain) => {
                warn!(tasks = tasks.len(), "drain time is over: dropping what is left");
                tasks.len()
            }
        };
        dropping.store(true, Ordering::Release);
        hard.cancel();
        if tokio::time::timeout(ABANDON_AFTER, tasks.wait()).await.is_err() {
            warn!(tasks = tasks.len(), "leaving tasks behind that do not end");
        }
        let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(failure) => Err(failure),
            None if dropped > 0 => Err(StopError::NotDrained { tasks: dropped }),
            None => {
                info!("stopped");
                Ok(())
            }
        }
    }
}

impl Stop {
    /// Ready once the process should finish.
    pub async fn requested(&self) {
        self.soft.cancelled().await;
    }

    fn is_requested(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Finish what has begun, take nothing new.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Asks for the end, as a signal does.
    pub fn request(&self) {
        self.soft.cancel();
    }

    /// Runs a long task. It ends by itself once the stop is requested; before that, its end, its error and its panic
    /// all stop the process.
    pub fn supervise(&self, task: &'static str, work: impl Future<Output: Ending> + Send + 'static) {
        let guard = TaskGuard { stop: self.clone(), task, settled: false };
        self.spawn(async move {
            // Captured whole: it has to fall when `work` panics.
            let mut guard = guard;
            let outcome = work.await.outcome();
            guard.settle(outcome);
        });
    }

    /// Runs work that must be finished before the process ends, such as a connection. Its panic is its own.
    pub fn track(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.spawn(work);
    }

    /// As `supervise`, on a thread of its own with a runtime of its own, for work that must go on when the threads
    /// everybody shares are stuck. `work` is made there, so that its sockets and timers belong to that runtime.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be started.
    pub fn supervise_apart<F>(
        &self,
        task: &'static str,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> std::io::Result<()>
    where
        F: Future<Output: Ending>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ended, end) = oneshot::channel();
        let hard = self.hard.clone();
        std::thread::Builder::new().name(task.to_owned()).spawn(move || {
            let outcome = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = hard.cancelled() => Ok(()),
                    ending = work() => ending.outcome(),
                }
            });
            // Nobody listens once the process has been told to drop everything.
            let _ = ended.send(outcome);
        })?;
        // The sender is lost when the thread panics.
        self.supervise(task, async { end.await.unwrap_or_else(|_| Err("its thread panicked".to_owned())) });
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns: here tasks are tracked and dropped")]
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone().cancelled_owned();
        let until = UntilDropped { work, hard, listening: false, dropping: Arc::clone(&self.dropping) };
        drop(tokio::spawn(self.tasks.track_future(until)));
    }

    fn fail(&self, failure: StopError) {
        error!(reason = %failure, "stopping the process");
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.soft.cancel();
    }
}

pin_project! {
    /// A task's work, ended by the hard token. Always a task of its own, so its waker never changes and the token need
    /// only be polled once.
    struct UntilDropped<F> {
        #[pin]
        work: F,
        #[pin]
        hard: WaitForCancellationFutureOwned,
        listening: bool,
        dropping: Arc<AtomicBool>,
    }
}

impl<F: Future<Output = ()>> Future for UntilDropped<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if !*this.listening {
            *this.listening = true;
            if this.hard.poll(context).is_ready() {
                return Poll::Ready(());
            }
        } else if this.dropping.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        this.work.poll(context)
    }
}

/// Held by a supervised task for as long as it lives.
struct TaskGuard {
    stop: Stop,
    task: &'static str,
    settled: bool,
}

impl TaskGuard {
    fn settle(&mut self, outcome: Result<(), String>) {
        self.settled = true;
        let task = self.task;
        match outcome {
            Err(reason) => self.stop.fail(StopError::TaskFailed { task, reason }),
            Ok(()) if !self.stop.is_requested() => self.stop.fail(StopError::TaskEnded { task }),
            Ok(()) => {}
        }
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        // Not settled and not panicking: dropped by the hard token, or with the runtime.
        if !self.settled && std::thread::panicking() {
            self.stop.fail(StopError::TaskPanicked { task: self.task });
        }
    }
}

/// SIGTERM and SIGINT. Listening begins with `listen`, so none is missed between two calls of `next`.
pub struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Signals {
    /// A signal that cannot be listened to keeps its usual effect: the process ends at once.
    pub fn listen() -> Self {
        Self {
            terminate: listen(SignalKind::terminate(), "SIGTERM"),
            interrupt: listen(SignalKind::interrupt(), "SIGINT"),
        }
    }

    /// The name of the next signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            () = received(&mut self.terminate) => "SIGTERM",
            () = received(&mut self.interrupt) => "SIGINT",
        }
    }
}

/// SIGHUP. Once listened to, it no longer ends the process.
pub struct Hangups(Option<Signal>);

impl Hangups {
    /// When it cannot be listened to, it keeps its usual effect: the process ends at once.
    pub fn listen() -> Self {
        Self(listen(SignalKind::hangup(), "SIGHUP"))
    }

    /// Ready with the next one. Those that came since the last call count as one.
    pub async fn next(&mut self) {
        received(&mut self.0).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that listens to signals")]
fn listen(kind: SignalKind, name: &'static str) -> Option<Signal> {
    match signal(kind) {
        Ok(signal) => Some(signal),
        Err(err) => {
            warn!(signal = name, error = %err, "signal cannot be listened to");
            None
        }
    }
}

/// Never ready for a signal that is not listened to.
async fn received(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::mpsc;
    use tokio::time::{Instant, sleep};

    use super::*;

    const DRAIN: Duration = Duration::from_secs(20);

    fn signals() -> (mpsc::UnboundedSender<&'static str>, impl AsyncFnMut() -> &'static str) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        (sender, async move || match receiver.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_signal_lets_what_has_begun_finish() {
        let lifecycle = Lifecycle::new();
        let stop = lifecycle.stop();
        let (signal, next) = signals();
        let finished = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&finished);
        let held = stop.clone();
        stop.supervise("server", async move {
            held.requested().await;
            sleep(Duration::from_secs(3)).await;
            flag.store(true, Ordering::SeqCst);
        });
        signal.send("SIGTERM").expect("listening");
        let started = Instant::now();
        assert_eq!(lifecycle.run_with(next, DRAIN).await, Ok(()));
        assert!(finished.load(Ordering::SeqCst));
        assert_eq!(started.elapsed().as_secs(), 3, "does not wait for the drain time");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_drain_time_drops_what_is_left() {
        let lifecycle = Lifecycle::new();
        let (signal, next) = signals();
        lifecycle.stop().supervise("stuck", std::future::pending::<()>());
        signal.send("SIGTERM").expect("listening");
        let started = Instant::now();
        assert_eq!(lifecycle.run_with(next, DRAIN).await, Err(StopError::NotDrained { tasks: 1 }));
        assert_eq!(started.elapsed(), DRAIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_does_not_wait() {
        let lifecycle = Lifecycle::new();
        let (signal, next) = signals();
        lifecycle.stop().supervise("stuck", std::future::pending::<()>());
        signal.send("SIGINT").expect("listening");
        signal.send("SIGINT").expect("listening");
        let started = Instant::now();
        assert_eq!(lifecycle.run_with(next, DRAIN).await, Err(StopError::NotDrained { tasks: 1 }));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    async fn outcome_beside_a_bystander(start: impl FnOnce(&Stop)) -> Result<(), StopError> {
        let lifecycle = Lifecycle::new();
        let stop = lifecycle.stop();
        let (_signal, next) = signals();
        stop.supervise("bystander", stop.soft().clone().cancelled_owned());
        start(&stop);
        lifecycle.run_with(next, DRAIN).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_fails_or_panics_stops_the_process() {
        let ended = outcome_beside_a_bystander(|stop| stop.supervise("watcher", async {})).await;
        assert_eq!(ended, Err(StopError::TaskEnded { task: "watcher" }));

        let failing = async { Err::<(), _>("folder is gone") };
        let failed = outcome_beside_a_bystander(|stop| stop.supervise("watcher", failing)).await;
        assert_eq!(failed, Err(StopError::TaskFailed { task: "watcher", reason: "folder is gone".into() }));

        let panicking = async {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(1, 2, "a planned panic");
        };
        let panicked = outcome_beside_a_bystander(|stop| stop.supervise("watcher", panicking)).await;
        assert_eq!(panicked, Err(StopError::TaskPanicked { task: "watcher" }));
    }

    #[tokio::test]
    async fn work_on_a_thread_of_its_own_is_supervised_too() {
        let lifecycle = Lifecycle::new();
        let stop = lifecycle.stop();
        stop.supervise_apart("admin", || async { sleep(Duration::from_millis(5)).await }).expect("a thread");
        let (_signal, next) = signals();
        assert_eq!(lifecycle.run_with(next, DRAIN).await, Err(StopError::TaskEnded { task: "admin" }));

        let lifecycle = Lifecycle::new();
        let stop = lifecycle.stop();
        stop.supervise_apart("admin", std::future::pending::<()>).expect("a thread");
        let (signal, next) = signals();
        signal.send("SIGTERM").expect("listening");
        let dropped = lifecycle.run_with(next, Duration::from_millis(20)).await;
        assert_eq!(dropped, Err(StopError::NotDrained { tasks: 1 }), "and dropped with everything else");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_tracked_work_is_not_the_end() {
        let lifecycle = Lifecycle::new();
        let stop = lifecycle.stop();
        let (signal, next) = signals();
        stop.track(async { assert_eq!(1, 2, "a planned panic") });
        sleep(Duration::from_millis(1)).await;
        assert!(!stop.is_requested());
        signal.send("SIGTERM").expect("listening");
        assert_eq!(lifecycle.run_with(next, DRAIN).await, Ok(()));
    }
}
