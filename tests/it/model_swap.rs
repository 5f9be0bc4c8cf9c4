//! Models are swapped by dropping files: the good one serves, a bad one never hurts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use scoreline::scoring::golden;
use scoreline_domain::{ModelName, ModelVersion, Promotions};
use scoreline_engine::inference::registry::{
    CandidateMode, CandidateSettings, ChangeFault, Hold, Patience, PromotionKeeper, Registry, RegistryEvent,
    RegistrySettings,
};

use crate::support::test_app::Reply;
use crate::support::{TestApp, TestBundle};

struct Models {
    folder: tempfile::TempDir,
    registry: Registry,
}

impl Models {
    fn new(pins: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pins = pins.iter().map(|(model, version)| (name(model), self::version(version))).collect();
        Self { registry: Self::registry(folder.path(), pins), folder }
    }

    fn registry(dir: &Path, pins: BTreeMap<ModelName, ModelVersion>) -> Registry {
        Registry::new(RegistrySettings { pins, ..RegistrySettings::new(dir.to_owned()) }, golden::verify)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn serving(&self) -> Option<String> {
        self.registry.serving(&name("clv")).map(|snapshot| snapshot.version().to_string())
    }

    /// Two looks: what has not changed between them is loaded.
    fn poll(&self) -> Vec<RegistryEvent> {
        let mut events = self.registry.scan(Patience::WhenStable);
        events.extend(self.registry.scan(Patience::WhenStable));
        events
    }

    fn refusals(&self) -> Vec<(String, &'static str)> {
        let status = self.registry.status().into_iter();
        status.filter_map(|it| it.state.refusal().map(|(code, _)| (it.version.to_string(), code))).collect()
    }
}

fn name(text: &str) -> ModelName {
    ModelName::parse(text).expect("a name")
}

fn version(text: &str) -> ModelVersion {
    ModelVersion::parse(text).expect("a version")
}

#[test]
fn the_newest_complete_version_serves() {
    let models = Models::new(&[]);
    for version in ["v1.9", "v1.10", "v1.2"] {
        TestBundle::clv(version).write(models.path());
    }
    models.registry.scan(Patience::Now);
    assert_eq!(models.serving().as_deref(), Some("v1.10"));
    TestBundle::clv("v2").write(models.path());
    models.poll();
    assert_eq!(models.serving().as_deref(), Some("v2"));
}

#[test]
fn a_copy_in_progress_is_left_alone_until_it_stands_still() {
    let models = Models::new(&[]);
    TestBundle::clv("v1.2").write(models.path());
    models.registry.scan(Patience::Now);
    TestBundle::clv("v1.3").write(models.path());
    let model = models.path().join("clv/v1.3/model.json");
    let whole = fs::read(&model).expect("written");
    for part in [10, 50, 90] {
        fs::write(&model, &whole[..whole.len() * part / 100]).expect("written");
        assert_eq!(models.registry.scan(Patience::WhenStable), [], "still growing");
    }
    fs::write(&model, &whole).expect("written");
    models.poll();
    assert_eq!(models.serving().as_deref(), Some("v1.3"));
    assert_eq!(models.refusals(), []);
}

#[test]
fn a_bad_bundle_is_refused_once_with_its_reason_and_the_old_one_keeps_serving() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 8] = [
        ("checksum", |folder| fs::write(folder.join("model.json"), "{}").expect("written")),
        ("malformed_text", |folder| fs::write(folder.join("bundle.toml"), "name = ").expect("written")),
        ("unreadable", |folder| fs::remove_file(folder.join("model.json")).expect("removed")),
        ("golden", |folder| {
            let row = r#"{"request": {"features": {"recency_days": 30, "frequency_count": 10}}, "expect": {"clv_value_usd": 99}}"#;
            fs::write(folder.join("golden.jsonl"), row).expect("written");
        }),
        ("manifest", |folder| change(folder, "level = 0.9", "level = 1.9")),
        ("malformed_text", |folder| change(folder, "task = \"clv\"", "tusk = \"clv\"")),
        ("manifest", |folder| change(folder, "value = \"value\"", "value = \"price\"")),
        ("misplaced", |folder| change(folder, "version = \"v1.3\"", "version = \"v7\"")),
    ];
    for (code, damage) in cases {
        let models = Models::new(&[]);
        TestBundle::clv("v1.2").write(models.path());
        models.registry.scan(Patience::Now);
        TestBundle::clv("v1.3").write(models.path());
        damage(&models.path().join("clv/v1.3"));
        let events = models.poll();
        assert!(
            matches!(&events[..], [RegistryEvent::Refused { code: found, .. }] if *found == code),
            "{code}: {events:?}"
        );
        assert_eq!(models.serving().as_deref(), Some("v1.2"));
        assert_eq!(models.poll(), [], "{code}: not tried again until it changes");
        assert_eq!(models.refusals(), [("v1.3".to_owned(), code)]);
        fs::remove_dir_all(models.path().join("clv/v1.3")).expect("removed");
        TestBundle::clv("v1.3").write(models.path());
        models.poll();
        assert_eq!(models.serving().as_deref(), Some("v1.3"), "{code}: mended");
    }
}

