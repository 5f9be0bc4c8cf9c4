//! The whole service without sockets, through both its doors: the bytes of a request through the lane, and a request
//! through the router with `oneshot`.
//!
//! `cargo bench --profile dist --bench predict`

#![expect(unreachable_pub, reason = "nothing is outside of a bench")]
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "support/bare.rs"]
#[expect(dead_code, reason = "shared with the load bench")]
mod bare;
#[path = "support/paired.rs"]
mod paired;
#[path = "support/run.rs"]
mod run;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "shared with the load bench")]
mod server;
#[path = "support/traces.rs"]
mod traces;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use criterion::{Criterion, criterion_group, criterion_main};
use http_body_util::BodyExt;
use scoreline::http::Endpoints;
use scoreline::telemetry::{TraceEndpoint, TraceHeaders, TraceSettings, Traces};
use scoreline_domain::trace::Tracer;
use scoreline_listener::{Connect, Limits, OfferResult, Peer, PeerAddress, offer};
use tower::ServiceExt;

/// Customers whose features are stored.
const STORED: u32 = 100_000;

/// Requests of a paired round.
const OFTEN: usize = 2_000;

fn predict(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let scoreline = server::scoreline(None, Tracer::default(), STORED);
    let lane = Lane::new(&scoreline);
    let answer = runtime.block_on(ask(scoreline.router(), "/v1/predict/clv", server::DOCUMENTED));
    let bare = bare::router(Box::leak(answer.into_boxed_slice()));
    let cases = [
        ("model_path", "/v1/predict/clv", server::DOCUMENTED),
        ("cache_hit", "/v1/predict/clv", server::OF_CUSTOMER),
        ("by_id", "/v1/predict/clv", server::BY_ID),
        ("route_tier", "/v1/route/tier", server::ROUTE),
    ];
    let mut group = criterion.benchmark_group("predict");
    group.bench_function("bare_axum", |bencher| {
        bencher.to_async(&runtime).iter(|| ask(&bare, "/v1/predict/clv", server::DOCUMENTED));
    });
    for (name, path, body) in cases {
        let plain = plain(path, body);
        group.bench_function(format!("lane/{name}"), |bencher| {
            let mut out = Vec::new();
            bencher.iter(|| lane.ask(&plain, &mut out));
        });
        group.bench_function(format!("router/{name}"), |bencher| {
            bencher.to_async(&runtime).iter(|| ask(scoreline.router(), path, body));
        });
    }
    group.finish();
    if run::is_smoke() {
        return;
    }
    println!("time over bare axum's, 15 paired rounds:");
    for (name, path, body) in cases {
        let plain = plain(path, body);
        let of_bare = || runtime.block_on(ask_often(&bare, "/v1/predict/clv", server::DOCUMENTED));
        let [low, ratio, high] = paired::paired(15, of_bare, || lane.ask_often(&plain));
        println!("  lane   {name:<12} {ratio:.2} ({low:.2} .. {high:.2})");
        let of_router = || runtime.block_on(ask_often(scoreline.router(), path, body));
        let [low, ratio, high] = paired::paired(15, of_bare, of_router);
        println!("  router {name:<12} {ratio:.2} ({low:.2} .. {high:.2})");
    }
    followed(&lane);
}

/// What it costs to follow a share of the requests. A receiver takes the traces meanwhile.
fn followed(plainly: &Lane) {
    let plain = plain("/v1/predict/clv", server::DOCUMENTED);
    let receiver = traces::receiver();
    println!("time over that of a server that follows nothing, 41 paired rounds:");
    for share in [0.0, 0.01, 1.0] {
        let endpoint = TraceEndpoint::parse(&receiver).expect("an address");
        let settings = TraceSettings { endpoint, headers: TraceHeaders::default(), sample: share };
        let traces = Traces::start(Some(&settings)).expect("a thread");
        let lane = Lane::new(&server::scoreline(None, traces.tracer(), STORED));
        let [_, alone, _] = run::median_of((0..9).map(|_| paired::seconds(|| plainly.ask_often(&plain))));
        let [low, ratio, high] = paired::paired(41, || plainly.ask_often(&plain), || lane.ask_often(&plain));
        let more = alone / OFTEN as f64 * (ratio - 1.0) * 1e9;
        println!("  share {share:<4} {ratio:.4} ({low:.3} .. {high:.3}), {more:+.0} ns a request");
    }
}

/// A connection in the lane, without its socket.
struct Lane {
    connection: <Endpoints as Connect>::Service,
    limits: Limits,
}

impl Lane {
    fn new(endpoints: &Endpoints) -> Self {
        let address = PeerAddress("127.0.0.1:1".parse().expect("an address"));
        let connection = endpoints.connect(&Peer { address, certificates: None });
        Self { connection, limits: Limits::default() }
    }

    fn ask(&self, plain: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let found = offer(plain, &self.limits, |plain| Endpoints::at_once(&self.connection, plain, out));
        assert_eq!(found, OfferResult::Taken(plain.len()));
    }

    fn ask_often(&self, plain: &[u8]) {
        let mut out = Vec::new();
        for _ in 0..OFTEN {
            self.ask(plain, &mut out);
        }
    }
}

/// A request as it arrives.
fn plain(path: &str, body: &str) -> Vec<u8> {
    let head = "host: localhost\r\ncontent-type: application/json\r\n";
    format!("POST {path} HTTP/1.1\r\n{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn ask_often(router: &Router, path: &str, body: &'static str) {
    for _ in 0..OFTEN {
        ask(router, path, body).await;
    }
}

async fn ask(router: &Router, path: &str, body: &'static str) -> Vec<u8> {
    let request = Request::post(path).header("content-type", "application/json").body(Body::from(body));
    let response = router.clone().oneshot(request.expect("a request")).await.expect("every request is answered");
    assert!(response.status().is_success());
    response.into_body().collect().await.expect("in memory").to_bytes().to_vec()
}

criterion_group!(benches, predict);
criterion_main!(benches);
