//! Real sockets: scoreline with its listener, callers' tokens, rates and metrics against the bare axum handler of the same body under `axum::serve`, in turn,
//! in one run. Server on one runtime thread, generator on another; keep-alive; 1, 8 and 64 connections. First come the
//! cases of real traffic, in which every request is about another customer.
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
#[path = "peers/paced.rs"]
mod paced;
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

use client::ask_once;

const CONNECTIONS: [usize; 3] = [1, 8, 64];
const PREDICT: &str = "/v1/predict/clv";

/// Connections of the paced loop.
const PACED_CONNECTIONS: usize = 32;

/// One thing to ask one server.
struct Case {
    name: &'static str,
    address: SocketAddr,
    request: Vec<u8>,
}

fn main() {
    let (rounds, length, customers) = if run::is_smoke() { (1, 50, 1_000) } else { (7, 600, client::CUSTOMERS) };
    let length = Duration::from_millis(length);
    let (authenticator, token) = caller::with_token();
    let scoreline = start(server::scoreline(Some(authenticator), Tracer::default(), customers), serve_scoreline);
    let request = |path, body| client::request(path, &token, body);
    let sample = ask_once(scoreline, &request(PREDICT, server::DOCUMENTED));
    let bare = start(bare::router(Box::leak(sample.into_boxed_slice())), bare::serve);
    let of_scoreline = |name, path, body| Case { name, address: scoreline, request: request(path, body) };
    let cases = [
        // The same body as the next case, and another customer in each.
        Case { name: "bare axum, constant answer", address: bare, request: request(PREDICT, server::OF_NEW) },
        of_scoreline("predict, another customer each", PREDICT, server::OF_NEW),
        of_scoreline("predict by id, another customer each", PREDICT, server::BY_NEW_ID),
        of_scoreline("route/tier by id, another customer each", "/v1/route/tier", server::BY_NEW_ID),
        of_scoreline("predict, nobody named", PREDICT, server::DOCUMENTED),
        of_scoreline("predict, cache hit", PREDICT, server::OF_CUSTOMER),
        of_scoreline("route/tier, cache hit", "/v1/route/tier", server::ROUTE),
    ];
    println!("{customers} customers whose features are stored; {rounds} rounds of {length:?} a case, in turn;");
    println!("ratio = requests/s over bare axum's in the same round: median (min .. max)\n");
    println!("| connections | case | requests/s | p50 us | p99 us | ratio |\n|---|---|---|---|---|---|");
    let mut at_most = 0.0;
    for connections in CONNECTIONS {
        let results = in_turn(&cases, rounds, |case| client::closed(case.address, &case.request, connections, length));
        for (case, rounds) in cases.iter().zip(&results) {
            let [_, rate, _] = run::median_of(rounds.iter().map(|round| round.per_second));
            let at = |q: f64| run::median_of(rounds.iter().map(|round| quantile(&round.micros, q) as f64))[1];
            let ratios = rounds.iter().zip(&results[0]).map(|(round, bare)| round.per_second / bare.per_second);
            let [low, ratio, high] = run::median_of(ratios);
            let (half, most) = (at(0.5), at(0.99));
            println!(
                "| {connections} | {} | {rate:.0} | {half:.0} | {most:.0} | {ratio:.2} ({low:.2} .. {high:.2}) |",
                case.name,
            );
        }
        [_, at_most, _] = run::median_of(results[0].iter().map(|round| round.per_second));
    }
    paced_at(at_most / 2.0, &cases, rounds, length);
}

/// All at the same pace, which is half of what the bare handler gives: latencies from when a request was due.
fn paced_at(rate: f64, cases: &[Case], rounds: usize, length: Duration) {
    println!("\n{rate:.0} requests/s over {PACED_CONNECTIONS} connections:\n");
    println!("| case | p50 us | p99 us | p99.9 us |\n|---|---|---|---|");
    let results =
        in_turn(cases, rounds, |case| paced::paced(case.address, &case.request, PACED_CONNECTIONS, rate, length));
    for (case, rounds) in cases.iter().zip(results) {
        let mut micros = rounds.concat();
        micros.sort_unstable();
        let [half, most, nearly_all] = [0.5, 0.99, 0.999].map(|q| quantile(&micros, q));
        println!("| {} | {half} | {most} | {nearly_all} |", case.name);
    }
}

/// Every case once a round; the results by case.
fn in_turn<T>(cases: &[Case], rounds: usize, measure: impl Fn(&Case) -> T) -> Vec<Vec<T>> {
    let mut results: Vec<Vec<T>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (case, results) in cases.iter().zip(&mut results) {
            results.push(measure(case));
        }
    }
    results
}

/// Of values in ascending order; 0 of none.
fn quantile(ascending: &[u64], share: f64) -> u64 {
    ascending.get(((ascending.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(0)
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
