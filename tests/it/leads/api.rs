//! Leads over HTTP: scored, told by events, looked at.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use scoreline::auth::Scope;
use scoreline::http::EventKeys;
use scoreline_domain::privacy::signature::{Secret, TOLERANCE, Verifier, sign};
use scoreline_domain::time::{Clock as _, Timestamp};
use serde_json::{Value, json};

use crate::auth::{ask, key};
use crate::support::TestApp;
use crate::support::identity::CredentialsFile;
use crate::support::test_app::{LeadPieces, Reply};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SCORE: &str = "/v1/leads/score";
const EVENT: &str = "/v1/events/lead-score";
/// The clock of the test app.
const NOW: &str = "2026-11-21T10:00:00Z";

async fn app(folder: &tempfile::TempDir) -> TestApp {
    let leads =
        LeadPieces { store: super::store(folder).await, targets: vec!["list".to_owned()], ..LeadPieces::default() };
    TestApp::of_leads(&leads, None)
}

async fn app_with_keys(folder: &tempfile::TempDir, auth: Option<&CredentialsFile>) -> TestApp {
    let secret = Secret::parse(SECRET).expect("a secret");
    let verifier = Some(std::sync::Arc::new(Verifier::new(vec![secret], TOLERANCE, 64 << 10)));
    let leads = LeadPieces {
        store: super::store(folder).await,
        targets: vec!["list".to_owned()],
        keys: EventKeys { verifier },
    };
    TestApp::of_leads(&leads, auth.map(CredentialsFile::settings).as_ref())
}

fn signed(id: &str, at: Timestamp, body: &str) -> Request<Body> {
    let signature = sign(&[Secret::parse(SECRET).expect("a secret")], id, at, body.as_bytes());
    let request = Request::post(EVENT)
        .header("webhook-id", id)
        .header("webhook-timestamp", at.as_second().to_string())
        .header("webhook-signature", signature);
    request.body(Body::from(body.to_owned())).expect("a request")
}

fn event(lead: &str, time: &str, score: u32) -> Value {
    json!({ "leadId": lead, "timestamp": time, "new_score": score })
}

async fn kept(app: &TestApp, lead: &str) -> Value {
    let reply = app.get(&format!("/v1/leads/{lead}/score")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()
}

fn refused(reply: &Reply, status: u16, code: &str, field: Option<&str>) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    let body = reply.json();
    assert_eq!((&body["error"]["code"], body["error"]["field"].as_str()), (&json!(code), field), "{}", reply.text);
}

#[tokio::test]
async fn a_lead_is_scored_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app(&folder).await;
    let reply = app.post(SCORE, json!({"leadId": "10000045", "features": {"age": 35}}).to_string()).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    let lead = reply.json()["lead"].clone();
    assert_eq!(
        (&lead["result"], &lead["push"], &lead["source"]),
        (&json!("stored"), &json!("pending"), &json!("model"))
    );
    let asked = app.ok("/v1/predict/lead", json!({"leadId": "10000045", "features": {"age": 35}})).await;
    assert_eq!(lead["priority_score"], asked["prediction"]["priority_score"], "as it is answered");
    let seen = kept(&app, "10000045").await;
    assert_eq!(seen["lead"]["priority_score"], lead["priority_score"]);
    assert_eq!((&seen["push"][0]["state"], &seen["push"][0]["target"]), (&json!("pending"), &json!("list")));
    assert_eq!(seen["history"][0]["cause"], "model");
    let again = app.post(SCORE, json!({"leadId": "10000045", "features": {"age": 35}}).to_string()).await;
    refused(&again, 409, "conflict", Some("last_calculated_at"));
    app.clock.advance(std::time::Duration::from_secs(1));
    let again = app.post(SCORE, json!({"leadId": "10000045", "features": {"age": 35}}).to_string()).await;
    assert_eq!(again.json()["lead"]["result"], "unchanged", "{}", again.text);
}