fn change(folder: &Path, from: &str, to: &str) {
    let path = folder.join("bundle.toml");
    let text = fs::read_to_string(&path).expect("a manifest");
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).expect("written");
}

#[test]
fn a_changed_file_in_place_is_a_new_digest_and_a_broken_one_keeps_the_loaded_model() {
    let models = Models::new(&[]);
    TestBundle::clv("v1.1").write(models.path());
    TestBundle::clv("v1.2").write(models.path());
    models.registry.scan(Patience::Now);
    let digest = || *models.registry.serving(&name("clv")).expect("serves").digest();
    let first = digest();
    TestBundle::clv("v1.2").with_log_mean(4.0).write(models.path());
    models.poll();
    let second = digest();
    assert_ne!(first, second);
    fs::write(models.path().join("clv/v1.2/model.json"), "garbage").expect("written");
    models.poll();
    assert_eq!(digest(), second, "the loaded model serves on, nothing older takes over");
    assert_eq!(models.refusals(), [("v1.2".to_owned(), "checksum")]);
}

#[test]
fn a_missing_folder_unloads_nothing() {
    let models = Models::new(&[]);
    TestBundle::clv("v1.2").write(models.path());
    TestBundle::clv("v1.1").write(models.path());
    models.registry.scan(Patience::Now);
    let away = models.path().with_extension("away");
    for _ in 0..100 {
        fs::rename(models.path(), &away).expect("renamed");
        assert_eq!(models.poll(), []);
        assert_eq!(models.serving().as_deref(), Some("v1.2"));
        fs::rename(&away, models.path()).expect("renamed back");
        assert_eq!(models.poll(), []);
    }
}

#[test]
fn a_pin_holds_a_model_at_one_version() {
    let models = Models::new(&[("clv", "v1.1")]);
    TestBundle::clv("v1.1").write(models.path());
    TestBundle::clv("v1.2").write(models.path());
    models.registry.scan(Patience::Now);
    assert_eq!(models.serving().as_deref(), Some("v1.1"));
    let states: Vec<_> = models.registry.status().iter().map(|version| version.state.as_str()).collect();
    assert_eq!(states, ["serving", "unchecked"]);
}

#[test]
fn a_candidate_is_tried_beside_the_serving_version_and_never_serves_by_being_newest() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let trial = CandidateSettings { version: version("v1.3"), mode: CandidateMode::Canary { share: 0.25 } };
    let candidates = BTreeMap::from([(name("clv"), trial)]);
    let settings = RegistrySettings { candidates, ..RegistrySettings::new(folder.path().to_owned()) };
    let registry = Registry::new(settings, golden::verify);
    TestBundle::clv("v1.3").write(folder.path());
    assert_eq!(registry.scan(Patience::Now), [], "nothing it could be compared with");
    assert!(registry.route(&name("clv")).is_none());
    TestBundle::clv("v1.2").write(folder.path());
    let events = registry.scan(Patience::Now);
    assert!(
        matches!(&events[..], [RegistryEvent::Published { .. }, RegistryEvent::Trial { mode: "canary", .. }]),
        "{events:?}"
    );
    let route = registry.route(&name("clv")).expect("serves");
    assert_eq!(route.serving.version().as_str(), "v1.2");
    let candidate = route.candidate.as_ref().expect("on trial");
    assert_eq!(candidate.snapshot.version().as_str(), "v1.3");
    assert_eq!(candidate.mode, CandidateMode::Canary { share: 0.25 });
    let states: Vec<_> = registry.status().iter().map(|version| version.state.as_str()).collect();
    assert_eq!(states, ["serving", "candidate"]);
    assert_eq!(registry.scan(Patience::WhenStable), [], "loaded once");
}

