//! Canaries: values that no person would send, planted through every input of a running server and searched for in all
//! that comes out of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::TestBundle;
use crate::support::receiver::Receiver;

/// Part of every planted value. Not shaped like personal data, so that nothing refuses it on the way in.
pub const CANARY: &str = "kanarienvogel";
/// Planted where only the caller may see it again: as request ids, which are logged and given back.
const REQUEST_ID: &str = "request-id-of-the-caller";

pub struct Server {
    child: Child,
    log: std::thread::JoinHandle<String>,
    pub listen: String,
    admin: String,
}

impl Server {
    pub fn start(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = scoreline(folder, environment)
            .arg("serve")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped"));
        let mut log = String::new();
        let serving: Value = loop {
            let from = log.len();
            assert!(lines.read_line(&mut log).expect("a text log") > 0, "no `serving` in the log:\n{log}");
            let event: Value = serde_json::from_str(&log[from..]).expect("one JSON object a line");
            if event["message"] == "serving" {
                break event;
            }
        };
        let log = std::thread::spawn(move || {
            lines.read_to_string(&mut log).expect("a text log");
            log
        });
        let address = |key: &str| serving[key].as_str().expect("an address").to_owned();
        Self { child, log, listen: address("listen"), admin: address("admin_listen") }
    }

    /// Ends the process and gives its whole log.
    pub fn stop(mut self, signal: &str) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().expect("kill runs").success());
        self.child.wait().expect("ended");
        self.log.join().expect("read to its end")
    }
}

fn scoreline(folder: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoreline"));
    command
        .env("SCORELINE__MODELS__DIR", folder.join("models"))
        .env("SCORELINE__STORE__PATH", folder.join("state/scoreline.db"))
        .env("SCORELINE__SERVER__LISTEN", "127.0.0.1:0")
        .env("SCORELINE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")
        .env("SCORELINE__LOG__FORMAT", "json")
        .env_remove("SCORELINE_CONFIG")
        .envs(environment.iter().copied());
    command
}

pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    TestBundle::clv("v1.2").write(&folder.path().join("models"));
    TestBundle::lead("v1.0").write(&folder.path().join("models"));
    folder
}

/// One request on a connection of its own; head and body of the reply.
pub fn ask(address: &str, method: &str, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a socket");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n");
    stream.write_all(format!("{head}{headers}\r\n{body}").as_bytes()).expect("sent");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("a reply");
    String::from_utf8_lossy(&reply).into_owned()
}

/// Every body that a canary can ride in, by what it is planted in.
fn bodies() -> Vec<(String, String)> {
    let good = json!({"features": {"recency_days": 30, "frequency_count": 10}, "customerId": "CUST-1"});
    let mut bodies = Vec::new();
    let mut plant = |place: &str, value: Value| {
        let mut body = good.clone();
        match place.strip_prefix("features.") {
            Some(feature) => body["features"][feature] = value,
            None => body[place] = value,
        }
        bodies.push((place.to_owned(), body.to_string()));
    };
    let texts = ["customerId", "acquisition_channel", "segment", "model", "model_version", "timestamp_utc"];
    let others = ["previous_tier", "explain", "interval_level", "leadId", "lead_source", "name", "comment"];
    let features = ["features.recency_days", "features.frequency_count", "features.customer_name", "features.topic"];
    for place in texts.into_iter().chain(others).chain(features) {
        plant(place, json!(format!("{CANARY} Jane Doe")));
        plant(place, json!({ "nested": [CANARY] }));
    }
    plant("request_id", json!(format!("{CANARY} with a space")));
    plant("features", json!(CANARY));
    plant("customerId", json!(CANARY.repeat(30)));
    plant("actual_spend_usd", json!(CANARY));
    plant("observed_at", json!(CANARY));
    plant("prediction", json!({"clv_value_usd": 1.0, "model_version": CANARY, "scored_at": CANARY}));
    for broken in [
        format!("{{\"customerId\": \"{CANARY}"),
        format!("{{\"customerId\": \"{CANARY}\", }}"),
        format!("\"{CANARY}\""),
        CANARY.to_owned(),
        format!("[\"{CANARY}\"]"),
        format!("{{\"features\": {{\"recency_days\": 30}}, \"customerId\": \"\\ud800{CANARY}\"}}"),
        format!("{{\"customerId\": \"{CANARY}\", \"customerId\": \"{CANARY}\"}}"),
        "x".repeat(70_000) + CANARY,
    ] {
        bodies.push(("broken JSON".to_owned(), broken));
    }
    bodies
}

