//! The fresh tail, page by page. Pages of the platform's query move while they are read: rows repeat, others slip through
//! between two pages, totals change. So it is kept which conversations were seen, and a window is read again with other
//! pages until as many were seen as there are.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::annotations::Pending;
use super::record::{Conversation, RecordText};
use super::seen::Seen;
use super::{At, Gathered, PlatformHistory, Stage, after, before, days, halved, midnight, questions};
use crate::GenesysError;
use crate::source::{ExtractionWindow, Mismatch};
use crate::transport::{ApiOperation, Method};
use scoreline_domain::time::Timestamp;

/// Times that a window is read.
const PASSES: u32 = 8;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(500);
/// Conversations that ended later are left to the next extraction: their records are still being written.
const SETTLED: Duration = Duration::from_mins(1);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    pub(super) window: ExtractionWindow,
    /// The next page, from 1.
    page: u32,
    /// How many times the window was read before.
    pass: u32,
    /// `totalHits` in this pass: the least and the most.
    #[serde(default)]
    totals: Option<(u64, u64)>,
    /// Conversations that only this pass has found.
    fresh: u64,
    seen: Seen,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow, default)]
    conversations: Option<Vec<Conversation<'a>>>,
    #[serde(default)]
    total_hits: u64,
}

impl Tail {
    fn of(window: ExtractionWindow) -> Self {
        Self { window, page: 1, pass: 0, totals: None, fresh: 0, seen: Seen::default() }
    }

    /// Other pages in every pass, so that what falls between two does not do so every time.
    fn page_size(&self, full: u32) -> u32 {
        full - self.pass * 7 % (full / 2 + 1)
    }

    /// Whether this pass, which is over, was the last one; and what is missing.
    fn verdict(&self) -> TailVerdict {
        let (least, most) = self.totals.unwrap_or_default();
        let complete = self.seen.len() >= most;
        // A total that keeps moving is not reached for ever: what a whole pass adds nothing to is complete.
        let settled = self.seen.len() >= least && self.fresh == 0;
        if complete || settled {
            TailVerdict::Complete
        } else if self.pass + 1 < PASSES {
            TailVerdict::Again
        } else if self.seen.len() >= least {
            TailVerdict::Complete
        } else {
            TailVerdict::Short { expected: least }
        }
    }
}

#[derive(Debug, PartialEq)]
enum TailVerdict {
    Complete,
    Again,
    Short { expected: u64 },
}

impl PlatformHistory {
    /// The first window of the tail.
    pub(super) fn tail_from(&self, stage: &Stage, window: ExtractionWindow) -> At {
        let from = midnight(before(stage.watermark, self.settings.look_back)).max(midnight(window.from));
        self.tail_window(from, stage, window)
    }

    fn tail_window(&self, from: Timestamp, stage: &Stage, window: ExtractionWindow) -> At {
        // From the window, not from the clock: an end that moves on while it is read is never reached.
        let end = before(window.to, SETTLED);
        if from >= end || window.to <= stage.watermark {
            return At::End;
        }
        let to = after(from, days(self.settings.query_window_days)).min(end);
        At::Tail(Tail::of(ExtractionWindow { from, to }))
    }