#[test]
fn foreign_files_and_folders_in_the_models_folder_are_ignored() {
    let models = Models::new(&[]);
    TestBundle::clv("v1.2").write(models.path());
    fs::write(models.path().join("README.md"), "hello").expect("written");
    fs::create_dir_all(models.path().join("clv/.tmp-v9")).expect("created");
    fs::create_dir_all(models.path().join("clv/empty")).expect("created");
    assert_eq!(models.registry.scan(Patience::Now).len(), 1);
    assert_eq!(models.registry.status().len(), 1);
}

/// Promotions, as a store keeps them.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Promotions>>);

impl PromotionKeeper for Kept {
    fn keep(
        &self,
        model: &ModelName,
        version: Option<&ModelVersion>,
        before: &[ModelVersion],
    ) -> Result<Promotions, String> {
        let mut kept = self.0.lock().expect("not poisoned");
        kept.number += 1;
        kept.before.insert(model.clone(), before.to_vec());
        match version {
            Some(version) => drop(kept.versions.insert(model.clone(), version.clone())),
            None => drop(kept.versions.remove(model)),
        }
        Ok(kept.clone())
    }
}

#[test]
fn what_one_replica_promotes_the_others_serve() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for version in ["v1.1", "v1.2"] {
        TestBundle::clv(version).write(folder.path());
    }
    let kept = Kept::default();
    let replicas = [(), ()].map(|()| {
        let registry = Registry::new(RegistrySettings::new(folder.path().to_owned()), golden::verify);
        registry.keep_promotions(kept.clone());
        registry.scan(Patience::Now);
        registry.scan(Patience::WhenStable);
        registry
    });
    let [one, other] = &replicas;
    let serving = |registry: &Registry| registry.serving(&name("clv")).expect("serves").version().to_string();
    let now = || kept.0.lock().expect("not poisoned").clone();
    let before = now();
    one.promote("clv", "v1.1").expect("promoted");
    other.follow(now());
    assert_eq!((serving(one), serving(other)), ("v1.1".to_owned(), "v1.1".to_owned()));
    // What was read before a change and arrives after it changes nothing.
    one.follow(before);
    assert_eq!(serving(one), "v1.1");
    other.follow_latest("clv").expect("follows");
    one.follow(now());
    assert_eq!((serving(one), serving(other)), ("v1.2".to_owned(), "v1.2".to_owned()));
}

#[test]
fn a_promotion_outlives_a_restart_and_newer_versions_until_it_is_taken_back() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let dir = folder.path().join("models");
    let kept = Kept::default();
    let registry = || {
        let registry = Registry::new(RegistrySettings::new(dir.clone()), golden::verify);
        registry.keep_promotions(kept.clone());
        registry.follow(kept.0.lock().expect("not poisoned").clone());
        registry.scan(Patience::Now);
        registry
    };
    let serving = |registry: &Registry| registry.serving(&name("clv")).expect("serves").version().to_string();
    for (version, log_mean) in [("v1.1", 3.0), ("v1.2", 4.0), ("v1.3", 5.0)] {
        TestBundle::clv(version).with_log_mean(log_mean).write(&dir);
    }
    let first = registry();
    first.scan(Patience::WhenStable);
    assert_eq!(serving(&first), "v1.3");
    let shown = first.promote("clv", "v1.2").expect("promoted");
    let held: Vec<_> = shown.iter().map(|version| (version.version.as_str(), version.held)).collect();
    assert_eq!(held, [("v1.1", None), ("v1.2", Some(Hold::Promoted)), ("v1.3", None)]);
    assert_eq!(serving(&first), "v1.2");
    TestBundle::clv("v1.4").write(&dir);
    first.scan(Patience::WhenStable);
    first.scan(Patience::WhenStable);
    assert_eq!(serving(&first), "v1.2", "newer ones do not take over");
    let second = registry();
    assert_eq!(serving(&second), "v1.2", "nor after a restart");
    second.scan(Patience::WhenStable);
    second.follow_latest("clv").expect("follows");
    assert_eq!(serving(&second), "v1.4");
    second.rollback("clv").expect("rolls back");
    assert_eq!(serving(&second), "v1.2", "what served before");
    second.rollback("clv").expect("rolls back");
    assert_eq!(serving(&second), "v1.3", "what served before that, in the process before");
    second.scan(Patience::WhenStable);
    second.promote("clv", "v1.1").expect("promoted");
    assert_eq!(serving(&registry()), "v1.1");
}

