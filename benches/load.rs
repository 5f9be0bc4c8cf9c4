//! Real sockets: scoreline against the bare axum handler of the same body, in turn, in one run, on the same listener
//! code. Server on one runtime thread, generator on another; keep-alive; 1, 8 and 64 connections.
//!
//! `cargo bench --bench load`

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a load generator times and spawns by itself")]

#[path = "support/run.rs"]
mod run;
#[path = "support/server.rs"]
mod server;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::BoxError;
use axum::body::HttpBody;
use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use scoreline::http::listener::{self, Drain, Limits, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CONNECTIONS: [usize; 3] = [1, 8, 64];

/// One thing to ask one server.
struct Case {
    name: &'static str,
    address: SocketAddr,
    request: Vec<u8>,
}

/// What a round of a case gave.
struct Round {
    per_second: f64,
    /// Microseconds, ascending.
    latencies: Vec<u64>,
}

fn main() {
    let (rounds, length) = if run::is_smoke() { (1, 50) } else { (7, 600) };
    let length = Duration::from_millis(length);
    let scoreline = start(server::scoreline());
    let sample = ask_once(scoreline, &request("/v1/predict/clv", server::DOCUMENTED));
    let bare = start(TowerToHyperService::new(server::bare_router(Box::leak(sample.into_boxed_slice()))));
    let cases = [
        Case {
            name: "bare axum, constant answer",
            address: bare,
            request: request("/v1/predict/clv", server::DOCUMENTED),
        },
        Case {
            name: "predict, model path",
            address: scoreline,
            request: request("/v1/predict/clv", server::DOCUMENTED),
        },
        Case {
            name: "predict, cache hit",
            address: scoreline,
            request: request("/v1/predict/clv", server::OF_CUSTOMER),
        },
        Case { name: "route/tier by customer", address: scoreline, request: request("/v1/route/tier", server::ROUTE) },
    ];
    println!("{rounds} rounds of {length:?} a case, in turn; ratio = requests/s over bare axum's in the same round\n");
    println!(
        "{:>5}  {:<28} {:>10} {:>8} {:>8}   {:<22}",
        "conns", "case", "requests/s", "p50 us", "p99 us", "ratio (min .. max)"
    );
    for connections in CONNECTIONS {
        let mut results: Vec<Vec<Round>> = cases.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (case, rounds) in cases.iter().zip(&mut results) {
                rounds.push(generate(case, connections, length));
            }
        }
        for (case, rounds) in cases.iter().zip(&results) {
            let [_, rate, _] = run::median_of(rounds.iter().map(|round| round.per_second));
            let quantile = |q: f64| {
                let at = |round: &Round| round.latencies[((round.latencies.len() - 1) as f64 * q) as usize] as f64;
                run::median_of(rounds.iter().map(at))[1]
            };
            let ratios = rounds.iter().zip(&results[0]).map(|(round, bare)| round.per_second / bare.per_second);
            let [low, ratio, high] = run::median_of(ratios);
            println!(
                "{connections:>5}  {:<28} {rate:>10.0} {:>8.0} {:>8.0}   {ratio:.2} ({low:.2} .. {high:.2})",
                case.name,
                quantile(0.5),
                quantile(0.99),
            );
        }
        println!();
    }
}

/// Serves on a thread of its own until the process ends.
fn start<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let (address, at) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            address.send(listener.local_addr().expect("bound")).expect("main waits");
            let limits = Limits { requests: u32::MAX, ..Limits::default() };
            let serving = Listener { name: "bench", limits, tls: None, drain: Drain::new() };
            let spawn = |connection| drop(tokio::spawn(connection));
            serving.serve(listener, listener::each(service), spawn).await;
        });
    });
    at.recv().expect("the server starts")
}

fn request(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Closed loop: every connection sends its next request when it has read the answer to the last.
fn generate(case: &Case, connections: usize, length: Duration) -> Round {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let request: Arc<[u8]> = case.request.as_slice().into();
        let start = Instant::now();
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let (stop, request, address) = (Arc::clone(&stop), Arc::clone(&request), case.address);
                tokio::spawn(async move {
                    let mut connection = Connection::open(address).await;
                    let mut latencies = Vec::with_capacity(1 << 14);
                    while !stop.load(Ordering::Relaxed) {
                        let asked = Instant::now();
                        connection.ask(&request).await;
                        latencies.push(asked.elapsed().as_micros() as u64);
                    }
                    latencies
                })
            })
            .collect();
        tokio::time::sleep(length).await;
        stop.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.expect("a connection never panics"));
        }
        latencies.sort_unstable();
        Round { per_second: latencies.len() as f64 / start.elapsed().as_secs_f64(), latencies }
    })
}

/// The body of one answer.
fn ask_once(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { Connection::open(address).await.ask(request).await.to_vec() })
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, buffer: vec![0; 16 * 1024] }
    }

    /// Sends one request and reads its answer whole; anything but 200 ends the bench.
    async fn ask(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).await.expect("the server reads");
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            filled += read;
            let bytes = &self.buffer[..filled];
            let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&bytes[..head]).expect("an ASCII head");
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .and_then(|length| length.parse::<usize>().ok())
                .expect("answers have a length");
            if filled >= head + 4 + length {
                return &self.buffer[head + 4..head + 4 + length];
            }
        }
    }
}
