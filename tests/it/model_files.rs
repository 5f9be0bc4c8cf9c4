//! The forms a model comes in, the ways files arrive, and what is refused before anything runs it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use scoreline::scoring::golden;
use scoreline_domain::ModelName;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::BundleFiles;
use scoreline_engine::inference::registry::{Patience, Registry, RegistrySettings};

use crate::support::TestBundle;
use crate::support::onnx_file::{
    self as onnx, features, field, floats, int, linear, node, output, tensor, tree, value_info, whole,
};

struct Models {
    folder: tempfile::TempDir,
    registry: Registry,
}

impl Models {
    /// A folder in which `clv` v1.2 serves: value = 7 for everybody.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        TestBundle::clv_onnx("v1.2", "linear", linear(&[0.0; 4], 7.0)).write(folder.path());
        let models = Self { registry: registry(folder.path()), folder };
        assert_eq!(models.serving(), "v1.2");
        models
    }

    fn clv(&self) -> std::path::PathBuf {
        self.folder.path().join("clv")
    }

    fn snapshot(&self) -> std::sync::Arc<ModelSnapshot> {
        self.registry.serving(&ModelName::parse("clv").expect("a name")).expect("serves")
    }

    fn serving(&self) -> String {
        self.snapshot().version().to_string()
    }

    fn poll(&self) {
        self.registry.scan(Patience::WhenStable);
        self.registry.scan(Patience::WhenStable);
    }

    /// Code and reason of every refused version.
    fn refusals(&self) -> Vec<(String, String)> {
        let status = self.registry.status().into_iter();
        let refused = |state: &scoreline_engine::inference::registry::VersionState| {
            state.refusal().map(|(code, reason)| (code.to_owned(), reason.to_owned()))
        };
        status.filter_map(|version| refused(&version.state)).collect()
    }

    fn codes(&self) -> Vec<String> {
        self.refusals().into_iter().map(|(code, _)| code).collect()
    }
}

fn registry(dir: &Path) -> Registry {
    let registry = Registry::new(RegistrySettings::new(dir.to_owned()), golden::verify);
    registry.scan(Patience::Now);
    registry
}

fn packed(bundle: &TestBundle) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("temporary folder");
    bundle.write(folder.path());
    let files = BundleFiles::read(&folder.path().join("clv").join(&bundle.version)).expect("a bundle");
    files.to_lone().expect("packs")
}

#[test]
fn a_lone_file_that_carries_its_manifest_serves_as_the_bundle_it_was_made_of() {
    let models = Models::new();
    let bundle = TestBundle::clv_onnx("v1.3", "linear", linear(&[0.0; 4], 9.0));
    fs::write(models.clv().join("v1.3.onnx"), packed(&bundle)).expect("written");
    models.poll();
    assert_eq!((models.serving().as_str(), models.codes().len()), ("v1.3", 0), "{:?}", models.refusals());
    let snapshot = models.snapshot();
    assert_eq!(snapshot.manifest().inherited_from, None);
    // Another name for a file that says v1.3 is a mistake.
    fs::write(models.clv().join("v1.4.onnx"), packed(&bundle)).expect("written");
    models.poll();
    assert_eq!((models.serving().as_str(), models.codes()), ("v1.3", vec!["misplaced".to_owned()]));
    // One bit of the model inside, and the manifest does not fit any more.
    let mut bent = packed(&TestBundle { version: "v1.5".into(), ..bundle });
    let at = bent.windows(15).position(|part| part == b"LinearRegressor").expect("the operator");
    bent[at + 40] ^= 1;
    fs::write(models.clv().join("v1.5.onnx"), bent).expect("written");
    models.poll();
    assert!(models.codes().contains(&"checksum".to_owned()), "{:?}", models.refusals());
}

