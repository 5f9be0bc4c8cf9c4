//! Backends that need threads of their own: one thread a handle, one bounded queue.
//!
//! A full queue is an answer, not a wait; a caller's deadline is kept even while a run is stuck; work whose caller is
//! gone is not done; a panic costs one request, not the thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;

use super::backend::{Backend, BackendError, FeatureMatrix};
use super::explain::{Budget, Question, Shares, Unexplained};

type Answer = Result<Vec<f64>, BackendError>;

/// Threads that own one handle each. Dropping it stops them: each ends after the run it is in.
pub struct Pool {
    inputs: usize,
    outputs: Vec<String>,
    shared: Arc<Shared>,
}

impl Pool {
    /// Starts a thread for each handle. At most `queue` requests wait; more are turned away.
    ///
    /// # Errors
    /// When there is no handle or no thread can be started.
    pub fn start(name: &str, handles: Vec<Box<dyn Backend>>, queue: usize) -> Result<Self, BackendError> {
        let first = handles.first().ok_or_else(|| failed("a pool needs at least one handle"))?;
        let pool = Self {
            inputs: first.inputs(),
            outputs: first.outputs().to_vec(),
            shared: Arc::new(Shared {
                queue: Mutex::new(Queue { jobs: VecDeque::new(), capacity: queue.max(1), stopped: false }),
                work: Condvar::new(),
                room: Condvar::new(),
                panics: AtomicU64::new(0),
            }),
        };
        for (number, handle) in handles.into_iter().enumerate() {
            let shared = Arc::clone(&pool.shared);
            // On an error the pool is dropped, which stops the threads already started.
            std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || work(&shared, &*handle))
                .map_err(|err| failed(&format!("no thread for the model: {err}")))?;
        }
        Ok(pool)
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Runs that panicked since the start.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Runs whole rows (row-major) and answers `rows × outputs` numbers.
    ///
    /// # Errors
    /// `Overloaded` at once when the queue is full, `Deadline` when the answer takes longer than `deadline`, `Run` when
    /// the model fails.
    pub async fn predict(&self, rows: Vec<f64>, deadline: Duration) -> Answer {
        self.check(&rows)?;
        let (reply, answer) = oneshot::channel();
        self.shared.push(Job { rows, reply: Reply::Async(reply) })?;
        // The receiver is dropped when time is up: the queue sees that the caller is gone.
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(BackendError::Deadline),
        }
    }

    /// As `predict`, for files and golden rows: waits for room in the queue and for the answer, however long.
    ///
    /// # Errors
    /// When the model fails.
    pub fn predict_blocking(&self, rows: Vec<f64>) -> Answer {
        self.check(&rows)?;
        let (reply, answer) = mpsc::sync_channel(1);
        self.shared.push_when_room(Job { rows, reply: Reply::Blocking(reply) })?;
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
        self.shared.push(Job { rows, reply: Reply::Explanation { output, budget, reply } })?;
        match tokio::time::timeout(question.budget.left(), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(stopped().into()),
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
        let mut queue = self.shared.lock();
        queue.stopped = true;
        // Dropping a job tells its caller.
        queue.jobs.clear();
        drop(queue);
        self.shared.work.notify_all();
        self.shared.room.notify_all();
    }
}

struct Shared {
    /// Held for a push or a pop only, never across a run.
    queue: Mutex<Queue>,
    work: Condvar,
    room: Condvar,
    panics: AtomicU64,
}

struct Queue {
    jobs: VecDeque<Job>,
    capacity: usize,
    stopped: bool,
}

struct Job {
    rows: Vec<f64>,
    reply: Reply,
}

enum Reply {
    Async(oneshot::Sender<Answer>),
    Blocking(mpsc::SyncSender<Answer>),
    /// The rows are a reference and a row, and what is wanted is the difference of one output between them.
    Explanation {
        output: usize,
        budget: Budget,
        reply: oneshot::Sender<Result<Shares, Unexplained>>,
    },
}

impl Reply {
    fn is_unwanted(&self) -> bool {
        match self {
            Self::Async(sender) => sender.is_closed(),
            Self::Blocking(_) => false,
            Self::Explanation { reply, .. } => reply.is_closed(),
        }
    }

