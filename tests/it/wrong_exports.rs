//! Real exports of `LightGBM`, `CatBoost`, `XGBoost` and scikit-learn that are silently wrong: those whose file tells are refused,
//! those whose outputs are no probabilities are refused at their probe, and the rest is held. `tests/fixtures/exports`
//! holds them and says how they are made.

use std::fs;
use std::path::Path;

use scoreline::scoring::{gate, golden};
use scoreline_domain::ModelName;
use scoreline_engine::inference::registry::{Patience, Registry, RegistrySettings, VersionState};

use crate::support::TestBundle;

fn export(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/exports");
    fs::read(folder.join(format!("{name}.onnx"))).expect("a fixture")
}

/// A bundle around an export, without golden rows.
fn bundle(model: &str, version: &str, manifest: &'static str) -> TestBundle {
    let onnx = Some(export(model));
    let (name, version) = (if manifest == LEAD { "lead" } else { "clv" }, version.to_owned());
    TestBundle {
        name: name.into(),
        version,
        model: String::new(),
        onnx,
        manifest,
        edits: vec![("{features}".to_owned(), FEATURES.to_owned())],
        golden: String::new(),
    }
}

fn registry(models: &Path) -> Registry {
    let settings = RegistrySettings { departure: Some(gate::departure), ..RegistrySettings::new(models.to_owned()) };
    let registry = Registry::new(settings, golden::verify);
    registry.scan(Patience::Now);
    registry
}

/// Code and reason of the one refusal.
fn refusal(registry: &Registry) -> (String, String) {
    let status = registry.status();
    let refused: Vec<_> = status.iter().filter_map(|version| version.state.refusal()).collect();
    let [(code, reason)] = refused.as_slice() else { panic!("one refusal: {status:?}") };
    ((*code).to_owned(), (*reason).to_owned())
}

fn serving(registry: &Registry, model: &str) -> Option<String> {
    registry.serving(&ModelName::parse(model).expect("a name")).map(|snapshot| snapshot.version().to_string())
}

#[test]
fn right_exports_serve() {
    for model in ["lightgbm", "lightgbm_poisson", "hist", "xgboost"] {
        let models = tempfile::tempdir().expect("temporary folder");
        bundle(model, "v1", CLV).write(models.path());
        let registry = registry(models.path());
        assert_eq!(serving(&registry, "clv").as_deref(), Some("v1"), "{model}: {:?}", registry.status());
    }
}

#[test]
fn what_a_file_tells_of_a_lost_step_refuses_it_until_the_manifest_makes_it_good() {
    let (named, mapped) = ("value = \"variable\"", "value = { output = \"predictions\", apply = \"exp\" }");
    for (model, loss) in [("catboost_poisson", "Poisson"), ("catboost_tweedie", "Tweedie")] {
        let models = tempfile::tempdir().expect("temporary folder");
        bundle(model, "v1", CLV).edit(named, "value = \"predictions\"").write(models.path());
        let (code, reason) = refusal(&registry(models.path()));
        assert_eq!(code, "lost_step", "{model}: {reason}");
        assert!(reason.contains(&format!("loss `{loss}`")) && reason.contains("apply = \"exp\""), "{reason}");
        bundle(model, "v1", CLV).edit(named, mapped).write(models.path());
        assert_eq!(serving(&registry(models.path()), "clv").as_deref(), Some("v1"), "{model} with its exponent");
    }
    let models = tempfile::tempdir().expect("temporary folder");
    bundle("catboost", "v1", CLV).edit(named, "value = \"predictions\"").write(models.path());
    assert_eq!(serving(&registry(models.path()), "clv").as_deref(), Some("v1"), "squared error has no last step");
}

#[test]
fn forests_that_are_divided_by_a_hundred_are_refused() {
    for (model, manifest, says) in [
        ("lightgbm_forest", CLV, "of 20 trees whose exporter divides their sum by 100"),
        ("lightgbm_forest_binary", LEAD, "divides probabilities by 100"),
    ] {
        let models = tempfile::tempdir().expect("temporary folder");
        bundle(model, "v1", manifest).write(models.path());
        let (code, reason) = refusal(&registry(models.path()));
        assert_eq!(code, "lost_step", "{model}: {reason}");
        assert!(reason.contains(says), "{reason}");
    }
}

#[test]
fn margins_that_are_read_as_probabilities_are_refused_at_the_probe() {
    let models = tempfile::tempdir().expect("temporary folder");
    let margins = bundle("xgboost_logistic", "v1", LEAD).edit("\"probabilities[1]\"", "\"variable\"");
    margins.write(models.path());
    let (code, reason) = refusal(&registry(models.path()));
    assert_eq!(code, "not_a_probability", "{reason}");
    assert!(reason.starts_with("output `variable` is read as a probability and is "), "{reason}");
}

#[test]
fn what_no_file_tells_is_held_when_it_arrives_alone() {
    for model in ["lightgbm_forest_summed", "hist_poisson"] {
        let models = tempfile::tempdir().expect("temporary folder");
        bundle("lightgbm", "v1", CLV).write(models.path());
        fs::write(models.path().join("clv/v2.onnx"), export(model)).expect("written");
        let registry = registry(models.path());
        assert_eq!(serving(&registry, "clv").as_deref(), Some("v1"), "{model}");
        let status = registry.status();
        let held = status.iter().find(|version| version.version.as_str() == "v2").expect("listed");
        assert!(matches!(held.state, VersionState::Held { .. }), "{model}: {held:?}");
    }
}

const CLV: &str = r#"
bundle_version = 1
name = "{name}"
version = "{version}"
task = "clv"
backend = "trees"
file = "model.onnx"
sha256 = "{sha256}"
trained_at = "2026-01-01T00:00:00Z"
horizon_days = 90
cold_start_feature = "purchase_count"

[outputs]
value = "variable"

[tiers]
medium = 20.0
high = 60.0

[neutral]
value = 29.0
low = 0.0
high = 120.0
risk = 0.2
tier_share = [0.5, 0.3, 0.2]

{features}"#;

const LEAD: &str = r#"
bundle_version = 1
name = "{name}"
version = "{version}"
task = "lead"
backend = "trees"
file = "model.onnx"
sha256 = "{sha256}"
trained_at = "2026-01-01T00:00:00Z"

[outputs]
probability = "probabilities[1]"

[lead]
population = "generated"
rows = 300
made_at = "2026-05-01T00:00:00Z"
base_rate = 0.57
reference = [{hundredths}]

{features}"#;

/// The features of every export, behind its manifest.
const FEATURES: &str = r#"[[features]]
name = "recency_days"
impute = "none"
min = 0.0
max = 398.0
mean = 115.0
std = 90.0

[[features]]
name = "purchase_count"
impute = "none"
min = 1.0
max = 9.0
mean = 3.0
std = 1.4

[[features]]
name = "tenure_days"
impute = "none"
min = 60.0
max = 399.0
mean = 230.0
std = 98.0

[[features]]
name = "monetary_avg"
impute = "none"
min = 6.0
max = 100.0
mean = 27.0
std = 11.0

[[features]]
name = "spend_last_90d_usd"
impute = "none"
min = 0.0
max = 190.0
mean = 19.0
std = 25.0
"#;
