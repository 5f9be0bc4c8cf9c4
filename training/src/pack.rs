//! Makes a bundle of a model trained elsewhere: the same calibration, measurement and golden rows as our own get.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use scoreline::domain::time::Timestamp;
use scoreline::domain::{ModelName, ModelVersion};
use scoreline::features::Impute;
use scoreline::features::schema::{NamedImpute, Transform};
use scoreline::inference::manifest::{Apply, BackendKind, MappedOutput, Output, Outputs, TrainingSummary};

use crate::assemble::{Draft, Staged, assemble};
use crate::baseline::Peer;
use crate::calibrate::Grouping;
use crate::split::Split;
use crate::statistics::{self, FeaturePlan};
use crate::table::Table;

/// What the command line says about the model.
#[derive(Clone)]
pub struct Pack {
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
}

/// `meaning=value` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub meaning: String,
    pub value: String,
}

/// The manifest's `[outputs]` from `--output` and `--apply`.
pub fn outputs(outputs: &[Mapping], applies: &[Mapping]) -> anyhow::Result<Outputs> {
    let mut found = Outputs::default();
    for Mapping { meaning, value } in outputs {
        let slot = slot(&mut found, meaning)?;
        anyhow::ensure!(slot.is_none(), "`--output {meaning}` is given twice");
        *slot = Some(Output::Name(value.clone()));
    }
    for Mapping { meaning, value } in applies {
        let slot = slot(&mut found, meaning)?;
        let Some(output) = slot else {
            anyhow::bail!("`--apply {meaning}` needs `--output {meaning}=...`");
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
    anyhow::ensure!(found.value.is_some(), "`--output value=...` is required");
    Ok(found)
}

/// Builds the bundle. Nothing is published.
pub fn pack(pack: Pack, models: &Path, replace: bool) -> anyhow::Result<Staged> {
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
    let extension = match pack.backend {
        BackendKind::Smartcore => "json",
        BackendKind::Trees | BackendKind::Linear | BackendKind::Onnx => {
            pack.model.extension().and_then(|extension| extension.to_str()).unwrap_or("onnx")
        }
    };
    let draft = Draft {
        name: pack.name,
        version: pack.version,
        trained_at: pack.trained_at,
        description: pack.description,
        backend: pack.backend,
        file: format!("model.{extension}"),
        model: std::fs::read(&pack.model).with_context(|| format!("can not read {}", pack.model.display()))?,
        horizon_days: pack.horizon_days,
        cold_start_feature: pack.cold_start_feature,
        standardize: false,
        outputs: pack.outputs,
        features: statistics::rules(&plans, &table)?,
        grouping: Grouping { feature: pack.group_by, with: Vec::new(), starts: pack.group_starts },
        partial: Vec::new(),
        training: TrainingSummary {
            data: pack.data,
            synthetic: pack.synthetic,
            licence: pack.licence,
            command: pack.command,
            ..TrainingSummary::default()
        },
        golden: Vec::new(),
    };
    let peers: Vec<_> = table
        .rows
        .iter()
        .filter(|row| row.split != Split::Test)
        .map(|row| Peer {
            spend_usd: row.spend_usd,
            acquisition_channel: &row.acquisition_channel,
            segment: &row.segment,
        })
        .collect();
    assemble(&draft, &table, &peers, models, replace)
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
        assert!(refused(&[mapping("risk", "x")], &[]).contains("`--output value=...` is required"));
        let value = [mapping("value", "x")];
        assert!(refused(&value, &[mapping("value", "log")]).contains("must be identity, exp"));
        assert!(refused(&value, &[mapping("risk", "exp")]).contains("needs `--output risk=...`"));
    }

    #[test]
    fn a_model_from_elsewhere_becomes_a_bundle_that_is_calibrated_and_verified() {
        use scoreline::inference::linear::{Format, LinearModel, Link, Predictor, RegressionVariant};

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
            let (count, spend) = (1 + i % 5, if i % 4 == 0 { 0 } else { i % 40 });
            let segment = if i % 2 == 0 { "even" } else { "odd" };
            csv.push_str(
                &[i.to_string(), split.into(), count.to_string(), spend.to_string(), segment.into()].join(","),
            );
            csv.push('\n');
        }
        std::fs::write(&table, csv).expect("writes");
        let mut order = Pack {
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
            command: "scoreline-training pack".into(),
            trained_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
        };
        let staged = pack(order.clone(), &folder.path().join("models"), false).expect("packs");
        let manifest = &staged.manifest;
        assert_eq!(
            (manifest.file.as_str(), manifest.horizon_days, manifest.standardize),
            ("model.json", Some(90), false)
        );
        assert_eq!(manifest.interval.as_ref().map(|interval| interval.groups.len()), Some(2));
        assert_eq!(manifest.baselines.segment.len(), 2);
        // The model knows nothing: e^(2 + count / 10) against spend that does not depend on the count.
        let covered = manifest.training.metrics["interval_coverage"];
        assert!((0.8..=1.0).contains(&covered), "{covered}");
        assert!(staged.publish().expect("publishes").join("golden.jsonl").exists());

        order.required = vec!["tenure_days".into()];
        let Err(refused) = pack(order, &folder.path().join("models"), true) else { panic!("was packed") };
        assert!(refused.to_string().contains("`tenure_days` is not a feature of"), "{refused:#}");
    }
}
