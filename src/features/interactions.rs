//! Contact-centre interactions to features, as of a time: one code path for training and serving.
//!
//! Only *closed* interactions count: those that had ended by the as-of time and began within the 365 days before
//! it. The interaction in progress, whose outcome is what is being predicted, can not leak in. The size of an
//! `InteractionHistory` does not grow with the number of interactions, only with the number of distinct topics.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

/// The look-back window before the as-of time.
pub const LOOK_BACK_DAYS: i64 = 365;

/// At most this many scored interactions, the latest, count for the sentiment trend: Theil-Sen looks at every pair.
pub const TREND_INTERACTIONS: usize = 64;

/// Below this many scored interactions there is no trend to speak of.
pub const TREND_LEAST: usize = 3;

/// The trend is shrunk by `n / (n + TREND_SHRINKAGE)`.
pub const TREND_SHRINKAGE: f64 = 8.0;

const SECONDS_A_DAY: i64 = 86_400;

/// How the customer and the centre talked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Voice,
    Email,
    Chat,
    Message,
}

/// One interaction of a customer. Adding the same one twice counts it twice: whoever reads histories removes
/// duplicates.
#[derive(Clone, Copy, Debug)]
pub struct Interaction<'a> {
    pub start: Timestamp,
    /// `None` while it goes on.
    pub end: Option<Timestamp>,
    pub channel: Channel,
    /// Talk, hold and wrap-up; `None` when nobody handled it (abandoned in the queue).
    pub handle_seconds: Option<f64>,
    /// -1 to 1; `None` when it was not scored.
    pub sentiment: Option<f64>,
    pub topics: &'a [&'a str],
    /// The queue it went through, for the sentiment that stands in when none of a customer's interactions is scored.
    pub queue: Option<&'a str>,
}

/// Why an interaction can not be added.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum InteractionError {
    #[error("interaction of {start} ends at {end}, before it starts")]
    EndsBeforeStart { start: Timestamp, end: Timestamp },
    #[error("interaction of {start} has `{key}` = `{value}`, allowed is {allowed}")]
    Impossible { start: Timestamp, key: &'static str, value: f64, allowed: &'static str },
}

/// A customer's closed interactions in the look-back window before one time. They may be added in any order.
#[derive(Clone, Debug)]
pub struct InteractionHistory {
    as_of: Timestamp,
    from: Timestamp,
    last_end: Option<Timestamp>,
    count: u32,
    handled: u32,
    handle_seconds: f64,
    scored: u32,
    sentiment: f64,
    /// The latest scored interactions, oldest first: when, and the score.
    trend: Vec<(Timestamp, f64)>,
    topics: BTreeSet<Box<str>>,
    queues: BTreeMap<Box<str>, u32>,
    /// Voice, e-mail, chat, message.
    channels: [u32; 4],
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

/// Mean sentiment of each queue up to a time: what stands in for a customer whose interactions were never scored.
#[derive(Clone, Debug, Default)]
pub struct QueueSentiment {
    queues: BTreeMap<Box<str>, (u32, f64)>,
}

impl QueueSentiment {
    /// Counts a score. The caller only gives scores of interactions closed by the as-of time.
    pub fn observe(&mut self, queue: &str, sentiment: f64) {
        if let Some((n, sum)) = self.queues.get_mut(queue) {
            *n += 1;
            *sum += sentiment;
        } else {
            self.queues.insert(queue.into(), (1, sentiment));
        }
    }

    pub fn mean(&self, queue: &str) -> Option<f64> {
        self.queues.get(queue).map(|(n, sum)| sum / f64::from(*n))
    }
}

impl Interaction<'_> {
    /// Whether it had ended by `as_of` and began within the look-back window before it.
    pub fn counts_as_of(&self, as_of: Timestamp) -> bool {
        self.end.is_some_and(|end| end <= as_of) && self.start > window_start(as_of)
    }
}

