//! By calls of gRPC, as bytes.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use prost::Message;
use serde_json::json;
use tower::ServiceExt as _;

use super::{PREDICT, deflate, gzip, post, raw_text};
use crate::auth::key;
use crate::support::TestApp;
use crate::support::identity::CredentialsFile;

/// What is looked at of an answer to `ModelInfer`.
#[derive(Clone, PartialEq, Message)]
struct Inferred {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<InferredOutput>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct InferredOutput {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    contents: Option<InferredContents>,
}

#[derive(Clone, PartialEq, Message)]
struct InferredContents {
    #[prost(double, repeated, tag = "7")]
    numbers: Vec<f64>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    texts: Vec<Vec<u8>>,
}

const CALLS: &str = "/inference.GRPCInferenceService";

/// What `tritonclient` sends for the two customers, with an id, two outputs, a priority and a timeout.
const OF_TRITON: &str = "0a03636c761a02723122100a0774696d656f7574120510c096b102220d0a076578706c61696e12020800220e0a087072696f726974791202\
    28012a180a0c726563656e63795f646179731204465033321a0202012a1c0a0f6672657175656e63795f636f756e741205494e5436341a020201320a0a08636c\
    765f74696572320f0a0d636c765f76616c75655f7573643a080000f041000040413a100a000000000000003000000000000000";
/// What `kserve` sends for the first of them, as lists.
const OF_KSERVE: &str = "0a03636c761a026b312a240a0c726563656e63795f646179731204465036341a0201012a0a3a080000000000003e402a210a0f6672\
    657175656e63795f636f756e741205494e5436341a0201012a031a010a";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.as_chunks::<2>().0.iter().map(byte).collect()
}

/// What came of a call: its status, what is wrong, and the message otherwise.
#[derive(Debug)]
struct Called {
    status: String,
    error: String,
    message: Vec<u8>,
}

async fn call(app: &TestApp, path: &str, headers: &[(&str, &str)], flag: u8, message: &[u8]) -> Called {
    let mut request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let request = request.body(Body::from([&[flag], length.as_slice(), message].concat())).expect("a request");
    let response = app.public.router().clone().oneshot(request).await.expect("answered");
    assert_eq!(
        (response.status(), &response.headers()["content-type"]),
        (StatusCode::OK, &"application/grpc".parse().expect("a value"))
    );
    assert!(response.headers().contains_key("x-request-id"));
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("in memory");
    let trailers = body.trailers().cloned().unwrap_or_default();
    let text = |name: &str| {
        let value = parts.headers.get(name).or(trailers.get(name));
        value.map(|value| value.to_str().expect("text").replace("%20", " ").replace("%60", "`")).unwrap_or_default()
    };
    let (status, error) = (text("grpc-status"), text("grpc-message"));
    let body = body.to_bytes();
    let message = body.get(5..).unwrap_or_default().to_vec();
    assert_eq!(message.is_empty() && body.is_empty(), status != "0", "{status}: {error}");
    Called { status, error, message }
}

async fn infer_call(app: &TestApp, message: &[u8]) -> Inferred {
    let called = call(app, &format!("{CALLS}/ModelInfer"), &[], 0, message).await;
    assert_eq!(called.status, "0", "{}", called.error);
    Inferred::decode(&*called.message).expect("a message")
}

#[tokio::test]
async fn calls_of_grpc_are_answered_as_v1_answers_in_the_form_they_came_in() {
    let app = TestApp::new();
    let values = async |recency: u32, frequency: u32| {
        let features = json!({"recency_days": recency, "frequency_count": frequency});
        let answer = app.ok(PREDICT, json!({"features": features})).await["prediction"].clone();
        (answer["clv_value_usd"].as_f64().expect("a value"), answer["clv_tier"].as_str().expect("a tier").to_owned())
    };
    let (first, second) = (values(30, 10).await, values(12, 48).await);
    let raw = infer_call(&app, &bytes(OF_TRITON)).await;
    assert_eq!((raw.model_name.as_str(), raw.id.as_str()), ("clv", "r1"));
    let outputs: Vec<_> = raw.outputs.iter().map(|it| (it.name.as_str(), it.datatype.as_str(), &*it.shape)).collect();
    assert_eq!(outputs, [("clv_tier", "BYTES", [2, 1].as_slice()), ("clv_value_usd", "FP64", &[2, 1])]);
    assert_eq!(raw.raw[0], [raw_text(&first.1), raw_text(&second.1)].concat());
    assert_eq!(raw.raw[1], [first.0.to_le_bytes(), second.0.to_le_bytes()].concat());

    let lists = infer_call(&app, &bytes(OF_KSERVE)).await;
    assert_eq!((lists.id.as_str(), lists.raw.len(), lists.outputs.len()), ("k1", 0, 7));
    let contents = |name: &str| {
        let output = lists.outputs.iter().find(|output| output.name == name).expect("an output");
        output.contents.clone().expect("contents")
    };
    assert_eq!(contents("clv_value_usd").numbers, [first.0]);
    assert_eq!(contents("clv_tier").texts, [first.1.as_bytes()]);
}

