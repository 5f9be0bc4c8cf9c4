//! One suite for every backend: what `Backend` promises, checked in the same way for each.
//!
//! A new backend, or another shape of model for an old one, is one more line in `subjects`.

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use scoreline_engine::features::FeatureSchema;
use scoreline_engine::inference::explain::{Budget, Method, Question, Shares};
use scoreline_engine::inference::onnx_graph::{self, GraphKind, OnnxModel};
use scoreline_engine::inference::smartcore::{self, Kind};
use scoreline_engine::inference::{Backend, BackendError, FeatureMatrix, linear, trees};
use serde_json::json;

use super::onnx_runtime;

struct Subject {
    name: &'static str,
    backend: Box<dyn Backend>,
    /// Rows the model was made for; the suite makes more by mixing their columns.
    sample: Vec<f64>,
}

fn subjects() -> Vec<Subject> {
    let features = ["a", "b", "c"];
    let (sample, _) = onnx_runtime::mlp_rows();
    let onnx = |name, file| Subject { name, backend: onnx_runtime::handle(file, &features), sample: sample.clone() };
    vec![
        onnx("onnx: neural network", "mlp.onnx"),
        onnx("onnx: probabilities", "proba.onnx"),
        onnx("onnx: probabilities in a ZipMap", "zipmap.onnx"),
        onnx("onnx: named inputs, two outputs", "two.onnx"),
        onnx("onnx: a graph that mixes rows", "mixing.onnx"),
        Subject { name: "smartcore: forest", backend: forest(&sample), sample: sample.clone() },
        Subject { name: "smartcore: boosted trees", backend: boosted(&sample), sample: sample.clone() },
        Subject { name: "linear: hurdle", backend: hurdle(&features), sample: sample.clone() },
        Subject { name: "linear: terms, categories and trees", backend: additive(), sample },
        native("trees: masks of 32 leaves", "lightgbm_regressor"),
        native("trees: masks of 64 leaves", "lightgbm_regressor_wide"),
        native("trees: walker", "sklearn_random_forest_deep"),
        native("trees: probabilities", "xgboost_multiclass"),
        booster("trees: LightGBM's text", "categorical.txt"),
        booster("trees: XGBoost's JSON", "xgb_logistic.json"),
        native("linear: ONNX pipeline", "sklearn_min_max_ridge"),
    ]
}

#[test]
fn outputs_have_names_of_their_own() {
    for Subject { name, backend, .. } in subjects() {
        let outputs = backend.outputs();
        assert!(!outputs.is_empty() && backend.inputs() > 0, "{name}");
        for (i, output) in outputs.iter().enumerate() {
            assert!(!output.is_empty() && !outputs[..i].contains(output), "{name}: {outputs:?}");
        }
    }
}

#[test]
fn a_batch_is_its_rows_bit_for_bit_in_any_order() {
    for subject in subjects() {
        let width = subject.backend.inputs();
        for count in [1, 16, 128, 1024] {
            let rows = subject.rows(count);
            let batch = subject.predict(&rows);
            let one_by_one: Vec<u64> = rows.chunks_exact(width).flat_map(|row| bits(&subject.predict(row))).collect();
            assert_eq!(bits(&batch), one_by_one, "{}: {count} rows", subject.name);
            assert_eq!(bits(&subject.predict(&rows)), bits(&batch), "{}: asked again", subject.name);

            let backwards: Vec<f64> = rows.chunks_exact(width).rev().flatten().copied().collect();
            let answers = subject.predict(&backwards);
            let restored: Vec<f64> =
                answers.chunks_exact(subject.backend.outputs().len()).rev().flatten().copied().collect();
            assert_eq!(bits(&restored), bits(&batch), "{}: {count} rows backwards", subject.name);
        }
    }
}

#[test]
fn answers_depend_on_the_row() {
    for subject in subjects() {
        if subject.name == "onnx: a graph that mixes rows" {
            // Alone, each row is the whole sum: all shares are 1.
            continue;
        }
        let answers = subject.predict(&subject.sample);
        let (first, rest) = answers.split_at(subject.backend.outputs().len());
        assert!(rest.chunks_exact(first.len()).any(|answer| answer != first), "{}", subject.name);
        assert!(answers.iter().all(|number| number.is_finite()), "{}: {answers:?}", subject.name);
    }
}

#[test]
fn many_threads_get_the_same_answers() {
    for subject in subjects() {
        let rows = subject.rows(64);
        let expected = bits(&subject.predict(&rows));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        assert_eq!(bits(&subject.predict(&rows)), expected, "{}", subject.name);
                    }
                });
            }
        });
    }
}

