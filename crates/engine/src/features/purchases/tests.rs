//! Features of purchases: small logs computed by hand, and what holds for any log.

use jiff::ToSpan;
use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use scoreline_domain::catalogued;

const AS_OF: Date = date(1997, 9, 30);

fn purchase(date: Date, amount_usd: f64, items: f64) -> Purchase {
    Purchase { date, amount_usd, items: Some(items) }
}

fn features(purchases: &[Purchase]) -> Option<PurchaseFeatures> {
    let mut history = PurchaseHistory::as_of(AS_OF);
    for purchase in purchases {
        history.add(purchase).expect("in order");
    }
    history.features()
}

#[test]
fn features_of_a_small_history_computed_by_hand() {
    let history = [
        purchase(date(1997, 1, 12), 12.0, 1.0),
        purchase(date(1997, 1, 12), 77.0, 5.0),
        purchase(date(1997, 3, 1), 0.0, 1.0),
        purchase(date(1997, 9, 20), 21.0, 2.0),
    ];
    let expected = PurchaseFeatures {
        recency_days: 10.0,
        purchase_count: 3.0,
        tenure_days: 261.0,
        monetary_avg: 110.0 / 3.0,
        total_spend_usd: 110.0,
        last_order_usd: 21.0,
        max_order_usd: 89.0,
        spend_last_90d_usd: 21.0,
        purchases_last_90d: 1.0,
        purchase_gap_mean_days: 251.0 / 2.0,
        items_count: Some(9.0),
        // 261, 213 and 10 days ago, oldest first: the order in which they are added.
        purchases_decayed_30d: [261.0_f64, 213.0, 10.0].iter().map(|age| 0.5_f64.powf(age / 30.0)).sum(),
        first_order_usd: 89.0,
    };
    let found = features(&history).expect("purchases");
    assert!((found.purchases_decayed_30d - expected.purchases_decayed_30d).abs() < 1e-12);
    let purchases_decayed_30d = expected.purchases_decayed_30d;
    assert_eq!(PurchaseFeatures { purchases_decayed_30d, ..found }, expected);
}

#[test]
fn a_single_purchase_has_its_tenure_as_gap_and_no_purchase_has_no_features() {
    let single = features(&[purchase(AS_OF, 5.0, 1.0)]).expect("a purchase on the as-of day counts");
    assert_eq!((single.recency_days, single.tenure_days, single.purchase_gap_mean_days), (0.0, 0.0, 0.0));
    assert_eq!(features(&[]), None);
    assert_eq!(features(&[purchase(date(1997, 10, 1), 5.0, 1.0)]), None);
}

#[test]
fn the_window_holds_exactly_ninety_days() {
    let edge = AS_OF.checked_sub(89.days()).expect("in the calendar");
    let before = AS_OF.checked_sub(90.days()).expect("in the calendar");
    let both = features(&[purchase(before, 7.0, 1.0), purchase(edge, 5.0, 1.0)]).expect("purchases");
    assert_eq!((both.spend_last_90d_usd, both.purchases_last_90d), (5.0, 1.0));
}

#[test]
fn a_purchase_that_can_not_be_is_refused_and_changes_nothing() {
    let mut history = PurchaseHistory::as_of(AS_OF);
    history.add(&purchase(date(1997, 5, 2), 5.0, 1.0)).expect("in order");
    let before = history.features();
    let mut refused = |given: Purchase| history.add(&given).expect_err("refused").to_string();
    assert_eq!(
        refused(purchase(date(1997, 5, 1), 5.0, 1.0)),
        "purchase of 1997-05-01 comes after one of 1997-05-02: purchases must be in date order"
    );
    assert_eq!(
        refused(purchase(date(1997, 5, 3), 5e12, 1.0)),
        "purchase of 1997-05-03 has `amount_usd` = `5000000000000`, allowed is a number from -1e12 to 1e12"
    );
    assert!(refused(purchase(date(1997, 5, 3), 5.0, f64::NAN)).contains("`items` = `NaN`"));
    assert_eq!(history.features(), before);
}

#[test]
fn every_name_is_catalogued() {
    let features = features(&[purchase(AS_OF, 5.0, 1.0)]).expect("a purchase");
    for (name, value) in features.named().into_iter().chain(features.named_beside_interactions()) {
        let known = catalogued(name).expect(name);
        assert_eq!(value.and_then(|value| known.impossible(value)), None, "{name}");
    }
}

#[test]
fn what_is_spent_after_a_day_is_spent_within_the_horizon() {
    let on = |day: i8, amount_usd| purchase(date(1997, 10, day), amount_usd, 1.0);
    let all = [purchase(AS_OF, 1.0, 1.0), on(1, 2.0), on(10, 4.1), on(11, 8.0)];
    assert_eq!(spent_after(all, AS_OF, 10), 6.1);
    assert_eq!(spent_after([], AS_OF, 10), 0.0);
}