#[test]
fn a_lone_file_without_a_manifest_inherits_the_serving_versions() {
    let models = Models::new();
    fs::write(models.clv().join("v1.3.onnx"), linear(&[0.0; 4], 11.0)).expect("written");
    models.poll();
    let snapshot = models.snapshot();
    let inherited = |snapshot: &ModelSnapshot| snapshot.manifest().inherited_from.as_ref().map(ToString::to_string);
    assert_eq!((models.serving().as_str(), inherited(&snapshot).as_deref()), ("v1.3", Some("v1.2")));
    // The next one inherits from what has a manifest of its own, so that a restart comes to the same digest.
    fs::write(models.clv().join("v1.4.onnx"), tree(10.0, 1, &[])).expect("written");
    models.poll();
    let snapshot = models.snapshot();
    assert_eq!((models.serving().as_str(), inherited(&snapshot).as_deref()), ("v1.4", Some("v1.2")));
    assert_eq!(snapshot.manifest().backend.as_str(), "trees");
    let again = registry(models.folder.path());
    let restarted = again.serving(&ModelName::parse("clv").expect("a name")).expect("serves");
    assert_eq!(restarted.digest(), snapshot.digest());
    // Other inputs are another model.
    fs::write(models.clv().join("v1.5.onnx"), linear(&[0.0; 3], 1.0)).expect("written");
    models.poll();
    assert_eq!((models.serving().as_str(), models.codes()), ("v1.4", vec!["inputs".to_owned()]));
}

#[test]
fn a_lone_file_waits_for_somebody_to_inherit_from() {
    let folder = tempfile::tempdir().expect("temporary folder");
    fs::create_dir(folder.path().join("clv")).expect("created");
    fs::write(folder.path().join("clv/v1.3.onnx"), linear(&[0.0; 4], 11.0)).expect("written");
    let models = Models { registry: registry(folder.path()), folder };
    assert_eq!(models.codes(), ["no_manifest"]);
    TestBundle::clv_onnx("v1.2", "linear", linear(&[0.0; 4], 7.0)).write(models.folder.path());
    models.poll();
    models.poll();
    assert_eq!((models.serving().as_str(), models.codes().len()), ("v1.3", 0), "{:?}", models.refusals());
}

#[test]
fn kubernetes_mounts_are_swapped_by_one_link() {
    let models = Models::new();
    // kubelet: files are links through `..data`, which is exchanged in one rename.
    let volume = models.clv().join("v1.3");
    let publish = |name: &str, intercept: f32| {
        let made = tempfile::tempdir().expect("temporary folder");
        TestBundle::clv_onnx("v1.3", "linear", linear(&[0.0; 4], intercept)).write(made.path());
        let data = volume.join(name);
        fs::create_dir_all(&data).expect("created");
        for file in ["bundle.toml", "model.onnx", "golden.jsonl"] {
            fs::copy(made.path().join("clv/v1.3").join(file), data.join(file)).expect("copied");
        }
        symlink(name, volume.join("..data_tmp")).expect("linked");
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("exchanged");
    };
    publish("..2026_11_21", 9.0);
    for file in ["bundle.toml", "model.onnx", "golden.jsonl"] {
        symlink(Path::new("..data").join(file), volume.join(file)).expect("linked");
    }
    models.poll();
    assert_eq!((models.serving().as_str(), models.codes().len()), ("v1.3", 0), "{:?}", models.refusals());
    let first = *models.snapshot().digest();
    publish("..2026_11_22", 10.0);
    models.poll();
    assert_ne!(*models.snapshot().digest(), first, "picked up");
    assert_eq!(models.codes().len(), 0, "{:?}", models.refusals());
}

#[test]
fn links_that_leave_the_models_folder_and_second_names_are_refused() {
    let models = Models::new();
    let outside = tempfile::tempdir().expect("temporary folder");
    let bundle = |version: &str| TestBundle::clv_onnx(version, "linear", linear(&[0.0; 4], 9.0));
    bundle("v1.3").write(outside.path());
    symlink(outside.path().join("clv/v1.3"), models.clv().join("v1.3")).expect("linked");
    models.poll();
    assert_eq!((models.serving().as_str(), models.codes()), ("v1.2", vec!["outside".to_owned()]));
    bundle("v1.4").write(models.folder.path());
    let model = models.clv().join("v1.4/model.onnx");
    fs::hard_link(&model, outside.path().join("second")).expect("linked");
    models.poll();
    assert_eq!(
        (models.serving().as_str(), models.codes()),
        ("v1.2", vec!["outside".to_owned(), "hard_link".to_owned()])
    );
    // A link from one place of the folder to another is fine.
    bundle("v1.5").write(&models.folder.path().join("clv/.store"));
    symlink(".store/clv/v1.5", models.clv().join("v1.5")).expect("linked");
    models.poll();
    assert_eq!(models.serving(), "v1.5");
}

