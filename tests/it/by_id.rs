//! Predictions by customer id: answered from the table of stored features, with their time and age, never waiting for
//! whoever fills it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::future::BoxFuture;
use insta::assert_json_snapshot;
use proptest::prelude::*;
use scoreline::monitoring::Monitoring;
use scoreline::scoring::explanation::ExplainSettings;
use scoreline::scoring::feature_table::{FeatureTable, StoredFeatures, TableChange};
use scoreline::scoring::{Ask, Scorer, ScorerSettings, Warning, golden};
use scoreline::worker::follow_features::{FeatureFeed, FeatureTableKeeper, FeedError, FeedPage};
use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::privacy::IdHasher;
use scoreline_domain::time::{ManualClock, Timestamp};
use scoreline_domain::{CustomerKey, ModelName, Source};
use scoreline_engine::features::Value as FeatureValue;
use scoreline_engine::inference::registry::{Patience, Registry, RegistrySettings};
use serde_json::json;

use crate::support::test_app::privacy;
use crate::support::{TestApp, TestBundle};

const PREDICT: &str = "/v1/predict/clv";
const ROUTE: &str = "/v1/route/tier";
/// Three hours before the clock of a test app.
const PASS: &str = "2026-11-21T07:00:00Z";

fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

fn empty_table() -> FeatureTable {
    FeatureTable::new(Duration::from_hours(36))
}

fn key(customer: &str) -> CustomerKey {
    IdHasher::new(&privacy("test pepper", &[])).key(customer)
}

/// A row with these features; the others are missing.
fn features(as_of: &str, named: &[(&str, f64)]) -> StoredFeatures {
    let value = |name| named.iter().find(|(named, _)| *named == name).map_or(f64::NAN, |(_, value)| *value);
    let mut values = [f64::NAN; CATALOGUE.len()];
    for (slot, feature) in values.iter_mut().zip(CATALOGUE) {
        *slot = value(feature.name);
    }
    let as_of = at(as_of);
    StoredFeatures { as_of, exact_until: Some(as_of + Duration::from_hours(20)), values }
}

fn store(table: &FeatureTable, customer: &str, features: StoredFeatures) {
    let customer = key(customer);
    table.absorb([TableChange::Stored { number: customer.prefix().cast_signed(), customer, features }]);
}

/// Recency 30 and frequency 10 are worth 15.06 USD, see `http_api`.
fn known(as_of: &str) -> StoredFeatures {
    let named = [("recency_days", 30.0), ("frequency_count", 10.0), ("sentiment_score_avg", 0.25)];
    features(as_of, &named)
}

/// An app whose table knows `CUST-1` and has been read to its end.
fn app() -> (TestApp, FeatureTable) {
    let table = empty_table();
    store(&table, "CUST-1", known(PASS));
    table.set_complete();
    (TestApp::with_table(&[TestBundle::clv("v1.2")], &table, &[]), table)
}

#[tokio::test]
async fn a_customer_id_alone_is_answered_from_the_stored_features() {
    let (app, _) = app();
    let answer = app.ok(PREDICT, json!({"customerId": "CUST-1", "request_id": "r"})).await;
    assert_json_snapshot!(answer, {".metadata.inference_latency_ms" => "[latency]"});
    let inline = json!({"recency_days": 30, "frequency_count": 10, "sentiment_score_avg": 0.25});
    let inline = app.ok(PREDICT, json!({"customerId": "CUST-2", "features": inline})).await;
    assert_eq!(answer["prediction"], inline["prediction"]);
    assert_eq!(answer["metadata"]["warnings"], inline["metadata"]["warnings"]);
    assert_eq!(inline["metadata"].get("features_age_seconds"), None, "only of stored features");
    // Features in the request are used, whatever is stored.
    let own = json!({"recency_days": 0, "frequency_count": 50});
    let own = app.ok(PREDICT, json!({"customerId": "CUST-1", "features": own})).await;
    assert_ne!(own["prediction"], answer["prediction"]);
    assert_eq!(own["metadata"].get("features_as_of"), None);
}

