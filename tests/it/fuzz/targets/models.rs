//! Model files and manifests, read as a bundle's are, and run when they load: what is accepted must answer.

use std::fs;

use scoreline::scoring::golden as golden_rows;
use scoreline_engine::inference::bundle::{
    BundleFiles, GOLDEN_FILE, GoldenRow, LoadSettings, MANIFEST_FILE, sha256_hex,
};
use scoreline_engine::inference::explain::{Budget, Question};
use scoreline_engine::inference::manifest::Manifest;
use scoreline_engine::inference::onnx_graph::{self, OnnxModel};
use scoreline_engine::inference::{
    Backend, FeatureMatrix, ModelSnapshot, additive as additive_file, linear as linear_file,
};
use scoreline_engine::inference::{smartcore as smartcore_file, trees};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

use super::{Feed, files, root};

/// A model's own explanation of one row is cut off after this.
const EXPLAINING: Duration = Duration::from_millis(5);
/// The fixtures of ONNX models that are small enough to be bent many times a second.
const LARGEST_SEED: u64 = 32 * 1024;
const SHIPPED: [&str; 3] = ["clv/v1.2", "clv-purchases/v1.0", "lead/v1.1"];

/// Features of the ONNX fixtures, in column order.
fn onnx_features() -> Vec<String> {
    #[derive(Deserialize)]
    struct Cases {
        features: Vec<String>,
    }
    let text = fs::read(root().join("crates/engine/tests/fixtures/onnx/cases.json")).expect("a fixture");
    serde_json::from_slice::<Cases>(&text).expect("cases.json lists the features").features
}

/// Bytes as an ONNX graph, for both backends that read one.
pub fn onnx() -> Feed {
    let features = onnx_features();
    Box::new(move |input| {
        let features: Vec<&str> = features.iter().map(String::as_str).collect();
        let Ok(model) = OnnxModel::parse(input) else { return };
        for load in [trees::load, onnx_graph::load_linear] {
            if let Ok(backend) = load(&model, &features) {
                run(&*backend);
            }
        }
    })
}

/// Columns that the boosters of the fixtures were fitted on.
const BOOSTER_FEATURES: [&str; 5] = ["recency_days", "purchase_count", "tenure_days", "monetary_avg", "channel"];

/// Bytes as a boosting library's own file.
pub fn booster() -> Feed {
    Box::new(|input| {
        if let Ok(backend) = trees::load_booster(input, &BOOSTER_FEATURES, &[]) {
            run(&*backend);
        }
    })
}

pub fn linear() -> Feed {
    let schema = shipped("clv/v1.2");
    let names: Vec<String> = schema.schema().column_names().map(str::to_owned).collect();
    Box::new(move |input| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Ok(backend) = linear_file::load(input, &names) {
            run(&*backend);
        }
        if let Ok(backend) = linear_file::load_with_schema(input, schema.schema()) {
            run(&*backend);
        }
    })
}

pub fn additive() -> Feed {
    let lead = shipped("lead/v1.1");
    Box::new(move |input| {
        let _ = additive_file::is_additive(input);
        if let Ok(backend) = additive_file::load(input, lead.schema()) {
            run(&*backend);
        }
    })
}

pub fn smartcore() -> Feed {
    Box::new(|input| {
        if let Ok(backend) = smartcore_file::load(input, &["a", "b", "c"]) {
            run(&*backend);
        }
    })
}

/// A manifest beside each of the shipped models; golden rows are run when it loads.
pub fn manifest() -> Feed {
    let models = SHIPPED.map(|version| (model_of(version), golden_of(version)));
    Box::new(move |input| {
        let Some(manifest) = std::str::from_utf8(input).ok().and_then(|text| toml::from_str::<Manifest>(text).ok())
        else {
            return;
        };
        for (model, golden) in &models {
            let manifest = Manifest { sha256: sha256_hex(model), ..manifest.clone() };
            let files = BundleFiles::from_parts(manifest, model.clone(), golden.clone());
            let Ok(snapshot) = files.and_then(|files| ModelSnapshot::build(files, &LoadSettings::default())) else {
                continue;
            };
            // What the golden rows say is another model's answer; they only have to be answered.
            for row in golden {
                let _ = golden_rows::answer(&snapshot, row);
            }
        }
    })
}

