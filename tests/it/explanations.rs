//! Reason codes through the whole server: shape, sums to the cent, the cache, the time box, and when there are none.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use insta::assert_json_snapshot;
use jiff::civil::Date;
use scoreline::scoring::explanation::{Detail, Explanation, NotExplained, explain};
use scoreline_domain::Purchase;
use scoreline_engine::features::FeatureRule;
use scoreline_engine::features::purchases::PurchaseHistory;
use scoreline_engine::inference::FeatureMatrix;
use scoreline_engine::inference::bundle::{GoldenRow, LoadSettings, ModelSnapshot, ReadCustomer};
use scoreline_engine::inference::explain::{Budget, Method};
use serde_json::{Value, json};

use crate::support::{TestApp, TestBundle};

const PREDICT: &str = "/v1/predict/clv";

fn shipped(name: &str) -> ModelSnapshot {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
    ModelSnapshot::load(&folder, &LoadSettings::default()).expect("a shipped model loads")
}

async fn explained(snapshot: &ModelSnapshot, raw: &[f64]) -> Explanation {
    let budget = Budget::of(Duration::from_mins(1));
    let column = &snapshot.roles().value;
    explain(snapshot, raw, column, |value| value.max(0.0), Detail::Members, budget).await.expect("explained")
}

#[tokio::test]
async fn shipped_models_explain_every_golden_row_to_its_sum() {
    for name in ["clv/v1.2", "clv-purchases/v1.0"] {
        let snapshot = shipped(name);
        let mut rows = 0;
        for golden in snapshot.golden() {
            let features = golden.request.features.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
            let ReadCustomer::Known(given) = snapshot.read(features).expect("a golden request") else { continue };
            let explanation = explained(&snapshot, &given.raw).await;
            let value = golden.expect.clv_value_usd.expect("a golden value");
            assert!((explanation.value - value).abs() <= 1e-6 * value.max(1.0), "{name}");
            adds_up(&explanation);
            assert_eq!(explanation.method, Method::Exact);
            for member in explanation.groups.iter().flat_map(|group| &group.members) {
                assert_eq!(member.given, given.raw[member.position], "{name}: what was not given is no reason");
            }
            rows += 1;
        }
        assert!(rows > 5, "{name} has golden rows of known customers");
    }
}

/// Groups sum to the difference, members to their group.
fn adds_up(explanation: &Explanation) {
    let size = explanation.value.abs().max(1.0);
    let sum = explanation.base + explanation.groups.iter().map(|group| group.leading.amount).sum::<f64>();
    assert!((sum - explanation.value).abs() <= 1e-6 * size, "{explanation:?}");
    for group in &explanation.groups {
        let members: f64 = group.members.iter().map(|member| member.amount).sum();
        assert!((members - group.leading.amount).abs() <= 1e-6 * size, "{group:?}");
        assert!(group.members.iter().any(|member| member.position == group.leading.position), "{group:?}");
    }
}

#[tokio::test]
async fn the_typical_customer_has_nothing_to_explain_and_each_variant_its_own() {
    let snapshot = shipped("clv/v1.2");
    let only = |given: &[(&str, f64)]| {
        let row = given.iter().map(|(name, value)| (*name, Some(*value)));
        let ReadCustomer::Known(given) = snapshot.read(row).expect("known features") else { panic!("has history") };
        given.raw
    };
    let few = explained(&snapshot, &only(&[("recency_days", 12.0), ("frequency_count", 4.0)])).await;
    let purchases = [
        ("recency_days", 12.0),
        ("frequency_count", 4.0),
        ("purchase_recency_days", 30.0),
        ("purchase_count", 3.0),
        ("tenure_days", 200.0),
        ("monetary_avg", 40.0),
    ];
    let many = explained(&snapshot, &only(&purchases)).await;
    assert_ne!(few.base, many.base, "the typical customer is answered by the same variant");
    let names = |explanation: &Explanation| {
        let rules = snapshot.schema().rules();
        let members = explanation.groups.iter().flat_map(|group| &group.members);
        let mut names: Vec<_> = members.map(|member| rules[member.position].name.clone()).collect();
        names.sort_unstable();
        names
    };
    // The total and the gap between purchases follow from the four that are given: they are no reasons of their own.
    assert_eq!(
        (names(&few).len(), names(&many)),
        (2, {
            let mut given = purchases.map(|(name, _)| name.to_owned()).to_vec();
            given.sort_unstable();
            given
        })
    );
    let typical = snapshot.schema().typical(&only(&purchases));
    assert_eq!(explained(&snapshot, &typical).await.groups, []);
}