#[test]
fn every_way_to_replace_a_file_is_seen() {
    let models = Models::new();
    let made = tempfile::tempdir().expect("temporary folder");
    let lone = models.clv().join("v1.3.onnx");
    let mut seen = BTreeSet::from([models.snapshot().digest().to_string()]);
    // `touch -r` gives every file the same time: size and time stay, only the change time tells.
    let stamp = made.path().join("stamp");
    fs::write(&stamp, "").expect("written");
    let ways: [(&str, &[&str]); 4] =
        [("cp", &[]), ("cp", &["-p"]), ("mv", &[]), ("cp", &["-p", "--remove-destination"])];
    for (round, (command, options)) in ways.into_iter().enumerate() {
        let source = made.path().join("new.onnx");
        fs::write(&source, linear(&[0.0; 4], 20.0 + round as f32)).expect("written");
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            assert!(Command::new(program).args(arguments).status().expect("runs").success(), "{program}");
        };
        run("touch", &["-r".as_ref(), stamp.as_os_str(), source.as_os_str()]);
        let mut arguments: Vec<&std::ffi::OsStr> = options.iter().map(std::ffi::OsStr::new).collect();
        arguments.extend([source.as_os_str(), lone.as_os_str()]);
        run(command, &arguments);
        models.poll();
        assert_eq!(models.serving(), "v1.3");
        assert!(seen.insert(models.snapshot().digest().to_string()), "{command} {options:?}");
    }
}

#[test]
fn what_memory_can_not_hold_twice_is_not_loaded() {
    let folder = tempfile::tempdir().expect("temporary folder");
    TestBundle::clv("v1.2").write(folder.path());
    let settings = RegistrySettings { memory: || Some(1000), ..RegistrySettings::new(folder.path().to_owned()) };
    let registry = Registry::new(settings, golden::verify);
    registry.scan(Patience::Now);
    let status = registry.status();
    let (code, reason) = status[0].state.refusal().expect("refused");
    assert_eq!(code, "memory");
    assert!(reason.contains("1000 are available"), "{reason}");
}

