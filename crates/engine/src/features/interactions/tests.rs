//! Features of interactions: small histories computed by hand, and what holds for any history.

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use scoreline_domain::{Channel, InteractionId, LabelId, Sentiment, catalogued};

const BILLING: LabelId = LabelId(1);
const RETURNS: LabelId = LabelId(2);
const SUPPORT: LabelId = LabelId(10);
const SALES: LabelId = LabelId(11);
const DAYS: i64 = DAY_MS;
const MINUTES: i64 = 60_000;

fn as_of() -> Timestamp {
    "2026-03-01T00:00:00Z".parse().expect("a time")
}

fn before(milliseconds: i64) -> i64 {
    as_of().as_millisecond() - milliseconds
}

fn score(score: f64) -> Sentiment {
    Sentiment::new(score).expect("from -1 to 1")
}

/// A voice interaction of ten minutes that began so long before the as-of time.
fn voice(before_ms: i64, sentiment: Option<f64>) -> InteractionRow<'static> {
    InteractionRow {
        id: None,
        start_ms: before(before_ms),
        end_ms: Some(before(before_ms - 10 * MINUTES)),
        channel: Channel::Voice,
        handle_ms: Some(500_000),
        sentiment: sentiment.map(score),
        topics: &[BILLING],
        queue: Some(SUPPORT),
    }
}

