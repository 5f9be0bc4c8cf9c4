//! Clients that take their time, by the hundred: they are gone in time, and nobody else notices.
#![expect(clippy::disallowed_methods, reason = "tests and their load generators spawn tasks and read the clock")]
#![expect(clippy::print_stdout, reason = "a suite prints its figures")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::clients::{Prober, closed, connect, metric, open_files, post};
use crate::process::{Server, models};

const BODY: &str = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;

struct Scale {
    each: usize,
    slow_readers: usize,
    timeout: &'static str,
    /// From the first attacker to the last closed socket.
    gone_within: Duration,
    quiet: Duration,
    /// Largest ratio of the good client's p99 under attack to its quiet one.
    ratio: f64,
}

#[test]
fn slow_clients_are_gone_in_time_and_nobody_else_notices() {
    // The body's own time is 5 s and not a setting.
    let scale = Scale {
        each: 25,
        slow_readers: 5,
        timeout: "1s",
        gone_within: Duration::from_secs(9),
        quiet: Duration::from_secs(1),
        ratio: 50.0,
    };
    run(&scale);
}

#[test]
#[ignore = "30 s: cargo test --workspace --test it hundreds_of_slow_clients -- --ignored --nocapture"]
fn hundreds_of_slow_clients_of_every_kind() {
    let scale = Scale {
        each: 500,
        slow_readers: 50,
        timeout: "10s",
        gone_within: Duration::from_secs(12),
        quiet: Duration::from_secs(8),
        ratio: 2.0,
    };
    run(&scale);
}

#[tokio::main]
async fn run(scale: &Scale) {
    let models = models();
    let settings = [
        ("SCORELINE__SERVER__HEADER_READ_TIMEOUT", scale.timeout),
        ("SCORELINE__CONNECTIONS__WRITE_TIMEOUT", scale.timeout),
        ("SCORELINE__CONNECTIONS__MOST_PER_PEER", "4096"),
        // Each slow reader is to be given its answer, not turned away.
        ("SCORELINE__SERVER__MOST_BATCHES", "256"),
    ];
    let server = Server::start_with(models.path(), &settings);
    let address: SocketAddr = server.listen.parse().expect("an address");
    let request = post("/v1/predict/clv", BODY);
    let quiet = Prober::run_for(address, request.clone(), scale.quiet).await;
    let files = open_files(server.child.id());

    let good = Prober::start(address, request);
    let mut attackers = tokio::task::JoinSet::new();
    for _ in 0..scale.each {
        attackers.spawn(dribble(address, b"POST /v1/predict/clv HTTP/1.1\r\nhost: x\r\nx-slow: ", b"a"));
        attackers.spawn(dribble(address, b"", b""));
        attackers.spawn(dribble(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b""));
        attackers.spawn(dribble(
            address,
            b"POST /v1/predict/clv HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n{",
            b" ",
        ));
    }
    let mut slow_readers = Vec::new();
    for _ in 0..scale.slow_readers {
        slow_readers.push(never_read(address).await);
    }
    // From the last of them; the first had more time.
    let ready = Instant::now();
    let mut closed_after: Vec<Duration> = Vec::new();
    while let Some(closed) = attackers.join_next().await {
        closed_after.push(closed.expect("no panic").saturating_duration_since(ready));
    }
    // The others keep what they were sent in front of the end; the server knows.
    let open = || metric(&server.admin, "scoreline_connections_open{listener=\"public\"}");
    while open() > 1.0 && ready.elapsed() < scale.gone_within * 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let gone = ready.elapsed();
    let attacked = good.stop().await;
    let last = closed_after.iter().max().copied().unwrap_or_default();
    let ended = |reason: &str| {
        metric(&server.admin, &format!("scoreline_connections_ended_total{{listener=\"public\",reason=\"{reason}\"}}"))
    };
    println!(
        "slow clients: {} x 4 kinds and {} slow readers; the last socket was closed after {:.1} s, all connections gone \
         after {:.1} s; good client p99 {:.2} ms quiet, {:.2} ms beside them, {} answers, {} errors; {} header \
         timeouts, {} write timeouts",
        scale.each,
        scale.slow_readers,
        last.as_secs_f64(),
        gone.as_secs_f64(),
        quiet.p99_ms(),
        attacked.p99_ms(),
        attacked.count(),
        attacked.errors.len(),
        ended("header_timeout"),
        ended("write_timeout"),
    );
    assert!(attacked.errors.is_empty(), "{:?}", attacked.errors);
    assert!(gone <= scale.gone_within, "{gone:?}");
    assert_eq!(ended("header_timeout"), (scale.each * 3) as f64);
    assert_eq!(ended("write_timeout"), scale.slow_readers as f64);
    // A quiet p99 of a fraction of a millisecond is within what the scheduler does by itself.
    let allowed = (quiet.p99_ms() * scale.ratio).max(5.0);
    assert!(attacked.p99_ms() < allowed, "{} ms, quiet {} ms", attacked.p99_ms(), quiet.p99_ms());
    drop(slow_readers);
    let settled = Instant::now();
    while open_files(server.child.id()) > files && settled.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(open_files(server.child.id()) <= files, "{} files, {files} before", open_files(server.child.id()));
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

/// Sends `first`, then `again` every 200 ms; when the connection was closed.
async fn dribble(address: SocketAddr, first: &'static [u8], again: &'static [u8]) -> Instant {
    let mut stream = connect(address).await;
    stream.write_all(first).await.expect("sent");
    loop {
        if tokio::time::timeout(Duration::from_millis(200), closed(&mut stream)).await.is_ok() {
            return Instant::now();
        }
        if stream.write_all(again).await.is_err() {
            return Instant::now();
        }
    }
}

/// Asks for more than the sockets hold and does not read it.
async fn never_read(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket");
    let mut stream = socket.connect(address).await.expect("the server accepts");
    let rows = format!("{BODY}\n").repeat(1000);
    let request = post("/v1/predict/clv/batch", &rows);
    for _ in 0..4 {
        if tokio::time::timeout(Duration::from_millis(300), stream.write_all(&request)).await.is_err() {
            break;
        }
    }
    stream
}
