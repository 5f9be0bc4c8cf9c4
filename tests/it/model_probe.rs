//! The probe: models are tried in a child process with limits, and what happens there is a reason, not an accident.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use scoreline::scoring::golden;
use scoreline_domain::ModelName;
use scoreline_engine::inference::bundle::{BundleFiles, LoadSettings};
use scoreline_engine::inference::probe::probe;
use scoreline_engine::inference::registry::{Patience, Registry, RegistrySettings};

use crate::support::TestBundle;
use crate::support::onnx_file::{self as onnx, features, field, linear, node, output, tensor};
use crate::support::onnx_runtime::search;

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_scoreline"))
}

fn files(bundle: &TestBundle) -> BundleFiles {
    let folder = tempfile::tempdir().expect("temporary folder");
    bundle.write(folder.path());
    BundleFiles::read(&folder.path().join(&bundle.name).join(&bundle.version)).expect("a bundle")
}

fn load() -> LoadSettings {
    LoadSettings { runtime: search(), onnx_threads: 1, onnx_queue: 1, ..LoadSettings::default() }
}

/// How a probe of this bundle by this program ends: a code and a reason.
fn outcome(program: &Path, bundle: &TestBundle) -> (&'static str, String) {
    match probe(program, &files(bundle), &load()) {
        Ok(()) => ("ok", String::new()),
        Err(err) => (err.code(), err.to_string()),
    }
}

#[test]
fn a_good_model_passes_and_a_bad_answer_is_found_by_the_child() {
    assert_eq!(outcome(&program(), &TestBundle::clv("v1")).0, "ok");
    assert_eq!(outcome(&program(), &TestBundle::lead("v1")).0, "ok");
    let golden =
        r#"{"request": {"features": {"recency_days": 30, "frequency_count": 10}}, "expect": {"clv_value_usd": 99}}"#;
    let (code, reason) = outcome(&program(), &TestBundle { golden: golden.into(), ..TestBundle::clv("v1") });
    assert_eq!(code, "golden");
    assert!(reason.contains("`clv_value_usd` must be 99"), "{reason}");
    let infinite = TestBundle::clv_onnx("v1", "linear", linear(&[f32::MAX, f32::MAX, 0.0, 0.0], f32::MAX))
        .edit("value = \"value\"", "value = { output = \"value\", apply = \"exp\" }");
    assert_eq!(outcome(&program(), &infinite).0, "probe_output");
}

#[test]
fn every_way_a_child_can_end_has_its_code() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let script = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path
    };
    let bundle = TestBundle::clv("v1");
    assert_eq!(outcome(&folder.path().join("missing"), &bundle).0, "probe_unavailable");
    assert_eq!(outcome(&script("fails", "exit 3"), &bundle).0, "probe_crashed");
    assert_eq!(outcome(&script("dies", "kill -SEGV $$"), &bundle).0, "probe_crashed");
    assert_eq!(outcome(&script("silent", "cat >/dev/null"), &bundle).0, "probe_crashed");
    assert_eq!(
        outcome(&script("eats", "echo terminate: std::bad_alloc >&2; kill -ABRT $$"), &bundle).0,
        "probe_memory"
    );
    let (code, reason) = outcome(&script("hangs", "exec sleep 60"), &bundle);
    assert_eq!((code, reason.contains("within 5 s")), ("probe_timeout", true), "{reason}");
}

/// Needs ONNX Runtime: the models whose effect only the real library shows.
#[test]
fn a_graph_for_onnx_runtime_is_run_by_the_child_first() {
    let good = onnx::model(
        &[node("ReduceSum", "", &["features", "axes"], "value", &[])],
        &[features(4), output(), field(5, axes())],
    );
    let good = TestBundle::clv_onnx("v1", "onnx", good);
    let (code, reason) = outcome(&program(), &good);
    assert_eq!(code, "ok", "{reason}");
    // A tensor of 2^33 numbers made at run time: no size in the file is large.
    let shape = [whole_dims(2), vec![0x10, 7], field(8, "shape"), field(9, huge())].concat();
    let nodes = [
        node("ConstantOfShape", "", &["shape"], "many", &[]),
        node("Add", "", &["many", "features"], "sum", &[]),
        node("ReduceSum", "", &["sum", "axes"], "value", &[]),
    ];
    let greedy = onnx::model(&nodes, &[features(4), output(), field(5, shape), field(5, axes())]);
    let (code, reason) = outcome(&program(), &TestBundle::clv_onnx("v1", "onnx", greedy));
    assert_eq!(code, "probe_memory", "{reason}");
}

fn axes() -> Vec<u8> {
    let one = 1_i64.to_le_bytes();
    [whole_dims(1), vec![0x10, 7], field(8, "axes"), field(9, one)].concat()
}

/// `dims = [count]` of a tensor.
fn whole_dims(count: u8) -> Vec<u8> {
    vec![0x08, count]
}

fn huge() -> Vec<u8> {
    [1_i64 << 31, 4].iter().flat_map(|dim| dim.to_le_bytes()).collect()
}

#[test]
fn the_registry_probes_what_arrives_while_it_serves() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let settings =
        RegistrySettings { probe: Some(program()), load: load(), ..RegistrySettings::new(folder.path().to_owned()) };
    let registry = Registry::new(settings, golden::verify);
    TestBundle::clv("v1.2").write(folder.path());
    registry.scan(Patience::Now);
    TestBundle::clv("v1.3").with_log_mean(4.0).write(folder.path());
    registry.scan(Patience::WhenStable);
    registry.scan(Patience::WhenStable);
    let serving = registry.serving(&ModelName::parse("clv").expect("a name")).expect("serves");
    assert_eq!(serving.version().as_str(), "v1.3", "{:?}", registry.status());
}

#[test]
fn packing_and_verifying_a_lone_file_says_everything_that_is_wrong() {
    let folder = tempfile::tempdir().expect("temporary folder");
    TestBundle::clv_onnx("v1.2", "linear", linear(&[0.5, 0.0, 0.0, 0.0], 7.0)).write(folder.path());
    let clv = folder.path().join("clv");
    let run = |arguments: &[&Path]| {
        let output = Command::new(program()).arg("models").args(arguments).env_remove("SCORELINE_CONFIG").output();
        let output = output.expect("the binary runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let lone = clv.join("v1.3.onnx");
    let (bundle, pack, to, version) =
        (clv.join("v1.2"), Path::new("pack"), Path::new("--output"), Path::new("--version"));
    let (code, text) = run(&[pack, &bundle, version, Path::new("v1.3"), to, &lone]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("carries its manifest") && text.contains("ok    probe"), "{text}");
    let (code, text) = run(&[Path::new("verify"), folder.path()]);
    assert_eq!((code, text.contains("2 bundles, 0 failed")), (Some(0), true), "{text}");
    // A file with two faults: both are told.
    let loop_node = node("Loop", "", &["features"], "value", &[]);
    let outside = field(5, tensor("w", &[1], &[], &[vec![0x70, 1]]));
    fs::write(clv.join("v1.4.onnx"), onnx::model(&[loop_node], &[features(4), output(), outside])).expect("written");
    let (code, text) = run(&[Path::new("verify"), &clv.join("v1.4.onnx")]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("would inherit the one of v1.2"), "{text}");
    assert!(text.contains("operator `Loop`") && text.contains("in another file"), "{text}");
}