impl InteractionHistory {
    /// An empty history as of `as_of`.
    pub fn as_of(as_of: Timestamp) -> Self {
        Self {
            as_of,
            from: window_start(as_of),
            last_end: None,
            count: 0,
            handled: 0,
            handle_seconds: 0.0,
            scored: 0,
            sentiment: 0.0,
            trend: Vec::new(),
            topics: BTreeSet::new(),
            queues: BTreeMap::new(),
            channels: [0; 4],
        }
    }

    /// Adds an interaction. One that is still open, ended after the as-of time or began before the window is
    /// ignored.
    ///
    /// # Errors
    /// When it ends before it starts, or a value is impossible. The history stays as it was.
    pub fn add(&mut self, interaction: &Interaction<'_>) -> Result<(), InteractionError> {
        let Some(end) = interaction.end.filter(|end| *end <= self.as_of && interaction.start > self.from) else {
            return Ok(());
        };
        check(interaction, end)?;
        self.count += 1;
        self.last_end = self.last_end.max(Some(end));
        self.channels[interaction.channel.position()] += 1;
        if let Some(seconds) = interaction.handle_seconds {
            self.handled += 1;
            self.handle_seconds += seconds;
        }
        if let Some(score) = interaction.sentiment {
            self.scored += 1;
            self.sentiment += score;
            self.keep_for_trend(interaction.start, score);
        }
        for &topic in interaction.topics {
            if !self.topics.contains(topic) {
                self.topics.insert(topic.into());
            }
        }
        if let Some(queue) = interaction.queue {
            match self.queues.get_mut(queue) {
                Some(n) => *n += 1,
                None => {
                    self.queues.insert(queue.into(), 1);
                }
            }
        }
        Ok(())
    }

    /// The features as of the time; `None` for a customer without a closed interaction in the window. `queues`
    /// stands in for the sentiment of a customer who has none.
    pub fn features(&self, queues: &QueueSentiment) -> Option<InteractionFeatures> {
        let last_end = self.last_end?;
        let count = f64::from(self.count);
        let share = |channel: Channel| f64::from(self.channels[channel.position()]) / count;
        let mean = |sum: f64, n: u32| (n > 0).then(|| sum / f64::from(n));
        Some(InteractionFeatures {
            recency_days: ((self.as_of.as_second() - last_end.as_second()) / SECONDS_A_DAY) as f64,
            frequency_count: count,
            avg_handling_time_sec: mean(self.handle_seconds, self.handled),
            // A mean of scores within -1..1 can leave it by a rounding error.
            sentiment_score_avg: mean(self.sentiment, self.scored)
                .or_else(|| self.sentiment_of_queues(queues))
                .map(|score| score.clamp(-1.0, 1.0)),
            sentiment_trend_slope: self.sentiment_trend(),
            sentiment_n: f64::from(self.scored),
            topic_diversity: self.topics.len() as f64,
            channel_preference_voice: share(Channel::Voice),
            channel_preference_email: share(Channel::Email),
            channel_preference_chat: share(Channel::Chat),
            channel_preference_message: share(Channel::Message),
        })
    }

    /// Keeps the latest `TREND_INTERACTIONS` scores, whatever the order they come in.
    fn keep_for_trend(&mut self, start: Timestamp, score: f64) {
        if self.trend.len() == TREND_INTERACTIONS {
            if self.trend[0].0 >= start {
                return;
            }
            self.trend.remove(0);
        }
        let position = self.trend.partition_point(|(other, _)| *other <= start);
        self.trend.insert(position, (start, score));
    }

