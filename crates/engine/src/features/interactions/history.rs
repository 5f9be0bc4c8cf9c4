//! A customer's closed interactions in the look-back window before one time, as sums.

use jiff::Timestamp;

use super::tally::Tally;
use super::trend::{Latest, Score};
use super::{DAY_MS, EndsBeforeStart, InteractionFeatures, LOOK_BACK_MS, LookBack, QueueSentiment};
use scoreline_domain::{Channel, InteractionId, InteractionRow};

/// An interaction cannot be taken back from the sums alone: it is the first, the last or among the latest of a longer
/// history. Fold the customer's interactions anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the history must be folded anew without the interaction")]
pub struct MustRefold;

/// A customer's closed interactions in the look-back window before one time. They may be added in any order.
#[derive(Clone, Debug)]
pub struct InteractionHistory {
    window: LookBack,
    live: Option<InteractionId>,
    count: u32,
    /// Of those that count, in milliseconds.
    first_start: i64,
    last_end: i64,
    handled: u32,
    handle_ms: u64,
    scored: u32,
    /// Sum of the scores.
    millionths: i64,
    latest: Latest,
    topics: Tally,
    queues: Tally,
    /// By `Channel`, in its order.
    channels: [u32; Channel::ALL.len()],
    /// The first end of those that are known and not closed yet, in milliseconds.
    next_end: i64,
}

impl InteractionHistory {
    /// An empty history as of `as_of`.
    pub fn as_of(as_of: Timestamp) -> Self {
        Self {
            window: LookBack::before(as_of),
            live: None,
            count: 0,
            first_start: i64::MAX,
            last_end: i64::MIN,
            handled: 0,
            handle_ms: 0,
            scored: 0,
            millionths: 0,
            latest: Latest::default(),
            topics: Tally::default(),
            queues: Tally::default(),
            channels: [0; Channel::ALL.len()],
            next_end: i64::MAX,
        }
    }

    /// Leaves out the interaction that a prediction is asked for, whatever the platform says of its end.
    #[must_use]
    pub fn excluding(mut self, live: Option<InteractionId>) -> Self {
        self.live = live;
        self
    }

    /// Empties the history for the next customer, as of the same time; what it has allocated is kept.
    pub fn clear(&mut self) {
        self.count = 0;
        self.first_start = i64::MAX;
        self.last_end = i64::MIN;
        self.handled = 0;
        self.handle_ms = 0;
        self.scored = 0;
        self.millionths = 0;
        self.latest.clear();
        self.topics.clear();
        self.queues.clear();
        self.channels = [0; Channel::ALL.len()];
        self.next_end = i64::MAX;
    }

    /// Adds an interaction. One that is still open, ended after the as-of time, began before the window or is the live
    /// one changes no feature.
    ///
    /// # Errors
    /// When it ends before it starts. The history stays as it was.
    #[inline]
    pub fn add(&mut self, interaction: &InteractionRow<'_>) -> Result<(), EndsBeforeStart> {
        let (start_ms, Some(end_ms)) = (interaction.start_ms, interaction.end_ms) else { return Ok(()) };
        if end_ms < start_ms {
            return Err(EndsBeforeStart { start_ms, end_ms });
        }
        if self.is_live(interaction) {
            return Ok(());
        }
        if end_ms > self.window.as_of {
            // Longer than the window, it will never count.
            if end_ms - start_ms < LOOK_BACK_MS {
                self.next_end = self.next_end.min(end_ms);
            }
            return Ok(());
        }
        if start_ms <= self.window.from {
            return Ok(());
        }
        self.count += 1;
        self.first_start = self.first_start.min(start_ms);
        self.last_end = self.last_end.max(end_ms);
        self.channels[interaction.channel as usize] += 1;
        if let Some(ms) = interaction.handle_ms {
            self.handled += 1;
            self.handle_ms += u64::from(ms);
        }
        if let Some(sentiment) = interaction.sentiment {
            self.scored += 1;
            self.millionths += i64::from(sentiment.millionths());
            self.latest.add(Score { start_ms, millionths: sentiment.millionths() });
        }
        for topic in interaction.topics {
            self.topics.add(*topic);
        }
        if let Some(queue) = interaction.queue {
            self.queues.add(queue);
        }
        Ok(())
    }

