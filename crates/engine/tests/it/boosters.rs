//! Model files that `LightGBM` and `XGBoost` write themselves: scoreline answers what the library predicts.
//!
//! The files, the rows and the predictions are made by `tests/fixtures/boosters/make.py`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use scoreline_engine::features::FeatureRule;
use scoreline_engine::inference::explain::{Budget, Method, Question};
use scoreline_engine::inference::trees::{is_booster, load_booster};
use scoreline_engine::inference::{Backend, BackendError, FeatureMatrix};

const FEATURES: [&str; 5] = ["recency_days", "purchase_count", "tenure_days", "monetary_avg", "channel"];
/// Relative difference that counts as the same: `LightGBM` computes in doubles, `XGBoost` in singles.
const DOUBLE: f64 = 1e-14;
const SINGLE: f64 = 1e-6;

fn file(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/boosters").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(name: &str) -> String {
    String::from_utf8(file(name)).expect("a text")
}

/// A table's header, and its numbers row by row; an empty field is missing.
fn table(name: &str) -> (Vec<String>, Vec<f64>) {
    let text = text(name);
    let mut lines = text.lines();
    let header = lines.next().expect("a header").split(',').map(str::to_owned).collect();
    let number = |field: &str| if field.is_empty() { f64::NAN } else { field.parse().expect("a number") };
    (header, lines.flat_map(|line| line.split(',').map(number).collect::<Vec<_>>()).collect())
}

