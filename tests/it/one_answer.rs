//! The same features get the same answer by every way in: one request, a batch, a data action, files of each format, and by
//! the id of a customer of whom they are stored.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use fastrand::Rng;
use parquet::arrow::ArrowWriter;
use scoreline::scoring::feature_table::{FeatureTable, StoredFeatures, TableChange};
use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::privacy::IdHasher;
use serde_json::{Map, Value, json};

use crate::support::TestApp;
use crate::support::test_app::privacy;

const FRESH: Duration = Duration::from_hours(36);

/// One customer's features, those that are missing left out.
type Features = Map<String, Value>;

/// What is said about one row, as far as every way in says it.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Scored { numbers: [Option<f64>; 6], tier: String, source: String, warnings: Vec<String> },
    Refused(String),
}

impl Said {
    fn scored(answer: &Value, source: &str, mut warnings: Vec<String>) -> Self {
        warnings.sort();
        let tier = answer["clv_tier"].as_str().expect("a tier").to_owned();
        let names = [
            "clv_value_usd",
            "confidence_interval_low",
            "confidence_interval_high",
            "risk_score",
            "confidence_score",
            "tier_probability",
        ];
        let numbers = names.map(|name| answer[name].as_f64());
        assert!(numbers[0].is_some(), "{answer}");
        Self::Scored { numbers, tier, source: source.to_owned(), warnings }
    }

    /// What is said of stored features, which come all together: nobody gave one that is not read, and nobody can mend one
    /// that is impossible.
    fn of_stored(&self, by_id: Self) -> Option<(Self, Self)> {
        let without = |said: &Self| match said {
            Self::Refused(_) => None,
            Self::Scored { numbers, tier, source, warnings } => {
                let about_these =
                    |warning: &&String| !warning.starts_with("ignored") && !warning.starts_with("stored_");
                let warnings = warnings.iter().filter(about_these).cloned().collect();
                Some(Self::Scored { numbers: *numbers, tier: tier.clone(), source: source.clone(), warnings })
            }
        };
        let given = without(self)?;
        Some((given, without(&by_id).unwrap_or(by_id)))
    }

    /// From the documented answer or error.
    fn nested(answer: &Value) -> Self {
        if answer["status"] == "error" {
            return Self::Refused(text(&answer["error"]["message"]));
        }
        let metadata = &answer["metadata"];
        let warnings = metadata["warnings"].as_array().expect("a list").iter().map(text).collect();
        Self::scored(&answer["prediction"], metadata["source"].as_str().expect("a text"), warnings)
    }

    /// Row by row, from an answer of the Open Inference Protocol to one row; it has no probability of the tier.
    fn inferred(reply: &Value) -> Self {
        if let Some(problem) = reply["error"].as_str() {
            return Self::Refused(problem.to_owned());
        }
        let outputs = reply["outputs"].as_array().expect("a list");
        let told = |output: &Value| (text(&output["name"]), output["data"][0].clone());
        let answer = Value::Object(outputs.iter().map(told).collect());
        let warnings = reply["parameters"]["warnings"].as_str().unwrap_or_default().split("; ").map(str::to_owned);
        let warnings = warnings.filter(|warning| !warning.is_empty()).collect();
        Self::scored(&answer, answer["source"].as_str().expect("a text"), warnings)
    }

    /// What such an answer says of it.
    fn as_inferred(&self) -> Self {
        match self {
            Self::Refused(problem) => Self::Refused(problem.clone()),
            Self::Scored { numbers, tier, source, warnings } => {
                let [value, low, high, risk, confidence, _] = *numbers;
                let numbers = [value, low, high, risk, confidence, None];
                Self::Scored { numbers, tier: tier.clone(), source: source.clone(), warnings: warnings.clone() }
            }
        }
    }

