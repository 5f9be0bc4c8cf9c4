//! Traces on their way out: OTLP as protobuf over HTTP, from a thread of its own behind a bounded queue.
//!
//! Requests hand over what was noted and go on. Spans are made, encoded and sent here. A receiver that is slow, refuses or is
//! away costs spans, which are counted, and one line in the log. The messages are those of `opentelemetry-proto`; its
//! exporter is not used, because it reads the environment beside the settings and does not say why a send failed.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use metrics::{Counter, counter, describe_counter};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::TelemetryError;
use scoreline_domain::trace::{AttributeValue, FinishedTrace, Given, Span, SpanKind, Tracer};

const SENT: &str = "scoreline_spans_sent_total";
const DROPPED: &str = "scoreline_spans_dropped_total";
const PASSED_OVER: &str = "scoreline_traces_passed_over_total";

/// Where receivers of OTLP take traces.
const PATH: &str = "/v1/traces";
/// Traces that wait to be sent.
const QUEUED: usize = 2048;
/// Traces of one message.
const TOGETHER: usize = 256;
/// How long the first of a message waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How often new ones are looked for: the queue holds what a hundred thousand requests a second leave meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const CONNECT: Duration = Duration::from_secs(3);
/// Time for one attempt.
const TOTAL: Duration = Duration::from_secs(10);
/// Attempts with one message, and the pause after the first, which doubles.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// No pause that a receiver asks for is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the end of the process waits for what is still queued.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);
/// Largest answer that is read.
const LARGEST: usize = 64 * 1024;
/// Bits of a span's flags: it is sampled, and it is said whether its parent is elsewhere.
const SAMPLED: u32 = 0x101;
const PARENT_ELSEWHERE: u32 = 0x200;

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    pub endpoint: TraceEndpoint,
    pub headers: TraceHeaders,
    /// The share of requests that is followed where the caller does not say.
    pub sample: f64,
}

/// The address of a receiver.
#[derive(Clone, Debug)]
pub struct TraceEndpoint {
    url: Url,
    is_here: bool,
}

/// What a receiver asks for: secrets, which are not shown.
#[derive(Clone, Debug, Default)]
pub struct TraceHeaders(HeaderMap);

impl TraceEndpoint {
    /// From an address up to where `/v1/traces` begins, or with it.
    ///
    /// # Errors
    /// What is wrong with it, to follow the name of the key.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut url = Url::parse(text).map_err(|_| "must be a URL such as `http://127.0.0.1:4318`")?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(
                "must begin with `http://` or `https://`: OTLP is spoken over HTTP, at port 4318 of most receivers",
            );
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err("must have no user, password, query or fragment: secrets go into `tracing.headers_file`");
        }
        let path = url.path().trim_end_matches('/');
        let path = if path.ends_with(PATH) { path.to_owned() } else { format!("{path}{PATH}") };
        url.set_path(&path);
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        Ok(Self { url, is_here })
    }

    /// Whether secrets may be sent there.
    pub fn keeps_secrets(&self) -> bool {
        self.is_here || self.url.scheme() == "https"
    }
}

impl TraceHeaders {
    /// From lines such as `authorization: Bearer …`.
    ///
    /// # Errors
    /// The number of the first line that is none.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let mut headers = HeaderMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let header = line.split_once(':').and_then(|(name, value)| {
                let name: HeaderName = name.trim().parse().ok()?;
                let mut value: HeaderValue = value.trim().parse().ok()?;
                value.set_sensitive(true);
                Some((name, value))
            });
            let (name, value) = header.ok_or(number + 1)?;
            headers.insert(name, value);
        }
        Ok(Self(headers))
    }
}

/// The traces of a process. Close them at its end, or what is queued is lost.
#[derive(Default)]
pub struct Traces {
    tracer: Tracer,
    sending: Option<Sending>,
}

struct Sending {
    closing: CancellationToken,
    closed: oneshot::Receiver<()>,
}

