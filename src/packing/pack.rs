//! Makes a bundle of a model trained elsewhere, or calibrates one anew: the same calibration, measurement and golden rows as
//! our own get.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_engine::features::Impute;
use scoreline_engine::features::schema::{NamedImpute, Transform};
use scoreline_engine::inference::bundle::{BundleFiles, LoadSettings};
use scoreline_engine::inference::manifest::{
    Apply, BackendKind, ColdStartFeature, Manifest, MappedOutput, Output, Outputs, TrainingSummary,
};

use crate::packing::assemble::{self, Draft, Evidence};
use crate::packing::calibrate::Grouping;
use crate::packing::html;
use crate::packing::leaks::{self, LeakReport};
use crate::packing::library::LibraryCheck;
use crate::packing::quality::{Quality, judge, refuse_nonsense};
use crate::packing::split::Split;
use crate::packing::statistics::{self, FeaturePlan};
use crate::packing::table::{Row, Table};
use crate::packing::{Trained, peers};

/// What the command line says about the model.
#[derive(Clone)]
pub(crate) struct Pack {
    /// How the server would load it.
    pub load: LoadSettings,
    pub model: PathBuf,
    pub table: PathBuf,
    pub name: ModelName,
    pub version: ModelVersion,
    pub backend: BackendKind,
    pub outputs: Outputs,
    pub required: Vec<String>,
    pub missing_to_model: bool,
    pub group_by: String,
    pub group_starts: Vec<f64>,
    pub cold_start_feature: String,
    pub horizon_days: u32,
    pub description: String,
    pub data: String,
    pub synthetic: String,
    pub licence: String,
    pub command: String,
    pub trained_at: Timestamp,
    /// Columns that may look like leaks, and why.
    pub allow: BTreeMap<String, String>,
    /// What the model's own library predicts.
    pub check: Option<LibraryCheck>,
    /// Why it is published with errors that make no sense.
    pub accept: Option<String>,
}

/// `meaning=value` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub meaning: String,
    pub value: String,
}

/// The manifest's `[outputs]` from `--map` and `--apply`.
pub(crate) fn outputs(outputs: &[Mapping], applies: &[Mapping]) -> anyhow::Result<Outputs> {
    let mut found = Outputs::default();
    for Mapping { meaning, value } in outputs {
        let slot = slot(&mut found, meaning)?;
        anyhow::ensure!(slot.is_none(), "`--map {meaning}` is given twice");
        *slot = Some(Output::Name(value.clone()));
    }
    for Mapping { meaning, value } in applies {
        let slot = slot(&mut found, meaning)?;
        let Some(output) = slot else {
            anyhow::bail!("`--apply {meaning}` needs `--map {meaning}=...`");
        };
        let apply = match value.as_str() {
            "identity" => Apply::Identity,
            "exp" => Apply::Exp,
            "expm1" => Apply::Expm1,
            "complement" => Apply::Complement,
            "sigmoid" => Apply::Sigmoid,
            other => {
                anyhow::bail!("`--apply {meaning}` must be identity, exp, expm1, complement or sigmoid, got `{other}`")
            }
        };
        *output = Output::Mapped(MappedOutput { output: output.name().to_owned(), apply, curve: None });
    }
    anyhow::ensure!(found.value.is_some(), "`--map value=...` is required");
    Ok(found)
}