#[tokio::test]
async fn routing_by_id_runs_the_model_once_and_then_uses_the_score() {
    let (app, table) = app();
    let ask = json!({"customerId": "CUST-1", "request_id": "r"});
    let answer = app.ok(ROUTE, ask.clone()).await;
    assert_json_snapshot!(answer, {".metadata.inference_latency_ms" => "[latency]"});
    app.clock.advance(Duration::from_hours(1));
    // New features do not unsettle a customer who has a recent score; the answer says what it was made from.
    store(&table, "CUST-1", features("2026-11-21T11:00:00Z", &[("recency_days", 0.0), ("frequency_count", 50.0)]));
    let again = app.ok(ROUTE, ask).await;
    let metadata = &again["metadata"];
    assert_eq!((&metadata["source"], &metadata["age_seconds"]), (&json!("cache"), &json!(3600)));
    assert_eq!((&metadata["features_as_of"], &metadata["features_age_seconds"]), (&json!(PASS), &json!(4 * 3600)));
    assert_eq!(again["routing"], answer["routing"]);
    let predicted = app.ok(PREDICT, json!({"customerId": "CUST-1"})).await;
    assert_eq!(predicted["metadata"]["source"], "model", "another row is another question");
    assert_eq!(predicted["metadata"]["features_as_of"], "2026-11-21T11:00:00Z");
}

#[tokio::test]
async fn the_cache_answers_for_the_same_row_and_says_its_newest_time() {
    let (app, table) = app();
    let ask = json!({"customerId": "CUST-1"});
    assert_eq!(app.ok(PREDICT, ask.clone()).await["metadata"]["source"], "model");
    assert_eq!(app.ok(PREDICT, ask.clone()).await["metadata"]["source"], "cache");
    store(&table, "CUST-1", known("2026-11-21T09:00:00Z"));
    let answer = app.ok(PREDICT, ask.clone()).await;
    assert_eq!(answer["metadata"]["source"], "cache", "the same values");
    assert_eq!(answer["metadata"]["features_as_of"], "2026-11-21T09:00:00Z");
    assert_eq!(answer["metadata"]["features_age_seconds"], 3600);
    // The same features brought by a request are not said to be stored ones.
    let inline = json!({"recency_days": 30, "frequency_count": 10, "sentiment_score_avg": 0.25});
    let inline = app.ok(PREDICT, json!({"customerId": "CUST-1", "features": inline})).await;
    assert_eq!((&inline["metadata"]["source"], inline["metadata"].get("features_as_of")), (&json!("cache"), None));
}

#[tokio::test]
async fn a_customer_of_whom_nothing_is_stored_gets_the_baseline_and_is_told_why() {
    let (app, table) = app();
    let warnings = async |app: &TestApp, customer: &str| {
        let body = json!({"customerId": customer, "acquisition_channel": "referral"});
        let answer = app.ok(PREDICT, body).await;
        assert_eq!((&answer["status"], &answer["metadata"]["source"]), (&json!("success"), &json!("cold_start")));
        assert_eq!(answer["prediction"]["clv_value_usd"], 30.0, "the channel's baseline");
        answer["metadata"]["warnings"].clone()
    };
    assert_eq!(warnings(&app, "CUST-9").await, json!(["no_stored_features"]));
    // A model that needs more than there is: this one has bought and never called.
    store(&table, "CUST-2", features(PASS, &[("purchase_count", 3.0), ("monetary_avg", 20.0)]));
    assert_eq!(warnings(&app, "CUST-2").await, json!(["stored_features_not_usable"]));
    // Without an interaction in the window: known, and without history.
    store(&table, "CUST-3", features(PASS, &[("frequency_count", 0.0)]));
    assert_eq!(warnings(&app, "CUST-3").await, json!([]));
    // Has bought and never called, as a log of purchases alone leaves it.
    store(
        &table,
        "CUST-4",
        features(PASS, &[("frequency_count", 0.0), ("purchase_count", 3.0), ("monetary_avg", 20.0)]),
    );
    assert_eq!(warnings(&app, "CUST-4").await, json!(["stored_features_lack: frequency_count"]));
    for action in ["/v1/genesys/clv", "/v1/genesys/route"] {
        let answer = app.ok(action, json!({"customer_id": "CUST-4"})).await;
        assert_eq!(answer["warnings"], "stored_features_lack: frequency_count", "{answer}");
    }
    let starting = TestApp::with_table(&[TestBundle::clv("v1.2")], &empty_table(), &[]);
    assert_eq!(warnings(&starting, "CUST-1").await, json!(["stored_features_loading"]));
    for app in [&app, &TestApp::new()] {
        for empty in [json!({}), json!({"conversationId": "c-1"})] {
            let reply = app.post(PREDICT, empty.to_string()).await;
            assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert_eq!(reply.json()["error"]["field"], "features");
        }
        // An empty object is features that lack what is required.
        let reply = app.post(PREDICT, json!({"customerId": "CUST-1", "features": {}}).to_string()).await;
        assert_eq!(reply.json()["error"]["field"], "features.recency_days");
    }
}

