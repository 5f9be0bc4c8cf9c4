//! Contact-centre interactions to features, as of a time: one code path for training and serving.
//!
//! An interaction *counts as of `t`* when it had ended by `t` and began less than 365 days before `t`; times are taken in
//! whole milliseconds. So the interaction in progress, whose outcome is what is being predicted, cannot leak in; one that
//! the platform already calls ended can be left out by its id.
//!
//! Everything is summed in whole numbers: features do not depend on the order in which interactions come, and one that is
//! added and taken back leaves exactly what was there before. The size of a history does not grow with the number of
//! interactions, only with the number of distinct topics and queues.

mod history;
mod queues;
mod tally;
#[cfg(test)]
mod tests;
mod trend;

use jiff::Timestamp;

use scoreline_domain::InteractionRow;

pub use history::{InteractionHistory, MustRefold};
pub use queues::{QueueSentiment, QueueSum, QueueTimeline};
pub use trend::{TREND_INTERACTIONS, TREND_LEAST, TREND_SHRINKAGE};

/// The look-back window before the as-of time.
pub const LOOK_BACK_DAYS: i64 = 365;

const DAY_MS: i64 = 86_400_000;
const LOOK_BACK_MS: i64 = LOOK_BACK_DAYS * DAY_MS;

/// Why an interaction cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interaction that starts {start_ms} ms after 1970 ends {end_ms} ms after it, before it starts")]
pub struct EndsBeforeStart {
    pub start_ms: i64,
    pub end_ms: i64,
}

/// A customer's interaction features; names and units are in the catalogue. `None` is missing, for the bundle to
/// impute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InteractionFeatures {
    /// Whole days since the last closed interaction ended.
    pub recency_days: f64,
    pub frequency_count: f64,
    /// Missing when every interaction was abandoned.
    pub avg_handling_time_sec: Option<f64>,
    /// Missing when neither the customer nor their queues have a score.
    pub sentiment_score_avg: Option<f64>,
    pub sentiment_trend_slope: f64,
    pub sentiment_n: f64,
    pub topic_diversity: f64,
    pub channel_preference_voice: f64,
    pub channel_preference_email: f64,
    pub channel_preference_chat: f64,
    pub channel_preference_message: f64,
}

impl InteractionFeatures {
    /// By catalogue name; `None` is missing.
    pub fn named(&self) -> [(&'static str, Option<f64>); 11] {
        [
            ("recency_days", Some(self.recency_days)),
            ("frequency_count", Some(self.frequency_count)),
            ("avg_handling_time_sec", self.avg_handling_time_sec),
            ("sentiment_score_avg", self.sentiment_score_avg),
            ("sentiment_trend_slope", Some(self.sentiment_trend_slope)),
            ("sentiment_n", Some(self.sentiment_n)),
            ("topic_diversity", Some(self.topic_diversity)),
            ("channel_preference_email", Some(self.channel_preference_email)),
            ("channel_preference_voice", Some(self.channel_preference_voice)),
            ("channel_preference_chat", Some(self.channel_preference_chat)),
            ("channel_preference_message", Some(self.channel_preference_message)),
        ]
    }
}

/// The look-back window before a time, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct LookBack {
    as_of: i64,
    /// What began then or before does not count.
    from: i64,
}

impl LookBack {
    fn before(as_of: Timestamp) -> Self {
        let as_of = as_of.as_millisecond();
        Self { as_of, from: as_of - LOOK_BACK_MS }
    }

    fn holds(self, interaction: &InteractionRow<'_>) -> bool {
        interaction.end_ms.is_some_and(|end| end <= self.as_of) && interaction.start_ms > self.from
    }
}
