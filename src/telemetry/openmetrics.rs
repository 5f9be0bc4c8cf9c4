//! Metrics as OpenMetrics text, with exemplars: the trace of the last followed request in each bucket of a route's times.
//! The exporter writes Prometheus' own text format, which knows no exemplars; this is a pass over it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use super::SECONDS_BUCKETS;
use scoreline_domain::time::{Clock as _, SystemClock, Timestamp};
use scoreline_domain::trace::TraceId;

/// The family that has exemplars, by route.
pub const REQUEST_SECONDS: &str = "scoreline_http_request_duration_seconds";
const COUNTER: &str = "_total";

/// Followed requests to be shown beside the buckets they are counted in. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Exemplars(Arc<Mutex<BTreeMap<&'static str, Buckets>>>);

type Buckets = [Option<Exemplar>; SECONDS_BUCKETS.len() + 1];

#[derive(Clone, Copy)]
struct Exemplar {
    trace: TraceId,
    seconds: f64,
    at: Timestamp,
}

impl Exemplars {
    /// Notes a followed request of a route.
    pub fn note(&self, route: &'static str, seconds: f64, trace: TraceId) {
        let bucket = SECONDS_BUCKETS.partition_point(|edge| *edge < seconds);
        let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        routes.entry(route).or_default()[bucket] = Some(Exemplar { trace, seconds, at: SystemClock.now() });
    }

    /// The one of a bucket, by the labels of its line.
    fn of(&self, labels: &str) -> Option<Exemplar> {
        let label = |name: &str| labels.split_once(name).and_then(|(_, rest)| rest.split('"').next());
        let edge = label("le=\"")?;
        let bucket = match edge {
            "+Inf" => SECONDS_BUCKETS.len(),
            edge => SECONDS_BUCKETS.iter().position(|known| edge.parse() == Ok(*known))?,
        };
        let routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        routes.get(label("route=\"")?)?[bucket]
    }
}

/// Prometheus' text as OpenMetrics 1.0 has it: counters are named without their ending but for their samples, quotes in
/// help texts are escaped, and the end is said.
pub(super) fn openmetrics(text: &str, exemplars: &Exemplars) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut help = None;
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            // Its name depends on the type, which follows.
            help = described.split_once(' ').map(|(_, meaning)| meaning.replace('"', "\\\""));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' ')) {
            let (name, kind) = match (kind, name.strip_suffix(COUNTER)) {
                ("counter", Some(name)) => (name, kind),
                ("counter", None) => (name, "unknown"),
                _ => (name, kind),
            };
            if let Some(help) = help.take() {
                out.extend(["# HELP ", name, " ", &help, "\n"]);
            }
            out.extend(["# TYPE ", name, " ", kind, "\n"]);
        } else {
            out += line;
            let labels = line.strip_prefix(REQUEST_SECONDS).and_then(|rest| rest.strip_prefix("_bucket"));
            if let Some(Exemplar { trace, seconds, at }) = labels.and_then(|labels| exemplars.of(labels)) {
                let at = at.as_millisecond() as f64 / 1e3;
                // Writing to a string cannot fail.
                let _ = write!(out, " # {{trace_id=\"{trace}\"}} {seconds} {at}");
            }
            out.push('\n');
        }
    }
    out + "# EOF\n"
}

#[cfg(test)]
mod tests {
    use scoreline_domain::trace::TraceParent;

    use super::*;

    const TEXT: &str = "\
# HELP scoreline_a_total Says \"a\".
# TYPE scoreline_a_total counter
scoreline_a_total{kind=\"x\"} 3
# TYPE scoreline_odd counter
scoreline_odd 1
# HELP scoreline_http_request_duration_seconds Time.
# TYPE scoreline_http_request_duration_seconds histogram
scoreline_http_request_duration_seconds_bucket{route=\"predict_clv\",le=\"0.000005\"} 0
scoreline_http_request_duration_seconds_bucket{route=\"predict_clv\",le=\"0.00001\"} 1
scoreline_http_request_duration_seconds_bucket{route=\"predict_clv\",le=\"+Inf\"} 2
scoreline_http_request_duration_seconds_bucket{route=\"predict_lead\",le=\"0.00001\"} 1
scoreline_http_request_duration_seconds_sum{route=\"predict_clv\"} 2.5
";

    #[test]
    fn an_exemplar_stands_in_its_own_bucket_and_nowhere_else() {
        let exemplars = Exemplars::default();
        let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceParent::parse(parent).expect("valid").trace;
        exemplars.note("predict_clv", 10e-6, trace);
        exemplars.note("predict_clv", 2.5, trace);
        let text = openmetrics(TEXT, &exemplars);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "# HELP scoreline_a Says \\\"a\\\".");
        assert_eq!(
            lines[1..5],
            [
                "# TYPE scoreline_a counter",
                "scoreline_a_total{kind=\"x\"} 3",
                "# TYPE scoreline_odd unknown",
                "scoreline_odd 1",
            ]
        );
        let with: Vec<_> = lines.iter().filter(|line| line.contains(" # {")).collect();
        assert_eq!(with.len(), 2, "{text}");
        let id = "{trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"}";
        assert!(with[0].contains(&format!("le=\"0.00001\"}} 1 # {id} 0.00001 ")), "{}", with[0]);
        assert!(with[1].contains(&format!("le=\"+Inf\"}} 2 # {id} 2.5 ")), "{}", with[1]);
        assert_eq!(lines.last(), Some(&"# EOF"));
    }
}
