//! When a job runs: by its timer, by a nudge, after its predecessor; never twice at once, and again after a failure.
//!
//! A run has no input: it finds out itself what there is to do, so a regular run, a retry and a restart are one path.
//! A job that fails says so and is tried again; it never ends the process.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::JobError;
use super::progress::JobProgress;
use scoreline_domain::JobName;
use scoreline_domain::job::RunResult;
use scoreline_domain::time::{Clock, Timestamp};
use scoreline_domain::trace::{TraceId, Tracer, WorkEnd};

/// How soon a job that another replica is at is looked at again.
const ELSEWHERE: Duration = Duration::from_mins(1);
/// What a run under way may still take after a stop is requested. What it has recorded by then stays.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Work that is done again and again.
pub trait Job: Send + Sync + 'static {
    fn name(&self) -> JobName;

    /// Does what there is to do. Dropped at any await, it leaves what the next run takes up.
    fn activate<'a>(&'a self, cause: Cause, progress: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>>;
}

/// Why a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its time has come: it may find that nothing is due.
    Timer,
    /// Somebody asked for it, or its predecessor has ended.
    Nudge,
}

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    Done,
    /// Nothing was due, and nothing will be before `until` when that is known.
    Idle {
        until: Option<Timestamp>,
    },
    /// Another replica is at it.
    Elsewhere,
}

/// The pauses between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timetable {
    /// From the start of a run to the start of the next.
    pub every: Duration,
    /// At most so much is added to `every`, so that replicas and neighbours do not come all at once.
    pub jitter: Duration,
    /// After the first failure in a row; doubled after each further one.
    pub retry_first: Duration,
    pub retry_most: Duration,
}

impl Timetable {
    /// Retries after half a minute, at most a quarter of an hour or `every` apart.
    pub fn every(every: Duration, jitter: Duration) -> Self {
        let retry_most = every.min(Duration::from_mins(15));
        Self { every, jitter, retry_first: retry_most.min(Duration::from_secs(30)), retry_most }
    }

    /// The pause from start to start; `draw` is from 0 to 1.
    fn regular(&self, draw: f64) -> Duration {
        self.every + self.jitter.mul_f64(draw)
    }

    /// The pause after so many failures in a row: between half of the doubled pause and all of it.
    fn retry(&self, failures: u32, draw: f64) -> Duration {
        let doubled = self.retry_first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.retry_most).mul_f64(0.5 + draw / 2.0)
    }
}

/// Asks a job to run as soon as it can. Cheap to clone; a call while it runs makes it run once more.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    pub fn nudge(&self) {
        self.0.notify_one();
    }
}

/// Runs one job for as long as the process lives.
pub struct Driver {
    pub job: Arc<dyn Job>,
    pub timetable: Timetable,
    pub wake: Wake,
    /// The jobs that have something to do when this one has done its work.
    pub successors: Vec<Wake>,
    pub clock: Arc<dyn Clock>,
    pub progress: JobProgress,
    /// Decides which runs are followed.
    pub tracer: Tracer,
}

