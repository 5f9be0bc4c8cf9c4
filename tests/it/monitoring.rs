//! What becomes of a model after it serves: drift alarms from live rows, and outcomes that feed the gauges.

use std::time::Duration;

use axum::http::StatusCode;
use scoreline::monitoring::book::PredictionLimits;
use scoreline::monitoring::drift::{DriftEvent, Subject};
use scoreline::monitoring::window::AlarmChange;
use scoreline::monitoring::{Monitoring, MonitoringSettings, WindowSettings};
use scoreline_domain::ModelName;
use scoreline_engine::inference::registry::Patience;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::test_app::Kept;
use crate::support::{TestApp, TestBundle};

const PREDICT: &str = "/v1/predict/clv";
const OUTCOMES: &str = "/v1/outcomes";
const WINDOW: Duration = Duration::from_hours(24);
const ROWS: usize = 400;

/// `frequency_count` had a quarter of the training rows each up to 5, 10 and 20 and above; the value follows from it.
pub fn watched_bundle(name: &str, version: &str) -> TestBundle {
    let quarters =
        |edges: &str| format!("edges = {edges}\nshares = [0.25, 0.25, 0.25, 0.25]\nzero = 0.0\nmissing = 0.0\n");
    let feature = "min = 0.0\nmax = 60.0\nmean = 10.0\nstd = 10.0\n";
    let bundle = TestBundle { name: name.into(), ..TestBundle::clv(version) };
    bundle.edit(feature, &format!("{feature}[features.drift]\n{}", quarters("[5.0, 10.0, 20.0]"))).edit(
        "[neutral]",
        &format!(
            "[drift]\nrows = 5000\nscore_rows = 2000\n[drift.score]\n{}\n[neutral]",
            quarters("[12.0, 15.1, 25.0]")
        ),
    )
}

pub fn settings(ledger: Option<PredictionLimits>) -> MonitoringSettings {
    let windows = WindowSettings { length: WINDOW, least_rows: ROWS as u64, most_rows: 100_000 };
    MonitoringSettings { windows, ledger, replay: None }
}

/// Metrics are of the whole process: each test watches a model of its own name.
pub fn watching(name: &str, monitoring: Monitoring) -> TestApp {
    let bundles = [watched_bundle(name, "v1.2")];
    let app =
        TestApp::watched(&bundles, |settings| settings.clv_model = ModelName::parse(name).expect("a name"), monitoring);
    app.follow();
    app
}

async fn with_ledger(name: &str) -> (TestApp, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = PredictionLimits { predictions: 1000, outcomes: 1000, window: 100, sample_every: 86_400 };
    let kept = Kept::open(folder.path(), &settings(Some(limits))).await;
    (watching(name, kept.monitoring), folder)
}

impl TestApp {
    fn follow(&self) {
        self.monitoring.drift().follow(&self.registry.all_serving(), self.clock_now());
    }

    fn clock_now(&self) -> scoreline_domain::time::Timestamp {
        scoreline_domain::time::Clock::now(&*self.clock)
    }

    /// A day of rows with these frequencies in turn; what the window's end said.
    pub async fn day(&self, frequencies: &[u32]) -> Vec<DriftEvent> {
        for frequency in frequencies.iter().cycle().take(ROWS) {
            self.ok(PREDICT, json!({"features": {"recency_days": 30, "frequency_count": frequency}})).await;
        }
        self.clock.advance(WINDOW);
        self.monitoring.drift().judge(self.clock_now())
    }

    async fn metric(&self, name: &str) -> f64 {
        let text = self.admin("/metrics").await.text;
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no `{name}` in\n{text}"))
            .rsplit(' ')
            .next()
            .expect("a value")
            .parse()
            .expect("a number")
    }
}

fn changes(events: &[DriftEvent]) -> Vec<(&str, AlarmChange)> {
    events.iter().map(|event| (event.subject.as_str(), event.change)).collect()
}

