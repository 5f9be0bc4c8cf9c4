//! scoreline beside other servers of the same documented body, all as processes of their own, in turn, in one run.
//! Prints a table in Markdown. `benches/peers/run` starts it with everything it needs.
//!
//! `--start 'name=address=command'` starts a server and measures its cold start and memory too, `--peer 'name=address'`
//! asks one that runs; the first is the yardstick of the ratios. `--serve-bare address` is the bare axum handler.

#![expect(unreachable_pub, reason = "nothing is outside of a bench")]
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a load generator times and spawns by itself")]

#[path = "../support/bare.rs"]
mod bare;
#[path = "../support/client.rs"]
#[expect(dead_code, reason = "shared with the load bench")]
mod client;
mod paced;
mod peer;
#[path = "../support/run.rs"]
mod run;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use client::Round;
use peer::Peer;

const CONNECTIONS: [usize; 3] = [1, 8, 64];
/// Connections of the paced loop.
const PACED_CONNECTIONS: usize = 32;
const PATH: &str = "/v1/predict/clv";
/// The documented request.
const BODY: &str = r#"{"features":{"recency_days":12,"frequency_count":48,"avg_handling_time_sec":245,"sentiment_score_avg":0.65,"topic_diversity":7},"model_version":"v1.2","request_id":"req-998877"}"#;
/// What the bare handler answers: scoreline's answer with the shipped model, so that both write as much.
const ANSWER: &str = r#"{"status":"success","prediction":{"clv_value_usd":101.9,"confidence_interval_low":0.0,"confidence_interval_high":351.2,"risk_score":0.5045,"confidence_score":0.2758,"clv_tier":"High_Value"},"metadata":{"model":"clv","model_version":"v1.2","inference_latency_ms":0.1636,"request_id":"req-998877","source":"model","scored_at":"2026-11-21T11:11:43Z","age_seconds":0,"interval_level":0.9,"horizon_days":273,"warnings":["imputed: sentiment_trend_slope","imputed: channel_preference_email","imputed: channel_preference_voice","imputed: channel_preference_chat","imputed: purchase_recency_days","imputed: purchase_count","imputed: tenure_days","imputed: monetary_avg","imputed: total_spend_usd","imputed: purchase_gap_mean_days"]}}"#;

struct Options {
    peers: Vec<Peer>,
    serve_bare: Option<String>,
    headers: String,
    rounds: usize,
    length: Duration,
    paced_length: Duration,
}

fn main() {
    let Options { mut peers, serve_bare, headers, rounds, length, paced_length } = options();
    if let Some(address) = serve_bare {
        serve(&address, |_| {});
        return;
    }
    if peers.is_empty() {
        // Without arguments, as in a short run of all benches: the yardstick against itself.
        peers = vec![Peer::running("bare axum", in_process()), Peer::running("bare axum again", in_process())];
    }
    let request = client::request(PATH, &headers, BODY);
    for peer in &mut peers {
        peer.wait(&request);
    }
    println!(
        "{rounds} rounds of {length:?} a server and number of connections, in turn; then {rounds} of {paced_length:?} at half of each"
    );
    println!("server's own median at 64 connections. Ratios are taken in the same round: median (min .. max).\n");
    let closed: Vec<Vec<Vec<Round>>> = CONNECTIONS
        .map(|connections| {
            interleaved(&peers, rounds, |_, peer| client::closed(peer.address, &request, connections, length))
        })
        .into();
    let median = |rounds: &[Round]| run::median_of(rounds.iter().map(|round| round.per_second))[1];
    let busiest = &closed[CONNECTIONS.len() - 1];
    let rates: Vec<f64> = busiest.iter().map(|rounds| median(rounds) / 2.0).collect();
    let paced = interleaved(&peers, rounds, |at, peer| {
        paced::paced(peer.address, &request, PACED_CONNECTIONS, rates[at], paced_length)
    });

    println!(
        "| server | 1 conn | 8 conns | 64 conns | x {} | p50 / p99 / p99.9 at half load, us | resident MB | cold start s |",
        peers[0].name
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (at, peer) in peers.iter().enumerate() {
        let ratios = busiest[at].iter().zip(&busiest[0]).map(|(mine, bare)| mine.per_second / bare.per_second);
        let [low, ratio, high] = run::median_of(ratios);
        let mut micros = paced[at].concat();
        micros.sort_unstable();
        let quantile =
            |share: f64| micros.get(((micros.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(0);
        let [one, eight, many] = [0, 1, 2].map(|index| median(&closed[index][at]));
        println!(
            "| {} | {one:.0} | {eight:.0} | {many:.0} | {ratio:.3} ({low:.3} .. {high:.3}) | {} / {} / {} | {} | {} |",
            peer.name,
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            peer.resident_mb().map_or("-".to_owned(), |mb| format!("{mb:.1}")),
            peer.cold_start.map_or("-".to_owned(), |seconds| format!("{seconds:.3}")),
        );
    }
}

/// Every peer once a round; the results by peer.
fn interleaved<T>(peers: &[Peer], rounds: usize, mut measure: impl FnMut(usize, &Peer) -> T) -> Vec<Vec<T>> {
    let mut results: Vec<Vec<T>> = peers.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (at, peer) in peers.iter().enumerate() {
            results[at].push(measure(at, peer));
        }
    }
    results
}

fn options() -> Options {
    let (rounds, length, paced_length) = if run::is_smoke() { (1, 50, 50) } else { (7, 1000, 3000) };
    let mut options = Options {
        peers: Vec::new(),
        serve_bare: None,
        headers: String::new(),
        rounds,
        length: Duration::from_millis(length),
        paced_length: Duration::from_millis(paced_length),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--test" || argument == "--bench" {
            continue;
        }
        let value = arguments.next().unwrap_or_else(|| panic!("`{argument}` needs a value"));
        let millis = |value: &str| Duration::from_millis(value.parse().expect("milliseconds"));
        match argument.as_str() {
            "--start" => options.peers.push(Peer::start(&value)),
            "--peer" => options.peers.push(Peer::named(&value)),
            "--serve-bare" => options.serve_bare = Some(value),
            "--header" => options.headers.extend([value.as_str(), "\r\n"]),
            "--rounds" => options.rounds = value.parse().expect("a number of rounds"),
            "--length-ms" => options.length = millis(&value),
            "--paced-ms" => options.paced_length = millis(&value),
            other => panic!(
                "`{other}` is not known: --start, --peer, --serve-bare, --header, --rounds, --length-ms, --paced-ms"
            ),
        }
    }
    options
}

/// The bare handler on a thread of this process.
fn in_process() -> SocketAddr {
    let (address, at) = std::sync::mpsc::channel();
    std::thread::spawn(move || serve("127.0.0.1:0", |bound| address.send(bound).expect("main waits")));
    at.recv().expect("the server starts")
}

fn serve(address: &str, bound: impl FnOnce(SocketAddr)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|err| panic!("`{address}`: {err}"));
        bound(listener.local_addr().expect("bound"));
        bare::serve(listener, bare::router(ANSWER.as_bytes())).await;
    });
}
