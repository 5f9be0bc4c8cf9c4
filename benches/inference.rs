//! Every backend on 1, 64 and 1,024 rows, in process, and explaining one.
//!
//! `cargo bench --profile dist --bench inference`. The `onnx` backend needs `ORT_DYLIB_PATH` and `ORT_DISABLE_TELEMETRY=1`; without
//! them it is left out, and said so. With `-- --rows-of-trees` only the native trees are timed, for `peers/trees.py`.

#![expect(unreachable_pub, reason = "nothing is outside of a bench")]
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "support/paired.rs"]
mod paired;
#[path = "support/run.rs"]
mod run;

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use futures_util::FutureExt as _;
use scoreline::scoring::explanation::{Detail, explain};
use scoreline_engine::inference::bundle::{LoadSettings, ModelSnapshot, ReadCustomer};
use scoreline_engine::inference::explain::{Budget, Question};
use scoreline_engine::inference::onnx_graph::OnnxModel;
use scoreline_engine::inference::runtime_search::RuntimeSearch;
use scoreline_engine::inference::smartcore::{Kind, write};
use scoreline_engine::inference::{Backend, FeatureMatrix, onnx, smartcore, trees};
use serde_json::json;

const FEATURES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const BATCHES: [usize; 3] = [1, 64, 1024];
/// As in `peers/trees.py`: more than a branch predictor learns.
const DISTINCT_ROWS: usize = 16_384;
/// 200 trees of 31 leaves on 8 features; see `fixtures/make.py`.
const FOREST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/fixtures/lightgbm_200x31.onnx");

fn inference(criterion: &mut Criterion) {
    let forest = std::fs::read(FOREST).expect("the fixture");
    let graph = OnnxModel::parse(&forest).expect("an ONNX file");
    let native = trees::load(&graph, &FEATURES).expect("loads");
    let mut backends = vec![("trees_200x31", native), ("smartcore_forest_100x32", smartcore_forest())];
    match onnx::open(&forest, &FEATURES, &search(), 1) {
        Ok(mut handles) => backends.extend(handles.pop().map(|handle| ("onnx_200x31", handle))),
        Err(err) => println!("onnx backend left out: {err}"),
    }
    let mut group = criterion.benchmark_group("inference");
    for (name, backend) in &backends {
        for batch in BATCHES {
            let (rows, mut out) = (rows(batch), vec![0.0; batch * backend.outputs().len()]);
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_with_input(BenchmarkId::new(*name, batch), &rows, |bencher, rows| {
                bencher.iter(|| backend.predict(FeatureMatrix::new(rows, 8), &mut out).expect("runs"));
            });
        }
    }
    shipped(&mut group);
    group.finish();
    explanations(criterion, &backends);
    if run::is_smoke() {
        return;
    }
    rows_of_trees();
    println!("one row at a time, time over the native trees', 15 paired rounds:");
    let rows = rows(1024);
    let one_by_one = |backend: &dyn Backend| {
        let mut out = vec![0.0; backend.outputs().len()];
        for row in rows.chunks_exact(8) {
            backend.predict(FeatureMatrix::new(row, 8), &mut out).expect("runs");
        }
    };
    for (name, backend) in &backends[1..] {
        let [low, ratio, high] =
            paired::paired(15, || one_by_one(backends[0].1.as_ref()), || one_by_one(backend.as_ref()));
        println!("  {name:<24} {ratio:.2} ({low:.2} .. {high:.2})");
    }
}

/// The shipped hurdle through the same call, with its own columns.
fn shipped(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/clv/v1.2"));
    let snapshot = ModelSnapshot::load(folder, &LoadSettings::default()).expect("the shipped model loads");
    let width = snapshot.schema().columns();
    for batch in BATCHES {
        let rows: Vec<f64> = (0..batch * width).map(|i| (i * 37 % 101) as f64 / 50.0 - 1.0).collect();
        let mut out = vec![0.0; batch * snapshot.engine().outputs().len()];
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_with_input(BenchmarkId::new("linear_hurdle", batch), &rows, |bencher, rows| {
            bencher.iter(|| snapshot.engine().run(FeatureMatrix::new(rows, width), &mut out).expect("runs"));
        });
    }
}