    pub(super) async fn tail_page(
        &self,
        stage: &Stage,
        tail: &Tail,
        window: ExtractionWindow,
        gathered: &mut Gathered,
    ) -> Result<Stage, GenesysError> {
        let path = ["analytics", "conversations", "details", "query"];
        let size = tail.page_size(self.settings.query_page_size);
        let body = Some(questions::query(tail.window, tail.page, size));
        let answer = match self.ask(ApiOperation::Query, Method::POST, &path, &[], body, gathered).await {
            Ok(answer) => answer,
            Err(err) if err.asks_for_less() => {
                let smaller = halved(tail.window).ok_or(err)?;
                gathered.tally.halved += 1;
                return Ok(Stage { at: At::Tail(Tail::of(smaller)), ..stage.clone() });
            }
            Err(err) => return Err(err),
        };
        let page: Page<'_> = answer.json()?;
        let rows = page.conversations.as_deref().unwrap_or_default();
        let mut tail = tail.clone();
        let mut pending = Pending::default();
        let fresh_before = tail.fresh;
        for row in rows {
            let new = row.id.as_ref().map(RecordText::as_str).is_some_and(|id| tail.seen.add(id));
            tail.fresh += u64::from(new);
            let Some(extracted) = row.extract(&self.identity, &mut gathered.tally) else { continue };
            if new {
                pending.add(row, &extracted.interaction);
            }
            gathered.interactions.push(extracted);
        }
        gathered.total_hits = Some(page.total_hits);
        let (least, most) = tail.totals.unwrap_or((page.total_hits, page.total_hits));
        let (least, most) = (least.min(page.total_hits), most.max(page.total_hits));
        tail.totals = Some((least, most));
        let was_last = u64::from(tail.page) * u64::from(size) >= most;
        // Rows that were pushed back stand behind the last page there should be.
        let is_complete = tail.seen.len() >= most || tail.fresh == fresh_before;
        let over = rows.is_empty() || was_last && is_complete;
        tail.page += 1;
        let at = if over { self.end_of_pass(stage, tail, window, gathered) } else { At::Tail(tail) };
        Ok(Stage { at, pending: pending.unless_empty(), ..stage.clone() })
    }

    fn end_of_pass(&self, stage: &Stage, tail: Tail, window: ExtractionWindow, gathered: &mut Gathered) -> At {
        match tail.verdict() {
            TailVerdict::Complete => {}
            TailVerdict::Again => {
                gathered.tally.read_again += 1;
                gathered.wait = Some(PAUSE);
                return At::Tail(Tail { page: 1, pass: tail.pass + 1, totals: None, fresh: 0, ..tail });
            }
            TailVerdict::Short { expected } => {
                let read = tail.seen.len();
                warn!(expected, read, "a window has fewer conversations than the platform said");
                gathered.tally.mismatched += 1;
                gathered.mismatch = Some(Mismatch { window: tail.window, expected, read });
            }
        }
        self.tail_window(tail.window.to, stage, window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(pass: u32, seen: u64, fresh: u64, totals: (u64, u64)) -> Tail {
        let window = ExtractionWindow { from: Timestamp::UNIX_EPOCH, to: Timestamp::UNIX_EPOCH };
        let mut tail = Tail { pass, fresh, totals: Some(totals), ..Tail::of(window) };
        for number in 0..seen {
            tail.seen.add(&number.to_string());
        }
        tail
    }

    #[test]
    fn a_window_is_read_until_it_adds_up() {
        assert_eq!(tail(0, 10, 10, (10, 10)).verdict(), TailVerdict::Complete);
        assert_eq!(tail(0, 9, 9, (10, 10)).verdict(), TailVerdict::Again);
        assert_eq!(tail(1, 10, 1, (10, 14)).verdict(), TailVerdict::Again, "the total moved and something was new");
        assert_eq!(tail(2, 10, 0, (10, 14)).verdict(), TailVerdict::Complete, "nothing was new");
        assert_eq!(tail(7, 9, 0, (10, 10)).verdict(), TailVerdict::Short { expected: 10 });
        assert_eq!(tail(0, 0, 0, (0, 0)).verdict(), TailVerdict::Complete);
    }

    #[test]
    fn every_pass_has_other_pages() {
        for full in [1, 2, 10, 100, 1000] {
            let sizes: Vec<_> = (0..PASSES).map(|pass| tail(pass, 0, 0, (0, 0)).page_size(full)).collect();
            assert!(sizes.iter().all(|size| (1..=full).contains(size)), "{sizes:?}");
            assert!(full < 10 || sizes[0] != sizes[1], "{sizes:?}");
        }
    }
}