fn body(explain: bool) -> Value {
    json!({"customerId": "CUST-1", "request_id": "r", "explain": explain,
        "features": {"recency_days": 12, "frequency_count": 48, "sentiment_score_avg": 0.65}})
}

fn cents(value: &Value) -> i64 {
    (value.as_f64().expect("a number") * 100.0).round() as i64
}

fn sum_in_cents(answer: &Value) -> i64 {
    let explanation = &answer["explanation"];
    let parts = explanation["contributions"].as_array().expect("contributions").iter();
    cents(&explanation["base_value_usd"])
        + cents(&explanation["others_usd"])
        + parts.map(|part| cents(&part["contribution_usd"])).sum::<i64>()
}

#[tokio::test]
async fn an_explained_answer_says_what_moved_the_value() {
    let app = TestApp::new();
    let answer = app.ok(PREDICT, body(true)).await;
    assert_json_snapshot!(answer, {".metadata.inference_latency_ms" => "[latency]"});
    assert_eq!(sum_in_cents(&answer), cents(&answer["prediction"]["clv_value_usd"]));
}

#[tokio::test]
async fn asking_for_reasons_changes_nothing_else_and_not_asking_says_nothing() {
    let app = TestApp::new();
    let plain = app.ok(PREDICT, body(false)).await;
    assert!(plain.get("explanation").is_none());
    let cached = app.ok(PREDICT, body(true)).await;
    assert_eq!((&plain["metadata"]["source"], &cached["metadata"]["source"]), (&json!("model"), &json!("cache")));
    assert_eq!(plain["prediction"], cached["prediction"]);
    assert_eq!(plain["metadata"]["warnings"], cached["metadata"]["warnings"]);
    let fresh = TestApp::new().ok(PREDICT, body(true)).await;
    assert_eq!(fresh["explanation"], cached["explanation"], "the cache's answer has the same reasons");
}

