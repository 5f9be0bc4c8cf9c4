//! The threads of a pool: each owns one handle. A run whose caller has left is told to stop; a handle that does not
//! come back after that is replaced by a fresh one, and its thread ends whenever its run does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::Duration;

use metrics::{Counter, counter};

use super::queue::{JobQueue, PoolJob, PoolReply};
use super::{PoolResult, PoolSettings, failed};
use crate::inference::backend::{Backend, BackendError, FeatureMatrix, Spares};
use crate::inference::explain::Question;
use scoreline_domain::time::Stopwatch;

/// How long a run may take to end after it was told to. ONNX Runtime looks between two nodes of its graph.
const GRACE: Duration = Duration::from_millis(200);
/// What it gets after that: a process that stood still for all of the grace has let no run end.
const SECOND_GRACE: Duration = Duration::from_millis(50);
/// Replaced threads that may still be in their runs at the same time: each keeps a session in memory and may keep a
/// processor busy.
const MOST_REPLACED: usize = 8;

/// What the threads share.
pub(super) struct Crew {
    name: String,
    pub jobs: JobQueue,
    spares: Option<Spares>,
    on_unreturned: Option<Box<dyn Fn() + Send + Sync>>,
    /// Locked when a thread starts or ends and when a caller leaves; a run that is answered in time never locks it.
    roll: Mutex<Roll>,
    overdue: mpsc::Sender<Overdue>,
    pub panics: AtomicU64,
    pub runs: AtomicU64,
    metrics: CrewMetrics,
}

#[derive(Default)]
struct Roll {
    posts: Vec<Arc<Post>>,
    /// Threads started, for their names.
    started: usize,
    /// Handles that did not come back and have not ended yet.
    away: usize,
    /// Those of them that nobody replaces.
    missing: usize,
}

/// One handle and the run it is in.
struct Post {
    handle: Box<dyn Backend>,
    run: Mutex<PoolRun>,
}

#[derive(Default)]
struct PoolRun {
    /// Number of the job, 0 between two.
    job: u64,
    told_to_stop: bool,
    given_up: bool,
}

/// A run that was told to stop.
struct Overdue {
    post: Arc<Post>,
    job: u64,
    since: Stopwatch,
}

/// Somebody who waits for a job. Dropped before the answer is there, the run has nobody left to work for and is told to
/// stop.
pub(super) struct PoolCaller<'a> {
    crew: &'a Crew,
    job: u64,
    answered: bool,
}

struct CrewMetrics {
    stopped: Counter,
    unreturned: Counter,
    replaced: Counter,
}

impl CrewMetrics {
    fn register(model: &str) -> Self {
        let model = model.to_owned();
        Self {
            stopped: counter!("scoreline_model_runs_stopped_total", "model" => model.clone()),
            unreturned: counter!("scoreline_model_handles_unreturned_total", "model" => model.clone()),
            replaced: counter!("scoreline_model_handles_replaced_total", "model" => model),
        }
    }
}

impl Crew {
    /// Starts a thread for each handle, and one that looks after them.
    pub(super) fn start(
        name: &str,
        handles: Vec<Box<dyn Backend>>,
        settings: PoolSettings,
    ) -> Result<Arc<Self>, BackendError> {
        let PoolSettings { queue, spares, on_unreturned } = settings;
        let (overdue, late) = mpsc::channel();
        let crew = Arc::new(Self {
            name: name.to_owned(),
            jobs: JobQueue::new(queue, handles.len()),
            spares,
            on_unreturned,
            roll: Mutex::default(),
            overdue,
            panics: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            metrics: CrewMetrics::register(name),
        });
        let watched = Arc::downgrade(&crew);
        spawn(format!("{name}-rescue"), move || look_after(&watched, &late))?;
        handles.into_iter().try_for_each(|handle| crew.enrol(handle)).inspect_err(|_| crew.jobs.stop())?;
        Ok(crew)
    }

    /// Somebody begins to wait for the job of this number.
    pub(super) fn caller(&self, job: u64) -> PoolCaller<'_> {
        PoolCaller { crew: self, job, answered: false }
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enrol(self: &Arc<Self>, handle: Box<dyn Backend>) -> Result<(), BackendError> {
        let post = Arc::new(Post { handle, run: Mutex::default() });
        let mut roll = self.roll();
        let crew = Arc::clone(self);
        let own = Arc::clone(&post);
        spawn(format!("{}-{}", self.name, roll.started), move || crew.work(&own))?;
        roll.started += 1;
        roll.posts.push(post);
        Ok(())
    }

    fn work(&self, post: &Arc<Post>) {
        let mut took = None;
        while let Some(PoolJob { number, rows, reply }) = self.jobs.next(took.take()) {
            post.begin(number);
            // Golden rows come in large jobs, and nobody waits behind them.
            let live = !matches!(reply, PoolReply::Blocking(_));
            // Asked again now that a leaving caller can find the run: one of the two sees the other.
            if !reply.is_unwanted() {
                self.runs.fetch_add(1, Ordering::Relaxed);
                let watch = Stopwatch::start();
                self.answer(reply, &*post.handle, &rows);
                took = live.then(|| watch.elapsed());
            }
            let PoolRun { told_to_stop, given_up, .. } = post.end();
            // What was cut off might have taken any time.
            took = took.filter(|_| !told_to_stop);
            if given_up && !self.takes_back(post) {
                return;
            }
        }
    }

