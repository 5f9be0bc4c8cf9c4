//! Leads over HTTP: the place in the reference population, categories, the ladder and what a data action needs.

use std::time::Duration;

use axum::http::StatusCode;
use insta::assert_json_snapshot;
use scoreline::scoring::estimate::Wish;
use scoreline::scoring::task::{TaskScore, outcome_rows};
use scoreline::scoring::{Warning, golden};
use scoreline_engine::inference::bundle::{LoadSettings, ModelSnapshot, ReadCustomer};
use scoreline_engine::inference::registry::Patience;
use serde_json::{Value, json};

use crate::support::{TestApp, TestBundle};

const LEAD: &str = "/v1/predict/lead";

fn app() -> TestApp {
    TestApp::with(&[TestBundle::clv("v1.2"), TestBundle::lead("v1.0")], |_| {})
}

/// A bundle that loads and then fails on everybody younger than 60: e^709 is the last finite number.
fn failing(version: &str) -> TestBundle {
    let mut bundle = TestBundle::lead(version)
        .edit("probability = \"probability\"", "probability = { output = \"probability\", apply = \"exp\" }");
    // The model leaves the range of numbers below 60 years; a finite number above 1 would be refused at the probe.
    bundle.model = r#"{"kind": "regression", "format": "scoreline-linear/1", "link": "identity", "variants": [
        {"uses": ["age"], "predictor": {"intercept": 300000.0, "coefficients": [-5000.0], "floor": 0.0, "ceiling": 3000.0}}]}"#
        .into();
    bundle.golden = String::new();
    bundle.edit("{ output = \"probability\"", "{ output = \"value\"")
}

fn question() -> Value {
    json!({"leadId": "L-1", "features": {"age": 40, "contact": "cellular", "previous": 1}})
}

#[tokio::test]
async fn a_lead_gets_its_place_and_its_probability() {
    let app = app();
    let dated = json!({"features": {"age": 60}, "timestamp_utc": "2026-11-11T10:00:00Z"});
    let dated = app.ok(LEAD, dated).await["metadata"]["warnings"].to_string();
    assert!(dated.contains("stale: timestamp_utc is 10 days old"), "{dated}");
    let body = json!({"leadId": "10000045", "features": {"age": 60, "contact": "cellular", "previous": 5},
        "model_version": "v1.0", "request_id": "req-87", "timestamp_utc": "2026-11-21T09:00:00Z",
        "lead_source": "referral"});
    let reply = app.post(LEAD, body.to_string()).await;
    assert_eq!((reply.status, reply.headers["x-request-id"].to_str().ok()), (StatusCode::OK, Some("req-87")));
    assert_json_snapshot!(reply.json(), {".metadata.inference_latency_ms" => "[latency]"});
    // By hand: -2 + 1 + 0.5 + 1 = 0.5, p = 0.6225, 62 cut points at or below it, 100 × 0.62^0.9 = 65.04.
    assert_eq!(reply.json()["prediction"], json!({"priority_score": 66, "conversion_probability": 0.622_459}));
    assert!(!reply.text.contains("10000045"));
}

#[tokio::test]
async fn an_unknown_category_counts_as_missing_with_a_warning_and_an_empty_one_is_missing() {
    let app = app();
    let warnings = |answer: Value| answer["metadata"]["warnings"].clone();
    let unknown = app.ok(LEAD, json!({"features": {"age": 40, "contact": "pigeon", "previous": 1}})).await;
    assert_eq!(unknown["prediction"]["conversion_probability"], 0.119_203);
    assert_eq!(warnings(unknown), json!(["unknown_category: contact"]));
    for nothing in [json!(""), Value::Null] {
        let missing = app.ok(LEAD, json!({"features": {"age": 40, "contact": nothing, "previous": 1}})).await;
        assert_eq!(missing["prediction"]["conversion_probability"], 0.119_203);
        assert_eq!(warnings(missing), json!(["imputed: contact"]));
    }
}