    /// Takes back an interaction that was added: the history is as if it never had been.
    ///
    /// # Errors
    /// When the sums do not say what the history was without it. The history stays as it was.
    pub fn retract(&mut self, interaction: &InteractionRow<'_>) -> Result<(), MustRefold> {
        let (start_ms, Some(end_ms)) = (interaction.start_ms, interaction.end_ms) else { return Ok(()) };
        if self.is_live(interaction) {
            return Ok(());
        }
        if end_ms == self.next_end {
            return Err(MustRefold);
        }
        if !self.window.holds(interaction) {
            return Ok(());
        }
        if self.count == 1 {
            let next_end = self.next_end;
            self.clear();
            self.next_end = next_end;
            return Ok(());
        }
        if start_ms == self.first_start || end_ms == self.last_end {
            return Err(MustRefold);
        }
        if let Some(sentiment) = interaction.sentiment {
            // First: it is the only step that can still fail.
            self.latest.retract(Score { start_ms, millionths: sentiment.millionths() })?;
            self.scored -= 1;
            self.millionths -= i64::from(sentiment.millionths());
        }
        self.count -= 1;
        self.channels[interaction.channel as usize] -= 1;
        if let Some(ms) = interaction.handle_ms {
            self.handled -= 1;
            self.handle_ms -= u64::from(ms);
        }
        for topic in interaction.topics {
            self.topics.retract(*topic);
        }
        if let Some(queue) = interaction.queue {
            self.queues.retract(queue);
        }
        Ok(())
    }

    /// The features as of the time; `None` for a customer without a closed interaction in the window. `queues`
    /// stands in for the sentiment of a customer who has none.
    pub fn features(&self, queues: &QueueSentiment) -> Option<InteractionFeatures> {
        if self.count == 0 {
            return None;
        }
        let count = f64::from(self.count);
        let share = |channel: Channel| f64::from(self.channels[channel as usize]) / count;
        let own = (self.scored > 0).then(|| self.millionths as f64 / (f64::from(self.scored) * 1e6));
        Some(InteractionFeatures {
            recency_days: ((self.window.as_of - self.last_end) / DAY_MS) as f64,
            frequency_count: count,
            avg_handling_time_sec: (self.handled > 0).then(|| self.handle_ms as f64 / (f64::from(self.handled) * 1e3)),
            sentiment_score_avg: own.or_else(|| self.sentiment_of_queues(queues)),
            sentiment_trend_slope: self.latest.slope(),
            sentiment_n: f64::from(self.scored),
            topic_diversity: self.topics.distinct() as f64,
            channel_preference_voice: share(Channel::Voice),
            channel_preference_email: share(Channel::Email),
            channel_preference_chat: share(Channel::Chat),
            channel_preference_message: share(Channel::Message),
        })
    }

    /// Whether other customers' sentiment stands in for this one's.
    pub fn depends_on_queues(&self) -> bool {
        self.scored == 0 && self.queues.distinct() > 0
    }

    /// The first time after the as-of time at which the features differ though nothing new is known: another whole day
    /// since the last interaction, one that leaves the window, or one that ends. `None` when there is none.
    pub fn next_change_at(&self) -> Option<Timestamp> {
        let mut next = self.next_end;
        if self.count > 0 {
            let days = (self.window.as_of - self.last_end) / DAY_MS;
            next = next.min(self.last_end + (days + 1) * DAY_MS).min(self.first_start + LOOK_BACK_MS);
        }
        // Not a time in the calendar when there is none.
        Timestamp::from_millisecond(next).ok()
    }

    fn is_live(&self, interaction: &InteractionRow<'_>) -> bool {
        self.live.is_some() && self.live == interaction.id
    }

    /// The mean of the queues' means, each as often as the customer was there.
    fn sentiment_of_queues(&self, queues: &QueueSentiment) -> Option<f64> {
        let mut n = 0.0;
        let mut sum = 0.0;
        for (queue, visits) in self.queues.iter() {
            if let Some(mean) = queues.mean(queue) {
                n += f64::from(visits);
                sum += f64::from(visits) * mean;
            }
        }
        // A mean of means within -1..1 can leave it by a rounding error.
        (n > 0.0).then(|| (sum / n).clamp(-1.0, 1.0))
    }
}
