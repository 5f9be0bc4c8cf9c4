//! A model that makes no sense does not serve: what answers too differently is held until a person promotes it.

use std::fs;
use std::path::Path;
use std::process::Command;

use scoreline::scoring::{gate, golden};
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_engine::inference::registry::{
    CandidateMode, Patience, Registry, RegistryEvent, RegistrySettings, VersionState, VersionStatus,
};
use tempfile::TempDir;

use crate::support::TestBundle;
use crate::support::onnx_file::linear;

struct Models {
    folder: TempDir,
    registry: Registry,
}

fn name(text: &str) -> ModelName {
    ModelName::parse(text).expect("a name")
}

fn registry(dir: &Path, pin: Option<&str>) -> Registry {
    let pins = pin.map(|pin| (name("clv"), ModelVersion::parse(pin).expect("a version"))).into_iter().collect();
    let settings = RegistrySettings { departure: Some(gate::departure), pins, ..RegistrySettings::new(dir.to_owned()) };
    Registry::new(settings, golden::verify)
}

impl Models {
    fn serving_v1_2() -> Self {
        Self::serving(&TestBundle::clv("v1.2"))
    }

    /// Every customer is worth 14 US dollars to it; lone files can inherit from it.
    fn serving_onnx() -> Self {
        Self::serving(&TestBundle::clv_onnx("v1.2", "linear", linear(&[0.0; 4], 14.0)))
    }

    fn serving(bundle: &TestBundle) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        bundle.write(folder.path());
        let registry = registry(folder.path(), None);
        registry.scan(Patience::Now);
        Self { folder, registry }
    }

    fn poll(&self) -> Vec<RegistryEvent> {
        let mut events = self.registry.scan(Patience::WhenStable);
        events.extend(self.registry.scan(Patience::WhenStable));
        events
    }

    /// What serves when the process is started anew.
    fn restarted(&self) -> (Registry, String) {
        let registry = registry(self.folder.path(), None);
        registry.scan(Patience::Now);
        let serving = serving(&registry);
        (registry, serving)
    }
}

fn serving(registry: &Registry) -> String {
    registry.serving(&name("clv")).expect("a model").version().to_string()
}

fn status(registry: &Registry, version: &str) -> VersionStatus {
    registry.status().into_iter().find(|status| status.version.as_str() == version).expect("known")
}

fn held_reason(registry: &Registry, version: &str) -> String {
    let state = status(registry, version).state;
    let VersionState::Held { reason } = state else { panic!("{state:?}") };
    reason
}

#[test]
fn a_version_that_answers_too_differently_is_a_shadow_until_it_is_promoted() {
    let models = Models::serving_v1_2();
    // e^1.5: 4.5 times the spend of every customer.
    TestBundle::clv("v1.3").with_log_mean(4.5).write(models.folder.path());
    let events = models.poll();
    assert_eq!(serving(&models.registry), "v1.2");
    let reason = held_reason(&models.registry, "v1.3");
    assert!(reason.contains("its mean is") && reason.contains("`v1.2`"), "{reason}");
    assert!(matches!(&events[..], [RegistryEvent::Held { .. }]), "{events:?}");
    assert_eq!(status(&models.registry, "v1.3").trial, Some(CandidateMode::Shadow));
    let route = models.registry.route(&name("clv")).expect("a model");
    assert_eq!(route.candidate.as_ref().expect("a shadow").snapshot.version().as_str(), "v1.3");
    assert_eq!(models.poll(), [], "told once");

    let (restarted, serves) = models.restarted();
    assert_eq!((serves.as_str(), held_reason(&restarted, "v1.3")), ("v1.2", reason), "a restart comes to the same");

    models.registry.promote("clv", "v1.3").expect("a person may");
    assert_eq!(serving(&models.registry), "v1.3");
    assert!(models.registry.route(&name("clv")).expect("a model").candidate.is_none());
}

#[test]
fn a_version_that_answers_alike_takes_over() {
    let models = Models::serving_v1_2();
    TestBundle::clv("v1.3").with_log_mean(3.1).write(models.folder.path());
    models.poll();
    assert_eq!((serving(&models.registry).as_str(), models.restarted().1.as_str()), ("v1.3", "v1.3"));
}

