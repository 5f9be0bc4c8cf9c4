//! Whose score it is: what says that there is no identifier, digits that are kept, and the names that callers know.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use parquet::arrow::ArrowWriter;
use scoreline::monitoring::book::PredictionLimits;
use scoreline::monitoring::{MonitoringSettings, WindowSettings};
use scoreline_domain::privacy::{NumericIds, PrivacySettings, Screen};
use serde_json::{Value, json};

use crate::support::test_app::{Kept, privacy};
use crate::support::{TestApp, TestBundle};

const PREDICT: &str = "/v1/predict/clv";
const LEAD: &str = "/v1/predict/lead";
/// Two numbers that are one as floating-point numbers.
const TWINS: [&str; 2] = ["738529527931269425", "738529527931269426"];
const UNFILLED: [&str; 5] = ["${input.x}", "$input.x", "$!{input.x}", "  $esc.jsonString($input.x)", " "];

/// Scores the log of purchases as of a day after its last.
#[rustfmt::skip]
const SCORE_LOG: [&str; 10] = [
    "score", "--model", "clv-purchases", "--purchases", "--as-of", "2020-02-01", "--input", "log.parquet", "--output", "scored.csv",
];

fn features() -> Value {
    json!({"recency_days": 30, "frequency_count": 10})
}

#[tokio::test]
async fn a_template_is_no_value_in_fields_of_any_kind() {
    let app = TestApp::with(&[TestBundle::clv("v1.2"), TestBundle::lead("v1.0")], |_| {});
    let fields = [
        "customerId",
        "conversationId",
        "request_id",
        "timestamp_utc",
        "acquisition_channel",
        "segment",
        "model",
        "model_version",
        "explain",
        "interval_level",
        "previous_tier",
    ];
    let whole = app.ok(PREDICT, json!({"features": features()})).await;
    for text in UNFILLED {
        for field in fields {
            let mut body = json!({"features": features()});
            body[field] = json!(text);
            for path in [PREDICT, "/v1/route/tier"] {
                let answer = app.ok(path, body.clone()).await;
                assert_eq!(answer["prediction"], whole["prediction"], "{path} {field} {text}");
                assert_eq!(answer["metadata"]["warnings"], whole["metadata"]["warnings"], "{path} {field} {text}");
            }
            let rows = app.ok("/v1/predict/clv/batch", json!([body])).await;
            assert_eq!(rows["results"][0]["prediction"], whole["prediction"], "batch {field} {text}");
        }
        // No features at all is a question by id.
        let unknown = app.ok(PREDICT, json!({"features": text, "customerId": "CUST-1"})).await;
        assert_eq!(unknown["metadata"]["source"], "cold_start", "{text}");
        let nobody = app.post(PREDICT, json!({"features": text, "customerId": text}).to_string()).await;
        assert_eq!((nobody.status.as_u16(), nobody.json()["error"]["field"].as_str()), (422, Some("features")));
        let lead = json!({"features": {"age": 40}, "leadId": text, "lead_source": text, "explain": text});
        assert_eq!(app.ok(LEAD, lead).await["metadata"]["source"], "model", "{text}");
    }
    for (field, value, problem) in [
        ("explain", json!("yes"), "must be `true`, `false` or `members`"),
        ("interval_level", json!("high"), "must be a number"),
        ("interval_level", json!([0.9]), "must be a number"),
        ("features", json!("many"), "must be an object of feature names with numbers or texts"),
    ] {
        let mut body = json!({"features": features()});
        body[field] = value;
        let error = app.post(PREDICT, body.to_string()).await.json()["error"].clone();
        assert_eq!(error["message"], format!("`{field}` {problem}"));
    }
}

#[tokio::test]
async fn a_template_is_no_id_of_a_request() {
    let app = TestApp::new();
    let ask = |id: &str| {
        let request = Request::post(PREDICT).header("x-request-id", id);
        request.body(Body::from(json!({"features": features()}).to_string())).expect("a request")
    };
    for id in ["${Conversation.Id}", "$input.x", "$!{x}"] {
        let reply = app.send(ask(id)).await;
        assert!(reply.status == StatusCode::OK && !reply.text.contains(id) && reply.headers["x-request-id"] != id);
    }
}