fn fold(interactions: &[InteractionRow<'_>]) -> InteractionHistory {
    let mut history = InteractionHistory::as_of(as_of());
    for interaction in interactions {
        history.add(interaction).expect("possible");
    }
    history
}

fn features(interactions: &[InteractionRow<'_>]) -> Option<InteractionFeatures> {
    fold(interactions).features(&QueueSentiment::default())
}

#[test]
fn features_of_a_small_history_computed_by_hand() {
    let abandoned = InteractionRow { handle_ms: None, topics: &[RETURNS, BILLING], ..voice(20 * DAYS, None) };
    let email = InteractionRow { channel: Channel::Email, handle_ms: Some(100_000), ..voice(40 * DAYS, Some(0.5)) };
    let found = features(&[abandoned, email, voice(13 * DAYS, Some(-0.1))]).expect("closed interactions");
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
    let ends_now = InteractionRow { end_ms: Some(before(0)), ..voice(10 * MINUTES, None) };
    let ends_later = InteractionRow { end_ms: Some(before(-1)), ..ends_now };
    let open = InteractionRow { end_ms: None, ..ends_now };
    assert_eq!(features(&[ends_now]).map(|found| found.recency_days), Some(0.0));
    assert_eq!(features(&[ends_later, open]), None);
    assert_eq!(features(&[voice(365 * DAYS, None)]), None);
    assert!(features(&[voice(365 * DAYS - 1, None)]).is_some());
}

#[test]
fn the_live_interaction_is_left_out_though_it_is_said_to_have_ended() {
    let live = InteractionId([7; 16]);
    let told = InteractionRow { id: Some(live), ..voice(DAYS, Some(-1.0)) };
    let other = InteractionRow { id: Some(InteractionId([8; 16])), ..voice(9 * DAYS, Some(1.0)) };
    let mut history = InteractionHistory::as_of(as_of()).excluding(Some(live));
    for one in [told, other, voice(10 * DAYS, None)] {
        history.add(&one).expect("possible");
    }
    assert_eq!(history.features(&QueueSentiment::default()), features(&[other, voice(10 * DAYS, None)]));
    history.retract(&told).expect("was never counted");
    assert_eq!(history.features(&QueueSentiment::default()).map(|found| found.frequency_count), Some(2.0));
}

#[test]
fn the_trend_is_the_median_slope_per_month_shrunk_and_absent_below_three() {
    let scores = |scores: &[(i64, f64)]| {
        let all: Vec<_> = scores.iter().map(|(days, score)| voice(days * DAYS, Some(*score))).collect();
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
    let days = kept + 200;
    // The 200 oldest climb steeply, the later ones are flat.
    let score = |day: i64| if day > kept { 1.0 - (day - kept) as f64 / 200.0 } else { 0.5 };
    let mut all: Vec<_> = (1..=days).map(|day| voice(day * DAYS, Some(score(day)))).collect();
    assert_eq!(features(&all).map(|found| found.sentiment_trend_slope), Some(0.0));
    all.reverse();
    assert_eq!(features(&all).map(|found| found.sentiment_trend_slope), Some(0.0));
    assert_eq!(features(&all).map(|found| found.sentiment_n), Some(days as f64));
}

#[test]
fn the_queue_mean_stands_in_for_a_customer_who_was_never_scored() {
    let mut queues = QueueSentiment::default();
    for (queue, found) in [(SUPPORT, 0.25), (SUPPORT, -0.75), (SALES, 0.5)] {
        queues.observe(queue, score(found));
    }
    let sales = InteractionRow { queue: Some(SALES), ..voice(9 * DAYS, None) };
    let unknown = InteractionRow { queue: Some(LabelId(99)), ..voice(8 * DAYS, None) };
    let mut history = fold(&[voice(10 * DAYS, None), sales, unknown]);
    let found = history.features(&queues).expect("closed interactions");
    assert_eq!((found.sentiment_score_avg, found.sentiment_n), (Some(0.125), 0.0));
    assert!(history.depends_on_queues());
    assert_eq!(history.features(&QueueSentiment::default()).and_then(|found| found.sentiment_score_avg), None);
    history.add(&voice(5 * DAYS, Some(0.9))).expect("possible");
    assert_eq!(history.features(&queues).and_then(|found| found.sentiment_score_avg), Some(0.9));
    assert!(!history.depends_on_queues());
}

#[test]
fn an_interaction_that_ends_before_it_starts_is_refused_and_changes_nothing() {
    let mut history = InteractionHistory::as_of(as_of());
    let backwards = InteractionRow { end_ms: Some(before(700)), ..voice(600, None) };
    assert!(history.add(&backwards).expect_err("refused").to_string().ends_with("before it starts"));
    assert_eq!(history.features(&QueueSentiment::default()), None);
}

#[test]
fn a_history_is_as_large_as_its_labels_however_long_it_is() {
    let one = |i: i64| voice(300 * DAYS - i, Some((i % 21) as f64 / 10.0 - 1.0));
    let mut history = fold(&(0..200).map(one).collect::<Vec<_>>());
    let measured = allocation_counter::measure(|| {
        for i in 200..20_000 {
            history.add(&one(i)).expect("possible");
        }
    });
    assert_eq!(measured.count_total, 0, "no allocation for an interaction");
    assert_eq!(history.features(&QueueSentiment::default()).map(|found| found.frequency_count), Some(20_000.0));
}

/// Few distinct times, lengths and labels: ties and repetitions are the rule.
fn interaction() -> impl Strategy<Value = InteractionRow<'static>> {
    const TOPICS: [&[LabelId]; 3] = [&[BILLING], &[RETURNS, BILLING], &[]];
    let channel = prop::sample::select(Channel::ALL.to_vec());
    let sentiment = proptest::option::of((-4..=4_i32).prop_map(|quarters| f64::from(quarters) / 4.0));
    let queue = proptest::option::of(prop::sample::select(vec![SUPPORT, SALES]));
    // Quarters of a day from 400 days before to 20 days after; up to two days long, or going on.
    let when = (-80..1600_i64, prop_oneof![4 => (0..8_i64).prop_map(Some), 1 => Just(None)]);
    (when, channel, sentiment, 0..3_usize, queue, any::<bool>()).prop_map(
        |((start, length), channel, sentiment, topics, queue, handled)| {
            let start_ms = before(start * DAYS / 4);
            InteractionRow {
                id: None,
                start_ms,
                end_ms: length.map(|quarters| start_ms + quarters * DAYS / 4),
                channel,
                handle_ms: handled.then_some(length.unwrap_or_default() as u32 * 1000 + 1),
                sentiment: sentiment.map(score),
                topics: TOPICS[topics],
                queue,
            }
        },
    )
}

fn interactions(most: usize) -> impl Strategy<Value = Vec<InteractionRow<'static>>> {
    prop::collection::vec(interaction(), 0..most)
}

/// Many scores: more than the trend keeps.
fn long_history() -> impl Strategy<Value = Vec<InteractionRow<'static>>> {
    let scored =
        (0..40_i64, -9..=9_i32).prop_map(|(day, tenths)| voice((day + 1) * 9 * DAYS, Some(f64::from(tenths) / 10.0)));
    prop::collection::vec(scored, 0..300)
}

