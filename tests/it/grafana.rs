//! What operations see: every metric has a help text, Prometheus takes the metrics, rules and their tests as they are, each alert
//! has a section that says what to do, and every panel of the dashboard shows something of a real server.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use scoreline_domain::time::{Clock as _, Stopwatch, SystemClock};
use scoreline_simulator::{Simulator, SimulatorSettings};
use serde_json::{Value, json};

use crate::documents::has_heading;
use crate::leads::served::platform_environment;
use crate::monitoring::watched_bundle;
use crate::process::{Server, ask, get, models, post};
use crate::support::TestBundle;
use crate::support::receiver::Receiver;
use crate::worker::served::{body, wait_for};

const FOLDER: &str = "integrations/grafana";
/// What is only there with certificates, credentials, or a change of the pepper.
const ELSEWHERE: [&str; 3] = ["scoreline_tls_", "scoreline_auth_refused_total", "scoreline_auth_key_fetches_total"];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// A program of Prometheus: unpacked by `tests/run`, or installed. `None` where there is none.
fn program(name: &str, what: &str) -> Option<Command> {
    let unpacked = repository("target/prometheus/usr/bin").join(name);
    let path = if unpacked.exists() { unpacked } else { PathBuf::from(name) };
    let is_there = Command::new(&path).arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        eprintln!("skipped: {what} needs {name} (Debian package prometheus)");
    }
    is_there.then(|| Command::new(path))
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// Names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c)).filter(|word| word.starts_with("scoreline_")).collect()
}

/// Names in the sources that are recorded, and those that are given a help text.
fn recorded_and_described() -> (BTreeSet<String>, BTreeSet<String>) {
    let mut recorded = BTreeSet::new();
    let mut described = BTreeSet::new();
    let mut open = vec![repository("src"), repository("crates")];
    while let Some(path) = open.pop() {
        if path.is_dir() && !path.ends_with("tests") {
            open.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let constants: Vec<(&str, &str)> = text
                .match_indices("const ")
                .filter_map(|(at, _)| text[at + 6..].split_once(": &str = \"scoreline_"))
                .filter_map(|(name, rest)| Some((name, rest.split('"').next()?)))
                .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
                .collect();
            for (at, _) in text.match_indices("\"scoreline_") {
                let name = text[at + 1..].split('"').next().unwrap_or_default();
                let before = text[..at].trim_end();
                let after = text[at + name.len() + 2..].trim_start_matches(',').trim_start();
                let is_call = ["describe_counter!(", "describe_gauge!(", "describe_histogram!("];
                let is_call = is_call.iter().any(|opening| before.ends_with(opening));
                let is_row = before.ends_with('(') && !before.ends_with("!(") && after.starts_with('"');
                let is_help = is_call || is_row;
                if is_help { &mut described } else { &mut recorded }.insert(name.to_owned());
            }
            for (constant, name) in constants {
                let is_described = ["counter", "gauge", "histogram"].iter().any(|kind| {
                    let call = format!("describe_{kind}!(");
                    text.match_indices(&call).any(|(at, _)| text[at + call.len()..].trim_start().starts_with(constant))
                }) || text.contains(&format!("({constant}, \""));
                if is_described {
                    described.insert(format!("scoreline_{name}"));
                }
            }
        }
    }
    (recorded, described)
}

#[test]
fn every_metric_has_a_help_text() {
    let (recorded, described) = recorded_and_described();
    // Constants may be described in another file than the one they stand in.
    let elsewhere = ["scoreline_store_keys_to_change", "scoreline_store_open"];
    let silent: Vec<_> = recorded.iter().filter(|name| !described.contains(*name)).collect();
    let silent: Vec<_> = silent.into_iter().filter(|name| !elsewhere.contains(&name.as_str())).collect();
    assert!(recorded.len() > 80 && silent.is_empty(), "{} metrics; without a help text: {silent:?}", recorded.len());
    let server = Server::start_with(models().path(), &[]);
    let text = get(&server.admin, "/metrics");
    for name in elsewhere {
        let is_shown = text.contains(&format!("# TYPE {name} "));
        assert!(!is_shown || text.contains(&format!("# HELP {name} ")), "{name} in {text}");
    }
}