#[test]
fn a_day_is_known_once_it_is_over() {
    let at = |time: &str| last_whole_day(time.parse().expect("a time"));
    assert_eq!(at("1997-10-01T00:00:00Z"), AS_OF);
    assert_eq!(at("1997-10-01T23:59:59Z"), AS_OF);
    assert_eq!(at("1997-09-30T23:59:59.999Z"), date(1997, 9, 29));
    assert_eq!(known_from(AS_OF).map(last_whole_day), Some(AS_OF));
}

fn purchases() -> impl Strategy<Value = Vec<Purchase>> {
    // Offsets from 400 days before to 60 days after the as-of day.
    let one = (-400..=60_i64, 0..5000_u32, 1..4_u32).prop_map(|(offset, cents, items)| Purchase {
        date: AS_OF.checked_add(offset.days()).expect("in the calendar"),
        amount_usd: f64::from(cents) / 100.0,
        items: Some(f64::from(items)),
    });
    proptest::collection::vec(one, 0..30)
}

proptest! {
    #[test]
    fn purchases_after_the_as_of_day_change_nothing(all in purchases()) {
        let mut past: Vec<_> = all.iter().copied().filter(|purchase| purchase.date <= AS_OF).collect();
        let mut all = all;
        let with_future = PurchaseHistory::from_unsorted(AS_OF, &mut all).expect("possible").features();
        let without = PurchaseHistory::from_unsorted(AS_OF, &mut past).expect("possible").features();
        prop_assert_eq!(with_future, without);
    }

    #[test]
    fn the_fold_equals_the_plain_definition(all in purchases()) {
        let mut days = std::collections::BTreeMap::<Date, f64>::new();
        for purchase in all.iter().filter(|purchase| purchase.date <= AS_OF) {
            *days.entry(purchase.date).or_default() += purchase.amount_usd;
        }
        let features = PurchaseHistory::from_unsorted(AS_OF, &mut all.clone()).expect("possible").features();
        let Some(features) = features else {
            prop_assert!(days.is_empty());
            return Ok(());
        };
        let total: f64 = days.values().sum();
        prop_assert_eq!(features.purchase_count as usize, days.len());
        prop_assert!((features.total_spend_usd - total).abs() < 1e-6);
        prop_assert!((features.max_order_usd - days.values().copied().fold(0.0, f64::max)).abs() < 1e-9);
        let window = AS_OF.checked_sub(90.days()).expect("in the calendar");
        prop_assert_eq!(features.purchases_last_90d as usize, days.keys().filter(|day| **day > window).count());
        prop_assert!(features.recency_days <= features.tenure_days);
        prop_assert!(features.max_order_usd <= features.total_spend_usd + 1e-9);
    }
}

#[test]
fn a_refund_is_taken_off_and_is_no_purchase() {
    let on = |month, day, amount_usd| Purchase { date: date(2020, month, day), amount_usd, items: Some(1.0) };
    let features = |purchases: &[Purchase]| {
        PurchaseHistory::from_unsorted(date(2020, 3, 1), &mut purchases.to_vec()).expect("possible").features()
    };
    let plain = features(&[on(1, 5, 100.0), on(2, 1, 50.0)]).expect("a customer");
    let net = features(&[on(1, 5, 100.0), on(2, 1, 50.0), on(2, 20, -30.0)]).expect("a customer");
    assert_eq!((net.total_spend_usd, net.monetary_avg, net.spend_last_90d_usd), (120.0, 60.0, 120.0));
    assert_eq!((net.purchase_count, net.recency_days), (plain.purchase_count, plain.recency_days));
    assert_eq!((net.last_order_usd, net.max_order_usd), (50.0, 100.0));
    let returned = features(&[on(1, 5, 100.0), on(2, 1, 50.0), on(2, 1, -50.0)]).expect("a customer");
    assert_eq!((returned.purchase_count, returned.recency_days, returned.last_order_usd), (1.0, 56.0, 100.0));
    let more = features(&[on(1, 5, 100.0), on(2, 1, -150.0)]).expect("a customer");
    assert_eq!((more.total_spend_usd, more.monetary_avg), (0.0, 0.0), "nobody spends less than nothing");
    assert_eq!(features(&[on(2, 1, -150.0)]), None, "who only gave back has bought nothing that is known");
    let free = features(&[on(2, 1, 0.0)]).expect("a customer");
    assert_eq!(free.purchase_count, 1.0, "something for nothing is a purchase");
}
