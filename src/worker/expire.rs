//! Scores of leads that are too old to count become nothing where the dialer reads them. Many at once by the target's own job
//! (a sweep), few as rows of their own. A lead with a fresh equal score is written anew before its old time runs out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::JobError;
use super::backoff::after;
use super::deliver::Deliver;
use super::lease::{HeldLease, Leases};
use super::progress::JobProgress;
use super::schedule::{Cause, Job, JobEnd};
use crate::sinks::{LeadSink, Sink as _};
use scoreline_domain::JobName;
use scoreline_domain::time::Timestamp;
use scoreline_genesys::outbound::SweepState;
use scoreline_store::{Aging, RunningSweep, ScoreRules};

/// Rows of a transaction: others write in between.
const PAGE: usize = 2_000;
/// From so many on a sweep is less work than rows.
const SWEEP_FROM: usize = 5_000;
/// A row of a lead with a fresh equal score is written so long before its time.
const AHEAD: Duration = Duration::from_mins(10);
/// How often a sweep is asked how far it is.
const POLL: Duration = Duration::from_secs(3);
/// A sweep that was asked for and not named is forgotten after so long: it may have run.
const UNNAMED: Duration = Duration::from_mins(1);
/// After a sweep that failed, rows are used for so long.
const ROWS_AFTER_FAULT: Duration = Duration::from_hours(1);

/// Lets scores grow old.
#[derive(Clone)]
pub struct Expire {
    pub leases: Leases,
    pub targets: Vec<Arc<Deliver<LeadSink>>>,
    pub rules: ScoreRules,
    /// What a stale score is written as.
    pub stale_value: u8,
    pub state: Arc<Mutex<ExpireState>>,
}

/// What is remembered from run to run.
#[derive(Debug, Default)]
pub struct ExpireState {
    /// Targets that know every lead.
    introduced: Vec<String>,
    /// Until when rows are used instead of sweeps.
    rows_until: Option<Timestamp>,
}

impl Expire {
    async fn pass(&self, held: &HeldLease, progress: &JobProgress) -> Result<Option<Timestamp>, JobError> {
        let mut next = None;
        for target in &self.targets {
            self.introduce(target, held).await?;
            let soon = self.grow_old(target, held, progress).await?;
            next = [next, soon].into_iter().flatten().min();
        }
        let (store, now) = (self.leases.store(), self.leases.clock().now());
        let gone = store.forget_events(now).await?;
        progress.add("events_forgotten", gone);
        let stale = now.checked_sub(self.rules.stale_after).unwrap_or(Timestamp::MIN);
        let (fresh, old) = store.lead_counts(stale).await?;
        gauge!("scoreline_leads", "state" => "fresh").set(fresh as f64);
        gauge!("scoreline_leads", "state" => "stale").set(old as f64);
        Ok(next)
    }

