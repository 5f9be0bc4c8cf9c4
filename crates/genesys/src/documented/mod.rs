//! The history as the guides describe it: `GET /api/v2/analytics/interactionhistory`, 100 a page, newest first, until a
//! page is short. The real platform has no such endpoint; something in front of it may.
//!
//! New interactions push older ones to later pages while they are read: those come twice, and none is missed.

mod record;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::warn;

use super::GenesysError;
use super::identity::Identity;
use super::settings::GenesysSettings;
use super::source::{
    self, ExtractionStep, ExtractionTally, ExtractionWindow, HistorySource, Mismatch, Position, Reach, StepReport,
};
use super::transport::{ApiOperation, Method, PATIENT, Request, Transport};
use record::Page;
use scoreline_domain::time::{Clock, Timestamp};

const PAGE_SIZE: u32 = 100;
const DAY_S: i64 = 86_400;

/// The page that is read next, and what the pages before it said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stage {
    page: u32,
    /// Days back from now, as of the beginning.
    days: i64,
    read: u64,
    #[serde(default)]
    total: Option<u64>,
    #[serde(default)]
    open_since: Option<Timestamp>,
}

impl Stage {
    /// By rows, when the total is told.
    pub(super) fn progress(&self) -> f64 {
        self.total.map_or(0.0, |total| (self.read as f64 / total.max(1) as f64).min(1.0))
    }
}

/// `HistorySource` of the guides.
pub(super) struct DocumentedHistory {
    transport: Arc<Transport>,
    settings: Arc<GenesysSettings>,
    identity: Identity,
    clock: Arc<dyn Clock>,
}

impl HistorySource for DocumentedHistory {
    fn step<'a>(&'a self, position: &'a Position) -> BoxFuture<'a, Result<ExtractionStep, GenesysError>> {
        self.take_step(position).boxed()
    }

    fn name(&self) -> &'static str {
        "documented"
    }

    fn throttled(&self) -> Duration {
        self.transport.pace.throttled()
    }
}

impl DocumentedHistory {
    pub(super) fn new(
        transport: Arc<Transport>,
        settings: Arc<GenesysSettings>,
        identity: Identity,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { transport, settings, identity, clock }
    }

    async fn take_step(&self, position: &Position) -> Result<ExtractionStep, GenesysError> {
        let window = position.window;
        let stage = match &position.stage {
            source::Stage::Begin => self.begin(window),
            source::Stage::Documented(stage) => stage.clone(),
            source::Stage::Done(_) => {
                return Ok(ExtractionStep {
                    interactions: Vec::new(),
                    annotations: Vec::new(),
                    done: position.outcome(),
                    position: position.clone(),
                    wait: None,
                    seen: StepReport::default(),
                });
            }
            source::Stage::Platform(_) => return Err(GenesysError::ForeignPosition { source_name: self.name() }),
        };
        let page_number = stage.page.to_string();
        let page_size = PAGE_SIZE.to_string();
        let answer = self
            .transport
            .call(&Request {
                operation: ApiOperation::History,
                method: Method::GET,
                path: &["analytics", "interactionhistory"],
                query: &[("page", &page_number), ("pageSize", &page_size)],
                body: Some(question(&stage)),
                attempts: PATIENT,
            })
            .await?;
        let page: Page<'_> = answer.json()?;
        let rows = page.rows();
        let mut tally = ExtractionTally { requests: u64::from(answer.attempts), ..ExtractionTally::default() };
        let interactions = rows.iter().filter_map(|row| row.extract(&self.identity, &mut tally)).collect();
        let open = rows.iter().filter_map(record::Row::open_since).min();
        let stage = Stage {
            page: stage.page + 1,
            days: stage.days,
            read: stage.read + rows.len() as u64,
            total: page.total.or(stage.total),
            open_since: stage.open_since.into_iter().chain(open).min(),
        };
        let is_short = rows.len() < PAGE_SIZE as usize && stage.total.is_none_or(|total| stage.read >= total);
        let mut seen = StepReport { tally, total_hits: page.total, mismatch: None };
        let next = if rows.is_empty() || is_short {
            seen.mismatch = mismatch(&stage, window);
            seen.tally.mismatched += u64::from(seen.mismatch.is_some());
            source::Stage::Done(self.reach(&stage, window, seen.mismatch.is_some()))
        } else {
            source::Stage::Documented(stage)
        };
        let mut position = Position { stage: next, ..position.clone() };
        position.note(&seen);
        Ok(ExtractionStep {
            interactions,
            annotations: Vec::new(),
            done: position.outcome(),
            position,
            wait: None,
            seen,
        })
    }

    fn begin(&self, window: ExtractionWindow) -> Stage {
        let seconds = self.clock.now().as_second() - window.from.as_second();
        // Whole days, upwards.
        let days = (seconds.max(1) + DAY_S - 1) / DAY_S;
        Stage { page: 1, days, read: 0, total: None, open_since: None }
    }

    /// The next extraction begins with the oldest interaction that goes on, or with all of this window again when it did
    /// not add up.
    fn reach(&self, stage: &Stage, window: ExtractionWindow, short: bool) -> Reach {
        let usual = window.to.checked_sub(self.settings.look_back).unwrap_or(window.from);
        let resume_from = if short { window.from } else { stage.open_since.map_or(usual, |open| open.min(usual)) };
        Reach { watermark: window.to, resume_from }
    }
}

fn mismatch(stage: &Stage, window: ExtractionWindow) -> Option<Mismatch> {
    let expected = stage.total.filter(|total| stage.read < *total)?;
    warn!(expected, read = stage.read, "the history has fewer interactions than it said");
    Some(Mismatch { window, expected, read: stage.read })
}

/// The guide's payload.
fn question(stage: &Stage) -> Vec<u8> {
    let of_type = |name: &str| json!({ "field": "interactionType", "operator": "EQ", "value": name });
    let types = ["Call", "Chat", "Email"].map(of_type);
    json!({
        "pageSize": PAGE_SIZE,
        "page": stage.page,
        "sortOrder": "DESCENDING",
        "sortBy": "startTime",
        "dateRange": { "type": "Relative", "relativeTimeUnit": "Days", "relativeTimeValue": stage.days },
        "filterExpression": { "type": "OR", "filters": types },
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_the_guides_payload() {
        let stage = Stage { page: 3, days: 365, read: 200, total: None, open_since: None };
        let asked: serde_json::Value = serde_json::from_slice(&question(&stage)).expect("JSON");
        assert_eq!(asked["pageSize"], 100);
        assert_eq!(asked["page"], 3);
        let range = json!({ "type": "Relative", "relativeTimeUnit": "Days", "relativeTimeValue": 365 });
        assert_eq!(asked["dateRange"], range);
        assert_eq!(asked["filterExpression"]["filters"][1]["value"], "Chat");
    }
}