/// Golden rows in the folder of the shipped lead model.
pub fn golden() -> Feed {
    let folder = tempfile::tempdir().expect("temporary folder");
    let from = root().join("models/clv/v1.2");
    for file in [MANIFEST_FILE, "model.json"] {
        fs::copy(from.join(file), folder.path().join(file)).expect("copied");
    }
    Box::new(move |input| {
        fs::write(folder.path().join(GOLDEN_FILE), input).expect("written");
        let files = BundleFiles::read(folder.path());
        if let Ok(snapshot) = files.and_then(|files| ModelSnapshot::build(files, &LoadSettings::default())) {
            let _ = golden_rows::verify(&snapshot);
        }
    })
}

/// Ordinary and hostile rows, one by one and together: answers are the same, and nothing panics.
fn run(backend: &dyn Backend) {
    let width = backend.inputs();
    let outputs = backend.outputs().len();
    let values = [0.0, 1.0, -1.0, 0.5, 48.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, f64::MIN_POSITIVE];
    let rows: Vec<f64> = (0..16).flat_map(|row| (0..width).map(move |at| values[(row * 7 + at * 3) % 10])).collect();
    let mut together = vec![0.0; 16 * outputs];
    let ran = backend.predict(FeatureMatrix::new(&rows, width), &mut together);
    for (row, answer) in rows.chunks_exact(width).zip(together.chunks_exact(outputs)) {
        let mut alone = vec![0.0; outputs];
        if backend.predict(FeatureMatrix::new(row, width), &mut alone).is_ok() && ran.is_ok() {
            let same = alone.iter().zip(answer).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
            assert!(same, "a row alone gave {alone:?}, beside others {answer:?}");
        }
    }
    let players: Vec<u32> = (0..width as u32).collect();
    let (row, reference) = (&rows[..width], &rows[width..2 * width]);
    let question = Question { row, reference, players: &players, output: 0, budget: Budget::of(EXPLAINING) };
    if let Ok(shares) = backend.explain(&question) {
        assert!(shares.finite().is_ok_and(|_| true) || ran.is_ok(), "shares of a model that runs");
    }
}

fn shipped(version: &str) -> ModelSnapshot {
    ModelSnapshot::load(&root().join("models").join(version), &LoadSettings::default()).expect("a shipped model loads")
}

fn golden_of(version: &str) -> Vec<GoldenRow> {
    // A few: a manifest is tried with every shipped model.
    shipped(version).golden().iter().take(4).cloned().collect()
}

fn model_of(version: &str) -> Vec<u8> {
    fs::read(root().join("models").join(version).join("model.json")).expect("a shipped model")
}

pub fn onnx_seeds() -> Vec<Vec<u8>> {
    files("crates/engine/tests/fixtures/onnx", "onnx", LARGEST_SEED)
}

pub fn lightgbm_seeds() -> Vec<Vec<u8>> {
    files("crates/engine/tests/fixtures/boosters", "txt", LARGEST_SEED)
}

pub fn xgboost_seeds() -> Vec<Vec<u8>> {
    files("crates/engine/tests/fixtures/boosters", "json", LARGEST_SEED)
}

pub fn linear_seeds() -> Vec<Vec<u8>> {
    let predictor = json!({"intercept": 0.3, "coefficients": [0.5, -0.2], "floor": -9.0, "ceiling": 9.0});
    let uses = ["recency_days", "frequency_count"];
    let hurdle = json!({"uses": uses, "purchase": predictor, "spend": predictor, "smearing": 1.2, "sigma": 0.8});
    let regression = |link: &str| {
        json!({"kind": "regression", "format": "scoreline-linear/1", "link": link,
            "variants": [{"uses": uses, "predictor": predictor}]})
    };
    let made = [
        json!({"kind": "hurdle", "format": "scoreline-linear/1", "variants": [hurdle]}),
        regression("log"),
        regression("logit"),
    ];
    let made = made.iter().map(|model| model.to_string().into_bytes());
    made.chain(["clv/v1.2", "clv-purchases/v1.0"].map(model_of)).collect()
}

