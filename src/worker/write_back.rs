//! Scores of customers go where profiles are: everything that is due, after each pass of scoring and by its timer.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::JobError;
use super::deliver::{Deliver, Delivered};
use super::progress::JobProgress;
use super::schedule::{Cause, Job, JobEnd};
use crate::sinks::{ProfilePlace, Sink as _};
use scoreline_domain::JobName;
use scoreline_domain::time::seconds_between;
use scoreline_store::OutboxCounts;

/// Writes what is waiting.
#[derive(Clone)]
pub struct WriteBack(pub Arc<Deliver<ProfilePlace>>);

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenBack {
    /// Profiles that say what they should now.
    pub written: u64,
    /// Of those, profiles that somebody else had edited since they were written.
    pub edited: u64,
    pub failed: u64,
    pub dead: u64,
}

impl WriteBack {
    /// Writes everything that is due, telling `observe` after each portion. `None` while another process is at it.
    ///
    /// # Errors
    /// When the store does not answer, or the target cannot be used: then the rest waits.
    pub async fn run(&self, observe: impl Fn(&WrittenBack) + Sync) -> Result<Option<WrittenBack>, JobError> {
        let Some(held) = self.0.leases.take(JobName::WriteBack).await? else { return Ok(None) };
        held.during(self.pass(observe)).await.map(Some)
    }

    async fn pass(&self, observe: impl Fn(&WrittenBack) + Sync) -> Result<WrittenBack, JobError> {
        let delivered = self.0.pass(|done| observe(&WrittenBack::from(done))).await?;
        let done = WrittenBack::from(&delivered);
        let results = [("written", done.written), ("failed", done.failed), ("dead", done.dead)];
        for (result, count) in results {
            counter!("scoreline_write_back_total", "result" => result).increment(count);
        }
        counter!("scoreline_write_back_edited_total").increment(delivered.foreign);
        self.report().await?;
        if let Some((updates, reason)) = delivered.paused {
            return Err(JobError::SinkDown { updates, reason });
        }
        if done != WrittenBack::default() {
            let WrittenBack { written, edited, failed, dead } = done;
            tracing::info!(place = self.0.sink.target(), written, edited, failed, dead, "scores were written back");
        }
        Ok(done)
    }

    /// Sets the gauges of what waits and what is dead.
    async fn report(&self) -> Result<(), JobError> {
        let OutboxCounts { pending, failing, dead, absent, .. } =
            self.0.leases.store().outbox_counts(self.0.sink.target()).await?;
        gauge!("scoreline_write_back_pending").set(pending as f64);
        gauge!("scoreline_write_back_failing").set(failing as f64);
        gauge!("scoreline_write_back_absent").set(absent as f64);
        gauge!("scoreline_write_back_dead").set(dead as f64);
        let oldest = self.0.leases.store().oldest_write(self.0.sink.target()).await?;
        let age = oldest.map_or(0, |oldest| seconds_between(oldest, self.0.leases.clock().now()));
        gauge!("scoreline_write_back_oldest_seconds").set(age as f64);
        Ok(())
    }
}

impl From<&Delivered> for WrittenBack {
    fn from(delivered: &Delivered) -> Self {
        let Delivered { absent, failed, dead, foreign, .. } = delivered;
        Self { written: delivered.settled(), edited: *foreign, failed: *failed, dead: dead + absent }
    }
}

impl Job for WriteBack {
    fn name(&self) -> JobName {
        JobName::WriteBack
    }

    fn activate<'a>(&'a self, _: Cause, progress: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
        Box::pin(async move {
            let (store, now) = (self.0.leases.store(), self.0.leases.clock().now());
            let next = store.next_write(self.0.sink.target()).await?;
            if next.is_none_or(|at| at > now) {
                self.report().await?;
                return Ok(JobEnd::Idle { until: next });
            }
            let observe = |done: &WrittenBack| {
                progress.set("written", done.written);
                progress.set("edited", done.edited);
                progress.set("failed", done.failed);
                progress.set("dead", done.dead);
            };
            Ok(self.run(observe).await?.map_or(JobEnd::Elsewhere, |_| JobEnd::Done))
        })
    }
}

/// Tells the recorder what the metrics of writing back mean.
pub(super) fn describe() {
    describe_counter!("scoreline_write_back_total", "Updates of profiles by how they ended.");
    describe_counter!(
        "scoreline_write_back_edited_total",
        "Profiles that somebody else had edited since they were written."
    );
    describe_gauge!("scoreline_write_back_pending", "Updates of profiles that wait to be written.");
    describe_gauge!("scoreline_write_back_failing", "Of those that wait, those that failed before.");
    describe_gauge!(
        "scoreline_write_back_absent",
        "Updates of customers whom the platform does not have; looked for again."
    );
    describe_gauge!("scoreline_write_back_oldest_seconds", "Age of the oldest update of a profile that waits.");
    describe_gauge!("scoreline_write_back_dead", "Updates of profiles that are not tried any more.");
}