    /// From the flat answer of a data action or from a scored row.
    fn flat(answer: &Value, error: &str) -> Self {
        if let Some(problem) = answer[error].as_str().filter(|problem| !problem.is_empty()) {
            return Self::Refused(problem.to_owned());
        }
        let joined = || answer["warnings"].as_str().unwrap_or_default().split("; ").map(str::to_owned).collect();
        let listed = answer["warnings"].as_array().map(|list| list.iter().map(text).collect());
        let warnings: Vec<String> = listed.unwrap_or_else(joined);
        let warnings = warnings.into_iter().filter(|warning| !warning.is_empty()).collect();
        Self::scored(answer, answer["source"].as_str().expect("a text"), warnings)
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Rows of which every feature is missing now and then, and all but a few more often.
fn rows(random: &mut Rng, count: usize) -> Vec<Features> {
    let names: Vec<_> = CATALOGUE.iter().collect();
    (0..count)
        .map(|_| {
            let share = [0.15, 0.4, 0.7, 1.0][random.usize(..4)];
            let mut row = Features::new();
            for feature in &names {
                if random.f64() > share {
                    continue;
                }
                let highest = feature.highest.min(if feature.whole { 40.0 } else { 400.0 });
                let lowest = feature.lowest.max(-3.0);
                let drawn = lowest + random.f64() * (highest - lowest);
                let value = if feature.whole { drawn.round() } else { (drawn * 100.0).round() / 100.0 };
                row.insert(feature.name.to_owned(), json!(value));
            }
            row
        })
        .collect()
}

/// The examples of users, in which something follows from what is given or is not read.
fn known_rows() -> Vec<Features> {
    let row = |json: Value| json.as_object().expect("an object").clone();
    vec![
        row(json!({"recency_days": 10, "purchase_count": 2, "tenure_days": 257, "monetary_avg": 66.65})),
        row(json!({
            "recency_days": 12, "frequency_count": 48, "purchase_recency_days": 20, "purchase_count": 6, "tenure_days": 250,
            "monetary_avg": 45
        })),
        row(json!({"recency_days": 12, "frequency_count": 4, "tenure_days": 250})),
        row(json!({"recency_days": 12, "frequency_count": 0})),
        row(json!({"recency_days": -1, "frequency_count": 4})),
    ]
}

/// Takes every row in as that of the customer who is called by this model's name and the row's position.
fn keep(table: &FeatureTable, model: &str, rows: &[Features]) {
    let hasher = IdHasher::new(&privacy("test pepper", &[]));
    let as_of = "2026-11-21T07:00:00Z".parse().expect("a time");
    for (position, row) in rows.iter().enumerate() {
        let mut values = [f64::NAN; CATALOGUE.len()];
        for (slot, feature) in values.iter_mut().zip(CATALOGUE) {
            // A model of purchases alone means the last of them by its recency.
            let name = match (model, feature.name) {
                ("clv-purchases", "purchase_recency_days") => "recency_days",
                (_, name) => name,
            };
            *slot = row.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        }
        let customer = hasher.key(&format!("{model} {position}"));
        let features = StoredFeatures { as_of, exact_until: None, values };
        table.absorb([TableChange::Stored { number: customer.prefix().cast_signed(), customer, features }]);
    }
}

fn score_file(folder: &Path, model: &str, input: &str) -> Vec<Value> {
    let output = format!("{input}.{model}.ndjson");
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoreline"));
    command.args(["score", "--quiet", "--model", model, "--input", input, "--output", &output]).current_dir(folder);
    command.env("SCORELINE__MODELS__DIR", Path::new(env!("CARGO_MANIFEST_DIR")).join("models"));
    command.env_remove("SCORELINE_CONFIG");
    let ended = command.output().expect("the binary runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let scored = fs::read_to_string(folder.join(output)).expect("scored");
    scored.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// One tensor for each feature that a row gives.
fn inputs(row: &Features) -> Value {
    let tensor =
        |(name, value): (&String, &Value)| json!({"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value]});
    json!({"inputs": row.iter().map(tensor).collect::<Value>()})
}

/// Values of all rows by the outputs that hold them; absent features are null.
async fn infer_together(app: &TestApp, model: &str, rows: &[&Features]) -> Vec<Value> {
    let names = CATALOGUE.iter().map(|feature| feature.name);
    let column = |name: &str| rows.iter().map(|row| row.get(name).cloned().unwrap_or_default()).collect::<Value>();
    let tensor = |name: &str| json!({"name": name, "shape": [rows.len()], "datatype": "FP64", "data": column(name)});
    let body = json!({"inputs": names.map(tensor).collect::<Value>()});
    let answer = app.ok(&format!("/v2/models/{model}/infer"), body).await;
    let outputs = answer["outputs"].as_array().expect("a list");
    let row = |row: usize| {
        let told = |output: &Value| (text(&output["name"]), output["data"][row].clone());
        Value::Object(outputs.iter().map(told).collect())
    };
    (0..rows.len()).map(row).collect()
}

fn write_csv(path: &Path, rows: &[Features]) {
    let names: Vec<_> = CATALOGUE.iter().map(|feature| feature.name).collect();
    let mut csv = names.join(",") + "\n";
    for row in rows {
        let cells: Vec<_> = names.iter().map(|name| row.get(*name).map_or(String::new(), Value::to_string)).collect();
        csv += &(cells.join(",") + "\n");
    }
    fs::write(path, csv).expect("written");
}

fn write_ndjson(path: &Path, rows: &[Features]) {
    let lines: Vec<_> = rows.iter().map(|row| Value::Object(row.clone()).to_string()).collect();
    fs::write(path, lines.join("\n")).expect("written");
}

fn batch(rows: &[Features]) -> RecordBatch {
    let column = |name: &str| rows.iter().map(|row| row.get(name).and_then(Value::as_f64)).collect::<Float64Array>();
    let columns = CATALOGUE.iter().map(|feature| (feature.name, Arc::new(column(feature.name)) as ArrayRef, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// A stream of small batches.
fn write_arrow(path: &Path, rows: &[Features]) {
    let mut writer = StreamWriter::try_new(File::create(path).expect("made"), &batch(rows).schema()).expect("a writer");
    rows.chunks(7).for_each(|rows| writer.write(&batch(rows)).expect("written"));
    writer.finish().expect("finished");
}

fn write_parquet(path: &Path, rows: &[Features]) {
    let batch = batch(rows);
    let mut writer = ArrowWriter::try_new(File::create(path).expect("made"), batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_features_get_the_same_answer_by_every_way_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Rng::with_seed(13);
    let mut rows = rows(&mut random, 95);
    rows.extend(known_rows());
    let table = FeatureTable::new(FRESH);
    table.set_complete();
    let app = TestApp::shipped(&table);
    write_csv(&folder.path().join("rows.csv"), &rows);
    write_ndjson(&folder.path().join("rows.ndjson"), &rows);
    write_parquet(&folder.path().join("rows.parquet"), &rows);
    write_arrow(&folder.path().join("rows.arrows"), &rows);
    for model in ["clv", "clv-purchases"] {
        keep(&table, model, &rows);
        let body = |row: &Features| json!({"model": model, "features": row});
        let batch = app.ok("/v1/predict/clv/batch", rows.iter().map(body).collect()).await;
        let batch = batch["results"].as_array().expect("a list").clone();
        let files: Vec<_> = ["rows.csv", "rows.ndjson", "rows.parquet", "rows.arrows"]
            .iter()
            .map(|input| (*input, score_file(folder.path(), model, input)))
            .collect();
        let mut by_model = 0;
        let mut by_id = 0;
        let mut together = Vec::new();
        for (position, row) in rows.iter().enumerate() {
            let asked = format!("{model} {}", Value::Object(row.clone()));
            let one = Said::nested(&app.post("/v1/predict/clv", body(row).to_string()).await.json());
            by_model += u32::from(matches!(&one, Said::Scored { source, .. } if source == "model"));
            assert_eq!(Said::nested(&batch[position]), one, "batch: {asked}");
            let tier = Said::nested(&app.post("/v1/route/tier", body(row).to_string()).await.json());
            assert_eq!(tier, one, "route/tier: {asked}");
            let inferred = app.post(&format!("/v2/models/{model}/infer"), inputs(row).to_string()).await.json();
            if !row.is_empty() {
                assert_eq!(Said::inferred(&inferred), one.as_inferred(), "/v2: {asked}");
            }
            if matches!(one, Said::Scored { .. }) {
                together.push((row, one.as_inferred()));
            }
            let id = format!("{model} {position}");
            let stored = app.ok("/v1/predict/clv", json!({"model": model, "customerId": id})).await;
            if let Some((given, stored)) = one.of_stored(Said::nested(&stored)) {
                by_id += 1;
                assert_eq!(stored, given, "by id: {asked}");
            }
            let mut flat = row.clone();
            flat.insert("model".to_owned(), json!(model));
            for path in ["/v1/genesys/clv", "/v1/genesys/route"] {
                let numbers = app.ok(path, Value::Object(flat.clone())).await;
                assert_eq!(Said::flat(&numbers, "message"), one, "{path}: {asked}");
                let texts = flat.iter().map(|(name, value)| (name.clone(), json!(value.to_string().replace('"', ""))));
                let texts = app.ok(path, Value::Object(texts.collect())).await;
                assert_eq!(Said::flat(&texts, "message"), one, "{path}, as text: {asked}");
            }
            for (input, scored) in &files {
                assert_eq!(Said::flat(&scored[position], "error"), one, "{input}: {asked}");
            }
        }
        let (of_all, expected): (Vec<_>, Vec<_>) = together.into_iter().unzip();
        for (told, expected) in infer_together(&app, model, &of_all).await.iter().zip(expected) {
            let Said::Scored { numbers, tier, source, .. } = expected else { panic!("it was scored") };
            let told = Said::scored(told, told["source"].as_str().expect("a text"), Vec::new());
            assert_eq!(told, Said::Scored { numbers, tier, source, warnings: Vec::new() }, "/v2, all rows together");
        }
        assert!(by_model > 20, "{by_model} rows of {model} were answered by it");
        assert!(by_id >= by_model, "{by_id} rows of {model} were answered by id");
    }
}

#[tokio::test]
async fn what_follows_from_given_features_is_worked_out_and_what_is_not_read_is_named() {
    let app = TestApp::shipped(&FeatureTable::new(FRESH));
    let [purchases, both, ..] = &known_rows()[..] else { panic!("two rows") };
    let answer = app.ok("/v1/predict/clv", json!({"model": "clv-purchases", "features": purchases})).await;
    assert_eq!(answer["prediction"]["clv_value_usd"], 84.03);
    let answer = app.ok("/v1/predict/clv", json!({"features": both})).await;
    assert_eq!(answer["prediction"]["clv_value_usd"], 157.70);
    let mut more = purchases.clone();
    more.insert("frequency_count".to_owned(), json!(3));
    let answer = app.ok("/v1/predict/clv", json!({"model": "clv-purchases", "features": more})).await;
    let warnings = answer["metadata"]["warnings"].as_array().expect("a list");
    assert!(warnings.contains(&json!("ignored: frequency_count")), "{warnings:?}");
    let mut unknown = purchases.clone();
    unknown.insert("no_such".to_owned(), json!(3));
    let refused = app.post("/v1/predict/clv", json!({"features": unknown}).to_string()).await;
    assert_eq!((refused.status.as_u16(), refused.json()["error"]["field"].as_str()), (422, Some("features.no_such")));
}

/// Every way in that takes an identifier beside features.
async fn score_of(app: &TestApp, path: &str, id: &Value, recency_days: u32) -> Value {
    let features = json!({"recency_days": recency_days, "frequency_count": 10});
    let body = match path {
        "/v1/genesys/clv" | "/v1/genesys/route" => {
            json!({"customerId": id, "recency_days": recency_days, "frequency_count": 10})
        }
        _ => json!({"customerId": id, "features": features}),
    };
    let answer = app.ok(path, body).await;
    if answer.get("prediction").is_some() {
        json!({"value": answer["prediction"]["clv_value_usd"], "source": answer["metadata"]["source"]})
    } else {
        json!({"value": answer["clv_value_usd"], "source": answer["source"]})
    }
}

const WAYS_IN: [&str; 4] = ["/v1/genesys/clv", "/v1/genesys/route", "/v1/predict/clv", "/v1/route/tier"];

#[tokio::test]
async fn a_template_that_nobody_filled_in_is_nobody_and_never_two_callers_in_one() {
    let notations = [
        "${input.customerId}",
        "$!{input.customerId}",
        "$input.customerId",
        "$!input.customerId",
        "$esc.jsonString(${input.customerId})",
        "$!esc.jsonString($input.customerId)",
        "$esc.url(${input.customerId})",
        "$math.round(${input.customerId})",
        " ${input.customerId}",
        "",
        "  ",
    ];
    let app = TestApp::new();
    for path in WAYS_IN {
        for id in notations {
            let first = score_of(&app, path, &json!(id), 3).await;
            let second = score_of(&app, path, &json!(id), 300).await;
            assert_eq!((&first["source"], &second["source"]), (&json!("model"), &json!("model")), "{path} {id}");
            assert_ne!(first["value"], second["value"], "{path} {id}");
        }
    }
    let mut flat = json!({"customer_id": "CUST-7", "recency_days": 30, "frequency_count": 10});
    let whole = app.ok("/v1/genesys/clv", flat.clone()).await;
    for name in
        ["sentiment_score_avg", "acquisition_channel", "segment", "previous_tier", "interval_level", "request_id"]
    {
        flat[name] = json!("$!{input.absent}");
        let answer = app.ok("/v1/genesys/clv", flat.clone()).await;
        assert_eq!(answer["clv_value_usd"], whole["clv_value_usd"], "{name}: {answer}");
        assert_eq!(answer["status"], "success", "{name}");
    }
    for path in ["/v1/customers/$input.x/score", "/v1/customers/%24%7Binput.x%7D/score"] {
        assert_eq!(app.get(path).await.json()["error"]["field"], "customerId");
    }
}

#[tokio::test]
async fn an_identifier_keeps_its_digits() {
    let app = TestApp::new();
    for path in WAYS_IN {
        let raw = |digits: &str, recency: u32| {
            let features = format!(r#""recency_days": {recency}, "frequency_count": 10"#);
            let is_flat = path.starts_with("/v1/genesys");
            let features = if is_flat { features } else { format!(r#""features": {{{features}}}"#) };
            format!(r#"{{"customerId": {digits}, {features}}}"#)
        };
        let source = |answer: Value| answer.get("metadata").map_or(answer["source"].clone(), |it| it["source"].clone());
        app.clock.advance(std::time::Duration::from_hours(48));
        assert_eq!(source(app.ok_text(path, &raw("738529527931269425", 30)).await), "model", "{path}");
        assert_eq!(
            source(app.ok_text(path, &raw("738529527931269426", 30)).await),
            "model",
            "{path}: another customer"
        );
        for same in ["738529527931269425", "\"738529527931269425\""] {
            assert_eq!(source(app.ok_text(path, &raw(same, 30)).await), "cache", "{path} {same}");
        }
        for digits in ["7.385e17", "12.5", "-5", "738529527931269425738529527931269425"] {
            let reply = app.post(path, raw(digits, 30)).await;
            let answer = reply.json();
            let field = answer.get("error").map_or(&answer["field"], |error| &error["field"]);
            assert_eq!(field, "customerId", "{path} {digits}: {answer}");
            assert_eq!(answer["status"], "error", "{path} {digits}");
        }
    }
}

#[tokio::test]
async fn nobody_knows_who_calls_so_they_wait_behind_everybody_who_is_known() {
    let app = TestApp::new();
    let stranger = app.ok("/v1/route/tier", json!({"customerId": "CUST-unknown"})).await;
    assert_eq!(
        (&stranger["routing"]["priority"], &stranger["routing"]["use_default_routing"]),
        (&json!(0), &json!(true))
    );
    for body in [json!({"customerId": "CUST-unknown"}), json!({"recency_days": -1}), json!({}), json!([])] {
        for path in ["/v1/genesys/clv", "/v1/genesys/route"] {
            let answer = app.ok(path, body.clone()).await;
            assert_eq!(
                (&answer["priority"], &answer["use_default_routing"]),
                (&json!(0), &json!(true)),
                "{path} {body}"
            );
        }
    }
    let known = json!({"recency_days": 30, "frequency_count": 10});
    assert_eq!(app.ok("/v1/genesys/clv", known).await["use_default_routing"], false);
    let channel = json!({"customerId": "CUST-unknown", "acquisition_channel": "referral"});
    assert_eq!(app.ok("/v1/genesys/clv", channel).await["use_default_routing"], false, "a channel is something");
}

#[tokio::test]
async fn a_data_action_may_send_more_than_is_known() {
    let app = TestApp::new();
    let body =
        json!({"recency_days": 30, "frequency_count": 10, "loyalty_level": "gold", "+14155550123": 1, "no_such": 2});
    let answer = app.ok("/v1/genesys/clv", body).await;
    let warnings = answer["warnings"].as_str().expect("a text");
    assert!(warnings.contains("unknown: loyalty_level") && warnings.contains("unknown: no_such"), "{warnings}");
    assert!(!warnings.contains("4155550123") && answer["status"] == "success", "{answer}");
    let refused = app.post("/v1/predict/clv", r#"{"features":{"+14155550123":1}}"#).await;
    assert!(refused.status == 422 && !refused.text.contains("4155550123"), "{}", refused.text);
    let refused = app.post("/v1/predict/clv", r#"{"+14155550123":1}"#).await;
    assert!(refused.status.is_client_error() && !refused.text.contains("4155550123"), "{}", refused.text);
}

#[tokio::test]
async fn account_numbers_are_identifiers_and_numbers_are_numbers() {
    let app = TestApp::new();
    let mut random = Rng::with_seed(6);
    for digits in [10, 13, 16, 18] {
        for _ in 0..50 {
            let id: String = (0..digits).map(|_| random.digit(10)).collect();
            let body = json!({"customerId": id, "features": {"recency_days": 30, "frequency_count": 10}});
            app.ok("/v1/predict/clv", body).await;
        }
    }
    let amount = json!({"customerId": "CUST-1", "recency_days": "+12345678.9", "frequency_count": "10"});
    assert_eq!(app.ok("/v1/genesys/clv", amount).await["status"], "success");
    let personal = json!({"customer_id": "+14155550123", "recency_days": 30, "frequency_count": 10});
    let refused = app.ok("/v1/genesys/clv", personal).await;
    assert_eq!((&refused["reason"], &refused["field"]), (&json!("pii_refused"), &json!("customer_id")));
}