#[tokio::test]
async fn rows_of_a_batch_stand_for_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app(&folder).await;
    let rows = [
        json!({"leadId": "L1", "features": {"age": 35}}),
        json!({"leadId": "L2", "priority_score": 87, "last_calculated_at": "2026-11-21T09:00:00Z"}),
        json!({"leadId": "L2", "priority_score": 45, "last_calculated_at": "2026-11-21T09:30:00+00:00"}),
        json!({"leadId": "L2", "priority_score": 12, "last_calculated_at": "2026-11-21T08:00:00Z"}),
        json!({"features": {"age": 35}}),
        json!({"leadId": "L3", "priority_score": 87}),
        json!({"leadId": "L3", "priority_score": "87", "last_calculated_at": NOW}),
        json!({"leadId": "jane@example.com", "priority_score": 87, "last_calculated_at": NOW}),
        json!({"leadId": "L4", "priority_score": 87, "last_calculated_at": "2026-11-21T10:06:00Z"}),
        json!({"leadId": "L5", "priority_score": 50, "last_calculated_at": "2026-11-20T09:00:00Z"}),
    ];
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    for body in [lines.join("\n"), format!("[{}]", lines.join(","))] {
        let folder = tempfile::tempdir().expect("a folder");
        let leads = LeadPieces { store: super::store(&folder).await, ..LeadPieces::default() };
        let app = TestApp::of_leads(&leads, None);
        let reply = app.post(SCORE, body).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
        let body = reply.json();
        let word = |row: usize| {
            let result = &body["results"][row];
            result["result"].as_str().or(result["error"]["field"].as_str()).unwrap_or_default().to_owned()
        };
        let words: Vec<String> = (0..rows.len()).map(word).collect();
        let expected = [
            "stored",
            "superseded",
            "stored",
            "conflict",
            "leadId",
            "last_calculated_at",
            "priority_score",
            "leadId",
            "last_calculated_at",
            "conflict",
        ];
        assert_eq!(words, expected, "{}", reply.text);
        let counts = ["rows", "stored", "conflicts", "errors"].map(|name| body["metadata"][name].as_u64());
        assert_eq!(counts, [Some(10), Some(3), Some(2), Some(5)]);
        assert!(!reply.text.contains("jane"), "{}", reply.text);
        assert_eq!(kept(&app, "L2").await["lead"]["stored_score"], 45);
    }
    drop(app);
}

#[tokio::test]
async fn without_a_store_nothing_is_accepted() {
    let app = TestApp::of_leads(&LeadPieces::default(), None);
    for (path, body) in [(SCORE, event("L", NOW, 5)), (EVENT, event("L", NOW, 5))] {
        refused(&app.post(path, body.to_string()).await, 503, "store_unavailable", None);
    }
    refused(&app.get("/v1/leads/next").await, 503, "store_unavailable", None);
}