#[tokio::test]
async fn the_rest_is_summed_up_behind_the_top() {
    let app = TestApp::with(&[TestBundle::clv("v1.2")], |settings| settings.explain.top = 1);
    let answer = app.ok(PREDICT, body(true)).await;
    assert_eq!(answer["explanation"]["contributions"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer["explanation"]["contributions"][0]["feature"], "frequency_count");
    assert_ne!(cents(&answer["explanation"]["others_usd"]), 0, "recency is among the others");
    assert_eq!(sum_in_cents(&answer), cents(&answer["prediction"]["clv_value_usd"]));
}

#[tokio::test]
async fn members_of_a_group_are_told_on_request_and_sum_to_it() {
    let app = TestApp::new();
    let mut ask = body(true);
    ask["features"]["topic_diversity"] = json!(3);
    let groups = app.ok(PREDICT, ask.clone()).await;
    ask["explain"] = json!("members");
    let members = app.ok(PREDICT, ask.clone()).await;
    let mut without = members.clone();
    for part in without["explanation"]["contributions"].as_array_mut().expect("contributions") {
        let amount = cents(&part["contribution_usd"]);
        let members = part.as_object_mut().and_then(|part| part.remove("members")).expect("members");
        let members = members.as_array().expect("a list");
        assert_eq!(members.iter().map(|member| cents(&member["contribution_usd"])).sum::<i64>(), amount);
        assert!(members.iter().any(|member| member["feature"] == part["feature"] && member["value"] == part["value"]));
    }
    assert_eq!(without["explanation"], groups["explanation"]);
    let batch = app.ok("/v1/predict/clv/batch", json!([ask])).await;
    assert_eq!(batch["results"][0]["explanation"], members["explanation"]);
}

#[tokio::test]
async fn every_row_of_a_batch_may_ask_for_reasons() {
    let app = TestApp::new();
    let mut other = body(true);
    other["customerId"] = json!("CUST-2");
    other["features"]["frequency_count"] = json!(3);
    let lines = format!("{}\n{}\n{}\n", body(true), body(false), other);
    let reply = app.post("/v1/predict/clv/batch", lines).await;
    let answers: Vec<Value> = reply.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (answer, asked) in answers.iter().zip([true, false, true]) {
        assert_eq!(answer.get("explanation").is_some(), asked, "{answer}");
        if asked {
            assert_eq!(sum_in_cents(answer), cents(&answer["prediction"]["clv_value_usd"]));
        }
    }
}

#[tokio::test]
async fn an_answer_without_reasons_says_why() {
    let app = TestApp::new();
    let warnings = |answer: &Value| answer["metadata"]["warnings"].clone();
    let cold = json!({"explain": true, "features": {"recency_days": 0, "frequency_count": 0}});
    let answer = app.ok(PREDICT, cold).await;
    assert_eq!((answer.get("explanation"), warnings(&answer)), (None, json!(["explain_not_available: cold_start"])));

    // Routing answers a known customer from the last score, whatever the features.
    app.ok(PREDICT, body(false)).await;
    let mut changed = body(true);
    changed["features"]["frequency_count"] = json!(1);
    let routed = app.ok("/v1/route/tier", changed).await;
    assert_eq!(warnings(&routed), json!(["explain_not_available: another_score"]));
    let routed = app.ok("/v1/route/tier", body(true)).await;
    assert_eq!(sum_in_cents(&routed), cents(&routed["prediction"]["clv_value_usd"]));

    let failing = TestBundle::clv("v1.2")
        .with_log_mean(8.0)
        .edit("value = \"value\"", "value = { output = \"value\", apply = \"exp\" }");
    let answer = TestApp::with(&[failing], |_| {}).ok(PREDICT, body(true)).await;
    assert_eq!(answer["status"], "fallback");
    assert!(warnings(&answer).to_string().contains("explain_not_available: fallback"), "{answer}");
}

#[tokio::test]
async fn no_time_means_no_reasons_but_an_answer() {
    let app = TestApp::with(&[TestBundle::clv("v1.2")], |settings| settings.explain.budget = Duration::ZERO);
    let answer = app.ok(PREDICT, body(true)).await;
    assert_eq!(answer["status"], "success");
    assert!(answer.get("explanation").is_none());
    let warnings = answer["metadata"]["warnings"].as_array().expect("a list").clone();
    assert_eq!(warnings.last(), Some(&json!("explain_not_available: out_of_time")));
    let metrics = app.admin("/metrics").await.text;
    assert!(metrics.contains("scoreline_explanations_total{outcome=\"out_of_time\"}"), "{metrics}");
}

#[tokio::test]
async fn explanations_are_counted_and_timed_by_method() {
    let app = TestApp::new();
    app.ok(PREDICT, body(true)).await;
    let metrics = app.admin("/metrics").await.text;
    assert!(metrics.contains("scoreline_explanations_total{outcome=\"explained\"}"), "{metrics}");
    assert!(metrics.contains("scoreline_explanation_duration_seconds_bucket{method=\"exact\""), "{metrics}");
}

#[tokio::test]
async fn a_curve_rescales_the_reasons_and_flat_parts_have_none() {
    let curved = |curve: &str| {
        let value = format!("value = {{ output = \"value\", curve = {curve} }}");
        let mut bundle = TestBundle::clv("v1.2").edit("value = \"value\"", &value);
        bundle.golden = String::new();
        TestApp::with(&[bundle], |_| {})
    };
    let doubled = curved("{ x = [0.0, 1000.0], y = [0.0, 2000.0] }").ok(PREDICT, body(true)).await;
    let plain = TestApp::new().ok(PREDICT, body(true)).await;
    let first = |answer: &Value| cents(&answer["explanation"]["contributions"][0]["contribution_usd"]);
    assert!((first(&doubled) - 2 * first(&plain)).abs() <= 2, "{doubled}");
    let flat = curved("{ x = [0.0, 1000.0], y = [20.0, 20.0] }").ok(PREDICT, body(true)).await;
    assert_eq!((first(&flat), cents(&flat["explanation"]["base_value_usd"])), (0, 2000));
}

#[tokio::test]
async fn the_shipped_lead_model_explains_every_golden_row_to_its_sum() {
    let snapshot = shipped("lead/v1.1");
    let mut rows = 0;
    for golden in snapshot.golden() {
        let features = golden.request.features.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
        let ReadCustomer::Known(given) = snapshot.read(features).expect("a golden request") else { continue };
        let long = Budget::of(Duration::from_mins(1));
        let column = &snapshot.roles().value;
        let explained = explain(&snapshot, &given.raw, column, |p| 100.0 * p, Detail::Members, long).await;
        let explanation = explained.expect("explained");
        adds_up(&explanation);
        assert_eq!(explanation.method, Method::TreeShap);
        rows += 1;
    }
    assert!(rows > 5);
}

#[tokio::test]
async fn a_leads_answer_is_explained_in_points_that_sum_to_it() {
    let app = TestApp::with(&[TestBundle::lead("v1.0")], |_| ());
    let body = json!({"features": {"age": 60, "contact": "telephone", "previous": 5}, "explain": true});
    let answer = app.ok("/v1/predict/lead", body).await;
    let explanation = &answer["explanation"];
    let number = |value: &Value| value.as_f64().expect("a number");
    let told: f64 = explanation["contributions"]
        .as_array()
        .expect("contributions")
        .iter()
        .map(|part| number(&part["contribution_points"]))
        .sum();
    let sum = number(&explanation["base_points"]) + told + number(&explanation["others_points"]);
    let said = 100.0 * number(&answer["prediction"]["conversion_probability"]);
    assert!((sum - said).abs() < 1e-3, "{sum} is not {said}: {explanation}");
    assert_eq!(explanation["method"], "tree_shap");
    let contact = explanation["contributions"].as_array().expect("contributions").iter();
    let contact = contact.into_iter().find(|part| part["feature"] == "contact").expect("a reason");
    assert_eq!(contact["value"], "telephone");
    assert!(number(&contact["contribution_points"]) < 0.0, "a telephone is worse than an unknown contact: {contact}");
}

#[tokio::test]
async fn a_lead_models_probability_is_explained_in_points() {
    let snapshot = shipped("clv/v1.2");
    let risk = snapshot.roles().risk.as_ref().expect("the hurdle's probability");
    let golden = snapshot.golden().iter().find_map(|row| {
        let features = row.request.features.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
        match snapshot.read(features) {
            Ok(ReadCustomer::Known(given)) => Some(given.raw),
            _ => None,
        }
    });
    let raw = golden.expect("a known customer");
    let points = |probability: f64| 100.0 * probability;
    let long = Budget::of(Duration::from_mins(1));
    let explanation = explain(&snapshot, &raw, risk, points, Detail::Groups, long).await.expect("explained");
    let written = explanation.written(3, 1.0);
    let sum = written.base + written.others + written.top.iter().map(|group| group.leading.amount).sum::<f64>();
    assert_eq!(sum, explanation.value.round());
    let refused = explain(&snapshot, &raw, risk, points, Detail::Groups, Budget::of(Duration::ZERO)).await;
    assert_eq!(refused, Err(NotExplained::OutOfTime));
}

/// Rows of real customers as of 1997-09-30, in the order of a schema; what it reads beside purchases is made up, every
/// third row lacks it where it may.
fn customers(snapshot: &ModelSnapshot) -> Vec<Vec<f64>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("training/data/cdnow/transactions_dev.csv");
    let mut histories: BTreeMap<u32, Vec<(Date, f64, f64)>> = BTreeMap::new();
    for row in csv::Reader::from_path(path).expect("purchases").deserialize() {
        let (id, date, items, amount): (u32, Date, f64, f64) = row.expect("a purchase");
        histories.entry(id).or_default().push((date, items, amount));
    }
    let as_of = Date::constant(1997, 9, 30);
    let schema = snapshot.schema();
    let beside = schema.position("frequency_count").is_some();
    let mut random = fastrand::Rng::with_seed(7);
    let row = |mut purchases: Vec<(Date, f64, f64)>| {
        purchases.sort_unstable_by_key(|(date, ..)| *date);
        let mut history = PurchaseHistory::as_of(as_of);
        for (date, items, amount_usd) in purchases {
            history.add(&Purchase { date, amount_usd, items: Some(items) }).expect("in order");
        }
        let features = history.features()?;
        let named: Vec<_> = if beside { features.named_beside_interactions().into() } else { features.named().into() };
        let mut known: BTreeMap<&str, f64> =
            named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let whole = random.u32(0..3) > 0;
        let made_up = [
            ("recency_days", random.u32(0..200)),
            ("frequency_count", random.u32(1..60)),
            ("avg_handling_time_sec", random.u32(60..900)),
            ("topic_diversity", random.u32(1..9)),
        ];
        if beside {
            known.extend(made_up.map(|(name, value)| (name, f64::from(value))));
            known.insert("sentiment_score_avg", 2.0 * random.f64() - 1.0);
            known.insert("sentiment_trend_slope", 0.2 * random.f64() - 0.1);
            known.insert("channel_preference_email", random.f64());
        }
        let value = |rule: &FeatureRule| {
            let known = known.get(rule.name.as_str()).copied().filter(|_| whole || rule.required);
            known.unwrap_or(f64::NAN)
        };
        let raw: Vec<f64> = schema.rules().iter().map(value).collect();
        match snapshot.read_row(&raw) {
            Ok(ReadCustomer::Known(given)) => Some(given.raw.to_vec()),
            _ => None,
        }
    };
    histories.into_values().filter_map(row).collect()
}