#[tokio::test]
async fn values_of_the_wrong_type_are_refused_with_what_is_allowed() {
    let app = app();
    let cases = [
        (json!({"age": 40, "contact": 1}), "contact", "must be a text, one of `cellular`, `telephone`"),
        (json!({"age": 40, "contact": true}), "contact", "must be a number, a text of at most 256 bytes or null"),
        (json!({"age": "SECRET"}), "age", "must be a number"),
        (json!({"contact": "cellular"}), "age", "is required"),
        (json!({"age": 40, "duration": 12}), "duration", "is not known; this model reads age, contact, previous"),
    ];
    for (features, name, problem) in cases {
        let reply = app.post(LEAD, json!({"features": features}).to_string()).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", reply.text);
        let error = &reply.json()["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_feature"), &json!(format!("features.{name}"))));
        assert!(error["message"].as_str().is_some_and(|text| text.contains(problem)), "{}", reply.text);
        assert!(!reply.text.contains("SECRET"));
    }
    let reply = app.post(LEAD, json!({"customerId": "x"}).to_string()).await;
    assert_eq!(reply.json()["error"]["field"], "customerId");
}

#[tokio::test]
async fn a_lead_nobody_knows_gets_the_conversion_of_its_source() {
    let app = app();
    let answer = app.ok(LEAD, json!({"leadId": "L-9", "lead_source": "referral", "request_id": "r"})).await;
    assert_json_snapshot!(answer, {".metadata.inference_latency_ms" => "[latency]"});
    let unknown = app.ok(LEAD, json!({"leadId": "L-9", "lead_source": "skywriting"})).await;
    assert_eq!(
        unknown["prediction"],
        json!({"priority_score": 1, "conversion_probability": 0.125}),
        "behind every lead with a score"
    );
    assert_eq!(unknown["metadata"]["warnings"], json!(["lead_source_unknown"]));
    let nothing = app.post(LEAD, "{}").await;
    assert_eq!((nothing.status.as_u16(), &nothing.json()["error"]["field"]), (422, &json!("features")));
}

#[tokio::test]
async fn a_score_comes_from_the_cache_with_its_age_and_covers_a_failing_model() {
    let app = app();
    let first = app.ok(LEAD, question()).await;
    assert_eq!(first["metadata"]["source"], "model");
    app.clock.advance(Duration::from_mins(5));
    let again = app.ok(LEAD, question()).await;
    assert_eq!((&again["metadata"]["source"], &again["metadata"]["age_seconds"]), (&json!("cache"), &json!(300)));
    assert_eq!(again["prediction"], first["prediction"]);

    failing("v1.1").write(app.models.path());
    app.registry.scan(Patience::Now);
    let stale = app.ok(LEAD, question()).await;
    assert_eq!((&stale["status"], &stale["metadata"]["source"]), (&json!("fallback"), &json!("stale_cache")));
    assert_eq!(stale["metadata"]["model_version"], "v1.0");
    let mut other = question();
    other["leadId"] = json!("L-2");
    other["lead_source"] = json!("referral");
    let baseline = app.ok(LEAD, other).await;
    assert_eq!((&baseline["status"], &baseline["metadata"]["reason"]), (&json!("fallback"), &json!("model_error")));
    assert_eq!(baseline["prediction"], json!({"priority_score": 29, "conversion_probability": 0.25}));
}

#[tokio::test]
async fn a_model_of_another_task_or_none_is_said_so() {
    let app = app();
    for (path, model) in [(LEAD, "clv"), ("/v1/predict/clv", "lead")] {
        let reply = app.post(path, json!({"features": {}, "model": model}).to_string()).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (422, &json!("unknown_model")));
    }
    let without = TestApp::new();
    let reply = without.post(LEAD, question().to_string()).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (503, &json!("no_model")));
    assert!(reply.text.contains("`lead` is missing"), "{}", reply.text);
    // One customer and one lead of the same name are two cache entries.
    app.ok(LEAD, json!({"leadId": "X", "features": {"age": 40}})).await;
    let routed = app.ok("/v1/route/tier", json!({"customerId": "X"})).await;
    assert_eq!(routed["metadata"]["source"], "cold_start");
}

