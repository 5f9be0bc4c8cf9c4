//! `/metrics` in the Prometheus text format; on the admin listener only.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use metrics_exporter_prometheus::PrometheusHandle;

use super::json::with_body;
use crate::scoring::Scorer;

pub async fn handle(State(handle): State<PrometheusHandle>, State(scorer): State<Scorer>) -> Response {
    scorer.report_gauges();
    with_body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", handle.render().into_bytes())
}