/// Builds the bundle. Nothing is published.
pub(crate) fn pack(pack: Pack, models: &Path, replace: bool) -> anyhow::Result<Trained> {
    let table = Table::read(&pack.table)?;
    for name in pack.required.iter().chain([&pack.group_by, &pack.cold_start_feature]) {
        anyhow::ensure!(
            table.position(name).is_some(),
            "`{name}` is not a feature of {}: {}",
            pack.table.display(),
            table.features.join(", ")
        );
    }
    let impute = if pack.missing_to_model { NamedImpute::None } else { NamedImpute::Mean };
    let plans: Vec<_> = table
        .features
        .iter()
        .map(|name| FeaturePlan {
            name: name.clone(),
            required: pack.required.contains(name),
            impute: Impute::Named(impute),
            transform: Transform::Identity,
        })
        .collect();
    let leaks = leaks::of_table(&plans, &table, &pack.allow)?;
    leaks.refuse()?;
    let extension = match pack.backend {
        BackendKind::Smartcore => "json",
        BackendKind::Trees | BackendKind::Linear | BackendKind::Onnx => {
            pack.model.extension().and_then(|extension| extension.to_str()).unwrap_or("onnx")
        }
    };
    let mut draft = Draft {
        load: pack.load,
        name: pack.name,
        version: pack.version,
        trained_at: pack.trained_at,
        description: pack.description,
        backend: pack.backend,
        file: format!("model.{extension}"),
        model: std::fs::read(&pack.model).with_context(|| format!("cannot read {}", pack.model.display()))?,
        horizon_days: pack.horizon_days,
        as_of: None,
        cold_start_feature: ColdStartFeature::One(pack.cold_start_feature),
        standardize: false,
        outputs: pack.outputs,
        features: Vec::new(),
        derived: Vec::new(),
        grouping: Grouping {
            feature: pack.group_by,
            with: Vec::new(),
            starts: pack.group_starts,
            value_starts: Vec::new(),
            miss_factors: Vec::new(),
        },
        partial: Vec::new(),
        training: TrainingSummary {
            data: pack.data,
            synthetic: pack.synthetic,
            licence: pack.licence,
            command: pack.command,
            allowed: leaks.allowed(),
            ..TrainingSummary::default()
        },
    };
    let fit = table.part(Split::Fit);
    anyhow::ensure!(!fit.is_empty(), "the table has no `fit` rows");
    draft.features = statistics::rules(&plans, &fit)?;
    draft.training.rows = u32::try_from(fit.len())?;
    let manifest = draft.manifest()?;
    let judging = Judging { leaks, check: pack.check.as_ref(), accept: pack.accept.as_deref() };
    calibrated(&draft, manifest, &table, judging, models, replace)
}

/// What the command line says about calibrating a bundle anew.
pub(crate) struct Again {
    /// How the server would load it.
    pub load: LoadSettings,
    pub from: PathBuf,
    pub table: PathBuf,
    pub version: ModelVersion,
    /// Another grouping than the bundle's.
    pub grouping: Option<Grouping>,
    pub command: String,
    pub trained_at: Timestamp,
    /// Why it is published with errors that make no sense.
    pub accept: Option<String>,
}

/// The same model with a calibration of its own, as a new version. Nothing is published.
pub(crate) fn again(again: Again, models: &Path, replace: bool) -> anyhow::Result<Trained> {
    let BundleFiles { manifest, model, .. } = BundleFiles::read(&again.from)?;
    let table = Table::read(&again.table)?;
    let grouping = match (again.grouping, &manifest.interval) {
        (Some(grouping), _) => grouping,
        (None, Some(interval)) => Grouping {
            feature: interval.group_by.clone(),
            with: interval.group_with.clone(),
            starts: interval.groups.iter().map(|group| group.from).collect(),
            value_starts: interval.groups.iter().map(|group| group.value_from).collect(),
            miss_factors: interval.groups.iter().map(|group| group.miss_factor).collect(),
        },
        (None, None) => anyhow::bail!(
            "{} has no calibration to repeat: give `--group-by` and `--group-starts`",
            again.from.display()
        ),
    };
    let missing = |key: &'static str| {
        let from = again.from.display().to_string();
        move || format!("{from} has no `{key}`: only models of customer value are calibrated here")
    };
    let draft = Draft {
        load: again.load,
        name: manifest.name.clone(),
        version: again.version,
        trained_at: again.trained_at,
        description: manifest.description.clone(),
        backend: manifest.backend,
        file: manifest.file.clone(),
        model,
        horizon_days: manifest.horizon_days.with_context(missing("horizon_days"))?,
        as_of: None,
        cold_start_feature: manifest.cold_start_feature.clone().with_context(missing("cold_start_feature"))?,
        standardize: manifest.standardize,
        outputs: manifest.outputs.clone(),
        features: manifest.features.clone(),
        derived: manifest.derived.clone(),
        grouping,
        partial: Vec::new(),
        training: TrainingSummary { command: again.command, ..manifest.training },
    };
    let manifest = draft.manifest()?;
    let judging = Judging { leaks: LeakReport::default(), check: None, accept: again.accept.as_deref() };
    calibrated(&draft, manifest, &table, judging, models, replace)
}

