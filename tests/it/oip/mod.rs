//! The Open Inference Protocol, with requests as its public clients write them.

mod grpc;
mod http;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use axum::body::Body;
use axum::http::Request;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::Value;

use crate::process::Server;
use crate::support::test_app::{RawReply, copy_shipped};
use crate::support::{TestApp, TestBundle};

const INFER: &str = "/v2/models/clv/infer";
const PREDICT: &str = "/v1/predict/clv";

impl RawReply {
    /// The JSON in front and what follows it.
    fn parts(&self) -> (Value, &[u8]) {
        let length = self.headers.get("inference-header-content-length").map(|value| value.to_str().expect("text"));
        let length = length.map_or(self.body.len(), |length| length.parse().expect("a number"));
        let (json, raw) = self.body.split_at(length);
        (serde_json::from_slice(json).expect("JSON"), raw)
    }
}

async fn post(app: &TestApp, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> RawReply {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body)).expect("a request");
    app.send_raw(request).await
}

/// A text as an element of a raw tensor.
fn raw_text(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).expect("short").to_le_bytes(), text.as_bytes()].concat()
}

/// A body or message in a content coding.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).expect("in memory");
    packed.finish().expect("in memory")
}

/// As `gzip`, in what HTTP calls deflate.
fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).expect("in memory");
    packed.finish().expect("in memory")
}

/// tritonclient and kserve against the real program: see `tests/oip/`.
#[test]
#[ignore = "installs half a gigabyte of packages"]
fn public_clients() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = root.join("target/oip-venv");
    let python = venv.join("bin/python");
    let run = |command: &mut Command| assert!(command.status().expect("it runs").success(), "{command:?}");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        let requirements = root.join("tests/oip/requirements.txt");
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements));
    }
    let models = tempfile::tempdir().expect("temporary folder");
    copy_shipped(models.path());
    TestBundle::clv("v9.9").edit("sha256 = \"", "sha256 = \"0").write(models.path());
    let server = Server::start_with(models.path(), &[]);
    for script in ["triton.py", "serving.py"] {
        let script = root.join("tests/oip").join(script);
        run(Command::new(&python).arg(script).arg(&server.listen).env("PYTHONDONTWRITEBYTECODE", "1"));
    }
}
