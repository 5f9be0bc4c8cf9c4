//! The short lane and hyper give the same answers to the same bytes, whatever the bytes are and however they arrive.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::Request;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use scoreline::auth::{self, RateRecord, Scopes};
use scoreline::http::Endpoints;
use scoreline_domain::time::Timestamp;
use scoreline_listener::{Connect, Handle, Limits, Peer, Plain, RequestBody, TlsConfigs};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::clients::{Served, ask, closed, connect, get, post, serve};
use super::seams::certificates;
use crate::support::TestApp;
use crate::support::identity::{CredentialsFile, NOW};

const DOCUMENTED: &str = r#"{"features":{"recency_days":12,"frequency_count":48,"avg_handling_time_sec":245,"sentiment_score_avg":0.65,"topic_diversity":7},"model_version":"v1.2"}"#;

/// The endpoints with their lane, which counts what it takes.
pub struct Counted {
    endpoints: Endpoints,
    pub taken: Arc<AtomicUsize>,
}

impl Counted {
    pub fn new(endpoints: Endpoints) -> Self {
        Self { endpoints, taken: Arc::default() }
    }
}

/// A connection's service with the count it adds to.
pub struct CountedService(<Endpoints as Connect>::Service, Arc<AtomicUsize>);

impl Handle for CountedService {
    type Body = <<Endpoints as Connect>::Service as Handle>::Body;
    type Future = <<Endpoints as Connect>::Service as Handle>::Future;

    fn handle(&self, request: Request<RequestBody>) -> Self::Future {
        self.0.handle(request)
    }
}

impl Connect for Counted {
    type Service = CountedService;

    fn connect(&self, peer: &Peer) -> CountedService {
        CountedService(self.endpoints.connect(peer), Arc::clone(&self.taken))
    }

    fn at_once(service: &CountedService, plain: &Plain<'_>, out: &mut Vec<u8>) -> bool {
        let CountedService(service, taken) = service;
        let answered = Endpoints::at_once(service, plain, out);
        taken.fetch_add(usize::from(answered), Ordering::Relaxed);
        answered
    }
}

#[tokio::test]
async fn plain_requests_take_the_lane_until_one_is_not() {
    let counted = Counted::new(TestApp::new().public);
    let taken = Arc::clone(&counted.taken);
    let served = serve(1, Limits::default(), None, counted);
    let plain =
        with("authorization: Bearer x\r\nuser-agent: somebody/1.0\r\naccept: */*\r\nconnection: keep-alive\r\n");
    let mut stream = connect(served.address).await;
    for _ in 0..20 {
        assert_eq!(ask(&mut stream, &plain).await.expect("an answer").status, 200);
    }
    // Head and body apart, as some clients send them.
    let (head, body) = plain.split_at(plain.len() - DOCUMENTED.len());
    stream.write_all(head).await.expect("the server reads");
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(ask(&mut stream, body).await.expect("an answer").status, 200);
    assert_eq!(taken.load(Ordering::Relaxed), 21);
    for request in [get("/health/live"), plain] {
        assert_eq!(ask(&mut stream, &request).await.expect("an answer").status, 200);
    }
    assert_eq!(taken.load(Ordering::Relaxed), 21, "what went to hyper stays there");
}

/// The lane and what is served without one, over TCP and over TLS.
struct Both {
    lane: Served,
    hyper: Served,
    lane_in_tls: Served,
    hyper_in_tls: Served,
    tls: TlsConnector,
}

impl Both {
    fn start() -> Self {
        let TestApp { public, .. } = TestApp::new();
        let limits = Limits { requests: 40, ..Limits::default() };
        let certificates = certificates();
        let server = Arc::new(certificates.server);
        let configs: TlsConfigs = Arc::new(move || Arc::clone(&server));
        let without_lane = || Endpoints::from(public.router().clone());
        Self {
            lane: serve(1, limits, None, public.clone()),
            hyper: serve(1, limits, None, without_lane()),
            lane_in_tls: serve(1, limits, Some(Arc::clone(&configs)), public.clone()),
            hyper_in_tls: serve(1, limits, Some(configs), without_lane()),
            tls: tls_client(&certificates.authority),
        }
    }

