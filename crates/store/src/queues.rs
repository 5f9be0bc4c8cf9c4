//! Sentiment by queue, in a window before a time: what stands in for customers who were never scored.

use super::Store;
use super::db::Arg;
use super::error::StoreError;
use super::labels::label;
use super::record::sentiment;
use super::time;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{LabelId, Sentiment};

/// The scored interactions of a queue in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueTotal {
    pub queue: LabelId,
    pub scored: u64,
    /// Sum of their sentiment in millionths. Whole: it does not depend on the order.
    pub sum_millionths: i64,
}

/// One scored interaction of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoredInteraction {
    pub end: Timestamp,
    pub queue: LabelId,
    pub sentiment: Sentiment,
}

impl Store {
    /// Sums over the scored interactions that ended by `as_of` and began after `since`, by queue. Read from an index of the
    /// scored ones alone.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn queue_sums(&self, as_of: Timestamp, since: Timestamp) -> Result<Vec<QueueTotal>, StoreError> {
        // Who began after it ended after it too, which the index knows first.
        const SUM: &str = "SELECT queue, COUNT(*), CAST(SUM(sentiment) AS BIGINT) FROM interactions \
                           WHERE sentiment IS NOT NULL AND queue IS NOT NULL AND end_ms > $2 AND end_ms <= $1 \
                           AND start_ms > $2 GROUP BY queue ORDER BY queue";
        let mut tx = self.read("read").await?;
        let rows = tx.rows(SUM, &[Arg::Int(as_of.as_millisecond()), Arg::Int(since.as_millisecond())]).await?;
        let sum = |row: &super::db::DbRow| {
            Ok(QueueTotal {
                queue: label(row.int(0)?)?,
                scored: row.int(1)?.cast_unsigned(),
                sum_millionths: row.int(2)?,
            })
        };
        rows.iter().map(sum).collect()
    }

    /// Scored interactions that ended after `after` (from the first one when absent), in the order of their end: at least
    /// `least` of them unless there are fewer, and all that ended in the same millisecond as the last. The next page is
    /// after that end; an empty page is the last.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn scored_interactions(
        &self,
        after: Option<Timestamp>,
        least: usize,
    ) -> Result<Vec<ScoredInteraction>, StoreError> {
        const PAGE: &str = "SELECT end_ms, queue, sentiment FROM interactions \
                            WHERE sentiment IS NOT NULL AND queue IS NOT NULL AND end_ms > $1 \
                            ORDER BY end_ms LIMIT $2";
        const TIES: &str = "SELECT end_ms, queue, sentiment FROM interactions \
                            WHERE sentiment IS NOT NULL AND queue IS NOT NULL AND end_ms = $1";
        let mut tx = self.read("read").await?;
        let after = after.map_or(i64::MIN, Timestamp::as_millisecond);
        let least = i64::try_from(least.max(1)).unwrap_or(i64::MAX);
        let mut rows = tx.rows(PAGE, &[Arg::Int(after), Arg::Int(least)]).await?;
        if let Some(last) = rows.last().map(|row| row.int(0)).transpose()? {
            while rows.last().map(|row| row.int(0)).transpose()? == Some(last) {
                rows.pop();
            }
            rows.extend(tx.rows(TIES, &[Arg::Int(last)]).await?);
        }
        let scored = |row: &super::db::DbRow| {
            Ok(ScoredInteraction {
                end: time(row.int(0)?, "interactions.end_ms")?,
                queue: label(row.int(1)?)?,
                sentiment: sentiment(row.int(2)?)?,
            })
        };
        rows.iter().map(scored).collect()
    }
}
