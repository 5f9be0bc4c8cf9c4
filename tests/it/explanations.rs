//! Reason codes through the whole server: shape, sums to the cent, the cache, the time box, and when there are none.

use std::path::Path;
use std::time::Duration;

use insta::assert_json_snapshot;
use scoreline::scoring::explanation::{Explanation, NotExplained, explain};
use scoreline_engine::inference::bundle::{LoadSettings, ModelSnapshot, ReadCustomer};
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
    explain(snapshot, raw, &snapshot.roles().value, |value| value.max(0.0), budget).await.expect("explained")
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
            let sum = explanation.base + explanation.contributions.iter().map(|part| part.amount).sum::<f64>();
            assert!((sum - explanation.value).abs() <= 1e-6 * value.max(1.0), "{name}: {explanation:?}");
            assert_eq!(explanation.method, Method::Path);
            assert_eq!(explanation.contributions.len(), snapshot.schema().len());
            for part in explanation.contributions.iter().filter(|part| part.given.is_none()) {
                assert_eq!(part.amount, 0.0, "{name}: what was not given did nothing");
            }
            rows += 1;
        }
        assert!(rows > 5, "{name} has golden rows of known customers");
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
    let moved = |explanation: &Explanation| explanation.contributions.iter().filter(|part| part.amount != 0.0).count();
    // The total and the gap between purchases follow from the four that are given.
    assert_eq!((moved(&few), moved(&many)), (2, 8));
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
    assert!(metrics.contains("scoreline_explanation_duration_seconds_bucket{method=\"path\""), "{metrics}");
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
        let explanation = explain(&snapshot, &given.raw, column, |p| 100.0 * p, long).await.expect("explained");
        let sum = explanation.base + explanation.contributions.iter().map(|part| part.amount).sum::<f64>();
        assert!((sum - explanation.value).abs() <= 1e-6, "{explanation:?}");
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
    let explanation = explain(&snapshot, &raw, risk, points, long).await.expect("explained");
    let written = explanation.written(3, 1.0);
    let sum = written.base + written.others + written.top.iter().map(|part| part.amount).sum::<f64>();
    assert_eq!(sum, explanation.value.round());
    let refused = explain(&snapshot, &raw, risk, points, Budget::of(Duration::ZERO)).await;
    assert_eq!(refused, Err(NotExplained::OutOfTime));
}
