//! The seam between the platform and whoever extracts from it: a position in the history, and a step from there to the
//! next. Owns the types that cross it; knows no endpoint.
//!
//! The loop of an extraction is: load the position, `step`, keep what the step brought together with its position in one
//! transaction, wait if it says so, repeat until `done`. A process that is killed anywhere resumes from the position it
//! kept last and ends with the same set of interactions; some may be brought twice.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::GenesysError;
use crate::{documented, platform};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{Annotation, ExtractedInteraction};

/// Mismatches that are told in full; more are only counted.
const MISMATCHES: usize = 20;

/// A history that is read step by step.
pub trait HistorySource: Send + Sync {
    /// Goes on from a position: a few requests at most.
    ///
    /// # Errors
    /// When the platform refuses, or does not answer after all retries. The position stays good: the same step may be
    /// tried again later when `GenesysError::passes`.
    fn step<'a>(&'a self, position: &'a Position) -> BoxFuture<'a, Result<ExtractionStep, GenesysError>>;

    /// `platform` or `documented`: what a stored position belongs to.
    fn name(&self) -> &'static str;

    /// How long this process's requests have waited for the rate limit so far.
    fn throttled(&self) -> Duration;
}

/// Interactions that started from `from` up to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractionWindow {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// Where an extraction stands: serialised into the store with the rows it brought. Holds no customer's name: job and
/// cursor, pages and totals, conversation ids of at most one page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    pub(super) window: ExtractionWindow,
    pub(super) stage: Stage,
    #[serde(default)]
    pub(super) tally: ExtractionTally,
    #[serde(default)]
    pub(super) mismatches: Vec<Mismatch>,
}

/// What is done next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Begin,
    Platform(platform::Stage),
    Documented(documented::Stage),
    Done(Reach),
}

/// How far a finished extraction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reach {
    pub(super) watermark: Timestamp,
    pub(super) resume_from: Timestamp,
}

impl Position {
    pub fn start(window: ExtractionWindow) -> Self {
        Self { window, stage: Stage::Begin, tally: ExtractionTally::default(), mismatches: Vec::new() }
    }

    pub fn window(&self) -> ExtractionWindow {
        self.window
    }

    /// The extraction after this one, up to `to`; `None` while this one is not done.
    pub fn following(&self, to: Timestamp) -> Option<Self> {
        let Stage::Done(reach) = &self.stage else { return None };
        let window = ExtractionWindow { from: reach.resume_from.min(to), to };
        Some(Self::start(window))
    }

    /// What this extraction ended with; `None` while it goes on.
    pub fn outcome(&self) -> Option<ExtractionOutcome> {
        let Stage::Done(reach) = &self.stage else { return None };
        Some(ExtractionOutcome {
            watermark: reach.watermark,
            resume_from: reach.resume_from,
            totals: self.tally.clone(),
            mismatches: self.mismatches.clone(),
        })
    }

    /// What is being done, for people: `begin`, `jobs`, `annotations`, `tail`, `pages` or `done`.
    pub fn phase(&self) -> &'static str {
        match &self.stage {
            Stage::Begin => "begin",
            Stage::Platform(stage) => stage.phase(),
            Stage::Documented(_) => "pages",
            Stage::Done(_) => "done",
        }
    }

    /// How much of the window is done, from 0 to 1, by its time: interactions are not counted before they are read.
    pub fn progress(&self) -> f64 {
        match &self.stage {
            Stage::Begin => 0.0,
            Stage::Platform(stage) => self.window.share_before(stage.reached(self.window)),
            Stage::Documented(stage) => stage.progress(),
            Stage::Done(_) => 1.0,
        }
    }

    /// Totals of this extraction so far.
    pub fn totals(&self) -> &ExtractionTally {
        &self.tally
    }

    pub(super) fn note(&mut self, report: &StepReport) {
        self.tally.add(&report.tally);
        if let Some(mismatch) = report.mismatch {
            self.mismatches.push(mismatch);
            self.mismatches.truncate(MISMATCHES);
        }
    }
}

impl ExtractionWindow {
    fn share_before(&self, time: Timestamp) -> f64 {
        let whole = (self.to.as_millisecond() - self.from.as_millisecond()) as f64;
        let done = (time.as_millisecond() - self.from.as_millisecond()) as f64;
        if whole > 0.0 { (done / whole).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// What a step brought.
#[derive(Clone, Debug)]
pub struct ExtractionStep {
    /// May repeat what an earlier step or run brought: the newest version of an id counts. A repeated interaction comes
    /// without sentiment, which must not erase what an annotation said.
    pub interactions: Vec<ExtractedInteraction>,
    /// To be applied after the interactions of the same step. For ids that are not in the store: to be ignored.
    pub annotations: Vec<Annotation>,
    /// To be stored in the same transaction.
    pub position: Position,
    pub done: Option<ExtractionOutcome>,
    /// How long to wait before the next step: a job is being worked on.
    pub wait: Option<Duration>,
    pub seen: StepReport,
}

/// What one step saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepReport {
    pub tally: ExtractionTally,
    /// What the platform said of the window it answered for.
    pub total_hits: Option<u64>,
    pub mismatch: Option<Mismatch>,
}

/// Counts of a step, or of all steps of an extraction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtractionTally {
    /// Requests that were sent, retries included.
    pub requests: u64,
    /// Conversations read, repeated ones included.
    pub rows: u64,
    /// Of those, the ones that became interactions.
    pub kept: u64,
    /// Left out because nobody is known to have been the customer (an unidentified or short-lived contact).
    pub no_contact: u64,
    /// Left out because the customer used none of our channels (video, screen sharing).
    pub other_media: u64,
    /// Left out because they had not ended.
    pub open: u64,
    /// Left out because they had no id or no readable times.
    pub malformed: u64,
    pub annotations: u64,
    /// Jobs that expired or failed and were submitted again.
    pub resubmitted: u64,
    /// Windows whose pages moved while they were read, and which were read again.
    pub read_again: u64,
    /// Windows that were halved because the platform would not answer for all of them.
    pub halved: u64,
    /// Windows that ended with another number of interactions than the platform said.
    pub mismatched: u64,
    /// When the oldest conversation started: a retention period may be shorter than the look-back.
    pub oldest: Option<Timestamp>,
}

impl ExtractionTally {
    /// Counts `other` in.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.rows += other.rows;
        self.kept += other.kept;
        self.no_contact += other.no_contact;
        self.other_media += other.other_media;
        self.open += other.open;
        self.malformed += other.malformed;
        self.annotations += other.annotations;
        self.resubmitted += other.resubmitted;
        self.read_again += other.read_again;
        self.halved += other.halved;
        self.mismatched += other.mismatched;
        self.oldest = match (self.oldest, other.oldest) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.or(another),
        };
    }
}

/// A window that did not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    pub window: ExtractionWindow,
    /// `totalHits`, as the platform said last.
    pub expected: u64,
    /// Conversations that were read.
    pub read: u64,
}

/// How an extraction ended.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtractionOutcome {
    /// Everything that ended before was there to be read.
    pub watermark: Timestamp,
    /// Where the next extraction begins: the watermark and a look-back, or earlier when a window did not add up.
    pub resume_from: Timestamp,
    pub totals: ExtractionTally,
    pub mismatches: Vec<Mismatch>,
}