const PATHS: [&str; 9] = [
    "/v1/predict/clv",
    "/v1/predict/clv/batch",
    "/v1/predict/lead",
    "/v1/predict/lead/batch",
    "/v1/route/tier",
    "/v1/genesys/clv",
    "/v1/genesys/route",
    "/v1/genesys/lead",
    "/v1/outcomes",
];

/// Fails when a canary is in `text`, whatever its case and also in hexadecimal and Base64.
fn expect_none(what: &str, text: &[u8]) {
    use base64::Engine as _;
    let hex = CANARY.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    // All but its last group, which depends on what follows.
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&CANARY[..12]);
    let text = String::from_utf8_lossy(text);
    let lower = text.to_lowercase();
    for form in [CANARY, hex.as_str(), base64.to_lowercase().as_str()] {
        if let Some(at) = lower.find(form) {
            let from = lower[..at].char_indices().rev().nth(200).map_or(0, |(from, _)| from);
            panic!("a canary is in {what}: {}", &lower[from..at + form.len()]);
        }
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for path in entries.map(|entry| entry.expect("readable").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).expect("readable")));
        }
    }
    found
}

#[test]
fn what_callers_send_is_in_no_answer_log_metric_trace_or_file() {
    let folder = folder();
    let audit = folder.path().join("state/audit.ndjson").display().to_string();
    let traces = Receiver::start(&[200]);
    let address = traces.url("");
    let environment = [
        ("SCORELINE__PRIVACY__PEPPER", "kanarienvogel pepper"),
        ("SCORELINE__LOG__FILTER", "trace"),
        ("SCORELINE__LOG__AUDIT_PATH", audit.as_str()),
        ("SCORELINE__TRACING__ENDPOINT", address.as_str()),
        ("SCORELINE__TRACING__SAMPLE", "1"),
    ];
    let server = Server::start(folder.path(), &environment);
    let secret_headers = format!(
        "authorization: Bearer {CANARY}\r\ncookie: session={CANARY}\r\nx-customer: {CANARY}\r\nuser-agent: {CANARY}\r\n\
         traceparent: {CANARY}\r\nx-forwarded-for: {CANARY}\r\nx-request-id: {REQUEST_ID}\r\n"
    );
    for (place, body) in bodies() {
        for path in PATHS {
            let reply = ask(&server.listen, "POST", path, &secret_headers, &body);
            assert!(!reply.starts_with("HTTP/1.1 5"), "{place} at {path}: {reply}");
            expect_none(&format!("the answer of {path} to a canary in {place}"), reply.as_bytes());
        }
    }
    for (method, path) in [
        ("POST", format!("/v1/predict/clv?customer={CANARY}")),
        ("GET", format!("/{CANARY}")),
        ("GET", format!("/v1/customers/{CANARY}/score")),
        ("PUT", format!("/v1/customers/{CANARY}")),
        ("DELETE", format!("/v1/customers/{CANARY}")),
        ("DELETE", format!("/v1/customers/{CANARY}%FF")),
        ("OPTIONS", format!("/v1/predict/clv?{CANARY}")),
    ] {
        let reply = ask(&server.listen, method, &path, &secret_headers, "{}");
        expect_none(&format!("the answer to {method} {path}"), reply.as_bytes());
        let reply = ask(&server.admin, method, &path, &secret_headers, "{}");
        expect_none(&format!("the admin answer to {method} {path}"), reply.as_bytes());
    }
    // Kept on purpose, under a keyed hash.
    for customer in [CANARY, "CUST-2"] {
        let body = json!({"customerId": customer, "actual_spend_usd": 1.0, "observed_at": "2026-03-01T00:00:00Z",
            "prediction": {"clv_value_usd": 2.0, "model_version": "v1.2", "scored_at": "2026-01-01T00:00:00Z",
                "horizon_days": 30}});
        let reply = ask(&server.listen, "POST", "/v1/outcomes", "", &body.to_string());
        expect_none("the answer to an outcome", reply.as_bytes());
    }
    for path in ["/metrics", "/admin/models", "/admin/outcomes", "/admin/privacy", "/health/ready"] {
        expect_none(path, ask(&server.admin, "GET", path, "", "").as_bytes());
    }
    let log = server.stop("TERM");
    assert!(log.contains(REQUEST_ID), "the log is at trace level and shows request ids");
    expect_none("the log", log.as_bytes());
    let traces = traces.told();
    assert!(traces.iter().map(|told| told.body.len()).sum::<usize>() > 100_000, "every request is followed");
    for told in &traces {
        expect_none("traces", &told.body);
    }
    let kept = files(&folder.path().join("state"));
    let names = kept.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ");
    for file in ["scoreline.db", "audit.ndjson"] {
        assert!(names.contains(file), "{file} in {names}");
    }
    for (name, bytes) in &kept {
        expect_none(name, bytes);
    }
    let audit = std::fs::read_to_string(&audit).expect("there");
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 1, "one erasure: {audit}");
    let line = &lines[0];
    let words = ["who", "action", "object", "outcome", "request_id"].map(|key| line[key].as_str().expect(key));
    assert_eq!(words, ["local", "customer.erase", "customer", "done", REQUEST_ID]);
}

