//! What holds for any customer: nothing leaks in, and a stored vector is what a new computation would give.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use proptest::prelude::*;

use super::super::interactions::QueueSum;
use super::*;
use crate::features::catalogue_row::{same, value};
use scoreline_domain::{Channel, LabelId, Sentiment};

const HOUR_MS: i64 = 3_600_000;

fn origin() -> Timestamp {
    "2026-03-01T07:30:00Z".parse().expect("a time")
}

fn after(time: Timestamp, milliseconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_millis(milliseconds)).expect("in the calendar")
}

/// What is on record of a customer.
#[derive(Clone, Debug, Default)]
struct Record {
    interactions: Vec<InteractionRow<'static>>,
    purchases: Vec<Purchase>,
}

impl Record {
    fn vector(&self, as_of: Timestamp, queues: &QueueSentiment) -> CustomerVector {
        let mut fold = CustomerFold::as_of(as_of);
        for one in &self.interactions {
            fold.interaction(one).expect("possible");
        }
        let mut purchases = self.purchases.clone();
        purchases.sort_by_key(|purchase| purchase.date);
        for one in &purchases {
            fold.purchase(one).expect("possible");
        }
        fold.vector(queues)
    }
}

fn purchase() -> impl Strategy<Value = Purchase> {
    (-400..20_i64, 0..5000_u32, proptest::option::weighted(0.9, 1..4_u32)).prop_map(|(days, cents, items)| Purchase {
        date: origin().to_zoned(jiff::tz::TimeZone::UTC).date().checked_add(days.days()).expect("in the calendar"),
        amount_usd: f64::from(cents) / 100.0,
        items: items.map(f64::from),
    })
}

fn record() -> impl Strategy<Value = Record> {
    let interactions = prop::collection::vec(interaction(), 0..20);
    (interactions, prop::collection::vec(purchase(), 0..8))
        .prop_map(|(interactions, purchases)| Record { interactions, purchases })
}

fn queues() -> QueueSentiment {
    let sum = |scored, millionths| QueueSum { scored, millionths };
    QueueSentiment::from_sums([(LabelId(10), sum(3, 1_000_000)), (LabelId(11), sum(7, -2_000_001))])
}

/// Quarters of a day from 400 days before the origin to 20 days after it; up to two days long, or going on.
fn interaction() -> impl Strategy<Value = InteractionRow<'static>> {
    const TOPICS: [&[LabelId]; 3] = [&[LabelId(1)], &[LabelId(2), LabelId(1)], &[]];
    let when = (-1600..80_i64, prop_oneof![4 => (0..8_i64).prop_map(Some), 1 => Just(None)]);
    let sentiment = proptest::option::of(-1_000_000..=1_000_000_i32);
    let queue = proptest::option::of(prop::sample::select(vec![LabelId(10), LabelId(11), LabelId(12)]));
    (when, prop::sample::select(Channel::ALL.to_vec()), sentiment, 0..3_usize, queue).prop_map(
        |((start, length), channel, sentiment, topics, queue)| {
            let start_ms = origin().as_millisecond() + start * 6 * HOUR_MS;
            InteractionRow {
                id: None,
                start_ms,
                end_ms: length.map(|quarters| start_ms + quarters * 6 * HOUR_MS),
                channel,
                handle_ms: length.map(|quarters| quarters as u32 * 1000),
                sentiment: sentiment.and_then(Sentiment::from_millionths),
                topics: TOPICS[topics],
                queue,
            }
        },
    )
}

#[test]
fn a_purchase_counts_once_its_day_is_over() {
    let bought = Purchase { date: "2026-03-01".parse().expect("a day"), amount_usd: 12.5, items: Some(2.0) };
    let record = Record { purchases: vec![bought], ..Record::default() };
    let at = |time: &str| record.vector(time.parse().expect("a time"), &QueueSentiment::default());
    let during = at("2026-03-01T23:59:59.999Z");
    assert_eq!(value(&during.values, "purchase_count"), None);
    assert_eq!(during.next_change_at, "2026-03-02T00:00:00Z".parse().ok());
    assert!(!during.is_empty(), "it will count");
    let over = at("2026-03-02T00:00:00Z");
    assert_eq!(value(&over.values, "purchase_recency_days"), Some(0.0));
    assert_eq!(value(&over.values, "total_spend_usd"), Some(12.5));
    assert_eq!(value(&over.values, "recency_days"), None, "of interactions");
    assert_eq!(over.next_change_at, "2026-03-03T00:00:00Z".parse().ok());
    assert!(Record::default().vector(origin(), &QueueSentiment::default()).is_empty());
}