#[tokio::test]
async fn packed_messages_are_unpacked_and_never_beyond_the_limit() {
    let app = TestApp::new();
    let path = format!("{CALLS}/ModelInfer");
    for (coding, packed) in [("gzip", gzip(&bytes(OF_KSERVE))), ("deflate", deflate(&bytes(OF_KSERVE)))] {
        let called = call(&app, &path, &[("grpc-encoding", coding)], 1, &packed).await;
        assert_eq!(called.status, "0", "{coding}: {}", called.error);
        assert_eq!(Inferred::decode(&*called.message).expect("a message").id, "k1");
    }
    let bomb = gzip(&vec![0; 50 << 20]);
    for (coding, packed, status) in [("gzip", &bomb, "3"), ("snappy", &bomb, "12"), ("gzip", &bytes(OF_KSERVE), "3")] {
        let called = call(&app, &path, &[("grpc-encoding", coding)], 1, packed).await;
        assert_eq!(called.status, status, "{coding}: {}", called.error);
    }
}

#[tokio::test]
async fn a_call_that_fails_says_so_in_the_words_of_grpc() {
    let app = TestApp::new();
    let path = format!("{CALLS}/ModelInfer");
    let nobody = b"\x0a\x06nobody";
    let personal = b"\x0a\x03clv\x22\x22\x0a\x0bcustomer_id\x12\x13\x1a\x11+49 151 234567890";
    let version = b"\x0a\x03clv\x12\x04v9.9";
    for (message, status, said) in [
        (nobody.as_slice(), "5", "there is no such model"),
        (version, "5", "does not serve"),
        (b"\x0a\x03clv", "3", "either `features` or an id is required"),
        (personal, "3", "customer"),
        (b"\xff\xff", "3", "cannot be read"),
    ] {
        let called = call(&app, &path, &[], 0, message).await;
        assert_eq!(called.status, status, "{}", called.error);
        assert!(called.error.contains(said) && !called.error.contains("151"), "{}", called.error);
    }
    let wrong_deadline = call(&app, &path, &[("x-deadline-ms", "soon")], 0, &bytes(OF_KSERVE)).await;
    assert_eq!(wrong_deadline.status, "3");
    for (method, status) in [("ModelConfig", "12"), ("ModelStreamInfer", "12"), ("RepositoryModelLoad", "7")] {
        let called = call(&app, &format!("{CALLS}/{method}"), &[], 0, b"").await;
        assert_eq!(called.status, status, "{method}: {}", called.error);
    }
    let plain = post(&app, &path, &[], b"{}".to_vec()).await;
    assert_eq!((plain.status.as_u16(), &plain.parts().0["error"]["code"]), (415, &json!("unsupported_media_type")));
    // A failed call is counted as what it is.
    let metrics = app.admin("/metrics").await.text;
    let counted = "scoreline_http_requests_total{route=\"grpc_infer\",status=\"404\"}";
    assert!(metrics.lines().any(|line| line.starts_with(counted) && !line.ends_with(" 0")), "{counted}");

    let file = CredentialsFile::new("");
    let leads = key(&file, "leads");
    let app = TestApp::guarded(&file.settings());
    assert_eq!(call(&app, &path, &[], 0, &bytes(OF_KSERVE)).await.status, "16");
    assert_eq!(call(&app, &path, &[("authorization", &leads)], 0, &bytes(OF_KSERVE)).await.status, "7");
    assert_eq!(call(&app, &format!("{CALLS}/RepositoryIndex"), &[("authorization", &leads)], 0, b"").await.status, "7");
    assert_eq!(call(&app, &format!("{CALLS}/ServerReady"), &[], 0, b"").await.message, b"\x08\x01");
}

#[tokio::test]
async fn the_health_of_grpc_and_of_models_is_told_to_everybody() {
    let app = TestApp::new();
    let health = async |service: &[u8]| call(&app, "/grpc.health.v1.Health/Check", &[], 0, service).await;
    let (serving, not_serving) = (b"\x08\x01", b"\x08\x02");
    assert_eq!(health(b"").await.message, serving);
    assert_eq!(health(b"\x0a\x03clv").await.message, serving);
    assert_eq!(health(b"\x0a\x06nobody").await.status, "5");
    let ready = async |name: &[u8]| call(&app, &format!("{CALLS}/ModelReady"), &[], 0, name).await;
    assert_eq!(ready(b"\x0a\x03clv\x12\x04v1.2").await.message, serving);
    app.readiness.drain();
    assert_eq!(health(b"").await.message, not_serving);
    assert_eq!(health(b"\x0a\x03clv").await.message, not_serving);
    assert_eq!(ready(b"\x0a\x03clv").await.status, "14");
}