#[tokio::test]
async fn old_features_are_answered_with_a_warning() {
    let (app, _) = app();
    app.clock.advance(Duration::from_hours(33) + Duration::from_secs(1));
    let answer = app.ok(PREDICT, json!({"customerId": "CUST-1"})).await;
    assert_eq!(answer["metadata"]["source"], "model");
    assert_eq!(answer["metadata"]["features_age_seconds"], 36 * 3600 + 1);
    assert_eq!(answer["metadata"]["warnings"], json!(["stored_features_stale", "imputed: topic_diversity"]));
}

#[tokio::test]
async fn the_live_conversation_may_be_named_and_changes_nothing() {
    let (app, _) = app();
    let plain = app.ok(PREDICT, json!({"customerId": "CUST-1"})).await;
    let id = "0b6e0a0e-5b0c-4d7e-9a51-6a1b8f0c2d3e";
    let named = app.ok(PREDICT, json!({"customerId": "CUST-1", "conversationId": id})).await;
    assert_eq!((&named["prediction"], &named["metadata"]["source"]), (&plain["prediction"], &json!("cache")));
    for (id, code) in [("has space", "invalid_field"), ("mail@example.com", "pii_refused")] {
        let reply = app.post(PREDICT, json!({"customerId": "CUST-1", "conversationId": id}).to_string()).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{id}");
        let error = &reply.json()["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!(code), &json!("conversationId")), "{id}");
    }
}

#[tokio::test]
async fn data_actions_and_batches_go_by_id_too() {
    let (app, _) = app();
    let flat = json!({"customer_id": "CUST-1", "conversation_id": "c-1", "request_id": "r", "segment": ""});
    let answer = app.ok("/v1/genesys/clv", flat.clone()).await;
    assert_json_snapshot!(answer, {".inference_latency_ms" => "[latency]"});
    let route = app.ok("/v1/genesys/route", flat).await;
    assert_eq!((&route["source"], &route["features_as_of"]), (&json!("cache"), &json!(PASS)));
    let unknown = app.ok("/v1/genesys/route", json!({"customer_id": "CUST-9"})).await;
    assert_eq!((&unknown["source"], &unknown["warnings"]), (&json!("cold_start"), &json!("no_stored_features")));

    let rows = json!([{"customerId": "CUST-1"}, {"customerId": "CUST-9"}, {}]);
    let batch = app.ok("/v1/predict/clv/batch", rows).await;
    assert_eq!(batch["metadata"]["errors"], 1);
    assert_eq!(batch["results"][0]["metadata"]["features_as_of"], PASS);
    assert_eq!(batch["results"][1]["metadata"]["warnings"], json!(["no_stored_features"]));
    assert_eq!(batch["results"][2]["error"]["field"], "features");
}

#[tokio::test]
async fn a_customers_score_is_the_last_one_or_that_of_their_stored_features() {
    let (app, table) = app();
    let path = "/v1/customers/CUST-1/score";
    let first = app.get(path).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let first = first.json();
    assert_eq!((&first["metadata"]["source"], &first["metadata"]["features_as_of"]), (&json!("model"), &json!(PASS)));
    app.clock.advance(Duration::from_mins(10));
    let second = app.get(path).await.json();
    assert_eq!(second["prediction"], first["prediction"]);
    let metadata = &second["metadata"];
    assert_eq!((&metadata["source"], &metadata["age_seconds"]), (&json!("cache"), &json!(600)));
    assert_eq!(metadata["features_age_seconds"], 3 * 3600 + 600);
    // A baseline is nobody's score.
    store(&table, "CUST-3", features(PASS, &[("frequency_count", 0.0)]));
    for nobody in ["CUST-3", "CUST-9"] {
        let reply = app.get(&format!("/v1/customers/{nobody}/score")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert_eq!(reply.json()["error"]["code"], "not_found");
    }
}

#[tokio::test]
async fn an_erased_customer_is_a_stranger_whatever_the_feed_still_says() {
    let (app, table) = app();
    app.ok(PREDICT, json!({"customerId": "CUST-1"})).await;
    let erased = app.delete("/v1/customers/CUST-1").await.json();
    assert_eq!(erased["erased"], json!({"score_cache": 1, "feature_table": 1}));
    store(&table, "CUST-1", known(PASS));
    assert_eq!(table.customers(), 0);
    let answer = app.ok(PREDICT, json!({"customerId": "CUST-1"})).await;
    assert_eq!(answer["metadata"]["warnings"], json!(["no_stored_features"]));
    assert_eq!(app.get("/v1/customers/CUST-1/score").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_answer_by_id_is_explained_from_the_row_it_was_made_from() {
    let (app, table) = app();
    let ask = json!({"customerId": "CUST-1", "explain": true});
    let answer = app.ok(PREDICT, ask.clone()).await;
    let inline = json!({"recency_days": 30, "frequency_count": 10, "sentiment_score_avg": 0.25});
    let inline = app.ok(PREDICT, json!({"features": inline, "explain": true})).await;
    assert!(answer["explanation"].is_object());
    assert_eq!(answer["explanation"], inline["explanation"]);
    // The score is of the row before.
    store(&table, "CUST-1", features("2026-11-21T09:30:00Z", &[("recency_days", 0.0), ("frequency_count", 50.0)]));
    let routed = app.ok(ROUTE, ask).await;
    assert_eq!(routed.get("explanation"), None);
    assert_eq!(
        routed["metadata"]["warnings"].as_array().and_then(|warnings| warnings.last()),
        Some(&json!("explain_not_available: another_score"))
    );
}

#[tokio::test]
async fn a_shadow_compares_the_stored_row_too() {
    use scoreline_domain::ModelVersion;
    use scoreline_engine::inference::registry::{CandidateMode, CandidateSettings};

    let table = empty_table();
    store(&table, "CUST-1", known(PASS));
    table.set_complete();
    let bundles = [TestBundle::clv("v1.2"), TestBundle::clv("v1.3").with_log_mean(3.5)];
    let version = ModelVersion::parse("v1.3").expect("a version");
    let tried = CandidateSettings { version, mode: CandidateMode::Shadow };
    let app = TestApp::with_table(&bundles, &table, &[("clv", tried)]);
    let answer = app.ok(PREDICT, json!({"customerId": "CUST-1"})).await;
    assert_eq!(
        (&answer["metadata"]["model_version"], &answer["metadata"]["features_as_of"]),
        (&json!("v1.2"), &json!(PASS))
    );
    app.scorer.catch_up().await;
    let status = app.monitoring.trials().status().remove(0);
    assert_eq!((status.scored, status.failures, status.dropped), (1, 0, 0));
    assert_eq!(status.summary.expect("compared").rows, 1);
}

#[tokio::test]
async fn metrics_show_the_size_of_the_table_and_the_age_of_its_oldest_row() {
    let (app, table) = app();
    store(&table, "CUST-2", known("2026-11-20T10:00:00Z"));
    let metrics = app.admin("/metrics").await.text;
    for line in [
        "scoreline_book_customers 2",
        "scoreline_book_oldest_features_age_seconds 86400",
        "scoreline_book_complete 1",
        "scoreline_book_changes_total{kind=\"stored\"}",
        "scoreline_prediction_warnings_total{kind=\"stored_features_stale\"}",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

/// A store that gives one page and never answers again.
struct Hanging(CustomerKey);

impl FeatureFeed for Hanging {
    fn since(&self, position: u64) -> BoxFuture<'_, Result<FeedPage, FeedError>> {
        Box::pin(async move {
            if position > 0 {
                return std::future::pending().await;
            }
            let changes = vec![TableChange::Stored { number: 1, customer: self.0, features: known(PASS) }];
            Ok(FeedPage { changes, position: 1, more: false })
        })
    }
}

#[tokio::test]
async fn answers_by_id_never_wait_for_the_store() {
    let table = empty_table();
    let app = TestApp::with_table(&[TestBundle::clv("v1.2")], &table, &[]);
    let keeper = FeatureTableKeeper::new(Hanging(key("CUST-1")), table.clone());
    let asking = async {
        while !table.is_complete() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Long enough for the next look, which hangs.
        tokio::time::sleep(Duration::from_millis(20)).await;
        for _ in 0..100 {
            let answer = app.ok(PREDICT, json!({"customerId": "CUST-1"})).await;
            assert_eq!(answer["metadata"]["features_as_of"], PASS);
        }
    };
    keeper.keep(Duration::from_millis(1), asking).await;
}

fn shipped() -> (Scorer, FeatureTable) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let registry = Arc::new(Registry::new(RegistrySettings::new(models), golden::verify));
    registry.scan(Patience::Now);
    let name = |name| ModelName::parse(name).expect("a name");
    let settings = ScorerSettings {
        clv_model: name("clv"),
        lead_model: name("lead"),
        strict_version: false,
        deadline: Duration::from_millis(500),
        cache_bytes: 1 << 20,
        cache_ttl: Duration::from_hours(24),
        explain: ExplainSettings { top: 5, budget: Duration::from_mins(1) },
    };
    let (table, clock) = (empty_table(), Arc::new(ManualClock::at(at(PASS))));
    let scorer = Scorer::new(registry, clock, settings, Monitoring::default(), table.clone());
    (scorer, table)
}

fn value_of(feature: &scoreline_domain::Catalogued) -> BoxedStrategy<f64> {
    let highest = feature.highest.min(5_000.0);
    let lowest = feature.lowest.max(-3.0);
    let number = if feature.whole { (0..=5_000_u32).prop_map(f64::from).boxed() } else { (lowest..=highest).boxed() };
    prop_oneof![1 => Just(f64::NAN), 4 => number].boxed()
}

fn any_row() -> impl Strategy<Value = Vec<f64>> {
    CATALOGUE.iter().map(value_of).collect::<Vec<_>>()
}

/// Whatever is stored, by id is what the same features in the request are: bit for bit, warnings included.
#[test]
fn by_id_is_the_same_as_the_same_features_in_the_request() {
    let (scorer, table) = shipped();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let customer = key("CUST-1");
    let by_model = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(400));
    let ran = runner.run(&any_row(), |row| {
        let values = row.clone().try_into().expect("one for each feature");
        let features = StoredFeatures { as_of: at(PASS), exact_until: None, values };
        table.absorb([TableChange::Stored { number: 1, customer, features }]);
        for model in ["clv", "clv-purchases"] {
            let snapshot = scorer.registry().serving(&ModelName::parse(model).expect("a name")).expect("shipped");
            // In the order of the model, for warnings stand in the order of the request.
            let named: Vec<(&str, Option<FeatureValue<'_>>)> = snapshot
                .schema()
                .rules()
                .iter()
                .map(|rule| {
                    let stored = match (model, rule.name.as_str()) {
                        ("clv-purchases", "recency_days") => "purchase_recency_days",
                        (_, name) => name,
                    };
                    let position = CATALOGUE.iter().position(|feature| feature.name == stored).expect("catalogued");
                    (rule.name.as_str(), (!row[position].is_nan()).then_some(FeatureValue::Number(row[position])))
                })
                .collect();
            // Nobody's cache answers for the other.
            let other = CustomerKey::from_digest([7; 32]);
            scoreline_domain::privacy::Erasable::erase(scorer.cache(), &[customer, other]).expect("erased");
            let by_id =
                runtime.block_on(scorer.score(Ask { model: Some(model), customer: Some(customer), ..Ask::default() }));
            let inline = Ask { model: Some(model), customer: Some(other), features: Some(&named), ..Ask::default() };
            let by_id = by_id.expect("always an answer");
            let Ok(inline) = runtime.block_on(scorer.score(inline)) else {
                // What a caller would have to mend is answered by a baseline.
                prop_assert_eq!((by_id.source, by_id.warnings.len()), (Source::ColdStart, 1));
                continue;
            };
            prop_assert_eq!(by_id.estimate, inline.estimate);
            prop_assert_eq!(by_id.estimate.value.to_bits(), inline.estimate.value.to_bits());
            // What a store lacks is said of stores only.
            let mut warnings = by_id.warnings;
            warnings.retain(|warning| !matches!(warning, Warning::StoredLacks(_)));
            prop_assert_eq!((by_id.source, warnings), (inline.source, inline.warnings));
            by_model.set(by_model.get() + u32::from(by_id.source == Source::Model));
        }
        Ok(())
    });
    ran.unwrap_or_else(|err| panic!("{err}"));
    assert!(by_model.get() > 100, "{} rows were answered by a model", by_model.get());
}
