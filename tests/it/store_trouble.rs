//! A store that fails under a running server: predictions go on, everything else says so, and it heals by itself.

use std::fs;

use scoreline_store::StorePlace;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::ground::Ground;
use crate::process::{Server, ask, get, models, post, scoreline};
use crate::small_disk::SmallDisk;
use crate::worker::served::{body, wait_for};

const PREDICT: &str = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;

fn outcome(customer: &str) -> String {
    format!(
        r#"{{"customerId": "{customer}", "actual_spend_usd": 12.5, "observed_at": "2026-03-01T00:00:00Z",
        "prediction": {{"clv_value_usd": 20.0, "confidence_interval_low": 0.0, "confidence_interval_high": 50.0,
        "interval_level": 0.9, "model_version": "v1.2", "scored_at": "2026-01-01T00:00:00Z", "horizon_days": 30}}}}"#
    )
}

fn told(server: &Server, customer: &str) -> String {
    post(&server.listen, "/v1/outcomes", &outcome(customer))
}

fn delete(server: &Server, customer: &str) -> String {
    ask(&server.listen, &format!("DELETE /v1/customers/{customer} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}

fn metric(server: &Server, line: &str) -> bool {
    get(&server.admin, "/metrics").lines().any(|found| found == line)
}

/// Runs the features job and waits for its end.
fn job(server: &Server) -> Value {
    let features = || {
        let jobs = body(&get(&server.admin, "/admin/jobs"));
        let all = jobs["jobs"].as_array().expect("a list").clone();
        all.into_iter().find(|job| job["job"] == "features").expect("always there")
    };
    let before = features()["last_started_at"].clone();
    assert!(post(&server.admin, "/admin/jobs/features/run", "").starts_with("HTTP/1.1 202"));
    wait_for("the job", || features()["last_started_at"] != before && features()["state"] != "running");
    features()
}

/// Everything says that the store does not do its work, for this reason, and predictions are answered.
fn is_in_trouble(server: &Server, reason: &str) {
    wait_for("the word of it", || metric(server, "scoreline_store_open 0"));
    for address in [&server.listen, &server.admin] {
        let ready = get(address, "/health/ready");
        assert!(ready.starts_with("HTTP/1.1 200"), "it answers predictions: {ready}");
        assert_eq!((&body(&ready)["status"], &body(&ready)["store"]), (&"degraded".into(), &"failing".into()));
        assert!(!ready.contains("scoreline.db"), "files of this machine are not for everybody: {ready}");
    }
    let shown = || body(&get(&server.admin, "/admin/outcomes"));
    wait_for("the reason", || shown()["reason"].as_str().is_some_and(|shown| shown.contains(reason)));
    assert_eq!(shown()["kept"], false);
    assert!(told(server, "C-TROUBLE").starts_with("HTTP/1.1 503"));
    assert!(post(&server.listen, "/v1/predict/clv", PREDICT).contains("\"source\":\"model\""));
    let job = job(server);
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["reason"].as_str().is_some_and(|shown| shown.contains(reason)), "{job}");
}

fn is_well(server: &Server) {
    wait_for("the store", || metric(server, "scoreline_store_open 1"));
    wait_for("readiness", || {
        let ready = body(&get(&server.listen, "/health/ready"));
        ready["status"] == "ready" && ready.get("store").is_none()
    });
    assert_eq!(body(&get(&server.admin, "/admin/outcomes"))["kept"], true);
    // A run that began just before may have met what was wrong.
    wait_for("a job that does its work", || {
        let job = job(server);
        job["state"] == "done" || job["state"] == "idle"
    });
}

fn stop(server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_full_disk_is_said_and_healed_from() {
    let Some(disk) = SmallDisk::mounted("a_full_disk_is_said_and_healed_from") else { return };
    let models = models();
    let path = disk.path().join("scoreline.db").display().to_string();
    let mut server = Server::start_with(models.path(), &[("SCORELINE__STORE__PATH", &path)]);
    for round in 0..2 {
        is_well(&server);
        assert!(told(&server, &format!("C-{round}")).contains("\"result\":\"recorded\""));
        disk.fill();
        job(&server);
        is_in_trouble(&server, "full");
        assert!(told(&server, &format!("C-{round}-full")).starts_with("HTTP/1.1 503"));
        disk.empty();
        wait_for("the store", || metric(&server, "scoreline_store_open 1"));
        assert!(told(&server, &format!("C-{round}-full")).contains("\"result\":\"recorded\""));
        assert!(told(&server, &format!("C-{round}")).contains("\"result\":\"duplicate\""));
        server.event("the store does not do its work: nothing of customers is kept or found anew");
        server.event("the store does its work again");
    }
    is_well(&server);
    stop(server);
}

#[test]
fn a_file_that_is_deleted_under_a_server_is_said_within_a_minute() {
    let models = models();
    let server = Server::start_with(models.path(), &[]);
    assert!(told(&server, "C-1").contains("\"result\":\"recorded\""));
    is_well(&server);
    let file = models.path().join(".state/scoreline.db");
    let away = models.path().join(".away");
    fs::rename(&file, &away).expect("moved");
    is_in_trouble(&server, "deleted or moved away");
    let erased = delete(&server, "C-1");
    assert!(erased.starts_with("HTTP/1.1 503"), "{erased}");
    // Another file in its place is not it.
    fs::copy(&away, &file).expect("copied");
    is_in_trouble(&server, "replaced");
    fs::rename(&away, &file).expect("put back");
    is_well(&server);
    wait_for("the erasure", || told(&server, "C-1").starts_with("HTTP/1.1 410"));
    stop(server);
}

#[test]
fn a_database_that_goes_and_comes_back_is_said_and_erasures_are_not_promised_meanwhile() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = runtime.block_on(Ground::postgres("mid_run"));
    let StorePlace::Postgres(url) = &ground.settings.place else { panic!("a server") };
    let url = url.expose_secret().to_owned();
    let (base, database) = url.rsplit_once('/').expect("a URL with a database");
    let run = |sql: String| {
        runtime.block_on(async {
            let mut admin = sqlx::PgConnection::connect(&format!("{base}/postgres")).await.expect("the server");
            sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.expect("run");
        });
    };
    let models = models();
    let environment = [
        ("SCORELINE__PRIVACY__PEPPER", "a pepper that lasts"),
        ("SCORELINE__STORE__PATH", ""),
        ("SCORELINE__STORE__URL", &url),
    ];
    let mut server = Server::start_with(models.path(), &environment);
    is_well(&server);
    for customer in ["C-1", "C-2"] {
        assert!(told(&server, customer).contains("\"result\":\"recorded\""));
    }
    assert_eq!(body(&get(&server.admin, "/admin/privacy"))["tombstones_hold"], "for_good");
    run(format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false"));
    run(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"));
    is_in_trouble(&server, "store");
    let erased = delete(&server, "C-1");
    assert!(erased.starts_with("HTTP/1.1 503") && erased.contains("until the server is stopped"), "{erased}");
    assert_eq!(body(&get(&server.admin, "/admin/privacy"))["tombstones_hold"], "until_restart");
    run(format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true"));
    is_well(&server);
    wait_for("the erasure", || body(&get(&server.admin, "/admin/privacy"))["tombstones_hold"] == "for_good");
    assert!(told(&server, "C-1").starts_with("HTTP/1.1 410"));
    let mut audits = std::iter::repeat_with(|| server.event("audit"));
    let retried = audits.find(|line| line["who"] == "retried").expect("it is found or the log ends");
    assert_eq!((&retried["action"], &retried["outcome"]), (&"customer.erase".into(), &"done".into()));
    stop(server);
    runtime.block_on(ground.remove());
}

#[test]
fn figures_of_erased_customers_go_with_them() {
    let models = models();
    let server = Server::start_with(models.path(), &[]);
    for customer in ["C-1", "C-2"] {
        assert!(told(&server, customer).contains("\"result\":\"recorded\""));
    }
    let window = |outcomes: u32| format!("scoreline_outcome_window{{model=\"clv\",version=\"v1.2\"}} {outcomes}");
    let coverage = "scoreline_observed_coverage{model=\"clv\",version=\"v1.2\",level=\"0.9\"}";
    wait_for("the figures", || metric(&server, &window(2)) && metric(&server, &format!("{coverage} 1")));
    assert!(delete(&server, "C-1").starts_with("HTTP/1.1 200"));
    wait_for("what is left", || metric(&server, &window(1)) && metric(&server, &format!("{coverage} 1")));
    assert!(delete(&server, "C-2").starts_with("HTTP/1.1 200"));
    wait_for("nothing", || metric(&server, &window(0)) && !get(&server.admin, "/metrics").contains(coverage));
    let shown = body(&get(&server.admin, "/admin/outcomes"));
    assert_eq!((&shown["models"], &shown["ledger"]["outcomes_remembered"]), (&Value::Array(Vec::new()), &0.into()));
    stop(server);
}

#[test]
fn outcomes_that_are_switched_off_are_no_fault_of_the_server() {
    let models = models();
    let server = Server::start_with(models.path(), &[("SCORELINE__MONITORING__OUTCOMES", "false")]);
    let reply = told(&server, "C-1");
    assert!(reply.starts_with("HTTP/1.1 409"), "{reply}");
    assert!(reply.contains("`monitoring.outcomes`") && reply.contains("outcomes_not_kept"), "{reply}");
    stop(server);
}

#[test]
fn a_store_that_vanished_beside_its_pepper_is_said() {
    let models = models();
    let server = Server::start_with(models.path(), &[]);
    assert!(!server.begun.contains("is gone"), "{}", server.begun);
    stop(server);
    for by_command in [false, true] {
        fs::remove_file(models.path().join(".state/scoreline.db")).expect("there");
        let said = if by_command {
            let rescored = scoreline(&["rescore"], models.path()).output().expect("runs");
            String::from_utf8_lossy(&rescored.stderr).into_owned()
        } else {
            let server = Server::start_with(models.path(), &[]);
            let begun = server.begun.clone();
            stop(server);
            begun
        };
        assert!(said.contains("that was here is gone") && said.contains("scoreline.db"), "{said}");
    }
    // Another store beside it was never there.
    let other = models.path().join(".state/other.db");
    let rescored = scoreline(&["rescore"], models.path()).env("SCORELINE__STORE__PATH", other).output().expect("runs");
    assert!(!String::from_utf8_lossy(&rescored.stderr).contains("is gone"), "{rescored:?}");
}