#[test]
fn a_rollback_after_a_restart_goes_where_it_would_have_gone_without() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let kept = Kept::default();
    let started = || {
        let registry = Registry::new(RegistrySettings::new(folder.path().to_owned()), golden::verify);
        registry.keep_promotions(kept.clone());
        registry.follow(kept.0.lock().expect("not poisoned").clone());
        registry.scan(Patience::Now);
        registry.scan(Patience::WhenStable);
        registry
    };
    let serving = |registry: &Registry| registry.serving(&name("clv")).expect("serves").version().to_string();
    for version in ["v1.1", "v1.2", "v1.3"] {
        TestBundle::clv(version).write(folder.path());
    }
    assert_eq!(serving(&started()), "v1.3");
    started().promote("clv", "v1.1").expect("promoted");
    // Nothing is older than what serves now: only what was kept knows where to.
    let again = started();
    assert_eq!(serving(&again), "v1.1");
    again.rollback("clv").expect("rolls back");
    assert_eq!(serving(&again), "v1.3");
    // Back and back, each in a process of its own: what was rolled back from is not come by again.
    started().promote("clv", "v1.2").expect("promoted");
    started().promote("clv", "v1.1").expect("promoted");
    let target = |registry: Registry| {
        registry.rollback("clv").expect("rolls back");
        serving(&registry)
    };
    assert_eq!([target(started()), target(started())], ["v1.2", "v1.3"]);
    // The newest again, and back.
    started().promote("clv", "v1.1").expect("promoted");
    started().follow_latest("clv").expect("follows");
    assert_eq!((serving(&started()), target(started()).as_str()), ("v1.3".to_owned(), "v1.1"));
}

#[test]
fn a_lone_file_keeps_the_manifest_it_took_over_across_restarts() {
    use crate::support::onnx_file::linear;

    let folder = tempfile::tempdir().expect("temporary folder");
    let bundle = |version: &str| TestBundle::clv_onnx(version, "linear", linear(&[0.0; 4], 14.0));
    let started = |inherited: &BTreeMap<(ModelName, ModelVersion), String>| {
        let registry = Registry::new(RegistrySettings::new(folder.path().to_owned()), golden::verify);
        registry.follow(Promotions { inherited: inherited.clone(), ..Promotions::default() });
        registry.scan(Patience::Now);
        registry
    };
    let serving = |registry: &Registry| registry.serving(&name("clv")).expect("serves");
    let from = |registry: &Registry| serving(registry).manifest().inherited_from.clone().map(|it| it.to_string());
    bundle("v1.2").write(folder.path());
    fs::write(folder.path().join("clv/v1.3.onnx"), linear(&[0.0; 4], 15.0)).expect("written");
    let first = started(&BTreeMap::new());
    assert_eq!(from(&first).as_deref(), Some("v1.2"));
    let kept: BTreeMap<_, _> = first.unkept_manifests().into_iter().collect();
    assert_eq!(kept.len(), 1);
    // What it took over is not there any more, another one that would do is: other limits, other tiers.
    bundle("v1.2.5").edit("high = 40.0", "high = 12.0").write(folder.path());
    fs::remove_dir_all(folder.path().join("clv/v1.2")).expect("removed");
    let again = started(&kept);
    assert_eq!(serving(&again).digest(), serving(&first).digest());
    assert_eq!(again.unkept_manifests(), [], "nothing new");
    // Told late, the first choice still counts; another file under the same name begins anew.
    let late = started(&BTreeMap::new());
    assert_eq!(from(&late).as_deref(), Some("v1.2.5"));
    late.scan(Patience::WhenStable);
    late.follow(Promotions { inherited: kept.clone(), ..Promotions::default() });
    assert_eq!(serving(&late).digest(), serving(&first).digest());
    fs::write(folder.path().join("clv/v1.3.onnx"), linear(&[0.0; 4], 16.0)).expect("written");
    assert_eq!(from(&started(&kept)).as_deref(), Some("v1.2.5"));
}

