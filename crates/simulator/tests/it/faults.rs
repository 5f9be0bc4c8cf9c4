//! Scripted faults, as a client meets them; and the log that shows them.

use std::time::Duration;

use scoreline_domain::time::Stopwatch;
use scoreline_simulator::{FaultKind, FaultPlan, FaultRule, RetryAfter, SimulatorSettings};
use serde_json::{Value, json};

use super::visitor::{JOBS, QUERY, Visitor, settings};

const LIMITS: &str = "/api/v2/organizations/limits/namespaces/platform.api";

fn plan(rules: impl IntoIterator<Item = FaultRule>) -> FaultPlan {
    FaultPlan { rules: rules.into_iter().collect() }
}

fn always(kind: FaultKind) -> FaultPlan {
    plan([FaultRule::at("/api/**", kind)])
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_refused_late_cut_and_replaced() {
    let mut visitor = Visitor::new(settings()).await;
    let right = visitor.ok("GET", LIMITS, None).await;
    let too_many = |retry_after| FaultKind::TooManyRequests { retry_after, limit_key: "some.limit".to_owned() };
    for (retry_after, expected) in [
        (RetryAfter::Seconds(3), Some("3".to_owned())),
        (RetryAfter::Date(60), Some("Sat, 21 Nov 2026 12:01:00 GMT".to_owned())),
        (RetryAfter::Missing, None),
    ] {
        visitor.simulator.set_faults(always(too_many(retry_after)));
        let reply = visitor.get(LIMITS).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, expected.as_deref()));
        assert_eq!(reply.json()["limit"]["key"], "some.limit");
    }
    visitor.simulator.set_faults(always(FaultKind::Status(503)));
    assert_eq!(visitor.get(LIMITS).await.status, 503);
    visitor.simulator.set_faults(always(FaultKind::Slow(Duration::from_millis(80))));
    let watch = Stopwatch::start();
    assert_eq!(visitor.get(LIMITS).await.json(), right);
    assert!(watch.elapsed() >= Duration::from_millis(80));
    visitor.simulator.set_faults(always(FaultKind::Cut { after: None }));
    assert!(visitor.try_send("GET", LIMITS, None).await.is_err(), "the body ends too early");
    visitor.simulator.set_faults(always(FaultKind::WrongContentType));
    let reply = visitor.get(LIMITS).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/html")));
    visitor.simulator.set_faults(always(FaultKind::Oversized { bytes: 1 << 20 }));
    let reply = visitor.get(LIMITS).await;
    assert!(reply.text.len() > 1 << 20 && reply.json() == right);
    visitor.simulator.set_faults(always(FaultKind::Redirect { location: "http://elsewhere.invalid/".to_owned() }));
    let reply = visitor.get(LIMITS).await;
    assert_eq!((reply.status, reply.header("location")), (302, Some("http://elsewhere.invalid/")));

    visitor.simulator.set_faults(plan([
        FaultRule::at(LIMITS, FaultKind::Status(500)),
        FaultRule::at("/api/v2/organizations/limits/namespaces/*", FaultKind::TokenExpired).times(1),
        FaultRule::at("/oauth/token", FaultKind::TokenRateLimit).on([1]),
    ]));
    assert_eq!(visitor.get(LIMITS).await.status, 401, "a rule of no endpoint strikes nothing");
    assert_eq!(visitor.get(LIMITS).await.status, 401, "the token is gone");
    let refused = visitor.ask_token("client_credentials").await;
    assert!(refused.status == 400 && refused.text.contains("rate limit exceeded"), "{}", refused.text);
    visitor.log_in().await;
    assert_eq!(visitor.get(LIMITS).await.status, 200);
    let log = visitor.simulator.log();
    let faults: Vec<_> = log.iter().filter_map(|entry| entry.fault).collect();
    assert_eq!(
        faults[..],
        [
            "too_many_requests",
            "too_many_requests",
            "too_many_requests",
            "status",
            "slow",
            "cut",
            "wrong_content_type",
            "oversized",
            "redirect",
            "token_expired",
            "token_rate_limit"
        ]
    );
    let last = log.last().expect("an entry");
    assert_eq!((last.token, last.status, last.counted), (2, 200, true));
    assert_eq!(last.template, "/api/v2/organizations/limits/namespaces/{namespaceName}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_after_the_work_loses_only_the_answer() {
    let visitor = Visitor::new(settings()).await;
    let path = format!("/api/v2/externalcontacts/contacts/{}", visitor.simulator.contact(1));
    let body = json!({ "changes": [{ "field": "$.customFields.clv_number", "value": 1, "action": "Update" }] });
    for kind in [FaultKind::Status(504), FaultKind::Cut { after: Some(10) }] {
        visitor.simulator.set_faults(plan([FaultRule::at("/api/**", kind).method("PATCH").applied()]));
        let reply = visitor.try_send("PATCH", &path, Some(&body)).await;
        assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status == 504));
    }
    assert_eq!(visitor.simulator.writes().len(), 2);
    visitor.simulator.set_faults(plan([FaultRule::at("/api/**", FaultKind::Status(504))]));
    visitor.send("PATCH", &path, Some(&body)).await;
    assert_eq!(visitor.simulator.writes().len(), 2, "before the work: nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_fail_expire_and_never_end() {
    let visitor = Visitor::new(settings()).await;
    let wanted = json!({ "interval": visitor.everything() });
    for (kind, states) in [
        (FaultKind::JobFailed, ["FAILED", "FAILED"]),
        (FaultKind::JobExpired, ["EXPIRED", "EXPIRED"]),
        (FaultKind::JobStuck, ["QUEUED", "PENDING"]),
    ] {
        visitor.simulator.set_faults(plan([FaultRule::at(JOBS, kind)]));
        let reply = visitor.post(JOBS, &wanted).await;
        let job = format!("{JOBS}/{}", reply.json()["jobId"].as_str().expect("an id"));
        for state in states {
            assert_eq!(visitor.ok("GET", &job, None).await["state"], state);
        }
        assert!([400, 404].contains(&visitor.get(&format!("{job}/results")).await.status));
    }
    // Between two pages.
    let results = format!("{JOBS}/{{jobId}}/results");
    visitor.simulator.set_faults(plan([FaultRule::at(&results, FaultKind::JobExpired).on([2])]));
    let reply = visitor.post(JOBS, &wanted).await;
    let job = format!("{JOBS}/{}", reply.json()["jobId"].as_str().expect("an id"));
    visitor.get(&job).await;
    assert_eq!(visitor.get(&format!("{job}/results?pageSize=5")).await.status, 200);
    assert_eq!(visitor.get(&format!("{job}/results?pageSize=5")).await.status, 404);
    assert_eq!(visitor.ok("GET", &job, None).await["state"], "EXPIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn query_pages_move_and_analysis_is_missing() {
    let visitor = Visitor::new(SimulatorSettings { customers: 200, ..settings() }).await;
    let ask = |number: usize| json!({ "interval": "2026-11-15T00:00:00Z/2026-11-21T00:00:00Z", "paging": { "pageSize": 20, "pageNumber": number } });
    let rows = |page: &Value| -> Vec<Value> { page["conversations"].as_array().cloned().unwrap_or_default() };
    let first = visitor.ok("POST", QUERY, Some(&ask(1))).await;
    let second = visitor.ok("POST", QUERY, Some(&ask(2))).await;
    visitor.simulator.set_faults(plan([FaultRule::at(QUERY, FaultKind::RepeatRows(3))]));
    let repeated = rows(&visitor.ok("POST", QUERY, Some(&ask(2))).await);
    assert_eq!((&repeated[..3], &repeated[3..]), (&rows(&first)[17..], &rows(&second)[..17]));
    visitor.simulator.set_faults(plan([FaultRule::at(QUERY, FaultKind::SkipRows(3))]));
    assert_eq!(rows(&visitor.ok("POST", QUERY, Some(&ask(2))).await)[..17], rows(&second)[3..]);
    visitor.simulator.set_faults(plan([FaultRule::at(QUERY, FaultKind::MovingTotal(4))]));
    let moved = visitor.ok("POST", QUERY, Some(&ask(2))).await["totalHits"].as_u64();
    assert_eq!(moved, first["totalHits"].as_u64().map(|total| total + 4));
    visitor.simulator.set_faults(always(FaultKind::MissingSentiment));
    let query = json!({ "interval": visitor.everything(), "groupBy": ["queueId"], "metrics": ["oSentimentScore"] });
    assert_eq!(visitor.ok("POST", super::visitor::AGGREGATES, Some(&query)).await, json!({ "results": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_file_has_a_line_for_every_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("requests.ndjson");
    let visitor = Visitor::new(SimulatorSettings { log_file: Some(path.clone()), ..settings() }).await;
    visitor.get(LIMITS).await;
    visitor.get("/nothing").await;
    let text = std::fs::read_to_string(path).expect("the log");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), visitor.simulator.log().len());
    assert_eq!((&lines[1]["method"], &lines[1]["status"], &lines[1]["token"]), (&json!("GET"), &json!(200), &json!(1)));
    assert_eq!((&lines[2]["template"], &lines[2]["status"]), (&json!("-"), &json!(404)));
}
