//! Scores go where profiles are: claimed from the store's wishes under a lease, written, settled. A write that fails is kept
//! with its reason and tried again; killed anywhere, the wish is claimed again and written once more, which is harmless.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::backoff::{Pauses, after};
use super::lease::Leases;
use super::progress::JobProgress;
use super::schedule::{Cause, Job, JobEnd};
use super::{JobError, WriteBackSettings};
use crate::sinks::{ProfileScores, ScoreSink, ScoreUpdate, SinkFault, WrittenOver};
use scoreline_domain::JobName;
use scoreline_domain::time::Timestamp;
use scoreline_store::{Claim, Profile, ProfileCounts, Settled, WriteOutcome};

/// How long claimed updates are nobody else's: longer than writing them takes with every retry and every pause that the
/// platform asks for.
const CLAIM: Duration = Duration::from_mins(15);
/// Between tries of an update, unless the sink names a longer pause.
const PAUSES: Pauses = Pauses { first: Duration::from_secs(30), most: Duration::from_hours(1) };

/// Writes what is waiting.
#[derive(Clone)]
pub struct WriteBack {
    pub sink: Arc<dyn ScoreSink>,
    pub leases: Leases,
    pub settings: WriteBackSettings,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenBack {
    pub written: u64,
    /// Of those written, those that somebody else had changed since the last time.
    pub edited: u64,
    pub failed: u64,
    pub dead: u64,
}

impl WriteBack {
    /// Writes everything that is due, telling `observe` after each portion. `None` while another process is at it.
    ///
    /// # Errors
    /// When the store does not answer, or nothing of a portion could be written: then the rest waits.
    pub async fn run(&self, observe: impl FnMut(&WrittenBack) + Send) -> Result<Option<WrittenBack>, JobError> {
        let Some(held) = self.leases.take(JobName::WriteBack).await? else { return Ok(None) };
        held.during(self.pass(observe)).await.map(Some)
    }

    async fn pass(&self, mut observe: impl FnMut(&WrittenBack) + Send) -> Result<WrittenBack, JobError> {
        let (store, clock, target) = (self.leases.store(), self.leases.clock(), self.sink.target());
        let limit = self.sink.portion().min(self.settings.batch as usize);
        let mut done = WrittenBack::default();
        // Nobody of this name is at it: what is claimed under it was left behind by a kill.
        store.take_back_claims(target, self.leases.holder()).await?;
        let down = loop {
            let claims = store.claim_profiles(target, self.leases.holder(), limit, clock.now(), CLAIM).await?;
            if claims.is_empty() {
                break None;
            }
            let down = self.write(&claims, &mut done).await?;
            observe(&done);
            if let Some(reason) = down {
                break Some(JobError::SinkDown { updates: claims.len(), reason });
            }
        };
        let WrittenBack { written, edited, failed, dead } = done;
        if edited > 0 {
            tracing::warn!(
                place = target,
                edited,
                "profiles had been changed by somebody else since they were written; they say again what was computed"
            );
        }
        self.report().await?;
        if let Some(down) = down {
            return Err(down);
        }
        if done != WrittenBack::default() {
            tracing::info!(place = target, written, failed, dead, "scores were written back");
        }
        Ok(done)
    }

    /// Writes a portion and settles it. The reason, when all of it has to be tried again.
    async fn write(&self, claims: &[Claim], done: &mut WrittenBack) -> Result<Option<String>, JobError> {
        let updates: Vec<_> = claims.iter().map(update).collect();
        let results = self.sink.write(&updates).await;
        let now = self.leases.clock().now();
        let mut settled = Vec::with_capacity(claims.len());
        let mut down = None;
        let before = *done;
        for (claim, result) in claims.iter().zip(results) {
            let edited = matches!(result, Ok(WrittenOver::Edit));
            done.edited += u64::from(edited);
            let outcome = self.outcome(claim, result, now, &mut down);
            match &outcome {
                WriteOutcome::Applied => done.written += 1,
                WriteOutcome::Dead { .. } => done.dead += 1,
                WriteOutcome::Retry { .. } | WriteOutcome::Untried => done.failed += 1,
            }
            settled.push(Settled { claim, outcome, edited_at: edited.then_some(now) });
        }
        self.leases.store().settle_profiles(self.sink.target(), self.leases.holder(), &settled).await?;
        let written = done.written - before.written;
        let results =
            [("written", written), ("failed", done.failed - before.failed), ("dead", done.dead - before.dead)];
        for (result, count) in results {
            counter!("scoreline_write_back_total", "result" => result).increment(count);
        }
        counter!("scoreline_write_back_edited_total").increment(done.edited - before.edited);
        Ok(down.filter(|_| done.failed - before.failed == claims.len() as u64))
    }