    /// Runs what is wanted and sends it. A caller that is gone by now does not want the answer.
    fn answer(&self, reply: PoolReply, backend: &dyn Backend, rows: &[f64]) {
        let panicked = || {
            self.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(model = self.name, "a model run panicked");
            failed("the model panicked")
        };
        let run = || catch_unwind(AssertUnwindSafe(|| run(backend, rows))).unwrap_or_else(|_| Err(panicked()));
        match reply {
            PoolReply::Async(sender) => drop(sender.send(run())),
            PoolReply::Blocking(sender) => drop(sender.send(run())),
            PoolReply::Explanation { players, output, budget, reply } => {
                let (reference, row) = rows.split_at(backend.inputs());
                let question = Question { row, reference, players: &players, output, budget };
                let shares = catch_unwind(AssertUnwindSafe(|| backend.explain(&question)));
                drop(reply.send(shares.unwrap_or_else(|_| Err(panicked().into()))));
            }
        }
    }

    /// The caller of a job has left: if a thread is in its run, the run is told to stop. Whether one was.
    fn left(&self, job: u64) -> bool {
        let Some(post) = self.roll().posts.iter().find(|post| post.stop(job)).cloned() else { return false };
        self.metrics.stopped.increment(1);
        // Nobody listens any more when the pool is being dropped.
        drop(self.overdue.send(Overdue { post, job, since: Stopwatch::start() }));
        true
    }

    fn replace(self: &Arc<Self>, post: &Arc<Post>, job: u64) {
        self.metrics.unreturned.increment(1);
        if let Some(tell) = &self.on_unreturned {
            tell();
        }
        let replaced = {
            let roll = self.roll();
            roll.away.saturating_sub(roll.missing)
        };
        // Made before the old one is given up: it may come back meanwhile.
        let fresh = match &self.spares {
            Some(_) if replaced >= MOST_REPLACED => {
                tracing::error!(model = self.name, replaced, "a stuck model handle is not replaced: too many are");
                None
            }
            Some(spares) => spares()
                .inspect_err(
                    |err| tracing::error!(model = self.name, reason = %err, "no handle in place of a stuck one"),
                )
                .ok(),
            None => None,
        };
        {
            let mut roll = self.roll();
            if !post.give_up(job) {
                return;
            }
            roll.posts.retain(|other| !Arc::ptr_eq(other, post));
            roll.away += 1;
            roll.missing += 1;
        }
        if let Some(handle) = fresh {
            self.fill_a_gap(handle);
        }
    }

    /// Puts a fresh handle to work, unless one that had been given up has come back to its post meanwhile.
    fn fill_a_gap(self: &Arc<Self>, handle: Box<dyn Backend>) {
        {
            let mut roll = self.roll();
            let Some(missing) = roll.missing.checked_sub(1) else { return };
            roll.missing = missing;
        }
        match self.enrol(handle) {
            Ok(()) => {
                self.metrics.replaced.increment(1);
                tracing::warn!(model = self.name, "a model run does not end: its handle is replaced");
            }
            Err(err) => {
                self.roll().missing += 1;
                tracing::error!(model = self.name, reason = %err, "a stuck model handle is not replaced");
            }
        }
    }

    /// A handle that had been given up is back: whether it goes on working, because nobody took its place.
    fn takes_back(&self, post: &Arc<Post>) -> bool {
        let mut roll = self.roll();
        roll.away -= 1;
        if roll.missing == 0 {
            return false;
        }
        roll.missing -= 1;
        roll.posts.push(Arc::clone(post));
        true
    }
}

impl PoolCaller<'_> {
    pub(super) fn served(mut self) {
        self.answered = true;
    }

    /// Leaves without an answer: whether a thread was at it.
    pub(super) fn leave(mut self) -> bool {
        self.answered = true;
        self.crew.left(self.job)
    }
}

impl Drop for PoolCaller<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.crew.left(self.job);
        }
    }
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, PoolRun> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, job: u64) {
        self.lock().job = job;
    }

    /// What has become of the run meanwhile.
    fn end(&self) -> PoolRun {
        let mut run = self.lock();
        if run.told_to_stop {
            self.handle.resume();
        }
        std::mem::take(&mut *run)
    }

    /// Tells the run to stop if it is this job's. Under the lock, so that it cannot hit the next one.
    fn stop(&self, job: u64) -> bool {
        let mut run = self.lock();
        let hit = run.job == job && !run.told_to_stop;
        if hit {
            run.told_to_stop = true;
            self.handle.stop();
        }
        hit
    }

    fn is_in(&self, job: u64) -> bool {
        self.lock().job == job
    }

    /// Gives the handle up if it is still in this job's run.
    fn give_up(&self, job: u64) -> bool {
        let mut run = self.lock();
        run.given_up = run.job == job;
        run.given_up
    }
}

/// Waits for runs that were told to stop, one after the other. Ends with the pool.
fn look_after(crew: &Weak<Crew>, overdue: &mpsc::Receiver<Overdue>) {
    for Overdue { post, job, since } in overdue {
        std::thread::sleep(GRACE.saturating_sub(since.elapsed()));
        std::thread::sleep(SECOND_GRACE);
        if !post.is_in(job) {
            continue;
        }
        let Some(crew) = crew.upgrade() else { return };
        crew.replace(&post, job);
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), BackendError> {
    let started = std::thread::Builder::new().name(name).spawn(work);
    started.map(drop).map_err(|err| failed(&format!("no thread for the model: {err}")))
}

fn run(backend: &dyn Backend, rows: &[f64]) -> PoolResult {
    let rows = FeatureMatrix::new(rows, backend.inputs());
    let mut out = vec![0.0; rows.rows() * backend.outputs().len()];
    backend.predict(rows, &mut out)?;
    Ok(out)
}
