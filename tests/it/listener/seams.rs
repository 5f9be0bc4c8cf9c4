//! What stands between a socket and a handler: TLS, who is at the other end, limits of a connection and of a request.
#![expect(clippy::disallowed_methods, reason = "tests and their load generators spawn tasks and read the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use axum::routing::{get as on_get, post as on_post};
use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use scoreline::lifecycle::Lifecycle;
use scoreline_listener::{Connect, Limits, PeerAddress, PeerCertificates, TlsConfigs};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::clients::{Prober, ask, closed, connect, get, router, serve};
use crate::support::TestApp;

fn short() -> Limits {
    Limits {
        handshake_timeout: Duration::from_millis(500),
        header_timeout: Duration::from_millis(500),
        idle_timeout: Duration::from_millis(800),
        ..Limits::default()
    }
}

/// Says who asks.
fn who() -> impl Connect {
    router(axum::Router::new().route(
        "/who",
        on_get(async |request: Request<Body>| {
            let PeerAddress(address) = *request.extensions().get().expect("always there");
            let chain = request.extensions().get::<PeerCertificates>().map_or(0, |chain| chain.0.len());
            format!("{} {chain} {:?}", address.ip(), request.version())
        }),
    ))
}

pub(super) struct Certificates {
    pub(super) server: ServerConfig,
    pub(super) authority: String,
    /// Certificate and key in PEM.
    client: String,
}

