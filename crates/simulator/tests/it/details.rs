//! Conversation details: days, pages, jobs, what is fresh and what goes on.

use std::time::Duration;

use scoreline_domain::interaction::Channel;
use scoreline_simulator::{JobSettings, NewConversation, PlatformLimits, SimulatorSettings};
use serde_json::{Value, json};
use uuid::Uuid;

use super::visitor::{JOBS, NOW, QUERY, Visitor, settings};

fn ids(conversations: &[Value]) -> Vec<String> {
    conversations.iter().map(|one| one["conversationId"].as_str().expect("an id").to_owned()).collect()
}

fn call(visitor: &Visitor, start: &str, open: bool) -> NewConversation {
    NewConversation {
        contact: Some(visitor.simulator.contact(1)),
        start: start.parse().expect("a date"),
        handle: Some(Duration::from_mins(1)),
        open,
        channel: Channel::Voice,
        sentiment: Some(250_000),
        topics: 2,
        queue: 0,
    }
}

async fn query(visitor: &Visitor, interval: &str, number: usize, filters: Value) -> Value {
    let paging = json!({ "pageSize": 50, "pageNumber": number });
    let body = json!({ "interval": interval, "paging": paging, "conversationFilters": filters });
    visitor.ok("POST", QUERY, Some(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn intervals_match_whole_days_and_pages_hold_everything_once() {
    let visitor = Visitor::new(SimulatorSettings { customers: 300, ..settings() }).await;
    // One minute of the 18th asks for all of it.
    let minute = "2026-11-18T23:58:00.000Z/2026-11-18T23:59:00.000Z";
    let day = "2026-11-18T00:00:00.000Z/2026-11-19T00:00:00.000Z";
    let whole = visitor.job(day, 1000).await;
    assert!(whole.len() > 20, "{}", whole.len());
    assert!(whole.iter().all(|one| one["conversationStart"].as_str().is_some_and(|at| at.starts_with("2026-11-18T"))));
    assert_eq!(ids(&visitor.job(minute, 7).await), ids(&whole), "small pages, the same rows");
    let two = visitor.job("2026-11-18T12:00:00.000Z/2026-11-19T00:00:00.001Z", 1000).await;
    assert!(two.len() > whole.len(), "a millisecond of the 19th asks for all of it");

    let mut found = Vec::new();
    let mut number = 1;
    loop {
        let page = query(&visitor, day, number, json!([])).await;
        assert_eq!(page["totalHits"], whole.len());
        let Some(conversations) = page["conversations"].as_array() else { break };
        found.extend(conversations.clone());
        number += 1;
    }
    assert_eq!(ids(&found), ids(&whole));
    assert!(!found[0].to_string().contains("attributes"), "only jobs give attributes");
    let one = visitor.ok("GET", &format!("/api/v2/analytics/conversations/{}/details", ids(&whole)[3]), None).await;
    assert_eq!(one, found[3]);
    let many = visitor
        .ok("GET", &format!("/api/v2/analytics/conversations/details?id={},{}", ids(&whole)[1], Uuid::nil()), None)
        .await;
    assert_eq!(many["conversations"], json!([found[1]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_platform_refuses_is_refused() {
    let visitor = Visitor::new(settings()).await;
    let day = "2026-11-18T00:00:00.000Z/2026-11-19T00:00:00.000Z";
    let eight = "2026-11-10T00:00:00.000Z/2026-11-18T00:00:01.000Z";
    let page = |size: usize, number: usize, interval: &str| json!({ "interval": interval, "paging": { "pageSize": size, "pageNumber": number } });
    for wrong in [page(101, 1, day), page(0, 1, day), page(100, 0, day), page(100, 1, eight), page(100, 1, "today")] {
        assert_eq!(visitor.post(QUERY, &wrong).await.status, 400, "{wrong}");
    }
    let unknown = json!([{ "type": "and", "predicates": [{ "dimension": "divisionId", "value": "x" }] }]);
    let reply = visitor.post(QUERY, &json!({ "interval": day, "conversationFilters": unknown })).await;
    assert!(reply.status == 400 && reply.text.contains("divisionId"), "{}", reply.text);
    let job = visitor.post(JOBS, &json!({ "interval": "2026-10-01T00:00:00Z/2026-11-02T00:00:00Z" })).await;
    assert_eq!(job.status, 400, "longer than 31 days: {}", job.text);
    let large = json!({ "interval": day, "padding": "x".repeat(512_000) });
    assert_eq!(visitor.post(QUERY, &large).await.status, 413);
    let url = format!("{}{QUERY}", visitor.simulator.api_url());
    let plain = visitor.client.post(url).header("authorization", format!("Bearer {}", visitor.token)).body("{}");
    assert_eq!(plain.send().await.expect("an answer").status().as_u16(), 415);
    assert_eq!(visitor.ask_token("password").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_see_the_past_and_queries_the_present() {
    let jobs = JobSettings { lag: Duration::from_hours(6), looks: 2, ..settings().jobs };
    let visitor = Visitor::new(SimulatorSettings { customers: 0, jobs, ..settings() }).await;
    let available = visitor.ok("GET", &format!("{JOBS}/availability"), None).await;
    assert_eq!(available["dataAvailabilityDate"], "2026-11-21T06:00:00.000Z");
    let over = visitor.simulator.add(&call(&visitor, "2026-11-21T05:00:00Z", false));
    // Ends 65 s after it began: beyond what is available.
    let across = visitor.simulator.add(&call(&visitor, "2026-11-21T05:59:30Z", false));
    let fresh = visitor.simulator.add(&call(&visitor, "2026-11-21T11:00:00Z", false));
    let going_on = visitor.simulator.add(&call(&visitor, "2026-11-21T11:59:00Z", true));
    let later = visitor.simulator.add(&call(&visitor, "2026-11-21T12:00:10Z", false));
    let [over, across, fresh, going_on, later] =
        [over, across, fresh, going_on, later].map(|id| Uuid::from_bytes(id.0).to_string());
    let today = "2026-11-21T00:00:00.000Z/2026-11-21T12:00:00.000Z";

    let reply = visitor.post(JOBS, &json!({ "interval": today })).await;
    let job = format!("{JOBS}/{}", reply.json()["jobId"].as_str().expect("an id"));
    let looks = [visitor.ok("GET", &job, None).await, visitor.ok("GET", &job, None).await];
    assert_eq!((&looks[0]["state"], &looks[1]["state"]), (&json!("QUEUED"), &json!("FULFILLED")));
    let results = visitor.ok("GET", &format!("{job}/results"), None).await;
    let rows = results["conversations"].as_array().expect("conversations");
    assert_eq!(ids(rows), [over.clone(), across.clone()]);
    assert_eq!(rows[0]["conversationEnd"], "2026-11-21T05:01:05.000Z");
    assert_eq!(rows[1].get("conversationEnd"), None, "not over when the data was taken");
    assert!(!rows[1].to_string().contains("tHandle"), "and not handled yet");

    let all = query(&visitor, today, 1, json!([])).await;
    let everything = [over.clone(), across.clone(), fresh.clone(), going_on.clone()];
    assert_eq!(ids(all["conversations"].as_array().expect("conversations")), everything);
    let ended = json!([{ "type": "and", "predicates": [{ "dimension": "conversationEnd", "operator": "exists" }] }]);
    let ended = query(&visitor, today, 1, ended).await;
    assert_eq!(ended["totalHits"], 3);
    assert_eq!(visitor.get(&format!("/api/v2/analytics/conversations/{later}/details")).await.status, 404);

    visitor.simulator.advance(Duration::from_secs(90));
    let id = scoreline_domain::interaction::InteractionId(*Uuid::parse_str(&going_on).expect("an id").as_bytes());
    assert!(visitor.simulator.close(id));
    let one = visitor.ok("GET", &format!("/api/v2/analytics/conversations/{going_on}/details"), None).await;
    assert_eq!(one["conversationEnd"], "2026-11-21T12:01:30.000Z");
    let truth: Vec<_> = visitor.simulator.truth().closed().collect();
    assert_eq!(truth.len(), 5, "and the one that had not begun");
    assert_eq!(truth[0].topics.len(), 2);
    assert_eq!((truth[3].sentiment, truth[3].handle_ms), (None, Some(60_000)), "not analysed yet");

    assert_eq!(visitor.send("DELETE", &job, None).await.status, 204);
    assert_eq!(visitor.get(&job).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_expire_and_are_limited() {
    let jobs = JobSettings { looks: 2, at_once: 2, life: Duration::from_mins(10), ..settings().jobs };
    let visitor = Visitor::new(SimulatorSettings { jobs, ..settings() }).await;
    let wanted = json!({ "interval": visitor.everything() });
    let start = async || {
        let reply = visitor.post(JOBS, &wanted).await;
        format!("{JOBS}/{}", reply.json()["jobId"].as_str().unwrap_or("none"))
    };
    let (first, _second) = (start().await, start().await);
    assert_eq!(visitor.get(&format!("{first}/results")).await.status, 400, "not done yet");
    let third = visitor.post(JOBS, &wanted).await;
    assert_eq!(third.status, 429);
    assert_eq!(third.json()["limit"]["key"], "details.jobs.concurrent.access.max");
    for _ in 0..2 {
        visitor.get(&first).await;
    }
    let page = visitor.ok("GET", &format!("{first}/results?pageSize=10"), None).await;
    let cursor = page["cursor"].as_str().expect("more");
    let next = format!("{first}/results?pageSize=10&cursor={cursor}");
    assert_eq!(
        visitor.ok("GET", &next, None).await,
        visitor.ok("GET", &next, None).await,
        "a cursor can be used again"
    );
    assert_eq!(visitor.get(&format!("{first}/results?cursor=x")).await.status, 400);
    assert_eq!(visitor.get(&format!("{first}/results?pageSize=1001")).await.status, 400);
    visitor.simulator.advance(Duration::from_mins(10));
    assert_eq!(visitor.ok("GET", &first, None).await["state"], "EXPIRED");
    assert_eq!(visitor.get(&next).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_of_the_period_exceeds_the_limit() {
    let limits = PlatformLimits { requests: 5, period: Duration::from_mins(1), tokens: 3, ..PlatformLimits::default() };
    let mut visitor = Visitor::new(SimulatorSettings { limits, ..settings() }).await;
    let path = "/api/v2/organizations/limits/namespaces/platform.api";
    for _ in 0..5 {
        visitor.simulator.advance(Duration::from_secs(4));
        assert_eq!(visitor.get(path).await.status, 200);
    }
    let refused = visitor.get(path).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("44")));
    assert_eq!(refused.json()["limit"]["key"], "client.credentials.token.rate.per.minute");
    visitor.simulator.advance(Duration::from_secs(44));
    assert_eq!(visitor.get(path).await.status, 200);
    assert_eq!(visitor.get(path).await.header("retry-after"), Some("4"));
    assert_eq!(visitor.simulator.busiest_window(), 5);
    assert_eq!(visitor.simulator.requests(), (9, 2));
    visitor.log_in().await;
    assert_eq!(visitor.get(path).await.status, 200, "each token for itself");

    visitor.simulator.advance(Duration::from_hours(24));
    assert_eq!(visitor.get(path).await.status, 401, "tokens end");
    for expected in [200, 200, 200, 400] {
        let reply = visitor.ask_token("client_credentials").await;
        assert_eq!(reply.status, expected, "{}", reply.text);
        assert_eq!(reply.text.contains("rate limit exceeded"), expected == 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_conversations_are_served_as_they_are() {
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/recorded.ndjson");
    let visitor = Visitor::new(SimulatorSettings { customers: 0, recorded: Some(recorded.into()), ..settings() }).await;
    let found = visitor.job("2026-11-18T00:00:00Z/2026-11-21T00:00:00Z", 2).await;
    assert_eq!(found.len(), 3);
    let text = std::fs::read_to_string(recorded).expect("the fixture");
    let first: Value = serde_json::from_str(text.lines().next().expect("a page")).expect("JSON");
    assert_eq!(found[0], first["conversations"][0]);
    let email = json!({ "interval": "2026-11-19T00:00:00Z/2026-11-21T00:00:00Z", "segmentFilters":
        [{ "type": "or", "predicates": [{ "dimension": "mediaType", "value": "email" }] }] });
    assert_eq!(visitor.ok("POST", QUERY, Some(&email)).await["totalHits"], 1);
    assert!(NOW > "2026-11-20", "the fixture is of the past");
}
