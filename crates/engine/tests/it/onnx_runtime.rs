//! The `onnx` backend on real graphs. Needs ONNX Runtime; without it these tests fail and say how to get it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scoreline_engine::inference::onnx;
use scoreline_engine::inference::pool::Pool;
use scoreline_engine::inference::runtime_search::RuntimeSearch;
use scoreline_engine::inference::{Backend, BackendError, FeatureMatrix};

/// The search of a server without `inference.onnxruntime_path`, with telemetry off as the test command must set it.
#[expect(clippy::disallowed_methods, reason = "tests look for the installed library themselves")]
pub fn search() -> RuntimeSearch {
    RuntimeSearch::new(None, |name| std::env::var_os(name))
}

pub fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx_runtime").join(name);
    fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// One handle on a fixture; fails with the installation hint when the runtime is missing.
pub fn handle(name: &str, features: &[&str]) -> Box<dyn Backend> {
    let mut handles = onnx::open(&fixture(name), features, &search(), 1).unwrap_or_else(|err| panic!("{name}: {err}"));
    handles.pop().expect("one handle")
}

fn refusal(name: &str, features: &[&str]) -> String {
    match onnx::open(&fixture(name), features, &search(), 1) {
        Ok(_) => panic!("{name} must be refused"),
        Err(err) => err.to_string(),
    }
}

/// Rows and expected answers of `mlp_rows.csv`.
pub fn mlp_rows() -> (Vec<f64>, Vec<f64>) {
    let bytes = fixture("mlp_rows.csv");
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let (mut rows, mut expected) = (Vec::new(), Vec::new());
    for record in reader.deserialize::<[f64; 4]>() {
        let [a, b, c, answer] = record.expect("four numbers");
        rows.extend([a, b, c]);
        expected.push(answer);
    }
    (rows, expected)
}

fn predict(backend: &dyn Backend, rows: &[f64]) -> Vec<f64> {
    let rows = FeatureMatrix::new(rows, backend.inputs());
    let mut out = vec![0.0; rows.rows() * backend.outputs().len()];
    backend.predict(rows, &mut out).expect("the model runs");
    out
}

