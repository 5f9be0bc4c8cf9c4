//! Scores go where they are read: claimed from the store's wishes, looked at there, written, settled.
//!
//! Permits are taken before rows are claimed, so nothing is waited for between a claim and its requests. A claim lasts a
//! little longer than a request can take, and each request is made once. What may have arrived is read before it is written
//! again; a write behind an unsettled one is read once more. What is refused in a batch is tried in halves, until the row
//! that is refused is alone. A target that is limited or down pauses as a whole: its rows stay as they were.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::SignedDuration;

use super::JobError;
use super::backoff::{Pauses, after};
use super::lease::Leases;
use crate::leads::TargetPause;
use crate::sinks::{ReadRow, Sink, Standing};
use scoreline_domain::time::Timestamp;
use scoreline_genesys::{Permits, SendFault};
use scoreline_store::{Claim, Settled, WriteLog, WriteOutcome};

/// A claim lasts so much longer than one of its requests.
const BEYOND: Duration = Duration::from_secs(5);
/// Of a target that does not answer, or refuses for its rate without a time.
const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), most: Duration::from_mins(1) };
/// A target that is silent so often in a row pauses. One silent answer among many is a request's, not the target's: its row
/// waits alone.
const SILENT: u32 = 3;
/// Of a target that somebody has to mend.
const PAUSES_DOWN: Pauses = Pauses { first: Duration::from_secs(15), most: Duration::from_mins(10) };
/// A row that another writer came in between of is looked at again.
const CONFLICT: Duration = Duration::from_secs(1);

/// Delivers what waits in one target.
pub struct Deliver<S> {
    pub sink: S,
    pub leases: Leases,
    /// Rows of a claim, at most.
    batch: usize,
    /// Claims that are worked on at a time.
    at_once: usize,
    /// How long a row is tried of which nobody knows what became.
    give_up_after: Duration,
    /// After how long a target is asked again for a subject that it had not.
    absent_retry: Duration,
    /// Whether subjects are leads: what was said before goes into their logs, and how late scores come is measured.
    of_leads: bool,
    health: Mutex<TargetHealth>,
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    pub written: u64,
    /// It was there already.
    pub as_it_was: u64,
    /// Somebody else's later score stays.
    pub newer: u64,
    pub absent: u64,
    /// To be tried again.
    pub failed: u64,
    pub dead: u64,
    /// Somebody else's value was written over.
    pub foreign: u64,
    /// Claims that ran out before they were settled.
    pub lost: u64,
    /// Rows that were not tried because the target pauses, and why.
    pub paused: Option<(usize, String)>,
}

/// Whether a target can be used.
#[derive(Clone, Debug, Default)]
struct TargetHealth {
    /// Pauses in a row.
    failures: u32,
    /// Silent answers in a row, to reads and to writes: one that only reads is no target.
    silent: [u32; 2],
    /// Monotonic.
    paused_until: Duration,
    pause: Option<TargetPause>,
}

impl<S: Sink> Deliver<S> {
    pub fn new(sink: S, leases: Leases, batch: usize, give_up_after: Duration) -> Self {
        Self {
            sink,
            leases,
            batch,
            at_once: 1,
            give_up_after,
            absent_retry: Duration::from_hours(1),
            of_leads: false,
            health: Mutex::default(),
        }
    }

    /// For leads, several claims at a time: where one answer takes seconds, one after the other would not use the rate.
    #[must_use]
    pub fn of_leads(self, at_once: usize, absent_retry: Duration) -> Self {
        Self { of_leads: true, at_once, absent_retry, ..self }
    }

    /// Why nothing is sent at the moment; `None` while the target can be used.
    pub fn pause(&self) -> Option<TargetPause> {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = self.leases.clock().monotonic() >= health.paused_until;
        health.pause.clone().filter(|_| !is_over)
    }