impl Driver {
    /// Returns once `stop` is cancelled. The first run begins at once.
    pub async fn run(self, stop: CancellationToken) {
        let mut cause = Cause::Timer;
        let mut failures = 0;
        let mut told: Option<String> = None;
        self.progress.follow(&self.timetable);
        loop {
            let regular = self.timetable.regular(fastrand::f64());
            let mut timer = pin!(sleep(regular));
            let started = self.clock.now();
            let Some((ended, trace)) = self.activate(cause, &stop).await else { return };
            failures = if ended.is_err() { failures + 1 } else { 0 };
            let pause = self.pause(&ended, failures);
            self.tell(ended.as_ref().err(), failures, pause, trace, &mut told);
            self.progress.plan(match pause {
                Some(pause) => later(self.clock.now(), pause),
                None => later(started, regular),
            });
            let waited = async {
                match pause {
                    Some(pause) => sleep(pause).await,
                    None => timer.as_mut().await,
                }
            };
            cause = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.wake.0.notified() => Cause::Nudge,
                () = waited => Cause::Timer,
            };
        }
    }

    /// One run, and its trace if it was followed; `None` when the process is asked to stop.
    async fn activate(
        &self,
        cause: Cause,
        stop: &CancellationToken,
    ) -> Option<(Result<JobEnd, String>, Option<TraceId>)> {
        self.progress.begin(self.clock.now());
        let run = AssertUnwindSafe(self.job.activate(cause, &self.progress)).catch_unwind();
        let run = self.tracer.run(|| format!("job {}", self.job.name().as_str()).into(), run, traced);
        let stopped = async {
            stop.cancelled().await;
            sleep(STOP_GRACE).await;
        };
        let (ran, trace) = tokio::select! {
            biased;
            ran = run => ran,
            () = stopped => {
                self.progress.end(self.clock.now(), RunResult::Stopped);
                return None;
            }
        };
        let ended = match ran {
            Ok(Ok(ended)) => Ok(ended),
            Ok(Err(err)) => Err(err.reason()),
            Err(_) => Err("it panicked".to_owned()),
        };
        self.progress.end(
            self.clock.now(),
            match &ended {
                Ok(JobEnd::Done) => RunResult::Done,
                Ok(JobEnd::Idle { .. }) => RunResult::Idle,
                Ok(JobEnd::Elsewhere) => RunResult::Elsewhere,
                Err(reason) => RunResult::Failed(reason.clone()),
            },
        );
        if ended == Ok(JobEnd::Done) {
            self.successors.iter().for_each(Wake::nudge);
        }
        Some((ended, trace))
    }

    /// The pause after a run that does not wait for the regular time.
    fn pause(&self, ended: &Result<JobEnd, String>, failures: u32) -> Option<Duration> {
        match ended {
            Ok(JobEnd::Done | JobEnd::Idle { until: None }) => None,
            Ok(JobEnd::Idle { until: Some(until) }) => {
                let wait = until.duration_since(self.clock.now());
                let wait = Duration::try_from(wait).unwrap_or_default();
                Some(wait.min(self.timetable.every) + self.timetable.jitter.mul_f64(fastrand::f64()))
            }
            Ok(JobEnd::Elsewhere) => Some(ELSEWHERE.min(self.timetable.every)),
            Err(_) => Some(self.timetable.retry(failures, fastrand::f64())),
        }
    }

    /// Says why runs fail, once for each reason, and that they no longer do.
    fn tell(
        &self,
        reason: Option<&String>,
        failures: u32,
        pause: Option<Duration>,
        trace: Option<TraceId>,
        told: &mut Option<String>,
    ) {
        let job = self.job.name().as_str();
        let trace_id = trace.map(tracing::field::display);
        let retry_in_seconds = pause.map_or(0, |pause| pause.as_secs());
        match reason {
            Some(reason) if told.as_ref() == Some(reason) => {
                tracing::debug!(job, reason, failures, retry_in_seconds, trace_id, "job failed again");
            }
            Some(reason) => tracing::warn!(job, reason, failures, retry_in_seconds, trace_id, "job failed"),
            None if told.is_some() => tracing::info!(job, "job does its work again"),
            None => {}
        }
        *told = reason.cloned();
    }
}

