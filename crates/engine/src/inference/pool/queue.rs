//! What waits for a thread: jobs in order, at most so many, each with a way to tell its caller.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Answer, stopped};
use crate::inference::backend::BackendError;
use crate::inference::explain::{Budget, Shares, Unexplained};
use scoreline_domain::time::Stopwatch;

/// A bounded queue for several threads.
pub struct Jobs {
    /// Held for a push or a pop only, never across a run.
    queue: Mutex<Queue>,
    work: Condvar,
    room: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    capacity: usize,
    stopped: bool,
    /// Number of the job that was added last.
    last: u64,
}

pub struct Job {
    /// Counts from 1.
    pub number: u64,
    pub rows: Vec<f64>,
    pub reply: Reply,
    since: Stopwatch,
}

pub enum Reply {
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
    pub fn is_unwanted(&self) -> bool {
        match self {
            Self::Async(sender) => sender.is_closed(),
            Self::Blocking(_) => false,
            Self::Explanation { reply, .. } => reply.is_closed(),
        }
    }
}

impl Job {
    /// Gives a live request's job back to its caller when it has waited longer than `limit`: by then others wait too,
    /// and an answer from the ladder now is better than one from the model later.
    pub fn unless_older(self, limit: Option<Duration>) -> Option<Self> {
        match self.reply {
            Reply::Async(sender) if limit.is_some_and(|limit| self.since.elapsed() > limit) => {
                drop(sender.send(Err(BackendError::Overloaded)));
                None
            }
            Reply::Async(_) | Reply::Blocking(_) | Reply::Explanation { .. } => Some(self),
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

impl Jobs {
    pub fn new(capacity: usize) -> Self {
        Self {
            queue: Mutex::new(Queue { jobs: VecDeque::new(), capacity: capacity.max(1), stopped: false, last: 0 }),
            work: Condvar::new(),
            room: Condvar::new(),
        }
    }

    /// Adds a job and gives its number.
    pub fn push(&self, rows: Vec<f64>, reply: Reply) -> Result<u64, BackendError> {
        let mut queue = self.lock();
        if !queue.has_room() {
            return Err(BackendError::Overloaded);
        }
        self.add(queue, rows, reply)
    }

    pub fn push_when_room(&self, rows: Vec<f64>, reply: Reply) -> Result<u64, BackendError> {
        let mut queue = self.lock();
        while !queue.stopped && !queue.has_room() {
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        self.add(queue, rows, reply)
    }

    /// The next wanted job; `None` when the queue is stopped.
    pub fn next(&self) -> Option<Job> {
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

    pub fn stop(&self) {
        let mut queue = self.lock();
        queue.stopped = true;
        // Dropping a job tells its caller.
        queue.jobs.clear();
        drop(queue);
        self.work.notify_all();
        self.room.notify_all();
    }

    fn add(&self, mut queue: MutexGuard<'_, Queue>, rows: Vec<f64>, reply: Reply) -> Result<u64, BackendError> {
        if queue.stopped {
            return Err(stopped());
        }
        queue.last += 1;
        let number = queue.last;
        queue.jobs.push_back(Job { number, rows, reply, since: Stopwatch::start() });
        drop(queue);
        self.work.notify_one();
        Ok(number)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
