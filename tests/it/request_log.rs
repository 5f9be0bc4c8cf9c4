//! The log of a real process about its requests: one line each at `debug`, none at the default level but for refusals.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::auth::key;
use crate::leaks::{CANARY, Server, ask, folder};
use crate::process::{ask_lane, connect};
use crate::support::identity::CredentialsFile;

const BODY: &str = r#"{"recency_days":30,"frequency_count":10,"customer_id":"kanarienvogel"}"#;
/// Requests with bad tokens in each burst.
const BURST: u64 = 40;

/// The credentials, and what is asked of both servers; the log.
fn asked(level: &str) -> Vec<Value> {
    let folder = folder();
    let file = CredentialsFile::new("");
    let (good, busy) = (key(&file, "predict"), key(&file, "leads"));
    let credentials = file.path().display().to_string();
    let server = Server::start(
        folder.path(),
        &[
            ("SCORELINE__AUTH__CREDENTIALS_FILE", credentials.as_str()),
            ("SCORELINE__PRIVACY__PEPPER", "a pepper of these tests, long enough"),
            ("SCORELINE__LOG__FILTER", level),
            ("SCORELINE__LIMITS__LEADS_PER_SECOND", "1"),
            ("SCORELINE__LIMITS__LEADS_BURST", "1"),
        ],
    );
    let headers = |authorization: &str, id: &str| format!("authorization: {authorization}\r\nx-request-id: {id}\r\n");
    let lane = |path: &str, authorization: &str, id: &str, body: &str| {
        ask_lane(&mut connect(&server.listen), path, &headers(authorization, id), body)
    };
    let router = |method: &str, path: &str, authorization: &str, id: &str| {
        ask(&server.listen, method, path, &headers(authorization, id), BODY)
    };
    assert!(lane("/v1/genesys/clv", &good, "lane-good", BODY).starts_with("HTTP/1.1 200"));
    assert!(lane("/v1/genesys/clv", &good, "lane-error", "{").contains("malformed_json"));
    router("POST", &format!("/v1/genesys/clv?customer={CANARY}"), &good, "router-good");
    router("GET", &format!("/v1/customers/{CANARY}/score"), &good, "router-template");
    router(&CANARY.to_uppercase(), &format!("/{CANARY}"), &good, "router-nowhere");
    lane("/v1/genesys/lead", &good, "lane-forbidden", BODY);
    router("POST", "/v1/outcomes", &good, "router-forbidden");
    lane("/v1/genesys/lead", &busy, "lane-first", r#"{"age":40}"#);
    assert!(lane("/v1/genesys/lead", &busy, "lane-busy", r#"{"age":40}"#).contains("rate_limited"));
    for burst in 0..2 {
        for number in 0..BURST / 2 {
            let id = format!("bad-{burst}-{number}");
            assert!(lane("/v1/genesys/clv", "Bearer sk_a_kanarienvogel", &id, BODY).starts_with("HTTP/1.1 401"));
            router("POST", "/v1/predict/clv", "Bearer sk_a_kanarienvogel", &format!("{id}-r"));
        }
        sleep(Duration::from_millis(1100));
    }
    lane("/v1/genesys/clv", "Bearer sk_a_b", "bad-last", BODY);
    let log = server.stop("TERM");
    assert!(!log.to_lowercase().contains(CANARY), "{log}");
    log.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
}

fn with_message<'l>(log: &'l [Value], message: &str) -> Vec<&'l Value> {
    log.iter().filter(|line| line["message"] == message).collect()
}

/// Everything in one log is told: `passed_over` makes up for what has no line.
fn expect_refusals(log: &[Value]) {
    let refusals = with_message(log, "request refused");
    let of = |reason: &str| refusals.iter().filter(|line| line["reason"] == reason).copied().collect::<Vec<_>>();
    let bad = of("api_key");
    // A burst may take longer than a second on a busy machine, but not so many.
    assert!((3..=15).contains(&bad.len()), "{bad:?}");
    let told: u64 = bad.iter().map(|line| 1 + line["passed_over"].as_u64().expect("a number")).sum();
    assert_eq!(told, 2 * BURST + 1);
    let last = bad.last().expect("some");
    assert_eq!(
        (&last["level"], &last["request.id"], &last["status"]),
        (&json!("INFO"), &json!("bad-last"), &json!(401))
    );
    assert_eq!((&last["route"], &last["address"]), (&json!("/v1/genesys/clv"), &json!("127.0.0.1")));
    assert!(last.get("caller").is_none(), "nobody knows who it was");
    let scope = of("scope");
    let words = |line: &Value| (line["caller"].clone(), line["status"].clone());
    assert_eq!(words(scope[0]), (json!("test key"), json!(403)));
    let rate = of("rate");
    assert_eq!((rate.len(), words(rate[0])), (1, (json!("test key"), json!(200))), "a flow goes on");
}

#[test]
fn at_debug_there_is_one_line_for_each_request_and_nothing_of_what_was_sent() {
    let log = asked("debug");
    let answered = with_message(&log, "request answered");
    let of = |id: &str| {
        let lines: Vec<_> = answered.iter().filter(|line| line["request.id"] == id).collect();
        assert_eq!(lines.len(), 1, "{id}: {lines:?}");
        assert_eq!(lines[0]["level"], "DEBUG");
        assert!(lines[0]["ms"].as_f64().is_some_and(|ms| ms > 0.0), "{}", lines[0]);
        lines[0]
    };
    let expect = |id: &str, door: &str, method: &str, route: &str, status: u16, caller: Value, code: Value| {
        let line = of(id);
        let words = ["door", "method", "route", "status", "caller", "code"].map(|key| line[key].clone());
        assert_eq!(words, [json!(door), json!(method), json!(route), json!(status), caller, code], "{id}");
    };
    let who = || json!("test key");
    let (flat, none) = ("/v1/genesys/clv", || Value::Null);
    expect("lane-good", "lane", "POST", flat, 200, who(), none());
    expect("lane-error", "lane", "POST", flat, 200, who(), json!("malformed_json"));
    expect("router-good", "router", "POST", flat, 200, who(), none());
    expect("router-template", "router", "GET", "/v1/customers/{id}/score", 200, who(), none());
    expect("router-nowhere", "router", "other", "unmatched", 404, none(), json!("not_found"));
    expect("lane-forbidden", "lane", "POST", "/v1/genesys/lead", 403, who(), json!("forbidden"));
    expect("router-forbidden", "router", "POST", "/v1/outcomes", 403, who(), json!("forbidden"));
    expect("lane-busy", "lane", "POST", "/v1/genesys/lead", 200, who(), json!("rate_limited"));
    expect("bad-0-7", "lane", "POST", flat, 401, none(), json!("unauthenticated"));
    expect("bad-1-7-r", "router", "POST", "/v1/predict/clv", 401, none(), json!("unauthenticated"));
    assert_eq!(answered.len() as u64, 9 + 2 * BURST + 1);
    expect_refusals(&log);
}

#[test]
fn at_the_default_level_there_are_only_refusals_and_few_of_them() {
    let log = asked("info");
    assert_eq!(with_message(&log, "request answered"), Vec::<&Value>::new());
    expect_refusals(&log);
}