#[tokio::test]
async fn the_next_leads_are_the_best_fresh_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app(&folder).await;
    let told = |lead: &str, score: u32, time: &str| {
        json!({"leadId": lead, "priority_score": score, "last_calculated_at": time}).to_string()
    };
    let rows = [
        told("A", 90, "2026-11-20T10:30:00Z"),
        told("B", 85, "2026-11-21T09:00:00Z"),
        told("C", 85, "2026-11-21T09:30:00Z"),
        told("D", 10, NOW),
    ];
    app.post(SCORE, rows.join("\n")).await;
    let next = async |query: &str| {
        let reply = app.get(&format!("/v1/leads/next{query}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let leads = reply.json()["leads"].as_array().expect("a list").clone();
        leads
            .iter()
            .map(|lead| format!("{}{}", lead["leadId"].as_str().unwrap_or("?"), lead["priority_score"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(next("").await, ["A90", "C85", "B85", "D10"]);
    assert_eq!(next("?limit=2&min_score=85").await, ["A90", "C85"]);
    app.clock.advance(std::time::Duration::from_hours(1));
    assert_eq!(next("?min_score=50").await, ["C85", "B85"], "a stale score counts as 0");
    let stale = kept(&app, "A").await;
    assert_eq!(
        (&stale["lead"]["priority_score"], &stale["lead"]["stored_score"], &stale["lead"]["stale"]),
        (&json!(0), &json!(90), &json!(true))
    );
    for query in ["?limit=0", "?limit=1001", "?min_score=101", "?limit=x", "?page=2", "?limit"] {
        refused(&app.get(&format!("/v1/leads/next{query}")).await, 422, "invalid_field", Some("limit"));
    }
    refused(&app.get("/v1/leads/nobody/score").await, 404, "not_found", None);
}

#[tokio::test]
async fn an_event_is_taken_once_and_an_older_one_is_a_conflict() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app(&folder).await;
    let reply = app.post(EVENT, event("L", "2026-11-21T09:00:00Z", 87).to_string()).await;
    assert_eq!((reply.status, &reply.json()["event"]["result"]), (StatusCode::ACCEPTED, &json!("applied")));
    for older in ["2026-11-21T09:00:00Z", "2026-11-21T08:59:59.999Z"] {
        let reply = app.post(EVENT, event("L", older, 99).to_string()).await;
        refused(&reply, 409, "conflict", Some("timestamp"));
        assert_eq!(reply.headers["webhook-delivery"], "abort-message");
    }
    assert_eq!(kept(&app, "L").await["lead"]["stored_score"], 87);
    let newer = app.post(EVENT, event("L", "2026-11-21T09:00:00.001Z", 45).to_string()).await;
    assert_eq!(newer.json()["event"]["result"], "applied");
    // A bus repeats what it is refused, for days: over it a conflict is an answer like another.
    let enveloped = json!({"id": "58fb", "source": "crm", "detail-type": "LEAD_SCORE_UPDATE", "time": NOW, "detail": event("L", "2026-11-21T08:00:00Z", 3)});
    let reply = app.post(EVENT, enveloped.to_string()).await;
    assert_eq!((reply.status, &reply.json()["event"]["result"]), (StatusCode::ACCEPTED, &json!("conflict")));
    let other =
        json!({"id": "58fc", "source": "shop", "detail-type": "ORDER_PLACED", "time": NOW, "detail": {"order": 7}});
    let reply = app.post(EVENT, other.to_string()).await;
    let body = reply.json();
    assert_eq!(
        (reply.status, &body["event"]["result"], &body["event"]["reason"]),
        (StatusCode::ACCEPTED, &json!("ignored"), &json!("unknown_event"))
    );
    let features = json!({"leadId": "M", "timestamp": NOW, "event": "LEAD_UPDATED", "features": {"age": 35}});
    assert_eq!(app.post(EVENT, features.to_string()).await.json()["event"]["result"], "applied");
    assert_eq!(kept(&app, "M").await["lead"]["source"], "model");
}

#[tokio::test]
async fn many_events_come_at_once_and_none_fails_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app(&folder).await;
    let events = json!([event("L", "2026-11-21T09:00:00Z", 87), event("L", "2026-11-21T08:00:00Z", 3), {"leadId": "M"}, event("N", NOW, 7)]);
    let reply = app.post(EVENT, events.to_string()).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    let body = reply.json();
    let word = |row: usize| {
        body["results"][row]["result"].as_str().or(body["results"][row]["error"]["field"].as_str()).map(str::to_owned)
    };
    let words: Vec<_> = (0..4).filter_map(word).collect();
    assert_eq!(words, ["applied", "conflict", "timestamp", "applied"]);
    let many: Vec<Value> = (0..101).map(|number| event(&format!("L{number}"), NOW, 5)).collect();
    refused(&app.post(EVENT, json!(many).to_string()).await, 413, "too_many_rows", None);
}

#[tokio::test]
async fn bad_events_are_told_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app(&folder).await;
    for (body, status, code, field) in [
        ("{", 400, "malformed_json", None),
        ("", 400, "malformed_json", None),
        ("7", 422, "invalid_field", Some("body")),
        (r#"{"leadId":"L","timestamp":"2026-11-21T10:06:00Z","new_score":7}"#, 422, "invalid_field", Some("timestamp")),
        (
            r#"{"leadId":"L","timestamp":"2026-11-21T10:00:00Z","new_score":"7"}"#,
            422,
            "invalid_field",
            Some("new_score"),
        ),
        (
            r#"{"leadId":"L","timestamp":"2026-11-21T10:00:00Z","new_score":101}"#,
            422,
            "invalid_field",
            Some("new_score"),
        ),
        (
            r#"{"leadId":"$esc.jsonString(x)","timestamp":"2026-11-21T10:00:00Z","new_score":7}"#,
            422,
            "invalid_field",
            Some("leadId"),
        ),
        (
            r#"{"leadId":"+1 555 555 0100","timestamp":"2026-11-21T10:00:00Z","new_score":7}"#,
            422,
            "pii_refused",
            Some("leadId"),
        ),
        (
            r#"{"leadId":"L","timestamp":"2026-11-21T10:00:00Z","new_score":7,"phone":"x"}"#,
            422,
            "invalid_field",
            Some("phone"),
        ),
        (
            r#"{"leadId":"L","timestamp":"2026-11-21T10:00:00Z","event":"LEAD_UPDATED","features":{"nobody_knows":7}}"#,
            422,
            "invalid_feature",
            Some("features.nobody_knows"),
        ),
    ] {
        let reply = app.post(EVENT, body).await;
        refused(&reply, status, code, field);
        assert_eq!(reply.headers.contains_key("webhook-delivery"), status == 422, "{body}");
    }
    refused(&app.post(EVENT, "x".repeat(300 << 10)).await, 413, "body_too_large", None);
}

#[tokio::test]
async fn s20_an_erased_lead_stays_away_and_its_events_never_say_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let leads = LeadPieces { store: super::store(&folder).await, ..LeadPieces::default() };
    let app = TestApp::of_leads(&leads, None);
    app.post(EVENT, event("L", "2026-11-21T09:00:00Z", 87).to_string()).await;
    let lead =
        scoreline_domain::privacy::IdHasher::new(&crate::support::test_app::privacy("test pepper", &[])).key("L");
    leads.store.get().expect("open").erase_customers(&[lead]).await.expect("erased");
    let reply = app.post(EVENT, event("L", NOW, 99).to_string()).await;
    let body = reply.json();
    assert_eq!(
        (reply.status, &body["event"]["result"], &body["event"]["reason"]),
        (StatusCode::ACCEPTED, &json!("ignored"), &json!("erased")),
        "{}",
        reply.text
    );
    refused(&app.get("/v1/leads/L/score").await, 404, "not_found", None);
}

#[tokio::test]
async fn s07_a_senders_clock_may_be_minutes_ahead_and_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app(&folder).await;
    let ahead = app.post(EVENT, event("L", "2026-11-21T10:04:00Z", 87).to_string()).await;
    assert_eq!((ahead.status, &ahead.json()["event"]["result"]), (StatusCode::ACCEPTED, &json!("applied")));
    refused(
        &app.post(EVENT, event("L", "2026-11-21T10:10:00Z", 87).to_string()).await,
        422,
        "invalid_field",
        Some("timestamp"),
    );
    assert_eq!(kept(&app, "L").await["lead"]["age_seconds"], 0);
}

#[tokio::test]
async fn signed_events_are_taken_and_answered_the_same_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app_with_keys(&folder, None).await;
    let body = event("L", "2026-11-21T09:00:00Z", 87).to_string();
    let now = app.clock.now();
    let first = app.send(signed("msg_1", now, &body)).await;
    assert_eq!(
        (first.status, &first.json()["event"]["result"]),
        (StatusCode::ACCEPTED, &json!("applied")),
        "{}",
        first.text
    );
    let again = app.send(signed("msg_1", now, &body)).await;
    assert_eq!((again.status, &again.json()["replayed"]), (StatusCode::ACCEPTED, &json!(true)), "{}", again.text);
    let older = event("L", "2026-11-21T08:00:00Z", 3).to_string();
    for _ in 0..2 {
        refused(&app.send(signed("msg_2", now, &older)).await, 409, "conflict", Some("timestamp"));
    }
    let payload =
        json!({"type": "LEAD_SCORE_UPDATE", "timestamp": NOW, "data": {"leadId": "L", "new_score": 50}}).to_string();
    assert_eq!(app.send(signed("msg_3", now, &payload)).await.json()["event"]["result"], "applied");
    // Whatever is wrong with a signature, the answer is one.
    let minutes = std::time::Duration::from_mins;
    let mut wrong = vec![Request::post(EVENT).body(Body::from(body.clone())).expect("a request")];
    wrong.push(signed("msg_4", now.checked_sub(minutes(6)).expect("a time"), &body));
    wrong.push(signed("msg_4", now.checked_add(minutes(6)).expect("a time"), &body));
    let mut other_body = signed("msg_4", now, &body);
    *other_body.body_mut() = Body::from(body.replace("87", "88"));
    wrong.push(other_body);
    let mut other_id = signed("msg_4", now, &body);
    other_id.headers_mut().insert("webhook-id", "msg_5".parse().expect("a value"));
    wrong.push(other_id);
    let mut answers = std::collections::BTreeSet::new();
    for request in wrong {
        let reply = app.send(request).await;
        refused(&reply, 401, "unauthenticated", None);
        answers.insert(reply.json()["error"]["message"].to_string());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(kept(&app, "L").await["lead"]["stored_score"], 50);
}

#[tokio::test]
async fn a_sender_that_cannot_sign_comes_with_a_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = CredentialsFile::new("");
    let (events, leads) = (key(&file, Scope::Events.as_str()), key(&file, Scope::Leads.as_str()));
    let app = app_with_keys(&folder, Some(&file)).await;
    let post = async |key: Option<&str>, body: String| {
        let mut request = Request::post(EVENT);
        if let Some(key) = key {
            request = request.header("authorization", key);
        }
        app.send(request.body(Body::from(body)).expect("a request")).await
    };
    let body = || event("L", NOW, 87).to_string();
    assert_eq!(post(None, body()).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(post(Some(&leads), body()).await.status, StatusCode::FORBIDDEN);
    assert_eq!(post(Some(&events), body()).await.status, StatusCode::ACCEPTED);
    let signed_one = app.send(signed("msg_1", app.clock.now(), &event("M", NOW, 87).to_string())).await;
    assert_eq!(signed_one.status, StatusCode::ACCEPTED, "a signature is enough: {}", signed_one.text);
    let next = ask(&app, false, "GET", "/v1/leads/next", Some(&events)).await;
    assert_eq!(next.status, StatusCode::FORBIDDEN, "who tells scores may not read them");
    let next = ask(&app, false, "GET", "/v1/leads/next", Some(&leads)).await;
    assert_eq!(next.json()["leads"].as_array().map(Vec::len), Some(2), "{}", next.text);
}

#[tokio::test]
async fn many_callers_share_commits_and_the_newest_score_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = std::sync::Arc::new(app(&folder).await);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64_u32 {
        let app = std::sync::Arc::clone(&app);
        callers.spawn(async move {
            for round in 0..20_u32 {
                let second = (caller * 7 + round * 13) % 60;
                let time = format!("2026-11-21T09:{round:02}:{second:02}.{caller:03}Z");
                let reply = app.post(EVENT, event("L", &time, 1 + caller).to_string()).await;
                assert!([202, 409].contains(&reply.status.as_u16()), "{}", reply.text);
            }
        });
    }
    callers.join_all().await;
    let newest = (0..64_u32).max_by_key(|caller| ((caller * 7 + 19 * 13) % 60, *caller)).expect("one");
    assert_eq!(kept(&app, "L").await["lead"]["stored_score"], 1 + newest);
}