#[test]
fn a_model_without_an_earlier_version_has_nothing_to_go_back_to() {
    let models = Models::new(&[]);
    TestBundle::clv("v1.2").write(models.path());
    models.registry.scan(Patience::Now);
    assert!(matches!(models.registry.rollback("clv"), Err(ChangeFault::NothingBefore { .. })));
}

#[test]
fn a_change_that_can_not_be_made_says_why_and_changes_nothing() {
    let models = Models::new(&[("pinned", "v1")]);
    TestBundle::clv("v1.1").write(models.path());
    TestBundle::clv("v1.2").write(models.path());
    TestBundle { name: "pinned".into(), ..TestBundle::clv("v1") }.write(models.path());
    TestBundle::clv("v1.0").edit("level = 0.9", "level = 1.9").write(models.path());
    models.registry.scan(Patience::Now);
    let said = |model: &str, version: &str| models.registry.promote(model, version).expect_err("refused").to_string();
    assert_eq!(said("nobody", "v1"), "there is no model `nobody`; there are: clv, pinned");
    assert_eq!(said("clv", "v9"), "model `clv` has no version `v9`; there are: v1.2, v1.1, v1.0");
    assert_eq!(
        said("pinned", "v1"),
        "`models.pins.pinned` = `v1` in the settings wins over every change: take it out first"
    );
    assert!(said("clv", "v1.1").contains("may still be being written"), "seen once");
    models.registry.scan(Patience::WhenStable);
    assert!(said("clv", "v1.0").contains("version `v1.0` is refused (manifest)"));
    assert_eq!(models.serving().as_deref(), Some("v1.2"));
}

#[tokio::test]
async fn one_call_of_the_admin_listener_changes_what_serves() {
    let bundles = [TestBundle::clv("v1.1"), TestBundle::clv("v1.2").with_log_mean(4.0)];
    let app = TestApp::with(&bundles, |_| {});
    app.registry.scan(Patience::WhenStable);
    let states = |reply: &Reply| {
        let models = reply.json()["models"].as_array().expect("models").clone();
        let state = |model: &serde_json::Value| {
            let text = |key: &str| model[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", text("version"), text("state"), text("held"))
        };
        models.iter().map(state).collect::<Vec<_>>()
    };
    let reply = app.admin_post("/admin/models/clv/v1.1/promote").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(states(&reply), ["v1.1 serving promoted", "v1.2 available -"]);
    let reply = app.admin_post("/admin/models/clv/rollback").await;
    assert_eq!(states(&reply), ["v1.1 available -", "v1.2 serving promoted"]);
    let reply = app.admin_post("/admin/models/clv/latest").await;
    assert_eq!(states(&reply), ["v1.1 available -", "v1.2 serving -"]);
    let reply = app.admin_post("/admin/models/clv/v3/promote").await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (404, Some("not_found")));
    TestBundle::clv("v3").edit("level = 0.9", "level = 1.9").write(app.models.path());
    app.registry.scan(Patience::WhenStable);
    app.registry.scan(Patience::WhenStable);
    let reply = app.admin_post("/admin/models/clv/v3/promote").await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (409, Some("model_not_changed")));
    assert!(reply.text.contains("interval.level"), "{}", reply.text);
}
