//! What is known of a customer is used or said: the shipped models under every mixture of interactions and purchases.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use scoreline::scoring::estimate::{Wish, estimate_rows};
use scoreline::scoring::feature_table::FeatureTable;
use scoreline::scoring::golden;
use scoreline_domain::{Estimate, Tier};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::{LoadSettings, ReadCustomer, TierWorth};
use scoreline_engine::inference::manifest::TierLimits;
use serde_json::{Map, Value, json};

use crate::support::TestApp;

const PREDICT: &str = "/v1/predict/clv";

/// The payload of the guides: interactions, and no word of purchases.
const INTERACTIONS: [(&str, f64); 9] = [
    ("recency_days", 12.0),
    ("frequency_count", 48.0),
    ("avg_handling_time_sec", 245.0),
    ("sentiment_score_avg", 0.65),
    ("sentiment_trend_slope", 0.02),
    ("topic_diversity", 7.0),
    ("channel_preference_email", 0.2),
    ("channel_preference_voice", 0.6),
    ("channel_preference_chat", 0.2),
];
const SPENDER: [(&str, f64); 3] = [("purchase_count", 30.0), ("monetary_avg", 500.0), ("tenure_days", 250.0)];

fn shipped(model: &str) -> ModelSnapshot {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(model);
    ModelSnapshot::load(&folder, &LoadSettings::default()).expect(model)
}

static CLV: LazyLock<ModelSnapshot> = LazyLock::new(|| shipped("clv/v1.2"));
static CLV_PURCHASES: LazyLock<ModelSnapshot> = LazyLock::new(|| shipped("clv-purchases/v1.0"));

/// The answer to a customer of whom a history is known.
fn scored(snapshot: &ModelSnapshot, features: &[(&str, f64)]) -> Estimate {
    let read = snapshot.read(features.iter().map(|(name, value)| (*name, Some(*value)))).expect("possible");
    let ReadCustomer::Known(given) = read else { panic!("{features:?} is no new customer") };
    estimate_rows(snapshot, &given.raw, Wish::default()).expect("runs").pop().expect("a row").expect("a score")
}

async fn ask(app: &TestApp, features: &[&[(&str, f64)]]) -> Value {
    let features: Map<String, Value> =
        features.concat().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    app.ok(PREDICT, json!({"features": features})).await
}

fn app() -> TestApp {
    TestApp::shipped(&FeatureTable::new(Duration::from_hours(36)))
}

fn warnings(answer: &Value) -> Vec<&str> {
    let warnings = answer["metadata"]["warnings"].as_array().expect("a list");
    warnings.iter().map(|warning| warning.as_str().expect("a text")).collect()
}

#[tokio::test]
async fn purchases_count_though_their_recency_is_not_known() {
    let app = app();
    let nothing = ask(&app, &[&INTERACTIONS]).await;
    let known = ask(&app, &[&INTERACTIONS, &SPENDER]).await;
    let value = |answer: &Value| answer["prediction"]["clv_value_usd"].as_f64().expect("a value");
    assert!(value(&known) > 10.0 * value(&nothing), "{known} beside {nothing}");
    assert_eq!(known["prediction"]["clv_tier"], "High_Value");
    assert!(warnings(&known).contains(&"imputed: purchase_recency_days"), "{known}");
    // Each fact by itself changes the answer.
    for fact in SPENDER[1..].iter().chain(&[("purchase_recency_days", 200.0)]) {
        let with = ask(&app, &[&INTERACTIONS, &SPENDER[..1], &[*fact]]).await;
        let without = ask(&app, &[&INTERACTIONS, &SPENDER[..1]]).await;
        assert!((value(&with) - value(&without)).abs() > 0.1, "{fact:?}: {with}");
        assert!(!warnings(&with).iter().any(|warning| warning.starts_with("ignored")), "{with}");
    }
}