#[tokio::test]
async fn an_outcome_of_nobody_is_nobodys_and_its_numbers_may_be_absent() {
    let folder = tempfile::tempdir().expect("a folder");
    let windows = WindowSettings { length: Duration::from_hours(24), least_rows: 500, most_rows: 50_000 };
    let limits = PredictionLimits { predictions: 1000, outcomes: 1000, window: 100, sample_every: 0 };
    let kept = Kept::open(folder.path(), &MonitoringSettings { windows, ledger: Some(limits), replay: None }).await;
    let app = TestApp::keeping(&[TestBundle::clv("v1.2")], |_| {}, &privacy("test pepper", &[]), &kept);
    let outcome = |id: Value| {
        json!({"customerId": id, "actual_spend_usd": 12.5, "observed_at": "2026-03-01T00:00:00Z", "model": "$!{x}",
            "prediction": {"clv_value_usd": 20.0, "model_version": "v1.2", "scored_at": "2026-01-01T00:00:00Z",
                "horizon_days": 30, "risk_score": "${input.risk}", "clv_tier": "$input.tier", "interval_level": ""}})
    };
    for text in UNFILLED {
        let refused = app.post("/v1/outcomes", outcome(json!(text)).to_string()).await;
        let said = "`customerId` is required: it must be a text or a whole number";
        assert_eq!(refused.json()["error"]["message"], said, "{text}");
    }
    let mut unspent = outcome(json!("CUST-1"));
    unspent["actual_spend_usd"] = json!("$input.spend");
    let refused = app.post("/v1/outcomes", unspent.to_string()).await;
    assert_eq!(refused.json()["error"]["message"], "`actual_spend_usd` is required");
    // As a number, as text, and with blanks around it: the customer whom an erasure by that number finds, and no other.
    for (number, written) in [(1, "{}"), (2, "\"{}\""), (3, "\" {} \"")] {
        let [id, other] =
            [0, 1].map(|more| (TWINS[0].parse::<u64>().expect("a number") + 10 * number + more).to_string());
        let written = format!("\"customerId\":{}", written.replace("{}", &id));
        let told = outcome(json!(0)).to_string().replacen("\"customerId\":0", &written, 1);
        app.ok_text("/v1/outcomes", &told).await;
        for (id, found) in [(other, false), (id, true)] {
            let erased = app.delete(&format!("/v1/customers/{id}")).await.json();
            assert_eq!(erased["found"], found, "{written}, erasing {id}: {erased}");
        }
    }
    kept.close().await;
}