proptest! {
    #[test]
    fn what_ends_after_the_as_of_time_or_goes_on_changes_nothing(all in interactions(40)) {
        let closed = |one: &InteractionRow<'_>| one.end_ms.is_some_and(|end| end <= before(0));
        let past: Vec<_> = all.iter().copied().filter(closed).collect();
        prop_assert_eq!(features(&all), features(&past));
    }

    #[test]
    fn the_order_does_not_matter((all, shuffled) in interactions(40).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))) {
        prop_assert_eq!(features(&all), features(&shuffled));
    }

    #[test]
    fn nor_does_it_for_more_scores_than_the_trend_keeps(
        (all, shuffled) in long_history().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
    ) {
        prop_assert_eq!(features(&all), features(&shuffled));
        let mut scored: Vec<_> = all.iter().map(|one| (one.start_ms, one.sentiment)).collect();
        scored.sort_unstable();
        let latest = scored.split_off(scored.len().saturating_sub(TREND_INTERACTIONS));
        let latest: Vec<_> = all.iter().filter(|one| latest.first() <= Some(&(one.start_ms, one.sentiment))).collect();
        // Of those that tie with the oldest kept all are equal: which of them are left out makes no difference.
        let latest: Vec<_> = latest.into_iter().copied().collect();
        if latest.len() <= TREND_INTERACTIONS {
            let slope = |all: &[InteractionRow<'_>]| features(all).map(|found| found.sentiment_trend_slope);
            prop_assert_eq!(slope(&all), slope(&latest));
        }
    }

    #[test]
    fn what_is_added_and_taken_back_was_never_there(
        all in prop_oneof![interactions(40), long_history()],
        (more, order) in prop_oneof![interactions(20), long_history()].prop_flat_map(|more| {
            let order: Vec<usize> = (0..more.len()).collect();
            (Just(more), Just(order).prop_shuffle())
        }),
    ) {
        let queues = QueueSentiment::from_sums([(SUPPORT, QueueSum { scored: 3, millionths: 1_000_000 })]);
        let mut history = fold(&all);
        for one in &more {
            history.add(one).expect("possible");
        }
        let mut left: Vec<bool> = vec![true; more.len()];
        for position in order {
            let before = (history.features(&queues), history.next_change_at());
            let taken = history.retract(&more[position]).is_ok();
            left[position] = !taken;
            // A new fold for every step would take the test half a minute.
            if position % 8 != 0 {
                continue;
            }
            let rest = more.iter().zip(&left).filter(|(_, left)| **left).map(|(one, _)| *one);
            let never = fold(&all.iter().copied().chain(rest).collect::<Vec<_>>());
            let now = (history.features(&queues), history.next_change_at());
            prop_assert_eq!(now, (never.features(&queues), never.next_change_at()));
            prop_assert!(taken || now == before, "a refusal changes nothing");
        }
    }

    #[test]
    fn shares_sum_to_one_and_every_feature_is_possible(all in interactions(40)) {
        let Some(found) = features(&all) else { return Ok(()) };
        let shares = found.named().iter().filter(|(name, _)| name.starts_with("channel_")).filter_map(|(_, s)| *s)
            .sum::<f64>();
        prop_assert!((shares - 1.0).abs() < 1e-12);
        for (name, value) in found.named() {
            let known = catalogued(name).expect(name);
            prop_assert_eq!(value.and_then(|value| known.impossible(value)), None, "{}", name);
        }
    }

    #[test]
    fn queues_over_many_times_are_those_of_each_time(all in interactions(60), days in prop::collection::vec(-30..420_i64, 1..8)) {
        let mut times: Vec<_> = days.iter().map(|days| before(days * DAYS)).collect();
        times.sort_unstable();
        let stamps: Vec<_> = times.iter().map(|ms| Timestamp::from_millisecond(*ms).expect("a time")).collect();
        let mut timeline = QueueTimeline::over(&stamps);
        for one in &all {
            timeline.add(one);
        }
        for (sums, time) in timeline.finish().into_iter().zip(stamps) {
            let mut alone = QueueSentiment::default();
            let window = LookBack::before(time);
            let scored = |counts: bool| {
                let counting = all.iter().filter(move |one| window.holds(one) == counts);
                counting.filter_map(|one| Some((one.queue?, one.sentiment?)))
            };
            scored(true).for_each(|(queue, sentiment)| alone.observe(queue, sentiment));
            prop_assert_eq!(&sums, &alone);
            // Whatever is added and taken back leaves no trace.
            scored(false).for_each(|(queue, sentiment)| alone.observe(queue, sentiment));
            scored(false).for_each(|(queue, sentiment)| alone.retract(queue, sentiment));
            prop_assert_eq!(&sums, &alone);
        }
    }
}