    fn outcome(
        &self,
        claim: &Claim,
        result: Result<WrittenOver, SinkFault>,
        now: Timestamp,
        down: &mut Option<String>,
    ) -> WriteOutcome {
        match result {
            Ok(_) => WriteOutcome::Applied,
            Err(SinkFault::Dead { reason }) => WriteOutcome::Dead { reason: reason.into() },
            Err(SinkFault::Retry { after: asked, reason }) => {
                *down = Some(reason.clone());
                // From the time the score was made: attempts alone say nothing about a long outage.
                let tried = now.duration_since(claim.profile.calculated_at);
                let patience = SignedDuration::try_from(self.settings.give_up_after).unwrap_or(SignedDuration::MAX);
                if claim.attempts > 0 && tried > patience {
                    return WriteOutcome::Dead { reason: format!("given up: {reason}").into() };
                }
                let pause = asked.max(PAUSES.after(claim.attempts, fastrand::f64()));
                WriteOutcome::Retry { reason: reason.into(), at: after(now, pause) }
            }
        }
    }

    /// Sets the gauges of what waits and what is dead.
    async fn report(&self) -> Result<(), JobError> {
        let ProfileCounts { pending, dead, failing, .. } =
            self.leases.store().profile_counts(self.sink.target()).await?;
        gauge!("scoreline_write_back_pending").set(pending as f64);
        gauge!("scoreline_write_back_failing").set(failing as f64);
        gauge!("scoreline_write_back_dead").set(dead as f64);
        Ok(())
    }
}

impl Job for WriteBack {
    fn name(&self) -> JobName {
        JobName::WriteBack
    }

    fn activate<'a>(&'a self, _: Cause, progress: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
        Box::pin(async move {
            let counts = self.leases.store().profile_counts(self.sink.target()).await?;
            if counts.pending == 0 {
                self.report().await?;
                return Ok(JobEnd::Idle { until: None });
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

fn update(claim: &Claim) -> ScoreUpdate {
    ScoreUpdate {
        customer: claim.customer,
        contact: claim.contact.clone(),
        scores: scores(&claim.profile),
        last: claim.last.as_ref().map(scores),
    }
}

fn scores(profile: &Profile) -> ProfileScores {
    ProfileScores {
        predicted_clv_value: profile.value_usd,
        clv_tier: profile.tier,
        confidence_score: profile.confidence,
        risk_score: profile.risk,
        last_calculated_at: profile.calculated_at,
    }
}

/// Tells the recorder what the metrics of writing back mean.
pub(super) fn describe() {
    describe_counter!("scoreline_write_back_total", "Updates of profiles by how they ended.");
    describe_counter!(
        "scoreline_write_back_edited_total",
        "Profiles that somebody else had changed since they were written."
    );
    describe_gauge!("scoreline_write_back_pending", "Updates of profiles that wait to be written.");
    describe_gauge!("scoreline_write_back_failing", "Of those that wait, those that failed before.");
    describe_gauge!("scoreline_write_back_dead", "Updates of profiles that are not tried any more.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let first = Duration::from_secs(30);
        assert_eq!(PAUSES.after(0, 1.0), first);
        assert_eq!(PAUSES.after(1, 1.0), 2 * first);
        assert_eq!(PAUSES.after(1, 0.0), first);
        assert_eq!(PAUSES.after(500, 1.0), Duration::from_hours(1));
    }
}
