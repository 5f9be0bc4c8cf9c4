//! The yardstick: a bare axum handler as `axum::serve` serves it, without caps and timers.

use axum::Router;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use tokio::net::TcpListener;

pub async fn serve(socket: TcpListener, router: Router) {
    let socket = socket.tap_io(|stream| stream.set_nodelay(true).expect("a TCP socket"));
    axum::serve(socket, router).await.expect("it serves until the process ends");
}

/// Plain axum that parses the same body into typed fields and answers a constant of the same size.
pub fn router(answer: &'static [u8]) -> Router {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "parsed, not used")]
    struct Request {
        features: Features,
        model_version: Option<String>,
        #[serde(rename = "request_id")]
        id: Option<String>,
        #[serde(rename = "customerId")]
        customer_id: Option<String>,
    }
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "parsed, not used")]
    struct Features {
        recency_days: f64,
        frequency_count: f64,
        avg_handling_time_sec: Option<f64>,
        sentiment_score_avg: Option<f64>,
        topic_diversity: Option<f64>,
    }
    let handler = move |body: Bytes| async move {
        let request: Request = serde_json::from_slice(&body).expect("the bench sends what is documented");
        std::hint::black_box(request);
        ([("content-type", "application/json")], answer)
    };
    Router::new().route("/v1/predict/clv", post(handler))
}