    /// Theil-Sen slope per 30 days over distinct times, shrunk towards 0; 0 below three scores.
    fn sentiment_trend(&self) -> f64 {
        let n = self.trend.len();
        if n < TREND_LEAST {
            return 0.0;
        }
        let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
        for (i, (earlier, first)) in self.trend.iter().enumerate() {
            for (later, second) in &self.trend[i + 1..] {
                let seconds = later.as_second() - earlier.as_second();
                if seconds > 0 {
                    let months = seconds as f64 / (30 * SECONDS_A_DAY) as f64;
                    slopes.push((second - first) / months);
                }
            }
        }
        let n = n as f64;
        median(&mut slopes).map_or(0.0, |slope| slope * n / (n + TREND_SHRINKAGE))
    }

    fn sentiment_of_queues(&self, queues: &QueueSentiment) -> Option<f64> {
        let (mut n, mut sum) = (0.0, 0.0);
        for (queue, visits) in &self.queues {
            if let Some(mean) = queues.mean(queue) {
                n += f64::from(*visits);
                sum += f64::from(*visits) * mean;
            }
        }
        (n > 0.0).then(|| sum / n)
    }
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

impl Channel {
    fn position(self) -> usize {
        match self {
            Self::Voice => 0,
            Self::Email => 1,
            Self::Chat => 2,
            Self::Message => 3,
        }
    }
}

fn window_start(as_of: Timestamp) -> Timestamp {
    let start = as_of.as_second() - LOOK_BACK_DAYS * SECONDS_A_DAY;
    Timestamp::new(start, as_of.subsec_nanosecond()).unwrap_or(Timestamp::MIN)
}

fn check(interaction: &Interaction<'_>, end: Timestamp) -> Result<(), InteractionError> {
    let start = interaction.start;
    if end < start {
        return Err(InteractionError::EndsBeforeStart { start, end });
    }
    let impossible = |key, value, allowed| Err(InteractionError::Impossible { start, key, value, allowed });
    match (interaction.handle_seconds, interaction.sentiment) {
        (Some(value), _) if !(value.is_finite() && value >= 0.0) => {
            impossible("handle_seconds", value, "a finite number >= 0")
        }
        (_, Some(value)) if !(-1.0..=1.0).contains(&value) => impossible("sentiment", value, "a number from -1 to 1"),
        _ => Ok(()),
    }
}

fn median(numbers: &mut [f64]) -> Option<f64> {
    let middle = numbers.len() / 2;
    if numbers.is_empty() {
        return None;
    }
    let (below, upper, _) = numbers.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if below.len() == middle && numbers.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = numbers[..middle].iter().copied().max_by(f64::total_cmp)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::catalogued;

    fn as_of() -> Timestamp {
        "2026-03-01T00:00:00Z".parse().expect("a time")
    }

    fn before(seconds: i64) -> Timestamp {
        as_of().checked_sub(seconds.seconds()).expect("in the calendar")
    }

    const DAY: i64 = SECONDS_A_DAY;

    /// A scored voice interaction of ten minutes that began so many seconds before the as-of time.
    fn voice(seconds_before: i64, sentiment: Option<f64>) -> Interaction<'static> {
        Interaction {
            start: before(seconds_before),
            end: Some(before(seconds_before - 600)),
            channel: Channel::Voice,
            handle_seconds: Some(500.0),
            sentiment,
            topics: &["billing"],
            queue: Some("support"),
        }
    }