#[test]
fn a_neural_network_answers_as_scikit_learn_does() {
    let (rows, expected) = mlp_rows();
    let backend = handle("mlp.onnx", &["a", "b", "c"]);
    assert_eq!(backend.outputs(), ["variable"]);
    for (answer, expected) in predict(&*backend, &rows).iter().zip(&expected) {
        assert!((answer - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{answer} for {expected}");
    }
}

#[test]
fn class_probabilities_are_columns_with_and_without_zip_map() {
    let (rows, _) = mlp_rows();
    let zipped = handle("zipmap.onnx", &["a", "b", "c"]);
    let plain = handle("proba.onnx", &["a", "b", "c"]);
    assert_eq!(plain.outputs(), ["probabilities[0]", "probabilities[1]", "probabilities[2]"]);
    assert_eq!(zipped.outputs(), ["output_probability[0]", "output_probability[1]", "output_probability[2]"]);
    let answers = predict(&*plain, &rows);
    assert_eq!(predict(&*zipped, &rows), answers);
    for row in answers.chunks_exact(3) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{row:?}");
    }
}

#[test]
fn named_inputs_are_matched_to_features_in_any_order_and_type() {
    // The bundle lists them in another order than the graph.
    let backend = handle("two.onnx", &["c", "a", "b"]);
    assert_eq!(backend.outputs(), ["mean", "spread[0]", "spread[1]"]);
    // b is read in double precision: 2^53 - 1 does not fit in a float.
    let large = 9_007_199_254_740_991.0;
    let answers = predict(&*backend, &[3.0, 6.0, 0.0, 0.0, 0.0, large]);
    assert_eq!(answers, [3.0, 6.0, 3.0, large / 3.0, 0.0, 0.0]);
}

#[test]
fn a_row_is_answered_alone_even_by_a_graph_that_mixes_rows() {
    let backend = handle("mixing.onnx", &["a", "b", "c"]);
    assert_eq!(predict(&*backend, &[2.0, 3.0, 5.0, 7.0, 11.0, 13.0]), [1.0; 6]);
}

#[test]
fn models_that_can_not_serve_are_refused_with_a_reason() {
    assert_eq!(
        refusal("mlp.onnx", &["a", "b"]),
        "model reads 3 columns but the bundle lists 2 features",
        "a wrong width is found before a request is"
    );
    assert!(refusal("two.onnx", &["a", "b", "x"]).contains("`c` is no feature of the bundle"));
    assert!(refusal("two.onnx", &["a", "b", "c", "d"]).contains("reads 3 columns but the bundle lists 4"));
    let labels = refusal("labels.onnx", &["a", "b", "c"]);
    assert!(labels.contains("without an output of numbers") && labels.contains("`label`"), "{labels}");
    assert!(refusal("batch4.onnx", &["a", "b", "c"]).contains("a fixed batch of 4 rows"));
}

#[test]
fn bytes_that_are_no_model_are_refused() {
    let model = fixture("mlp.onnx");
    for bytes in [&b""[..], b"not a model", &model[..model.len() / 2], &[0xff; 64]] {
        let refused = onnx::open(bytes, &["a", "b", "c"], &search(), 1);
        assert!(matches!(refused, Err(BackendError::Malformed { format: "ONNX", .. })), "{:?}", refused.err());
    }
}

#[test]
fn weights_outside_the_model_file_are_never_read() {
    let problem = refusal("external.onnx", &["a", "b", "c"]);
    assert!(problem.contains("weights.bin"), "{problem}");
}

#[test]
fn a_model_that_never_ends_is_stopped_and_refused() {
    let problem = refusal("endless.onnx", &["a"]);
    assert!(problem.contains("did not end within"), "{problem}");
}

#[test]
fn a_missing_or_wrong_library_says_how_to_get_the_right_one() {
    // A process loads one library for good, and the other tests need the right one.
    let dir = tempfile::tempdir().expect("tempdir");
    let text = dir.path().join("libonnxruntime.so.1.31.1");
    fs::write(&text, "not a library ".repeat(100)).expect("file");
    let other = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib"]
        .iter()
        .map(|folder| Path::new(folder).join("libm.so.6"))
        .find(|path| path.is_file());
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).expect("folder");
    let gone = dir.path().join("gone.so");
    for (library, expected) in [
        (Some(text), "invalid ELF header"),
        (other, "OrtGetApiBase"),
        (Some(empty), "holds no"),
        (Some(gone), "No such file"),
    ] {
        let Some(library) = library else { continue };
        let said = in_child(&library, true);
        assert!(said.contains("ONNX Runtime is needed") && said.contains("pip install onnxruntime"), "{said}");
        assert!(said.contains(expected), "{expected} in {said}");
    }
}

#[test]
fn the_runtime_is_not_started_where_it_would_send_telemetry() {
    let library = library();
    let home = tempfile::tempdir().expect("tempdir");
    let said = in_child_at_home(&library, false, home.path());
    assert!(said.contains("ORT_DISABLE_TELEMETRY=1"), "{said}");
    assert!(in_child_at_home(&library, true, home.path()).contains("loaded"));
    // Its telemetry keeps a device id and a queue below the home folder.
    assert_eq!(fs::read_dir(home.path()).expect("folder").count(), 0, "nothing was written");
}

fn library() -> PathBuf {
    let search = search();
    let path = search.from_env.or(search.configured).unwrap_or_else(|| {
        panic!("set ORT_DYLIB_PATH to the libonnxruntime.so of the onnxruntime wheel (`pip install onnxruntime`)")
    });
    std::path::absolute(path).expect("path")
}

fn in_child(library: &Path, telemetry_disabled: bool) -> String {
    let home = tempfile::tempdir().expect("tempdir");
    in_child_at_home(library, telemetry_disabled, home.path())
}

