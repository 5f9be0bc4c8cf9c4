//! The replay log and `scoreline replay`: the offline twin of a shadow says what the shadow said, of questions that name nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use scoreline::monitoring::replay_log::LoggedQuestion;
use scoreline::monitoring::{Monitoring, MonitoringSettings, ReplayLimits, WindowSettings};
use scoreline::scoring::feature_table::{FeatureTable, StoredFeatures, TableChange};
use scoreline::scoring::replay::{Replay, Replayed};
use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::privacy::{IdHasher, Tombstones};
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::registry::{CandidateMode, CandidateSettings};
use scoreline_store::{Store, StoreSettings};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::process::{Server, ask, post, scoreline};
use crate::support::test_app::privacy;
use crate::support::{TestApp, TestBundle};
use crate::worker::served::wait_for;

const PREDICT: &str = "/v1/predict/clv";
const PEPPER: &str = "test pepper";

fn monitoring(questions: u64) -> Monitoring {
    let windows = WindowSettings { length: Duration::from_hours(24), least_rows: 500, most_rows: 50_000 };
    let replay = (questions > 0).then_some(ReplayLimits { questions, kept_for: Duration::from_hours(720) });
    Monitoring::start(&MonitoringSettings { windows, ledger: None, replay })
}

/// A customer of whom everything is stored, also what the serving model does not read.
fn table() -> FeatureTable {
    let table = FeatureTable::new(Duration::from_hours(36));
    let customer = IdHasher::new(&privacy(PEPPER, &[])).key("STORED-1");
    let as_of = "2026-11-21T07:00:00Z".parse().expect("a time");
    let mut values = [f64::NAN; CATALOGUE.len()];
    for (slot, feature) in values.iter_mut().zip(CATALOGUE) {
        *slot = match feature.name {
            "recency_days" => 12.0,
            "frequency_count" => 31.0,
            "topic_diversity" => 3.0,
            _ => continue,
        };
    }
    let features = StoredFeatures { as_of, exact_until: None, values };
    table.absorb([TableChange::Stored { number: 1, customer, features }]);
    table.set_complete();
    table
}

/// What was asked of an app until now, as its store has it.
async fn logged(monitoring: &Monitoring, folder: &Path) -> Vec<String> {
    let store = Store::open(&StoreSettings::sqlite(folder.join("scoreline.db"))).await.expect("opens");
    let log = monitoring.replay_log().expect("kept").clone();
    let (stop, stopped) = oneshot::channel::<()>();
    drop(stop);
    let clock = Arc::new(scoreline_domain::time::SystemClock);
    let ended = async {
        let _ = stopped.await;
    };
    log.keep(store.clone(), Tombstones::default(), clock, ended).await;
    let rows = store.replay_after(-1, 10_000).await.expect("read");
    store.close().await;
    rows.into_iter().map(|(_, question)| question).collect()
}

async fn replayed(lines: &[String], against: &Arc<ModelSnapshot>, before: &Arc<ModelSnapshot>) -> Replayed {
    let mut replay = Replay::new(Arc::clone(against));
    for line in lines {
        let question: LoggedQuestion<'_> = serde_json::from_str(line).expect("a question");
        assert!(replay.is_about(&question));
        let find = |version: &ModelVersion| {
            assert_eq!(version, before.version());
            Some(Arc::clone(before))
        };
        replay.ask(&question, find).await;
    }
    let mut found = replay.found();
    assert_eq!(found.len(), 1, "one version answered");
    found.remove(0)
}

