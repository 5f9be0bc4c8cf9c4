//! Real sockets: scoreline with its listener, callers' tokens, rates and metrics against the bare axum handler of the same body under `axum::serve`, in turn,
//! in one run. Server on one runtime thread, generator on another; keep-alive; 1, 8 and 64 connections.
//!
//! `cargo bench --profile dist --bench load`

#![expect(unreachable_pub, reason = "nothing is outside of a bench")]
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a load generator times and spawns by itself")]

#[path = "support/bare.rs"]
mod bare;
#[path = "support/caller.rs"]
mod caller;
#[path = "support/client.rs"]
mod client;
#[path = "support/run.rs"]
mod run;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "shared with the predict bench")]
mod server;

use std::net::SocketAddr;
use std::time::Duration;

use scoreline::http::Endpoints;
use scoreline_domain::trace::Tracer;
use scoreline_listener::{Drain, Limits, Listener, OpenConnections};
use tokio::net::TcpListener;

use client::{Round, ask_once};

const CONNECTIONS: [usize; 3] = [1, 8, 64];

/// The documented question about another customer each time, whom the cache does not know: a score to be made and kept.
const OF_NEW_CUSTOMER: &str = r#"{"customerId":"EACH-00000000","features":{"recency_days":12,"frequency_count":48,"avg_handling_time_sec":245,"sentiment_score_avg":0.65,"topic_diversity":7},"model_version":"v1.2","request_id":"req-998877"}"#;

/// One thing to ask one server.
struct Case {
    name: &'static str,
    address: SocketAddr,
    request: Vec<u8>,
}

fn main() {
    let (rounds, length) = if run::is_smoke() { (1, 50) } else { (7, 600) };
    let length = Duration::from_millis(length);
    let (authenticator, token) = caller::with_token();
    let scoreline = start(server::scoreline(Some(authenticator), Tracer::default()), serve_scoreline);
    let request = |path, body| client::request(path, &token, body);
    let sample = ask_once(scoreline, &request("/v1/predict/clv", server::DOCUMENTED));
    let bare = start(bare::router(Box::leak(sample.into_boxed_slice())), bare::serve);
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
            name: "predict, new customers",
            address: scoreline,
            request: request("/v1/predict/clv", OF_NEW_CUSTOMER),
        },
        Case {
            name: "predict, cache hit",
            address: scoreline,
            request: request("/v1/predict/clv", server::OF_CUSTOMER),
        },
        Case { name: "route/tier by customer", address: scoreline, request: request("/v1/route/tier", server::ROUTE) },
    ];
    println!("{rounds} rounds of {length:?} a case, in turn; ratio = requests/s over bare axum's in the same round\n");
    println!("| connections | case | requests/s | p50 us | p99 us | ratio (min .. max) |\n|---|---|---|---|---|---|");
    for connections in CONNECTIONS {
        let mut results: Vec<Vec<Round>> = cases.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (case, rounds) in cases.iter().zip(&mut results) {
                rounds.push(client::closed(case.address, &case.request, connections, length));
            }
        }
        for (case, rounds) in cases.iter().zip(&results) {
            let [_, rate, _] = run::median_of(rounds.iter().map(|round| round.per_second));
            let quantile = |q: f64| {
                let at = |round: &Round| round.micros[((round.micros.len() - 1) as f64 * q) as usize] as f64;
                run::median_of(rounds.iter().map(at))[1]
            };
            let ratios = rounds.iter().zip(&results[0]).map(|(round, bare)| round.per_second / bare.per_second);
            let [low, ratio, high] = run::median_of(ratios);
            println!(
                "| {connections} | {} | {rate:.0} | {:.0} | {:.0} | {ratio:.2} ({low:.2} .. {high:.2}) |",
                case.name,
                quantile(0.5),
                quantile(0.99),
            );
        }
    }
}

/// Serves on a thread of its own until the process ends.
fn start<S, F>(service: S, serve: fn(TcpListener, S) -> F) -> SocketAddr
where
    S: Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let (address, at) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            address.send(listener.local_addr().expect("bound")).expect("main waits");
            serve(listener, service).await;
        });
    });
    at.recv().expect("the server starts")
}

/// As the program serves, with all its caps and timers.
async fn serve_scoreline(socket: TcpListener, endpoints: Endpoints) {
    let limits = Limits { requests: u32::MAX, ..Limits::default() };
    let listener = Listener { name: "bench", limits, tls: None, drain: Drain::new(), open: OpenConnections::default() };
    let spawn = |connection| drop(tokio::spawn(connection));
    listener.serve(socket, endpoints, spawn).await;
}
