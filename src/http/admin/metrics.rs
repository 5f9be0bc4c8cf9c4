//! `/metrics` in the Prometheus text format; on the admin listener only.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

use crate::http::state::RenderMetrics;
use crate::http::wire::json::with_body;
use crate::monitoring::Monitoring;
use crate::scoring::Scorer;

pub(crate) async fn handle(
    State(render): State<RenderMetrics>,
    State(scorer): State<Scorer>,
    State(monitoring): State<Monitoring>,
) -> Response {
    scorer.report_gauges();
    monitoring.report_gauges();
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    with_body(StatusCode::OK, content_type, render().into_bytes())
}
