//! Purchases while a server runs: over HTTP, and by the same command that takes a log in without one.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Output;

use scoreline_store::{Store, StoreSettings};
use serde_json::{Value, json};

use crate::process::{Server, ask, get, models, post, scoreline};
use crate::worker::served::{body, wait_for};

const PURCHASES: &str = "/v1/purchases";
const LOG: &str = "customer_id,date,amount,items\nC-1,2026-01-05,10.50,1\nC-1,2026-01-05,10.50,1\nC-2,2026-02-05,7,2\n";

fn told(server: &Server, rows: &str) -> Value {
    let reply = post(&server.listen, PURCHASES, rows);
    assert!(reply.starts_with("HTTP/1.1 200"), "{rows}: {reply}");
    body(&reply)
}

fn counts(answer: &Value) -> (u64, u64, u64, u64) {
    let count = |value: &Value| value.as_u64().expect("a count");
    let purchases = &answer["purchases"];
    (
        count(&purchases["written"]),
        count(&purchases["same"]),
        count(&purchases["erased"]),
        count(&answer["metadata"]["errors"]),
    )
}

fn import(models: &Path, log: &Path, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = scoreline(&["features", "import-purchases"], models)
        .arg(log)
        .envs(environment.iter().copied())
        .output()
        .expect("runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

fn stop(server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
fn purchases_are_taken_one_by_one_in_lists_and_in_lines() {
    let models = models();
    let server = Server::start_with(models.path(), &[]);
    let row = |customer: &str, amount: f64| json!({"customer_id": customer, "date": "2026-01-05", "amount": amount, "items": 1});
    assert_eq!(counts(&told(&server, &row("C-1", 5.0).to_string())), (1, 0, 0, 0));
    assert_eq!(counts(&told(&server, &row("C-1", 5.0).to_string())), (0, 1, 0, 0), "the same one, told again");
    let list = json!([row("C-1", 5.0), row("C-1", 5.0), row("C-2", 6.0)]).to_string();
    assert_eq!(counts(&told(&server, &list)), (2, 1, 0, 0), "two that are equal are two");
    assert_eq!(counts(&told(&server, &list)), (0, 3, 0, 0));
    // The names that a log may have, texts of numbers, a time of day, columns nobody asked for.
    let lines = [
        json!({"customerId": "C-3", "date": "2026-01-05T11:00:00Z", "amount_usd": "6.50", "number_of_cds": "2", "shop": 7}),
        json!({"customer_id": 12_345, "date": "2026-01-05 23:00", "dollar_value": 1, "items": 1, "order_id": "x"}),
    ];
    let lines = lines.map(|line| line.to_string()).join("\n");
    assert_eq!(counts(&told(&server, &lines)), (2, 0, 0, 0));
    // With a name the last told holds.
    let named = |amount: f64| json!({"customer_id": "12345", "date": "2026-01-05", "amount": amount, "items": 1, "purchase_id": "x"});
    assert_eq!(counts(&told(&server, &named(9.0).to_string())), (1, 0, 0, 0));
    assert_eq!(counts(&told(&server, &named(9.0).to_string())), (0, 1, 0, 0));

    // They are features at once, without a restart.
    let answer = || body(&post(&server.listen, "/v1/predict/clv", r#"{"customerId": "C-3"}"#));
    wait_for("the features", || answer()["metadata"]["features_as_of"].is_string());
    assert!(
        get(&server.admin, "/metrics").contains("scoreline_http_requests_total{route=\"purchases\",status=\"200\"}")
    );
    stop(server);
}

#[test]
fn what_cannot_be_taken_is_named_and_the_rest_is_taken() {
    let models = models();
    let server = Server::start_with(models.path(), &[]);
    let good = r#"{"customer_id": "C-1", "date": "2026-01-05", "amount": 5, "items": 1}"#;
    let bad = [
        (r#"{"date": "2026-01-05", "amount": 5, "items": 1}"#, "customer_id"),
        (r#"{"customer_id": "  ", "date": "2026-01-05", "amount": 5, "items": 1}"#, "customer_id"),
        (r#"{"customer_id": "jo@example.com", "date": "2026-01-05", "amount": 5, "items": 1}"#, "customer_id"),
        (r#"{"customer_id": "C-1", "amount": 5, "items": 1}"#, "date"),
        (r#"{"customer_id": "C-1", "date": "yesterday", "amount": 5, "items": 1}"#, "date"),
        (r#"{"customer_id": "C-1", "date": "2026-01-05", "items": 1}"#, "amount"),
        (r#"{"customer_id": "C-1", "date": "2026-01-05", "amount": "NaN", "items": 1}"#, "amount"),
        (r#"{"customer_id": "C-1", "date": "2026-01-05", "amount": 1e13, "items": 1}"#, "amount"),
        (r#"{"customer_id": "C-1", "date": "2026-01-05", "amount": true, "items": 1}"#, "amount"),
        (r#"{"customer_id": "C-1", "date": "2026-01-05", "amount": 5}"#, "items"),
        (r#"{"customer_id": "C-1", "date": "2026-01-05", "amount": 5, "items": "few"}"#, "items"),
    ];
    for (row, field) in bad {
        let alone = post(&server.listen, PURCHASES, row);
        assert!(alone.starts_with("HTTP/1.1 422"), "{row}: {alone}");
        assert_eq!(body(&alone)["error"]["field"], *field, "{alone}");
        assert!(!alone.contains("example.com") && !alone.contains("yesterday"), "no value is repeated: {alone}");
    }
    let mut lines: Vec<_> = bad.iter().map(|(row, _)| *row).collect();
    lines.insert(3, good);
    lines.push("no json");
    let answer = told(&server, &lines.join("\n"));
    assert_eq!(counts(&answer), (1, 0, 0, 12));
    let rows: Vec<_> = answer["errors"].as_array().expect("a list").iter().map(|error| error["row"].clone()).collect();
    assert_eq!(rows, [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(Value::from));
    let erased = ask(&server.listen, "DELETE /v1/customers/C-1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(erased.starts_with("HTTP/1.1 200"), "{erased}");
    assert!(post(&server.listen, PURCHASES, good).starts_with("HTTP/1.1 410"));
    assert_eq!(counts(&told(&server, &format!("[{good}]"))), (0, 0, 1, 0));
    let many = vec![good; 1001].join("\n");
    assert!(post(&server.listen, PURCHASES, &many).starts_with("HTTP/1.1 413"));
    assert!(post(&server.listen, PURCHASES, "").starts_with("HTTP/1.1 400"));
    stop(server);
}

/// The same log, the same command, the same words: with a server, and without.
#[test]
fn a_command_beside_a_server_tells_it_what_it_would_write() {
    let models = models();
    let log = models.path().join(".log.csv");
    // More than one request, and equal lines far from each other.
    let mut text = LOG.to_owned();
    for number in 0..2500 {
        writeln!(text, "M-{},2026-03-05,{}.25,1", number % 700, number % 3).expect("a string grows");
    }
    fs::write(&log, &text).expect("written");
    // Who calls is asked for, over TLS or not: none of that is the command's matter.
    let credentials = models.path().join(".credentials.toml");
    let made = scoreline(&["auth", "--file"], models.path())
        .arg(&credentials)
        .args(["new-key", "--name", "shop", "--scope", "events"])
        .output()
        .expect("runs");
    let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let file = credentials.display().to_string();
    let guarded = [("SCORELINE__AUTH__CREDENTIALS_FILE", file.as_str())];
    let server = Server::start_with(models.path(), &guarded);
    let (code, said) = import(models.path(), &log, &guarded);
    assert!(code == Some(0) && said.contains("read 2503 purchases: 2503 new or changed, 0 known already"), "{said}");
    let (code, said) = import(models.path(), &log, &guarded);
    assert!(code == Some(0) && said.contains("0 new or changed, 2503 known already"), "{said}");
    fs::write(&log, format!("{LOG}C-9,2026-01-05,much,1\n")).expect("written");
    let (code, said) = import(models.path(), &log, &guarded);
    assert!(code == Some(0) && said.contains("1 of 4 lines cannot be taken in; the rest is"), "{said}");

    // Over HTTP, nobody without the scope.
    let row = r#"{"customer_id": "C-1", "date": "2026-01-05", "amount": 5, "items": 1}"#;
    assert!(post(&server.listen, PURCHASES, row).starts_with("HTTP/1.1 401"));
    let length = row.len();
    let authorized = format!(
        "POST {PURCHASES} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{row}"
    );
    let taken = ask(&server.listen, &authorized);
    assert!(taken.starts_with("HTTP/1.1 200"), "{taken}");
    stop(server);

    // Alone, the command finds what the server kept.
    fs::write(&log, &text).expect("written");
    let (code, said) = import(models.path(), &log, &[]);
    assert!(code == Some(0) && said.contains("0 new or changed, 2503 known already"), "{said}");
}

/// A killed server does not stand in the way, and a process that has the store and takes nothing is said.
#[test]
fn who_has_the_store_and_takes_no_purchases_is_named() {
    let models = models();
    let log = models.path().join(".log.csv");
    fs::write(&log, LOG).expect("written");
    let mut server = Server::start_with(models.path(), &[]);
    let (code, said) = import(models.path(), &log, &[]);
    assert!(code == Some(0) && said.contains("3 new or changed"), "{said}");
    server.signal("KILL");
    server.child.wait().expect("ended");
    let (code, said) = import(models.path(), &log, &[]);
    assert!(code == Some(0) && said.contains("3 known already"), "{said}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let settings = StoreSettings::sqlite(models.path().join(".state/scoreline.db"));
    let store = runtime.block_on(Store::open(&settings)).expect("free");
    let (code, said) = import(models.path(), &log, &[]);
    assert!(code == Some(1) && said.contains("answers no commands"), "{said}");
    assert!(said.contains(&format!("in use by process {}", std::process::id())), "{said}");
    runtime.block_on(store.close());
}