#[tokio::test]
async fn a_drift_raises_its_alarm_after_two_windows_and_a_recovery_clears_it() {
    let app = watching("drifting", Monitoring::start(&settings(None)));
    let (usual, late) = ([3, 8, 15, 30], [30]);
    for _ in 0..2 {
        assert_eq!(app.day(&usual).await, []);
    }
    assert!(app.metric("scoreline_feature_psi{model=\"drifting\",feature=\"frequency_count\"}").await < 0.001);

    assert_eq!(app.day(&late).await, [], "one window is no alarm");
    let raised = app.day(&late).await;
    assert_eq!(changes(&raised), [("frequency_count", AlarmChange::Raised), ("score", AlarmChange::Raised)]);
    // Three cells are empty: 3 * (1/800 - 1/4) ln((1/800) / (1/4)) + (1 - 1/4) ln(1 / (1/4)).
    let by_hand = 3.0 * (1.0 / 800.0 - 0.25) * (1.0_f64 / 200.0).ln() + 0.75 * 4.0_f64.ln();
    assert!((raised[0].psi.value - by_hand).abs() < 1e-9, "{:?}", raised[0].psi);
    assert_eq!(raised[1].subject, Subject::Score);
    for column in
        ["feature_psi_alarm{model=\"drifting\",feature=\"frequency_count\"}", "score_psi_alarm{model=\"drifting\"}"]
    {
        assert_eq!(app.metric(&format!("scoreline_{column}")).await, 1.0);
    }
    let model = &app.admin("/admin/models").await.json()["models"][0];
    assert_eq!(model["drift"]["alarms"], json!(["frequency_count", "score"]));
    let column = &model["drift"]["last_window"]["columns"][0];
    assert_eq!((&column["most_moved"], &column["share_now"]), (&json!("up to 5"), &json!(0.0)));

    assert_eq!(app.day(&usual).await, []);
    let cleared = app.day(&usual).await;
    assert_eq!(changes(&cleared), [("frequency_count", AlarmChange::Cleared), ("score", AlarmChange::Cleared)]);
    assert_eq!(app.metric("scoreline_score_psi_alarm{model=\"drifting\"}").await, 0.0);
}

#[tokio::test]
async fn a_row_is_counted_when_the_model_runs_for_it_and_a_swap_begins_anew() {
    let app = watching("swapped", Monitoring::start(&settings(None)));
    let rows = || app.monitoring.drift().status()[0].open_rows;
    let body = json!({"customerId": "C-1", "features": {"recency_days": 30, "frequency_count": 10}});
    app.ok(PREDICT, body.clone()).await;
    assert_eq!(app.ok(PREDICT, body.clone()).await["metadata"]["source"], "cache");
    assert_eq!(app.ok(PREDICT, json!({"features": {"frequency_count": 0}})).await["metadata"]["source"], "cold_start");
    assert_eq!(rows(), 1, "neither the cached answer nor the baseline counts");

    watched_bundle("swapped", "v1.3").with_log_mean(4.0).write(app.models.path());
    app.registry.scan(Patience::Now);
    app.ok(PREDICT, body.clone()).await;
    app.follow();
    let status = &app.monitoring.drift().status()[0];
    assert_eq!((status.version.as_str(), status.open_rows, &status.closed), ("v1.3", 0, &None));
    app.ok(PREDICT, json!({"features": {"recency_days": 30, "frequency_count": 11}})).await;
    assert_eq!(rows(), 1);
}

#[tokio::test]
async fn too_few_rows_keep_a_window_open() {
    let app = watching("quiet", Monitoring::start(&settings(None)));
    app.ok(PREDICT, json!({"features": {"recency_days": 30, "frequency_count": 10}})).await;
    app.clock.advance(WINDOW * 30);
    assert_eq!(app.monitoring.drift().judge(app.clock_now()), []);
    let status = &app.monitoring.drift().status()[0];
    assert_eq!((status.open_rows, &status.closed), (1, &None));
}

#[tokio::test]
async fn a_bundle_without_a_reference_is_served_and_not_watched() {
    let app = TestApp::new();
    app.follow();
    app.ok(PREDICT, json!({"features": {"recency_days": 30, "frequency_count": 10}})).await;
    assert_eq!(app.monitoring.drift().status(), []);
    let model = &app.admin("/admin/models").await.json()["models"][0];
    assert!(model.get("drift").is_none());
}

#[test]
fn a_reference_that_can_not_be_used_is_refused_by_name() {
    let refused = |from: &str, to: &str| {
        let app = TestApp::with(&[watched_bundle("clv", "v1.2").edit(from, to)], |_| {});
        format!("{:?}", app.registry.status()[0].state)
    };
    let rows = refused("score_rows = 2000", "score_rows = 0");
    assert!(rows.contains("`drift` must have `score_rows` above 0"), "{rows}");
    let shares = refused("[12.0, 15.1, 25.0]", "[12.0, 25.0]");
    assert!(shares.contains("`drift` must have one more of `shares` than of `edges`"), "{shares}");
    let edges = refused("[5.0, 10.0, 20.0]", "[5.0, 20.0, 10.0]");
    assert!(edges.contains("`frequency_count` has drift bins that must have `edges` that are finite"), "{edges}");
}

/// A prediction as a caller kept it.
fn prediction() -> Value {
    json!({"clv_value_usd": 20.0, "confidence_interval_low": 0.0, "confidence_interval_high": 50.0,
        "interval_level": 0.9, "risk_score": 0.25, "tier_probability": 0.5, "clv_tier": "Medium_Value",
        "model_version": "v1.2", "scored_at": "2026-01-01T00:00:00Z"})
}

