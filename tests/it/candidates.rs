//! A version on trial: a shadow changes nothing, a canary answers its share of customers, and both are compared with
//! the version that serves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use scoreline::monitoring::Monitoring;
use scoreline::monitoring::trials::TrialStatus;
use scoreline::scoring::explanation::ExplainSettings;
use scoreline::scoring::feature_table::FeatureTable;
use scoreline::scoring::{Ask, Prefer, Scored, Scorer, ScorerSettings, golden};
use scoreline_domain::time::SystemClock;
use scoreline_domain::{CustomerKey, ModelName, ModelVersion, Source};
use scoreline_engine::features::Value as FeatureValue;
use scoreline_engine::inference::bundle::{LoadSettings, sha256_hex};
use scoreline_engine::inference::registry::{
    Candidate, CandidateMode, CandidateSettings, ModelRoute, Patience, Registry, RegistrySettings,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::monitoring::watched_bundle;
use crate::support::onnx_runtime;
use crate::support::{TestApp, TestBundle};

const SHADOW: CandidateMode = CandidateMode::Shadow;

fn settings(version: &str, mode: CandidateMode) -> CandidateSettings {
    CandidateSettings { version: ModelVersion::parse(version).expect("a version"), mode }
}

/// `clv` v1.2 serves; `candidate` is tried. Metrics are of the whole process: each test has a version of its own.
fn trying(candidate: &TestBundle, mode: CandidateMode) -> TestApp {
    let app =
        TestApp::trying(&[TestBundle::clv("v1.2"), candidate.clone()], &[("clv", settings(&candidate.version, mode))]);
    assert!(app.registry.all_serving().iter().all(|snapshot| snapshot.version().as_str() == "v1.2"));
    assert_eq!(on_trial(&app).1.snapshot.version().as_str(), candidate.version);
    app
}

fn on_trial(app: &TestApp) -> (Arc<ModelRoute>, Candidate) {
    let route = app.registry.route(app.scorer.default_model()).expect("serves");
    let candidate = route.candidate.clone().expect("a candidate");
    (route, candidate)
}

/// Half the log mean more: the same order of customers, larger amounts.
fn larger(version: &str) -> TestBundle {
    TestBundle::clv(version).with_log_mean(3.5)
}

/// Gives e to the power of the dollars: no amount any more for the most frequent customers.
fn failing(version: &str) -> TestBundle {
    let mapped = r#"value = { output = "value", apply = "exp" }"#;
    TestBundle::clv(version).with_log_mean(3.5).edit(r#"value = "value""#, mapped)
}

fn canary(share: f64) -> CandidateMode {
    CandidateMode::Canary { share }
}

fn question(customer: &str, recency: f64, frequency: f64) -> Value {
    json!({"customerId": customer, "features": {"recency_days": recency, "frequency_count": frequency}})
}

/// The answer without what differs from one request to the next.
fn lasting(mut answer: Value) -> Value {
    let metadata = answer["metadata"].as_object_mut().expect("metadata");
    metadata.remove("inference_latency_ms").expect("a latency");
    metadata.remove("request_id").expect("an id");
    answer
}

fn trial(app: &TestApp) -> TrialStatus {
    let mut all = app.monitoring.trials().status();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn shown(app: &Value, version: &str) -> Value {
    let models = app["models"].as_array().expect("models");
    models.iter().find(|model| model["version"] == version).expect("listed").clone()
}

fn key(number: usize) -> CustomerKey {
    CustomerKey::from_digest(Sha256::digest(format!("CUST-{number}")).into())
}

async fn ask(app: &TestApp, customer: Option<CustomerKey>, recency: f64, frequency: f64) -> Scored {
    let features = [
        ("recency_days", Some(FeatureValue::Number(recency))),
        ("frequency_count", Some(FeatureValue::Number(frequency))),
    ];
    let ask = Ask { customer, features: Some(&features), prefer: Prefer::Exact, ..Ask::default() };
    app.scorer.score(ask).await.expect("an answer")
}

#[tokio::test]
async fn a_shadow_changes_no_answer_and_no_cache() {
    let alone = TestApp::new();
    let app = trying(&larger("v1.3-quiet"), SHADOW);
    for number in 0..40 {
        let recency = f64::from(number * 7 % 90);
        let body = question(&format!("CUST-{number}"), recency, f64::from(number % 20 + 1));
        // The second time from the cache.
        for _ in 0..2 {
            let answer = lasting(app.ok("/v1/predict/clv", body.clone()).await);
            assert_eq!(answer, lasting(alone.ok("/v1/predict/clv", body.clone()).await));
            assert_eq!(answer["metadata"]["model_version"], "v1.2");
        }
        app.scorer.catch_up().await;
    }
    assert_eq!(trial(&app).summary.expect("compared").rows, 40, "answers from the cache are not compared again");
    // After the comparison, the cache still holds what the serving version said.
    let again = app.ok("/v1/predict/clv", question("CUST-3", 21.0, 4.0)).await;
    assert_eq!((&again["metadata"]["source"], &again["metadata"]["model_version"]), (&json!("cache"), &json!("v1.2")));
}

#[tokio::test]
async fn what_is_scored_for_comparison_is_not_counted_for_drift() {
    for (mode, served, tried) in [(SHADOW, 3, 0), (canary(1.0), 0, 3)] {
        let bundles = [watched_bundle("clv", "v1.2"), watched_bundle("clv", "v1.3-drift").with_log_mean(3.5)];
        let app = TestApp::trying(&bundles, &[("clv", settings("v1.3-drift", mode))]);
        let (route, candidate) = on_trial(&app);
        // Both are watched here, so that a row that is counted for either shows.
        let both = [Arc::clone(&route.serving), Arc::clone(&candidate.snapshot)];
        app.monitoring.drift().follow(&both, app.scorer.now());
        for number in 0..3 {
            ask(&app, Some(key(number)), 30.0, 10.0).await;
        }
        app.scorer.catch_up().await;
        assert_eq!(trial(&app).summary.expect("compared").rows, 3);
        let counted = app.monitoring.drift().status();
        let rows = |version: &str| counted.iter().find(|it| it.version.as_str() == version).expect("watched").open_rows;
        assert_eq!((rows("v1.2"), rows("v1.3-drift")), (served, tried), "{mode:?}");
    }
}

#[tokio::test]
async fn statistics_gauges_and_the_admin_view_agree() {
    let app = trying(&larger("v1.3-numbers"), SHADOW);
    let mut deltas = Vec::new();
    let mut flips = 0;
    for number in 0..30_u32 {
        let (recency, frequency) = (f64::from(number * 3), f64::from(number % 15 + 1));
        let scored = ask(&app, None, recency, frequency).await;
        let (served, tried) = (scored.estimate.value, scored.estimate.value * 0.5_f64.exp());
        deltas.push(tried - served);
        flips += usize::from(scored.snapshot.tier_from(tried, None) > scored.estimate.tier);
    }
    app.scorer.catch_up().await;
    let mean = deltas.iter().sum::<f64>() / 30.0;
    let status = trial(&app);
    let summary = status.summary.expect("compared");
    assert_eq!((status.scored, status.failures, status.dropped, summary.rows), (30, 0, 0, 30));
    assert!((summary.mean - mean).abs() < 1e-9, "{} {mean}", summary.mean);
    assert!((summary.mean_abs - mean).abs() < 1e-9, "every delta is positive");
    // Two values that are equal by one model may differ in the last bit by the other.
    let correlation = summary.rank_correlation.expect("values differ");
    assert!(correlation > 0.999, "the same order: {correlation}");
    let (rates, share) = (summary.flips.expect("tiers"), flips as f64 / 30.0);
    assert!(share > 0.0 && (rates.up - share).abs() < 1e-12, "{rates:?} {share}");
    assert!(rates.down.abs() < 1e-12, "{rates:?}");
    assert!(summary.serving_seconds > 0.0 && summary.candidate_seconds > 0.0);

    let admin = app.admin("/admin/models").await.json();
    let body = &shown(&admin, "v1.3-numbers")["comparison"];
    assert_eq!((&body["against"], &body["rows"], &body["scored"]), (&json!("v1.2"), &json!(30), &json!(30)));
    assert_eq!((&body["delta"]["unit"], &body["delta"]["quantile_rows"]), (&json!("usd"), &json!(30)));
    assert!((body["rank_correlation"].as_f64().expect("a number") - correlation).abs() < 1e-4);
    assert!((body["delta"]["mean"].as_f64().expect("a number") - mean).abs() < 1e-4);
    assert!((body["tier_flips"]["up"].as_f64().expect("a number") - share).abs() < 1e-4);
    assert_eq!(shown(&admin, "v1.2")["comparison"], Value::Null, "what serves is not compared with itself");

    let metrics = app.admin("/metrics").await.text;
    let labels = r#"model="clv",version="v1.3-numbers""#;
    for line in [
        format!("scoreline_candidate_rows_total{{{labels},mode=\"shadow\"}} 30"),
        format!("scoreline_candidate_failures_total{{{labels}}} 0"),
        format!("scoreline_candidate_dropped_total{{{labels},reason=\"busy\"}} 0"),
        format!("scoreline_candidate_compared_rows{{{labels}}} 30"),
        format!("scoreline_candidate_rank_correlation{{{labels}}} {correlation}"),
        format!("scoreline_candidate_tier_flip_rate{{{labels},direction=\"down\"}} 0"),
        format!("scoreline_candidate_delta{{{labels},stat=\"mean\"}} {}", summary.mean),
        format!("scoreline_candidate_delta{{{labels},stat=\"p95\"}} {}", summary.p95),
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_canary_answers_its_share_of_customers_and_always_the_same_ones() {
    let (app, wider) = (trying(&larger("v1.3-share"), canary(0.1)), trying(&larger("v1.3-share"), canary(0.3)));
    let (customers, share) = (10_000, 0.1);
    let mut chosen = Vec::new();
    for number in 0..customers {
        let scored = ask(&app, Some(key(number)), 30.0, 10.0).await;
        assert_eq!(scored.source, Source::Model);
        if scored.version.as_str() == "v1.3-share" {
            chosen.push(number);
        }
    }
    let sigma = (customers as f64 * share * (1.0 - share)).sqrt();
    let off = (chosen.len() as f64 - customers as f64 * share).abs();
    assert!(off <= 3.0 * sigma, "{} of {customers}", chosen.len());

    let chosen: BTreeSet<usize> = chosen.into_iter().collect();
    for number in (0..customers).step_by(10) {
        let expected = if chosen.contains(&number) { "v1.3-share" } else { "v1.2" };
        let other_features = ask(&app, Some(key(number)), 60.0, 3.0).await;
        assert_eq!(other_features.version.as_str(), expected, "customer {number}");
        if chosen.contains(&number) {
            let kept = ask(&wider, Some(key(number)), 30.0, 10.0).await;
            assert_eq!(kept.version.as_str(), "v1.3-share", "a larger share keeps customer {number}");
        }
    }
}

#[tokio::test]
async fn questions_without_a_customer_are_chosen_by_their_features() {
    let app = trying(&larger("v1.3-nobody"), canary(0.5));
    let mut by_candidate = 0;
    for number in 0..200_u32 {
        let recency = f64::from(number) / 2.0;
        let version = ask(&app, None, recency, 10.0).await.version;
        assert_eq!(ask(&app, None, recency, 10.0).await.version, version, "a retry is answered alike");
        by_candidate += usize::from(version.as_str() == "v1.3-nobody");
    }
    // Three standard deviations of 200 fair choices are 21.2.
    assert!((79..=121).contains(&by_candidate), "{by_candidate}");
}

#[tokio::test]
async fn a_canary_says_who_it_is_and_is_compared_afterwards() {
    let app = trying(&larger("v1.3-everybody"), canary(1.0));
    let first = app.ok("/v1/predict/clv", question("CUST-1", 30.0, 10.0)).await;
    assert_eq!(first["metadata"]["model_version"], "v1.3-everybody");
    assert_eq!(first["metadata"]["source"], "model");
    let value = first["prediction"]["clv_value_usd"].as_f64().expect("a value");
    assert!((value - 0.75 * 3.5_f64.exp()).abs() < 0.01, "{first}");
    let again = app.ok("/v1/predict/clv", question("CUST-1", 30.0, 10.0)).await;
    assert_eq!(
        (&again["metadata"]["source"], &again["metadata"]["model_version"]),
        (&json!("cache"), &json!("v1.3-everybody"))
    );
    app.scorer.catch_up().await;
    let status = trial(&app);
    assert_eq!((status.mode, status.scored, status.failures), ("canary", 1, 0));
    let summary = status.summary.expect("compared");
    let delta = 0.75 * (3.5_f64.exp() - 3.0_f64.exp());
    assert!(summary.rows == 1 && (summary.mean - delta).abs() < 1e-9, "{summary:?}");

    // Who names the serving version gets it.
    let mut named = question("CUST-2", 30.0, 10.0);
    named["model_version"] = json!("v1.2");
    assert_eq!(app.ok("/v1/predict/clv", named).await["metadata"]["model_version"], "v1.2");
}

#[tokio::test]
async fn where_a_canary_fails_the_serving_version_answers() {
    let app = trying(&failing("v1.3-fails"), canary(1.0));
    let (calm, extreme) = (ask(&app, None, 30.0, 10.0).await, ask(&app, None, 30.0, 60.0).await);
    assert_eq!((calm.version.as_str(), calm.source), ("v1.3-fails", Source::Model));
    assert_eq!((extreme.version.as_str(), extreme.source, extreme.reason), ("v1.2", Source::Model, None));
    assert_eq!(trial(&app).failures, 1);
    let metrics = app.admin("/metrics").await.text;
    let line = r#"scoreline_candidate_failures_total{model="clv",version="v1.3-fails"} 1"#;
    assert!(metrics.lines().any(|it| it == line), "{metrics}");
}

#[tokio::test]
async fn a_canary_that_asks_for_more_refuses_nobody() {
    let strict = larger("v1.3-strict").edit("impute = 0.1", "required = true");
    let app = trying(&strict, canary(1.0));
    let scored = ask(&app, Some(key(1)), 30.0, 10.0).await;
    assert_eq!((scored.version.as_str(), scored.source), ("v1.2", Source::Model));
    assert_eq!(trial(&app).failures, 1);
    // What nobody can answer is the caller's mistake, not the candidate's.
    let reply = app.post("/v1/predict/clv", question("CUST-1", -5.0, 10.0).to_string()).await;
    assert_eq!(reply.status.as_u16(), 422, "{}", reply.text);
    assert_eq!(trial(&app).failures, 1);
}

#[tokio::test]
async fn a_failing_shadow_is_counted_and_nothing_else() {
    let app = trying(&failing("v1.3-broken"), SHADOW);
    for frequency in [10.0, 60.0, 59.0] {
        let scored = ask(&app, None, 30.0, frequency).await;
        assert_eq!((scored.version.as_str(), scored.source), ("v1.2", Source::Model));
    }
    app.scorer.catch_up().await;
    let status = trial(&app);
    assert_eq!((status.scored, status.failures), (1, 2));
    assert_eq!(status.summary.expect("one row").rows, 1);
}

#[tokio::test]
async fn rows_that_come_while_the_comparison_is_busy_are_dropped_and_counted() {
    let app = trying(&larger("v1.3-busy"), SHADOW);
    for number in 0..300 {
        ask(&app, None, f64::from(number), 10.0).await;
    }
    app.scorer.catch_up().await;
    let status = trial(&app);
    let rows = status.summary.expect("compared").rows;
    assert_eq!((rows, status.dropped), (256, 44));
}

#[tokio::test]
async fn a_promoted_candidate_is_not_compared_any_more() {
    let app = trying(&larger("v1.3-promoted"), SHADOW);
    ask(&app, None, 30.0, 10.0).await;
    app.scorer.catch_up().await;
    assert_eq!(trial(&app).summary.expect("compared").rows, 1);

    // A newer version is dropped in: the trial goes on, against another version and from the start. What waited is over.
    let before = app.monitoring.trials().of(&on_trial(&app).0, &on_trial(&app).1);
    ask(&app, None, 32.0, 10.0).await;
    larger("v1.2.1").write(app.models.path());
    app.registry.scan(Patience::Now);
    app.scorer.catch_up().await;
    assert_eq!(before.status().summary.expect("as it was").rows, 1);
    ask(&app, None, 31.0, 10.0).await;
    app.scorer.catch_up().await;
    let status = trial(&app);
    assert_eq!((status.against.as_str(), status.summary.expect("compared").rows), ("v1.2.1", 1));

    // The settings name another candidate, and what was one serves.
    let next = TestApp::trying(&[larger("v1.3-promoted"), larger("v1.4")], &[("clv", settings("v1.4", SHADOW))]);
    let body = question("CUST-1", 30.0, 10.0);
    assert_eq!(next.ok("/v1/predict/clv", body).await["metadata"]["model_version"], "v1.3-promoted");
    next.scorer.catch_up().await;
    let status = trial(&next);
    assert_eq!((status.version.as_str(), status.against.as_str()), ("v1.4", "v1.3-promoted"));
    let admin = next.admin("/admin/models").await.json();
    assert_eq!(shown(&admin, "v1.3-promoted")["comparison"], Value::Null);
}

#[tokio::test]
async fn the_gauges_of_a_trial_that_is_over_are_gone() {
    let app = trying(&larger("v1.3-over"), SHADOW);
    ask(&app, None, 30.0, 10.0).await;
    app.scorer.catch_up().await;
    let mean = |metrics: &str| {
        let start = r#"scoreline_candidate_delta{model="clv",version="v1.3-over",stat="mean"} "#;
        metrics.lines().find_map(|line| line.strip_prefix(start)).map(ToOwned::to_owned)
    };
    assert!(mean(&app.admin("/metrics").await.text).is_some());
    app.monitoring.trials().retain(|_| false);
    assert_eq!(mean(&app.admin("/metrics").await.text), None);
    assert_eq!(app.monitoring.trials().status(), []);
}

#[tokio::test]
async fn the_task_compares_until_it_is_stopped() {
    let app = trying(&larger("v1.3-task"), SHADOW);
    for number in 0..100 {
        ask(&app, None, f64::from(number), 10.0).await;
    }
    let done = async {
        while app.monitoring.trials().status()[0].scored < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = app.scorer.compare(std::future::pending()) => panic!("it was not asked to stop"),
        done = tokio::time::timeout(Duration::from_mins(1), done) => done.expect("compared"),
    }
    app.scorer.compare(async {}).await;
}

#[tokio::test]
async fn a_candidate_is_asked_by_its_own_features() {
    let serving = TestBundle::clv("v1.2").edit(r#"name = "topic_diversity""#, r#"name = "avg_handling_time_sec""#);
    let candidate = larger("v1.3-features").edit(r#"impute = "mean""#, "required = true");
    let app = TestApp::trying(&[serving, candidate], &[("clv", settings("v1.3-features", SHADOW))]);
    let mut body = question("CUST-1", 30.0, 10.0);
    app.ok("/v1/predict/clv", body.clone()).await;
    body["features"]["topic_diversity"] = json!(4);
    body["features"]["avg_handling_time_sec"] = json!(5);
    app.ok("/v1/predict/clv", body).await;
    app.scorer.catch_up().await;
    let status = trial(&app);
    assert_eq!((status.failures, status.scored), (1, 1), "what the serving version does not use reaches the candidate");
}

#[tokio::test]
async fn leads_are_compared_in_points_whatever_the_order_of_their_categories() {
    let mut candidate = TestBundle::lead("v1.1-lead")
        .edit(r#"categories = ["cellular", "telephone"]"#, r#"categories = ["telephone", "cellular"]"#);
    candidate.model = candidate.model.replace("[0.5, -0.5]", "[-0.5, 0.5]").replace("-2.0", "-1.0");
    candidate.golden.clear();
    let app = TestApp::trying(&[TestBundle::lead("v1.0"), candidate], &[("lead", settings("v1.1-lead", SHADOW))]);
    let body = json!({"leadId": "L-1", "features": {"age": 40, "contact": "cellular"}});
    app.ok("/v1/predict/lead", body).await;
    app.scorer.catch_up().await;
    let summary = trial(&app).summary.expect("compared");
    let points = |log_odds: f64| 100.0 / (1.0 + (-log_odds).exp());
    assert!((summary.mean - (points(-0.5) - points(-1.5))).abs() < 1e-9, "{summary:?}");
    assert_eq!(summary.flips, None);
    let admin = app.admin("/admin/models").await.json();
    assert_eq!(shown(&admin, "v1.1-lead")["comparison"]["delta"]["unit"], "points");
}

/// Trees serve on the caller's thread; a neural network, on threads of its own, is tried.
fn with_threads(models: &Path, mode: CandidateMode) -> (Scorer, Monitoring) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let trees = fs::read(root.join("benches/fixtures/lightgbm_200x31.onnx")).expect("the fixture");
    let network = onnx_runtime::fixture("mlp.onnx");
    for (version, backend, model, last) in [("v1", "trees", trees, 'h'), ("v2-threads", "onnx", network, 'c')] {
        let feature = |name: char| {
            format!(
                "[[features]]\nname = \"{name}\"\nunit = \"1\"\nmin = -3.0\nmax = 3.0\nmean = 0.0\nstd = 1.0\nimpute = {}\n",
                if backend == "trees" { "\"none\"" } else { "0.0" }
            )
        };
        let manifest = format!(
            "bundle_version = 1\nname = \"clv\"\nversion = \"{version}\"\ntask = \"clv\"\nbackend = \"{backend}\"\n\
             file = \"model.onnx\"\nsha256 = \"{}\"\ntrained_at = \"2026-01-01T00:00:00Z\"\nhorizon_days = 90\n\
             standardize = false\n[outputs]\nvalue = \"variable\"\n[tiers]\nmedium = 2.0\nhigh = 5.0\n\
             [neutral]\nvalue = 2.0\nlow = 0.0\nhigh = 8.0\nrisk = 0.6\ntier_share = [0.6, 0.3, 0.1]\n{}",
            sha256_hex(&model),
            ('a'..=last).map(feature).collect::<String>()
        );
        let folder = models.join("clv").join(version);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("bundle.toml"), manifest).expect("written");
        fs::write(folder.join("model.onnx"), model).expect("written");
    }
    let name = |name| ModelName::parse(name).expect("a name");
    let load =
        LoadSettings { runtime: onnx_runtime::search(), onnx_threads: 2, onnx_queue: 8, ..LoadSettings::default() };
    let candidates = BTreeMap::from([(name("clv"), settings("v2-threads", mode))]);
    let registry = RegistrySettings { candidates, load, ..RegistrySettings::new(models.to_owned()) };
    let registry = Arc::new(Registry::new(registry, golden::verify));
    registry.scan(Patience::Now);
    let route = registry.route(&name("clv")).expect("serves");
    assert!(route.candidate.is_some(), "{:?}", registry.status());
    let scorer = ScorerSettings {
        clv_model: name("clv"),
        lead_model: name("lead"),
        strict_version: false,
        deadline: Duration::from_secs(30),
        cache_bytes: 1 << 20,
        cache_ttl: Duration::from_hours(24),
        explain: ExplainSettings { top: 5, budget: Duration::from_mins(1) },
    };
    let monitoring = Monitoring::default();
    let table = FeatureTable::new(Duration::from_hours(36));
    (Scorer::new(registry, Arc::new(SystemClock), scorer, monitoring.clone(), table), monitoring)
}

#[tokio::test]
async fn a_candidate_with_threads_of_its_own_is_asked_over_its_queue() {
    let features = [("a", 0.5), ("b", -1.0), ("c", 2.0)].map(|(name, value)| (name, Some(FeatureValue::Number(value))));
    let ask = Ask { features: Some(&features), ..Ask::default() };
    for (mode, version, waits) in [(SHADOW, "v1", false), (canary(1.0), "v2-threads", true)] {
        let models = tempfile::tempdir().expect("temporary folder");
        let (scorer, monitoring) = with_threads(models.path(), mode);
        assert_eq!(scorer.never_waits(), !waits, "nobody waits for a shadow");
        let scored = scorer.score(ask).await.expect("an answer");
        assert_eq!((scored.version.as_str(), scored.source), (version, Source::Model), "{:?}", scored.reason);
        scorer.catch_up().await;
        let status = monitoring.trials().status().remove(0);
        assert_eq!((status.scored, status.failures, status.dropped), (1, 0, 0));
        assert_eq!(status.summary.expect("compared").rows, 1);
    }
}
