//! A job's status as data: written by its run, read by health, metrics and people.

use tokio::sync::watch;

use super::schedule::Timetable;
use scoreline_domain::JobName;
use scoreline_domain::job::{JobStatus, LastRun, RunResult};
use scoreline_domain::time::Timestamp;

/// Where a job writes down how it gets on. Cheap to clone; all clones are one status.
#[derive(Clone, Debug)]
pub struct JobProgress {
    job: JobName,
    status: watch::Sender<JobStatus>,
}

impl JobProgress {
    pub fn new(job: JobName) -> Self {
        metrics::gauge!("scoreline_job_running", "name" => job.as_str()).set(0.0);
        Self { job, status: watch::Sender::new(JobStatus::default()) }
    }

    pub fn job(&self) -> JobName {
        self.job
    }

    pub fn status(&self) -> JobStatus {
        self.status.borrow().clone()
    }

    /// Sets what this run has counted so far under `name`.
    pub fn set(&self, name: &'static str, count: u64) {
        self.status.send_modify(|status| _ = status.counts.insert(name, count));
    }

    pub fn add(&self, name: &'static str, count: u64) {
        self.status.send_modify(|status| *status.counts.entry(name).or_default() += count);
    }

    /// Says how far its regular runs are apart at most.
    pub(super) fn follow(&self, timetable: &Timetable) {
        let period = (timetable.every + timetable.jitter).as_secs_f64();
        metrics::gauge!("scoreline_job_period_seconds", "name" => self.job.as_str()).set(period);
    }

    pub(super) fn begin(&self, now: Timestamp) {
        metrics::gauge!("scoreline_job_running", "name" => self.job.as_str()).set(1.0);
        self.status.send_modify(|status| {
            status.running_since = Some(now);
            status.next_at = None;
            status.counts.clear();
        });
    }

    pub(super) fn end(&self, now: Timestamp, result: RunResult) {
        let job = self.job.as_str();
        metrics::gauge!("scoreline_job_running", "name" => job).set(0.0);
        metrics::counter!("scoreline_job_runs_total", "name" => job, "result" => result.as_str()).increment(1);
        if result == RunResult::Done {
            let gauge = metrics::gauge!("scoreline_job_last_success_timestamp_seconds", "name" => job);
            gauge.set(now.as_millisecond() as f64 / 1e3);
        }
        self.status.send_modify(|status| {
            match &result {
                RunResult::Done => {
                    status.failures = 0;
                    status.last_success = Some(now);
                }
                RunResult::Idle | RunResult::Elsewhere => status.failures = 0,
                RunResult::Failed(_) => status.failures += 1,
                RunResult::Stopped => {}
            }
            let started = status.running_since.take().unwrap_or(now);
            status.last = Some(LastRun { started, ended: now, result });
        });
    }

    pub(super) fn plan(&self, next: Timestamp) {
        self.status.send_modify(|status| status.next_at = Some(next));
    }
}

/// Tells the recorder what the metrics of jobs mean.
pub(super) fn describe() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!("scoreline_job_period_seconds", "Longest time from one regular run of the job to the next.");
    describe_gauge!("scoreline_job_running", "1 while a run of the job is under way.");
    describe_gauge!("scoreline_job_last_success_timestamp_seconds", "End of the job's last run that did its work.");
    describe_counter!("scoreline_job_runs_total", "Runs of the job by how they ended.");
}
