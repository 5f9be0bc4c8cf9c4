//! Conversation details: the query, the jobs, and conversations by id.

mod filter;
mod jobs;
mod query;

use std::ops::RangeInclusive;
use std::time::Duration;

use super::answer::Refusal;
use super::book::{ConversationBook, ConversationRecord, ConversationRef, DayEntry};
use super::moment::{DAY_MS, Moment};
use super::wire;
use scoreline_domain::time::Timestamp;

pub(super) use jobs::{DetailsJobs, availability, delete, results, start, status};
pub(super) use query::{by_id, by_ids, query};

use filter::Filter;
use serde::Deserialize;

/// What a query and a job have in common.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    interval: String,
    #[serde(default)]
    order: Order,
    #[serde(default)]
    order_by: OrderBy,
    #[serde(default)]
    conversation_filters: Vec<Filter>,
    #[serde(default)]
    segment_filters: Vec<Filter>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Asc,
    Desc,
    Unordered,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum OrderBy {
    #[default]
    ConversationStart,
    ConversationEnd,
    SegmentStart,
    SegmentEnd,
}

/// Start and end of an interval as the platform takes it.
pub(super) fn interval(text: &str, longest: Duration) -> Result<(Moment, Moment), Refusal> {
    let bounds = text.split_once('/').and_then(|(from, to)| {
        let moment = |text: &str| text.parse::<Timestamp>().ok().map(Moment::from);
        Some((moment(from)?, moment(to)?))
    });
    let (from, to) = bounds.ok_or_else(|| Refusal::bad(format!("interval must be two ISO-8601 dates, got {text}")))?;
    if to <= from {
        return Err(Refusal::bad("interval must end after its start"));
    }
    if Duration::from_millis((to.0 - from.0) as u64) > longest {
        let days = longest.as_millis() as i64 / DAY_MS;
        return Err(Refusal::bad(format!("interval must not be longer than {days} days")));
    }
    Ok((from, to))
}

/// The days that an interval touches. Its end is not part of it.
fn days(from: Moment, to: Moment) -> RangeInclusive<i64> {
    from.day()..=Moment(to.0 - 1).day()
}

impl Wanted {
    /// The conversations that were there at `as_of`, in the order that was asked for.
    fn find(&self, book: &ConversationBook, longest: Duration, as_of: i64) -> Result<Vec<DayEntry>, Refusal> {
        let (from, to) = interval(&self.interval, longest)?;
        for filter in &self.conversation_filters {
            filter.check(filter::CONVERSATION)?;
        }
        for filter in &self.segment_filters {
            filter.check(filter::SEGMENT)?;
        }
        let mut entries = book.entries(days(from, to), as_of);
        let filters: Vec<&Filter> = self.conversation_filters.iter().chain(&self.segment_filters).collect();
        if !filters.is_empty() {
            entries.retain(|entry| {
                let candidate = filter::FilterCandidate::new(book, entry, as_of);
                filters.iter().all(|filter| filter.holds(&candidate))
            });
        }
        match self.order_by {
            OrderBy::ConversationEnd | OrderBy::SegmentEnd => {
                // The open ones are last, whenever they will end.
                let end = |entry: &DayEntry| if entry.end <= as_of { entry.end } else { i64::MAX };
                entries.sort_by_key(end);
            }
            OrderBy::ConversationStart | OrderBy::SegmentStart => {}
        }
        match self.order {
            Order::Desc => entries.reverse(),
            Order::Asc | Order::Unordered => {}
        }
        Ok(entries)
    }
}

/// Writes a conversation as it was at `as_of`.
fn write(out: &mut Vec<u8>, record: &ConversationRecord, as_of: i64, attributes: bool) {
    match record {
        // Into memory, and nothing in it can fail to be written.
        ConversationRecord::Made(facts) => {
            drop(serde_json::to_writer(out, &wire::conversation(facts, as_of, attributes)));
        }
        ConversationRecord::Recorded(recorded) => out.extend_from_slice(recorded.json_as_of(as_of).as_bytes()),
    }
}

/// Writes `"conversations":[…]`.
fn write_all(
    out: &mut Vec<u8>,
    book: &ConversationBook,
    page: impl Iterator<Item = ConversationRef>,
    as_of: i64,
    attributes: bool,
) {
    out.extend_from_slice(b"\"conversations\":[");
    for (position, reference) in page.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write(out, &book.record(reference), as_of, attributes);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_touches_whole_days_without_its_end() {
        let longest = Duration::from_hours(48);
        let touched = |text| interval(text, longest).map(|(from, to)| days(from, to));
        let day = 20_776;
        assert_eq!(touched("2026-11-19T00:00:00.000Z/2026-11-20T00:00:00.000Z").expect("valid"), day..=day);
        assert_eq!(touched("2026-11-19T23:59:00Z/2026-11-20T00:00:00.001Z").expect("valid"), day..=day + 1);
        assert_eq!(touched("2026-11-19T01:00:00+02:00/2026-11-19T02:00:00Z").expect("valid"), day - 1..=day);
        for wrong in
            ["", "2026-11-19", "2026-11-20T00:00:00Z/2026-11-19T00:00:00Z", "2026-11-19T00:00:00Z/2026-11-22T00:00:00Z"]
        {
            assert_eq!(touched(wrong).expect_err(wrong).status.as_u16(), 400);
        }
    }
}