impl Traces {
    /// Begins to send. Without settings nothing is followed.
    ///
    /// # Errors
    /// When the client or the thread cannot be made.
    pub fn start(settings: Option<&TraceSettings>) -> Result<Self, TelemetryError> {
        let Some(settings) = settings else { return Ok(Self::default()) };
        let counts = SpanCounts::register();
        let passed_over = counter!(PASSED_OVER);
        let (sender, queue) = mpsc::channel(QUEUED);
        let queue_full = counts.queue_full.clone();
        let tracer = Tracer::new(settings.sample, move |given| match given {
            Given::Finished(trace) => {
                let spans = spans_of(&trace);
                if sender.try_send(trace).is_err() {
                    queue_full.increment(spans);
                }
            }
            Given::ParentPassedOver => passed_over.increment(1),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(TelemetryError::TraceThread)?;
        let closing = CancellationToken::new();
        let exporter = Exporter {
            client: client(&settings.endpoint).map_err(TelemetryError::TraceClient)?,
            url: settings.endpoint.url.clone(),
            headers: settings.headers.0.clone(),
            resource: resource(),
            counts,
            closing: closing.clone(),
            is_failing: false,
        };
        let (tell, closed) = oneshot::channel();
        let work = move || {
            runtime.block_on(exporter.run(queue));
            // Nobody waits any more when that took too long.
            let _ = tell.send(());
        };
        thread::Builder::new().name("traces".to_owned()).spawn(work).map_err(TelemetryError::TraceThread)?;
        Ok(Self { tracer, sending: Some(Sending { closing, closed }) })
    }

    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Sends what is queued, for two seconds at most. What is handed over from now on is dropped.
    pub async fn close(self) {
        if let Some(Sending { closing, closed }) = self.sending {
            closing.cancel();
            if tokio::time::timeout(FLUSH_WITHIN, closed).await.is_err() {
                tracing::warn!(waited_ms = FLUSH_WITHIN.as_millis() as u64, "traces that were queued are not sent");
            }
        }
    }
}

/// Spans by what became of them.
struct SpanCounts {
    sent: Counter,
    queue_full: Counter,
    not_sent: Counter,
    rejected: Counter,
}

impl SpanCounts {
    /// Shown from the start, so that the first is seen.
    fn register() -> Self {
        describe_counter!(SENT, "Spans that the receiver of traces took.");
        describe_counter!(
            DROPPED,
            "Spans that nobody has: the queue was full, they could not be sent, or the receiver rejected them."
        );
        describe_counter!(PASSED_OVER, "Callers' traces not followed, because theirs are followed 100 times a second.");
        counter!(PASSED_OVER).increment(0);
        let counted = |counter: Counter| {
            counter.increment(0);
            counter
        };
        Self {
            sent: counted(counter!(SENT)),
            queue_full: counted(counter!(DROPPED, "reason" => "queue_full")),
            not_sent: counted(counter!(DROPPED, "reason" => "not_sent")),
            rejected: counted(counter!(DROPPED, "reason" => "rejected")),
        }
    }
}

fn spans_of(trace: &FinishedTrace) -> u64 {
    1 + trace.spans.len() as u64
}

fn client(endpoint: &TraceEndpoint) -> Result<reqwest::Client, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .timeout(TOTAL)
        .user_agent(concat!("scoreline/", env!("CARGO_PKG_VERSION")));
    // To this machine no certificate is needed, and no proxy.
    let builder = if endpoint.is_here && endpoint.url.scheme() == "http" {
        builder.no_proxy().tls_certs_only([])
    } else {
        builder
    };
    builder.build()
}

/// Sends what comes out of the queue.
struct Exporter {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    resource: Resource,
    counts: SpanCounts,
    closing: CancellationToken,
    /// It was said, and what comes next is not said again.
    is_failing: bool,
}

/// Why a message did not arrive.
struct SendFault {
    reason: String,
    /// Whether another attempt may do better, and the pause that was asked for before it.
    again: Option<Duration>,
}

impl Exporter {
    async fn run(mut self, mut queue: mpsc::Receiver<FinishedTrace>) {
        let closing = self.closing.clone();
        loop {
            let mut batch = Vec::new();
            let is_open = tokio::select! {
                () = gather(&mut queue, &mut batch) => true,
                () = closing.cancelled() => false,
            };
            if is_open {
                self.deliver(&batch).await;
                continue;
            }
            queue.close();
            while let Some(trace) = queue.recv().await {
                batch.push(trace);
            }
            for batch in batch.chunks(TOGETHER) {
                self.deliver(batch).await;
            }
            return;
        }
    }

