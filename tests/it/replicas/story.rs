//! Three replicas, one story: what is told to one holds for all.

use std::time::Duration;

use scoreline_domain::time::Stopwatch;
use scoreline_simulator::{Simulator, SimulatorSettings};
use scoreline_store::StorePlace;
use secrecy::ExposeSecret as _;

use super::fleet::{Fleet, call, lead_event, outcome, stop};
use crate::ground::Ground;
use crate::leads::served::platform_environment;
use crate::process::{Server, get, post};
use crate::worker::served::{body, wait_for};

const FEATURES: &str = r#"{"recency_days": 30, "frequency_count": 10}"#;

fn version(server: &Server) -> String {
    let reply = post(&server.listen, "/v1/predict/clv", &format!(r#"{{"features": {FEATURES}}}"#));
    body(&reply)["metadata"]["model_version"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// Waits until it is so for all, and says how long that took.
fn soon(what: &str, servers: &[Server], is_so: impl Fn(&Server) -> bool) {
    let watch = Stopwatch::start();
    for server in servers {
        wait_for(what, || is_so(server));
    }
    eprintln!("{what}: on all after {:?}", watch.elapsed());
    assert!(watch.elapsed() < Duration::from_secs(10), "{what}: {:?}", watch.elapsed());
}

#[test]
fn what_is_told_to_one_of_three_holds_for_all() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = runtime.block_on(Ground::postgres("three_replicas"));
    let StorePlace::Postgres(url) = &ground.settings.place else { unreachable!("asked for above") };
    let mut settings =
        SimulatorSettings { customers: 12, interactions_per_customer: 8.0, days: 10, ..SimulatorSettings::default() };
    settings.limits.requests = 100_000;
    let platform = Simulator::start(settings).expect("a simulator");
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = Fleet::on(url.expose_secret());
    let more = platform_environment(&platform, folder.path());
    let more: Vec<_> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let servers = [fleet.start_with(&more), fleet.start_with(&more), fleet.start_with(&more)];
    let [one, two, three] = &servers;

    // A promotion, and the way back.
    wait_for("the models to stand still", || {
        post(&one.admin, "/admin/models/clv/v1.1/promote", "").starts_with("HTTP/1.1 200")
    });
    soon("a promotion", &servers, |server| version(server) == "v1.1");
    assert!(post(&three.admin, "/admin/models/clv/latest", "").starts_with("HTTP/1.1 200"));
    soon("its end", &servers, |server| version(server) == "v1.2");

    // An outcome counts once, in the gauges of all.
    assert!(post(&two.listen, "/v1/outcomes", &outcome("CUST-1")).contains("\"result\":\"recorded\""));
    for server in [one, three] {
        assert!(post(&server.listen, "/v1/outcomes", &outcome("CUST-1")).contains("\"result\":\"duplicate\""));
    }
    let gauge = "scoreline_outcome_window{model=\"clv\",version=\"v1.2\"} 1";
    soon("an outcome", &servers, |server| get(&server.admin, "/metrics").lines().any(|line| line == gauge));

    // A customer stays in the tier that another one answered, although the value is below its limit by now.
    let few = |customer: &str| {
        format!(r#"{{"customerId": "{customer}", "features": {{"recency_days": 30, "frequency_count": 1}}}}"#)
    };
    let tier = |server: &Server, question: &str| {
        let reply = post(&server.listen, "/v1/predict/clv", question);
        body(&reply)["prediction"]["clv_tier"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    };
    let medium = format!(r#"{{"customerId": "CUST-9", "features": {FEATURES}}}"#);
    let routed = post(&one.listen, "/v1/route/tier", &medium);
    assert!(routed.contains("\"clv_tier\":\"Medium_Value\""), "{routed}");
    std::thread::sleep(Duration::from_secs(3));
    for server in [two, three] {
        assert_eq!(tier(server, &few("CUST-9")), "Medium_Value", "as the others know them");
        assert_eq!(tier(server, &few("CUST-10")), "Low_Value", "nobody knows them");
    }

    // A lead's event.
    let told = call(&three.listen, "POST", "/v1/events/lead-score", &lead_event("LEAD-1", 87)).expect("answered");
    assert_eq!(told.status, 202, "{}", told.text);
    let lead = |server: &Server| get(&server.listen, "/v1/leads/LEAD-1/score");
    soon("an event", &servers, |server| lead(server).contains("\"stored_score\":87"));

    // An erasure, of a customer whose score each has in its memory.
    let question = format!(r#"{{"customerId": "CUST-1", "features": {FEATURES}}}"#);
    for server in &servers {
        assert!(post(&server.listen, "/v1/predict/clv", &question).contains("\"source\":\"model\""));
        assert!(get(&server.listen, "/v1/customers/CUST-1/score").starts_with("HTTP/1.1 200"));
    }
    let erased = call(&one.listen, "DELETE", "/v1/customers/CUST-1", "").expect("answered");
    assert_eq!(erased.status, 200, "{}", erased.text);
    for server in &servers {
        assert!(post(&server.listen, "/v1/outcomes", &outcome("CUST-1")).starts_with("HTTP/1.1 410"), "at once");
    }
    soon("an erasure", &servers, |server| {
        get(&server.listen, "/v1/customers/CUST-1/score").starts_with("HTTP/1.1 404")
    });

    // History is fetched once: whoever has the lease records it, and all fold and know it.
    let new = |server: &Server| {
        let metrics = get(&server.admin, "/metrics");
        let line =
            metrics.lines().find(|line| line.starts_with("scoreline_extract_interactions_total{result=\"new\"}"));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).unwrap_or(0)
    };
    let truth = platform.truth().closed().count();
    wait_for("the extraction", || servers.iter().map(new).sum::<usize>() >= truth);
    for server in &servers {
        assert!(post(&server.admin, "/admin/jobs/extract/run", "").starts_with("HTTP/1.1 202"));
    }
    let known = |server: &Server| {
        let metrics = get(&server.admin, "/metrics");
        let line = metrics.lines().find(|line| line.starts_with("scoreline_book_customers "));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).unwrap_or(0)
    };
    wait_for("the features", || known(one) > 0 && known(one) == known(two) && known(two) == known(three));
    assert_eq!(servers.iter().map(new).sum::<usize>(), truth, "nothing is recorded twice");

    servers.into_iter().for_each(stop);
    runtime.block_on(ground.remove());
}
