//! Models of `LightGBM`, `XGBoost`, scikit-learn and hand-made graphs: scoreline answers what ONNX Runtime answers.
//!
//! The models, the rows and ONNX Runtime's answers are made by `tests/fixtures/onnx/make.py`.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use scoreline_engine::inference::explain::{Budget, Method, Question};
use scoreline_engine::inference::onnx_graph::{self, GraphKind, OnnxModel};
use scoreline_engine::inference::{Backend, BackendError, FeatureMatrix, trees};
use serde::Deserialize;

/// Relative difference that counts as the same.
const TOLERANCE: f64 = 1e-5;
/// Below this, differences are measured against this: 1e-5 of it is the distance of two `f32` at 1, where
/// probabilities and their complements are rounded.
const FLOOR: f64 = 1e-2;

#[derive(Deserialize)]
struct Fixtures {
    features: Vec<String>,
    rows: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    maker: String,
    rows: String,
    backend: String,
    outputs: Vec<String>,
}

impl Case {
    fn is_native(&self) -> bool {
        matches!(self.backend.as_str(), "trees" | "linear")
    }
}

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(name: &str) -> Vec<f64> {
    fixture(name).as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect()
}

fn fixtures() -> Fixtures {
    serde_json::from_slice(&fixture("cases.json")).expect("cases.json is what make.py writes")
}

fn rows(case: &Case) -> Vec<f64> {
    floats(if case.rows == "missing" { "rows_missing.f32" } else { "rows.f32" })
}