#[test]
fn rows_or_room_of_the_wrong_size_are_an_error() {
    for Subject { name, backend, sample } in subjects() {
        let (inputs, outputs) = (backend.inputs(), backend.outputs().len());
        let mut out = vec![0.0; outputs * 8];
        let wide = FeatureMatrix::new(&sample[..(inputs + 1) * 4], inputs + 1);
        let refused = backend.predict(wide, &mut out[..outputs * 4]);
        assert!(matches!(refused, Err(BackendError::Run { .. })), "{name}: {refused:?}");
        let rows = FeatureMatrix::new(&sample[..inputs * 4], inputs);
        for room in [0, outputs * 4 - 1, outputs * 4 + 1] {
            let refused = backend.predict(rows, &mut out[..room]);
            assert!(matches!(refused, Err(BackendError::Run { .. })), "{name}: {refused:?}");
        }
        assert!(backend.predict(rows, &mut out[..outputs * 4]).is_ok(), "{name}: the right size");
    }
}

/// Numbers outside all training ranges, and missing ones, may give any number but no crash and no error.
#[test]
fn strange_numbers_are_answered() {
    let strange = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, f64::MIN_POSITIVE, -0.0, 1e300];
    for subject in subjects() {
        for number in strange {
            subject.predict(&vec![number; subject.backend.inputs() * 3]);
        }
    }
}

/// Pairs of a row and a reference from the sample; some values are missing in both.
fn pairs(subject: &Subject) -> Vec<(Vec<f64>, Vec<f64>)> {
    let rows = subject.rows(24);
    let mut rows = rows.chunks_exact(subject.backend.inputs()).map(<[f64]>::to_vec);
    std::iter::from_fn(|| Some((rows.next()?, rows.next()?))).collect()
}

fn explain(backend: &dyn Backend, row: &[f64], reference: &[f64], output: usize) -> Shares {
    let budget = Budget::of(std::time::Duration::from_mins(1));
    let players: Vec<u32> = (0..row.len() as u32).collect();
    backend.explain(&Question { row, reference, players: &players, output, budget }).expect("explained")
}

#[test]
fn explanations_add_up_and_repeat() {
    for subject in subjects() {
        for (row, reference) in pairs(&subject) {
            let (from, to) = (subject.predict(&reference), subject.predict(&row));
            for output in 0..subject.backend.outputs().len() {
                let shares = explain(&*subject.backend, &row, &reference, output);
                assert_eq!((shares.from, shares.to), (from[output], to[output]), "{}", subject.name);
                let sum: f64 = shares.players.iter().sum();
                let difference = shares.to - shares.from;
                assert!((sum - difference).abs() <= 1e-6 * difference.abs(), "{}: {shares:?}", subject.name);
                for (share, (row, reference)) in shares.players.iter().zip(row.iter().zip(&reference)) {
                    assert!(row != reference || *share == 0.0, "{}: {shares:?}", subject.name);
                }
                assert_eq!(explain(&*subject.backend, &row, &reference, output), shares, "{}", subject.name);
            }
        }
    }
}

/// A model that shows nothing but its answers: what it is explained by is every subset of its features.
struct Opaque<'a>(&'a dyn Backend);

impl Backend for Opaque<'_> {
    fn inputs(&self) -> usize {
        self.0.inputs()
    }
    fn outputs(&self) -> &[String] {
        self.0.outputs()
    }
    fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
        self.0.predict(rows, out)
    }
}

#[test]
fn what_a_model_shows_of_itself_agrees_with_its_answers() {
    let exact = [
        "smartcore: forest",
        "smartcore: boosted trees",
        "trees: masks of 32 leaves",
        "trees: masks of 64 leaves",
        "trees: walker",
        "linear: ONNX pipeline",
    ];
    for subject in subjects().iter().filter(|subject| exact.contains(&subject.name)) {
        for (row, reference) in pairs(subject) {
            let seen = explain(&*subject.backend, &row, &reference, 0);
            let asked = explain(&Opaque(&*subject.backend), &row, &reference, 0);
            assert!(matches!(seen.method, Method::TreeShap | Method::Linear) && asked.method == Method::Exact);
            // Sums over trees are rounded to `f32` in each of the answers.
            let scale = seen.players.iter().map(|share| share.abs()).sum::<f64>() + seen.to.abs() + seen.from.abs();
            for (seen, asked) in seen.players.iter().zip(&asked.players) {
                assert!((seen - asked).abs() <= 2e-6 * scale, "{}: {seen} is not {asked}", subject.name);
            }
        }
    }
}

impl Subject {
    fn rows(&self, count: usize) -> Vec<f64> {
        let width = self.backend.inputs();
        let known = self.sample.len() / width;
        let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let pick = |column: usize| self.sample[rng.next_u32() as usize % known * width + column];
        (0..count * width).map(|i| i % width).map(pick).collect()
    }

    fn predict(&self, rows: &[f64]) -> Vec<f64> {
        let rows = FeatureMatrix::new(rows, self.backend.inputs());
        let mut out = vec![f64::NAN; rows.rows() * self.backend.outputs().len()];
        self.backend.predict(rows, &mut out).unwrap_or_else(|err| panic!("{}: {err}", self.name));
        out
    }
}