/// What a bundle is judged by beside its figures.
pub(crate) struct Judging<'a> {
    pub leaks: LeakReport,
    pub check: Option<&'a LibraryCheck>,
    pub accept: Option<&'a str>,
}

/// Calibrates a model on the `calibration` rows of a table, measures it on the `test` rows and stages the bundle.
pub(crate) fn calibrated(
    draft: &Draft,
    mut manifest: Manifest,
    table: &Table,
    Judging { leaks, check, accept }: Judging<'_>,
    models: &Path,
    replace: bool,
) -> anyhow::Result<Trained> {
    let snapshot = draft.snapshot(&manifest)?;
    let table = assemble::in_order(table, &snapshot)?;
    let checked = check.map(|check| check.run(&snapshot, &table)).transpose()?;
    let calibration = table.part(Split::Calibration);
    let test = table.part(Split::Test);
    for (part, rows) in [("calibration", &calibration), ("test", &test)] {
        anyhow::ensure!(!rows.is_empty(), "the table has no `{part}` rows");
    }
    let known: Vec<&Row> = table.rows.iter().filter(|row| row.split != Split::Test).collect();
    let evidence = Evidence {
        calibration: assemble::score(&snapshot, &calibration, &draft.grouping, &[])?,
        unknown: match draft.grouping.with.as_slice() {
            [] => Vec::new(),
            // Callers who do not know what picks the group.
            with => {
                let names = [with, std::slice::from_ref(&draft.grouping.feature)].concat();
                assemble::score(&snapshot, &calibration, &draft.grouping, &assemble::positions(&snapshot, &names)?)?
            }
        },
        peers: peers(&known),
    };
    assemble::conclude(&mut manifest, &evidence, &draft.grouping, draft.as_of)?;
    let judged = judge(&draft.snapshot(&manifest)?, &test, &[])?;
    let quality = vec![Quality::of("", &judged, &draft.grouping, table.position(&draft.grouping.feature))?];
    "one split of the customers: fit, calibration, test".clone_into(&mut manifest.training.protocol);
    assemble::record(&mut manifest, &quality);
    manifest.training.accepted = refuse_nonsense(&quality[0], accept)?;
    let staged = assemble::stage(draft, manifest, &test, &[], models, replace)?;
    let evidence = html::run::Evidence::of(&staged.load()?, &judged)?;
    Ok(Trained { staged, quality, leaks, evidence, checked })
}

