//! Backends that need threads of their own: one thread a handle, one bounded queue.
//!
//! A turn that would come too late is an answer, not a wait; a caller's deadline is kept even while a run is stuck; work
//! whose caller is gone is not done, and stopped when it has begun; a panic costs one request, not the thread.

mod crew;
mod queue;

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;

use super::backend::{Backend, BackendError, Spares};
use super::explain::{Question, Shares, Unexplained};
use crew::Crew;
use queue::PoolReply;

type PoolResult = Result<Vec<f64>, BackendError>;

/// Threads that own one handle each. Dropping it stops them: each ends after the run it is in.
pub struct Pool {
    inputs: usize,
    outputs: Vec<String>,
    crew: Arc<Crew>,
}

/// How a pool treats what waits and what does not come back.
#[derive(Default)]
pub struct PoolSettings {
    /// Requests that may wait; more are turned away.
    pub queue: usize,
    /// Makes handles in place of those whose run never ends; without it they are missed until they come back.
    pub spares: Option<Spares>,
    /// Told of each handle that does not come back, on a thread of the pool.
    pub on_unreturned: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Pool {
    /// Starts a thread for each handle. At most `queue` requests wait; more are turned away.
    ///
    /// # Errors
    /// When there is no handle or no thread can be started.
    pub fn start(name: &str, handles: Vec<Box<dyn Backend>>, queue: usize) -> Result<Self, BackendError> {
        Self::with(name, handles, PoolSettings { queue, ..PoolSettings::default() })
    }

    /// As `start`, with everything that can be set.
    ///
    /// # Errors
    /// As `start`.
    pub fn with(name: &str, handles: Vec<Box<dyn Backend>>, settings: PoolSettings) -> Result<Self, BackendError> {
        let first = handles.first().ok_or_else(|| failed("a pool needs at least one handle"))?;
        let (inputs, outputs) = (first.inputs(), first.outputs().to_vec());
        Ok(Self { inputs, outputs, crew: Crew::start(name, handles, settings)? })
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Runs that panicked since the start.
    pub fn panics(&self) -> u64 {
        self.crew.panics.load(Ordering::Relaxed)
    }

    /// Runs begun since the start.
    pub fn runs(&self) -> u64 {
        self.crew.runs.load(Ordering::Relaxed)
    }

    /// Runs whole rows (row-major) and answers `rows × outputs` numbers. A caller that leaves, by its deadline or by
    /// dropping this future, stops the run.
    ///
    /// # Errors
    /// `Overloaded` at once when the queue is full or the turn would come too late; after `deadline`, `NoTurn` when it has
    /// not come and `Deadline` when the run has not ended; `PoolRun` when the model fails.
    pub async fn predict(&self, rows: Vec<f64>, deadline: Duration) -> PoolResult {
        self.check(&rows)?;
        let (reply, answer) = oneshot::channel();
        let caller = self.crew.caller(self.crew.jobs.push(rows, PoolReply::Async(reply), Some(deadline))?);
        // The receiver is dropped when time is up, and before `caller` leaves: the thread sees that nobody waits.
        match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => {
                caller.served();
                answer.unwrap_or_else(|_| Err(stopped()))
            }
            Err(_) if caller.leave() => Err(BackendError::Deadline),
            Err(_) => Err(BackendError::NoTurn),
        }
    }

    /// As `predict`, for files and golden rows: waits for room in the queue and for the answer, however long.
    ///
    /// # Errors
    /// When the model fails.
    pub fn predict_blocking(&self, rows: Vec<f64>) -> PoolResult {
        self.check(&rows)?;
        let (reply, answer) = mpsc::sync_channel(1);
        self.crew.jobs.push_when_room(rows, PoolReply::Blocking(reply))?;
        answer.recv().unwrap_or_else(|_| Err(stopped()))
    }

    /// Explains an output on one of the threads, within the question's budget, the wait in the queue included.
    ///
    /// # Errors
    /// As [`Backend::explain`], and when the queue is full.
    pub async fn explain(&self, question: &Question<'_>) -> Result<Shares, Unexplained> {
        let rows = [question.reference, question.row].concat();
        self.check(&rows)?;
        let (reply, answer) = oneshot::channel();
        // The thread stops a little earlier than its caller, so that what it has by then still arrives.
        let (output, budget) = (question.output, question.budget.part(0.8));
        let players = question.players.to_vec();
        let job = self.crew.jobs.push(rows, PoolReply::Explanation { players, output, budget, reply }, None)?;
        let caller = self.crew.caller(job);
        match tokio::time::timeout(question.budget.left(), answer).await {
            Ok(answer) => {
                caller.served();
                answer.unwrap_or_else(|_| Err(stopped().into()))
            }
            Err(_) => Err(Unexplained::OutOfTime),
        }
    }

    fn check(&self, rows: &[f64]) -> Result<(), BackendError> {
        if rows.len().is_multiple_of(self.inputs) {
            return Ok(());
        }
        Err(failed(&format!("{} numbers are not whole rows of {}", rows.len(), self.inputs)))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.crew.jobs.stop();
    }
}

fn failed(reason: &str) -> BackendError {
    BackendError::Run { reason: reason.to_owned() }
}

fn stopped() -> BackendError {
    failed("the model is being unloaded")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Condvar, Mutex};

