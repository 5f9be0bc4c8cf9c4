//! Traces of a real server, received and decoded here: what is followed, what is said of it, who else is told, and that a
//! receiver in trouble costs nobody anything.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use scoreline_domain::text::hex;
use scoreline_domain::time::Stopwatch;
use serde_json::json;

use crate::auth::key;
use crate::later::serve_telling_with;
use crate::process::{Server, ask, ask_lane, connect, get, models, post};
use crate::support::identity::{CredentialsFile, issuer_record};
use crate::support::receiver::{HANGS, Receiver};
use crate::worker::served::wait_for;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
const CLV: &str = "/v1/predict/clv";
const QUESTION: &str = r#"{"customerId": "CUST-PERSON", "features": {"recency_days": 31337, "frequency_count": 10}}"#;

/// All attributes of something, by name.
fn attributes(all: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &any_value::Value| match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::BoolValue(flag) => flag.to_string(),
        other @ (any_value::Value::DoubleValue(_)
        | any_value::Value::ArrayValue(_)
        | any_value::Value::KvlistValue(_)
        | any_value::Value::BytesValue(_)
        | any_value::Value::StringValueStrindex(_)) => panic!("{other:?}"),
    };
    let value = |one: &KeyValue| text(one.value.as_ref().and_then(|value| value.value.as_ref()).expect("a value"));
    all.iter().map(|one| (one.key.as_str(), value(one))).collect()
}

fn requests(receiver: &Receiver) -> Vec<ExportTraceServiceRequest> {
    let told = receiver.told();
    told.iter().map(|told| ExportTraceServiceRequest::decode(&*told.body).expect("protobuf")).collect()
}

fn spans(receiver: &Receiver) -> Vec<Span> {
    let resources = requests(receiver).into_iter().flat_map(|request| request.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn named(receiver: &Receiver, name: &str) -> Vec<Span> {
    spans(receiver).into_iter().filter(|span| span.name == name).collect()
}

/// What is below a span, in its order.
fn below<'s>(all: &'s [Span], root: &Span) -> Vec<&'s Span> {
    let mut found: Vec<_> = all.iter().filter(|span| span.parent_span_id == root.span_id).collect();
    found.sort_by_key(|span| span.start_time_unix_nano);
    found
}

fn names<'s>(spans: &[&'s Span]) -> Vec<&'s str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// A server that sends its traces to `address`, a share of them.
fn start(models: &Path, address: &str, sample: &str, more: &[(&str, &str)]) -> Server {
    let traced = [("SCORELINE__TRACING__ENDPOINT", address), ("SCORELINE__TRACING__SAMPLE", sample)];
    Server::start_with(models, &[&traced[..], more].concat())
}

fn ask_router(server: &Server, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n");
    ask(&server.listen, &format!("{head}{headers}\r\n{body}"))
}