fn outcome(customer: &str, spend_usd: f64) -> Value {
    json!({"customerId": customer, "actual_spend_usd": spend_usd, "observed_at": "2026-11-20T00:00:00Z",
        "prediction": prediction()})
}

#[tokio::test]
async fn an_outcome_is_matched_with_the_prediction_that_was_recorded() {
    let (app, _folder) = with_ledger("recorded").await;
    let scored =
        app.ok(PREDICT, json!({"customerId": "C-1", "features": {"recency_days": 30, "frequency_count": 10}})).await;
    let told = json!({"customerId": "C-1", "actual_spend_usd": 20.0, "observed_at": "2026-11-21T10:00:00Z"});
    let early = app.ok(OUTCOMES, told.clone()).await;
    assert_eq!((&early["status"], &early["outcome"]["result"]), (&json!("success"), &json!("immature")));
    assert_eq!(early["outcome"]["scored_at"], scored["metadata"]["scored_at"]);
    assert!(early["outcome"].get("inside_interval").is_none());

    app.clock.advance(Duration::from_hours(24 * 274));
    let late = json!({"observed_at": "2027-08-22T00:00:00Z", "customerId": "C-1", "actual_spend_usd": 20.0});
    let recorded = app.ok(OUTCOMES, late.clone()).await;
    assert_eq!(recorded["outcome"]["result"], "recorded");
    assert_eq!(
        (&recorded["outcome"]["horizon_days"], &recorded["outcome"]["inside_interval"]),
        (&json!(273), &json!(true))
    );
    assert!(recorded["metadata"]["request_id"].is_string());
    assert_eq!(app.ok(OUTCOMES, late).await["outcome"]["result"], "duplicate");
    assert_eq!(app.ok(OUTCOMES, told).await["outcome"]["result"], "duplicate");

    let stranger = json!({"customerId": "C-2", "actual_spend_usd": 1, "observed_at": "2026-11-21T10:00:00Z"});
    let unknown = app.post(OUTCOMES, stranger.to_string()).await;
    assert_eq!(unknown.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        (&unknown.json()["error"]["code"], &unknown.json()["error"]["field"]),
        (&json!("no_prediction"), &json!("prediction"))
    );
}

#[tokio::test]
async fn outcomes_become_gauges_of_coverage_and_calibration() {
    let (app, _folder) = with_ledger("told").await;
    // One of four above the interval, one without a purchase, one in the tier that was assigned.
    for (customer, spend) in [("a", 0.0), ("b", 20.0), ("c", 45.0), ("d", 55.0)] {
        let answer = app.ok(OUTCOMES, outcome(customer, spend)).await;
        assert_eq!(answer["outcome"]["result"], "recorded");
        assert_eq!(answer["outcome"]["inside_interval"], json!(spend <= 50.0));
    }
    let own = "model=\"told\",version=\"v1.2\"";
    for (name, expected) in [
        (format!("scoreline_outcome_window{{{own}}}"), 4.0),
        (format!("scoreline_observed_coverage{{{own},level=\"0.9\"}}"), 0.75),
        (format!("scoreline_observed_coverage_outcomes{{{own},level=\"0.9\"}}"), 4.0),
        (format!("scoreline_predicted_to_actual_ratio{{{own}}}"), 80.0 / 120.0),
        (format!("scoreline_no_purchase_share{{{own}}}"), 0.25),
        (format!("scoreline_calibration_predicted{{{own},output=\"risk\"}}"), 0.25),
        (format!("scoreline_calibration_observed{{{own},output=\"tier_probability\"}}"), 0.25),
        (format!("scoreline_tier_hit_share{{{own},tier=\"Medium_Value\"}}"), 0.25),
    ] {
        assert_eq!(app.metric(&name).await, expected, "{name}");
    }
    assert!(app.metric(&format!("scoreline_calibration_error{{{own},output=\"risk\"}}")).await > 0.0);
    let shown = app.admin("/admin/outcomes").await.json();
    assert_eq!((&shown["kept"], &shown["ledger"]["outcomes_remembered"]), (&json!(true), &json!(4)));
    assert_eq!(shown["models"][0]["coverage"][0]["share"], 0.75);
    assert_eq!(shown["models"][0]["predicted_to_actual"], 0.6667);
}