    use super::*;
    use crate::inference::FeatureMatrix;
    use crate::inference::explain::Budget;

    const LONG: Duration = Duration::from_mins(1);

    /// Doubles its column; waits at a gate for negative numbers, panics for 13.
    struct Doubling {
        outputs: Vec<String>,
        runs: Arc<AtomicUsize>,
        gate: Arc<Gate>,
    }

    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
        /// Runs that stand at the gate.
        waiting: Mutex<usize>,
        arrived: Condvar,
    }

    impl Gate {
        fn pass(&self) {
            *self.waiting.lock().expect("lock") += 1;
            self.arrived.notify_all();
            let open = self.open.lock().expect("lock");
            drop(self.opened.wait_while(open, |open| !*open).expect("lock"));
        }

        fn wait_for_arrival(&self) {
            let waiting = self.waiting.lock().expect("lock");
            let (guard, late) = self.arrived.wait_timeout_while(waiting, LONG, |waiting| *waiting == 0).expect("lock");
            drop(guard);
            assert!(!late.timed_out(), "no run has come to the gate");
        }

        fn open(&self) {
            *self.open.lock().expect("lock") = true;
            self.opened.notify_all();
        }
    }

    impl Drop for Doubling {
        fn drop(&mut self) {
            self.gate.open();
        }
    }

    impl Backend for Doubling {
        fn inputs(&self) -> usize {
            1
        }

        fn outputs(&self) -> &[String] {
            &self.outputs
        }

        fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
            self.runs.fetch_add(1, Ordering::SeqCst);
            for (row, out) in rows.iter().zip(out) {
                assert!(row[0] != 13.0, "unlucky");
                if row[0] < 0.0 {
                    self.gate.pass();
                }
                *out = row[0] * 2.0;
            }
            Ok(())
        }
    }

    /// A pool with everything set that can be; it makes spare handles, and counts those that did not come back.
    fn mended() -> (Pool, Arc<AtomicUsize>, Arc<Gate>) {
        let unreturned = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Gate::default());
        let spare = {
            let gate = Arc::clone(&gate);
            move || -> Result<Box<dyn Backend>, BackendError> {
                let outputs = vec!["value".into()];
                let runs = Arc::default();
                Ok(Box::new(Doubling { outputs, runs, gate: Arc::clone(&gate) }))
            }
        };
        let told = Arc::clone(&unreturned);
        let settings = PoolSettings {
            queue: 4,
            on_unreturned: Some(Box::new(move || {
                told.fetch_add(1, Ordering::SeqCst);
            })),
            spares: Some(Box::new(spare.clone())),
        };
        (Pool::with("test", vec![spare().expect("a handle")], settings).expect("threads"), unreturned, gate)
    }

    #[tokio::test]
    async fn handles_that_do_not_come_back_are_replaced_up_to_a_limit_and_taken_back_later() {
        let (pool, unreturned, gate) = mended();
        let short = Duration::from_millis(200);
        for stuck in 1..=8 {
            let answer = pool.predict(vec![-1.0], short).await;
            assert!(matches!(answer, Err(BackendError::Deadline)), "{answer:?}");
            assert_eq!(pool.predict(vec![3.0], LONG).await.expect("a fresh handle"), [6.0]);
            assert_eq!(unreturned.load(Ordering::SeqCst), stuck);
        }
        assert!(pool.predict(vec![-1.0], short).await.is_err());
        let nobody = pool.predict(vec![3.0], Duration::from_millis(600)).await;
        assert!(matches!(nobody, Err(BackendError::NoTurn)), "eight are replaced, the ninth is not: {nobody:?}");
        assert_eq!(unreturned.load(Ordering::SeqCst), 9);
        gate.open();
        assert_eq!(pool.predict(vec![4.0], LONG).await.expect("one is taken back"), [8.0]);
        assert_eq!(*gate.waiting.lock().expect("lock"), 9);
        let crew = Arc::clone(&pool.crew);
        drop(pool);
        while Arc::strong_count(&crew) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn whose_turn_never_came_is_told_so_and_the_machine_may_stand_still_meanwhile() {
        let (pool, _, gate) = pool(1, 4);
        let mut first = Box::pin(pool.predict(vec![-1.0], LONG));
        assert!(futures_pending(&mut first).await);
        let late = pool.predict(vec![2.0], Duration::from_millis(40)).await;
        assert!(matches!(late, Err(BackendError::NoTurn)), "no thread was at it: {late:?}");
        let mut second = Box::pin(pool.predict(vec![2.0], LONG));
        assert!(futures_pending(&mut second).await);
        tokio::time::sleep(Duration::from_millis(120)).await;
        gate.open();
        assert_eq!(first.await.expect("answer"), [-2.0]);
        assert_eq!(second.await.expect("a long wait is no reason to turn it away"), [4.0]);
        assert_eq!(pool.runs(), 2);
    }

    fn pool(threads: usize, queue: usize) -> (Pool, Arc<AtomicUsize>, Arc<Gate>) {
        let runs = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Gate::default());
        let handle = |_| -> Box<dyn Backend> {
            Box::new(Doubling { outputs: vec!["value".into()], runs: Arc::clone(&runs), gate: Arc::clone(&gate) })
        };
        let handles = (0..threads).map(handle).collect();
        (Pool::start("test", handles, queue).expect("threads"), runs, gate)
    }

    #[tokio::test]
    async fn rows_are_answered_in_order() {
        let (pool, ..) = pool(2, 4);
        assert_eq!(pool.predict(vec![1.0, 2.0, 3.0], LONG).await.expect("answer"), [2.0, 4.0, 6.0]);
        assert_eq!(pool.predict_blocking(vec![5.0]).expect("answer"), [10.0]);
        assert_eq!((pool.inputs(), pool.outputs()), (1, ["value".to_owned()].as_slice()));
    }

    #[tokio::test]
    async fn a_full_queue_turns_away_at_once_and_a_stuck_run_keeps_nobody_waiting() {
        let (pool, runs, gate) = pool(1, 2);
        // Long enough for a busy machine to begin the run before its caller leaves.
        let short = Duration::from_millis(500);
        let stuck = pool.predict(vec![-1.0], short);
        let stuck = async {
            let answer = stuck.await;
            assert!(matches!(answer, Err(BackendError::Deadline)), "{answer:?}");
        };
        stuck.await;
        gate.wait_for_arrival();
        // The thread is at the gate; two more fit in the queue, the third does not.
        let mut first = Box::pin(pool.predict(vec![1.0], LONG));
        let mut second = Box::pin(pool.predict(vec![2.0], LONG));
        assert!(futures_pending(&mut first).await && futures_pending(&mut second).await);
        assert!(matches!(pool.predict(vec![3.0], LONG).await, Err(BackendError::Overloaded)));
        // A caller that gives up makes room.
        drop(first);
        let mut third = Box::pin(pool.predict(vec![3.0], LONG));
        assert!(futures_pending(&mut third).await);
        gate.open();
        assert_eq!(second.await.expect("answer"), [4.0]);
        assert_eq!(third.await.expect("answer"), [6.0]);
        assert_eq!(runs.load(Ordering::SeqCst), 3, "the abandoned job was not run");
    }

    /// Polls once: the request is in the queue, its answer not there yet.
    async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_thread_goes_on() {
        let (pool, ..) = pool(1, 4);
        let answer = pool.predict(vec![13.0], LONG).await;
        assert!(matches!(&answer, Err(BackendError::Run { reason }) if reason.contains("panicked")), "{answer:?}");
        assert_eq!(pool.panics(), 1);
        assert_eq!(pool.predict(vec![4.0], LONG).await.expect("answer"), [8.0]);
    }

    #[tokio::test]
    async fn an_explanation_is_made_on_a_thread_and_waits_no_longer_than_its_budget() {
        let (pool, _, gate) = pool(1, 4);
        let ask = |row, limit| {
            let question = Question { row, reference: &[1.0], players: &[0], output: 0, budget: Budget::of(limit) };
            let pool = &pool;
            async move { pool.explain(&question).await }
        };
        let shares = ask(&[4.0], LONG).await.expect("explained");
        assert_eq!((shares.from, shares.to, shares.players), (2.0, 8.0, vec![6.0]));
        let panicked = ask(&[13.0], LONG).await;
        assert!(matches!(&panicked, Err(Unexplained::Backend(BackendError::Run { .. }))), "{panicked:?}");
        let stuck = ask(&[-1.0], Duration::from_millis(20)).await;
        assert!(matches!(stuck, Err(Unexplained::OutOfTime)), "{stuck:?}");
        gate.open();
        assert_eq!(ask(&[0.0], LONG).await.expect("explained").players, [-2.0]);
    }

    #[tokio::test]
    async fn an_estimate_cut_short_still_arrives() {
        /// Sums its columns, a millisecond a row.
        struct Slow(Vec<String>);
        impl Backend for Slow {
            fn inputs(&self) -> usize {
                12
            }
            fn outputs(&self) -> &[String] {
                &self.0
            }
            fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
                for (row, out) in rows.iter().zip(out) {
                    std::thread::sleep(Duration::from_millis(1));
                    *out = row.iter().sum();
                }
                Ok(())
            }
        }
        let pool = Pool::start("test", vec![Box::new(Slow(vec!["value".into()]))], 1).expect("thread");
        let row = [1.0; 12];
        let reference = [0.0; 12];
        let players: Vec<u32> = (0..12).collect();
        // All orders take 704 rows, one pair 22.
        let budget = Budget::of(Duration::from_millis(500));
        let shares =
            pool.explain(&Question { row: &row, reference: &reference, players: &players, output: 0, budget }).await;
        assert_eq!(shares.expect("explained").players, [1.0; 12]);
    }

    #[tokio::test]
    async fn rows_that_are_not_whole_are_refused() {
        struct Two(Vec<String>);
        impl Backend for Two {
            fn inputs(&self) -> usize {
                2
            }
            fn outputs(&self) -> &[String] {
                &self.0
            }
            fn predict(&self, _: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
                out.fill(1.0);
                Ok(())
            }
        }
        let pool = Pool::start("test", vec![Box::new(Two(vec!["value".into()]))], 1).expect("thread");
        assert!(matches!(pool.predict(vec![1.0; 3], LONG).await, Err(BackendError::Run { .. })));
        assert_eq!(pool.predict_blocking(vec![1.0; 4]).expect("answer").len(), 2);
        assert!(Pool::start("none", Vec::new(), 1).is_err());
    }

    #[test]
    fn blocking_callers_wait_for_room_instead_of_failing() {
        let (pool, ..) = pool(2, 1);
        std::thread::scope(|scope| {
            for number in 20..36 {
                let pool = &pool;
                scope.spawn(move || {
                    for _ in 0..50 {
                        assert_eq!(
                            pool.predict_blocking(vec![f64::from(number)]).expect("answer"),
                            [f64::from(number) * 2.0]
                        );
                    }
                });
            }
        });
    }

    #[tokio::test]
    async fn dropping_the_pool_does_not_wait_for_a_stuck_run() {
        let (pool, _, gate) = pool(1, 4);
        // The caller leaves once the run has begun: one who left before would have been skipped.
        let arrival = tokio::task::spawn_blocking({
            let gate = Arc::clone(&gate);
            move || gate.wait_for_arrival()
        });
        tokio::select! {
            answer = pool.predict(vec![-1.0], LONG) => panic!("answered {answer:?} with the gate shut"),
            arrived = arrival => arrived.expect("waits"),
        }
        let threads = Arc::downgrade(&pool.crew);
        drop(pool);
        assert!(threads.upgrade().is_some(), "the thread is still in its run");
        gate.open();
        while threads.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }
}