#[tokio::test]
async fn leads_and_rows_of_batches_keep_their_digits_too() {
    let app = TestApp::with(&[TestBundle::clv("v1.2"), TestBundle::lead("v1.0")], |_| {});
    let source = |answer: &Value| answer.get("metadata").map_or(&answer["source"], |it| &it["source"]).clone();
    for (path, name) in [(LEAD, "leadId"), ("/v1/genesys/lead", "lead_id"), ("/v1/genesys/lead", "leadId")] {
        app.clock.advance(Duration::from_hours(48));
        let body = |id: &str| match path {
            LEAD => format!(r#"{{"{name}": {id}, "features": {{"age": 40}}}}"#),
            _ => format!(r#"{{"{name}": {id}, "age": 40}}"#),
        };
        let ask = async |id: &str| source(&app.ok_text(path, &body(id)).await);
        assert_eq!((ask(TWINS[0]).await, ask(TWINS[1]).await), (json!("model"), json!("model")), "{path}");
        assert_eq!(ask(&format!("\"{}\"", TWINS[0])).await, "cache", "{path}");
        for number in ["1e3", "12.5", "-5", "99999999999999999999"] {
            let answer = app.post(path, body(number)).await.json();
            let error = answer.get("error").unwrap_or(&answer);
            assert_eq!((&answer["status"], &error["field"]), (&json!("error"), &json!(name)), "{number}: {answer}");
        }
    }
    app.clock.advance(Duration::from_hours(48));
    let row = |id: &str| format!(r#"{{"customerId": {id}, "features": {}}}"#, features());
    let rows = [row(TWINS[0]), row(TWINS[1]), row(&format!("\"{}\"", TWINS[0])), row("1e3")].join("\n");
    let text = app.post("/v1/predict/clv/batch", rows).await.text;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let sources: Vec<_> = lines[..3].iter().map(source).collect();
    assert_eq!(sources, ["model", "model", "cache"]);
    assert_eq!(
        lines[3]["error"]["message"], "`customerId` must be a text, or a whole number of at most 19 digits",
        "{text}"
    );
    let score = app.get(&format!("/v1/customers/%20{}/score", TWINS[0])).await;
    assert_eq!(score.json()["metadata"]["source"], "cache", "{}", score.text);
}

#[tokio::test]
async fn a_data_action_hears_of_its_fields_by_the_names_that_it_wrote() {
    let app = TestApp::with(&[TestBundle::clv("v1.2"), TestBundle::lead("v1.0")], |_| {});
    let personal = json!("jane.doe@example.com");
    for (path, wrote) in [
        ("/v1/genesys/route", "customer_id"),
        ("/v1/genesys/route", "customerId"),
        ("/v1/genesys/clv", "conversation_id"),
        ("/v1/genesys/clv", "conversationId"),
        ("/v1/genesys/lead", "lead_id"),
        ("/v1/genesys/lead", "leadId"),
    ] {
        let mut body = json!({"recency_days": 30, "frequency_count": 10, "age": 40});
        body[wrote] = personal.clone();
        let answer = app.ok(path, body).await;
        assert_eq!((&answer["reason"], &answer["field"]), (&json!("pii_refused"), &json!(wrote)), "{path}");
        assert!(answer["message"].as_str().expect("a text").starts_with(&format!("`{wrote}` ")), "{answer}");
    }
    // Both names, one of them without a value.
    let body = json!({"customer_id": "CUST-1", "customerId": "${input.x}", "recency_days": 30, "frequency_count": 10});
    app.ok("/v1/genesys/clv", body.clone()).await;
    assert_eq!(app.ok("/v1/genesys/clv", body).await["source"], "cache");
    for (feature, value) in
        [("recency_days", json!(-1)), ("frequency_count", json!("many")), ("recency_days", personal)]
    {
        let mut body = json!({"customer_id": "CUST-1", "recency_days": 30, "frequency_count": 10});
        body[feature] = value;
        let answer = app.ok("/v1/genesys/clv", body).await;
        assert_eq!((&answer["status"], &answer["field"]), (&json!("error"), &json!(feature)), "{answer}");
        assert!(!answer["message"].as_str().expect("a text").contains("features."), "{answer}");
    }
}

#[tokio::test]
async fn digits_alone_name_customers_leads_conversations_and_requests_unless_they_are_screened() {
    let bundles = [TestBundle::clv("v1.2"), TestBundle::lead("v1.0")];
    let open = TestApp::with(&bundles, |_| {});
    let screen = Screen { numeric_ids: NumericIds::Screened, ..Screen::default() };
    let screened = TestApp::private(&PrivacySettings { screen, ..privacy("test pepper", &[]) });
    for id in ["4155550123", "4111111111111111", "5555555555554444", "4222222222222"] {
        for field in ["customerId", "conversationId", "request_id"] {
            let mut body = json!({"features": features()});
            body[field] = json!(id);
            let answer = open.ok(PREDICT, body.clone()).await;
            assert!(field != "request_id" || answer["metadata"]["request_id"] == id, "{answer}");
            let refused = screened.post(PREDICT, body.to_string()).await;
            assert_eq!(refused.json()["error"]["code"], "pii_refused", "{field} {id}");
            assert!(!refused.text.contains(id), "{}", refused.text);
        }
        open.ok(LEAD, json!({"leadId": id, "features": {"age": 40}})).await;
        open.ok(PREDICT, json!({"customerId": id.parse::<u64>().expect("a number"), "features": features()})).await;
    }
    for text in ["4111111111111111", "4111 1111 1111 1111", "card 5555-5555-5555-4444"] {
        let refused = open.post(PREDICT, json!({"features": features(), "segment": text}).to_string()).await;
        assert_eq!(refused.json()["error"]["code"], "pii_refused", "{text}");
    }
}

fn scoreline(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoreline"));
    command.args(arguments).current_dir(folder).env_remove("SCORELINE_CONFIG");
    command
        .env("SCORELINE__STORE__PATH", "store.db")
        .env("SCORELINE__PRIVACY__PEPPER", "a pepper of these tests, long enough");
    command.env("SCORELINE__MODELS__DIR", Path::new(env!("CARGO_MANIFEST_DIR")).join("models"));
    command.output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A log of as many purchases as there are customers.
fn write_log(path: &Path, customers: ArrayRef) {
    let many = customers.len();
    let columns: [(&str, ArrayRef); 4] = [
        ("customer_id", customers),
        ("date", Arc::new(StringArray::from(vec!["2020-01-05"; many]))),
        ("amount", Arc::new(Float64Array::from(vec![10.5; many]))),
        ("items", Arc::new(Int64Array::from(vec![1; many]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut writer = ArrowWriter::try_new(File::create(path).expect("made"), batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

#[test]
fn a_log_of_purchases_names_the_customers_that_requests_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let import = |name: &str| scoreline(folder, &["features", "import-purchases", name]);
    let log = TWINS.map(|id| format!("{id},2020-01-05,+12345678.9,1\n")).concat();
    fs::write(folder.join("log.csv"), format!("customer_id,date,amount,items\n{log}")).expect("written");
    assert!(said(&import("log.csv")).contains("2 new or changed"));
    // The same purchases, told in other ways.
    let line = |id: &str| format!(r#"{{"customer_id": {id}, "date": "2020-01-05", "amount": 12345678.9, "items": 1}}"#);
    let log = [line(TWINS[0]), line(&format!("\"{}\"", TWINS[1]))].join("\n");
    fs::write(folder.join("log.ndjson"), log).expect("written");
    assert!(said(&import("log.ndjson")).contains("0 new or changed, 2 known"), "{}", said(&import("log.ndjson")));
    let numbers = TWINS.map(|id| id.parse::<i64>().expect("a number"));
    let wide = Decimal128Array::from(numbers.map(i128::from).to_vec()).with_precision_and_scale(20, 0).expect("fits");
    for (kind, customers) in [
        ("signed", Arc::new(Int64Array::from(numbers.to_vec())) as ArrayRef),
        ("unsigned", Arc::new(UInt64Array::from(numbers.map(i64::cast_unsigned).to_vec()))),
        ("decimal", Arc::new(wide)),
        ("text", Arc::new(StringArray::from(TWINS.to_vec()))),
    ] {
        write_log(&folder.join("log.parquet"), customers);
        let output = scoreline(folder, &SCORE_LOG);
        assert!(output.status.success(), "{kind}: {}", said(&output));
        let scored = fs::read_to_string(folder.join("scored.csv")).expect("scored");
        let ids: Vec<_> = scored.lines().skip(1).map(|line| line.split(',').next().expect("a cell")).collect();
        assert_eq!(ids, TWINS, "{kind}");
        // Their amounts are new with the first table, and nothing is with the others.
        let known = if kind == "signed" { "2 new or changed" } else { "0 new or changed, 2 known" };
        let told = said(&import("log.parquet"));
        assert!(told.contains(known), "{kind}: {told}");
    }
}

#[test]
fn a_log_of_purchases_of_nobody_is_refused_by_the_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let import = |name: &str| {
        let output = scoreline(folder, &["features", "import-purchases", name]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    for id in ["1e3", "12.5", "-5", "true", "[1]", "\"$input.customerId\"", "\"\"", "null"] {
        let log = format!(r#"{{"customer_id": {id}, "date": "2020-01-05", "amount": 5, "items": 1}}"#);
        fs::write(folder.join("log.ndjson"), log).expect("written");
        let is_number = matches!(id.as_bytes()[0], b'0'..=b'9' | b'-' | b't' | b'[');
        let problem = if is_number { "must be a text or a whole number" } else { "is missing" };
        assert!(import("log.ndjson").contains(&format!("row 1: `customer_id` {problem}")), "{id}");
    }
    // A missing value makes whole numbers floating-point ones in many tools: NaN would be one customer.
    write_log(&folder.join("log.parquet"), Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), None])));
    assert!(import("log.parquet").contains("column `customer_id` is of type Float64"));
    let ended = scoreline(folder, &SCORE_LOG);
    assert!(said(&ended).contains("column `customer_id` is of type Float64"), "{}", said(&ended));
}

#[test]
fn texts_that_say_nothing_say_nothing_in_files_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let rows: Vec<_> = UNFILLED
        .iter()
        .chain(&[""])
        .map(|text| {
            json!({"recency_days": 30, "frequency_count": 10, "tenure_days": text, "acquisition_channel": text, "segment": text})
                .to_string()
        })
        .collect();
    fs::write(folder.join("rows.ndjson"), rows.join("\n")).expect("written");
    let cells = |text: &&str| format!("30,10,{text},{text},{text}\n");
    let csv: String = UNFILLED.iter().chain(&[""]).map(cells).collect();
    let header = "recency_days,frequency_count,tenure_days,acquisition_channel,segment\n";
    fs::write(folder.join("rows.csv"), format!("{header}{csv}")).expect("written");
    for input in ["rows.ndjson", "rows.csv"] {
        let ended = scoreline(folder, &["score", "--model", "clv", "--input", input, "--output", "scored.ndjson"]);
        assert!(ended.status.success(), "{}", said(&ended));
        let scored = fs::read_to_string(folder.join("scored.ndjson")).expect("scored");
        let scored: Vec<Value> = scored.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for row in &scored {
            assert_eq!(row["clv_value_usd"], scored[0]["clv_value_usd"], "{input}: {row}");
            assert_eq!((&row["source"], &row["warnings"]), (&json!("model"), &scored[0]["warnings"]), "{input}: {row}");
        }
    }
}
