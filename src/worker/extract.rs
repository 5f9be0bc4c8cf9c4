//! The extraction: steps through the platform's history and keeps what they bring with the position they end at, in one
//! transaction. Killed anywhere, it goes on from the last position; what is brought twice is kept once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use tokio::time::sleep;

use super::lease::{HeldLease, Leases};
use super::progress::JobProgress;
use super::schedule::{Cause, Job, JobEnd};
use super::{ExtractSettings, JobError, position};
use scoreline_domain::time::{Stopwatch, Timestamp};
use scoreline_domain::{Annotation, ExtractedInteraction, JobName};
use scoreline_genesys::source::{ExtractionStep, ExtractionTally, ExtractionWindow, HistorySource, Mismatch, Position};
use scoreline_store::{Batch, RecordedCounts};

/// What is fetched is kept at the latest after so many requests: a process that starts after a kill has to assume that
/// they were sent, and may not exceed the platform's limit.
const REQUESTS_AT_RISK: u64 = 8;
/// And once it is that many interactions, or that old.
const ROWS_AT_ONCE: usize = 20_000;
const KEPT_WITHIN: Duration = Duration::from_secs(2);
/// A first run that finds nothing older than so many days after the beginning of its window says so.
const SHORT_BY_DAYS: i64 = 7;
const HOURS_A_DAY: i64 = 24;

/// Fetches history.
#[derive(Clone)]
pub struct Extraction {
    pub source: Arc<dyn HistorySource>,
    pub leases: Leases,
    pub settings: ExtractSettings,
}

/// How far a run has come.
#[derive(Clone, Debug)]
pub struct ExtractionProgress {
    /// What is being done, for people.
    pub phase: &'static str,
    /// Of the window, 0 to 1.
    pub share: f64,
    /// Of the whole extraction, with what earlier processes fetched of it.
    pub tally: ExtractionTally,
    /// Of this run.
    pub written: InteractionsWritten,
    /// How long the next step has to wait for the platform.
    pub wait: Option<Duration>,
    /// Time this process has spent waiting for the platform's rate limit.
    pub limited: Duration,
}

/// What became of interactions in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InteractionsWritten {
    pub new: u64,
    pub changed: u64,
    pub same: u64,
    /// Of customers who were erased.
    pub refused: u64,
    /// Late sentiment or topics of interactions that are not kept.
    pub unknown: u64,
}

/// An extraction that is complete.
#[derive(Clone, Debug)]
pub struct Extracted {
    pub window: ExtractionWindow,
    pub totals: ExtractionTally,
    pub written: InteractionsWritten,
    /// Conversations that the platform counted and did not give.
    pub missing: u64,
    /// Days from the time that was asked for to the oldest conversation, when that is suspiciously many.
    pub short_by_days: Option<u64>,
    /// When the oldest interaction in the store started, whichever run brought it.
    pub oldest_kept: Option<Timestamp>,
    pub limited: Duration,
}

/// Where an extraction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Where the last one stopped or ended.
    Onwards,
    /// At this time, whatever was fetched before.
    At(Timestamp),
}

impl Extraction {
    /// Fetches what there is, telling `observe` after each step. `None` while another process is at it.
    ///
    /// # Errors
    /// When the platform or the store does not answer. What was kept stays, and the next call goes on from there.
    pub async fn run(
        &self,
        begin: Begin,
        observe: impl FnMut(&ExtractionProgress) + Send,
    ) -> Result<Option<Extracted>, JobError> {
        let Some(held) = self.leases.take(JobName::Extract).await? else { return Ok(None) };
        // Boxed: requests and their answers make it large.
        Box::pin(held.during(self.extract(&held, begin, observe))).await.map(Some)
    }

    /// When the next regular run is due; `None` when it is already.
    async fn due_at(&self) -> Result<Option<Timestamp>, JobError> {
        let Some(position) = self.position().await? else { return Ok(None) };
        if position.outcome().is_none() {
            return Ok(None);
        }
        let due = position.window().to.checked_add(self.settings.every);
        Ok(due.ok().filter(|due| *due > self.leases.clock().now()))
    }

    async fn position(&self) -> Result<Option<Position>, JobError> {
        position::kept(&self.leases, self.source.name()).await
    }

