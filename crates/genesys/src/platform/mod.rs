//! The platform's real history: jobs for what its data lake holds, queries for the fresh tail, aggregates for sentiment
//! and topics.
//!
//! An extraction asks up to when jobs see everything (the watermark) and reads its window up to there in job spans, each
//! followed by the annotations of its time. Then it reads the tail page by page, from a look-back before the watermark to
//! now. The next extraction begins a look-back before the watermark, or with the oldest conversation that was still open
//! then: what is missed in the tail, or goes on for days, is brought by its jobs.
//!
//! The platform matches whole days: a window brings what started on any day it touches. So windows begin at midnight UTC,
//! overlap where they meet, and bring some conversations twice.
//!
//! Jobs are cut by the day conversations *started*, because that is how the platform matches intervals: one that ran
//! for days would never be seen otherwise. Sentiment and topics come by aggregates in bulk, by conversation only for
//! the few.

mod annotations;
mod jobs;
mod questions;
mod record;
mod seen;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::GenesysError;
use super::identity::Identity;
use super::settings::GenesysSettings;
use super::source::{
    ExtractionStep, ExtractionTally, ExtractionWindow, HistorySource, Mismatch, Position, Reach, StepReport,
};
use super::transport::{ApiAnswer, ApiOperation, Method, PATIENT, Request, Transport};
use annotations::Pending;
use jobs::Job;
use scoreline_domain::time::{Clock, Timestamp};
use scoreline_domain::{Annotation, ExtractedInteraction};
use tail::Tail;

/// Aggregates of analysed conversations are asked for with this much time around them.
const MARGIN: Duration = Duration::from_mins(10);
/// The first length of a bulk question for annotations.
const ANNOTATED_AT_ONCE: Duration = Duration::from_hours(7 * 24);

/// Where an extraction stands, see the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stage {
    watermark: Timestamp,
    /// Bulk questions for annotations are this long; halved when the platform does not answer so much at once.
    annotated_at_once: u64,
    /// The oldest conversation that was open at the watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open_since: Option<Timestamp>,
    /// Conversations of the page before that have to be annotated first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Pending>,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    /// A job for this span is submitted next, after so many that came to nothing.
    Submit {
        span: ExtractionWindow,
        lost: u32,
    },
    /// A job is being worked on, or its results are read.
    Job(Job),
    /// Annotations from `from` on, of the job's span.
    Annotations {
        span: ExtractionWindow,
        from: Timestamp,
    },
    Tail(Tail),
    End,
}

impl Stage {
    pub(super) fn phase(&self) -> &'static str {
        match &self.at {
            At::Submit { .. } | At::Job(_) => "jobs",
            At::Annotations { .. } => "annotations",
            At::Tail(_) | At::End => "tail",
        }
    }

    /// The time up to which the window is done.
    pub(super) fn reached(&self, window: ExtractionWindow) -> Timestamp {
        match &self.at {
            At::Submit { span, .. } | At::Job(Job { span, .. }) | At::Annotations { span, .. } => span.from,
            At::Tail(tail) => tail.window.from.max(self.watermark.min(window.to)),
            At::End => window.to,
        }
    }
}

/// What one step has gathered so far.
#[derive(Default)]
struct Gathered {
    interactions: Vec<ExtractedInteraction>,
    annotations: Vec<Annotation>,
    tally: ExtractionTally,
    total_hits: Option<u64>,
    mismatch: Option<Mismatch>,
    wait: Option<Duration>,
    open_since: Option<Timestamp>,
}

/// `HistorySource` of the platform.
pub(super) struct PlatformHistory {
    transport: Arc<Transport>,
    settings: Arc<GenesysSettings>,
    identity: Identity,
    clock: Arc<dyn Clock>,
}

/// What a step ends with.
enum Next {
    Stage(Stage),
    Done(Reach),
}

impl HistorySource for PlatformHistory {
    fn step<'a>(&'a self, position: &'a Position) -> BoxFuture<'a, Result<ExtractionStep, GenesysError>> {
        self.take_step(position).boxed()
    }

    fn name(&self) -> &'static str {
        "platform"
    }

    fn throttled(&self) -> Duration {
        self.transport.pace.throttled()
    }
}

impl PlatformHistory {
    pub(super) fn new(
        transport: Arc<Transport>,
        settings: Arc<GenesysSettings>,
        identity: Identity,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { transport, settings, identity, clock }
    }

