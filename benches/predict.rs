//! The whole service without sockets: one request through `oneshot`.
//!
//! `cargo bench --bench predict`

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "support/bare.rs"]
#[expect(dead_code, reason = "shared with the load bench")]
mod bare;
#[path = "support/paired.rs"]
mod paired;
#[path = "support/run.rs"]
mod run;
#[path = "support/server.rs"]
mod server;

use std::convert::Infallible;

use axum::body::{Body, HttpBody};
use axum::http::{Request, Response};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http_body_util::BodyExt;
use tower::{Service, ServiceExt};

fn predict(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let scoreline = server::scoreline(None);
    let answer = runtime.block_on(ask(&scoreline, "/v1/predict/clv", server::DOCUMENTED));
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
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| ask(&scoreline, path, body));
        });
    }
    group.finish();
    if run::is_smoke() {
        return;
    }
    println!("time over bare axum's, 15 paired rounds:");
    for (name, path, body) in cases {
        let of_bare = || runtime.block_on(ask_often(&bare, "/v1/predict/clv", server::DOCUMENTED));
        let [low, ratio, high] = paired::paired(15, of_bare, || runtime.block_on(ask_often(&scoreline, path, body)));
        println!("  {name:<12} {ratio:.2} ({low:.2} .. {high:.2})");
    }
}

async fn ask_often<S, B>(service: &S, path: &str, body: &'static str)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
    B: HttpBody<Data = Bytes, Error: std::fmt::Debug>,
{
    for _ in 0..2_000 {
        ask(service, path, body).await;
    }
}

async fn ask<S, B>(service: &S, path: &str, body: &'static str) -> Vec<u8>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
    B: HttpBody<Data = Bytes, Error: std::fmt::Debug>,
{
    let request = Request::post(path).header("content-type", "application/json").body(Body::from(body));
    let response = service.clone().oneshot(request.expect("a request")).await.expect("every request is answered");
    assert!(response.status().is_success());
    response.into_body().collect().await.expect("in memory").to_bytes().to_vec()
}

criterion_group!(benches, predict);
criterion_main!(benches);