pub fn additive_seeds() -> Vec<Vec<u8>> {
    let small = json!({"format": "scoreline-additive/1", "intercept": -2.0,
        "terms": [{"number": "age", "coefficient": 0.5, "center": 40.0, "scale": 10.0},
            {"category": "contact", "coefficients": [0.5, -0.5], "missing": 0.0}],
        "trees": [[{"feature": "previous", "at_most": 3.0, "left": 1, "right": 2}, {"leaf": 0.0}, {"leaf": 1.0}]]});
    vec![small.to_string().into_bytes()]
}

pub fn smartcore_seeds() -> Vec<Vec<u8>> {
    let leaf = |output: f64| json!({"output": output, "split_feature": 0, "true_child": null, "false_child": null});
    let split = |column: usize, value: f64, children: [usize; 2]| {
        json!({"output": 0.0, "split_feature": column, "split_value": value,
            "true_child": children[0], "false_child": children[1]})
    };
    let tree = json!({"nodes": [split(0, 0.5, [1, 2]), split(1, 1.5, [3, 4]), leaf(1.0), leaf(2.0), leaf(3.0)]});
    let forest = json!({"forest_regressor": {"trees": [tree, tree]}});
    let end = json!({"left": null, "right": null, "value": 1.5, "threshold": 0.0, "split_feature_idx": 0});
    let boosted = json!({"left": end, "right": end, "value": 0.0, "threshold": 0.5, "split_feature_idx": 2});
    let boosted = json!({"regressors": [boosted], "parameters": {"base_score": 0.5, "learning_rate": 0.3}});
    let kinds = [
        ("decision_tree_regressor", json!({"tree_regressor": tree})),
        ("random_forest_regressor", forest.clone()),
        ("extra_trees_regressor", forest),
        ("xgboost_regressor", boosted),
    ];
    let envelope = |(kind, model): (&str, serde_json::Value)| {
        json!({"format": "scoreline-smartcore/1", "kind": kind, "inputs": 3, "model": model}).to_string().into_bytes()
    };
    kinds.into_iter().map(envelope).collect()
}

pub fn manifest_seeds() -> Vec<Vec<u8>> {
    SHIPPED.iter().map(|version| text_of(version, MANIFEST_FILE)).collect()
}

pub fn golden_seeds() -> Vec<Vec<u8>> {
    SHIPPED.iter().map(|version| text_of(version, GOLDEN_FILE)).collect()
}

fn text_of(version: &str, file: &str) -> Vec<u8> {
    fs::read(root().join("models").join(version).join(file)).expect("a shipped bundle")
}

#[test]
fn every_seed_is_a_good_model() {
    let features = onnx_features();
    let features: Vec<&str> = features.iter().map(String::as_str).collect();
    let loads = |model: &[u8]| {
        let model = OnnxModel::parse(model).ok()?;
        trees::load(&model, &features).or_else(|_| onnx_graph::load_linear(&model, &features)).ok()
    };
    let onnx = onnx_seeds();
    let loaded = onnx.iter().filter(|model| loads(model).is_some()).count();
    assert!(onnx.len() > 40 && loaded * 10 > onnx.len() * 8, "{loaded} of {} load", onnx.len());
    for boosters in [lightgbm_seeds(), xgboost_seeds()] {
        // Some of each are there to be refused.
        let loads = |model: &&Vec<u8>| trees::load_booster(model, &BOOSTER_FEATURES, &[]).is_ok();
        assert!(boosters.iter().filter(loads).count() >= 9, "of {}", boosters.len());
    }
    let [clv, lead] = ["clv/v1.2", "lead/v1.1"].map(shipped);
    let seeds = linear_seeds();
    let (made, shipped) = seeds.split_at(3);
    assert!(made.iter().all(|model| linear_file::load(model, &["recency_days", "frequency_count"]).is_ok()));
    assert!(linear_file::load_with_schema(&shipped[0], clv.schema()).is_ok());
    assert!(additive_seeds().iter().all(|model| additive_file::load(model, lead.schema()).is_ok()));
    for model in smartcore_seeds() {
        let loaded = smartcore_file::load(&model, &["a", "b", "c"]);
        assert!(loaded.is_ok(), "{:?}: {}", loaded.err(), model.escape_ascii());
    }
}