    async fn begin(&self, begin: Begin) -> Result<Position, JobError> {
        let now = self.leases.clock().now();
        let from = match begin {
            Begin::At(from) => from,
            Begin::Onwards => {
                if let Some(position) = self.position().await? {
                    return Ok(position.following(now).unwrap_or(position));
                }
                let days = i64::from(self.settings.look_back_days);
                // Within the calendar: the look-back is ten years at most.
                now.checked_sub(jiff::SignedDuration::from_hours(HOURS_A_DAY * days)).unwrap_or(Timestamp::UNIX_EPOCH)
            }
        };
        Ok(Position::start(ExtractionWindow { from: from.min(now), to: now }))
    }

    async fn extract(
        &self,
        held: &HeldLease,
        begin: Begin,
        mut observe: impl FnMut(&ExtractionProgress) + Send,
    ) -> Result<Extracted, JobError> {
        let mut position = self.begin(begin).await?;
        let window = position.window();
        let limited_before = self.source.throttled();
        let limited = || self.source.throttled().saturating_sub(limited_before);
        tracing::info!(source = self.source.name(), from = %window.from, to = %window.to, "extraction begins");
        let mut pending = PendingBatch::default();
        let mut written = InteractionsWritten::default();
        loop {
            let step = match self.source.step(&position).await {
                Ok(step) => step,
                Err(err) => {
                    // What came before the failure is worth keeping.
                    self.keep(held, &position, &mut pending, &mut written).await?;
                    return Err(err.into());
                }
            };
            count(&step);
            let (done, wait) = (step.done.is_some(), step.wait);
            position = pending.take_in(step);
            if done || wait.is_some() || pending.is_enough() {
                self.keep(held, &position, &mut pending, &mut written).await?;
            }
            observe(&ExtractionProgress {
                phase: position.phase(),
                share: position.progress(),
                tally: position.totals().clone(),
                written,
                wait,
                limited: limited(),
            });
            if let Some(outcome) = position.outcome() {
                let missing = missing(&outcome.mismatches);
                let short_by_days = short_by(window, outcome.totals.oldest);
                let oldest_kept = self.leases.store().oldest_interaction().await?;
                let totals = outcome.totals;
                let extracted =
                    Extracted { window, totals, written, missing, short_by_days, oldest_kept, limited: limited() };
                extracted.report();
                return Ok(extracted);
            }
            if let Some(wait) = wait {
                sleep(wait).await;
            }
        }
    }

    /// Keeps what was fetched with where that leads to, in one transaction.
    async fn keep(
        &self,
        held: &HeldLease,
        position: &Position,
        pending: &mut PendingBatch,
        written: &mut InteractionsWritten,
    ) -> Result<(), JobError> {
        let source = self.source.name();
        let position = position::written(source, position)?;
        let batch = Batch {
            interactions: &pending.interactions,
            annotations: &pending.annotations,
            source,
            position: &position,
            at: self.leases.clock().now(),
            lease: Some(held.lease()),
        };
        written.add(self.leases.store().record(&batch).await?);
        *pending = PendingBatch::default();
        Ok(())
    }
}

impl Job for Extraction {
    fn name(&self) -> JobName {
        JobName::Extract
    }

    fn activate<'a>(&'a self, cause: Cause, progress: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
        Box::pin(async move {
            if cause == Cause::Timer
                && let Some(until) = self.due_at().await?
            {
                return Ok(JobEnd::Idle { until: Some(until) });
            }
            let observe = |seen: &ExtractionProgress| {
                progress.set("rows", seen.tally.rows);
                progress.set("requests", seen.tally.requests);
                progress.set("percent", (seen.share * 100.0) as u64);
                progress.set("new", seen.written.new);
                progress.set("changed", seen.written.changed);
                progress.set("limited_seconds", seen.limited.as_secs());
            };
            Ok(self.run(Begin::Onwards, observe).await?.map_or(JobEnd::Elsewhere, |_| JobEnd::Done))
        })
    }
}

/// What was fetched and is not kept yet.
struct PendingBatch {
    interactions: Vec<ExtractedInteraction>,
    annotations: Vec<Annotation>,
    requests: u64,
    since: Stopwatch,
}

impl Default for PendingBatch {
    fn default() -> Self {
        Self { interactions: Vec::new(), annotations: Vec::new(), requests: 0, since: Stopwatch::start() }
    }
}

impl PendingBatch {
    /// Annotations of a step are applied after all interactions of the batch: they are of interactions that came with
    /// them or before.
    fn take_in(&mut self, step: ExtractionStep) -> Position {
        self.requests += step.seen.tally.requests;
        self.interactions.extend(step.interactions);
        self.annotations.extend(step.annotations);
        step.position
    }

