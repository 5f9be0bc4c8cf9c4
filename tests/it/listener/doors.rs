//! One question gets one answer, headers included, whichever door it comes through: the lane or the router, over TCP or
//! TLS, in HTTP/1.1 or HTTP/2.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Method, StatusCode};
use scoreline::http::Endpoints;
use scoreline_engine::inference::registry::Patience;
use scoreline_listener::{Connect, Limits, TlsConfigs};

use super::clients::{Served, serve};
use super::lane::{Counted, without_times};
use super::seams::{Certificates, certificates};
use crate::auth::key;
use crate::support::identity::CredentialsFile;
use crate::support::{TestApp, TestBundle};

const CLV: &str =
    r#"{"features":{"recency_days":12,"frequency_count":48,"sentiment_score_avg":0.65,"topic_diversity":7}}"#;
const CLV_WITH_ID: &str =
    r#"{"features":{"recency_days":12,"frequency_count":48},"request_id":"req-1","model_version":"v9"}"#;
const FLAT: &str = r#"{"recency_days":"12","frequency_count":48,"sentiment_score_avg":"","request_id":"req-2"}"#;
const LEAD: &str = r#"{"features":{"age":40,"contact":"cellular"},"request_id":"req-3"}"#;
const FLAT_LEAD: &str = r#"{"age":"40","contact":"cellular"}"#;

