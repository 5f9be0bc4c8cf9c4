//! How fast history is served: a run over millions of conversations goes through it.

use std::time::Duration;

use scoreline_domain::time::Stopwatch;
use scoreline_simulator::SimulatorSettings;
use serde_json::json;

use super::visitor::{JOBS, Visitor, settings};

/// Reads everything by jobs of 31 days and counts, without parsing what need not be.
async fn read_all(customers: u32, days: u32) -> String {
    let visitor = Visitor::new(SimulatorSettings { customers, days, ..settings() }).await;
    let (mut conversations, mut bytes, mut pages) = (0, 0, 0);
    let mut serving = Duration::ZERO;
    let mut from = visitor.simulator.first_day();
    let now = visitor.simulator.now();
    while from < now {
        let to = (from + Duration::from_hours(31 * 24)).min(now);
        let watch = Stopwatch::start();
        let reply = visitor.post(JOBS, &json!({ "interval": format!("{from:.3}/{to:.3}") })).await;
        let job = format!("{JOBS}/{}", reply.json()["jobId"].as_str().expect("an id"));
        visitor.get(&job).await;
        let mut cursor = String::new();
        loop {
            let page = visitor.get(&format!("{job}/results?pageSize=1000{cursor}")).await.text;
            conversations += page.matches("\"conversationId\"").count();
            bytes += page.len();
            pages += 1;
            let tail = &page[page.len().saturating_sub(200)..];
            match tail.split_once("\"cursor\":\"").and_then(|(_, rest)| rest.split_once('"')) {
                Some((next, _)) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        serving += watch.elapsed();
        visitor.send("DELETE", &job, None).await;
        from = to;
    }
    let speed = conversations as f64 / serving.as_secs_f64();
    assert_eq!(conversations, visitor.simulator.truth().conversations(), "each once");
    let (seconds, megabytes) = (serving.as_secs_f64(), bytes >> 20);
    format!(
        "{conversations} conversations of {customers} customers in {pages} pages, {megabytes} MB: {seconds:.1} s, {speed:.0} a second"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn all_history_is_served() {
    println!("{}", read_all(300, 70).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes, and only a release build says something: cargo test --release --test it -- --ignored --nocapture simulator::speed"]
async fn millions_of_conversations_are_served() {
    println!("{}", read_all(100_000, 365).await);
}
