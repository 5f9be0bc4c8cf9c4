//! The program as its operator sees it: started, asked over a socket, stopped by a signal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::TestBundle;

/// A running `scoreline serve` on free ports.
pub struct Server {
    pub child: Child,
    log: BufReader<std::process::ChildStderr>,
    /// What it said before it served.
    pub begun: String,
    pub listen: String,
    pub admin: String,
}

impl Server {
    fn start(models: &Path) -> Self {
        Self::start_with(models, &[])
    }

    pub fn start_with(models: &Path, environment: &[(&str, &str)]) -> Self {
        Self::run(scoreline(&["serve"], models), environment)
    }

    /// As `start_with`, by a command that may set limits first.
    pub fn run(mut command: Command, environment: &[(&str, &str)]) -> Self {
        let mut child = command
            .env("SCORELINE__SERVER__LISTEN", "127.0.0.1:0")
            .env("SCORELINE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")
            .env("SCORELINE__LOG__FORMAT", "json")
            .env("SCORELINE__SERVER__DRAIN_DELAY", "0s")
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut begun = String::new();
        let serving = event_after(&mut log, "serving", &mut begun);
        let address = |key: &str| serving[key].as_str().expect("an address").to_owned();
        Self { child, log, begun, listen: address("listen"), admin: address("admin_listen") }
    }

    /// Reads the log up to the next line with this message.
    pub fn event(&mut self, message: &str) -> Value {
        next_event(&mut self.log, message)
    }

    /// Reads the log up to the next line with this message; what stood before it.
    pub fn log_before(&mut self, message: &str) -> String {
        let mut seen = String::new();
        event_after(&mut self.log, message, &mut seen);
        seen
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    pub fn wait(mut self) -> i32 {
        let status = self.child.wait().expect("the process ends");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("the log is text");
        status.code().unwrap_or_else(|| panic!("ended by a signal: {rest}"))
    }
}

/// A test that fails leaves nothing behind that runs on.
impl Drop for Server {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads log lines until the one with this message.
fn next_event(log: &mut impl BufRead, message: &str) -> Value {
    event_after(log, message, &mut String::new())
}

/// As above; `seen` is given the lines before it.
fn event_after(log: &mut impl BufRead, message: &str, seen: &mut String) -> Value {
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).expect("the log is text") > 0, "no `{message}` in the log:\n{seen}");
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|err| panic!("{err}: {line}"));
        if event["message"] == message {
            return event;
        }
        *seen += &line;
    }
}

pub fn scoreline(arguments: &[&str], models: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoreline"));
    command.args(arguments).env("SCORELINE__MODELS__DIR", models).env_remove("SCORELINE_CONFIG");
    // No name of a model.
    command.env("SCORELINE__STORE__PATH", models.join(".state/scoreline.db"));
    command
}

/// `scoreline serve` under a limit of the system, as `ulimit` takes it.
pub fn serve_under(limit: &str, models: &Path) -> Command {
    let plain = scoreline(&["serve"], models);
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("ulimit {limit} && exec \"$0\" serve")).arg(plain.get_program());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn run(arguments: &[&str], models: &Path) -> Output {
    scoreline(arguments, models).output().expect("the binary runs")
}

/// One request on a connection of its own; the reply whole.
pub fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a text reply");
    reply
}

pub fn post(address: &str, path: &str, body: &str) -> String {
    let length = body.len();
    ask(
        address,
        &format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"),
    )
}

pub fn get(address: &str, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}

/// A connection that waits for a reply so long at most.
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    stream
}

/// A plain request on a connection that stays open, which the lane takes; the whole reply.
pub fn ask_lane(stream: &mut TcpStream, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reply = String::new();
    let mut piece = [0; 4096];
    while !reply.contains("\r\n\r\n") || !reply.ends_with('}') {
        let read = stream.read(&mut piece).expect("a reply");
        assert!(read > 0, "cut off: {reply}");
        reply += std::str::from_utf8(&piece[..read]).expect("text");
    }
    reply
}

pub fn models() -> tempfile::TempDir {
    let models = tempfile::tempdir().expect("temporary folder");
    TestBundle::clv("v1.2").write(models.path());
    models
}