#[test]
fn prometheus_takes_the_metrics_and_the_rules() {
    let Some(mut check) = program("promtool", "`promtool check metrics`") else { return };
    let models = models();
    let server = Server::start_with(models.path(), &[]);
    post(
        &server.listen,
        "/v1/predict/clv",
        r#"{"features": {"recency_days": 30, "frequency_count": 10}, "explain": true}"#,
    );
    let reply = get(&server.admin, "/metrics");
    let (_, text) = reply.split_once("\r\n\r\n").expect("a body");
    assert!(!text.lines().any(|line| line.ends_with(" NaN")), "{text}");
    assert!(text.contains("_bucket{route=\"predict_clv\",le=\"0.000005\"}"), "{text}");
    let mut child =
        check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().expect("promtool runs");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let mut told = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut told).expect("text");
    // Names say their unit where they have one; what else it finds has a meaning that dashboards are written on.
    assert!(child.wait().expect("ends").success() && told.is_empty(), "{told}");

    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let mut promtool = program("promtool", "rules").expect("was there");
        let output = promtool.args(arguments).current_dir(repository(FOLDER)).output().expect("promtool runs");
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn every_alert_says_what_to_do_and_is_tried() {
    let rules = read("integrations/grafana/alerts.yml");
    let tests = read("integrations/grafana/alerts_test.yml");
    let sources = recorded_and_described().1;
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 12, "{}", alerts.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap_or_default();
        let anchor = alert.lines().find_map(|line| line.trim().strip_prefix("runbook: docs/operate.md#"));
        let anchor = anchor.unwrap_or_else(|| panic!("{name} names no section of docs/operate.md"));
        assert!(has_heading(&repository("docs/operate.md"), anchor), "{name}: docs/operate.md has no `{anchor}`");
        assert!(alert.contains("severity: page") || alert.contains("severity: ticket"), "{name}");
        // An empty list is a test that it stays quiet.
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} is not tried");
    }
    let dashboard = read("integrations/grafana/dashboard.json");
    for name in metrics_in(&rules).into_iter().chain(metrics_in(&dashboard)) {
        let family = name.trim_end_matches("_bucket");
        let is_known = sources.contains(family) || ["scoreline_store_open"].contains(&family);
        assert!(is_known, "`{name}` is no metric");
    }
}

#[test]
fn grafana_knows_all_of_the_dashboard() {
    let python = repository("target/test-venv/bin/python");
    let mut known = Command::new(&python);
    let is_there =
        known.args(["-c", "import grafana_foundation_sdk"]).output().is_ok_and(|output| output.status.success());
    if !is_there {
        eprintln!("skipped: decoding the dashboard needs grafana-foundation-sdk in target/test-venv");
        return;
    }
    let mut decode = Command::new(&python);
    decode.args(["tests/grafana/decode.py", "integrations/grafana/dashboard.json"]);
    let output = decode.current_dir(repository("")).output().expect("python runs");
    assert!(output.status.success(), "what Grafana's types do not have: {}", said(&output));
}