type Damage = fn(&Path);
type Arrive = Box<dyn Fn(&Path)>;
/// What it is, the code it is refused with, and how it gets into the models folder.
type BadDrop = (String, &'static str, Arrive);

/// Drops that must not serve.
fn bad_drops() -> Vec<BadDrop> {
    let mut drops: Vec<BadDrop> = Vec::new();
    // Hostile or broken model files, each in a bundle whose checksum is right.
    for (what, code, backend, model) in bad_models() {
        let bundle = TestBundle::clv_onnx("v9", backend, model);
        drops.push((what, code, Box::new(move |models| bundle.write(models))));
    }
    [drops, bad_manifests(), bad_folders(), bad_lone_files()].into_iter().flatten().collect()
}

/// Manifests that do not fit.
fn bad_manifests() -> Vec<BadDrop> {
    let mut drops: Vec<BadDrop> = Vec::new();
    let edits: [(&'static str, &str, &str); 17] = [
        ("manifest", "bundle_version = 1", "bundle_version = 7"),
        ("misplaced", "name = \"clv\"", "name = \"other\""),
        ("misplaced", "version = \"v9\"", "version = \"v8\""),
        ("manifest", "task = \"clv\"", "task = \"lead\""),
        ("malformed_text", "task = \"clv\"", "task = \"love\""),
        ("malformed_text", "backend = \"linear\"", "backend = \"magic\""),
        ("malformed_text", "horizon_days = 273", "horizon_days = -1"),
        ("manifest", "horizon_days = 273\n", ""),
        ("manifest", "file = \"model.json\"", "file = \"../model.json\""),
        ("unreadable", "file = \"model.json\"", "file = \"other.json\""),
        ("manifest", "value = \"value\"", "value = \"price\""),
        ("manifest", "risk = \"risk\"", "risk = \"danger\""),
        ("manifest", "medium = 10.0", "medium = 50.0"),
        (
            "manifest",
            "tier_share = [0.6, 0.3, 0.1]\n\n[interval]",
            "tier_share = [0.6, 0.3, 0.1]\n\n[interval]\ngroup_with = [\"luck\"]",
        ),
        ("manifest", "level = 0.9", "level = 0.5"),
        ("manifest", "group_by = \"frequency_count\"", "group_by = \"nothing\""),
        ("manifest", "std = 0.4", "std = -0.4"),
    ];
    for (code, from, to) in edits {
        let bundle = TestBundle::clv("v9").edit(from, to);
        drops.push((format!("`{from}` is `{to}`"), code, Box::new(move |models| bundle.write(models))));
    }
    drops
}

/// Files that are not what they should be.
fn bad_folders() -> Vec<BadDrop> {
    let mut drops: Vec<BadDrop> = Vec::new();
    let damages: [(&str, &'static str, Damage); 12] = [
        ("an empty manifest", "malformed_text", |folder| fs::write(folder.join("bundle.toml"), "").expect("written")),
        ("a manifest that is not text", "malformed_text", |folder| {
            fs::write(folder.join("bundle.toml"), [0xff, 0xfe, 0x00]).expect("written");
        }),
        ("a manifest of 17 MiB", "too_large", |folder| {
            fs::write(folder.join("bundle.toml"), vec![b'#'; 17 << 20]).expect("written");
        }),
        ("half a model", "checksum", |folder| {
            let path = folder.join("model.json");
            let bytes = fs::read(&path).expect("a model");
            fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
        }),
        ("a model with one bit changed", "checksum", |folder| {
            let path = folder.join("model.json");
            let mut bytes = fs::read(&path).expect("a model");
            bytes[20] ^= 1;
            fs::write(&path, bytes).expect("written");
        }),
        ("no model", "unreadable", |folder| fs::remove_file(folder.join("model.json")).expect("removed")),
        ("a folder in place of the model", "unreadable", |folder| {
            fs::remove_file(folder.join("model.json")).expect("removed");
            fs::create_dir(folder.join("model.json")).expect("created");
        }),
        ("a link to a device", "outside", |folder| {
            fs::remove_file(folder.join("model.json")).expect("removed");
            symlink("/dev/zero", folder.join("model.json")).expect("linked");
        }),
        ("a link to itself", "unreadable", |folder| {
            fs::remove_file(folder.join("model.json")).expect("removed");
            symlink("model.json", folder.join("model.json")).expect("linked");
        }),
        ("a pipe nobody writes to", "unreadable", |folder| {
            fs::remove_file(folder.join("golden.jsonl")).expect("removed");
            assert!(Command::new("mkfifo").arg(folder.join("golden.jsonl")).status().expect("runs").success());
        }),
        ("a golden row the model does not answer", "golden", |folder| {
            let row = r#"{"request": {"features": {"recency_days": 30, "frequency_count": 10}}, "expect": {"clv_value_usd": 99}}"#;
            fs::write(folder.join("golden.jsonl"), row).expect("written");
        }),
        ("a golden row that is none", "malformed_text", |folder| {
            fs::write(folder.join("golden.jsonl"), "{\"request\": 1}").expect("written");
        }),
    ];
    for (what, code, damage) in damages {
        drops.push((
            what.to_owned(),
            code,
            Box::new(move |models| {
                TestBundle::clv("v9").write(models);
                damage(&models.join("clv/v9"));
            }),
        ));
    }
    drops
}

fn bad_lone_files() -> Vec<BadDrop> {
    let mut drops: Vec<BadDrop> = Vec::new();
    let lone: [(&str, &'static str, Vec<u8>); 6] = [
        ("an empty lone file", "malformed_model", Vec::new()),
        ("a lone file of five columns", "inputs", linear(&[0.0; 5], 1.0)),
        ("half a lone file", "malformed_model", linear(&[0.0; 4], 1.0)[..60].to_vec()),
        ("a zip archive", "malformed_model", b"PK\x03\x04\x14\x00\x00\x00\x08\x00".to_vec()),
        ("a lone file whose manifest is not TOML", "malformed_text", {
            let entry = [field(1, "scoreline.bundle"), field(2, "name = ")].concat();
            [linear(&[0.0; 4], 1.0), field(14, entry)].concat()
        }),
        ("a lone file without an operator set", "malformed_model", {
            let whole = linear(&[0.0; 4], 1.0);
            // The sets of the standard operators and of `ai.onnx.ml` are the last 6 and 16 bytes.
            whole[..whole.len() - 22].to_vec()
        }),
    ];
    for (what, code, bytes) in lone {
        let write = move |models: &Path| fs::write(models.join("clv/v9.onnx"), &bytes).expect("written");
        drops.push((what.to_owned(), code, Box::new(write)));
    }
    drops
}

/// What the file is, its code, the backend its bundle names, its bytes.
fn bad_models() -> Vec<(String, &'static str, &'static str, Vec<u8>)> {
    let graph_io = || vec![features(4), output()];
    let with_node = |node: Vec<u8>| onnx::model(&[node], &graph_io());
    let with_tensor = |part: Vec<u8>| {
        let node = node("Identity", "", &["features"], "value", &[]);
        onnx::model(&[node], &[graph_io(), vec![part]].concat())
    };
    let external = [whole(14, 1)];
    let elsewhere = |name: &str| tensor(name, &[1], &[], &external);
    let inner = |part: Vec<u8>| field(6, [part, field(2, "inner")].concat());
    let branch = |attribute: Vec<u8>| {
        with_node(node("Identity", "", &["features"], "value", &[[field(1, "then"), attribute].concat()]))
    };
    let mut models: Vec<(String, &'static str, &'static str, Vec<u8>)> = Vec::new();
    let mut add = |what: &str, code, backend, bytes| models.push((what.to_owned(), code, backend, bytes));
    add("external data in an initializer", "external_data", "onnx", with_tensor(field(5, elsewhere("init"))));
    add("external data without a location", "external_data", "onnx", {
        with_tensor(field(5, tensor("v", &[1], &[], &[field(13, [field(1, "location"), field(2, "w.bin")].concat())])))
    });
    add(
        "external data in a sparse initializer",
        "external_data",
        "onnx",
        with_tensor(field(15, field(1, elsewhere("sparse")))),
    );
    add("external indices of a sparse initializer", "external_data", "linear", {
        with_tensor(field(15, field(2, tensor("indices", &[1], &[], &external))))
    });
    add("external data in an attribute", "external_data", "onnx", branch(field(5, elsewhere("listed_one"))));
    add("external data in a list of tensors", "external_data", "trees", branch(field(10, elsewhere("many"))));
    add(
        "external data in a sparse attribute",
        "external_data",
        "onnx",
        branch(field(22, field(1, elsewhere("sparse_attribute")))),
    );
    add("external data in a subgraph", "operator", "onnx", branch(inner(field(5, elsewhere("inner")))));
    for operator in ["Loop", "Scan", "If", "SequenceMap", "RandomNormal", "Bernoulli", "StringNormalizer"] {
        add(operator, "operator", "onnx", with_node(node(operator, "", &["features"], "value", &[])));
    }
    add("a vendor's operator", "operator", "onnx", {
        with_node(node("FusedGemm", "com.microsoft", &["features"], "value", &[]))
    });
    add("functions of its own", "operator", "onnx", [linear(&[0.0; 4], 1.0), field(25, field(1, "f"))].concat());
    add("a training graph", "operator", "onnx", [linear(&[0.0; 4], 1.0), field(20, field(1, ""))].concat());
    add("a tensor of 2^40 numbers", "tensor_size", "onnx", {
        with_tensor(field(5, tensor("w", &[1 << 40], &[1.0], &[])))
    });
    add("a tensor of 257 MiB that is not there", "tensor_size", "onnx", {
        with_tensor(field(5, tensor("w", &[257, 1 << 18], &[1.0], &[])))
    });
    add("a tensor of a negative size", "tensor_size", "linear", with_tensor(field(5, tensor("w", &[-4], &[1.0], &[]))));
    add("a tensor whose size overflows", "tensor_size", "onnx", {
        with_tensor(field(5, tensor("w", &[i64::MAX, i64::MAX], &[1.0], &[])))
    });
    add("a tensor with fewer numbers than it says", "tensor_size", "trees", {
        with_tensor(field(5, tensor("w", &[3], &[1.0], &[])))
    });
    add("a billion targets", "tensor_size", "trees", tree(1.0, 1_000_000_000, &[]));
    add("a negative number of targets", "tensor_size", "onnx", tree(1.0, -1, &[]));
    add("a threshold of NaN", "not_a_number", "trees", tree(f32::NAN, 1, &[]));
    add("a base value of NaN", "not_a_number", "onnx", tree(1.0, 1, &[floats("base_values", &[f32::NAN])]));
    add("an input of lists of lists of lists and so on", "nesting", "onnx", {
        let kind = (0..40).fold(Vec::new(), |kind, _| field(4, field(1, kind)));
        let input = field(11, [field(1, "features"), field(2, kind)].concat());
        onnx::model(&[node("Identity", "", &["features"], "value", &[])], &[input, output()])
    });
    add("three columns", "inputs", "linear", linear(&[0.0; 3], 1.0));
    add("two inputs of other names", "inputs", "onnx", {
        let add = node("Add", "", &["a", "b"], "value", &[]);
        let inputs = [field(11, value_info("a", Some(1))), field(11, value_info("b", Some(1))), output()];
        onnx::model(&[add], &inputs)
    });
    add("two graphs", "malformed_model", "onnx", [linear(&[0.0; 4], 1.0), field(7, output())].concat());
    add("random bytes", "malformed_model", "trees", (15..255_u8).collect());
    add("a linear model that our own engine does not run", "unsupported_model", "linear", {
        with_node(node("Identity", "", &["features"], "value", &[int("axis", 1)]))
    });
    models
}

#[test]
fn sixty_bad_drops_are_refused_each_with_its_reason_while_the_old_one_serves() {
    let models = Models::new();
    let digest = *models.snapshot().digest();
    let drops = bad_drops();
    let count = drops.len();
    assert!(count >= 60, "{count} drops");
    let mut codes = BTreeSet::new();
    let mut reasons = BTreeSet::new();
    for (what, code, drop) in drops {
        drop(models.folder.path());
        models.poll();
        let refusals = models.refusals();
        assert_eq!(refusals.len(), 1, "{what}: {refusals:?}");
        assert_eq!(refusals[0].0, code, "{what}: {}", refusals[0].1);
        assert!(reasons.insert(refusals[0].clone()), "{what} is refused like another one: {:?}", refusals[0]);
        codes.insert(code);
        assert_eq!(*models.snapshot().digest(), digest, "{what}");
        assert_eq!(models.registry.scan(Patience::WhenStable), [], "{what}: tried once");
        if models.clv().join("v9").exists() {
            fs::remove_dir_all(models.clv().join("v9")).expect("removed");
        } else {
            fs::remove_file(models.clv().join("v9.onnx")).expect("removed");
        }
    }
    println!(
        "{count} bad drops refused with {} codes and {} reasons; the old version served throughout",
        codes.len(),
        reasons.len()
    );
}

#[test]
fn putting_a_refused_version_back_is_no_new_try() {
    let models = Models::new();
    TestBundle::clv("v9").edit("level = 0.9", "level = 1.9").write(models.folder.path());
    models.poll();
    assert_eq!(models.codes(), ["manifest"]);
    let (here, away) = (models.clv().join("v9"), models.folder.path().join(".v9"));
    fs::rename(&here, &away).expect("moved");
    models.poll();
    assert_eq!(models.codes().len(), 0, "gone");
    fs::rename(&away, &here).expect("moved back");
    models.registry.scan(Patience::WhenStable);
    assert_eq!(models.codes(), ["manifest"], "known as it is");
}