    /// Sends the pieces to all, a moment apart, and expects the same back.
    async fn expect_same(&self, pieces: &[&[u8]]) -> String {
        let plainly = async |served: &Served| send(connect(served.address).await, pieces).await;
        let in_tls = async |served: &Served| {
            let name = ServerName::try_from("localhost").expect("a name");
            let stream = self.tls.connect(name, connect(served.address).await).await.expect("a handshake");
            send(stream, pieces).await
        };
        let (lane, hyper, lane_in_tls, hyper_in_tls) = tokio::join!(
            plainly(&self.lane),
            plainly(&self.hyper),
            in_tls(&self.lane_in_tls),
            in_tls(&self.hyper_in_tls)
        );
        let sent = pieces.concat();
        assert_eq!(lane, hyper, "for {}", String::from_utf8_lossy(&sent));
        assert_eq!(lane_in_tls, hyper_in_tls, "over TLS for {}", String::from_utf8_lossy(&sent));
        lane
    }
}

/// A client that speaks HTTP/1.1.
fn tls_client(authority: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

/// What comes back on a connection of its own until it is closed or says nothing for a while, without what differs from
/// answer to answer.
async fn send(mut stream: impl AsyncRead + AsyncWrite + Unpin, pieces: &[&[u8]]) -> String {
    let mut read = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The server may have closed after a mistake in an earlier piece.
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            break;
        }
    }
    let quiet = Duration::from_millis(150);
    loop {
        match tokio::time::timeout(quiet, stream.read_buf(&mut read)).await {
            Ok(Ok(1..)) => {}
            Ok(Err(err)) if err.kind() != ErrorKind::UnexpectedEof => break,
            Ok(_) => {
                read.extend_from_slice(b"<closed>");
                break;
            }
            Err(_) => break,
        }
    }
    unchanging(&String::from_utf8_lossy(&read))
}

fn unchanging(answers: &str) -> String {
    let mut text = String::new();
    for line in answers.split_inclusive("\r\n") {
        let name = line.split(':').next().unwrap_or_default();
        match name {
            "date" | "content-length" => text.push_str(name),
            _ => text.push_str(&without_times(line)),
        }
    }
    text
}

/// Without the time the model took and ids that were drawn.
pub fn without_times(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\"inference_latency_ms\":") {
        text.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || ".e-".contains(c));
    }
    text.push_str(rest);
    let is_drawn = |id: &str| id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    text.split(['"', ' ', '\r']).map(|word| if is_drawn(word) { "drawn" } else { word }).collect::<Vec<_>>().join("|")
}