/// What a model answers to a row of raw values.
fn answer(snapshot: &ModelSnapshot, raw: &[f64]) -> f64 {
    let Ok(ReadCustomer::Known(given)) = snapshot.read_row(raw) else { panic!("{raw:?} is a customer") };
    let mut row = vec![0.0; snapshot.schema().columns()];
    snapshot.schema().prepare(&given.raw, &mut row);
    let mut out = vec![0.0; snapshot.engine().outputs().len()];
    snapshot.engine().run(FeatureMatrix::new(&row, row.len()), &mut out).expect("runs");
    snapshot.roles().value.of(&out)
}

/// What changing a group does to the answer, for every choice of whose values the other groups have.
fn changes(snapshot: &ModelSnapshot, raw: &[f64], groups: &[usize], of: usize) -> Vec<f64> {
    let schema = snapshot.schema();
    let mut typical = schema.typical(raw);
    let mut raw = raw.to_vec();
    for position in schema.following(&raw) {
        (raw[position], typical[position]) = (f64::NAN, f64::NAN);
    }
    let others: Vec<usize> = groups.iter().copied().filter(|group| *group != of).collect();
    let mix = |takes: usize, own: bool| -> Vec<f64> {
        let is_own = |position: usize| match others.iter().position(|other| *other == schema.group_of(position)) {
            Some(bit) => takes >> bit & 1 == 1,
            None => own,
        };
        raw.iter()
            .zip(&typical)
            .enumerate()
            .map(|(at, (raw, typical))| if is_own(at) { *raw } else { *typical })
            .collect()
    };
    (0..1 << others.len())
        .map(|takes| answer(snapshot, &mix(takes, true)) - answer(snapshot, &mix(takes, false)))
        .collect()
}