/// Runs `report_from_a_child` below in a process of its own and returns what it said.
fn in_child_at_home(library: &Path, telemetry_disabled: bool, home: &Path) -> String {
    let report = home.with_extension("report");
    let mut child = std::process::Command::new(std::env::current_exe().expect("test binary"));
    child.args(["--exact", "onnx_runtime::report_from_a_child", "--ignored"]);
    // Variables by which ONNX Runtime takes a build server for one and keeps quiet would hide what is tested.
    child.env_clear().env("HOME", home).env("ORT_DYLIB_PATH", library).env("SCORELINE_TEST_REPORT", &report);
    if telemetry_disabled {
        child.env("ORT_DISABLE_TELEMETRY", "1");
    }
    let output = child.output().expect("child");
    let said = fs::read_to_string(&report).unwrap_or_else(|err| panic!("{err}: {output:?}"));
    fs::remove_file(&report).expect("report");
    said
}

#[test]
#[ignore = "the other half of tests that need a process of their own"]
fn report_from_a_child() {
    #[expect(clippy::disallowed_methods, reason = "how the parent test hands over where to report")]
    let report = std::env::var_os("SCORELINE_TEST_REPORT").expect("started by a test");
    let said = match onnx::open(&fixture("mlp.onnx"), &["a", "b", "c"], &search(), 1) {
        Ok(_) => "loaded".to_owned(),
        Err(err) => err.to_string(),
    };
    fs::write(report, said).expect("report");
}