/// What a trace says of a run.
fn traced(ran: &std::thread::Result<Result<JobEnd, JobError>>) -> WorkEnd {
    match ran {
        Ok(Ok(JobEnd::Idle { .. } | JobEnd::Elsewhere)) => WorkEnd::Nothing,
        Ok(Ok(JobEnd::Done)) => WorkEnd::Done,
        Ok(Err(_)) | Err(_) => WorkEnd::Failed,
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::Instant;

    use super::*;
    use scoreline_domain::time::ManualClock;

    /// Takes a second, counts who is inside, and ends as it is told.
    struct Scripted {
        script: Mutex<Vec<Result<JobEnd, JobError>>>,
        started: Mutex<Vec<(f64, Cause)>>,
        inside: AtomicUsize,
        origin: Instant,
    }

    impl Job for Scripted {
        fn name(&self) -> JobName {
            JobName::Extract
        }

        fn activate<'a>(&'a self, cause: Cause, _: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
            Box::pin(async move {
                assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "two runs at once");
                self.started.lock().expect("not poisoned").push((self.origin.elapsed().as_secs_f64(), cause));
                sleep(Duration::from_secs(1)).await;
                self.inside.fetch_sub(1, Ordering::SeqCst);
                let next = self.script.lock().expect("not poisoned").pop();
                next.unwrap_or(Ok(JobEnd::Done))
            })
        }
    }

    struct JobScene {
        job: Arc<Scripted>,
        wake: Wake,
        after: Wake,
        progress: JobProgress,
        stop: CancellationToken,
    }

    const HOUR: Duration = Duration::from_hours(1);

    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    fn start(mut script: Vec<Result<JobEnd, JobError>>) -> JobScene {
        script.reverse();
        let job = Arc::new(Scripted {
            script: Mutex::new(script),
            started: Mutex::default(),
            inside: AtomicUsize::new(0),
            origin: Instant::now(),
        });
        let wake = Wake::default();
        let after = Wake::default();
        let stop = CancellationToken::new();
        let progress = JobProgress::new(JobName::Extract);
        let driver = Driver {
            job: job.clone(),
            timetable: Timetable::every(HOUR, Duration::ZERO),
            wake: wake.clone(),
            successors: vec![after.clone()],
            clock: Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)),
            progress: progress.clone(),
            tracer: Tracer::default(),
        };
        drop(tokio::spawn(driver.run(stop.clone())));
        JobScene { job, wake, after, progress, stop }
    }

    impl JobScene {
        fn started(&self) -> Vec<(f64, Cause)> {
            self.job.started.lock().expect("not poisoned").clone()
        }
    }

    fn broken() -> Result<JobEnd, JobError> {
        Err(JobError::NoModel { model: "clv".to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn runs_start_at_regular_times_whatever_a_run_takes() {
        let it = start(Vec::new());
        sleep(HOUR * 3 + Duration::from_secs(30)).await;
        let times: Vec<_> = it.started().iter().map(|(at, _)| at.round() as u64).collect();
        assert_eq!(times, [0, 3600, 7200, 10_800]);
    }

    #[tokio::test(start_paused = true)]
    async fn nudges_during_a_run_make_it_run_once_more_and_never_at_once() {
        let it = start(Vec::new());
        sleep(Duration::from_millis(500)).await;
        for _ in 0..5 {
            it.wake.nudge();
        }
        sleep(Duration::from_mins(1)).await;
        let causes: Vec<_> = it.started().iter().map(|(_, cause)| *cause).collect();
        assert_eq!(causes, [Cause::Timer, Cause::Nudge]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_did_its_work_wakes_its_successors_and_a_failed_one_does_not() {
        let it = start(vec![broken()]);
        let woken = async |within| tokio::time::timeout(within, it.after.0.notified()).await.is_ok();
        assert!(!woken(Duration::from_secs(5)).await);
        assert!(woken(Duration::from_mins(1)).await, "the retry did it");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_with_growing_pauses_and_shown() {
        let it = start(vec![broken(), broken(), broken()]);
        sleep(Duration::from_millis(1500)).await;
        let status = it.progress.status();
        assert_eq!((status.failures, status.last_success), (1, None));
        let last = status.last.expect("a run is over");
        assert_eq!(last.result, RunResult::Failed("no model `clv` is loaded".to_owned()));
        sleep(Duration::from_mins(10)).await;
        let times: Vec<_> = it.started().iter().map(|(at, _)| *at).collect();
        let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0] - 1.0).collect();
        assert_eq!(pauses.len(), 3, "{pauses:?}");
        for (pause, whole) in pauses.iter().zip([30.0, 60.0, 120.0]) {
            assert!((whole / 2.0 - 0.1..=whole + 0.1).contains(pause), "{pauses:?}");
        }
        assert_eq!(it.progress.status().failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_of_another_replica_is_looked_at_again_soon_and_a_known_time_is_waited_for() {
        let until = Timestamp::UNIX_EPOCH.checked_add(Duration::from_mins(20)).expect("in range");
        let it = start(vec![Ok(JobEnd::Elsewhere), Ok(JobEnd::Idle { until: Some(until) })]);
        sleep(Duration::from_mins(30)).await;
        let times: Vec<_> = it.started().iter().map(|(at, _)| at.round() as u64).collect();
        assert_eq!(times, [0, 61, 61 + 1 + 1200]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_failure_like_any_other() {
        struct Panicking;
        impl Job for Panicking {
            fn name(&self) -> JobName {
                JobName::Rescore
            }

            fn activate<'a>(&'a self, _: Cause, _: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
                Box::pin(async { panic!("a planned panic") })
            }
        }
        let progress = JobProgress::new(JobName::Rescore);
        let driver = Driver {
            job: Arc::new(Panicking),
            timetable: Timetable::every(HOUR, Duration::ZERO),
            wake: Wake::default(),
            successors: Vec::new(),
            clock: Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)),
            progress: progress.clone(),
            tracer: Tracer::default(),
        };
        let stop = CancellationToken::new();
        assert!(tokio::time::timeout(Duration::from_secs(1), driver.run(stop)).await.is_err(), "goes on");
        assert_eq!(progress.status().last.expect("over").result, RunResult::Failed("it panicked".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_lets_a_short_run_finish() {
        let it = start(Vec::new());
        sleep(Duration::from_millis(500)).await;
        it.stop.cancel();
        sleep(Duration::from_secs(10)).await;
        assert_eq!(it.progress.status().last.expect("over").result, RunResult::Done);
        assert_eq!(it.started().len(), 1);
    }

    #[test]
    fn pauses_stay_within_their_bounds() {
        let table = Timetable::every(Duration::from_hours(4), Duration::from_mins(10));
        assert_eq!(table.regular(0.0), Duration::from_hours(4));
        assert_eq!(table.regular(1.0), Duration::from_mins(250));
        assert_eq!(table.retry(1, 1.0), Duration::from_secs(30));
        assert_eq!(table.retry(4000, 1.0), Duration::from_mins(15));
    }
}