    async fn take_step(&self, position: &Position) -> Result<ExtractionStep, GenesysError> {
        use super::source::Stage as Of;
        let window = position.window;
        let mut gathered = Gathered::default();
        let next = match &position.stage {
            Of::Begin => Next::Stage(self.begin(window, &mut gathered).await?),
            Of::Platform(stage) => self.advance(stage, window, &mut gathered).await?,
            Of::Done(reach) => Next::Done(*reach),
            Of::Documented(_) => return Err(GenesysError::ForeignPosition { source_name: self.name() }),
        };
        gathered.tally.annotations += gathered.annotations.len() as u64;
        let seen = StepReport { tally: gathered.tally, total_hits: gathered.total_hits, mismatch: gathered.mismatch };
        let mut position = Position {
            stage: match next {
                Next::Stage(stage) => Of::Platform(stage),
                Next::Done(reach) => Of::Done(reach),
            },
            ..position.clone()
        };
        position.note(&seen);
        Ok(ExtractionStep {
            interactions: gathered.interactions,
            annotations: gathered.annotations,
            done: position.outcome(),
            position,
            wait: gathered.wait,
            seen,
        })
    }

    async fn begin(&self, window: ExtractionWindow, gathered: &mut Gathered) -> Result<Stage, GenesysError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Availability {
            data_availability_date: Timestamp,
        }
        let path = ["analytics", "conversations", "details", "jobs", "availability"];
        let answer = self.ask(ApiOperation::Availability, Method::GET, &path, &[], None, gathered).await?;
        let watermark = answer.json::<Availability>()?.data_availability_date.min(window.to);
        let annotated_at_once = ANNOTATED_AT_ONCE.as_secs();
        let stage = Stage { watermark, annotated_at_once, open_since: None, pending: None, at: At::End };
        Ok(Stage { at: self.jobs_from(midnight(window.from), &stage, window), ..stage })
    }

    async fn advance(
        &self,
        stage: &Stage,
        window: ExtractionWindow,
        gathered: &mut Gathered,
    ) -> Result<Next, GenesysError> {
        if let Some(pending) = &stage.pending {
            let left = self.annotate_pending(pending, gathered).await?;
            return Ok(Next::Stage(Stage { pending: left, ..stage.clone() }));
        }
        let next = match &stage.at {
            At::Submit { span, lost } => self.submit(stage, *span, *lost, gathered).await?,
            At::Job(job) => self.work_on(stage, job, gathered).await?,
            At::Annotations { span, from } => self.annotate(stage, *span, *from, window, gathered).await?,
            At::Tail(tail) => self.tail_page(stage, tail, window, gathered).await?,
            At::End => {
                let usual = before(stage.watermark, self.settings.look_back);
                let resume_from = stage.open_since.map_or(usual, |open| open.min(usual));
                return Ok(Next::Done(Reach { watermark: stage.watermark, resume_from }));
            }
        };
        let open_since = stage.open_since.into_iter().chain(gathered.open_since).min();
        Ok(Next::Stage(Stage { open_since, ..next }))
    }

    /// The job span that begins at `from`, or the tail when the data lake holds nothing from there on.
    fn jobs_from(&self, from: Timestamp, stage: &Stage, window: ExtractionWindow) -> At {
        if from >= stage.watermark {
            return self.tail_from(stage, window);
        }
        let to = after(from, days(self.settings.job_window_days)).min(stage.watermark);
        At::Submit { span: ExtractionWindow { from, to }, lost: 0 }
    }

    /// One request.
    async fn ask(
        &self,
        operation: ApiOperation,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
        gathered: &mut Gathered,
    ) -> Result<ApiAnswer, GenesysError> {
        let request = Request { operation, method, path, query, body, attempts: PATIENT };
        let answer = self.transport.call(&request).await?;
        gathered.tally.requests += u64::from(answer.attempts);
        Ok(answer)
    }
}

/// The first half of a span that was too much to ask for, in whole days; `None` when it is one day already.
fn halved(span: ExtractionWindow) -> Option<ExtractionWindow> {
    let seconds = span.to.as_second() - span.from.as_second();
    let half = u32::try_from(seconds / DAY_S / 2).unwrap_or(0).max(1);
    (seconds > DAY_S).then(|| ExtractionWindow { from: span.from, to: after(span.from, days(half)) })
}

const DAY_S: i64 = 86_400;

fn days(days: u32) -> Duration {
    Duration::from_hours(24) * days
}

/// The last midnight, UTC.
fn midnight(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().div_euclid(DAY_S) * DAY_S).unwrap_or(at)
}

fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn before(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}