#[tokio::test]
async fn a_groups_sign_never_contradicts_what_changing_all_its_members_does() {
    for (name, step) in [("clv/v1.2", 400), ("clv-purchases/v1.0", 200), ("lead/v1.1", 1)] {
        let snapshot = shipped(name);
        let rows = match name {
            "lead/v1.1" => leads(&snapshot),
            _ => customers(&snapshot),
        };
        let mut decided = 0;
        let mut groups = 0;
        for raw in rows.iter().step_by(step) {
            let explanation = explained(&snapshot, raw).await;
            adds_up(&explanation);
            let differing: Vec<usize> = explanation.groups.iter().map(|group| group.group).collect();
            for group in &explanation.groups {
                let changes = changes(&snapshot, raw, &differing, group.group);
                let amount = group.leading.amount;
                let slack = 1e-6 * explanation.value.abs().max(1.0);
                let up = changes.iter().all(|change| *change >= 0.0);
                let down = changes.iter().all(|change| *change <= 0.0);
                assert!(!up || amount >= -slack, "{name}: {group:?} of {raw:?} always raises the answer: {changes:?}");
                assert!(!down || amount <= slack, "{name}: {group:?} of {raw:?} always lowers the answer: {changes:?}");
                decided += usize::from(up || down);
                groups += 1;
            }
        }
        assert!(groups > 50 && 2 * decided > groups, "{name}: {decided} of {groups} groups go one way");
    }
}

/// Rows of the golden file, and mixtures of two of them.
fn leads(snapshot: &ModelSnapshot) -> Vec<Vec<f64>> {
    let read = |row: &GoldenRow| {
        let features = row.request.features.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
        match snapshot.read(features) {
            Ok(ReadCustomer::Known(given)) => Some(given.raw.to_vec()),
            _ => None,
        }
    };
    let mut rows: Vec<Vec<f64>> = snapshot.golden().iter().filter_map(read).collect();
    let mixed: Vec<Vec<f64>> = rows
        .windows(2)
        .map(|pair| {
            pair[0].iter().zip(&pair[1]).enumerate().map(|(at, (a, b))| if at % 2 == 0 { *a } else { *b }).collect()
        })
        .collect();
    rows.extend(mixed);
    rows
}

#[tokio::test]
async fn who_bought_lately_is_not_told_that_this_lowers_their_value() {
    let snapshot = shipped("clv-purchases/v1.0");
    let schema = snapshot.schema();
    let recency = schema.position("recency_days").expect("a feature");
    let mut lately = 0;
    let mut lowered = 0;
    for raw in customers(&snapshot).iter().filter(|raw| raw[recency] <= 100.0).step_by(5) {
        let explanation = explained(&snapshot, raw).await;
        let group = explanation.groups.iter().find(|group| group.group == schema.group_of(recency));
        lately += 1;
        lowered += usize::from(group.is_some_and(|group| group.leading.amount < 0.0));
    }
    println!("{lowered} of {lately} customers who bought within 100 days are told that recency lowers their value");
    assert!(lately > 400 && lowered * 100 <= lately, "{lowered} of {lately}");
}