/// The answers of the parity fixtures are ONNX Runtime's own, for whole batches: one row at a time answers the same, to rounding.
#[test]
fn exported_models_answer_as_in_python() {
    #[derive(serde::Deserialize)]
    struct Fixtures {
        features: Vec<String>,
        cases: Vec<Case>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        rows: String,
        outputs: Vec<String>,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let read = |name: &str| fs::read(folder.join(name)).unwrap_or_else(|err| panic!("{name}: {err}"));
    let floats = |name: &str| -> Vec<f64> {
        read(name).as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect()
    };
    let fixtures: Fixtures = serde_json::from_slice(&read("cases.json")).expect("cases");
    let features: Vec<&str> = fixtures.features.iter().map(String::as_str).collect();
    let (complete, missing) = (floats("rows.f32"), floats("rows_missing.f32"));
    // Kernels for one row round differently from those for many; where large terms cancel, it shows.
    let tolerance = |expected: f64| 1e-5 * expected.abs().max(1.0);
    let rows = 64;
    for Case { name, rows: kind, outputs } in &fixtures.cases {
        let handles = onnx::open(&read(&format!("{name}.onnx")), &features, &search(), 1);
        let backend = handles.unwrap_or_else(|err| panic!("{name}: {err}")).remove(0);
        assert_eq!(backend.outputs(), outputs, "{name}");
        let asked = if kind == "missing" { &missing } else { &complete };
        let answers = predict(&*backend, &asked[..rows * features.len()]);
        let expected = floats(&format!("{name}.f32"));
        for (i, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
            let same = answer == expected || (answer.is_nan() && expected.is_nan());
            let near = (answer - expected).abs() <= tolerance(*expected);
            assert!(same || near, "{name}, number {i}: {answer} for {expected}");
        }
    }
}

#[tokio::test]
async fn a_pool_of_handles_answers_many_callers_alike() {
    let (rows, _) = mlp_rows();
    let expected = predict(&*handle("mlp.onnx", &["a", "b", "c"]), &rows);
    let handles = onnx::open(&fixture("mlp.onnx"), &["a", "b", "c"], &search(), 3).expect("handles");
    assert_eq!(handles.len(), 3);
    let pool = Pool::start("mlp", handles, 64).expect("threads");
    for _ in 0..20 {
        let answer = pool.predict(rows.clone(), Duration::from_mins(1)).await.expect("answer");
        assert_eq!(answer, expected);
    }
}

#[tokio::test]
async fn a_run_without_end_is_stopped_at_its_deadline_and_the_handle_answers_again() {
    let handles = onnx::open(&fixture("moody.onnx"), &["value", "mood"], &search(), 1).expect("a handle");
    let pool = Pool::start("moody", handles, 8).expect("a thread");
    assert_eq!(pool.predict(vec![7.0, 0.0], Duration::from_mins(1)).await.expect("answer"), [7.0]);
    for _ in 0..3 {
        let endless = pool.predict(vec![7.0, 1e18], Duration::from_millis(50)).await;
        assert!(matches!(endless, Err(BackendError::Deadline)), "{endless:?}");
        assert_eq!(pool.predict(vec![8.0, 3.0], Duration::from_mins(1)).await.expect("the one handle"), [8.0]);
    }
    // So does one whose caller leaves.
    drop(tokio::time::timeout(Duration::from_millis(50), pool.predict(vec![7.0, 1e18], Duration::from_mins(1))).await);
    assert_eq!(pool.predict(vec![9.0, 0.0], Duration::from_mins(1)).await.expect("the one handle"), [9.0]);
    assert_eq!(pool.runs(), 9);
}

/// Rows of `texts.csv`: positions of job and channel and the amount, with what scikit-learn answers for both models.
fn text_rows() -> (Vec<f64>, Vec<[f64; 2]>) {
    let bytes = fixture("texts.csv");
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let (mut rows, mut expected) = (Vec::new(), Vec::new());
    for record in reader.deserialize::<(String, String, f64, f64, f64)>() {
        let (job, channel, amount, texts, words) = record.expect("a row");
        let position = |text: &str, all: &[&str]| {
            all.iter().position(|known| *known == text).map_or(f64::NAN, |position| position as f64)
        };
        rows.extend([position(&job, &JOBS), position(&channel, &CHANNELS), amount]);
        expected.push([texts, words]);
    }
    (rows, expected)
}

const JOBS: [&str; 3] = ["clerk", "Bäcker", "cook"];
const CHANNELS: [&str; 2] = ["web", "phone"];

#[test]
fn inputs_of_texts_are_given_the_bundles_categories() {
    let [jobs, channels] =
        [JOBS.as_slice(), &CHANNELS].map(|all| all.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
    let job = onnx::ModelColumn { name: "job", categories: &jobs };
    let channel = onnx::ModelColumn { name: "channel", categories: &channels };
    let amount = onnx::ModelColumn { name: "amount", categories: &[] };
    let open =
        |name: &str, columns: &[onnx::ModelColumn<'_>]| onnx::open_with_spares(&fixture(name), columns, &search(), 1);
    let (rows, expected) = text_rows();

    let (mut handles, spares) = open("texts.onnx", &[job, channel, amount]).expect("texts.onnx loads");
    let answers = predict(&*handles.remove(0), &rows);
    for (answer, [expected, _]) in answers.iter().zip(&expected) {
        assert!((answer - expected).abs() <= 1e-5 * expected.abs(), "{answer} for {expected}");
    }
    assert_eq!(predict(&*spares().expect("one more handle"), &rows), answers);

    let (mut handles, _) = open("words.onnx", &[job, channel]).expect("words.onnx loads");
    let words: Vec<f64> = rows.chunks_exact(3).flat_map(|row| [row[0], row[1]]).collect();
    for (answer, [_, expected]) in predict(&*handles.remove(0), &words).iter().zip(&expected) {
        assert!((answer - expected).abs() <= 1e-5 * expected.abs(), "{answer} for {expected}");
    }

    let numbers = onnx::ModelColumn { name: "job", categories: &[] };
    let refused = open("texts.onnx", &[numbers, channel, amount]).err().expect("refused").to_string();
    assert!(refused.contains("an input of texts for `job`, which has no `categories` in the bundle"), "{refused}");
}