/// What backends see of one output, and the reasons of a golden customer, as `explain: true` asks for them.
fn explanations(criterion: &mut Criterion, backends: &[(&str, Box<dyn Backend>)]) {
    let mut group = criterion.benchmark_group("explain");
    let mut case = |name: &str, backend: &dyn Backend| {
        let rows: Vec<f64> =
            (0..2 * backend.inputs()).map(|i| ((i * 7919 % 4001) as f64 / 4001.0 - 0.5) * 5.0).collect();
        let (reference, row) = rows.split_at(backend.inputs());
        let players: Vec<u32> = (0..backend.inputs() as u32).collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let budget = Budget::of(Duration::from_secs(1));
                backend.explain(&Question { row, reference, players: &players, output: 0, budget }).expect("explained")
            });
        });
    };
    for (name, backend) in backends {
        case(name, backend.as_ref());
    }
    for model in ["clv/v1.2", "clv-purchases/v1.0"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(model);
        let snapshot = ModelSnapshot::load(&folder, &LoadSettings::default()).expect("a shipped model loads");
        let known = snapshot.golden().iter().filter_map(|golden| {
            let features = golden.request.features.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
            match snapshot.read(features) {
                Ok(ReadCustomer::Known(given)) => Some(given.raw),
                _ => None,
            }
        });
        let fullest = known.max_by_key(|raw| raw.iter().filter(|value| !value.is_nan()).count()).expect("a customer");
        for (detail, name) in [(Detail::Groups, "groups"), (Detail::Members, "members")] {
            group.bench_function(format!("{model} {name}"), |bencher| {
                bencher.iter(|| {
                    let budget = Budget::of(Duration::from_secs(1));
                    let column = &snapshot.roles().value;
                    let explained = explain(&snapshot, &fullest, column, |value| value, detail, budget);
                    explained.now_or_never().expect("an inline model does not wait").expect("explained")
                });
            });
        }
    }
    group.finish();
}

/// Nanoseconds per row of the native trees, as medians: row by row, and in batches.
fn rows_of_trees() {
    let graph = OnnxModel::parse(&std::fs::read(FOREST).expect("the fixture")).expect("an ONNX file");
    let native = trees::load(&graph, &FEATURES).expect("loads");
    let rows = rows(DISTINCT_ROWS);
    println!("instructions: {}", trees::instruction_set());
    for (batch, name) in [(1, "one row"), (64, "batch of 64"), (1024, "batch of 1,024")] {
        let mut out = vec![0.0; batch];
        let [low, median, high] = per_row(|| {
            for rows in rows.chunks_exact(8 * batch) {
                native.predict(FeatureMatrix::new(rows, 8), &mut out).expect("runs");
            }
        });
        println!("trees_200x31, {name}: {median:.0} ns per row ({low:.0} .. {high:.0})");
    }
}

/// Smallest, median and largest of 15 rounds.
#[expect(clippy::disallowed_methods, reason = "a bench is a stopwatch")]
fn per_row(mut all_rows: impl FnMut()) -> [f64; 3] {
    all_rows();
    run::median_of((0..15).map(|_| {
        let start = Instant::now();
        all_rows();
        start.elapsed().as_secs_f64() * 1e9 / DISTINCT_ROWS as f64
    }))
}

/// About normal: sums of four uniform numbers from splitmix64 (Steele, Lea & Flood 2014), the rows of `peers/trees.py`.
fn rows(count: usize) -> Vec<f64> {
    let uniform = |number: u64| {
        let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((state ^ (state >> 31)) >> 11) as f64 / 2.0_f64.powi(53)
    };
    let value = |at: u64| ((1..=4).map(|part| uniform(4 * at + part)).sum::<f64>() - 2.0) * 3.0_f64.sqrt();
    (0..count as u64 * 8).map(value).collect()
}

/// 100 balanced trees of 32 leaves in smartcore's own form.
fn smartcore_forest() -> Box<dyn Backend> {
    let tree = |number: usize| {
        let nodes: Vec<_> = (0..63)
            .map(|node: usize| {
                if node < 31 {
                    json!({"output": 0.0, "split_feature": (node + number) % 8,
                        "split_value": ((node * 31 + number * 17) % 40) as f64 / 10.0 - 2.0,
                        "true_child": 2 * node + 1, "false_child": 2 * node + 2})
                } else {
                    json!({"output": ((node * number) % 97) as f64, "split_feature": 0, "true_child": null,
                        "false_child": null})
                }
            })
            .collect();
        json!({"nodes": nodes})
    };
    let model = json!({"forest_regressor": {"trees": (0..100).map(tree).collect::<Vec<_>>()}});
    let bytes = write(Kind::RandomForestRegressor, 8, &model).expect("a forest");
    smartcore::load(&bytes, &FEATURES).expect("loads")
}

#[expect(clippy::disallowed_methods, reason = "a bench has no settings but the environment")]
fn search() -> RuntimeSearch {
    RuntimeSearch::new(None, |name| std::env::var_os(name))
}

criterion_group!(benches, inference);

fn main() {
    if std::env::args().any(|argument| argument == "--rows-of-trees") {
        rows_of_trees();
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
