//! What waits for a thread: jobs in order, each with a way to tell its caller. A job whose turn would come too late is
//! turned away at once, by what is known: the jobs ahead of it and how long jobs take.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{PoolResult, stopped};
use crate::inference::backend::BackendError;
use crate::inference::explain::{Budget, Shares, Unexplained};

/// Part of a call's time that its turn may be away. The rest is for the run itself, and for what the machine does
/// meanwhile: a call that was let in is to be answered even if it stands still for some tens of milliseconds.
const WAITING_SHARE: f64 = 0.4;
/// Jobs that the mean is over.
const MEMORY: u32 = 256;
/// A job counts as no longer than so many times the mean: one that the machine stood still in says little about others.
const OUTLIER: f64 = 32.0;

/// A bounded queue for several threads.
pub(super) struct JobQueue {
    /// Held for a push or a pop only, never across a run.
    queue: Mutex<Queue>,
    work: Condvar,
    room: Condvar,
}

struct Queue {
    jobs: VecDeque<PoolJob>,
    capacity: usize,
    threads: usize,
    stopped: bool,
    /// Number of the job that was added last.
    last: u64,
    pace: QueuePace,
}

/// How long a job keeps a thread: the mean of the last ones, in seconds.
#[derive(Default)]
struct QueuePace {
    mean: f64,
    jobs: u32,
}

pub(super) struct PoolJob {
    /// Counts from 1.
    pub number: u64,
    pub rows: Vec<f64>,
    pub reply: PoolReply,
}

pub(super) enum PoolReply {
    Async(oneshot::Sender<PoolResult>),
    Blocking(mpsc::SyncSender<PoolResult>),
    /// The rows are a reference and a row, and what is wanted is the difference of one output between them.
    Explanation {
        players: Vec<u32>,
        output: usize,
        budget: Budget,
        reply: oneshot::Sender<Result<Shares, Unexplained>>,
    },
}

impl PoolReply {
    pub(super) fn is_unwanted(&self) -> bool {
        match self {
            Self::Async(sender) => sender.is_closed(),
            Self::Blocking(_) => false,
            Self::Explanation { reply, .. } => reply.is_closed(),
        }
    }
}

impl QueuePace {
    fn note(&mut self, took: Duration) {
        let mut took = took.as_secs_f64();
        if self.jobs > 0 {
            took = took.min(self.mean.max(1e-6) * OUTLIER);
        }
        self.jobs = (self.jobs + 1).min(MEMORY);
        self.mean += (took - self.mean) / f64::from(self.jobs);
    }
}

impl Queue {
    /// Whether a job fits, after those whose caller is gone have made room.
    fn has_room(&mut self, time: Option<Duration>) -> bool {
        if !self.fits(time) {
            self.jobs.retain(|job| !job.reply.is_unwanted());
        }
        self.fits(time)
    }

    /// Whether a job that is added now has its turn early enough; always when no other waits.
    fn fits(&self, time: Option<Duration>) -> bool {
        let wait = self.jobs.len() as f64 * self.pace.mean / self.threads as f64;
        self.jobs.len() < self.capacity && time.is_none_or(|time| wait <= time.as_secs_f64() * WAITING_SHARE)
    }
}

impl JobQueue {
    pub(super) fn new(capacity: usize, threads: usize) -> Self {
        let (capacity, threads) = (capacity.max(1), threads.max(1));
        let jobs = VecDeque::new();
        let pace = QueuePace::default();
        Self {
            queue: Mutex::new(Queue { jobs, capacity, threads, stopped: false, last: 0, pace }),
            work: Condvar::new(),
            room: Condvar::new(),
        }
    }

    /// Adds a job and gives its number. With a `time` for its answer it is turned away when its turn would come too late.
    pub(super) fn push(&self, rows: Vec<f64>, reply: PoolReply, time: Option<Duration>) -> Result<u64, BackendError> {
        let mut queue = self.lock();
        if !queue.has_room(time) {
            return Err(BackendError::Overloaded);
        }
        self.add(queue, rows, reply)
    }