/// A file as a backend, with the rows of the fixtures.
pub fn loaded(name: &str) -> (Box<dyn Backend>, Vec<f64>) {
    let backend = load_booster(&file(name), &FEATURES, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
    (backend, table("rows.csv").1)
}

fn refused(model: &[u8], features: &[&str], rules: &[FeatureRule]) -> String {
    load_booster(model, features, rules).err().expect("refused").to_string()
}

fn predict(backend: &dyn Backend, rows: &[f64]) -> Vec<f64> {
    let rows = FeatureMatrix::new(rows, backend.inputs());
    let mut out = vec![0.0; rows.rows()];
    backend.predict(rows, &mut out).expect("runs");
    out
}

#[test]
fn every_file_answers_as_its_library_predicts() {
    let (names, predicted) = table("predictions.csv");
    let mut differences = String::new();
    for (column, name) in names.iter().enumerate() {
        let Ok(backend) = load_booster(&file(name), &FEATURES, &[]) else {
            assert!(["linear_tree.txt", "xgb_linear.json"].contains(&name.as_str()), "{name} is refused");
            continue;
        };
        assert_eq!(backend.outputs(), ["prediction"]);
        let is_text = Path::new(name).extension().is_some_and(|extension| extension == "txt");
        let tolerance = if is_text { DOUBLE } else { SINGLE };
        let ours = predict(&*backend, &table("rows.csv").1);
        for (row, ours) in ours.into_iter().enumerate() {
            let theirs = predicted[row * names.len() + column];
            let difference = (ours - theirs).abs() / theirs.abs().max(1e-2);
            if difference > tolerance {
                let _ = writeln!(differences, "{name} row {row}: {ours} is not {theirs}");
            }
        }
    }
    assert!(names.len() >= 23, "{names:?}");
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn answers_of_trees_are_explained_exactly() {
    for name in ["tweedie.txt", "categorical.txt", "zero_as_missing.txt", "forest.txt", "binary.txt", "xgb_dart.json"] {
        let (backend, rows) = loaded(name);
        for pair in rows.chunks_exact(2 * FEATURES.len()).take(20) {
            let (row, reference) = pair.split_at(FEATURES.len());
            let budget = Budget::of(std::time::Duration::from_mins(1));
            let players = [0, 1, 2, 3, 4];
            let question = Question { row, reference, players: &players, output: 0, budget };
            let shares = backend.explain(&question).expect("explained");
            assert_eq!(shares.method, Method::TreeShap, "{name}");
            let sum: f64 = shares.players.iter().sum();
            let difference = shares.to - shares.from;
            assert!((sum - difference).abs() <= 1e-6 * difference.abs().max(1e-9), "{name}: {shares:?}");
        }
    }
}

#[test]
fn what_is_not_run_here_is_refused_by_name() {
    for (name, says) in [
        ("linear_tree.txt", "linear models in leaves (`linear_tree`)"),
        ("multiclass.txt", "a model of several classes or targets"),
        ("pandas_categorical.txt", "categories of a pandas column that are not those of the bundle's features"),
        ("xgb_linear.json", "the booster `gblinear`"),
        ("xgb_multiclass.json", "a model of several classes or targets"),
        ("xgb_categorical.json", "splits by category (`enable_categorical`)"),
    ] {
        let refused = refused(&file(name), &FEATURES, &[]);
        assert!(refused.contains(says), "{name}: {refused}");
    }
    let regression = text("regression.txt");
    for (from, to, says) in [
        ("objective=regression", "objective=lambdarank", "the objective `lambdarank`"),
        ("objective=regression", "was=regression", "an objective of one's own"),
        ("version=v4", "version=v9", "version `v9`"),
    ] {
        let refused = refused(regression.replace(from, to).as_bytes(), &FEATURES, &[]);
        assert!(refused.contains(says), "{to}: {refused}");
    }
    let boosted = text("squared_error.json").replace("reg:squarederror", "rank:pairwise");
    assert!(refused(boosted.as_bytes(), &FEATURES, &[]).contains("the objective `rank:pairwise`"));
}

#[test]
fn columns_are_read_by_their_names() {
    let rows = table("rows.csv").1;
    let mixed = ["channel", "monetary_avg", "recency_days", "tenure_days", "purchase_count"];
    let as_mixed =
        |row: &[f64]| mixed.map(|name| row[FEATURES.iter().position(|own| *own == name).expect("one of them")]);
    let in_their_order: Vec<f64> = rows.chunks_exact(5).flat_map(as_mixed).collect();
    for name in ["regression.txt", "squared_error.json"] {
        let model = file(name);
        let backend = load_booster(&model, &mixed, &[]).expect("loads");
        assert_eq!(predict(&*backend, &in_their_order), predict(&*loaded(name).0, &rows), "{name}");
        assert!(
            refused(&model, &["a", "b", "c", "d", "e"], &[]).contains("it reads the column `recency_days`"),
            "{name}"
        );
        let few = load_booster(&model, &FEATURES[..4], &[]);
        assert!(matches!(few, Err(BackendError::Inputs { model: 5, bundle: 4 })), "{name}");
    }
    // Without names of their own, columns are read in their order.
    let nameless = text("regression.txt").replace(
        "=recency_days purchase_count tenure_days monetary_avg channel",
        "=Column_0 Column_1 Column_2 Column_3 Column_4",
    );
    let backend = load_booster(nameless.as_bytes(), &["a", "b", "c", "d", "e"], &[]).expect("loads");
    assert_eq!(predict(&*backend, &rows), predict(&*loaded("regression.txt").0, &rows));
}

#[test]
fn a_pandas_column_is_read_when_its_categories_are_the_bundles() {
    let rule = |categories: &[&str]| {
        let categories = serde_json::json!(categories);
        serde_json::from_value::<FeatureRule>(serde_json::json!({"name": "channel", "unit": "", "required": false,
            "impute": "none", "min": 0.0, "max": 2.0, "mean": 0.0, "std": 1.0, "categories": categories}))
        .expect("a rule")
    };
    let model = file("pandas_categorical.txt");
    assert!(load_booster(&model, &FEATURES, &[rule(&["chat", "phone", "web"])]).is_ok());
    let refused = refused(&model, &FEATURES, &[rule(&["web", "phone", "chat"])]);
    assert!(refused.contains("categories of a pandas column"), "{refused}");
}

#[test]
fn files_that_contradict_themselves_are_refused() {
    let regression = text("regression.txt");
    let first = |key: &str| {
        let line = regression.lines().find(|line| line.starts_with(key)).expect("a line");
        line.to_owned()
    };
    for (from, to, says) in [
        (first("left_child"), "left_child=0 2 4 5 -2 -1".to_owned(), "a tree node is below itself"),
        (first("left_child"), "left_child=7 2 4 5 -2 -1".to_owned(), "has a child that is not there"),
        (first("right_child"), "right_child=1 -3 -4 -5 -6 -70".to_owned(), "has a child that is not there"),
        (first("split_feature"), "split_feature=1 3 0 0 3 5".to_owned(), "a tree reads column 5 of 5"),
        (first("threshold"), "threshold=1 nan 3 4 5 6".to_owned(), "a threshold is not a number"),
        (first("leaf_value"), "leaf_value=1 2".to_owned(), "`leaf_value` holds 2 numbers, not 7"),
        (first("num_leaves"), "num_leaves=0".to_owned(), "`leaf_value` holds 7 numbers, not 0"),
        (first("num_leaves"), "num_leaves=99999999999999999999".to_owned(), "`num_leaves` is no number that fits"),
        (first("decision_type"), "decision_type=10 10 10 8 8 14".to_owned(), "unknown kind of missing values"),
        (first("decision_type"), "decision_type=11 10 10 8 8 10".to_owned(), "asks for categories that are not there"),
        ("\nend of trees".to_owned(), String::new(), "it is cut off"),
    ] {
        let bent = regression.replacen(&from, &to, 1);
        assert_ne!(bent, regression, "{from}");
        let refused = refused(bent.as_bytes(), &FEATURES, &[]);
        assert!(refused.starts_with("model file is not readable as LightGBM's text: "), "{refused}");
        assert!(refused.contains(says), "{to}: {refused}");
    }
    let boosted = text("squared_error.json");
    for (from, to, says) in [
        ("\"left_children\":[1,", "\"left_children\":[0,", "a tree node is below itself"),
        ("\"left_children\":[1,", "\"left_children\":[99999,", "has a child that is not there"),
        ("\"left_children\":[1,", "\"left_children\":[", "its lists are not of one length"),
        ("\"base_score\":\"[", "\"base_score\":\"[1E0,", "`base_score` is not one finite number"),
        ("\"learner\"", "\"teacher\"", "it has no `learner`"),
    ] {
        let bent = boosted.replacen(from, to, 1);
        assert_ne!(bent, boosted, "{from}");
        let refused = refused(bent.as_bytes(), &FEATURES, &[]);
        assert!(refused.starts_with("model file is not readable as XGBoost's JSON: "), "{refused}");
        assert!(refused.contains(says), "{to}: {refused}");
    }
    let binary = b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner\xff";
    assert!(refused(binary, &FEATURES, &[]).contains("save the model to a name that ends in `.json`"));
}

#[test]
fn a_chain_of_half_a_million_splits_is_read() {
    let splits = 500_000;
    let list = |of: &dyn Fn(usize) -> String, count: usize| (0..count).map(of).collect::<Vec<_>>().join(" ");
    let text = format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=0\nobjective=regression\nfeature_names=a\n\n\
         Tree=0\nnum_leaves={}\nnum_cat=0\nsplit_feature={}\nthreshold={}\ndecision_type={}\nleft_child={}\nright_child={}\n\
         leaf_value={}\nis_linear=0\nshrinkage=1\n\n\nend of trees\n",
        splits + 1,
        list(&|_| "0".to_owned(), splits),
        list(&|at| at.to_string(), splits),
        list(&|_| "10".to_owned(), splits),
        list(&|at| format!("-{}", at + 1), splits),
        list(&|at| if at + 1 == splits { format!("-{}", splits + 1) } else { (at + 1).to_string() }, splits),
        list(&|at| at.to_string(), splits + 1),
    );
    let backend = load_booster(text.as_bytes(), &["a"], &[]).expect("loads");
    assert_eq!(predict(&*backend, &[-1.0, 3.5, 1e9, f64::NAN]), [0.0, 4.0, 500_000.0, 0.0]);
}

#[test]
fn a_file_is_known_by_its_beginning() {
    for (model, is) in [
        (file("regression.txt"), true),
        (file("squared_error.json"), true),
        (b"tree".to_vec(), false),
        (b"\x08\x08\x12\x00".to_vec(), false),
        (Vec::new(), false),
    ] {
        assert_eq!(is_booster(&model), is);
    }
}
