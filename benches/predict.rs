//! The whole router without sockets: one request through `oneshot`.
//!
//! `cargo bench --bench predict`

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "support/paired.rs"]
mod paired;
#[path = "support/run.rs"]
mod run;
#[path = "support/server.rs"]
mod server;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use criterion::{Criterion, criterion_group, criterion_main};
use http_body_util::BodyExt;
use tower::ServiceExt;

fn predict(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let scoreline = server::scoreline_router();
    let answer = runtime.block_on(ask(&scoreline, "/v1/predict/clv", server::DOCUMENTED));
    let bare = server::bare_router(Box::leak(answer.into_boxed_slice()));
    let cases = [
        ("bare_axum", &bare, "/v1/predict/clv", server::DOCUMENTED),
        ("model_path", &scoreline, "/v1/predict/clv", server::DOCUMENTED),
        ("cache_hit", &scoreline, "/v1/predict/clv", server::OF_CUSTOMER),
        ("route_tier", &scoreline, "/v1/route/tier", server::ROUTE),
    ];
    let mut group = criterion.benchmark_group("predict");
    for (name, router, path, body) in cases {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| ask(router, path, body));
        });
    }
    group.finish();
    if run::is_smoke() {
        return;
    }
    println!("time over bare axum's, 15 paired rounds:");
    for (name, router, path, body) in &cases[1..] {
        let many = |router: &Router, path: &str, body: &'static str| {
            runtime.block_on(async {
                for _ in 0..2_000 {
                    ask(router, path, body).await;
                }
            });
        };
        let [low, ratio, high] =
            paired::paired(15, || many(&bare, "/v1/predict/clv", server::DOCUMENTED), || many(router, path, body));
        println!("  {name:<12} {ratio:.2} ({low:.2} .. {high:.2})");
    }
}

async fn ask(router: &Router, path: &str, body: &'static str) -> Vec<u8> {
    let request = Request::post(path).header("content-type", "application/json").body(Body::from(body));
    let response = router.clone().oneshot(request.expect("a request")).await.expect("the router answers");
    assert!(response.status().is_success());
    response.into_body().collect().await.expect("in memory").to_bytes().to_vec()
}

criterion_group!(benches, predict);
criterion_main!(benches);
