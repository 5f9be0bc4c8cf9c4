//! What is fuzzed: one target for every parser that reads somebody else's bytes, and the promises each input is held to.
//!
//! The same targets are driven by seeded mutation (`tests/it/fuzz`, always there) and by coverage (`fuzz/`). A new one is
//! a function that opens what the inputs are fed to, and a line in `TARGETS`.

pub mod config;
pub mod http;
pub mod models;
pub mod tables;
pub mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scoreline_domain::time::Stopwatch;

/// Takes one input. Panics when it breaks a promise.
pub type Feed = Box<dyn FnMut(&[u8])>;

/// One parser and the inputs it is tried with.
pub struct Target {
    pub name: &'static str,
    /// Good inputs, to be bent.
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub form: Form,
    /// Makes what inputs are fed to; once for many inputs.
    pub open: fn() -> Feed,
    /// Bytes that may be held at once on the feeding thread: `(whatever the input, for every byte of it)`.
    pub memory: (u64, u64),
}

/// How a target's inputs are built, so that mutations get past the first check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    /// One JSON value a line.
    Lines,
    /// Lines with names and values: TOML, CSV, headers.
    Text,
    /// Nested fields, as in ONNX.
    Protobuf,
    Bytes,
}

/// Longest time an input may take; one that takes longer is tried again twice before it counts as a hang.
const SLOWEST: Duration = Duration::from_secs(1);
/// Memory of a request or a settings file.
const SMALL: (u64, u64) = (4 << 20, 256);
/// Memory of a model: nodes are wider than their text, and a scan keeps tables beside them.
const MODEL: (u64, u64) = (8 << 20, 1024);

/// Every target there is.
pub const TARGETS: &[Target] = &[
    endpoint("predict_clv", http::clv_seeds, Form::Json, || http::post("/v1/predict/clv")),
    endpoint("predict_clv_batch", http::clv_batch_seeds, Form::Lines, || http::post("/v1/predict/clv/batch")),
    endpoint("predict_lead", http::lead_seeds, Form::Json, || http::post("/v1/predict/lead")),
    endpoint("predict_lead_batch", http::lead_batch_seeds, Form::Lines, || http::post("/v1/predict/lead/batch")),
    endpoint("route_tier", http::clv_seeds, Form::Json, || http::post("/v1/route/tier")),
    endpoint("genesys_clv", http::flat_seeds, Form::Json, || http::post("/v1/genesys/clv")),
    endpoint("genesys_route", http::flat_seeds, Form::Json, || http::post("/v1/genesys/route")),
    endpoint("genesys_lead", http::flat_lead_seeds, Form::Json, || http::post("/v1/genesys/lead")),
    endpoint("infer", http::infer_seeds, Form::Json, || http::post("/v2/models/clv/infer")),
    endpoint("infer_call", http::infer_call_seeds, Form::Protobuf, http::infer_call),
    endpoint("outcomes", http::outcome_seeds, Form::Lines, || http::post("/v1/outcomes")),
    endpoint("headers", http::header_seeds, Form::Text, http::headers),
    endpoint("widget", http::widget_seeds, Form::Text, http::widget),
    endpoint("wire", wire::seeds, Form::Text, wire::connection),
    Target { name: "onnx", seeds: models::onnx_seeds, form: Form::Protobuf, open: models::onnx, memory: MODEL },
    Target { name: "lightgbm", seeds: models::lightgbm_seeds, form: Form::Text, open: models::booster, memory: MODEL },
    Target { name: "xgboost", seeds: models::xgboost_seeds, form: Form::Json, open: models::booster, memory: MODEL },
    Target { name: "linear", seeds: models::linear_seeds, form: Form::Json, open: models::linear, memory: MODEL },
    Target { name: "additive", seeds: models::additive_seeds, form: Form::Json, open: models::additive, memory: MODEL },
    Target {
        name: "smartcore",
        seeds: models::smartcore_seeds,
        form: Form::Json,
        open: models::smartcore,
        memory: MODEL,
    },
    Target { name: "manifest", seeds: models::manifest_seeds, form: Form::Text, open: models::manifest, memory: MODEL },
    Target { name: "golden", seeds: models::golden_seeds, form: Form::Lines, open: models::golden, memory: MODEL },
    Target { name: "config", seeds: config::seeds, form: Form::Text, open: config::layers, memory: SMALL },
    Target { name: "csv", seeds: tables::csv_seeds, form: Form::Text, open: tables::csv, memory: tables::MEMORY },
    Target {
        name: "ndjson",
        seeds: tables::ndjson_seeds,
        form: Form::Lines,
        open: tables::ndjson,
        memory: tables::MEMORY,
    },
    Target {
        name: "parquet",
        seeds: tables::parquet_seeds,
        form: Form::Bytes,
        open: tables::parquet,
        memory: tables::MEMORY,
    },
    Target {
        name: "arrow",
        seeds: tables::arrow_seeds,
        form: Form::Bytes,
        open: tables::arrow,
        memory: tables::MEMORY,
    },
    Target {
        name: "purchases",
        seeds: tables::purchase_seeds,
        form: Form::Text,
        open: tables::purchases,
        memory: tables::MEMORY,
    },
];

const fn endpoint(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, form: Form, open: fn() -> Feed) -> Target {
    Target { name, seeds, form, open, memory: SMALL }
}

impl Target {
    /// The seeds, and what has broken this target before: `tests/fixtures/fuzz/<target>/`.
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        let mut corpus = (self.seeds)();
        let folder = root().join("tests/fixtures/fuzz").join(self.name);
        let mut broken: Vec<_> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        broken.sort();
        corpus.extend(broken.iter().map(|path| fs::read(path).expect("a readable fixture")));
        corpus
    }

    /// Feeds one input and returns the most bytes it held at once.
    ///
    /// # Panics
    /// When it panics, needs more memory than its size allows, or takes longer than a second each of three times.
    pub fn check(&self, feed: &mut Feed, input: &[u8]) -> u64 {
        let (once, per_byte) = self.memory;
        let allowed = once + per_byte * input.len() as u64;
        for attempt in 1.. {
            let watch = Stopwatch::start();
            let held = allocation_counter::measure(|| feed(input)).bytes_max;
            let elapsed = watch.elapsed();
            assert!(held <= allowed, "{} bytes of input held {held} bytes, allowed are {allowed}", input.len());
            if elapsed < SLOWEST {
                return held;
            }
            // Other work on the machine can take a second away; not three times for the same input.
            assert!(attempt < 3, "an input of {} bytes took {elapsed:?}", input.len());
        }
        unreachable!("the third attempt returns or panics")
    }
}

/// The repository: this file is compiled into two packages, one of them in a folder of it.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let inside = package.file_name().is_some_and(|name| name == "fuzz");
    package.parent().filter(|_| inside).unwrap_or(package).to_owned()
}

/// Files of the repository that have this ending, smallest first, none above `limit` bytes.
pub fn files(folder: &str, ending: &str, limit: u64) -> Vec<Vec<u8>> {
    let folder = root().join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .filter(|path| path.metadata().is_ok_and(|metadata| metadata.len() <= limit))
        .map(|path| fs::read(path).expect("a readable fixture"))
        .collect();
    files.sort_by_key(Vec::len);
    files
}