#[tokio::test]
async fn what_is_given_and_not_used_is_said() {
    let app = app();
    let answer = ask(&app, &[&INTERACTIONS, &SPENDER[1..]]).await;
    let ignored: Vec<&str> = warnings(&answer).into_iter().filter(|warning| warning.starts_with("ignored")).collect();
    assert_eq!(
        ignored,
        ["ignored: tenure_days (needs purchase_count)", "ignored: monetary_avg (needs purchase_count)"]
    );
    let answer = ask(&app, &[&SPENDER, &[("sentiment_score_avg", 0.5)]]).await;
    assert!(warnings(&answer).contains(&"ignored: sentiment_score_avg (needs frequency_count)"), "{answer}");
    // Eight of twelve purchase features are not four.
    let core = [("recency_days", 20.0), ("purchase_count", 5.0), ("tenure_days", 250.0), ("monetary_avg", 40.0)];
    let orders = [("last_order_usd", 90.0), ("max_order_usd", 90.0)];
    let four = scored(&CLV_PURCHASES, &core);
    assert_ne!(scored(&CLV_PURCHASES, &[&core[..], &orders].concat()).value, four.value);
    let body = json!({"model": "clv-purchases", "features": {"recency_days": 20, "purchase_count": 5,
        "tenure_days": 250, "monetary_avg": 40, "purchases_last_90d": 2}});
    let answer = app.ok(PREDICT, body).await;
    assert!(warnings(&answer).contains(&"ignored: purchases_last_90d (needs spend_last_90d_usd)"), "{answer}");
}

#[tokio::test]
async fn a_count_of_zero_is_no_history() {
    let app = app();
    let source = async |features: &[&[(&str, f64)]]| ask(&app, features).await["metadata"]["source"].clone();
    assert_eq!(source(&[&INTERACTIONS, &[("purchase_count", 0.0)]]).await, "cold_start");
    assert_eq!(source(&[&[("frequency_count", 0.0)]]).await, "cold_start");
    assert_eq!(source(&[&[("frequency_count", 0.0)], &SPENDER[1..]]).await, "cold_start");
    // Purchases alone are a history.
    let alone = ask(&app, &[&SPENDER]).await;
    let beside_zero = ask(&app, &[&SPENDER, &[("frequency_count", 0.0), ("recency_days", 0.0)]]).await;
    assert_eq!(
        (&alone["metadata"]["source"], &alone["prediction"]["clv_tier"]),
        (&json!("model"), &json!("High_Value"))
    );
    assert_eq!(alone["prediction"], beside_zero["prediction"]);
}

#[test]
fn each_set_has_limits_of_its_own_and_the_same_shares() {
    let limits = |features: &[(&str, f64)]| {
        let ReadCustomer::Known(given) =
            CLV.read(features.iter().map(|(name, value)| (*name, Some(*value)))).expect("possible")
        else {
            panic!("known")
        };
        CLV.standard(&given.raw).limits
    };
    let both = limits(&[&INTERACTIONS[..], &SPENDER].concat());
    let interactions = limits(&INTERACTIONS);
    assert!(both.high > 2.0 * both.medium, "{both:?}");
    assert!(interactions.high < both.high && interactions.medium > both.medium, "less known, closer to the middle");
    // Somebody who was in touch once and long ago is not in the middle, and somebody who is often is above it.
    let once =
        [("recency_days", 200.0), ("frequency_count", 1.0), ("topic_diversity", 1.0), ("sentiment_score_avg", -0.5)];
    assert_eq!(scored(&CLV, &once).tier, Tier::Low);
    assert_eq!(scored(&CLV, &INTERACTIONS).tier, Tier::High);
}

