//! Leaving under load: nobody is cut off, and who asks how we are is answered to the end.
#![expect(clippy::disallowed_methods, reason = "tests and their load generators spawn tasks and read the clock")]
#![expect(clippy::print_stdout, reason = "a suite prints its figures")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::clients::{ask, get, post};
use crate::process::{Server, models};

#[test]
fn signals_under_load_fail_no_request() {
    run(3);
}

#[test]
#[ignore = "150 s: cargo test --workspace --test it a_hundred_signals -- --ignored --nocapture"]
fn a_hundred_signals_under_load_fail_no_request() {
    run(100);
}

#[tokio::main]
async fn run(rounds: usize) {
    let mut answered = 0;
    let mut failed = Vec::new();
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        let (answers, failures, leaving) = round().await;
        answered += answers;
        failed.extend(failures);
        longest = longest.max(leaving);
    }
    println!(
        "{rounds} signals under load: {answered} requests answered, {} failed; from signal to exit at most {:.2} s",
        failed.len(),
        longest.as_secs_f64()
    );
    assert!(failed.is_empty(), "{failed:?}");
}

/// Sends a signal in the middle of the load: answers, failures, time to the exit.
async fn round() -> (usize, Vec<String>, Duration) {
    let models = models();
    let server = Server::start_with(models.path(), &[("SCORELINE__SERVER__DRAIN_DELAY", "300ms")]);
    let address: SocketAddr = server.listen.parse().expect("an address");
    let admin: SocketAddr = server.admin.parse().expect("an address");
    // A load balancer: it asks every 50 ms and opens no connection to who is not ready.
    let ready = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&ready);
    let balancer = tokio::spawn(async move {
        while let Ok(mut stream) = TcpStream::connect(admin).await
            && let Ok(answer) = ask(&mut stream, &get("/health/ready")).await
        {
            seen.store(answer.status == 200, Ordering::SeqCst);
            if answer.status != 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        seen.store(false, Ordering::SeqCst);
    });
    let answered = Arc::new(AtomicUsize::new(0));
    // Eight with kept-alive connections, two that open one for each request; together about 200 a second.
    let clients: Vec<_> =
        (0..10).map(|n| tokio::spawn(client(address, n < 8, Arc::clone(&ready), Arc::clone(&answered)))).collect();
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.signal("TERM");
    let signalled = Instant::now();
    let mut failures = Vec::new();
    for client in clients {
        failures.extend(client.await.expect("no panic"));
    }
    balancer.await.expect("no panic");
    let code = tokio::task::spawn_blocking(move || server.wait()).await.expect("no panic");
    assert_eq!(code, 0);
    (answered.load(Ordering::SeqCst), failures, signalled.elapsed())
}

/// Asks until nobody is ready any more; a failure if there was one.
async fn client(
    address: SocketAddr,
    keeps: bool,
    ready: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Option<String> {
    let request = post("/v1/predict/clv", r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#);
    let mut kept: Option<TcpStream> = None;
    loop {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None if !ready.load(Ordering::SeqCst) => return None,
            None => match TcpStream::connect(address).await {
                Ok(stream) => stream,
                Err(err) => return Some(format!("connect: {err}")),
            },
        };
        match ask(&mut stream, &request).await {
            Ok(answer) if answer.status == 200 => {
                answered.fetch_add(1, Ordering::SeqCst);
                if keeps && !answer.is_last() {
                    kept = Some(stream);
                }
            }
            Ok(answer) => return Some(answer.head),
            Err(err) => return Some(err.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(45)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_falls_first_and_liveness_last() {
    let models = models();
    let server = Server::start_with(models.path(), &[("SCORELINE__SERVER__DRAIN_DELAY", "1s")]);
    let address: SocketAddr = server.listen.parse().expect("an address");
    let admin: SocketAddr = server.admin.parse().expect("an address");
    let status = async |at: SocketAddr, path: &str| {
        let mut stream = TcpStream::connect(at).await.ok()?;
        ask(&mut stream, &get(path)).await.ok().map(|answer| answer.status)
    };
    let started = Instant::now();
    while status(admin, "/health/ready").await != Some(200) {
        assert!(started.elapsed() < Duration::from_secs(10), "an empty table is read at once");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.signal("TERM");
    let signalled = Instant::now();
    while status(admin, "/health/ready").await == Some(200) {
        assert!(signalled.elapsed() < Duration::from_millis(500), "readiness falls at once");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(status(address, "/health/ready").await, Some(503), "new connections are still accepted");
    assert_eq!(status(address, "/health/live").await, Some(200));
    assert_eq!(status(admin, "/health/live").await, Some(200));
    assert_eq!(tokio::task::spawn_blocking(move || server.wait()).await.expect("no panic"), 0);
    assert!(signalled.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_second_signal_does_not_wait() {
    let models = models();
    let server = Server::start_with(models.path(), &[("SCORELINE__SERVER__DRAIN_DELAY", "1m")]);
    server.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    server.signal("TERM");
    let signalled = Instant::now();
    assert_eq!(server.wait(), 1);
    assert!(signalled.elapsed() < Duration::from_secs(5));
}

#[test]
fn administration_is_not_public() {
    let models = models();
    let server = Server::start_with(models.path(), &[]);
    for path in [
        "/metrics",
        "/admin",
        "/admin/models",
        "/admin/outcomes",
        "/admin/models/clv/v1.2/promote",
        "//metrics",
        "/METRICS",
    ] {
        let reply = crate::process::get(&server.listen, path);
        assert!(reply.starts_with("HTTP/1.1 404"), "{path}: {reply}");
    }
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}