#[test]
fn a_fold_is_used_for_one_customer_after_another() {
    let call = InteractionRow {
        id: None,
        start_ms: origin().as_millisecond() - HOUR_MS,
        end_ms: Some(origin().as_millisecond() - 1),
        channel: Channel::Chat,
        handle_ms: Some(1),
        sentiment: None,
        topics: &[LabelId(1)],
        queue: Some(LabelId(10)),
    };
    let mut fold = CustomerFold::as_of(origin());
    fold.interaction(&call).expect("possible");
    let bought = Purchase { date: Date::constant(2026, 2, 1), amount_usd: 1.0, items: None };
    fold.purchase(&bought).expect("possible");
    assert!(fold.vector(&queues()).depends_on_queues);
    fold.clear();
    assert!(fold.vector(&queues()).is_empty());
}

proptest! {
    #[test]
    fn what_is_not_over_by_the_time_changes_no_value(record in record(), hours in -3000..100_i64) {
        let as_of = after(origin(), hours * HOUR_MS);
        let mut past = record.clone();
        past.interactions.retain(|one| one.end_ms.is_some_and(|end| end <= as_of.as_millisecond()));
        let today = as_of.to_zoned(jiff::tz::TimeZone::UTC).date();
        past.purchases.retain(|one| one.date < today);
        let (all, past) = (record.vector(as_of, &queues()), past.vector(as_of, &queues()));
        prop_assert!(same(&all.values, &past.values), "{:?} {:?}", all, past);
        prop_assert_eq!(all.depends_on_queues, past.depends_on_queues);
    }

    #[test]
    fn until_the_next_change_a_new_computation_gives_the_same_vector(
        record in record(), hours in -3000..100_i64, part in 0.0..1.0_f64, ahead in 1..30_i64,
    ) {
        let as_of = after(origin(), hours * HOUR_MS);
        let vector = record.vector(as_of, &queues());
        prop_assert!(vector.next_change_at.is_none_or(|next| next > as_of));
        let until = vector.next_change_at.unwrap_or_else(|| after(as_of, ahead * 24 * HOUR_MS));
        let span = until.as_millisecond() - as_of.as_millisecond();
        let last = span - 1 - i64::from(as_of.subsec_nanosecond() % 1_000_000 != 0);
        for later in [(span as f64 * part) as i64, last.max(0)] {
            let again = record.vector(after(as_of, later), &queues());
            prop_assert!(same(&vector.values, &again.values), "{later} ms later: {:?} {:?}", vector, again);
            prop_assert_eq!((vector.next_change_at, vector.depends_on_queues), (again.next_change_at, again.depends_on_queues));
        }
        if let Some(next) = vector.next_change_at {
            // Not too early either: something is then known or gone, though a value may happen to stay.
            let then = record.vector(next, &queues());
            prop_assert!(then.next_change_at != vector.next_change_at);
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter(
        (record, shuffled) in record().prop_flat_map(|record| {
            let Record { interactions, purchases } = record.clone();
            let shuffled = (Just(interactions).prop_shuffle(), Just(purchases).prop_shuffle())
                .prop_map(|(interactions, purchases)| Record { interactions, purchases });
            (Just(record), shuffled)
        })
    ) {
        let one = record.vector(origin(), &queues());
        let other = shuffled.vector(origin(), &queues());
        prop_assert!(same(&one.values, &other.values), "{:?} {:?}", one, other);
        prop_assert_eq!(one.next_change_at, other.next_change_at);
    }
}

/// What happens between two passes.
#[derive(Clone, Debug)]
enum Event {
    Interaction(u8, InteractionRow<'static>),
    /// Sentiment that was not known when the interaction was recorded.
    Scored(u8, usize, Sentiment),
    Purchase(u8, Purchase),
    /// A pass, this many hours after the one before.
    Pass(i64),
}

fn event() -> impl Strategy<Value = Event> {
    let customer = || 0..6_u8;
    let score = (-1_000_000..=1_000_000_i32).prop_map(|score| Sentiment::from_millionths(score).expect("in range"));
    prop_oneof![
        4 => (customer(), interaction()).prop_map(|(customer, one)| Event::Interaction(customer, one)),
        2 => (customer(), 0..4_usize, score).prop_map(|(customer, which, score)| Event::Scored(customer, which, score)),
        1 => (customer(), purchase()).prop_map(|(customer, one)| Event::Purchase(customer, one)),
        2 => (1..200_i64).prop_map(Event::Pass),
    ]
}

proptest! {
    /// The incremental pass: only customers with news, those whose time has come and those who depend on queues are
    /// computed, and queue sums are kept up to date. After every pass all vectors are those of computing everybody anew.
    #[test]
    fn an_incremental_pass_equals_a_full_one(events in prop::collection::vec(event(), 1..60)) {
        let mut records = BTreeMap::<u8, Record>::new();
        let mut kept = BTreeMap::<u8, CustomerVector>::new();
        let mut dirty = Vec::new();
        let mut now = after(origin(), -2000 * HOUR_MS);
        let mut sums = QueueSentiment::default();
        for event in events.into_iter().chain([Event::Pass(5)]) {
            match event {
                Event::Interaction(customer, one) => {
                    // Already over when the last pass was made: it is late news for the sums.
                    if let (true, Some(queue), Some(score)) = (counts(&one, now), one.queue, one.sentiment) {
                        sums.observe(queue, score);
                    }
                    records.entry(customer).or_default().interactions.push(one);
                    dirty.push(customer);
                }
                Event::Scored(customer, which, score) => {
                    let Some(one) = records.get_mut(&customer).and_then(|found| found.interactions.get_mut(which)) else {
                        continue;
                    };
                    let before = one.sentiment.replace(score);
                    if let (true, Some(queue)) = (counts(one, now), one.queue) {
                        if let Some(before) = before {
                            sums.retract(queue, before);
                        }
                        sums.observe(queue, score);
                    }
                    dirty.push(customer);
                }
                Event::Purchase(customer, one) => {
                    records.entry(customer).or_default().purchases.push(one);
                    dirty.push(customer);
                }
                Event::Pass(hours) => {
                    let until = after(now, hours * HOUR_MS);
                    for one in records.values().flat_map(|record| &record.interactions) {
                        let (Some(queue), Some(score)) = (one.queue, one.sentiment) else { continue };
                        match (counts(one, now), counts(one, until)) {
                            (false, true) => sums.observe(queue, score),
                            (true, false) => sums.retract(queue, score),
                            (false, false) | (true, true) => {}
                        }
                    }
                    now = until;
                    for (customer, record) in &records {
                        let is_due = kept.get(customer).is_none_or(|vector| {
                            vector.depends_on_queues || vector.next_change_at.is_some_and(|next| next <= now)
                        });
                        if is_due || dirty.contains(customer) {
                            kept.insert(*customer, record.vector(now, &sums));
                        }
                    }
                    dirty.clear();
                    let mut anew = QueueSentiment::default();
                    for one in records.values().flat_map(|record| &record.interactions) {
                        if let (true, Some(queue), Some(score)) = (counts(one, now), one.queue, one.sentiment) {
                            anew.observe(queue, score);
                        }
                    }
                    prop_assert_eq!(&sums, &anew);
                    for (customer, record) in &records {
                        let full = record.vector(now, &anew);
                        let kept = &kept[customer];
                        prop_assert!(same(&kept.values, &full.values), "customer {}: {:?} {:?}", customer, kept, full);
                        prop_assert_eq!(kept.next_change_at, full.next_change_at);
                    }
                }
            }
        }
    }
}

/// Whether it counts as of a time: ended, and begun in the 365 days before it.
fn counts(one: &InteractionRow<'_>, time: Timestamp) -> bool {
    let time = time.as_millisecond();
    one.end_ms.is_some_and(|end| end <= time) && one.start_ms > time - 365 * 24 * HOUR_MS
}