    fn features(interactions: &[Interaction<'_>]) -> Option<InteractionFeatures> {
        let mut history = InteractionHistory::as_of(as_of());
        for interaction in interactions {
            history.add(interaction).expect("possible");
        }
        history.features(&QueueSentiment::default())
    }

    #[test]
    fn features_of_a_small_history_computed_by_hand() {
        let abandoned = Interaction { handle_seconds: None, topics: &["returns", "billing"], ..voice(20 * DAY, None) };
        let email = Interaction { channel: Channel::Email, handle_seconds: Some(100.0), ..voice(40 * DAY, Some(0.5)) };
        let found = features(&[abandoned, email, voice(13 * DAY, Some(-0.1))]).expect("closed interactions");
        let expected = InteractionFeatures {
            recency_days: 12.0,
            frequency_count: 3.0,
            avg_handling_time_sec: Some(300.0),
            sentiment_score_avg: Some(0.2),
            sentiment_trend_slope: 0.0,
            sentiment_n: 2.0,
            topic_diversity: 2.0,
            channel_preference_voice: 2.0 / 3.0,
            channel_preference_email: 1.0 / 3.0,
            channel_preference_chat: 0.0,
            channel_preference_message: 0.0,
        };
        assert_eq!(found, expected);
        for (name, value) in found.named() {
            let known = catalogued(name).expect(name);
            assert_eq!(value.and_then(|value| known.impossible(value)), None, "{name}");
        }
    }

    #[test]
    fn only_interactions_closed_by_the_as_of_time_and_begun_in_the_window_count() {
        let ends_now = Interaction { end: Some(as_of()), ..voice(600, None) };
        let ends_later = Interaction { end: as_of().checked_add(1.second()).ok(), ..voice(600, None) };
        let open = Interaction { end: None, ..voice(600, None) };
        assert_eq!(features(&[ends_now]).map(|found| found.recency_days), Some(0.0));
        assert_eq!(features(&[ends_later, open]), None);
        assert_eq!(features(&[voice(365 * DAY, None)]), None);
        assert!(features(&[voice(365 * DAY - 1, None)]).is_some());
        assert!(ends_now.counts_as_of(as_of()) && !ends_later.counts_as_of(as_of()) && !open.counts_as_of(as_of()));
        assert!(!voice(365 * DAY, None).counts_as_of(as_of()));
    }

    #[test]
    fn the_trend_is_the_median_slope_per_month_shrunk_and_absent_below_three() {
        let scores = |scores: &[(i64, f64)]| {
            let all: Vec<_> = scores.iter().map(|(days, score)| voice(days * DAY, Some(*score))).collect();
            features(&all).map(|found| found.sentiment_trend_slope)
        };
        assert_eq!(scores(&[(60, 0.0), (30, 0.8)]), Some(0.0));
        // Slopes 0.2, 0.1 (0.2 over 60 days) and 0.0: the median 0.1, times 3 / 11.
        let slope = scores(&[(90, 0.0), (60, 0.2), (30, 0.2)]).expect("closed interactions");
        assert!((slope - 0.1 * 3.0 / 11.0).abs() < 1e-12, "{slope}");
        // Slopes 0.3, 0.2, 0.1, 0.1, 0.0, -0.1: an even number, midpoint of 0.1 and 0.1, times 4 / 12.
        let slope = scores(&[(120, 0.0), (90, 0.3), (60, 0.4), (30, 0.3)]).expect("closed interactions");
        assert!((slope - 0.1 * 4.0 / 12.0).abs() < 1e-12, "{slope}");
        assert_eq!(scores(&[(30, 0.0), (30, 0.5), (30, -0.5)]), Some(0.0), "no two times, no slope");
    }

    #[test]
    fn only_the_latest_scores_count_for_the_trend_in_whatever_order_they_come() {
        let kept = i64::try_from(TREND_INTERACTIONS).expect("a small number");
        let days = kept + 40;
        // The 40 oldest climb steeply, the later ones are flat.
        let score = |day: i64| if day > kept { 1.0 - (day - kept) as f64 / 50.0 } else { 0.5 };
        let mut all: Vec<_> = (1..=days).map(|day| voice(day * DAY, Some(score(day)))).collect();
        assert_eq!(features(&all).map(|found| found.sentiment_trend_slope), Some(0.0));
        all.reverse();
        assert_eq!(features(&all).map(|found| found.sentiment_trend_slope), Some(0.0));
        assert_eq!(features(&all).map(|found| found.sentiment_n), Some(days as f64));
    }

    #[test]
    fn the_queue_mean_stands_in_for_a_customer_who_was_never_scored() {
        let mut queues = QueueSentiment::default();
        queues.observe("support", 0.25);
        queues.observe("support", -0.75);
        queues.observe("sales", 0.5);
        let mut history = InteractionHistory::as_of(as_of());
        let sales = Interaction { queue: Some("sales"), ..voice(9 * DAY, None) };
        let unknown = Interaction { queue: Some("returns"), ..voice(8 * DAY, None) };
        for interaction in [voice(10 * DAY, None), sales, unknown] {
            history.add(&interaction).expect("possible");
        }
        let found = history.features(&queues).expect("closed interactions");
        assert_eq!((found.sentiment_score_avg, found.sentiment_n), (Some(0.125), 0.0));
        assert_eq!(history.features(&QueueSentiment::default()).and_then(|found| found.sentiment_score_avg), None);
        history.add(&voice(5 * DAY, Some(0.9))).expect("possible");
        assert_eq!(history.features(&queues).and_then(|found| found.sentiment_score_avg), Some(0.9));
    }

    #[test]
    fn an_interaction_that_can_not_be_is_refused_and_changes_nothing() {
        let mut history = InteractionHistory::as_of(as_of());
        let mut refused = |given: Interaction<'_>| history.add(&given).expect_err("refused").to_string();
        let backwards = Interaction { end: Some(before(700)), ..voice(600, None) };
        assert!(refused(backwards).ends_with("before it starts"));
        assert!(refused(voice(DAY, Some(1.5))).ends_with("`sentiment` = `1.5`, allowed is a number from -1 to 1"));
        let negative = Interaction { handle_seconds: Some(-1.0), ..voice(DAY, None) };
        assert!(refused(negative).contains("`handle_seconds` = `-1`, allowed is a finite number >= 0"));
        assert_eq!(history.features(&QueueSentiment::default()), None);
    }

    fn interactions() -> impl Strategy<Value = Vec<Interaction<'static>>> {
        const TOPICS: [&[&str]; 3] = [&["billing"], &["returns", "billing"], &[]];
        let channel =
            prop_oneof![Just(Channel::Voice), Just(Channel::Email), Just(Channel::Chat), Just(Channel::Message)];
        // Quarters are exact in binary: sums do not depend on the order.
        let quarters = proptest::option::of((-4..=4_i32).prop_map(|quarters| f64::from(quarters) / 4.0));
        let one = (-20 * DAY..400 * DAY, 0..7200_i64, channel, quarters, 0..3_usize, any::<bool>()).prop_map(
            |(start, length, channel, sentiment, topics, handled)| Interaction {
                start: before(start),
                end: Some(before(start - length)),
                channel,
                handle_seconds: handled.then_some(length as f64),
                sentiment,
                topics: TOPICS[topics],
                queue: None,
            },
        );
        proptest::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn what_ends_after_the_as_of_time_changes_nothing(all in interactions()) {
            let past: Vec<_> = all.iter().copied().filter(|one| one.end.is_some_and(|end| end <= as_of())).collect();
            prop_assert_eq!(features(&all), features(&past));
        }

        #[test]
        fn the_order_does_not_matter(all in interactions()) {
            let mut starts: Vec<_> = all.iter().map(|one| one.start).collect();
            starts.sort_unstable();
            starts.dedup();
            prop_assume!(starts.len() == all.len());
            let mut reversed = all.clone();
            reversed.reverse();
            prop_assert_eq!(features(&all), features(&reversed));
        }

        #[test]
        fn shares_sum_to_one_and_every_feature_is_possible(all in interactions()) {
            let Some(found) = features(&all) else { return Ok(()) };
            let shares = found.named().iter().filter(|(name, _)| name.starts_with("channel_")).filter_map(|(_, s)| *s)
                .sum::<f64>();
            prop_assert!((shares - 1.0).abs() < 1e-12);
            for (name, value) in found.named() {
                let known = catalogued(name).expect(name);
                prop_assert_eq!(value.and_then(|value| known.impossible(value)), None, "{}", name);
            }
        }
    }
}