    /// Sends a message, again and again where that may help. The queue fills up meanwhile.
    async fn deliver(&mut self, batch: &[FinishedTrace]) {
        let spans = batch.iter().map(spans_of).sum();
        let body = bytes::Bytes::from(self.message(batch).encode_to_vec());
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let SendFault { reason, again } = match self.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(spans);
                    self.counts.rejected.increment(rejected);
                    self.counts.sent.increment(spans - rejected);
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("traces are sent again");
                    }
                    return;
                }
                Err(fault) => fault,
            };
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::warn!(
                    endpoint = self.url.as_str(),
                    reason,
                    "traces cannot be sent: spans are dropped, requests are answered as before"
                );
            }
            let Some(asked) = again.filter(|_| attempt < ATTEMPTS && !self.closing.is_cancelled()) else { break };
            tokio::select! {
                () = tokio::time::sleep(asked.max(pause).min(LONGEST_PAUSE)) => {}
                // One more attempt, and that is it.
                () = self.closing.cancelled() => {}
            }
            pause *= 2;
        }
        self.counts.not_sent.increment(spans);
    }

    /// Sends a message once. How many spans were rejected.
    async fn post(&self, body: bytes::Bytes) -> Result<u64, SendFault> {
        let request = self.client.post(self.url.clone()).headers(self.headers.clone());
        let request = request.header(CONTENT_TYPE, "application/x-protobuf").body(body);
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            return Err(refused(status, asked.map(Duration::from_secs)));
        }
        let mut answer = Vec::new();
        // It has them; what it says besides may be cut off.
        while let Ok(Some(chunk)) = response.chunk().await
            && answer.len() + chunk.len() <= LARGEST
        {
            answer.extend_from_slice(&chunk);
        }
        let partly = ExportTraceServiceResponse::decode(&*answer).ok().and_then(|answer| answer.partial_success);
        Ok(partly.map_or(0, |partly| u64::try_from(partly.rejected_spans).unwrap_or(0)))
    }

    fn message(&self, batch: &[FinishedTrace]) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = batch.iter().flat_map(encode).collect();
        let scope_spans = vec![otlp::ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![otlp::ResourceSpans { resource, scope_spans, schema_url: String::new() }];
        ExportTraceServiceRequest { resource_spans }
    }
}

/// Waits for a first trace, then for those that come soon after it. They are looked for and wake nobody: a call that
/// wakes this thread waits for the system meanwhile.
async fn gather(queue: &mut mpsc::Receiver<FinishedTrace>, batch: &mut Vec<FinishedTrace>) {
    let mut waited = Duration::ZERO;
    // Those that have come stay in the batch, whatever happens.
    while batch.len() < TOGETHER && waited < GATHER {
        if let Ok(trace) = queue.try_recv() {
            batch.push(trace);
            continue;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        if !batch.is_empty() {
            waited += LOOK_EVERY;
        }
    }
}

/// The innermost cause says most; the library's own words hold the address, which is said beside it.
fn unreachable(err: reqwest::Error) -> SendFault {
    let again = Some(Duration::ZERO);
    if err.is_timeout() {
        return SendFault { reason: format!("it did not answer within {} s", TOTAL.as_secs()), again };
    }
    let err = err.without_url();
    let mut cause: &dyn std::error::Error = &err;
    while let Some(source) = cause.source() {
        cause = source;
    }
    SendFault { reason: format!("it cannot be reached: {cause}"), again }
}

fn refused(status: StatusCode, asked: Option<Duration>) -> SendFault {
    let passes = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": `tracing.headers_file` holds what it asks for",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => ": nothing takes OTLP over HTTP at this address",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ": it does not take protobuf",
        _ => "",
    };
    let reason = format!("it answered {}{hint}", status.as_u16());
    SendFault { reason, again: passes.then(|| asked.unwrap_or_default()) }
}

