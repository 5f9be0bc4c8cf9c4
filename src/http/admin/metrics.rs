//! `/metrics` on the admin listener only: in the Prometheus text format, or as OpenMetrics for whoever takes that.

use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

use crate::http::openapi::{Operation, Tag};
use crate::http::wire::json::with_body;
use crate::monitoring::Monitoring;
use crate::scoring::Scorer;
use crate::telemetry::MetricsHandle;

/// Prometheus asks for it before anything else, because only it has exemplars.
const OPENMETRICS: &str = "application/openmetrics-text";

pub(crate) fn describe() -> Operation {
    Operation::new(Tag::Administration, "metrics", "Metrics, in the text format of Prometheus or as OpenMetrics")
        .gives_text(StatusCode::OK, "text/plain", "The metrics.")
        .gives_text(StatusCode::OK, OPENMETRICS, "The metrics, with exemplars.")
}

pub(crate) async fn handle(
    State(metrics): State<MetricsHandle>,
    State(scorer): State<Scorer>,
    State(monitoring): State<Monitoring>,
    headers: HeaderMap,
) -> Response {
    scorer.report_gauges();
    monitoring.report_gauges();
    let (content_type, text) = if takes_openmetrics(&headers) {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.render_openmetrics())
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", metrics.render())
    };
    with_body(StatusCode::OK, HeaderValue::from_static(content_type), text.into_bytes())
}

/// Whether the caller names it among what they take.
fn takes_openmetrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(OPENMETRICS))
            && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let takes = |accept: &'static str| {
            takes_openmetrics(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        // As Prometheus 2.42 and 3 write it.
        assert!(takes("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"));
        assert!(takes("text/plain;q=0.5, Application/OpenMetrics-Text; version=1.0.0; escaping=allow-utf-8; q=0.6"));
        for plain in ["", "*/*", "text/plain", "application/openmetrics-text;q=0", "application/openmetrics-textual"] {
            assert!(!takes(plain), "{plain}");
        }
        assert!(!takes_openmetrics(&HeaderMap::new()));
    }
}