#[tokio::test]
async fn a_batch_answers_row_by_row() {
    let app = app();
    let rows = json!([question(), {"features": {"age": -1}}, {"leadId": "L-3"}]);
    let answer = app.ok("/v1/predict/lead/batch", rows).await;
    assert_eq!((&answer["metadata"]["rows"], &answer["metadata"]["errors"]), (&json!(3), &json!(1)));
    assert_eq!(answer["results"][0]["prediction"]["priority_score"], 22);
    assert_eq!(answer["results"][1]["error"]["field"], "features.age");
    assert_eq!(answer["results"][2]["metadata"]["source"], "cold_start");
}

#[tokio::test]
async fn data_actions_get_flat_scalars_and_always_200() {
    let app = app();
    let flat = json!({"lead_id": "L-1", "age": "40", "contact": "cellular", "previous": "${input.previous}",
        "request_id": "conv-1"});
    assert_json_snapshot!(app.ok("/v1/genesys/lead", flat).await, {".inference_latency_ms" => "[latency]"});
    for (body, reason) in [(r#"{"age": "forty"}"#, "invalid_feature"), ("{broken", "malformed_json")] {
        let answer = app.ok_text("/v1/genesys/lead", body).await;
        assert_eq!((&answer["status"], &answer["reason"]), (&json!("error"), &json!(reason)));
        assert_eq!((&answer["priority_score"], &answer["conversion_probability"]), (&json!(1), &json!(0.125)));
    }
}

#[test]
fn a_lead_bundle_is_checked_by_its_own_rules() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = |bundle: &TestBundle| {
        bundle.write(folder.path());
        let path = folder.path().join(&bundle.name).join(&bundle.version);
        ModelSnapshot::load(&path, &LoadSettings::default()).and_then(|snapshot| golden::verify(&snapshot))
    };
    load(&TestBundle::lead("v1")).expect("complete");
    let refused = |bundle: TestBundle| load(&bundle).expect_err("refused").to_string();
    let lead = || TestBundle::lead("v2");
    assert!(refused(lead().edit("probability = \"probability\"", "")).contains("`outputs.probability` is required"));
    assert!(refused(lead().edit("0.97, 0.98, 0.99,", "0.97, 0.99,")).contains("99 probabilities that never fall"));
    let dollars = "[lead]\n";
    let neutral = "[neutral]\nvalue = 1.0\nlow = 0.0\nhigh = 2.0\nrisk = 0.5\ntier_share = [1.0, 0.0, 0.0]\n\n[lead]\n";
    assert!(refused(lead().edit(dollars, neutral)).contains("`neutral` is in dollars"));
    let mut wrong = lead();
    wrong.golden = wrong.golden.replace("\"priority_score\": 19", "\"priority_score\": 50");
    assert!(refused(wrong).contains("golden row 1: `priority_score` must be 50, got 19"));

    let clv = || TestBundle::clv("v2");
    assert!(refused(clv().edit("horizon_days = 273\n", "")).contains("`horizon_days` is required for a `clv` model"));
    let tiers = "[tiers]\nmedium = 10.0\nhigh = 40.0\n";
    assert!(refused(clv().edit(tiers, "")).contains("`tiers` is required for a `clv` model"));
    let task = refused(clv().edit("task = \"clv\"", "task = \"lead\""));
    assert!(task.contains("`lead` is required for a `lead` model"), "{task}");
}

/// Leads of one night: `age` spreads them, `previous` and `contact` are those of all.
fn night(first: usize, leads: usize) -> Vec<Value> {
    let age = |number: usize| 60.0 + ((first + number) * 7919 % 3500) as f64 / 100.0;
    (0..leads).map(|number| json!({"features": {"age": age(number), "contact": "cellular", "previous": 5}})).collect()
}