#[tokio::test]
async fn a_batch_of_outcomes_has_a_result_for_every_row() {
    let (app, _folder) = with_ledger("batches").await;
    let rows = [
        outcome("a", 1.0).to_string(),
        r#"{"customerId": "b"}"#.to_owned(),
        outcome("a", 1.0).to_string(),
        "not json".to_owned(),
        outcome("c", 2.0).to_string(),
    ];
    let lines = app.post(OUTCOMES, rows.join("\n")).await;
    assert_eq!(
        (lines.status, lines.headers["content-type"].as_bytes()),
        (StatusCode::OK, &b"application/x-ndjson"[..])
    );
    let results: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let words: Vec<_> =
        results.iter().map(|row| row["outcome"]["result"].as_str().or(row["error"]["code"].as_str())).collect();
    assert_eq!(
        words,
        [Some("recorded"), Some("invalid_field"), Some("duplicate"), Some("malformed_json"), Some("recorded")]
    );
    assert_eq!((&results[1]["row"], &results[1]["error"]["field"]), (&json!(1), &json!("actual_spend_usd")));

    let array = app.ok(OUTCOMES, json!([outcome("a", 1.0), outcome("d", 1.0)])).await;
    assert_eq!(array["results"][0]["outcome"]["result"], "duplicate");
    assert_eq!(array["results"][1]["outcome"]["result"], "recorded");
    assert_eq!((&array["metadata"]["rows"], &array["metadata"]["errors"]), (&json!(2), &json!(0)));
    let many = app.post(OUTCOMES, format!("[{}]", vec!["{}"; 101].join(","))).await;
    assert_eq!(many.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_wrong_outcome_is_refused_with_the_field_and_nothing_is_kept() {
    let (app, _folder) = with_ledger("refused").await;
    let with = |field: &str, value: Value| {
        let mut body = outcome("a", 1.0);
        match field.strip_prefix("prediction.") {
            Some(inner) => body["prediction"][inner] = value,
            None => body[field] = value,
        }
        body.to_string()
    };
    let cases = [
        ("actual_spend_usd", json!(-0.01), "0 or more"),
        ("actual_spend_usd", json!("12"), "must be"),
        ("actual_spend_usd", json!(null), "is required"),
        ("customerId", json!(null), "is required"),
        ("customerId", json!(""), "must be"),
        ("observed_at", json!("yesterday"), "RFC 3339"),
        ("observed_at", json!("2026-11-21T10:06:00Z"), "future"),
        ("model", json!("../x"), "cannot be used"),
        ("prediction.clv_value_usd", json!(-1), "0 or more"),
        ("prediction.clv_value_usd", json!(null), "is required"),
        ("prediction.confidence_interval_high", json!(-2), "0 or more"),
        ("prediction.confidence_interval_low", json!(51), "below"),
        ("prediction.interval_level", json!(1), "above 0 and below 1"),
        ("prediction.interval_level", json!(null), "together"),
        ("prediction.risk_score", json!(1.1), "from 0 to 1"),
        ("prediction.confidence_score", json!(-0.1), "from 0 to 1"),
        ("prediction.tier_probability", json!(1.1), "from 0 to 1"),
        ("prediction.model_version", json!("a b"), "cannot be used"),
        ("prediction.scored_at", json!("2026"), "RFC 3339"),
        ("prediction.horizon_days", json!(0), "is required"),
        ("spend", json!(1), "is not a known field"),
        ("prediction.value", json!(1), "is not a known field"),
    ];
    for (field, value, problem) in cases {
        let reply = app.post(OUTCOMES, with(field, value.clone())).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{field} = {value}: {}", reply.text);
        let error = &reply.json()["error"];
        let named = if field.ends_with("interval_low") { "prediction.confidence_interval_high" } else { field };
        assert_eq!(error["field"], named, "{field} = {value}: {}", reply.text);
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(problem), "{field} = {value}: {message}");
    }
    let infinite = app.post(OUTCOMES, with("actual_spend_usd", json!(7)).replace(":7,", ":1e999,")).await;
    assert_eq!(infinite.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", infinite.text);
    assert_eq!(infinite.json()["error"]["field"], "actual_spend_usd");
    assert_eq!(app.post(OUTCOMES, "{").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(app.admin("/admin/outcomes").await.json()["ledger"]["outcomes_remembered"], 0);
}

#[tokio::test]
async fn without_a_ledger_outcomes_are_refused_with_the_setting() {
    let app = TestApp::new();
    let reply = app.post(OUTCOMES, outcome("a", 1.0).to_string()).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(reply.json()["error"]["code"], "outcomes_not_kept");
    assert!(reply.text.contains("`monitoring.outcomes` is false"), "{}", reply.text);
    assert_eq!(app.admin("/admin/outcomes").await.json()["kept"], false);
}

#[tokio::test]
async fn a_raw_customer_identifier_is_nowhere_on_disk() {
    let (app, folder) = with_ledger("private").await;
    app.ok(
        PREDICT,
        json!({"customerId": "CUSTOMER-5551234567", "features": {"recency_days": 30, "frequency_count": 10}}),
    )
    .await;
    app.ok(OUTCOMES, outcome("CUSTOMER-5551234567", 1.0)).await;
    let status = app.monitoring.ledger().expect("kept").status();
    assert_eq!((status.predictions, status.outcomes), (1, 1), "both are on disk");
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        assert!(memchr::memmem::find(&bytes, b"5551234567").is_none());
    }
}
