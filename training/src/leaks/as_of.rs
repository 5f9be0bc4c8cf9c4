//! As-of test: features of a day must not change when something happens after it. Run on real customers with the
//! feature functions that training uses.

use std::fmt::Debug;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use scoreline::packing::leaks::Check;
use scoreline_domain::{Channel, InteractionRow, LabelId, Purchase, Sentiment};

/// Customers looked at: evenly taken from all.
pub(crate) const SAMPLE: usize = 500;

const HOUR_MS: i64 = 3_600_000;

/// Purchases: one on the day after, a large one a year later, and whatever the customer really did afterwards.
///
/// # Errors
/// When the features cannot be computed at all.
pub(crate) fn purchases<'a, F: PartialEq + Debug>(
    histories: impl ExactSizeIterator<Item = &'a [Purchase]>,
    as_of: Date,
    features: impl Fn(&[Purchase]) -> anyhow::Result<F>,
) -> anyhow::Result<Check> {
    let later = [(as_of.tomorrow()?, 1.0), (as_of.checked_add(1.year())?, 1e6)];
    let step = histories.len().div_ceil(SAMPLE).max(1);
    let mut tally = Tally::default();
    for history in histories.step_by(step) {
        let past: Vec<Purchase> = history.iter().copied().filter(|purchase| purchase.date <= as_of).collect();
        let mut with_future = history.to_vec();
        with_future.extend(later.map(|(date, amount_usd)| Purchase { date, amount_usd, items: Some(99.0) }));
        with_future.sort_by_key(|purchase| purchase.date);
        tally.compare(&features(&past)?, &features(&with_future)?);
    }
    Ok(tally.check("purchases after the as-of day"))
}

/// Interactions: one that ends a second after the time, one that begins then, and one that is still going on.
///
/// # Errors
/// When the features cannot be computed at all.
pub(crate) fn interactions<'a, F: PartialEq + Debug>(
    histories: impl ExactSizeIterator<Item = Vec<InteractionRow<'a>>>,
    as_of: Timestamp,
    features: impl Fn(&[InteractionRow<'a>]) -> anyhow::Result<F>,
) -> anyhow::Result<Check> {
    let as_of_ms = as_of.as_millisecond();
    let [hour_before, second_after, hour_after] = [-HOUR_MS, 1000, HOUR_MS].map(|later| as_of_ms + later);
    let closing = InteractionRow {
        id: None,
        start_ms: hour_before,
        end_ms: Some(second_after),
        channel: Channel::Voice,
        handle_ms: Some(3_601_000),
        sentiment: Sentiment::new(-1.0),
        topics: &[LabelId(u32::MAX)],
        queue: Some(LabelId(u32::MAX)),
    };
    let later = [
        closing,
        InteractionRow { start_ms: second_after, end_ms: Some(hour_after), sentiment: Sentiment::new(1.0), ..closing },
        InteractionRow { end_ms: None, ..closing },
    ];
    let step = histories.len().div_ceil(SAMPLE).max(1);
    let mut tally = Tally::default();
    for history in histories.step_by(step) {
        let counts = |one: &InteractionRow<'_>| one.end_ms.is_some_and(|end| end <= as_of_ms);
        let past: Vec<_> = history.iter().copied().filter(counts).collect();
        let with_future = [&history[..], &later[..]].concat();
        tally.compare(&features(&past)?, &features(&with_future)?);
    }
    Ok(tally.check("interactions that ended after the as-of time"))
}

#[derive(Default)]
struct Tally {
    customers: usize,
    changed: usize,
    /// Of the first change: the values say what, and not who.
    example: Option<String>,
}

impl Tally {
    fn compare<F: PartialEq + Debug>(&mut self, past: &F, with_future: &F) {
        self.customers += 1;
        if past != with_future {
            self.changed += 1;
            self.example.get_or_insert_with(|| format!("{past:?} became {with_future:?}"));
        }
    }

    fn check(self, what: &str) -> Check {
        let Self { customers, changed, example } = self;
        let detail = match example {
            None => format!("{what} change nothing ({customers} customers tried)"),
            Some(example) => format!(
                "{what} change the features of {changed} of {customers} customers: the feature function reads the \
                 future. Make it ignore what comes after the as-of time. First change: {example}"
            ),
        };
        Check { name: "as-of test", passed: changed == 0, detail }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use scoreline_engine::features::interactions::{InteractionHistory, QueueSentiment};
    use scoreline_engine::features::purchases::PurchaseHistory;

    use super::*;

    const DAY: Date = date(1997, 9, 30);

    #[test]
    fn our_purchase_features_pass_and_a_careless_sum_does_not() {
        let one = |date, amount_usd| Purchase { date, amount_usd, items: Some(1.0) };
        let histories = [vec![one(date(1997, 1, 2), 5.0), one(date(1997, 12, 1), 9.0)], vec![one(DAY, 3.0)]];
        let all = || histories.iter().map(Vec::as_slice);
        let ours = purchases(all(), DAY, |all| Ok(PurchaseHistory::from_unsorted(DAY, &mut all.to_vec())?.features()));
        assert!(ours.expect("computes").passed);
        let sum = |all: &[Purchase]| Ok(all.iter().map(|purchase| purchase.amount_usd).sum::<f64>());
        let careless = purchases(all(), DAY, sum).expect("computes");
        assert!(!careless.passed);
        assert!(
            careless.detail.contains("of 2 of 2 customers") && careless.detail.contains("First change: 5.0 became")
        );
    }

    #[test]
    fn our_interaction_features_pass_and_counting_open_ones_does_not() {
        let as_of: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let at = |hours: i64| as_of.as_millisecond() - hours * HOUR_MS;
        let one = InteractionRow {
            id: None,
            start_ms: at(50),
            end_ms: Some(at(49)),
            channel: Channel::Chat,
            handle_ms: Some(60_000),
            sentiment: Sentiment::new(0.5),
            topics: &[LabelId(1)],
            queue: Some(LabelId(1)),
        };
        let all =
            || vec![vec![one], vec![one, InteractionRow { start_ms: at(9), end_ms: Some(at(-2)), ..one }]].into_iter();
        let ours = interactions(all(), as_of, |all| {
            let mut history = InteractionHistory::as_of(as_of);
            for one in all {
                history.add(one)?;
            }
            Ok(history.features(&QueueSentiment::default()))
        });
        assert!(ours.expect("computes").passed);
        let careless = interactions(all(), as_of, |all| Ok(all.len())).expect("computes");
        assert!(careless.detail.contains("1 became 4"), "{}", careless.detail);
    }
}