#[test]
fn secrets_of_the_settings_are_never_shown() {
    let folder = folder();
    let secret = format!("{CANARY} of 16 characters or more");
    let file = folder.path().join("pepper");
    std::fs::write(&file, &secret).expect("written");
    let mode = |mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("changed");
    };
    let path = file.display().to_string();
    let run = |arguments: &[&str], environment: &[(&str, &str)]| -> Output {
        scoreline(folder.path(), environment).args(arguments).output().expect("the binary runs")
    };
    let clean = |what: &str, output: &Output| {
        expect_none(what, &[output.stdout.as_slice(), &output.stderr].concat());
    };
    mode(0o600);
    let pepper_file = ("SCORELINE__PRIVACY__PEPPER_FILE", path.as_str());
    for settings in [
        &[("SCORELINE__PRIVACY__PEPPER", secret.as_str())][..],
        &[pepper_file],
        &[
            ("SCORELINE__STORE__URL", "postgres://user:kanarienvogel@host/db"),
            ("SCORELINE__STORE__PATH", ""),
            pepper_file,
        ],
    ] {
        for arguments in [&["config", "show", "--sources"][..], &["config", "check"], &["models", "list"]] {
            let output = run(arguments, settings);
            assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
            clean(settings[0].0, &output);
        }
    }
    let refused = |what: &str, environment: &[(&str, &str)], config: Option<&str>| {
        let settings = folder.path().join("settings.toml");
        std::fs::write(&settings, config.unwrap_or_default()).expect("written");
        let settings = settings.display().to_string();
        let output = run(&["--config", &settings, "config", "check"], environment);
        assert_eq!(output.status.code(), Some(64), "{what}");
        clean(what, &output);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    mode(0o644);
    let readable = refused("a readable file", &[("SCORELINE__PRIVACY__PEPPER_FILE", &path)], None);
    assert!(readable.contains("chmod 600"), "{readable}");
    refused("a section", &[("SCORELINE__PRIVACY", &secret)], None);
    refused("a misspelt key", &[("SCORELINE__PRIVACY__PEPER", &secret)], None);
    refused("a short secret", &[("SCORELINE__PRIVACY__PEPPER", CANARY)], None);
    refused("broken TOML", &[], Some(&format!("[privacy]\npepper = \"{secret}\nidentifiers = 1")));
    refused("a section in a file", &[], Some(&format!("privacy = \"{secret}\"")));
    refused("a list for a secret", &[], Some(&format!("[privacy]\npepper = [\"{secret}\"]")));
}

#[test]
fn scoring_a_table_tells_nothing_of_its_rows() {
    let folder = folder();
    let table = folder.path().join("customers.csv");
    let rows = format!(
        "customer_id,recency_days,frequency_count\n{CANARY},30,10\nC-2,{CANARY},10\n\"{CANARY}\n,30,{CANARY}\nC-4,30,10\n"
    );
    std::fs::write(&table, rows).expect("written");
    let scored = folder.path().join("scored.csv");
    let output = scoreline(folder.path(), &[("SCORELINE__LOG__FILTER", "trace")])
        .args(["score", "--input"])
        .arg(&table)
        .arg("--output")
        .arg(&scored)
        .output()
        .expect("the binary runs");
    // What is in the output file was in the input file of the same person.
    expect_none("what scoring a table prints", &[output.stdout, output.stderr].concat());
}

#[test]
fn a_table_without_a_header_is_refused_without_its_first_customer() {
    let folder = folder();
    let table = folder.path().join("customers.csv");
    std::fs::write(&table, "C-1,+14155550123,a@example.com\nC-2,+14155550124,b@example.com\n").expect("written");
    let mut command = scoreline(folder.path(), &[]);
    command.args(["score", "--input"]).arg(&table).arg("--output").arg(folder.path().join("scored.csv"));
    let output = command.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("`C-1`, a name that looks like personal data (column 2)"), "{told}");
    assert!(!told.contains("4155550123") && !told.contains("a@example"), "{told}");
}