    /// Delivers everything that is due, telling `observe` after each claim. Stops early when the target pauses. The caller
    /// holds the job's lease.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn pass(&self, observe: impl Fn(&Delivered) + Sync) -> Result<Delivered, JobError> {
        let done = Mutex::new(Delivered::default());
        try_join_all((0..self.at_once.max(1)).map(|_| self.work(&done, &observe))).await?;
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let (None, Some(pause)) = (&done.paused, self.pause()) {
            done.paused = Some((0, pause.reason));
        }
        Ok(done)
    }

    async fn work(&self, done: &Mutex<Delivered>, observe: &(impl Fn(&Delivered) + Sync)) -> Result<(), JobError> {
        let (store, clock, target) = (self.leases.store(), self.leases.clock(), self.sink.target());
        let portion = self.sink.portion().min(self.batch);
        loop {
            if self.pause().is_some() {
                return Ok(());
            }
            let due = store.count_due_writes(target, clock.now(), portion).await?;
            if due == 0 {
                return Ok(());
            }
            let permits = match self.sink.reserve(due).await {
                Ok(permits) => permits,
                Err(fault) => {
                    self.rest(Stage::Read, &fault);
                    done.lock().unwrap_or_else(PoisonError::into_inner).paused = Some((due, fault.to_string()));
                    return Ok(());
                }
            };
            let lease = self.sink.patience() + BEYOND;
            let claimed_at = clock.monotonic();
            let claims = store.claim_writes(target, self.leases.holder(), due, clock.now(), lease).await?;
            if claims.is_empty() {
                return Ok(());
            }
            if let Some(permits) = &permits {
                permits.until(claimed_at + BEYOND);
            }
            let mut part = Delivered::default();
            let outcomes = self.deliver(permits.as_ref(), &claims, &mut part).await?;
            drop(permits);
            let settled: Vec<Settled<'_>> =
                claims.iter().zip(outcomes).map(|(claim, outcome)| Settled { claim, outcome }).collect();
            let landed = store.settle_writes(target, self.leases.holder(), &settled, clock.now()).await?;
            part.lost = landed.lost;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.add(part);
            observe(&done);
        }
    }

    /// Reads, compares, writes; one outcome for each claim.
    async fn deliver(
        &self,
        permits: Option<&Permits>,
        claims: &[Claim],
        part: &mut Delivered,
    ) -> Result<Vec<WriteOutcome>, JobError> {
        let now = self.leases.clock().now();
        let read = match self.sink.read(permits, claims).await {
            Ok(read) => read,
            Err(fault) => {
                let outcome = |claim| self.failed(Stage::Read, claim, claims.len(), &fault, now, part);
                return Ok(claims.iter().map(outcome).collect());
            }
        };
        self.rested(Stage::Read);
        let mut outcomes: Vec<Option<WriteOutcome>> = Vec::with_capacity(claims.len());
        let mut rows: Vec<(usize, ReadRow<S::Read>)> = Vec::new();
        for (place, row) in read.into_iter().enumerate() {
            let claim = &claims[place];
            outcomes.push(match row {
                Err(fault) => Some(self.failed(Stage::Read, claim, 1, &fault, now, part)),
                Ok(row) => match row.standing {
                    Standing::Missing => {
                        part.absent += 1;
                        Some(WriteOutcome::Absent { at: after(now, self.absent_retry) })
                    }
                    Standing::AsItWas => {
                        part.as_it_was += 1;
                        Some(WriteOutcome::Applied)
                    }
                    Standing::Newer { says, calculated_at } => {
                        part.newer += 1;
                        tracing::info!(target = self.sink.target(), lead = ?claim.key, kept = %says, "a later score of somebody else stays");
                        Some(WriteOutcome::Newer { says, calculated_at })
                    }
                    Standing::Differs { .. } => {
                        rows.push((place, row));
                        None
                    }
                },
            });
        }
        if !rows.is_empty() {
            self.log(claims, &rows, part).await?;
            let sent: Vec<(&Claim, &S::Read)> = rows.iter().map(|(place, row)| (&claims[*place], &row.read)).collect();
            let written = match self.sink.write(permits, &sent).await {
                Ok(written) => written,
                Err(fault) => vec![Err(fault); rows.len()],
            };
            let now = self.leases.clock().now();
            let together = if self.sink.is_batched() { written.len() } else { 1 };
            for ((place, _), written) in rows.iter().zip(written) {
                let claim = &claims[*place];
                outcomes[*place] = Some(match written {
                    Ok(()) => {
                        part.written += 1;
                        self.measure(claim, now);
                        self.rested(Stage::Write);
                        self.applied(claim, now)
                    }
                    Err(fault) => self.failed(Stage::Write, claim, together, &fault, now, part),
                });
            }
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or(WriteOutcome::Untried)).collect())
    }

    /// What a target said before goes into the leads' logs, and into ours, before it is written over.
    async fn log(
        &self,
        claims: &[Claim],
        rows: &[(usize, ReadRow<S::Read>)],
        part: &mut Delivered,
    ) -> Result<(), JobError> {
        let target = self.sink.target();
        let mut writes = Vec::with_capacity(rows.len());
        for (place, row) in rows {
            let Standing::Differs { previous, is_foreign } = &row.standing else { continue };
            let claim = &claims[*place];
            if *is_foreign {
                part.foreign += 1;
                let says = &*claim.says;
                tracing::warn!(target, subject = ?claim.key, previous, says, "somebody else wrote here; it is written over");
            } else {
                tracing::debug!(target, subject = ?claim.key, previous, says = &*claim.says, "a score is written");
            }
            writes.push(WriteLog { claim, previous: previous.clone() });
        }
        if self.of_leads {
            self.leases.store().log_writes(target, &writes, self.leases.clock().now()).await?;
        }
        Ok(())
    }

    fn measure(&self, claim: &Claim, now: Timestamp) {
        if self.of_leads {
            let late = Duration::try_from(now.duration_since(claim.calculated_at)).unwrap_or_default();
            let target = self.sink.target().to_owned();
            metrics::histogram!("scoreline_push_lag_seconds", "target" => target).record(late.as_secs_f64());
        }
    }

    /// A write behind one that may still arrive is read once more.
    fn applied(&self, claim: &Claim, now: Timestamp) -> WriteOutcome {
        if claim.is_unsettled && self.sink.reads() {
            return WriteOutcome::Unknown { reason: None, at: after(now, self.sink.patience()), most: claim.most };
        }
        WriteOutcome::Applied
    }

    /// What a fault means for a row that was sent together with so many.
    fn failed(
        &self,
        stage: Stage,
        claim: &Claim,
        together: usize,
        fault: &SendFault,
        now: Timestamp,
        part: &mut Delivered,
    ) -> WriteOutcome {
        let half = u32::try_from(together.div_ceil(2)).unwrap_or(u32::MAX).max(1);
        let reason: Box<str> = fault.to_string().into();
        match (fault, stage) {
            (SendFault::NotSent { .. } | SendFault::Down { .. }, _) | (SendFault::Unknown { .. }, Stage::Read) => {
                self.rest(stage, fault);
                let untried = part.paused.as_ref().map_or(0, |(untried, _)| *untried);
                part.paused = Some((untried + 1, reason.into()));
                WriteOutcome::Untried
            }
            (SendFault::Unknown { .. }, Stage::Write) => {
                self.rest(stage, fault);
                part.failed += 1;
                let untried = part.paused.as_ref().map_or(0, |(untried, _)| *untried);
                part.paused = Some((untried + 1, reason.to_string()));
                // From the time the score was made: attempts alone say nothing about a long outage.
                let patience = SignedDuration::try_from(self.give_up_after).unwrap_or(SignedDuration::MAX);
                if claim.attempts > 0 && together == 1 && now.duration_since(claim.calculated_at) > patience {
                    part.failed -= 1;
                    part.dead += 1;
                    return WriteOutcome::Dead { reason: format!("given up: {reason}").into() };
                }
                // The target was just read: when it is silent to the same rows again, one of them may be why.
                let most = if claim.attempts > 0 { half } else { claim.most };
                WriteOutcome::Unknown { reason: Some(reason), at: after(now, self.sink.patience()), most }
            }
            (SendFault::Refused { .. }, _) if together > 1 => {
                part.failed += 1;
                WriteOutcome::Refused { reason, most: half }
            }
            (SendFault::Refused { status: 404, .. }, Stage::Read) => {
                part.absent += 1;
                WriteOutcome::Absent { at: after(now, self.absent_retry) }
            }
            (SendFault::Refused { status: 404 | 409, .. }, _) => {
                part.failed += 1;
                WriteOutcome::Unknown { reason: Some(reason), at: after(now, CONFLICT), most: 1 }
            }
            (SendFault::Refused { .. }, _) => {
                part.dead += 1;
                WriteOutcome::Dead { reason }
            }
        }
    }

    /// The target pauses, longer each time.
    fn rest(&self, stage: Stage, fault: &SendFault) {
        let clock = self.leases.clock();
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock.monotonic();
        if matches!(fault, SendFault::Unknown { .. }) {
            let silent = &mut health.silent[stage as usize];
            *silent = silent.saturating_add(1);
            if *silent < SILENT {
                return;
            }
        }
        let (state, pause) = match fault {
            // The pace itself keeps everybody waiting.
            SendFault::NotSent { until: Some(until), .. } => ("limited", *until),
            SendFault::NotSent { until: None, .. } => ("limited", PAUSES.after(health.failures, fastrand::f64())),
            SendFault::Unknown { .. } => ("silent", PAUSES.after(health.failures, fastrand::f64())),
            SendFault::Down { .. } => ("down", PAUSES_DOWN.after(health.failures, fastrand::f64())),
            SendFault::Refused { .. } => return,
        };
        // Faults of requests that were under way together are one.
        if now < health.paused_until {
            return;
        }
        health.failures = health.failures.saturating_add(1);
        health.paused_until = now + pause;
        let reason = fault.to_string();
        if health.pause.as_ref().is_none_or(|before| before.reason != reason) {
            tracing::warn!(target = self.sink.target(), state, reason, "a target pauses; what is for it waits");
        }
        health.pause = Some(TargetPause { state, reason, until: after(clock.now(), pause) });
    }

    /// The target answered.
    fn rested(&self, stage: Stage) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.silent[stage as usize] = 0;
        if self.leases.clock().monotonic() >= health.paused_until && health.failures > 0 {
            *health = TargetHealth::default();
            tracing::info!(target = self.sink.target(), "a target answers again");
        }
    }
}

/// Which request of a claim failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Read,
    Write,
}

impl Delivered {
    fn add(&mut self, part: Self) {
        self.written += part.written;
        self.as_it_was += part.as_it_was;
        self.newer += part.newer;
        self.absent += part.absent;
        self.failed += part.failed;
        self.dead += part.dead;
        self.foreign += part.foreign;
        self.lost += part.lost;
        if let Some((untried, reason)) = part.paused {
            let before = self.paused.as_ref().map_or(0, |(untried, _)| *untried);
            self.paused = Some((before + untried, reason));
        }
    }

    /// Rows that say what they should, or something later.
    pub fn settled(&self) -> u64 {
        self.written + self.as_it_was + self.newer
    }
}