    pub(super) fn push_when_room(&self, rows: Vec<f64>, reply: PoolReply) -> Result<u64, BackendError> {
        let mut queue = self.lock();
        while !queue.stopped && !queue.has_room(None) {
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        self.add(queue, rows, reply)
    }

    /// The next wanted job; `None` when the queue is stopped. `took` is what the thread's last one kept it for.
    pub(super) fn next(&self, took: Option<Duration>) -> Option<PoolJob> {
        let mut queue = self.lock();
        if let Some(took) = took {
            queue.pace.note(took);
        }
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

    pub(super) fn stop(&self) {
        let mut queue = self.lock();
        queue.stopped = true;
        // Dropping a job tells its caller.
        queue.jobs.clear();
        drop(queue);
        self.work.notify_all();
        self.room.notify_all();
    }

    fn add(&self, mut queue: MutexGuard<'_, Queue>, rows: Vec<f64>, reply: PoolReply) -> Result<u64, BackendError> {
        if queue.stopped {
            return Err(stopped());
        }
        queue.last += 1;
        let number = queue.last;
        queue.jobs.push_back(PoolJob { number, rows, reply });
        drop(queue);
        self.work.notify_one();
        Ok(number)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Duration = Duration::from_millis(6);
    const TIME: Duration = Duration::from_millis(500);

    /// A queue of two threads that have noted so many runs.
    fn noted(runs: &[(usize, Duration)]) -> JobQueue {
        let jobs = JobQueue::new(4096, 2);
        for (times, took) in runs {
            (0..*times).for_each(|_| jobs.lock().pace.note(*took));
        }
        jobs
    }

    /// Jobs that are let in one after the other, none of them begun, and what keeps their callers waiting.
    fn let_in(jobs: &JobQueue, time: Option<Duration>) -> (usize, Vec<oneshot::Receiver<PoolResult>>) {
        let mut waiting = Vec::new();
        loop {
            let (reply, answer) = oneshot::channel();
            if jobs.push(Vec::new(), PoolReply::Async(reply), time).is_err() {
                return (waiting.len(), waiting);
            }
            waiting.push(answer);
        }
    }

    #[test]
    fn so_many_are_let_in_as_are_answered_in_time() {
        let (room, _waiting) = let_in(&noted(&[(1000, RUN)]), Some(TIME));
        assert_eq!(room, 67, "6 ms each, two at a time: the last one's turn comes within 200 ms");
        let (room, _waiting) = let_in(&noted(&[(1000, RUN)]), Some(TIME / 10));
        assert_eq!(room, 7, "a caller in a hurry");
        let fast = Duration::from_micros(30);
        for jobs in [noted(&[]), noted(&[(1000, fast)])] {
            assert_eq!(let_in(&jobs, Some(TIME)).0, 4096, "nobody has to wait for long: only memory bounds it");
        }
        assert_eq!(let_in(&noted(&[(1000, RUN)]), None).0, 4096, "whoever has no deadline");
    }

    #[test]
    fn whoever_is_alone_is_let_in_however_long_a_run_takes() {
        let (room, _waiting) = let_in(&noted(&[(1000, TIME)]), Some(TIME));
        assert_eq!(room, 1);
    }

    #[test]
    fn a_machine_that_stood_still_in_a_run_turns_nobody_away() {
        let fast = Duration::from_micros(30);
        for stood in [25, 90, 1000].map(Duration::from_millis) {
            let jobs = noted(&[(1000, fast), (2, stood)]);
            assert!(let_in(&jobs, Some(TIME)).0 >= 2000, "{stood:?}");
        }
        // Runs that do take longer are believed.
        assert!(let_in(&noted(&[(1000, fast), (1000, RUN)]), Some(TIME)).0 < 100);
    }

    #[test]
    fn callers_that_left_make_room() {
        let jobs = JobQueue::new(2, 1);
        let (room, waiting) = let_in(&jobs, None);
        assert_eq!(room, 2);
        drop(waiting);
        assert_eq!(let_in(&jobs, None).0, 2);
        let jobs = noted(&[(1000, RUN)]);
        drop(let_in(&jobs, Some(TIME)));
        assert_eq!(let_in(&jobs, Some(TIME)).0, 67, "nor does anybody wait for them");
    }
}