#[tokio::test]
async fn a_replay_says_what_the_shadow_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let monitoring = monitoring(10_000);
    let tried = TestBundle::clv("v1.3-twin").with_log_mean(3.5);
    let shadow =
        CandidateSettings { version: ModelVersion::parse("v1.3-twin").expect("one"), mode: CandidateMode::Shadow };
    let bundles = [TestBundle::clv("v1.2"), tried];
    let app = TestApp::trying_watched(&bundles, &[("clv", shadow)], monitoring.clone(), &table());
    for number in 0..300_u32 {
        let features = json!({
            "recency_days": f64::from(number * 7 % 90) + 0.1,
            "frequency_count": number % 40 + 1,
            "sentiment_score_avg": if number % 3 == 0 { json!(null) } else { json!(0.25) },
        });
        // Some come again, with the tier they were in.
        let body = json!({"customerId": format!("CUST-{}", number % 170), "features": features});
        app.ok(PREDICT, body).await;
        app.scorer.catch_up().await;
    }
    for customer in ["STORED-1", "NOBODY-1"] {
        app.ok(PREDICT, json!({"customerId": customer})).await;
    }
    app.ok(PREDICT, json!({"features": {"recency_days": 3, "frequency_count": 0}})).await;
    app.scorer.catch_up().await;

    let lines = logged(&monitoring, folder.path()).await;
    let route = app.registry.route(app.scorer.default_model()).expect("serves");
    let candidate = route.candidate.clone().expect("a candidate").snapshot;
    let found = replayed(&lines, &candidate, &route.serving).await;
    let shadowed = app.monitoring.trials().status()[0].summary.expect("compared");
    let summary = found.summary.expect("compared");
    assert!(summary.rows > 250 && summary.flips.expect("tiers").up > 0.0, "{summary:?}");
    assert!(summary.serving_seconds > 0.0 && summary.candidate_seconds > 0.0, "{summary:?}");
    let timeless = scoreline::monitoring::comparison::Summary {
        serving_seconds: shadowed.serving_seconds,
        candidate_seconds: shadowed.candidate_seconds,
        ..summary
    };
    assert_eq!(timeless, shadowed);
    assert_eq!(found.differing, 0, "what answered says the same again");
    assert_eq!(found.sources[&("cold_start", "cold_start")], 2);
    assert_eq!(found.sources[&("model", "model")], summary.rows);
    assert_eq!(found.questions, summary.rows + 2);
    assert_eq!(found.missing["topic_diversity"], summary.rows - 1, "all but the one who is stored");
    assert!(found.missing["sentiment_score_avg"] < found.missing["topic_diversity"], "{:?}", found.missing);
    let tiers: u64 = found.tiers.iter().flatten().sum();
    assert_eq!(tiers, summary.rows);
}

#[tokio::test]
async fn the_log_names_nobody_and_repeats_no_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let monitoring = monitoring(10);
    let bundle = TestBundle::clv("v1.2");
    let app = TestApp::trying_watched(&[bundle], &[], monitoring.clone(), &table());
    let body = json!({
        "customerId": "CUST-4711", "request_id": "req-4711", "conversationId": "conv-4711", "acquisition_channel": "organic",
        "features": {"recency_days": 30, "frequency_count": 10, "topic_diversity": 5},
    });
    app.ok(PREDICT, body).await;
    let lines = logged(&monitoring, folder.path()).await;
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let mut question: Value = serde_json::from_str(line).expect("JSON");
    let score = question["answer"]["score"].take();
    assert!((score.as_f64().expect("a number") - 0.75 * 3.0_f64.exp()).abs() < 1e-9, "{score}");
    let expected = json!({
        "asked_at": "2026-11-21T10:00:00Z", "model": "clv", "version": "v1.2",
        "features": {"recency_days": 30.0, "frequency_count": 10.0, "topic_diversity": 5.0},
        "answer": {"source": "model", "score": null, "tier": "Medium_Value"},
    });
    assert_eq!(question, expected);
}