/// The live calls, each with good questions.
const ROUTES: [(&str, &[&str]); 6] = [
    ("/v1/predict/clv", &[CLV, CLV_WITH_ID]),
    ("/v1/route/tier", &[CLV, r#"{"customerId":"nobody-knows"}"#]),
    ("/v1/genesys/clv", &[FLAT]),
    ("/v1/genesys/route", &[FLAT]),
    ("/v1/predict/lead", &[LEAD]),
    ("/v1/genesys/lead", &[FLAT_LEAD]),
];

/// One way to the same app.
struct Door {
    name: &'static str,
    client: Client,
    url: String,
    _served: Served,
}

impl Door {
    fn open(name: &'static str, endpoints: impl Connect, tls: Option<&Certificates>, is_two: bool) -> Self {
        let configs = tls.map(|certificates| {
            let server = Arc::new(certificates.server.clone());
            Arc::new(move || Arc::clone(&server)) as TlsConfigs
        });
        let served = serve(1, Limits::default(), configs, endpoints);
        // A connection for each request: what was sent to hyper stays there.
        let mut client = Client::builder().pool_max_idle_per_host(0).resolve("localhost", served.address);
        if let Some(certificates) = tls {
            let root = Certificate::from_pem(certificates.authority.as_bytes()).expect("an authority");
            client = client.tls_certs_only([root]);
        }
        client = match (is_two, tls) {
            (false, _) => client.http1_only(),
            (true, None) => client.http2_prior_knowledge(),
            (true, Some(_)) => client,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}", served.address.port());
        Self { name, client: client.build().expect("a client"), url, _served: served }
    }

    /// Status, headers and body, without what differs from answer to answer or belongs to the connection.
    async fn ask(&self, method: &Method, path: &str, headers: &HeaderMap, body: &str) -> Answer {
        let request = self.client.request(method.clone(), format!("{}{path}", self.url)).headers(headers.clone());
        let answer = request.body(body.to_owned()).send().await;
        let answer = answer.unwrap_or_else(|err| panic!("{}: {path}: {err:?}", self.name));
        let status = answer.status();
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in answer.headers() {
            let value = value.to_str().expect("text").to_owned();
            headers.entry(name.as_str().to_owned()).or_default().push(value);
        }
        assert!(headers.remove("date").is_some(), "{}: {path} has a date", self.name);
        headers.remove("connection");
        let length = headers.remove("content-length");
        let body = answer.text().await.expect("a body");
        assert_eq!(length, Some(vec![body.len().to_string()]), "{}: {path} says its length", self.name);
        if let Some(id) = headers.get_mut("x-request-id").and_then(|ids| ids.first_mut())
            && id.len() == 36
        {
            "drawn".clone_into(id);
        }
        Answer { status, headers, body: without_times(&body) }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    headers: BTreeMap<String, Vec<String>>,
    body: String,
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("visible"));
    }
    headers
}

fn request(path: &str, (name, value): (&str, &str)) -> Request<Body> {
    Request::post(path).header(name, value).body(Body::from("{}")).expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_gives_the_same_answers() {
    let file = CredentialsFile::new("");
    let good = key(&file, "predict leads");
    let other = key(&file, "events");
    let busy = key(&file, "predict leads");
    let text = std::fs::read_to_string(file.path()).expect("text");
    // The record of `busy` is the last one.
    file.write(&(text.replacen("version = 1\n", "", 1) + "predict_per_second = 1\nleads_per_second = 1\n"));
    let app = TestApp::guarded(&file.settings());
    TestBundle::lead("v1").write(app.models.path());
    app.registry.scan(Patience::Now);
    let certificates = certificates();
    let public = || app.public.clone();
    let router = || Endpoints::from(app.public.router().clone());
    let short = Counted::new(public());
    let taken = short.taken.clone();
    let doors = [
        Door::open("router over TCP", router(), None, false),
        Door::open("lane over TCP", short, None, false),
        Door::open("HTTP/2 over TCP", public(), None, true),
        Door::open("router over TLS", router(), Some(&certificates), false),
        Door::open("lane over TLS", public(), Some(&certificates), false),
        Door::open("HTTP/2 over TLS", public(), Some(&certificates), true),
    ];
    let expect_same = async |method: &Method, path: &str, pairs: &[(&'static str, &str)], body: &str| {
        let headers = headers(pairs);
        let [first, others @ ..] = &doors;
        let expected = first.ask(method, path, &headers, body).await;
        for door in others {
            let answer = door.ask(method, path, &headers, body).await;
            let asked = body.get(..body.len().min(80));
            assert_eq!(answer, expected, "{} against {}: {path} {pairs:?} {asked:?}", door.name, first.name);
        }
        expected
    };

    let authorized = ("authorization", good.as_str());
    let large = format!(r#"{{"request_id":"{}"}}"#, "a".repeat(70_000));
    for (path, good_bodies) in ROUTES {
        let is_flat = path.starts_with("/v1/genesys/");
        let status = |otherwise: u16| if is_flat { 200 } else { otherwise };
        for body in good_bodies {
            let answer = expect_same(&Method::POST, path, &[authorized], body).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            assert!(answer.body.contains("success"), "{path}: {}", answer.body);
        }
        let body = good_bodies[0];
        for (body, expected) in [
            ("{", status(400)),
            ("", status(400)),
            ("[1]", status(422)),
            (r#"{"request_id":"has space"}"#, status(422)),
            (r#"{"request_id":"r-9","features":{"surprise":[1]}}"#, status(422)),
            (r#"{"request_id":"r-9","features":{"recency_days":-1,"age":"SECRET"}}"#, status(422)),
            (r#"{"surprise":{}}"#, status(422)),
            (large.as_str(), status(413)),
        ] {
            let answer = expect_same(&Method::POST, path, &[authorized], body).await;
            assert_eq!(answer.status, expected, "{path}: {}", answer.body);
        }
        for (pairs, expected) in [
            (&[][..], 401),
            (&[("authorization", "Bearer sk_a_b")], 401),
            (&[("authorization", "Basic YTpi")], 401),
            (&[("authorization", other.as_str())], 403),
            (&[authorized, authorized], 401),
            (&[authorized, ("x-deadline-ms", "400")], 200),
            (&[authorized, ("x-deadline-ms", "none")], status(422)),
            (&[authorized, ("x-deadline-ms", "400"), ("x-deadline-ms", "400")], status(422)),
            (&[authorized, ("x-request-id", "call-7")], 200),
            (&[authorized, ("x-request-id", "call-7"), ("x-request-id", "call-8")], 200),
            (&[authorized, ("x-request-id", "4111111111111111")], 200),
            (&[("x-request-id", "call-7")], 401),
            (&[authorized, ("x-other", "1"), ("x-other", "2"), ("content-type", "text/plain")], 200),
        ] {
            let answer = expect_same(&Method::POST, path, pairs, body).await;
            assert_eq!(answer.status, expected, "{path} {pairs:?}: {}", answer.body);
        }
        let busy = ("authorization", busy.as_str());
        // Its burst of one is spent here, by whichever route of its scope comes first.
        app.send(request(path, busy)).await;
        let answer = expect_same(&Method::POST, path, &[busy], body).await;
        assert_eq!(answer.status, status(429), "{path}: {}", answer.body);
        assert_eq!(answer.headers["retry-after"], ["1"], "{path}");
        // Credentials are asked for before anything is read.
        assert_eq!(expect_same(&Method::POST, path, &[], &large).await.status, 401, "{path}");
        assert_eq!(expect_same(&Method::PUT, path, &[authorized], body).await.status, 405, "{path}");
        assert_eq!(expect_same(&Method::GET, path, &[], "").await.status, 405, "{path}");
    }
    let answer = expect_same(&Method::POST, "/v1/genesys/clvs", &[authorized], FLAT).await;
    assert!(answer.status == 404 && answer.body.contains("|reason|:|not_found|"), "{}", answer.body);
    assert!(taken.load(std::sync::atomic::Ordering::Relaxed) > 100, "plain requests went through the lane");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_http_2_is_its_authority() {
    let door = Door::open("HTTP/2 over TCP", TestApp::new().public, None, true);
    let authority = door.url.trim_start_matches("http://").to_owned();
    for (pairs, status) in [
        (&[][..], 200),
        (&[("host", authority.as_str())], 200),
        (&[("host", "elsewhere")], 400),
        (&[("host", authority.as_str()), ("host", authority.as_str())], 400),
    ] {
        let answer = door.ask(&Method::POST, "/v1/predict/clv", &headers(pairs), CLV).await;
        assert_eq!(answer.status, status, "{pairs:?}: {}", answer.body);
        assert_eq!(answer.body.contains("malformed_request"), status == 400, "{}", answer.body);
    }
}
