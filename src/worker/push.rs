//! Scores of leads go where the dialer reads them: every target by itself, so that one that is limited or down holds up no
//! other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};

use super::JobError;
use super::deliver::{Deliver, Delivered};
use super::lease::Leases;
use super::progress::JobProgress;
use super::schedule::{Cause, Job, JobEnd};
use crate::leads::PauseBoard;
use crate::sinks::{LeadSink, Sink as _};
use scoreline_domain::JobName;
use scoreline_domain::time::{Timestamp, seconds_between};
use scoreline_store::OutboxCounts;

/// How often rows are counted for the gauges.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Writes what is waiting, to every target.
#[derive(Clone)]
pub struct Push {
    pub leases: Leases,
    pub targets: Vec<Arc<Deliver<LeadSink>>>,
    /// Where pauses are shown.
    pub pauses: PauseBoard,
    /// When the gauges were set last, on the monotonic clock.
    pub reported_at: Arc<Mutex<Option<Duration>>>,
}

impl Push {
    /// Writes everything that is due. `None` while another process is at it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn run(&self, progress: &JobProgress) -> Result<Option<()>, JobError> {
        let Some(held) = self.leases.take(JobName::Push).await? else { return Ok(None) };
        held.during(self.pass(progress)).await.map(Some)
    }

    async fn pass(&self, progress: &JobProgress) -> Result<(), JobError> {
        let passes = self.targets.iter().map(|target| async move {
            let done = target.pass(|_| ()).await?;
            count(target, &done, progress);
            self.pauses.set(target.sink.target(), target.pause());
            Ok::<(), JobError>(())
        });
        try_join_all(passes).await?;
        self.report().await
    }

    /// When the first target has something to write; `None` when none has.
    async fn next(&self) -> Result<Option<Timestamp>, JobError> {
        let mut next: Option<Timestamp> = None;
        for target in &self.targets {
            let mut due = self.leases.store().next_write(target.sink.target()).await?;
            if let Some(pause) = target.pause() {
                due = due.map(|due| due.max(pause.until));
            }
            next = [next, due].into_iter().flatten().min();
        }
        Ok(next)
    }

    /// Sets the gauges of what waits and what is dead. All rows are counted for them, so not at every run.
    async fn report(&self) -> Result<(), JobError> {
        let now = self.leases.clock().monotonic();
        {
            let mut reported_at = self.reported_at.lock().unwrap_or_else(PoisonError::into_inner);
            if reported_at.is_some_and(|at| now < at + REPORT_EVERY) {
                return Ok(());
            }
            *reported_at = Some(now);
        }
        for target in &self.targets {
            self.report_of(target).await?;
        }
        Ok(())
    }

    async fn report_of(&self, target: &Deliver<LeadSink>) -> Result<(), JobError> {
        let (store, name) = (self.leases.store(), target.sink.target());
        let counts = store.outbox_counts(name).await?;
        let OutboxCounts { pending, failing, unknown, applied, absent, dead } = counts;
        let states = [
            ("pending", pending - unknown),
            ("unknown", unknown),
            ("applied", applied),
            ("absent", absent),
            ("dead", dead),
        ];
        for (state, rows) in states {
            gauge!("scoreline_push_rows", "target" => name.to_owned(), "state" => state).set(rows as f64);
        }
        gauge!("scoreline_push_drift", "target" => name.to_owned()).set((failing + dead) as f64);
        let oldest = store.oldest_write(name).await?;
        let age = oldest.map_or(0, |oldest| seconds_between(oldest, self.leases.clock().now()));
        gauge!("scoreline_push_oldest_seconds", "target" => name.to_owned()).set(age as f64);
        let is_paused = target.pause().is_some();
        gauge!("scoreline_push_paused", "target" => name.to_owned()).set(f64::from(u8::from(is_paused)));
        Ok(())
    }
}

fn count(target: &Deliver<LeadSink>, done: &Delivered, progress: &JobProgress) {
    let Delivered { written, as_it_was, newer, absent, failed, dead, foreign, lost, paused } = done;
    let results = [
        ("written", *written),
        ("as_it_was", *as_it_was),
        ("newer", *newer),
        ("absent", *absent),
        ("failed", *failed),
        ("dead", *dead),
        ("lost", *lost),
    ];
    let name = target.sink.target();
    for (result, rows) in results {
        counter!("scoreline_push_total", "target" => name.to_owned(), "result" => result).increment(rows);
        progress.add(result, rows);
    }
    counter!("scoreline_push_foreign_total", "target" => name.to_owned()).increment(*foreign);
    let failing = failed + dead;
    if failing > 0 {
        let reason = paused.as_ref().map_or("each has its own", |(_, reason)| reason);
        tracing::warn!(
            target = name,
            leads = failing,
            reason,
            "scores drift: leads are called by what was written before"
        );
    }
    if *written > 0 {
        tracing::info!(target = name, written, as_it_was, newer, absent, failed, dead, "scores of leads were written");
    }
}

impl Job for Push {
    fn name(&self) -> JobName {
        JobName::Push
    }

    fn activate<'a>(&'a self, _: Cause, progress: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
        Box::pin(async move {
            let next = self.next().await?;
            if next.is_none_or(|at| at > self.leases.clock().now()) {
                self.report().await?;
                return Ok(JobEnd::Idle { until: next });
            }
            Ok(self.run(progress).await?.map_or(JobEnd::Elsewhere, |()| JobEnd::Done))
        })
    }
}

/// Tells the recorder what the metrics of pushing mean.
pub(super) fn describe() {
    describe_counter!("scoreline_push_total", "Scores of leads by target and how their delivery ended.");
    describe_counter!("scoreline_push_foreign_total", "Values of somebody else that were written over, by target.");
    describe_gauge!("scoreline_push_rows", "Scores of leads by target and state.");
    describe_gauge!(
        "scoreline_push_drift",
        "Leads that are called by an old score because the new one could not be written, by target."
    );
    describe_gauge!("scoreline_push_oldest_seconds", "Age of the oldest score that waits to be written, by target.");
    describe_gauge!("scoreline_push_paused", "1 while nothing is sent to the target, by target.");
    describe_histogram!("scoreline_push_lag_seconds", "Time from a score to its write, by target.");
}