#[test]
fn a_lone_file_of_nonsense_never_serves() {
    let models = Models::serving_onnx();
    for (version, constant) in [("v1.3", 1e38), ("v1.4", -1e38), ("v1.5", 5000.0), ("v1.6", 0.0)] {
        let file = models.folder.path().join("clv").join(format!("{version}.onnx"));
        fs::write(file, linear(&[0.0; 4], constant)).expect("written");
        models.poll();
        assert_eq!(serving(&models.registry), "v1.2", "{constant}");
        let reason = held_reason(&models.registry, version);
        assert!(reason.contains("mean") || reason.contains("no answer"), "{constant}: {reason}");
    }
    assert_eq!(models.restarted().1, "v1.2");
}

#[test]
fn a_suffix_is_below_its_release_and_the_newcomer_says_why_it_waits() {
    let models = Models::serving_v1_2();
    for version in ["v1.2-rc1", "v1.2-beta", "v1.2.dev3", "v1.2-SNAPSHOT", "v1.2-old"] {
        TestBundle::clv(version).write(models.folder.path());
        let events = models.poll();
        assert_eq!((serving(&models.registry).as_str(), models.restarted().1.as_str()), ("v1.2", "v1.2"), "{version}");
        let told = events.iter().any(|event| {
            matches!(event, RegistryEvent::Behind { version: told, reason, .. }
                if told.as_str() == version && reason == "older than `v1.2`, which serves")
        });
        assert!(told, "{version}: {events:?}");
        let status = status(&models.registry, version);
        assert_eq!((status.state, status.behind.is_some()), (VersionState::Unchecked, true), "{version}");
    }
}

#[test]
fn a_lone_file_inherits_from_the_newest_verified_version_below_it_also_after_a_restart() {
    let models = Models::serving_onnx();
    let file = models.folder.path().join("clv/v1.3.onnx");
    fs::write(file, linear(&[0.0; 4], 13.0)).expect("written");
    models.poll();
    let before = models.registry.serving(&name("clv")).expect("a model");
    // A newer one with other limits of the tiers, one between them that is broken.
    TestBundle::clv("v1.4").edit("medium = 10.0", "medium = 1.0").write(models.folder.path());
    TestBundle { golden: "nonsense".into(), ..TestBundle::clv("v1.2.9").edit("medium = 10.0", "medium = 1.0") }
        .write(models.folder.path());
    let restarted = registry(models.folder.path(), Some("v1.3"));
    restarted.scan(Patience::Now);
    let after = restarted.serving(&name("clv")).expect("a model");
    assert_eq!(after.manifest().inherited_from.as_ref().map(ToString::to_string).as_deref(), Some("v1.2"));
    assert_eq!(after.digest(), before.digest());
}

#[test]
fn a_choice_of_a_version_that_is_not_there_is_told_once_with_those_that_are() {
    let models = Models::serving_v1_2();
    let pinned = registry(models.folder.path(), Some("v9"));
    let missing = |events: &[RegistryEvent]| {
        events
            .iter()
            .filter(|event| {
                matches!(event, RegistryEvent::Missing { key, known, .. }
            if key == "models.pins.clv" && known == "v1.2")
            })
            .count()
    };
    assert_eq!(missing(&pinned.scan(Patience::Now)), 1);
    assert_eq!(missing(&pinned.scan(Patience::WhenStable)), 0);
}

#[test]
fn a_pipe_in_place_of_a_manifest_is_refused_by_name() {
    let models = Models::serving_v1_2();
    let folder = models.folder.path().join("clv/v1.3");
    fs::create_dir(&folder).expect("made");
    let made = Command::new("mkfifo").arg(folder.join("bundle.toml")).status().expect("mkfifo runs");
    assert!(made.success());
    models.poll();
    assert_eq!(serving(&models.registry), "v1.2");
    let state = status(&models.registry, "v1.3").state;
    assert_eq!(state.refusal().map(|(code, _)| code), Some("unreadable"), "{state:?}");
}