fn bits(numbers: &[f64]) -> Vec<u64> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// A forest of hand-made trees in smartcore's serialised form: a split on each column at the sample's values.
fn forest(sample: &[f64]) -> Box<dyn Backend> {
    let leaf = |output: f64| json!({"output": output, "split_feature": 0, "true_child": null, "false_child": null});
    let split = |column: usize, value: f64, children: [usize; 2]| {
        json!({"output": 0.0, "split_feature": column, "split_value": value,
            "true_child": children[0], "false_child": children[1]})
    };
    let tree = |row: &[f64]| {
        let leaves = [leaf(row[0] * 0.7), leaf(row[1] / 3.0), leaf(-row[2])];
        let [first, second, third] = leaves;
        json!({"nodes": [split(0, row[0], [1, 2]), split(1, row[1], [3, 4]), third, first, second]})
    };
    let trees: Vec<_> = sample.chunks_exact(3).map(tree).collect();
    let model = json!({"forest_regressor": {"trees": trees}});
    load(Kind::RandomForestRegressor, &model)
}

fn boosted(sample: &[f64]) -> Box<dyn Backend> {
    let leaf =
        |value: f64| json!({"left": null, "right": null, "value": value, "threshold": 0.0, "split_feature_idx": 0});
    let tree = |(i, row): (usize, &[f64])| {
        json!({"left": leaf(row[1]), "right": leaf(row[2] * 1.1), "value": 0.0, "threshold": row[i % 3],
            "split_feature_idx": i % 3})
    };
    let trees: Vec<_> = sample.chunks_exact(3).enumerate().map(tree).collect();
    let model = json!({"regressors": trees, "parameters": {"base_score": 0.5, "learning_rate": 0.3}});
    load(Kind::XgboostRegressor, &model)
}

fn hurdle(features: &[&str]) -> Box<dyn Backend> {
    let predictor = json!({"intercept": 0.3, "coefficients": [0.5, -0.2, 0.1], "floor": -9.0, "ceiling": 9.0});
    let variant = json!({"uses": features, "purchase": predictor, "spend": predictor, "smearing": 1.2, "sigma": 0.8});
    let model = json!({"kind": "hurdle", "format": "scoreline-linear/1", "variants": [variant]});
    linear::load(model.to_string().as_bytes(), features).expect("loads")
}

/// `a` and `b` are numbers, `c` is a category by its position.
fn additive() -> Box<dyn Backend> {
    let rules = ["a", "b", "c"].map(|name| {
        let categories = if name == "c" { json!(["x", "y"]) } else { json!([]) };
        let rule =
            json!({"name": name, "impute": "none", "min": 0, "max": 1, "mean": 0, "std": 1, "categories": categories});
        serde_json::from_value(rule).expect("a rule")
    });
    let schema = FeatureSchema::new(rules.into(), false).expect("valid");
    let model = json!({"format": "scoreline-additive/1", "intercept": 0.3,
        "terms": [{"number": "a", "coefficient": 0.5, "center": 1.0, "scale": 2.0},
            {"category": "c", "coefficients": [0.2, -0.2], "missing": 0.1}],
        "trees": [[{"feature": "b", "at_most": 0.5, "left": 1, "right": 2}, {"leaf": 0.4}, {"leaf": -0.4}]]});
    scoreline_engine::inference::additive::load(model.to_string().as_bytes(), &schema).expect("loads")
}

/// A boosting library's own file.
fn booster(name: &'static str, file: &str) -> Subject {
    let (backend, sample) = crate::boosters::loaded(file);
    Subject { name, backend, sample }
}

/// An exported graph of the parity fixtures, run natively on the fixtures' own rows of eight features.
fn native(name: &'static str, fixture: &str) -> Subject {
    let read = |file: String| std::fs::read(format!("{}/tests/fixtures/onnx/{file}", env!("CARGO_MANIFEST_DIR")));
    let model = OnnxModel::parse(&read(format!("{fixture}.onnx")).expect("a fixture")).expect("an ONNX file");
    let features = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let backend = match model.kind() {
        GraphKind::Trees => trees::load(&model, &features),
        GraphKind::Linear | GraphKind::Other => onnx_graph::load_linear(&model, &features),
    };
    let rows = read("rows.f32".to_owned()).expect("the fixtures' rows");
    let sample = rows.as_chunks().0[..8 * 64].iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
    Subject { name, backend: backend.expect("loads"), sample }
}

fn load(kind: Kind, model: &serde_json::Value) -> Box<dyn Backend> {
    let bytes = smartcore::write(kind, 3, model).expect("a model");
    smartcore::load(&bytes, &["a", "b", "c"]).expect("loads")
}