/// A Prometheus that scrapes a server once a second.
struct Prometheus {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(mut program: Command, target: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let settings = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n  \
             - job_name: scoreline\n    static_configs: [{{targets: ['{target}']}}]\n",
            repository("integrations/grafana/alerts.yml").display()
        );
        fs::write(folder.path().join("prometheus.yml"), settings).expect("written");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let address = format!("127.0.0.1:{port}");
        let child = program
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .args([&format!("--web.listen-address={address}"), "--log.level=error"])
            .arg("--enable-feature=exemplar-storage")
            .stdout(Stdio::null())
            .spawn()
            .expect("Prometheus starts");
        let prometheus = Self { child, address, _folder: folder };
        let ready = "GET /-/ready HTTP/1.0\r\nhost: x\r\nconnection: close\r\n\r\n";
        let is_open = || TcpStream::connect(&prometheus.address).is_ok();
        wait_for("Prometheus", || is_open() && ask(&prometheus.address, ready).starts_with("HTTP/1.0 200"));
        prometheus
    }

    fn api(&self, path: &str) -> Value {
        body(&ask(&self.address, &format!("GET /api/v1/{path} HTTP/1.0\r\nhost: x\r\nconnection: close\r\n\r\n")))
    }

    /// How many series an expression gives; an error ends the test.
    fn series(&self, expression: &str) -> usize {
        let mut path = "query?query=".to_owned();
        for byte in expression.bytes() {
            let _ = write!(path, "%{byte:02X}");
        }
        let answer = self.api(&path);
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().map_or(0, Vec::len)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings of a server with a platform to read from and write to, and with a version on trial.
fn environment(platform: &Simulator, folder: &Path) -> Vec<(&'static str, String)> {
    let mut environment = platform_environment(platform, folder);
    environment.extend([
        ("SCORELINE__GENESYS__OUTBOUND__CONTACT_LISTS", platform.contact_list().to_string()),
        ("SCORELINE__EXTRACT__LOOK_BACK_DAYS", "7".to_owned()),
        ("SCORELINE__WRITE_BACK__SINK", "profile".to_owned()),
        ("SCORELINE__PUSH__SINK", "contact_list".to_owned()),
        ("SCORELINE__MONITORING__WINDOW_ROWS", "100".to_owned()),
        ("SCORELINE__MONITORING__MIN_ROWS", "100".to_owned()),
        ("SCORELINE__SCORING__SELF_PROBE", "1s".to_owned()),
        ("SCORELINE__MODELS__CANDIDATES", r#"{ clv = { version = "v1.3", mode = "shadow" } }"#.to_owned()),
    ]);
    environment
}

/// A little of everything that a server is asked.
fn traffic(server: &Server, round: u32) {
    for call in 0..60 {
        let features = json!({"recency_days": 5 + call, "frequency_count": 1 + round, "unheard": 1});
        let mut question = json!({"features": features, "explain": call == 0});
        question["features"].as_object_mut().expect("an object").remove("unheard");
        post(&server.listen, "/v1/predict/clv", &question.to_string());
        post(&server.listen, "/v1/genesys/clv", &features.to_string());
    }
    post(&server.listen, "/v1/predict/clv", "{");
    let now = format!("{:.3}", SystemClock.now());
    let event = json!({"leadId": "10000045", "timestamp": now, "new_score": 40 + round});
    post(&server.listen, "/v1/events/lead-score", &event.to_string());
    let outcome = json!({
        "customerId": format!("C-{round}"), "actual_spend_usd": 12.5, "observed_at": "2026-03-01T00:00:00Z",
        "prediction": {"clv_value_usd": 20.0, "confidence_interval_low": 0.0, "confidence_interval_high": 50.0,
            "interval_level": 0.9, "model_version": "v1.2", "scored_at": "2026-01-01T00:00:00Z", "horizon_days": 30,
            "risk_score": 0.3, "confidence_score": 0.6},
    });
    post(&server.listen, "/v1/outcomes", &outcome.to_string());
}

#[test]
fn every_panel_shows_something_of_a_real_server() {
    let Some(program) = program("prometheus", "running the dashboard's expressions") else { return };
    let watch = Stopwatch::start();
    let mut settings =
        SimulatorSettings { customers: 10, interactions_per_customer: 5.0, days: 7, ..SimulatorSettings::default() };
    settings.limits.requests = 100_000;
    let platform = Simulator::start(settings).expect("a simulator");
    platform.put_contact(&platform.contact_list().to_string(), "10000045", [("leadId", "10000045")]);
    let (folder, models) = (tempfile::tempdir().expect("a folder"), models());
    watched_bundle("clv", "v1.2").write(models.path());
    TestBundle::clv("v1.3").with_log_mean(3.1).write(models.path());
    TestBundle::lead("v1.0").write(models.path());
    let traces = Receiver::start(&[200]);
    let mut environment = environment(&platform, folder.path());
    environment
        .extend([("SCORELINE__TRACING__ENDPOINT", traces.url("")), ("SCORELINE__TRACING__SAMPLE", "1".to_owned())]);
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = Server::start_with(models.path(), &environment);
    let prometheus = Prometheus::start(program, &server.admin);
    wait_for("a scrape", || prometheus.series("up == 1") == 1);

    let dashboard: Value = serde_json::from_str(&read("integrations/grafana/dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list");
    let targets = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets
            .into_iter()
            .map(move |target| (panel["title"].to_string(), target["expr"].as_str().expect("text").to_owned()))
    });
    let mut open: Vec<(String, String)> = targets
        .map(|(title, expression)| {
            let expression = expression.replace("$__rate_interval", "5m").replace("$__range", "6h");
            (title, expression.replace("$job", "scoreline"))
        })
        .collect();
    assert!(open.len() > 50, "{}", open.len());
    for (_, expression) in &open {
        assert!(!expression.contains('$'), "a variable that the dashboard has not: {expression}");
    }
    let mut round = 0;
    while !open.is_empty() {
        traffic(&server, round);
        round += 1;
        std::thread::sleep(Duration::from_secs(1));
        open.retain(|(_, expression)| prometheus.series(expression) == 0);
        open.retain(|(_, expression)| !ELSEWHERE.iter().any(|name| expression.contains(name)));
        let text = get(&server.admin, "/metrics");
        assert!(watch.elapsed() < Duration::from_mins(1), "panels that show nothing: {open:#?}\n{text}");
    }
    let text = get(&server.admin, "/metrics");
    let silent: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !text.contains(&format!("# HELP {name} ")))
        .collect();
    assert!(silent.is_empty(), "without a help text: {silent:?}");
    let rules = prometheus.api("rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().expect("a list").clone();
    assert!(rules.len() > 12 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
    let firing: Vec<_> = rules.iter().filter(|rule| rule["state"] != "inactive").map(|rule| &rule["name"]).collect();
    // What is asked here is nothing like the training rows, and its outcomes are few.
    assert!(firing.iter().all(|name| *name == "ScorelineDrift"), "{firing:?}");
    // Prometheus asks for OpenMetrics, so it has the traces behind the times, too.
    let now = SystemClock.now().as_second();
    let exemplars = prometheus.api(&format!(
        "query_exemplars?query=scoreline_http_request_duration_seconds_bucket&start={}&end={}",
        now - 600,
        now + 60
    ));
    let found = exemplars["data"].as_array().expect("a list");
    let of_clv = found.iter().find(|one| one["seriesLabels"]["route"] == "predict_clv");
    let id = of_clv.map(|one| one["exemplars"][0]["labels"]["trace_id"].as_str().expect("text").to_owned());
    let id = id.unwrap_or_else(|| panic!("no exemplar: {exemplars}"));
    assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    eprintln!("the dashboard's expressions ran in {:.1} s", watch.elapsed().as_secs_f64());
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}
