//! The jobs in a running server: they run by themselves, are seen, can be asked for, and never stand in the way.

use std::time::Duration;

use scoreline_simulator::{Party, Simulator, SimulatorSettings};
use serde_json::Value;

use super::killed::command;
use crate::process::{Server, ask, get, models, post};

pub fn body(reply: &str) -> Value {
    let (_, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{reply}"));
    serde_json::from_str(body).unwrap_or_else(|err| panic!("{err}: {reply}"))
}

pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    for _ in 0..600 {
        if ready() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} did not happen within a minute");
}

fn job<'a>(jobs: &'a Value, name: &str) -> &'a Value {
    let all = jobs["jobs"].as_array().expect("a list");
    all.iter().find(|job| job["job"] == name).unwrap_or_else(|| panic!("no {name} in {jobs}"))
}

#[test]
fn a_server_fetches_scores_and_writes_back_by_itself_and_answers_by_id() {
    let mut settings =
        SimulatorSettings { customers: 40, interactions_per_customer: 60.0, days: 30, ..SimulatorSettings::default() };
    settings.limits.requests = 100_000;
    let platform = Simulator::start(settings).expect("a simulator");
    let folder = tempfile::tempdir().expect("a folder");
    let models = models();
    let environment: Vec<(String, String)> = command(&[], &platform, folder.path(), None)
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned())))
        .filter(|(name, _)| name != "SCORELINE__MODELS__DIR")
        .chain([("SCORELINE__WRITE_BACK__SINK".to_owned(), "profile".to_owned())])
        .collect();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let server = Server::start_with(models.path(), &environment);
    // Before any job has run: an empty table is read at once.
    wait_for("readiness", || get(&server.admin, "/health/ready").starts_with("HTTP/1.1 200"));

    let jobs = || body(&get(&server.admin, "/admin/jobs"));
    wait_for("the write-back", || !job(&jobs(), "write_back")["last_success_at"].is_null());
    let seen = jobs();
    for name in ["extract", "features", "rescore", "write_back"] {
        assert!(job(&seen, name)["last_success_at"].is_string(), "{name} in {seen}");
    }
    assert!(job(&seen, "extract")["counts"]["new"].as_u64() > Some(100), "{seen}");
    let written = body(&get(&server.admin, "/admin/write-back"));
    assert_eq!((&written["target"], &written["dead"]), (&"profile".into(), &0.into()), "{written}");
    // Contacts that were merged share a profile.
    assert!(written["applied"].as_u64() >= Some(platform.profiles().len() as u64), "{written}");
    assert!(platform.profiles().len() > 20, "{written}");

    // A customer by the id the platform knows them by.
    let truth = platform.truth().closed().find_map(|one| match one.party {
        Party::Contact { id, .. } => Some(id),
        Party::Address(_) => None,
    });
    let contact = truth.expect("somebody");
    let answer = || body(&post(&server.listen, "/v1/predict/clv", &format!("{{\"customerId\": \"{contact}\"}}")));
    wait_for("the table", || answer()["metadata"]["features_as_of"].is_string());
    assert_eq!(answer()["status"], "success", "{}", answer());

    let metrics = get(&server.admin, "/metrics");
    for line in [
        "scoreline_job_running{name=\"extract\"} 0",
        "scoreline_job_runs_total{name=\"extract\",result=\"done\"} 1",
        "scoreline_extract_hits_missing 0",
        "scoreline_write_back_dead 0",
        "scoreline_write_back_pending 0",
        "scoreline_store_open 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    for name in [
        "scoreline_job_last_success_timestamp_seconds{name=\"write_back\"}",
        "scoreline_extract_oldest_timestamp_seconds",
        "scoreline_extract_interactions_total{result=\"new\"}",
    ] {
        assert!(metrics.contains(name), "{name} in\n{metrics}");
    }

    // Asked for, it runs again; what is not there cannot be asked for.
    let asked = post(&server.admin, "/admin/jobs/extract/run", "");
    assert!(asked.starts_with("HTTP/1.1 202"), "{asked}");
    wait_for("a second run", || {
        get(&server.admin, "/metrics").contains("scoreline_job_runs_total{name=\"extract\",result=\"done\"} 2")
    });
    // A run that brought only what is new says nothing about where history begins.
    let oldest = |metrics: &str| {
        let line = metrics.lines().find(|line| line.starts_with("scoreline_extract_oldest_timestamp_seconds "));
        line.map_or_else(|| panic!("no oldest in {metrics}"), str::to_owned)
    };
    assert_eq!(oldest(&get(&server.admin, "/metrics")), oldest(&metrics));
    let unknown = post(&server.admin, "/admin/jobs/dance/run", "");
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("`extract`"), "{unknown}");
    assert!(post(&server.admin, "/admin/write-back/retry", "").contains("\"retried\":0"));

    // Beside the server: looking is allowed, a second writer is not.
    let status = command(&["status"], &platform, folder.path(), None).stdout(std::process::Stdio::piped()).output();
    let status = status.expect("runs");
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success() && text.contains("complete up to"), "{text} {status:?}");
    let last = platform.truth().closed().map(|one| one.start).max().expect("some");
    let told = text.lines().find_map(|line| line.strip_prefix("interactions ")?.split(", the oldest of ").nth(1));
    let told: scoreline_domain::time::Timestamp = told.expect("said").parse().expect("a time");
    assert!(last.duration_since(told).as_hours() > 24 * 14, "all of history, not of the last run: {text}");
    assert!(text.contains("the last run read") && !text.contains("oldest conversation"), "{text}");
    let second = command(&["extract", "--once"], &platform, folder.path(), None).output().expect("runs");
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && text.contains("in use by process"), "{text}");

    // An erased customer is gone from the store and stays away.
    let erased = ask(
        &server.listen,
        &format!("DELETE /v1/customers/{contact} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    );
    assert!(erased.starts_with("HTTP/1.1 200") && erased.contains("store"), "{erased}");
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}