#[tokio::test]
async fn of_texts_only_categories_of_the_model_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let monitoring = monitoring(10);
    let bundles = [TestBundle::clv("v1.2"), TestBundle::lead("v1.0")];
    let app = TestApp::trying_watched(&bundles, &[], monitoring.clone(), &table());
    for contact in ["cellular", "my neighbour Karl"] {
        app.ok("/v1/predict/lead", json!({"leadId": "L-1", "features": {"age": 40, "contact": contact}})).await;
    }
    let lines = logged(&monitoring, folder.path()).await;
    let features = |line: &String| serde_json::from_str::<Value>(line).expect("JSON")["features"].take();
    let kept: Vec<_> = lines.iter().map(features).collect();
    assert_eq!(kept, [json!({"age": 40.0, "contact": "cellular"}), json!({"age": 40.0})]);
    let lead = app.registry.serving(&ModelName::parse("lead").expect("a name")).expect("serves");
    let found = replayed(&lines, &lead, &lead).await;
    let summary = found.summary.expect("compared");
    assert_eq!((summary.rows, summary.mean_abs, summary.flips, found.differing), (2, 0.0, None, 0));
}

#[tokio::test]
async fn the_newest_questions_stay_and_the_rest_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let monitoring = monitoring(3);
    let app = TestApp::trying_watched(&[TestBundle::clv("v1.2")], &[], monitoring.clone(), &table());
    for recency in 1..=5 {
        app.ok(PREDICT, json!({"features": {"recency_days": recency, "frequency_count": 10}})).await;
    }
    let lines = logged(&monitoring, folder.path()).await;
    let recency =
        |line: &String| serde_json::from_str::<Value>(line).expect("JSON")["features"]["recency_days"].as_f64();
    assert_eq!(lines.iter().filter_map(recency).collect::<Vec<_>>(), [3.0, 4.0, 5.0]);
}