#[test]
fn limits_by_share_give_every_set_the_same_shares_and_golden_rows_still_pass() {
    let settings =
        LoadSettings { tiers: Some(TierLimits::Shares { high: 0.05, medium: 0.2 }), ..LoadSettings::default() };
    for model in ["clv/v1.2", "clv-purchases/v1.0"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(model);
        let snapshot = ModelSnapshot::load(&folder, &settings).expect(model);
        golden::verify(&snapshot).expect(model);
        let worth = snapshot.tier_worth();
        assert_eq!(worth.len(), 1 + snapshot.manifest().information.len());
        for TierWorth { information, outcomes: [low, medium, high], .. } in worth {
            for (of, share) in [(low, 0.75), (medium, 0.2), (high, 0.05)] {
                assert!((of.share - share).abs() < 0.001, "{model}, {information}: {of:?}");
            }
            assert!(low.spent < medium.spent && medium.spent < high.spent, "{model}, {information}");
            assert!((low.dollars + medium.dollars + high.dollars - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn what_is_imputed_or_beyond_what_was_seen_lowers_the_confidence() {
    let certainty = |features: &[(&str, f64)]| {
        let read = CLV.read(features.iter().map(|(name, value)| (*name, Some(*value)))).expect("possible");
        let ReadCustomer::Known(given) = read else { panic!("known") };
        CLV.standard(&given.raw).certainty
    };
    let with = |name: &str, value: Option<f64>| -> Vec<(&str, f64)> {
        let given = INTERACTIONS.iter().filter_map(|(given, at)| {
            let value = if *given == name { value } else { Some(*at) };
            Some((*given, value?))
        });
        given.collect()
    };
    assert_eq!(certainty(&INTERACTIONS), 1.0);
    let unknown = certainty(&with("sentiment_score_avg", None));
    let unseen = certainty(&with("frequency_count", Some(5000.0)));
    assert!(unknown < 1.0 && unseen < 1.0, "{unknown}, {unseen}");
    let confidence = |features: &[(&str, f64)]| scored(&CLV, features).confidence.expect("calibrated").get();
    assert!(confidence(&INTERACTIONS[..2]) < confidence(&INTERACTIONS));
}

/// Which way a feature may move an answer.
const UP: [&str; 10] = [
    "frequency_count",
    "sentiment_score_avg",
    "sentiment_trend_slope",
    "topic_diversity",
    "monetary_avg",
    "spend_last_90d_usd",
    "purchases_last_90d",
    "purchases_decayed_30d",
    "last_order_usd",
    "max_order_usd",
];
const DOWN: [&str; 2] = ["recency_days", "purchase_recency_days"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    /// One change at a time, inside the training range and beyond it, whatever else is known.
    #[test]
    fn no_answer_moves_the_wrong_way(
        purchases in any::<bool>(),
        at in prop::collection::vec(0.0..1.3f64, 15),
        given in prop::collection::vec(prop::bool::weighted(0.7), 15),
        moved in 0..15usize,
        by in 0.01..2.0f64,
    ) {
        let snapshot = if purchases { &*CLV_PURCHASES } else { &*CLV };
        let rules = snapshot.schema().rules();
        let counts = ["purchase_count", "frequency_count"];
        let mut features: Vec<(&str, f64)> = rules
            .iter()
            .enumerate()
            .filter(|(i, rule)| given[*i] || rule.required)
            .map(|(i, rule)| {
                let value = rule.min + at[i] * at[i] * (rule.max - rule.min);
                let whole = scoreline_domain::catalogued(&rule.name).is_some_and(|known| known.whole);
                let value = if whole { value.round() } else { value };
                let lowest = if counts.contains(&rule.name.as_str()) { 1.0 } else { rule.min };
                let highest = scoreline_domain::catalogued(&rule.name).map_or(f64::MAX, |known| known.highest);
                (rule.name.as_str(), value.max(lowest).min(highest))
            })
            .collect();
        let Some(place) = features.iter().position(|(name, _)| *name == rules[moved.min(rules.len() - 1)].name) else {
            return Ok(());
        };
        let (name, before) = features[place];
        let up = UP.contains(&name);
        prop_assume!(up || DOWN.contains(&name));
        let first = scored(snapshot, &features);
        let rule = &rules[snapshot.schema().position(name).expect("a feature")];
        let highest = scoreline_domain::catalogued(name).map_or(f64::MAX, |known| known.highest);
        let step = by * (rule.max - rule.min);
        let whole = scoreline_domain::catalogued(name).is_some_and(|known| known.whole);
        features[place].1 = (before + if whole { step.ceil() } else { step }).min(highest);
        let then = scored(snapshot, &features);
        let slack = 1e-9 * first.value.max(1.0);
        if up {
            prop_assert!(then.value >= first.value - slack, "{name} up from {before}: {} to {}, {features:?}", first.value, then.value);
        } else {
            prop_assert!(then.value <= first.value + slack, "{name} up from {before}: {} to {}, {features:?}", first.value, then.value);
        }
    }
}