/// Asks about a night's leads in batches of a hundred: their answers.
async fn ask_night(app: &TestApp, leads: Vec<Value>) -> Vec<Value> {
    let mut answers = Vec::new();
    for batch in leads.chunks(100) {
        let reply = app.post("/v1/predict/lead/batch", json!(batch).to_string()).await;
        answers.extend_from_slice(reply.json()["results"].as_array().expect("results"));
    }
    answers
}

fn above(places: &[u64], limit: u64) -> f64 {
    places.iter().filter(|place| **place >= limit).count() as f64 / places.len() as f64
}

fn place(answer: &Value) -> u64 {
    answer["prediction"]["priority_score"].as_u64().unwrap_or_else(|| panic!("a place: {answer}"))
}

#[tokio::test]
async fn a_few_leads_are_placed_alike_whatever_way_they_come() {
    let app = app();
    let lead = || json!({"features": {"age": 60, "contact": "cellular", "previous": 5}});
    let one = place(&app.ok(LEAD, lead()).await);
    let batch = app.post("/v1/predict/lead/batch", json!([lead(), lead(), lead()]).to_string()).await;
    for answer in batch.json()["results"].as_array().expect("results") {
        assert_eq!(place(answer), one);
    }
    let flat = json!({"age": 60, "contact": "cellular", "previous": 5});
    assert_eq!(app.ok("/v1/genesys/lead", flat).await["priority_score"], one);
    let folder = tempfile::tempdir().expect("a folder");
    let [from, to] = ["in.csv", "out.csv"].map(|name| folder.path().join(name));
    std::fs::write(&from, "age,contact,previous\n60,cellular,5\n").expect("written");
    let snapshot = app.registry.serving(&scoreline_domain::ModelName::parse("lead").expect("a name")).expect("serves");
    let format = scoreline::cli::score::TableFormat::Csv;
    scoreline::cli::score::table(&snapshot, (&from, format), (&to, format), None).expect("scored");
    let scored = std::fs::read_to_string(&to).expect("read");
    assert!(scored.contains(&format!("60,cellular,5,{one},")), "{scored}");
}

#[tokio::test]
async fn the_limits_select_a_share_of_any_night() {
    let app = app();
    // All of them stand at 60 and above among the leads of the bundle.
    let together: Vec<u64> = ask_night(&app, night(0, 400)).await[100..].iter().map(place).collect();
    assert!((0.3..=0.38).contains(&above(&together, 70)), "{}", above(&together, 70));
    assert!((0.2..=0.27).contains(&above(&together, 80)), "{}", above(&together, 80));
    // The next night is worse than all before, and its leads come one by one.
    let mut places = Vec::new();
    for mut lead in night(7, 400) {
        lead["features"]["contact"] = json!("telephone");
        lead["features"]["previous"] = json!(0);
        places.push(place(&app.ok(LEAD, lead).await));
    }
    let later = &places[100..];
    assert!((0.2..=0.4).contains(&above(later, 70)), "{}", above(later, 70));
    assert!((0.15..=0.3).contains(&above(later, 80)), "{}", above(later, 80));
}

#[tokio::test]
async fn leads_of_a_batch_keep_the_order_of_their_probabilities() {
    let app = app();
    let answers = ask_night(&app, night(0, 100)).await;
    let mut leads: Vec<(f64, u64)> = answers
        .iter()
        .map(|answer| (answer["prediction"]["conversion_probability"].as_f64().expect("a number"), place(answer)))
        .collect();
    leads.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(leads.is_sorted_by_key(|lead| lead.1), "{leads:?}");
}

#[tokio::test]
async fn a_repeated_answer_is_placed_and_moves_nothing() {
    let app = app();
    let before = place(&app.ok(LEAD, question()).await);
    for _ in 0..200 {
        assert_eq!(place(&app.ok(LEAD, question()).await), before, "the same lead, from the cache");
    }
    ask_night(&app, night(0, 400)).await;
    let after = app.ok(LEAD, question()).await;
    assert_eq!(after["metadata"]["source"], "cache");
    assert!(place(&after) < before, "it stands behind the leads that came meanwhile: {} {before}", place(&after));
}