fn run(arguments: &[&str], models: &Path) -> (i32, String, String) {
    let Output { status, stdout, stderr } = scoreline(arguments, models).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

#[test]
fn what_a_killed_server_was_asked_is_put_to_another_version() {
    let models = tempfile::tempdir().expect("a folder");
    TestBundle::clv("v1.2").write(models.path());
    let replay = |more: &[&str]| run(&[&["replay"], more].concat(), models.path());
    let (code, _, told) = replay(&["--against", "v1.2"]);
    assert!(code == 1 && told.contains("`store.path`"), "no store yet: {told}");

    let kept = [("SCORELINE__MONITORING__REPLAY_QUESTIONS", "1000")];
    let server = Server::start_with(models.path(), &kept);
    let (code, _, told) = replay(&["--against", "v1.2"]);
    assert!(code == 1 && told.contains("set `monitoring.replay_questions`"), "{told}");
    for number in 1..=40 {
        let features = format!(r#"{{"recency_days": {number}, "frequency_count": {}}}"#, 2 * number);
        post(&server.listen, PREDICT, &format!(r#"{{"customerId": "CUST-{number}", "features": {features}}}"#));
    }
    // Beside the server.
    wait_for("the log", || replay(&["--against", "v1.2"]).1.contains("40 questions"));
    let erased = ask(&server.listen, "DELETE /v1/customers/CUST-7 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(erased.contains("\"tombstone\":\"kept\""), "{erased}");
    post(
        &server.listen,
        PREDICT,
        r#"{"customerId": "CUST-7", "features": {"recency_days": 7, "frequency_count": 14}}"#,
    );
    server.signal("KILL");
    drop(server);

    TestBundle::clv("v1.3").with_log_mean(4.0).write(models.path());
    let (code, report, told) = replay(&["--against", "v1.3"]);
    assert_eq!((code, told.as_str()), (0, ""));
    for expected in [
        "39 questions to `clv`, from 20",
        "v1.2 -> v1.3: 39 questions\n",
        "  value    +",
        "  order    rank correlation 1.0000\n",
        "  tiers    ",
        "  time     ",
        "  sources  model -> model 39\n",
        "  missing  in 100.00 %: sentiment_score_avg, topic_diversity\n",
    ] {
        assert!(report.contains(expected), "`{expected}` is not in\n{report}");
    }
    assert!(!report.contains("note"), "{report}");

    let (code, _, told) = replay(&["--against", "v9"]);
    assert_eq!(code, 64, "{told}");
    assert!(told.contains("no version v9 of model `clv`") && told.contains("there are: v1.2, v1.3"), "{told}");
    let (code, _, told) = replay(&["--against", "v1.3", "--model", "other"]);
    assert!(code == 64 && told.contains("no model `other`") && told.contains("there are: clv"), "{told}");
    let (code, _, told) = replay(&[]);
    assert!(code == 64 && told.contains("--against"), "{told}");

    let file = models.path().join("questions.ndjson");
    let path = file.to_str().expect("a name");
    let (code, _, told) = replay(&["--save", path]);
    assert!(code == 0 && told.contains("saved 39 questions"), "{told}");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let saved = fs::read_to_string(&file).expect("text");
    assert!(!saved.contains("CUST") && !saved.contains("customer"), "{saved}");
    let same = |text: &str| text.lines().filter(|line| !line.contains("time  ")).map(str::to_owned).collect::<Vec<_>>();
    let (code, of_file, told) = replay(&["--against", "v1.3", path]);
    assert_eq!((code, told.as_str(), same(&of_file)), (0, "", same(&report)));
    let (_, twice, _) = replay(&["--against", "v1.3", path, path]);
    assert!(twice.contains("78 questions to `clv`"), "{twice}");

    // What the version that answered is not there to say.
    fs::rename(models.path().join("clv/v1.2"), models.path().join("v1.2")).expect("moved");
    let (_, alone, _) = replay(&["--against", "v1.3", path]);
    assert!(alone.contains("v1.2 is not there to compare with"), "{alone}");

    let file = |name: &str, text: &str| {
        let path = models.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("a name").to_owned()
    };
    let cut = file("cut.ndjson", &saved[..saved.len() - 40]);
    let (code, report, told) = replay(&["--against", "v1.3", &cut]);
    assert!(code == 0 && report.contains("38 questions"), "{report}");
    assert!(told.contains("ends within line 39, which is left out"), "{told}");
    let damaged = saved.replacen("\"clv\"", "clv", 3).replacen("clv,", "\"clv\",", 2);
    for (name, text, says) in [
        ("scores.csv", "customer_id,recency_days\nmarie@example.com,3\n", "line 1 is no question"),
        ("damaged.ndjson", damaged.as_str(), "line 3 is no question"),
        ("no-text", "{\"a\":1}", "line 1 is no question"),
        ("empty.ndjson", "", "no question to `clv` was logged; there are: none at all"),
    ] {
        let (code, report, told) = replay(&["--against", "v1.3", &file(name, text)]);
        assert!(code == 1 && told.contains(says) && report.is_empty(), "{name}: {code} {told}");
        assert!(!told.contains("marie"), "{told}");
    }
    let (code, _, told) = replay(&["--against", "v1.3", "nowhere.ndjson"]);
    assert!(code == 1 && told.contains("`nowhere.ndjson` cannot be opened"), "{told}");
}

#[test]
fn a_start_without_the_log_deletes_what_was_kept() {
    let models = tempfile::tempdir().expect("a folder");
    TestBundle::clv("v1.2").write(models.path());
    let question = r#"{"features": {"recency_days": 3, "frequency_count": 14}}"#;
    let replay = || run(&["replay", "--against", "v1.2"], models.path());
    let server = Server::start_with(models.path(), &[("SCORELINE__MONITORING__REPLAY_QUESTIONS", "10")]);
    post(&server.listen, PREDICT, question);
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    assert!(replay().1.contains("1 question to"), "a stop writes what waits");
    let server = Server::start_with(models.path(), &[]);
    post(&server.listen, PREDICT, question);
    wait_for("the deletion", || replay().2.contains("the store keeps no questions"));
    let metrics = crate::process::get(&server.admin, "/metrics");
    assert!(!metrics.contains("scoreline_replay"), "{metrics}");
}
