//! A machine with few open files and threads: who asks how we are is answered, and a start that cannot be says so.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::clients::{metric, open_files};
use crate::process::{Server, get, models, post, serve_under};

const BODY: &str = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;
/// All clients of these tests come from one address.
const ONE_PEER: (&str, &str) = ("SCORELINE__CONNECTIONS__MOST_PER_PEER", "4096");

/// Soft and hard limit of the open files of a process.
fn limits(server: &Server) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.id())).expect("a running process");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let mut words = line.split_whitespace().skip(3).map(str::to_owned);
    [words.next().expect("soft"), words.next().expect("hard")]
}

fn limit_open_files(server: &Server, limit: &str) {
    let pid = server.child.id().to_string();
    let done = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}")]).status();
    assert!(done.expect("prlimit runs").success());
}

fn is_alive(server: &Server) -> bool {
    get(&server.admin, "/health/live").starts_with("HTTP/1.1 200")
}

#[test]
fn more_idle_clients_than_open_files_take_nothing_from_the_others() {
    let models = models();
    let environment = [ONE_PEER, ("SCORELINE__SERVER__HEADER_READ_TIMEOUT", "3s")];
    let server = Server::run(serve_under("-n 256", models.path()), &environment);
    let said: Vec<Value> = server.begun.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let said = said.iter().find(|event| event["connections_most"] == 4096).expect("a line about it");
    assert_eq!((&said["level"], &said["connections"], &said["open_files"]), (&"WARN".into(), &176.into(), &256.into()));

    let mut early = TcpStream::connect(&server.listen).expect("the server listens");
    let ask = format!("POST /v1/predict/clv HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let answer = |early: &mut TcpStream| {
        early.write_all(ask.as_bytes()).expect("sent");
        let mut read = [0; 12];
        early.read_exact(&mut read).expect("an answer");
        assert_eq!(&read, b"HTTP/1.1 200");
        // The rest of it comes in one piece.
        assert!(early.read(&mut [0; 4096]).expect("the rest") > 0);
    };
    answer(&mut early);
    let idle: Vec<_> = (0..300).map(|_| TcpStream::connect(&server.listen).expect("the kernel takes it")).collect();
    sleep(Duration::from_millis(500));
    assert!(metric(&server.admin, "scoreline_connections_open{listener=\"public\"}") >= 176.0, "the listener is full");
    assert!(open_files(server.child.id()) < 256);
    for _ in 0..20 {
        assert!(is_alive(&server));
    }
    answer(&mut early);
    // Who comes later is answered once those who say nothing have been sent away.
    let late = post(&server.listen, "/v1/predict/clv", BODY);
    assert!(late.starts_with("HTTP/1.1 200"), "{late}");
    drop(idle);
    assert!(get(&server.listen, "/health/ready").starts_with("HTTP/1.1 200"));
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_goes() {
    let models = models();
    let server = Server::run(serve_under("-S -n 128", models.path()), &[]);
    let [soft, hard] = limits(&server);
    assert_eq!(soft, hard);
    assert_ne!(hard, "128", "a machine that allows more");
    assert!(!server.begun.contains("connections_most") || hard.parse::<u32>().is_ok_and(|hard| hard < 4608));
}

#[test]
fn a_connection_that_can_not_be_accepted_is_told_of_once_and_waits() {
    let models = models();
    let mut server = Server::run(serve_under("-n 1024", models.path()), &[ONE_PEER]);
    let used = open_files(server.child.id());
    limit_open_files(&server, &format!("{}:1024", used - 1));
    let mut waiting = TcpStream::connect(&server.listen).expect("the kernel takes it");
    waiting.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
    let event = server.event("connection could not be accepted");
    assert_eq!((&event["level"], &event["listener"]), (&"WARN".into(), &"public".into()));
    let busy = |server: &Server| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.child.id())).expect("a running process");
        let after_name = stat.rsplit(')').next().expect("fields").split_whitespace();
        after_name.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum::<u64>()
    };
    let before = busy(&server);
    sleep(Duration::from_secs(2));
    assert!(busy(&server) - before < 100, "less than a second of work in two");
    limit_open_files(&server, "1024:1024");
    let mut answer = String::new();
    waiting.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    waiting.read_to_string(&mut answer).expect("a text");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.signal("TERM");
    let since = server.log_before("stopped");
    assert!(!since.contains("could not be accepted"), "{since}");
}

#[test]
fn a_start_without_threads_is_one_line_and_no_panic() {
    let models = models();
    let program = models.path().join(".program");
    fs::copy(env!("CARGO_BIN_EXE_scoreline"), &program).expect("copied");
    for path in [models.path(), &program] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("changed");
    }
    let is_root = fs::metadata(&program).is_ok_and(|file| std::os::unix::fs::MetadataExt::uid(&file) == 0);
    // The limit does not hold for root. A user of this test alone has no other process.
    let limits: &[u32] = if is_root { &[1, 2, 3, 5, 9] } else { &[1] };
    for limit in limits {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("ulimit -u {limit} && exec \"$0\" serve")]).arg(&program);
        command.env("SCORELINE__MODELS__DIR", models.path()).env_remove("SCORELINE_CONFIG").current_dir("/");
        // No setting, which a start would say.
        command.env_remove("SCORELINE_TEST_POSTGRES").env("SCORELINE__LOG__FILTER", "error");
        command.env("SCORELINE__SERVER__LISTEN", "127.0.0.1:0").env("SCORELINE__SERVER__ADMIN_LISTEN", "127.0.0.1:0");
        if is_root {
            command.uid(61_000 + std::process::id() % 1000);
        }
        let output = command.output().expect("bash runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{limit} threads: {told}");
        assert_eq!(told.lines().count(), 1, "{limit} threads: {told}");
        assert!(told.starts_with("error: ") && told.contains("thread") && !told.contains("panicked"), "{told}");
    }
}