    fn is_enough(&self) -> bool {
        self.requests >= REQUESTS_AT_RISK
            || self.interactions.len() + self.annotations.len() >= ROWS_AT_ONCE
            || self.since.elapsed() >= KEPT_WITHIN
    }
}

impl InteractionsWritten {
    fn add(&mut self, recorded: RecordedCounts) {
        let RecordedCounts { new, changed, same, open, impossible, refused, unknown } = recorded;
        self.new += new;
        self.changed += changed;
        self.same += same;
        self.refused += refused;
        self.unknown += unknown;
        let results = [
            ("new", new),
            ("changed", changed),
            ("same", same),
            ("open", open),
            ("impossible", impossible),
            ("erased", refused),
            ("unknown_annotation", unknown),
        ];
        for (result, count) in results {
            counter!(INTERACTIONS, "result" => result).increment(count);
        }
    }
}

impl Extracted {
    fn report(&self) {
        let Self { window, totals, written, missing, short_by_days, oldest_kept, limited } = self;
        gauge!("scoreline_extract_hits_missing").set(*missing as f64);
        if let Some(oldest) = oldest_kept {
            gauge!("scoreline_extract_oldest_timestamp_seconds").set(oldest.as_second() as f64);
        }
        let oldest_kept = oldest_kept.map(|oldest| oldest.to_string());
        let limited_seconds = limited.as_secs();
        tracing::info!(
            from = %window.from, to = %window.to, rows = totals.rows, requests = totals.requests, limited_seconds,
            new = written.new, changed = written.changed, same = written.same, oldest_kept, "extraction is complete"
        );
        if *missing > 0 {
            let windows = totals.mismatched;
            tracing::warn!(
                missing,
                windows,
                "the platform counted more conversations than it gave; the next run reads those windows again"
            );
        }
        if let Some(days) = short_by_days {
            tracing::warn!(days, "the oldest conversation is later than the look-back: the platform may keep less");
        }
    }
}

/// Counts what did not become an interaction; what did is counted when it is kept.
fn count(step: &ExtractionStep) {
    let ExtractionTally { no_contact, other_media, open, malformed, .. } = step.seen.tally;
    let results = [("no_contact", no_contact), ("other_media", other_media), ("open", open), ("malformed", malformed)];
    for (result, count) in results {
        counter!(INTERACTIONS, "result" => result).increment(count);
    }
}

fn missing(mismatches: &[Mismatch]) -> u64 {
    mismatches.iter().map(|mismatch| mismatch.expected.saturating_sub(mismatch.read)).sum()
}

/// Only of windows that are long: that a day begins quietly says nothing.
fn short_by(window: ExtractionWindow, oldest: Option<Timestamp>) -> Option<u64> {
    let days = |from: Timestamp, to: Timestamp| to.duration_since(from).as_hours() / HOURS_A_DAY;
    let short = days(window.from, oldest?);
    (short >= SHORT_BY_DAYS && days(window.from, window.to) > 4 * SHORT_BY_DAYS).then_some(short.cast_unsigned())
}

const INTERACTIONS: &str = "scoreline_extract_interactions_total";

/// Tells the recorder what the metrics of extractions mean.
pub(super) fn describe() {
    describe_counter!(
        INTERACTIONS,
        "Conversations by what became of them: new, changed, same, or why they were left out."
    );
    describe_gauge!(
        "scoreline_extract_oldest_timestamp_seconds",
        "Start of the oldest conversation in the store, as of the last extraction."
    );
    describe_gauge!(
        "scoreline_extract_hits_missing",
        "Conversations that the platform counted and did not give in the last extraction."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + 86_400 * day).expect("in the calendar")
    }

    #[test]
    fn a_look_back_that_is_shorter_than_asked_is_told_and_a_quiet_week_is_not() {
        let year = ExtractionWindow { from: day(0), to: day(365) };
        assert_eq!(short_by(year, Some(day(275))), Some(275));
        assert_eq!(short_by(year, Some(day(3))), None);
        assert_eq!(short_by(year, None), None, "nothing at all is another matter");
        let increment = ExtractionWindow { from: day(0), to: day(10) };
        assert_eq!(short_by(increment, Some(day(9))), None);
    }

    #[test]
    fn what_the_platform_counted_and_did_not_give_adds_up() {
        let window = ExtractionWindow { from: day(0), to: day(1) };
        let mismatch = |expected, read| Mismatch { window, expected, read };
        assert_eq!(missing(&[mismatch(10, 7), mismatch(5, 6)]), 3);
    }
}