fn with(headers: &str) -> Vec<u8> {
    let body = DOCUMENTED;
    format!("POST /v1/predict/clv HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

#[tokio::test]
async fn the_same_bytes_get_the_same_answers() {
    let both = Both::start();
    let plain = with("");
    let answer = both.expect_same(&[&plain]).await;
    assert!(answer.starts_with("HTTP/1.1|200|OK") && answer.contains("clv_value_usd"), "{answer}");

    let many_headers = "x-many: 1\r\n".repeat(65);
    let large = format!("x-large: {}\r\n", "a".repeat(9000));
    let too_large = format!("x-large: {}\r\n", "a".repeat(20_000));
    for headers in [
        "Content-Type: application/json\r\n",
        "X-Request-ID: req-1\r\n",
        "x-request-id: 4111111111111111\r\n",
        "x-request-id: a\r\nx-request-id: b\r\n",
        "x-deadline-ms: 100\r\n",
        "X-DEADLINE-MS: none\r\n",
        "x-deadline-ms: 1\r\nx-deadline-ms: 2\r\n",
        "authorization: Bearer x\r\n",
        "connection: keep-alive\r\n",
        "connection: close\r\n",
        "connection: upgrade\r\nupgrade: h2c\r\n",
        "expect: 100-continue\r\n",
        "te: trailers\r\n",
        "content-length: 3\r\n",
        "content-length: -1\r\n",
        "content-length: 1e2\r\n",
        "content-length: +3\r\n",
        "content-length:\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "host: x\r\n",
        "host : x\r\n",
        "content-encoding: gzip\r\n",
        " folded: header\r\n",
        "bad header\r\n",
        "x-null: \0\r\n",
        "x-bare: a\nx-line: b\r\n",
        &many_headers,
        &large,
        &too_large,
    ] {
        both.expect_same(&[&with(headers)]).await;
    }
    for raw in [
        get("/health/live"),
        get("/v1/predict/clv"),
        post("/v1/predict/clv?x=1", DOCUMENTED),
        post("http://x/v1/predict/clv", DOCUMENTED),
        post("/v1/predict/clv", "{"),
        post("/v1/predict/clv", r#"{"features":{},"surprise":1}"#),
        post("/v1/predict/clv", r#"{"features":{"recency_days":-1},"request_id":"r-1"}"#),
        post("/v1/predict/clv", &format!(r#"{{"request_id":"{}"}}"#, "a".repeat(70_000))),
        post("/v1/route/tier", r#"{"customerId":"C-1","request_id":"r-1"}"#),
        post("/v1/genesys/clv", r#"{"recency_days":"oops"}"#),
        post("/v1/unknown", "{}"),
        b"\r\n\r\nPOST /v1/predict/clv HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"POST /v1/predict/clv HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"POST /v1/predict/clv HTTP/1.1\r\nhost: a b\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"POST /v1/predict/clv HTTP/1.1\r\nhost:\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"POST /v1/predict/clv HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"POST /v1/predict/clv HTTP/2.0\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"post /v1/predict/clv HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"POST /v1/predict/clv HTTP/1.1\nhost: x\ncontent-length: 2\n\n{}".to_vec(),
        b"POST /v1/predict/clv HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"PRI * HTTP/1.1\r\n\r\n".to_vec(),
        b"nonsense\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 0, 200],
        Vec::new(),
    ] {
        // Both what comes alone and what comes behind and before a request of the lane.
        both.expect_same(&[&raw]).await;
        both.expect_same(&[&plain, &raw]).await;
        both.expect_same(&[&[&plain[..], &raw, &plain].concat()]).await;
    }
}

#[tokio::test]
async fn heads_that_http_does_not_allow_are_refused_through_both_doors() {
    let both = Both::start();
    let sized = format!("content-length: {}\r\n", DOCUMENTED.len());
    let chunks = format!("{:x}\r\n{DOCUMENTED}\r\n0\r\n\r\n", DOCUMENTED.len());
    let expect = async |version: &str, headers: &str, body: &str, status: &str, word: &str| {
        let request = format!("POST /v1/predict/clv HTTP/{version}\r\n{headers}\r\n{body}");
        let answer = both.expect_same(&[request.as_bytes()]).await;
        assert_eq!(answer.split('|').nth(1), Some(status), "{request:?}: {answer}");
        assert!(answer.contains(word), "{request:?}: {answer}");
        answer.ends_with("<closed>")
    };
    for (hosts, status, word) in [
        ("", "400", "malformed_request"),
        ("host: x\r\nHost: x\r\n", "400", "malformed_request"),
        ("host: a b\r\n", "400", "malformed_request"),
        ("host: http://x\r\n", "400", "malformed_request"),
        ("host: user@x\r\n", "400", "malformed_request"),
        ("host: x:http\r\n", "400", "malformed_request"),
        ("host: x, y\r\n", "400", "malformed_request"),
        ("host: scoring.example.com:8080\r\n", "200", "clv_value_usd"),
        ("host: [::1]:8080\r\n", "200", "clv_value_usd"),
        ("host: 127.0.0.1\r\n", "200", "clv_value_usd"),
        ("host:\r\n", "200", "clv_value_usd"),
    ] {
        let closed = expect("1.1", &format!("{hosts}{sized}"), DOCUMENTED, status, word).await;
        assert_eq!(closed, status == "400", "{hosts:?}");
    }
    expect("1.0", &sized, DOCUMENTED, "200", "clv_value_usd").await;
    expect("1.0", &format!("host: x\r\nhost: x\r\n{sized}"), DOCUMENTED, "400", "malformed_request").await;
    for (codings, status, word) in [
        ("transfer-encoding: chunked\r\n", "200", "clv_value_usd"),
        ("transfer-encoding: Chunked\r\n", "200", "clv_value_usd"),
        ("transfer-encoding: chunked, chunked\r\n", "400", "malformed_request"),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "400", "malformed_request"),
        ("transfer-encoding: gzip, chunked\r\n", "501", "unknown_transfer_coding"),
        ("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", "501", "unknown_transfer_coding"),
        // Where the body ends cannot be known: hyper says so without a word.
        ("transfer-encoding: gzip\r\n", "400", ""),
        ("transfer-encoding: chunked, gzip\r\n", "400", ""),
    ] {
        let closed = expect("1.1", &format!("host: x\r\n{codings}"), &chunks, status, word).await;
        assert_eq!(closed, status != "200", "{codings:?}");
    }
    // Read by its chunks, and nothing is read behind it (RFC 9112, section 6.1).
    for lengths in [format!("transfer-encoding: chunked\r\n{sized}"), format!("{sized}transfer-encoding: chunked\r\n")]
    {
        let two = format!("{chunks}{}", String::from_utf8_lossy(&get("/health/live")));
        assert!(expect("1.1", &format!("host: x\r\n{lengths}"), &two, "200", "clv_value_usd").await, "{lengths:?}");
    }
    assert!(both.expect_same(&[b"GET /health/live HTTP/1.1\r\n\r\n"]).await.contains("malformed_request"));
}

#[tokio::test]
async fn whatever_sends_a_request_out_of_the_lane_it_is_charged_once() {
    let file = CredentialsFile::new("");
    let rates = RateRecord { predict_per_second: Some(1), predict_burst: Some(6), ..RateRecord::default() };
    let scopes = Scopes::parse(["predict"]).expect("scopes");
    let now = Timestamp::from_second(NOW).expect("a time");
    let made = auth::add_key(&file.path(), "test key", scopes, rates, now).expect("made");
    let counted = Counted::new(TestApp::guarded(&file.settings()).public);
    let taken = Arc::clone(&counted.taken);
    let served = serve(1, Limits::default(), None, counted);
    let authorization = format!("authorization: Bearer {}\r\n", made.secret.as_str());
    let large = format!("x-large: {}\r\n", "a".repeat(9000));
    // The clock stands still: nothing comes back to the caller's rate.
    for headers in ["", "connection: close\r\n", "te: trailers\r\n", &large] {
        let mut stream = connect(served.address).await;
        let answer = ask(&mut stream, &with(&format!("{authorization}{headers}"))).await.expect("an answer");
        assert_eq!(answer.status, 200, "{headers:?}: {}", answer.head);
    }
    let mut stream = connect(served.address).await;
    let plain = with(&authorization);
    let (first, rest) = plain.split_at(40);
    stream.write_all(first).await.expect("the server reads");
    // Longer than the lane has patience.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(ask(&mut stream, rest).await.expect("an answer").status, 200);
    assert_eq!(taken.load(Ordering::Relaxed), 1, "the others went to hyper");
    assert_eq!(ask(&mut connect(served.address).await, &plain).await.expect("an answer").status, 200, "the sixth");
    assert_eq!(ask(&mut connect(served.address).await, &plain).await.expect("an answer").status, 429, "the seventh");
}

#[tokio::test]
async fn however_a_request_arrives_it_is_answered() {
    let both = Both::start();
    let plain = with("x-request-id: r-1\r\n");
    for cut in [1, 3, 4, 20, plain.len() - DOCUMENTED.len() - 2, plain.len() - DOCUMENTED.len(), plain.len() - 1] {
        let answer = both.expect_same(&[&plain[..cut], &plain[cut..]]).await;
        assert!(answer.contains("200|OK"), "{answer}");
    }
    let slow: Vec<&[u8]> = plain.chunks(plain.len() / 20).collect();
    assert!(both.expect_same(&slow).await.contains("200|OK"), "slower than the lane has patience for");
    // More at once than one turn takes; the server says goodbye with the fortieth.
    let answers = both.expect_same(&[&plain.repeat(45)]).await;
    assert_eq!(answers.matches("HTTP/1.1|200|OK").count(), 40);
    assert!(answers.contains("connection:|close") && answers.ends_with("<closed>"), "{answers}");
}

/// Requests put together of good and bad parts, several on a connection, cut anywhere.
#[test]
fn no_mixture_tells_the_lane_from_hyper() {
    let header = select(vec![
        "host: x\r\n",
        "x-request-id: r-1\r\n",
        "X-Deadline-MS: 50\r\n",
        "x-deadline-ms: x\r\n",
        "connection: keep-alive\r\n",
        "Connection: close\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "content-length: 0\r\n",
        "content-length: 7\r\n",
        "expect: 100-continue\r\n",
        "te: x\r\n",
        "a:b\r\n",
        "a b: c\r\n",
        "\r\n",
    ]);
    let line = select(vec![
        "POST /v1/predict/clv HTTP/1.1\r\n",
        "POST /v1/route/tier HTTP/1.1\r\n",
        "POST /v1/genesys/clv HTTP/1.1\r\n",
        "GET /health/live HTTP/1.1\r\n",
        "POST /v1/predict/clv HTTP/1.0\r\n",
        "POST  /v1/predict/clv HTTP/1.1\r\n",
    ]);
    let body = select(vec![DOCUMENTED, "{}", "", "0\r\n\r\n", "2\r\n{}\r\n0\r\n\r\n", r#"{"customerId":"C-1"}"#]);
    let has_host = prop::bool::weighted(0.9);
    let request = (line, proptest::collection::vec(header, 0..3), body, any::<bool>(), has_host).prop_map(
        |(line, headers, body, sized, has_host)| {
            let length = if sized { format!("content-length: {}\r\n", body.len()) } else { String::new() };
            let host = if has_host { "host: x\r\n" } else { "" };
            format!("{line}{host}{}{length}\r\n{body}", headers.concat())
        },
    );
    let several = (proptest::collection::vec(request, 1..4), any::<prop::sample::Index>());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let both = Both::start();
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&several, |(requests, cut)| {
            let bytes = requests.concat().into_bytes();
            let (first, second) = bytes.split_at(cut.index(bytes.len()));
            runtime.block_on(both.expect_same(&[first, second]));
            Ok(())
        })
        .expect("the same answers");
}

#[tokio::test]
async fn a_connection_in_the_lane_has_its_limits() {
    let limits = Limits {
        header_timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(600),
        write_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let app = TestApp::new();
    let served = serve(1, limits, None, app.public.clone());
    let plain = with("");

    // Idle from the start, idle after an answer, and half a request after an answer.
    for (first, then) in [(&b""[..], &b""[..]), (&plain, b""), (&plain, &plain[..40])] {
        let mut stream = connect(served.address).await;
        if !first.is_empty() {
            assert_eq!(ask(&mut stream, first).await.expect("an answer").status, 200);
        }
        stream.write_all(then).await.expect("the server reads");
        let ended = tokio::time::timeout(Duration::from_secs(2), closed(&mut stream)).await;
        assert_eq!(ended.expect("the server closes"), b"", "nothing is said to somebody who says nothing");
    }

    // Somebody who never reads: answers fill the buffers of both ends, then the time of a write runs.
    let mut stream = connect(served.address).await;
    let many = plain.repeat(64);
    let stuck = async { while stream.write_all(&many).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), stuck).await.expect("the server closes");

    // A closed listener gives an idle connection a moment, and takes a request that comes within it.
    let (mut idle, mut late) = (connect(served.address).await, connect(served.address).await);
    for stream in [&mut idle, &mut late] {
        assert_eq!(ask(stream, &plain).await.expect("an answer").status, 200);
    }
    served.drain.close();
    let answer = ask(&mut late, &plain).await.expect("an answer");
    assert!(answer.status == 200 && answer.is_last(), "{}", answer.head);
    tokio::time::timeout(Duration::from_secs(3), closed(&mut idle)).await.expect("the server closes");
}