/// The value of a metric's sample, by the beginning of its line.
fn metric(server: &Server, sample: &str) -> u64 {
    let text = get(&server.admin, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().expect("a number")
}

fn stopped(server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_request_is_followed_through_both_doors_under_its_callers_trace() {
    let (models, receiver) = (models(), Receiver::start(&[200]));
    let file = CredentialsFile::new("");
    let authorization = format!("authorization: {}\r\n", key(&file, "predict"));
    let secrets = file.beside("trace-headers", "x-receiver-key: secret of the receiver\n");
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let more = [
        ("SCORELINE__AUTH__CREDENTIALS_FILE", file.path().display().to_string()),
        ("SCORELINE__TRACING__HEADERS_FILE", secrets.display().to_string()),
        ("SCORELINE__LOG__FILTER", "info,scoreline::http=debug".to_owned()),
    ];
    let more: Vec<(&str, &str)> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut server = start(models.path(), &receiver.url(""), "0", &more);
    let headers = format!("{authorization}{PARENT}");
    assert!(ask_lane(&mut connect(&server.listen), CLV, &headers, QUESTION).starts_with("HTTP/1.1 200"));
    let answered = server.event("request answered");
    assert_eq!((&answered["door"], &answered["trace_id"]), (&json!("lane"), &json!(TRACE)), "{answered}");
    assert!(ask_router(&server, CLV, &headers, QUESTION).starts_with("HTTP/1.1 200"));
    assert!(ask_router(&server, CLV, PARENT, QUESTION).starts_with("HTTP/1.1 401"));
    assert_eq!(server.event("request refused")["trace_id"], TRACE);
    // Nobody follows these.
    let unsampled = PARENT.replace("-01\r", "-00\r");
    for other in [String::new(), unsampled, PARENT.repeat(2)] {
        assert!(ask_router(&server, CLV, &format!("{authorization}{other}"), QUESTION).starts_with("HTTP/1.1 200"));
    }
    get(&server.listen, "/health/ready");
    stopped(server);

    let told = receiver.told();
    for one in &told {
        assert_eq!(
            (one.line.as_str(), one.headers["content-type"].as_str()),
            ("POST /v1/traces", "application/x-protobuf")
        );
        assert_eq!(one.headers["x-receiver-key"], "secret of the receiver");
        let text = String::from_utf8_lossy(&one.body).into_owned();
        for private in ["CUST-PERSON", "31337", "recency_days"] {
            assert!(!text.contains(private), "{private} in {text}");
        }
    }
    let resource = requests(&receiver)[0].resource_spans[0].resource.clone().expect("a resource");
    let resource = attributes(&resource.attributes);
    assert_eq!(resource["service.name"], "scoreline");
    assert_eq!(
        (resource["service.version"].as_str(), resource["service.instance.id"].len()),
        (env!("CARGO_PKG_VERSION"), 36)
    );

    let all = spans(&receiver);
    let roots: Vec<_> = all.iter().filter(|span| span.kind() == SpanKind::Server).collect();
    assert_eq!(roots.len(), 3, "{all:#?}");
    for root in &roots {
        assert_eq!((hex(&root.trace_id), hex(&root.parent_span_id)), (TRACE.to_owned(), "00f067aa0ba902b7".to_owned()));
        assert_eq!((root.name.as_str(), root.flags), ("POST /v1/predict/clv", 0x301));
    }
    for (root, door, stages) in [
        (roots[0], "lane", &["auth", "parse", "score", "write"][..]),
        (roots[1], "router", &["auth", "read", "parse", "score", "write"]),
        (roots[2], "router", &["auth", "write"]),
    ] {
        let said = attributes(&root.attributes);
        assert_eq!((said["scoreline.door"].as_str(), said["http.route"].as_str()), (door, CLV));
        assert_eq!(said["http.request.method"], "POST");
        let stages_found = below(&all, root);
        assert_eq!(names(&stages_found), stages);
        for (one, next) in stages_found.iter().zip(&stages_found[1..]) {
            assert!(one.start_time_unix_nano <= one.end_time_unix_nano, "{one:?}");
            assert_eq!(one.end_time_unix_nano, next.start_time_unix_nano, "one behind the other");
            assert_eq!((&one.trace_id, one.kind()), (&root.trace_id, SpanKind::Internal));
        }
        assert_eq!(stages_found[0].start_time_unix_nano, root.start_time_unix_nano);
        assert!(stages_found.last().expect("some").end_time_unix_nano <= root.end_time_unix_nano);
    }
    let refused = attributes(&roots[2].attributes);
    assert_eq!(
        (refused["http.response.status_code"].as_str(), refused["error.type"].as_str()),
        ("401", "unauthenticated")
    );
    let scored: Vec<_> =
        named(&receiver, "score").iter().map(|span| format!("{:?}", attributes(&span.attributes))).collect();
    let said = |source, hit| {
        format!(
            r#"{{"scoreline.cache_hit": "{hit}", "scoreline.model": "clv", "scoreline.source": "{source}", "scoreline.version": "v1.2"}}"#
        )
    };
    assert_eq!(scored, [said("model", false), said("cache", true)]);
}

#[test]
fn all_is_followed_where_the_share_is_one_and_metrics_name_the_traces() {
    let (models, receiver) = (models(), Receiver::start(&[200]));
    let server = start(models.path(), &receiver.url("/v1/traces"), "1", &[]);
    let reply =
        ask_router(&server, CLV, "", r#"{"features": {"recency_days": 30, "frequency_count": 10}, "explain": true}"#);
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let row = r#"{"features": {"recency_days": 1, "frequency_count": 1}}"#;
    let batch = ask_router(&server, "/v1/predict/clv/batch", "", &format!("{row}\n{row}\n"));
    assert!(batch.starts_with("HTTP/1.1 200"), "{batch}");
    wait_for("the spans", || named(&receiver, "score").len() >= 2);
    let all = spans(&receiver);
    let root = |route: &str| all.iter().find(|span| span.name == format!("POST {route}")).expect("followed");
    assert!(root(CLV).parent_span_id.is_empty() && root(CLV).flags == 0x101);
    assert_eq!(names(&below(&all, root(CLV))), ["read", "parse", "score", "explain", "write"]);
    let batch = below(&all, root("/v1/predict/clv/batch"));
    let score = batch.iter().find(|span| span.name == "score").expect("scored");
    assert_eq!(attributes(&score.attributes)["scoreline.rows"], "2");

    let ask_metrics = |accept: &str| {
        ask(
            &server.admin,
            &format!("GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n"),
        )
    };
    let open = ask_metrics("application/openmetrics-text; version=1.0.0, text/plain;q=0.5");
    assert!(open.to_lowercase().contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.ends_with("# EOF\n") && !open.contains(" NaN\n"), "{open}");
    let id = hex(&root(CLV).trace_id);
    let exemplar = open.lines().find(|line| line.contains(&format!("# {{trace_id=\"{id}\"}}"))).expect("an exemplar");
    assert!(
        exemplar.starts_with("scoreline_http_request_duration_seconds_bucket{route=\"predict_clv\","),
        "{exemplar}"
    );
    let plain = ask_metrics("text/plain");
    assert!(plain.contains("text/plain; version=0.0.4") && !plain.contains("trace_id") && !plain.contains("# EOF"));
    assert!(
        plain.contains("# HELP scoreline_spans_sent_total ") && plain.contains("# HELP scoreline_spans_dropped_total ")
    );
    stopped(server);
}

#[test]
fn what_we_ask_others_carries_the_trace_of_the_job_that_asks() {
    let (models, folder) = (models(), tempfile::tempdir().expect("a folder"));
    let (receiver, others) = (Receiver::start(&[200]), Receiver::start(&[401]));
    let hooks = Receiver::start(&[200]);
    let secret = folder.path().join("client-secret");
    std::fs::write(&secret, "secret").expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let file = CredentialsFile::new(&issuer_record(&format!("jwks_url = \"{}\"", others.url("/keys"))));
    let authorization = format!("authorization: {}\r\n", key(&file, "predict"));
    let more = [
        ("SCORELINE__TRACING__ENDPOINT", receiver.url("")),
        ("SCORELINE__TRACING__SAMPLE", "1".to_owned()),
        ("SCORELINE__AUTH__CREDENTIALS_FILE", file.path().display().to_string()),
        ("SCORELINE__GENESYS__API_URL", others.url("")),
        ("SCORELINE__GENESYS__LOGIN_URL", others.url("")),
        ("SCORELINE__GENESYS__ALLOW_PLAIN_HTTP", "true".to_owned()),
        ("SCORELINE__GENESYS__CLIENT_ID", "00000000-0000-0000-0000-000000000000".to_owned()),
        ("SCORELINE__GENESYS__CLIENT_SECRET_FILE", secret.display().to_string()),
    ];
    let more: Vec<(&str, &str)> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut server = serve_telling_with(models.path(), folder.path(), &hooks, &more);
    let failed = server.event("job failed");
    let question = json!({"features": {"recency_days": 30, "frequency_count": 10}, "callback_url": hooks.url("/told")});
    let accepted = ask_router(&server, "/v1/predict/clv/async", &authorization, &question.to_string());
    assert!(accepted.starts_with("HTTP/1.1 202"), "{accepted}");
    wait_for("the callback", || !hooks.told().is_empty());
    wait_for("its trace", || !named(&receiver, "job callbacks").is_empty());
    stopped(server);

    let all = spans(&receiver);
    let seen: Vec<_> = others.told().into_iter().chain(hooks.told()).collect();
    for (line, root, call) in [
        ("POST /oauth/token", "job extract", "token"),
        ("GET /keys", "issuer keys", "issuer keys"),
        ("POST /told", "job callbacks", "callback"),
    ] {
        let told = seen.iter().find(|told| told.line == line).unwrap_or_else(|| panic!("{line} in {seen:?}"));
        let parent: Vec<_> = told.headers["traceparent"].split('-').collect();
        let span =
            all.iter().find(|span| hex(&span.span_id) == parent[2]).unwrap_or_else(|| panic!("{line}: {all:#?}"));
        assert_eq!((span.name.as_str(), span.kind(), parent[3]), (call, SpanKind::Client, "01"));
        assert_eq!(hex(&span.trace_id), parent[1]);
        let status = if line == "POST /told" { "200" } else { "401" };
        assert_eq!(attributes(&span.attributes)["http.response.status_code"], status);
        let root_span = all.iter().find(|one| one.span_id == span.parent_span_id).expect("its root");
        assert_eq!(root_span.name, root);
        if root == "job extract" {
            assert_eq!((&failed["job"], &failed["trace_id"]), (&json!("extract"), &json!(parent[1])), "{failed}");
            assert!(root_span.status.is_some(), "failed");
        }
    }
}

#[test]
fn a_receiver_that_is_away_slow_or_refuses_costs_spans_and_one_line() {
    let models = models();
    // Nobody is there.
    let mut server = start(models.path(), "http://127.0.0.1:1", "1", &[]);
    assert!(post(&server.listen, CLV, QUESTION).starts_with("HTTP/1.1 200"));
    let told = server.event("traces cannot be sent: spans are dropped, requests are answered as before");
    assert_eq!(told["endpoint"], "http://127.0.0.1:1/v1/traces");
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("Connection refused")), "{told}");
    server.signal("TERM");
    let rest = server.log_before("stopped");
    assert!(!rest.contains("traces cannot be sent"), "said once: {rest}");
    assert_eq!(server.wait(), 0);

    // It refuses for good, then takes them.
    let receiver = Receiver::start(&[401, 503, 200]);
    let mut server = start(models.path(), &receiver.url(""), "1", &[]);
    post(&server.listen, CLV, QUESTION);
    let told = server.event("traces cannot be sent: spans are dropped, requests are answered as before");
    assert_eq!(told["reason"], "it answered 401: `tracing.headers_file` holds what it asks for");
    let dropped = metric(&server, "scoreline_spans_dropped_total{reason=\"not_sent\"}");
    assert_eq!(dropped, spans(&receiver).len() as u64);
    post(&server.listen, CLV, QUESTION);
    server.event("traces are sent again");
    assert_eq!(receiver.told().len(), 3, "what may pass is tried again");
    assert_eq!(receiver.told()[1].body, receiver.told()[2].body);
    let sent = metric(&server, "scoreline_spans_sent_total");
    let partly = ExportTracePartialSuccess { rejected_spans: 1, error_message: String::new() };
    receiver.answers_with(ExportTraceServiceResponse { partial_success: Some(partly) }.encode_to_vec());
    post(&server.listen, CLV, QUESTION);
    wait_for("the rejection", || metric(&server, "scoreline_spans_dropped_total{reason=\"rejected\"}") == 1);
    assert!(metric(&server, "scoreline_spans_sent_total") > sent);
    stopped(server);

    // It takes connections and never answers: what does not fit is counted, and the end does not wait for it.
    let receiver = Receiver::start(&[HANGS]);
    let mut server = start(models.path(), &receiver.url(""), "1", &[]);
    let mut stream = connect(&server.listen);
    ask_lane(&mut stream, CLV, "", QUESTION);
    wait_for("a message that hangs", || !receiver.told().is_empty());
    let full = "scoreline_spans_dropped_total{reason=\"queue_full\"}";
    assert_eq!(metric(&server, full), 0);
    let asked = Stopwatch::start();
    for _ in 0..2_100 {
        assert!(ask_lane(&mut stream, CLV, "", QUESTION).starts_with("HTTP/1.1 200"));
    }
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert!(metric(&server, full) > 0);
    drop(stream);
    let stopping = Stopwatch::start();
    server.signal("TERM");
    server.event("traces that were queued are not sent");
    assert_eq!(server.wait(), 0);
    assert!(stopping.elapsed() < Duration::from_secs(6), "{:?}", stopping.elapsed());
}

#[test]
fn the_end_of_the_process_sends_what_is_queued() {
    let (models, receiver) = (models(), Receiver::start(&[200]));
    let server = start(models.path(), &receiver.url(""), "1", &[]);
    let mut stream = connect(&server.listen);
    for _ in 0..700 {
        ask_lane(&mut stream, CLV, "", QUESTION);
    }
    drop(stream);
    stopped(server);
    let roots = spans(&receiver).iter().filter(|span| span.kind() == SpanKind::Server).count();
    assert_eq!(roots, 700, "all of them");
    assert!(requests(&receiver).len() > 2, "in messages of a size");
}