/// Who sends: this program, and this process of it among replicas.
fn resource() -> Resource {
    let attributes = [
        ("service.name", env!("CARGO_PKG_NAME").to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", uuid::Uuid::new_v4().to_string()),
    ];
    let attributes = attributes.into_iter().map(|(key, value)| attribute(key, value.into())).collect();
    Resource { attributes, ..Resource::default() }
}

fn attribute(key: &str, value: AttributeValue) -> KeyValue {
    let value = match value {
        AttributeValue::Text(text) => any_value::Value::StringValue(text.into_owned()),
        AttributeValue::Number(number) => any_value::Value::IntValue(number),
        AttributeValue::Flag(flag) => any_value::Value::BoolValue(flag),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The root and what is below it.
fn encode(trace: &FinishedTrace) -> impl Iterator<Item = otlp::Span> {
    let mut root = span(trace, &trace.root);
    if let Some(parent) = trace.parent {
        root.parent_span_id = parent.to_bytes().to_vec();
        root.flags |= PARENT_ELSEWHERE;
    }
    if trace.left_out > 0 {
        root.attributes.push(attribute("scoreline.spans_left_out", AttributeValue::Number(trace.left_out.into())));
    }
    let below = trace.spans.iter().map(|one| {
        let parent_span_id = trace.root.id.to_bytes().to_vec();
        otlp::Span { parent_span_id, ..span(trace, one) }
    });
    std::iter::once(root).chain(below)
}

fn span(trace: &FinishedTrace, span: &Span) -> otlp::Span {
    let kind = match span.kind {
        SpanKind::Internal => otlp::span::SpanKind::Internal,
        SpanKind::Server => otlp::span::SpanKind::Server,
        SpanKind::Client => otlp::span::SpanKind::Client,
    };
    let began = u64::try_from(trace.began.as_nanosecond()).unwrap_or(0);
    let at = |since: Duration| began.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    let rows = (span.times > 1).then(|| ("scoreline.rows", AttributeValue::Number(span.times.into())));
    let attributes = span.attributes.iter().cloned().chain(rows).map(|(key, value)| attribute(key, value)).collect();
    let code = otlp::status::StatusCode::Error.into();
    otlp::Span {
        trace_id: trace.id.to_bytes().to_vec(),
        span_id: span.id.to_bytes().to_vec(),
        flags: SAMPLED,
        name: span.name.clone().into_owned(),
        kind: kind.into(),
        start_time_unix_nano: at(span.from),
        end_time_unix_nano: at(span.to),
        attributes,
        status: span.failed.then(|| otlp::Status { code, ..otlp::Status::default() }),
        ..otlp::Span::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_and_without_its_path() {
        for (text, url, keeps_secrets) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces", true),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces", true),
            ("http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces", true),
            ("https://otlp.example.com/otlp", "https://otlp.example.com/otlp/v1/traces", true),
            ("http://collector.monitoring:4318", "http://collector.monitoring:4318/v1/traces", false),
        ] {
            let endpoint = TraceEndpoint::parse(text).expect(text);
            assert_eq!((endpoint.url.as_str(), endpoint.keeps_secrets()), (url, keeps_secrets), "{text}");
        }
        for bad in ["", "collector:4318", "grpc://collector:4317", "https://key@otlp.example.com", "https://a/?key=b"] {
            assert!(TraceEndpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_are_lines_and_never_shown() {
        let headers = TraceHeaders::parse("authorization: Bearer canary\r\n\nX-Team: a:b\n").expect("two headers");
        assert_eq!((headers.0.len(), headers.0["x-team"].as_bytes()), (2, &b"a:b"[..]));
        assert!(!format!("{headers:?}").contains("canary"), "{headers:?}");
        assert_eq!(TraceHeaders::parse("a: b\nno header").expect_err("refused"), 2);
        assert_eq!(TraceHeaders::parse("a b: c").expect_err("refused"), 1);
    }
}