fn slot<'o>(outputs: &'o mut Outputs, meaning: &str) -> anyhow::Result<&'o mut Option<Output>> {
    Ok(match meaning {
        "value" => &mut outputs.value,
        "risk" => &mut outputs.risk,
        "low" => &mut outputs.low,
        "high" => &mut outputs.high,
        "log_mean" => &mut outputs.log_mean,
        "log_sigma" => &mut outputs.log_sigma,
        other => anyhow::bail!("an output means value, risk, low, high, log_mean or log_sigma, got `{other}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(meaning: &str, value: &str) -> Mapping {
        Mapping { meaning: meaning.into(), value: value.into() }
    }

    #[test]
    fn outputs_are_mapped_by_meaning() {
        let found = outputs(&[mapping("value", "variable"), mapping("risk", "p")], &[mapping("value", "exp")]);
        let found = found.expect("valid");
        let value = found.value.expect("given");
        assert_eq!((value.name(), value.apply()), ("variable", Apply::Exp));
        assert_eq!(found.risk.expect("given").apply(), Apply::Identity);
    }

    #[test]
    fn a_wrong_mapping_is_refused_with_what_is_allowed() {
        let refused =
            |given: &[Mapping], applies: &[Mapping]| outputs(given, applies).expect_err("refused").to_string();
        assert!(refused(&[mapping("worth", "x")], &[]).starts_with("an output means value, risk"));
        assert!(refused(&[mapping("risk", "x")], &[]).contains("`--map value=...` is required"));
        let value = [mapping("value", "x")];
        assert!(refused(&value, &[mapping("value", "log")]).contains("must be identity, exp"));
        assert!(refused(&value, &[mapping("risk", "exp")]).contains("needs `--map risk=...`"));
    }

    #[test]
    fn a_model_from_elsewhere_becomes_a_bundle_that_is_calibrated_and_verified() {
        use scoreline_engine::inference::linear::{Format, LinearModel, Link, Predictor, RegressionVariant};

        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("outside.json");
        let predictor = Predictor { intercept: 2.0, coefficients: vec![0.1], floor: 0.0, ceiling: 9.0 };
        let variants = vec![RegressionVariant { uses: vec!["purchase_count".into()], predictor }];
        let linear = LinearModel::Regression { format: Format::V1, link: Link::Identity, variants };
        std::fs::write(&model, linear.write()).expect("writes");
        let table = folder.path().join("features.csv");
        let mut csv = "customer,split,purchase_count,spend_usd,segment\n".to_owned();
        for i in 0..600_u32 {
            let split = ["fit", "calibration", "test"][(i % 3) as usize];
            let count = 1 + i % 5;
            let spend = if i % 4 == 0 { 0 } else { i % 40 };
            let segment = if i % 2 == 0 { "even" } else { "odd" };
            csv.push_str(
                &[i.to_string(), split.into(), count.to_string(), spend.to_string(), segment.into()].join(","),
            );
            csv.push('\n');
        }
        std::fs::write(&table, csv).expect("writes");
        let mut order = Pack {
            load: LoadSettings::default(),
            model,
            table,
            name: ModelName::parse("outside").expect("a name"),
            version: ModelVersion::parse("v1").expect("a version"),
            backend: BackendKind::Linear,
            outputs: outputs(&[mapping("value", "value")], &[mapping("value", "exp")]).expect("valid"),
            required: vec!["purchase_count".into()],
            missing_to_model: false,
            group_by: "purchase_count".into(),
            group_starts: vec![1.0, 3.0],
            cold_start_feature: "purchase_count".into(),
            horizon_days: 90,
            description: String::new(),
            data: String::new(),
            synthetic: String::new(),
            licence: String::new(),
            command: "scoreline models pack".into(),
            trained_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
            allow: BTreeMap::new(),
            check: None,
            accept: Some("amounts made up for a test".to_owned()),
        };
        let Trained { staged, leaks, .. } = pack(order.clone(), &folder.path().join("models"), false).expect("packs");
        assert!(leaks.checks.iter().all(|check| check.passed), "{leaks:?}");
        let manifest = &staged.manifest;
        assert_eq!(
            (manifest.file.as_str(), manifest.horizon_days, manifest.standardize),
            ("model.json", Some(90), false)
        );
        assert_eq!(manifest.interval.as_ref().map(|interval| interval.groups.len()), Some(2));
        assert_eq!(manifest.baselines.segment.len(), 2);
        let reference = manifest.drift.as_ref().expect("frozen");
        assert_eq!((reference.rows, reference.score_rows), (200, 200));
        let counts = manifest.features[0].drift.as_ref().expect("frozen");
        assert_eq!((counts.edges.as_slice(), counts.shares.len()), (&[1.0, 2.0, 3.0, 4.0][..], 5));
        assert!(counts.shares.iter().all(|share| (share - 0.2).abs() < 1e-9), "{counts:?}");
        assert!(reference.score.is_some());
        // The model knows nothing: e^(2 + count / 10) against spend that does not depend on the count.
        let covered = manifest.training.metrics["interval_coverage"];
        assert!((0.8..=1.0).contains(&covered), "{covered}");
        assert!(staged.publish().expect("publishes").join("golden.jsonl").exists());

        order.required = vec!["tenure_days".into()];
        let Err(refused) = pack(order, &folder.path().join("models"), true) else { panic!("was packed") };
        assert!(refused.to_string().contains("`tenure_days` is not a feature of"), "{refused:#}");
    }
}