pub(super) fn certificates() -> Certificates {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = rcgen::Issuer::from_params(&params, &key);
    let issue = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &issuer).expect("a certificate"), key)
    };
    let (server, server_key) = issue("localhost");
    let (client, client_key) = issue("client.example");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .expect("a verifier");
    let key = PrivateKeyDer::try_from(server_key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Certificates {
        server: config,
        authority: authority.pem(),
        client: format!("{}{}", client.pem(), client_key.serialize_pem()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_peers_are_known_and_silent_ones_do_not_hold_the_door() {
    let Certificates { server, authority, client } = certificates();
    let server = Arc::new(server);
    let configs: TlsConfigs = Arc::new(move || Arc::clone(&server));
    let served = serve(2, short(), Some(configs), who());
    // Nobody waits for those who say nothing.
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(connect(served.address).await);
    }
    let mut garbled = connect(served.address).await;
    garbled.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    assert_eq!(closed(&mut garbled).await.first(), Some(&21), "a TLS alert");

    let url = format!("https://localhost:{}/who", served.address.port());
    let root = reqwest::Certificate::from_pem(authority.as_bytes()).expect("an authority");
    let builder = || reqwest::Client::builder().tls_certs_only([root.clone()]).resolve("localhost", served.address);
    let known = || builder().identity(reqwest::Identity::from_pem(client.as_bytes()).expect("an identity"));
    for (client, expected) in [
        (builder().http1_only(), "127.0.0.1 0 HTTP/1.1"),
        (builder(), "127.0.0.1 0 HTTP/2.0"),
        (known().http1_only(), "127.0.0.1 1 HTTP/1.1"),
        (known(), "127.0.0.1 1 HTTP/2.0"),
    ] {
        let client = client.build().expect("a client");
        for _ in 0..3 {
            let answer = client.get(&url).send().await.expect("an answer").text().await.expect("a text");
            assert_eq!(answer, expected);
        }
    }
    for stream in &mut silent {
        closed(stream).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_its_limits() {
    let limits = Limits { requests: 3, connections_per_peer: 4, ..short() };
    let served = serve(1, limits, None, who());
    let mut stream = connect(served.address).await;
    for count in 1..=3 {
        let answer = ask(&mut stream, &get("/who")).await.expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer.body), "127.0.0.1 0 HTTP/1.1");
        assert_eq!(answer.is_last(), count == 3, "{}", answer.head);
    }
    assert!(closed(&mut stream).await.is_empty());

    // Idle, after a request, for longer than a header may take.
    let mut stream = connect(served.address).await;
    let answer = ask(&mut stream, &get("/who")).await.expect("an answer");
    assert_eq!(answer.status, 200);
    let idle = Instant::now();
    closed(&mut stream).await;
    let idle = idle.elapsed();
    assert!((Duration::from_millis(550)..Duration::from_millis(1500)).contains(&idle), "{idle:?}");

    let mut four = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(served.address).await;
        assert_eq!(ask(&mut stream, &get("/who")).await.expect("an answer").status, 200);
        four.push(stream);
    }
    let mut fifth = TcpStream::connect(served.address).await.expect("the kernel accepts");
    assert!(closed(&mut fifth).await.is_empty(), "one too many");
    drop(four);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut again = connect(served.address).await;
    assert_eq!(ask(&mut again, &get("/who")).await.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_cap_newcomers_wait_for_a_place() {
    let served = serve(1, Limits { connections: 2, ..short() }, None, who());
    let mut two = [connect(served.address).await, connect(served.address).await];
    for stream in &mut two {
        assert_eq!(ask(stream, &get("/who")).await.expect("an answer").status, 200);
    }
    let mut waiting = connect(served.address).await;
    let asking = get("/who");
    let mut asked = Box::pin(ask(&mut waiting, &asking));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut asked).await.is_err(), "not accepted yet");
    drop(two);
    let answer = tokio::time::timeout(Duration::from_secs(2), asked).await.expect("in time").expect("an answer");
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_its_limits() {
    let served = serve(1, short(), None, who());
    let fields = |count: usize, size: usize| {
        let field = |n| format!("x-field-{n}: {}\r\n", "a".repeat(size));
        format!("GET /who HTTP/1.1\r\nhost: x\r\n{}\r\n", (0..count).map(field).collect::<String>()).into_bytes()
    };
    for (count, size, expected) in
        [(63, 10, 200), (64, 10, 431), (99, 10, 431), (200, 10, 431), (2, 7000, 200), (3, 7000, 431)]
    {
        let mut stream = connect(served.address).await;
        let answer = ask(&mut stream, &fields(count, size)).await;
        let answer = answer.unwrap_or_else(|err| panic!("{count} of {size} bytes: {err}"));
        assert_eq!(answer.status, expected, "{count} of {size} bytes");
    }
}

/// A client that sends more than it may, and looks for an answer only after that, finds one.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    const BODY: usize = 3_000_000;
    let refusing = router(axum::Router::new().route("/small", on_post(async |_: Bytes| "taken")));
    let Certificates { server, authority, .. } = certificates();
    let server = Arc::new(server);
    let configs: TlsConfigs = Arc::new(move || Arc::clone(&server));
    let (plain, secret) = (serve(1, short(), None, who()), serve(1, short(), Some(configs), refusing));
    for (path, fields, expected) in [
        // Nobody is there to read it, or nobody wants to.
        ("/nobody", String::new(), 404),
        ("/who", String::new(), 405),
        ("/who", "x-field: 1\r\n".repeat(70), 431),
        ("/who", format!("x-field: {}\r\n", "a".repeat(30_000)), 431),
        ("/nobody", "connection: close\r\n".to_owned(), 404),
    ] {
        let mut stream = connect(plain.address).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY}\r\n{fields}\r\n");
        let request = [head.into_bytes(), vec![b'x'; BODY]].concat();
        // In pieces, and with time between them: everything there is has been read when the answer is made.
        for piece in request.chunks(BODY / 10) {
            stream.write_all(piece).await.unwrap_or_else(|err| panic!("{expected} for {path}: {err}"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = String::from_utf8(closed(&mut stream).await).expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{path}: {answer}");
    }
    let root = reqwest::Certificate::from_pem(authority.as_bytes()).expect("an authority");
    let client = reqwest::Client::builder().tls_certs_only([root]).resolve("localhost", secret.address);
    let client = client.http1_only().build().expect("a client");
    let url = format!("https://localhost:{}/small", secret.address.port());
    let answer = client.post(&url).body(vec![b'x'; BODY]).send().await.expect("an answer");
    assert_eq!(answer.status(), 413, "over TLS");
    // One that never ends is not waited for.
    let mut stream = connect(plain.address).await;
    stream.write_all(b"POST /nobody HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nx").await.expect("sent");
    let begun = Instant::now();
    while stream.write_all(b"x").await.is_ok() && begun.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lasted = begun.elapsed();
    assert!((Duration::from_millis(1_500)..Duration::from_secs(4)).contains(&lasted), "{lasted:?}");
}

#[test]
fn liveness_answers_while_every_request_thread_is_stuck() {
    let app = TestApp::new();
    let lifecycle = Lifecycle::new();
    let stop = lifecycle.stop();
    let stuck = axum::Router::new().route(
        "/stuck",
        on_get(async || {
            std::thread::sleep(Duration::from_millis(1500));
            "done"
        }),
    );
    let public = serve(2, Limits::default(), None, router(stuck));
    let (bound, at) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let connections = stop.clone();
    let admin = app.admin.clone();
    let _inside = runtime.enter();
    let apart = move || async move {
        let socket = scoreline_listener::open("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        bound.send(socket.local_addr().expect("bound")).expect("the test waits");
        let serving = scoreline_listener::Listener {
            name: "admin",
            limits: Limits::default(),
            tls: None,
            drain: scoreline_listener::Drain::new(),
            open: scoreline_listener::OpenConnections::default(),
        };
        let spawn = move |connection: scoreline_listener::ConnectionTask| connections.track(connection);
        serving.serve(socket, admin, spawn).await;
    };
    stop.supervise_apart("admin listener", apart).expect("a thread");
    let admin = at.recv().expect("it starts");
    runtime.block_on(async {
        let stuck: Vec<_> = (0..4)
            .map(|_| tokio::spawn(async move { ask(&mut connect(public.address).await, &get("/stuck")).await }))
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let probed = Prober::run_for(admin, get("/health/live"), Duration::from_secs(1)).await;
        println!("liveness beside stuck threads: p99 {:.2} ms of {}", probed.p99_ms(), probed.count());
        assert!(probed.errors.is_empty(), "{:?}", probed.errors);
        assert!(probed.count() > 20 && probed.p99_ms() <= 100.0, "{} ms", probed.p99_ms());
        for request in stuck {
            assert_eq!(request.await.expect("no panic").expect("an answer").status, 200);
        }
        lifecycle.stop().request();
        let stopped = lifecycle.run_with(async || std::future::pending().await, Duration::ZERO).await;
        assert!(stopped.is_err(), "the admin listener of this test never ends by itself");
        drop(public);
    });
}