    /// Runs what is wanted and sends it. A caller that is gone by now does not want the answer.
    fn answer(self, shared: &Shared, backend: &dyn Backend, rows: &[f64]) {
        let panicked = || {
            shared.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a model run panicked");
            failed("the model panicked")
        };
        let run = || catch_unwind(AssertUnwindSafe(|| run(backend, rows))).unwrap_or_else(|_| Err(panicked()));
        match self {
            Self::Async(sender) => drop(sender.send(run())),
            Self::Blocking(sender) => drop(sender.send(run())),
            Self::Explanation { output, budget, reply } => {
                let (reference, row) = rows.split_at(backend.inputs());
                let question = Question { row, reference, output, budget };
                let shares = catch_unwind(AssertUnwindSafe(|| backend.explain(&question)));
                drop(reply.send(shares.unwrap_or_else(|_| Err(panicked().into()))));
            }
        }
    }
}

impl Queue {
    /// Whether a job fits, after those whose caller is gone have made room.
    fn has_room(&mut self) -> bool {
        if self.jobs.len() >= self.capacity {
            self.jobs.retain(|job| !job.reply.is_unwanted());
        }
        self.jobs.len() < self.capacity
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), BackendError> {
        let mut queue = self.lock();
        if !queue.has_room() {
            return Err(BackendError::Overloaded);
        }
        self.add(queue, job)
    }

    fn push_when_room(&self, job: Job) -> Result<(), BackendError> {
        let mut queue = self.lock();
        while !queue.stopped && !queue.has_room() {
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        self.add(queue, job)
    }

    fn add(&self, mut queue: MutexGuard<'_, Queue>, job: Job) -> Result<(), BackendError> {
        if queue.stopped {
            return Err(stopped());
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.work.notify_one();
        Ok(())
    }

    /// The next wanted job; `None` when the pool is dropped.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                return None;
            }
            match queue.jobs.pop_front() {
                Some(job) => {
                    self.room.notify_one();
                    if !job.reply.is_unwanted() {
                        return Some(job);
                    }
                }
                None => queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

fn work(shared: &Shared, backend: &dyn Backend) {
    while let Some(Job { rows, reply }) = shared.next() {
        reply.answer(shared, backend, &rows);
    }
}

fn run(backend: &dyn Backend, rows: &[f64]) -> Answer {
    let rows = FeatureMatrix::new(rows, backend.inputs());
    let mut out = vec![0.0; rows.rows() * backend.outputs().len()];
    backend.predict(rows, &mut out)?;
    Ok(out)
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

    use super::*;

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

    fn pool(threads: usize, queue: usize) -> (Pool, Arc<AtomicUsize>, Arc<Gate>) {
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Gate::default()));
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
            let question = Question { row, reference: &[1.0], output: 0, budget: Budget::of(limit) };
            let pool = &pool;
            async move { pool.explain(&question).await }
        };
        let shares = ask(&[4.0], LONG).await.expect("explained");
        assert_eq!((shares.from, shares.to, shares.columns), (2.0, 8.0, vec![6.0]));
        let panicked = ask(&[13.0], LONG).await;
        assert!(matches!(&panicked, Err(Unexplained::Backend(BackendError::Run { .. }))), "{panicked:?}");
        let stuck = ask(&[-1.0], Duration::from_millis(20)).await;
        assert!(matches!(stuck, Err(Unexplained::OutOfTime)), "{stuck:?}");
        gate.open();
        assert_eq!(ask(&[0.0], LONG).await.expect("explained").columns, [-2.0]);
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
        let (row, reference) = ([1.0; 12], [0.0; 12]);
        // All orders take 704 rows, one pair 22.
        let budget = Budget::of(Duration::from_millis(500));
        let shares = pool.explain(&Question { row: &row, reference: &reference, output: 0, budget }).await;
        assert_eq!(shares.expect("explained").columns, [1.0; 12]);
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
        let threads = Arc::downgrade(&pool.shared);
        drop(pool);
        assert!(threads.upgrade().is_some(), "the thread is still in its run");
        gate.open();
        while threads.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }
}