    /// Tells a target of the leads that came before it was named; once a process.
    async fn introduce(&self, target: &Deliver<LeadSink>, held: &HeldLease) -> Result<(), JobError> {
        let name = target.sink.target();
        let is_known = |state: &ExpireState| state.introduced.iter().any(|known| known == name);
        if is_known(&self.state.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let (store, clock) = (self.leases.store(), self.leases.clock());
        while store.introduce_leads(name, &self.rules, clock.now(), PAGE, held.lease()).await? > 0 {
            tokio::task::yield_now().await;
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).introduced.push(name.to_owned());
        Ok(())
    }

    /// When this target is looked at again, if that is sooner than usual.
    async fn grow_old(
        &self,
        target: &Deliver<LeadSink>,
        held: &HeldLease,
        progress: &JobProgress,
    ) -> Result<Option<Timestamp>, JobError> {
        let (store, clock, name) = (self.leases.store(), self.leases.clock(), target.sink.target());
        if let Some(sweep) = store.sweep_of(name).await? {
            return self.follow(target, sweep, held, progress).await;
        }
        let now = clock.now();
        let may_sweep =
            self.state.lock().unwrap_or_else(PoisonError::into_inner).rows_until.is_none_or(|until| now >= until);
        let old = store.count_stale(name, &self.rules, now, SWEEP_FROM).await?;
        if may_sweep && old >= SWEEP_FROM as u64 && self.sweep(target, held).await? {
            return Ok(Some(after(now, POLL)));
        }
        loop {
            let now = clock.now();
            let Aging { refreshed, stale } = store.grow_old(name, &self.rules, AHEAD, now, PAGE, held.lease()).await?;
            progress.add("refreshed", refreshed);
            progress.add("expired", stale);
            counter!("scoreline_leads_expired_total", "by" => "rows").increment(stale);
            if refreshed.max(stale) < PAGE as u64 {
                return Ok(None);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Asks for a sweep; whether the target has such a job and may be at it.
    async fn sweep(&self, target: &Deliver<LeadSink>, held: &HeldLease) -> Result<bool, JobError> {
        let (store, clock, name) = (self.leases.store(), self.leases.clock(), target.sink.target());
        let Ok(Some(permits)) = target.sink.reserve(1).await else { return Ok(false) };
        let now = clock.now();
        let cutoff = now.checked_sub(self.rules.stale_after).unwrap_or(Timestamp::MIN);
        let mut sweep = RunningSweep { started_at: now, cutoff, job: String::new() };
        store.begin_sweep(name, &sweep, held.lease()).await?;
        match target.sink.lead_target().start_sweep(&permits, cutoff, self.stale_value).await {
            Ok(Some(job)) => {
                sweep.job = job;
                store.begin_sweep(name, &sweep, held.lease()).await?;
                tracing::info!(target = name, %cutoff, "a sweep of scores that are too old has begun");
                Ok(true)
            }
            Ok(None) => {
                store.drop_sweep(name, &sweep, held.lease()).await?;
                Ok(false)
            }
            Err(fault) => {
                tracing::warn!(target = name, reason = %fault, "a sweep could not be begun; rows are written instead");
                // One that may have begun is waited for.
                if !matches!(fault, scoreline_genesys::SendFault::Unknown { .. }) {
                    store.drop_sweep(name, &sweep, held.lease()).await?;
                }
                self.use_rows(now);
                Ok(false)
            }
        }
    }

    /// Looks how far a sweep has come, and takes over what it did.
    async fn follow(
        &self,
        target: &Deliver<LeadSink>,
        sweep: RunningSweep,
        held: &HeldLease,
        progress: &JobProgress,
    ) -> Result<Option<Timestamp>, JobError> {
        let (store, clock, name) = (self.leases.store(), self.leases.clock(), target.sink.target());
        let now = clock.now();
        if sweep.job.is_empty() {
            if now < after(sweep.started_at, UNNAMED) {
                return Ok(Some(after(now, POLL)));
            }
            store.drop_sweep(name, &sweep, held.lease()).await?;
            self.use_rows(now);
            return Ok(Some(now));
        }
        let Ok(Some(permits)) = target.sink.reserve(1).await else { return Ok(Some(after(now, POLL))) };
        match target.sink.lead_target().poll_sweep(&permits, &sweep.job).await {
            Ok(SweepState::Running) => Ok(Some(after(now, POLL))),
            Ok(SweepState::Done { changed }) => {
                let mut swept = 0;
                loop {
                    let part = store.end_sweep(name, &sweep, clock.now(), PAGE, held.lease()).await?;
                    swept += part;
                    if part == 0 {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                let taken = Duration::try_from(clock.now().duration_since(sweep.started_at)).unwrap_or_default();
                histogram!("scoreline_sweep_seconds").record(taken.as_secs_f64());
                counter!("scoreline_leads_expired_total", "by" => "sweep").increment(swept);
                progress.add("expired", swept);
                tracing::info!(
                    target = name,
                    changed,
                    leads = swept,
                    "a sweep is over: scores that are too old count as 0"
                );
                Ok(Some(now))
            }
            Ok(SweepState::Failed) => {
                tracing::warn!(target = name, "a sweep did not do its work; rows are written instead");
                store.drop_sweep(name, &sweep, held.lease()).await?;
                self.use_rows(now);
                Ok(Some(now))
            }
            Err(fault) => {
                tracing::warn!(target = name, reason = %fault, "how far a sweep has come is not known; asked again");
                Ok(Some(after(now, POLL)))
            }
        }
    }

    fn use_rows(&self, now: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rows_until = Some(after(now, ROWS_AFTER_FAULT));
    }
}

impl Job for Expire {
    fn name(&self) -> JobName {
        JobName::Expire
    }

    fn activate<'a>(&'a self, _: Cause, progress: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
        Box::pin(async move {
            let Some(held) = self.leases.take(JobName::Expire).await? else { return Ok(JobEnd::Elsewhere) };
            let next = held.during(self.pass(&held, progress)).await?;
            Ok(next.map_or(JobEnd::Done, |until| JobEnd::Idle { until: Some(until) }))
        })
    }
}

/// Tells the recorder what the metrics of growing old mean.
pub(super) fn describe() {
    describe_gauge!("scoreline_leads", "Leads by whether their score still counts: fresh or stale.");
    describe_counter!("scoreline_leads_expired_total", "Scores that became too old to count, by rows or by sweep.");
    describe_histogram!("scoreline_sweep_seconds", "Time that a sweep of a target took.");
}