fn load(case: &Case, features: &[&str]) -> Box<dyn Backend> {
    let model = OnnxModel::parse(&fixture(&format!("{}.onnx", case.name))).expect("readable");
    let loaded =
        if case.backend == "trees" { trees::load(&model, features) } else { onnx_graph::load_linear(&model, features) };
    loaded.unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

fn predict(backend: &dyn Backend, rows: &[f64]) -> Vec<f64> {
    let rows = FeatureMatrix::new(rows, backend.inputs());
    let mut out = vec![0.0; rows.rows() * backend.outputs().len()];
    backend.predict(rows, &mut out).expect("runs");
    out
}

fn difference(ours: f64, theirs: f64) -> f64 {
    if ours == theirs || (ours.is_nan() && theirs.is_nan()) {
        0.0
    } else if ours.is_finite() && theirs.is_finite() {
        (ours - theirs).abs() / theirs.abs().max(FLOOR)
    } else {
        f64::INFINITY
    }
}

#[test]
fn every_exporter_is_reproduced() {
    let Fixtures { features, rows: expected_rows, cases } = fixtures();
    let features: Vec<&str> = features.iter().map(String::as_str).collect();
    let mut failed = Vec::new();
    println!(
        "{:13} {:45} {:>5} {:>7} {:>12} {:>10}",
        "exporter", "model", "rows", "outputs", "max rel diff", "over 1e-5"
    );
    for case in cases.iter().filter(|case| case.is_native()) {
        let backend = load(case, &features);
        assert_eq!(backend.outputs(), case.outputs, "{}", case.name);
        let rows = rows(case);
        let ours = predict(&*backend, &rows);
        let theirs = floats(&format!("{}.f32", case.name));
        assert_eq!((ours.len(), rows.len()), (theirs.len(), expected_rows * features.len()), "{}", case.name);
        let width = case.outputs.len();
        let differences: Vec<f64> = ours
            .chunks_exact(width)
            .zip(theirs.chunks_exact(width))
            .map(|(ours, theirs)| ours.iter().zip(theirs).map(|(&a, &b)| difference(a, b)).fold(0.0, f64::max))
            .collect();
        let worst = differences.iter().copied().fold(0.0, f64::max);
        let over = differences.iter().filter(|&&difference| difference > TOLERANCE).count();
        println!("{:13} {:45} {:5} {width:7} {worst:12.1e} {over:10}", case.maker, case.name, differences.len());
        if over > 0 {
            failed.push(case.name.as_str());
        }
    }
    assert!(failed.is_empty(), "rows differ from ONNX Runtime by more than {TOLERANCE}: {failed:?}");
}

#[test]
fn a_row_scores_the_same_alone_and_in_a_batch() {
    let Fixtures { features, cases, .. } = fixtures();
    let features: Vec<&str> = features.iter().map(String::as_str).collect();
    for case in cases.iter().filter(|case| case.is_native()) {
        let backend = load(case, &features);
        let rows = rows(case);
        let batch = predict(&*backend, &rows);
        let width = backend.outputs().len();
        for (row, batched) in rows.chunks_exact(features.len()).zip(batch.chunks_exact(width)).step_by(97) {
            let alone = predict(&*backend, row);
            let same = alone.iter().zip(batched).all(|(alone, batched)| alone.to_bits() == batched.to_bits());
            assert!(same, "{}: {alone:?} alone, {batched:?} in a batch", case.name);
        }
    }
}

#[test]
fn every_exporter_is_explained() {
    let Fixtures { features, cases, .. } = fixtures();
    let features: Vec<&str> = features.iter().map(String::as_str).collect();
    let players: Vec<u32> = (0..features.len() as u32).collect();
    let mut by_answers = Vec::new();
    for case in cases.iter().filter(|case| case.is_native()) {
        let backend = load(case, &features);
        let rows = rows(case);
        let rows: Vec<&[f64]> = rows.chunks_exact(features.len()).collect();
        let mut asked = false;
        for at in (0..rows.len() - 1).step_by(rows.len() / 6) {
            let (row, reference) = (rows[at], rows[at + 1]);
            let (from, to) = (predict(&*backend, reference), predict(&*backend, row));
            for output in 0..case.outputs.len() {
                let name = format!("{} output {output}", case.name);
                let budget = Budget::of(std::time::Duration::from_mins(1));
                let shares = match backend.explain(&Question { row, reference, players: &players, output, budget }) {
                    Ok(shares) => shares,
                    // A normal quantile of what is no probability.
                    Err(_) if !(from[output].is_finite() && to[output].is_finite()) => continue,
                    // The same for a mixture of the rows.
                    Err(_) if name.contains("probit") => continue,
                    Err(error) => panic!("{name}: {error}"),
                };
                assert_eq!((shares.from, shares.to), (from[output], to[output]), "{name}");
                let (sum, difference) = (shares.players.iter().sum::<f64>(), shares.to - shares.from);
                assert!((sum - difference).abs() <= 1e-6 * difference.abs().max(1e-9), "{name}: {shares:?}");
                asked |= !matches!(shares.method, Method::TreeShap | Method::Linear);
            }
        }
        if asked {
            by_answers.push(case.name.as_str());
        }
    }
    assert_eq!(by_answers, EXPLAINED_BY_ANSWERS);
}

/// Models that are no sums: norms over classes or features, minima and maxima over trees, softmaxes that leave scores out.
const EXPLAINED_BY_ANSWERS: &[&str] = &[
    "sklearn_logistic_classes",
    "sklearn_normalizer_ridge",
    "hand_min",
    "hand_min_targets",
    "hand_min_some_targets",
    "hand_max",
    "hand_max_targets",
    "hand_max_some_targets",
    "hand_softmax_zero_targets",
    "hand_softmax_zero_classes",
    "hand_softmax_zero_both_classes",
    "hand_modern_min",
    "hand_modern_max",
    "hand_modern_softmax_zero",
];

#[test]
fn kinds_tell_which_backend_runs_a_graph() {
    for case in fixtures().cases {
        let model = OnnxModel::parse(&fixture(&format!("{}.onnx", case.name))).expect("readable");
        let expected = match case.backend.as_str() {
            "trees" | "refused" => GraphKind::Trees,
            "linear" => GraphKind::Linear,
            _ => GraphKind::Other,
        };
        assert_eq!(model.kind(), expected, "{}", case.name);
    }
}

#[test]
fn a_network_is_left_to_onnx_runtime() {
    let model = OnnxModel::parse(&fixture("sklearn_network.onnx")).expect("readable");
    let features = fixtures().features;
    let features: Vec<&str> = features.iter().map(String::as_str).collect();
    let message = |error: Option<BackendError>| error.map(|error| error.to_string()).unwrap_or_default();
    let trees = message(trees::load(&model, &features).err());
    assert_eq!(trees, "trees backend does not support a graph without a tree ensemble");
    let linear = message(onnx_graph::load_linear(&model, &features).err());
    assert_eq!(linear, "linear backend does not support a graph that is not one linear model");
}

#[test]
fn a_model_that_lost_a_target_is_refused() {
    let Fixtures { features, cases, .. } = fixtures();
    let features: Vec<&str> = features.iter().map(String::as_str).collect();
    let refused: Vec<_> = cases.iter().filter(|case| case.backend == "refused").collect();
    assert_eq!(refused.len(), 1);
    for case in refused {
        let model = OnnxModel::parse(&fixture(&format!("{}.onnx", case.name))).expect("readable");
        let message = trees::load(&model, &features).err().map(|error| error.to_string());
        let expected = "model file is not readable as ONNX: operator `TreeEnsembleRegressor`: no leaf has a weight for \
                        target 1 of 2";
        assert_eq!(message.as_deref(), Some(expected), "{}", case.name);
    }
}

#[test]
fn inputs_are_matched_by_name_or_refused() {
    let model = OnnxModel::parse(&fixture("sklearn_named_inputs_forest.onnx")).expect("readable");
    let features = fixtures().features;
    let mut features: Vec<&str> = features.iter().map(String::as_str).collect();
    let message = |features: &[&str]| trees::load(&model, features).err().map(|error| error.to_string());
    assert_eq!(message(&features), None);
    assert_eq!(message(&features[1..]).as_deref(), Some("model reads 8 columns but the bundle lists 7 features"));
    features[2] = "shoe_size";
    assert_eq!(
        message(&features).as_deref(),
        Some("trees backend does not support input `avg_handling_time_sec`, which is not a feature of the bundle")
    );
}

/// Whatever a file holds, reading, loading and running it ends in an answer or an error.
fn survive(bytes: &[u8]) {
    let features = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let Ok(model) = OnnxModel::parse(bytes) else { return };
    let loaded = [trees::load(&model, &features), onnx_graph::load_linear(&model, &features)];
    for backend in loaded.into_iter().flatten() {
        predict(&*backend, &[1.0, 5.0, 200.0, 0.1, f64::NAN, -1e30, 1e30, 3.0]);
    }
}

#[test]
fn a_torn_file_is_an_error() {
    for name in ["hand_modern_member.onnx", "hand_glue.onnx", "sklearn_imputer_logistic.onnx"] {
        let bytes = fixture(name);
        for end in (0..bytes.len()).step_by(7) {
            survive(&bytes[..end]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_never_a_panic(
        which in 0_usize..7,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let names = [
            "hand_branch_mixed", "hand_modern_member", "hand_glue", "hand_gemm", "hand_double_classifier",
            "sklearn_imputer_logistic", "sklearn_bagging",
        ];
        let mut bytes = fixture(&format!("{}.onnx", names[which]));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        survive(&bytes);
    }
}