#[tokio::test]
async fn a_restart_and_a_replica_go_on_from_where_leads_stand() {
    let [one, other] = [app(), app()];
    let ask = async |app: &TestApp| place(&app.ok(LEAD, json!({"features": {"age": 60, "contact": "cellular"}})).await);
    let fresh = ask(&other).await;
    ask_night(&one, night(0, 400)).await;
    let moved = ask(&one).await;
    assert!(moved < fresh, "a night of better leads came: {moved} {fresh}");

    let mut unkept = one.scorer.take_unkept_leads();
    assert_eq!(unkept.iter().map(|version| version.leads.len()).collect::<Vec<_>>(), [400]);
    // A store that was down gets them the next time, with those that came meanwhile.
    one.scorer.give_back_unkept_leads(unkept.remove(0));
    ask_night(&one, night(3, 20)).await;
    let unkept = one.scorer.take_unkept_leads().remove(0);
    assert_eq!(unkept.leads.len(), 421, "with the one that was asked alone before them");

    let mut kept = scoreline_domain::RollingPlaces::default();
    kept.take(&unkept.leads);
    let kept = scoreline_domain::RollingPlaces::from_bytes(&kept.to_bytes()).expect("own bytes");
    other.scorer.take_unkept_leads();
    for app in [&one, &other] {
        app.scorer.follow_places(unkept.version, kept.clone());
    }
    assert!(ask(&one).await.abs_diff(moved) <= 2);
    assert_eq!(ask(&one).await, ask(&other).await);
}

/// The shipped model's probability of a lead, with the warnings.
fn shipped(more: &[(&str, f64)]) -> (f64, Vec<String>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/lead/v1.1");
    let snapshot = ModelSnapshot::load(&folder, &LoadSettings::default()).expect("loads");
    let lead = [("age", 41.0), ("campaign", 1.0)].into_iter().chain(more.iter().copied());
    let read = snapshot.read(lead.map(|(name, value)| (name, Some(value)))).expect("answered");
    let ReadCustomer::Known(given) = read else { panic!("a lead is never new") };
    let mut scored = outcome_rows(&snapshot, &given.raw, Wish::default()).expect("runs");
    let Ok(TaskScore::Lead(score)) = scored.remove(0) else { panic!("a lead") };
    let warnings = Warning::of_features(&given).map(|warning| warning.text(&snapshot).into_owned()).collect();
    (score.probability.get(), warnings)
}

#[test]
fn the_shipped_model_needs_no_economy_and_says_what_it_took_instead() {
    let (bare, warnings) = shipped(&[]);
    assert!((0.001..0.5).contains(&bare));
    for series in ["nr.employed", "emp.var.rate", "cons.price.idx", "cons.conf.idx", "euribor3m"] {
        assert!(warnings.contains(&format!("imputed: {series}")), "{warnings:?}");
    }
    let newest =
        [("nr.employed", 5099.1), ("emp.var.rate", -1.8), ("cons.price.idx", 92.893), ("cons.conf.idx", -46.2)];
    let (given, warnings) = shipped(&newest);
    assert!((given - bare).abs() < 1e-9, "as it was last: {given} {bare}");
    assert!(!warnings.contains(&"imputed: nr.employed".to_owned()), "{warnings:?}");
}

#[test]
fn days_that_nobody_has_seen_are_the_longest_seen_and_never_is_not_days() {
    let (never, warnings) = shipped(&[("pdays", 999.0)]);
    assert!(!warnings.iter().any(|warning| warning.ends_with("pdays")), "{warnings:?}");
    assert_eq!(shipped(&[]).0, never, "who does not say was never contacted");
    let (longest, _) = shipped(&[("pdays", 12.0)]);
    for far in [300.0, 998.0, 1000.0] {
        let (contacted, warnings) = shipped(&[("pdays", far)]);
        assert_eq!(contacted, longest);
        assert!(contacted > 1.2 * never, "{contacted} {never}");
        assert!(warnings.contains(&"outside_training_range: pdays".to_owned()), "{warnings:?}");
    }
}