#[test]
fn serve_answers_picks_up_a_dropped_model_and_stops_cleanly_on_a_signal() {
    let models = models();
    let mut server = Server::start(models.path());
    let body = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;
    let reply = post(&server.listen, "/v1/predict/clv", body);
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("\"clv_value_usd\":15.06"), "{reply}");
    assert!(get(&server.admin, "/metrics").contains("scoreline_predictions_total{source=\"model\"} 1"));
    assert!(get(&server.listen, "/metrics").starts_with("HTTP/1.1 404"));

    TestBundle::clv("v1.3").with_log_mean(3.2).write(models.path());
    let event = next_event(&mut server.log, "model serves");
    assert_eq!(event["version"], "v1.3");
    assert!(post(&server.listen, "/v1/predict/clv", body).contains("\"model_version\":\"v1.3\""));

    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_request_in_flight_is_answered_after_the_signal() {
    let models = models();
    let mut server = Server::start(models.path());
    let body = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;
    let head = format!("POST /v1/predict/clv HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(&server.listen).expect("the server listens");
    stream.write_all(head.as_bytes()).expect("sent");
    // The head is read before the signal arrives; the body follows after it.
    std::thread::sleep(Duration::from_millis(200));
    server.signal("TERM");
    next_event(&mut server.log, "stopping: finishing what has begun");
    stream.write_all(body.as_bytes()).expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a text reply");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_key() {
    let models = models();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = scoreline(&["serve"], models.path())
        .env("SCORELINE__SERVER__LISTEN", &address)
        .env("SCORELINE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("`server.listen`") && text.contains(&address), "{text}");
}

#[test]
fn models_list_and_verify_say_what_is_wrong() {
    let models = models();
    let good = run(&["models", "verify"], models.path());
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    TestBundle::clv("v1.3").edit("sha256 = \"", "sha256 = \"00").write(models.path());
    let list = run(&["models", "list"], models.path());
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(text.contains("v1.2") && text.contains("serving") && text.contains("refused"), "{text}");
    let bad = run(&["models", "verify"], models.path());
    assert_eq!(bad.status.code(), Some(1));
    let text = [bad.stdout, bad.stderr].concat();
    assert!(String::from_utf8_lossy(&text).contains("SHA-256"), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn wrong_settings_are_reported_all_at_once_with_exit_64() {
    let models = models();
    let output = scoreline(&["config", "check"], models.path())
        .env("SCORELINE__SERVER__LISTEN", "nowhere")
        .env("SCORELINE__SCORING__DEADLINE", "500")
        .env("SCORELINE__SCORING__DEDLINE", "500ms")
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for key in ["SCORELINE__SERVER__LISTEN", "SCORELINE__SCORING__DEADLINE", "SCORELINE__SCORING__DEDLINE"] {
        assert!(text.contains(key), "{key} in {text}");
    }
    assert_eq!(run(&["serv"], models.path()).status.code(), Some(64));
}

#[test]
fn a_hangup_reads_again_what_can_be_and_never_ends_the_server() {
    let models = models();
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, audit) = (folder.path().join("scoreline.toml"), folder.path().join("audit.ndjson"));
    std::fs::write(&file, "[scoring]\ndeadline = \"300ms\"\n").expect("written");
    let environment = [
        ("SCORELINE_CONFIG", file.to_str().expect("text")),
        ("SCORELINE__LOG__AUDIT_PATH", audit.to_str().expect("text")),
        ("SCORELINE_HOME", "/srv/scoreline"),
    ];
    let mut server = Server::start_with(models.path(), &environment);

    server.signal("HUP");
    next_event(&mut server.log, "settings are as at the start");

    // What a log rotation does.
    std::fs::rename(&audit, folder.path().join("audit.1")).expect("moved");
    std::fs::write(&file, "[scoring]\ndeadline = \"200ms\"\n[log]\nfilter = \"debug\"\n").expect("written");
    server.signal("HUP");
    let event = next_event(&mut server.log, "settings have changed: they hold from the next start");
    assert_eq!((event["level"].as_str(), event["keys"].as_str()), (Some("WARN"), Some("log.filter, scoring.deadline")));
    assert!(post(&server.admin, "/admin/jobs/features/run", "").starts_with("HTTP/1.1 202"));
    let lines = std::fs::read_to_string(&audit).expect("a new file");
    assert!(lines.contains("job.run"), "{lines}");
    assert_eq!(std::fs::read_to_string(folder.path().join("audit.1")).expect("the old file"), "");

    std::fs::write(&file, "[scoring]\ndeadline = 7\n").expect("written");
    server.signal("HUP");
    let event =
        next_event(&mut server.log, "settings cannot be used: those before stay, and a restart would be refused");
    assert!(event["problems"].as_str().expect("text").contains("`scoring.deadline`"), "{event}");

    for _ in 0..20 {
        server.signal("HUP");
    }
    let body = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;
    assert!(post(&server.listen, "/v1/predict/clv", body).starts_with("HTTP/1.1 200"));
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_start_names_variables_that_carry_no_setting() {
    let models = models();
    let mut child = scoreline(&["serve"], models.path())
        .env("SCORELINE__SERVER__LISTEN", "127.0.0.1:0")
        .env("SCORELINE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")
        .env("SCORELINE__LOG__FORMAT", "json")
        .env("SCORELINE_LISTEN", "127.0.0.1:9")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let event = loop {
        let event = next_event(&mut log, "environment variable is no setting: ignored");
        if event["variable"] == "SCORELINE_LISTEN" {
            break event;
        }
    };
    assert_eq!((event["level"].as_str(), event["nearest"].as_str()), (Some("WARN"), Some("SCORELINE__SERVER__LISTEN")));
    child.kill().expect("ends");
    child.wait().expect("ended");
    let check = scoreline(&["config", "check"], models.path()).env("SCORELINE_LISTEN", "127.0.0.1:9").output();
    let told = String::from_utf8_lossy(&check.expect("the binary runs").stdout).into_owned();
    assert!(told.contains("`SCORELINE_LISTEN` is no setting and is ignored"), "{told}");
    let refused = scoreline(&["serve"], models.path()).env("SCORELINE_SERVER__LISTEN", "127.0.0.1:9").output();
    let refused = refused.expect("the binary runs");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(64), "{told}");
    assert!(told.contains("SCORELINE_SERVER__LISTEN") && told.contains("`SCORELINE__SERVER__LISTEN`"), "{told}");
}

#[test]
fn an_extraction_without_a_platform_is_a_matter_of_settings() {
    let models = models();
    let refused = run(&["extract", "--once"], models.path());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(64), "{told}");
    assert!(told.contains("`genesys.region`") && told.contains("`genesys.client_id`"), "{told}");
    assert!(!told.contains("goes on from there") && !models.path().join(".state").exists(), "{told}");
}
