//! Makes a bundle of a model trained elsewhere, or calibrates one anew: the same calibration, measurement and golden rows as
//! our own get.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_engine::features::schema::{NamedImpute, Transform};
use scoreline_engine::features::{FeatureRule, Impute};
use scoreline_engine::inference::bundle::{self, BundleFiles, LoadSettings, ModelSnapshot, run_rows};
use scoreline_engine::inference::manifest::{
    Apply, BackendKind, ColdStartFeature, Information, Manifest, MappedOutput, Output, Outputs, TrainingSummary,
};

use crate::packing::assemble::{self, Draft, Evidence, InformationPlan};
use crate::packing::calibrate::Grouping;
use crate::packing::drift;
use crate::packing::fitted;
use crate::packing::html;
use crate::packing::leaks::{self, LeakReport};
use crate::packing::library::LibraryCheck;
use crate::packing::quality::{Quality, judge, refuse_nonsense};
use crate::packing::split::Split;
use crate::packing::statistics::{self, FeaturePlan};
use crate::packing::table::{Row, Table};
use crate::packing::{Trained, peers};

/// Fields of the documented request.
const CORE: [&str; 5] =
    ["recency_days", "frequency_count", "avg_handling_time_sec", "sentiment_score_avg", "topic_diversity"];
/// What the figures of callers are called who give no others.
pub(crate) const CORE_LABEL: &str = "core";

/// What the command line says about the model.
#[derive(Clone)]
pub(crate) struct Pack {
    /// How the server would load it.
    pub load: LoadSettings,
    pub model: PathBuf,
    pub table: PathBuf,
    pub name: ModelName,
    pub version: ModelVersion,
    /// What runs it; by its file when `None`.
    pub backend: Option<BackendKind>,
    /// Which output means what: none needs to be said of a model with one output.
    pub maps: Vec<Mapping>,
    pub applies: Vec<Mapping>,
    pub required: Vec<String>,
    pub missing_to_model: bool,
    pub group_by: String,
    pub group_starts: Vec<f64>,
    pub cold_start_feature: String,
    /// As the table says when `None`.
    pub horizon_days: Option<u32>,
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

/// The manifest's `[outputs]` from `--map` and `--apply`, of a model that writes these columns: its only one is the value.
fn outputs(outputs: &[Mapping], applies: &[Mapping], columns: &[String]) -> anyhow::Result<Outputs> {
    let mut found = Outputs::default();
    if let ([], [only]) = (outputs, columns) {
        found.value = Some(Output::Name(only.clone()));
    }
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
    anyhow::ensure!(found.value.is_some(), "`--map value=...` is required: the model writes {}", columns.join(", "));
    Ok(found)
}

/// Builds the bundle. Nothing is published.
pub(crate) fn pack(pack: Pack, models: &Path, replace: bool) -> anyhow::Result<Trained> {
    let table = Table::read(&pack.table)?;
    let model = std::fs::read(&pack.model).with_context(|| format!("cannot read {}", pack.model.display()))?;
    // A file that names its columns reads these; any other reads all of the table in its order.
    let table = match bundle::columns_of(&model)? {
        Some(names) => table.only(&names)?,
        None => table,
    };
    for name in pack.required.iter().chain([&pack.group_by, &pack.cold_start_feature]) {
        anyhow::ensure!(
            table.position(name).is_some(),
            "`{name}` is not a feature that the model reads from {}: {}",
            pack.table.display(),
            table.features.join(", ")
        );
    }
    let fit = table.part(Split::Fit);
    anyhow::ensure!(!fit.is_empty(), "the table has no `fit` rows");
    fitted::refuse_shared(&table, pack.accept.as_deref())?;
    let plans: Vec<_> =
        table.features.iter().enumerate().map(|(column, name)| plan(&pack, &table, column, name)).collect();
    let leaks = leaks::of_table(&plans, &table, &pack.allow)?;
    leaks.refuse()?;
    let backend = match pack.backend {
        Some(backend) => backend,
        None => bundle::backend_of(&model, &table.features)?,
    };
    let extension = match backend {
        BackendKind::Smartcore => "json",
        BackendKind::Trees | BackendKind::Linear | BackendKind::Onnx => {
            pack.model.extension().and_then(|extension| extension.to_str()).unwrap_or("onnx")
        }
    };
    let horizon_days = pack.horizon_days.or(table.horizon_days).context(
        "`--horizon-days` is required: the table has no column `horizon_days` that says how many days `spend_usd` covers",
    )?;
    if let (Some(said), Some(known)) = (pack.horizon_days, table.horizon_days) {
        anyhow::ensure!(said == known, "`--horizon-days {said}`: the outcomes of the table are of {known} days");
    }
    let mut draft = Draft {
        load: pack.load,
        name: pack.name,
        version: pack.version,
        trained_at: pack.trained_at,
        description: pack.description,
        backend,
        file: format!("model.{extension}"),
        model,
        horizon_days,
        as_of: None,
        cold_start_feature: ColdStartFeature::One(pack.cold_start_feature),
        standardize: false,
        outputs: Outputs::default(),
        features: rules(&plans, &table, &fit)?,
        derived: Vec::new(),
        grouping: Grouping {
            feature: pack.group_by,
            with: Vec::new(),
            starts: pack.group_starts,
            value_starts: Vec::new(),
            miss_factors: Vec::new(),
            may_be_empty: false,
        },
        partial: Vec::new(),
        training: TrainingSummary {
            data: pack.data,
            synthetic: pack.synthetic,
            licence: pack.licence,
            command: pack.command,
            allowed: leaks.allowed(),
            rows: u32::try_from(fit.len())?,
            fitted_sample: fitted::sample(&fit),
            ..TrainingSummary::default()
        },
    };
    // Its columns are known when it is loaded, and its last step may be what lets it load.
    draft.outputs = outputs(&pack.maps, &pack.applies, &[String::new()])?;
    let columns = bundle::outputs_of(&draft.manifest()?, &draft.model, &draft.load)?;
    draft.outputs = outputs(&pack.maps, &pack.applies, &columns)?;
    let manifest = draft.manifest()?;
    let judging =
        Judging { leaks, check: pack.check.as_ref(), accept: pack.accept.as_deref(), information: Vec::new() };
    calibrated(&draft, manifest, &table, judging, models, replace)
}

/// How a feature is read. A missing value is left to the model only where its fit rows showed it some: what a model does with
/// a missing value that it never saw is an accident of its library.
fn plan(pack: &Pack, table: &Table, column: usize, name: &str) -> FeaturePlan {
    let is_missing = |row: &Row| row.split == Split::Fit && row.values[column].is_nan();
    let is_text = table.categories.contains_key(name);
    let to_model = is_text || pack.missing_to_model && table.rows.iter().any(is_missing);
    FeaturePlan {
        name: name.to_owned(),
        required: pack.required.iter().any(|required| required == name),
        impute: Impute::Named(if to_model { NamedImpute::None } else { NamedImpute::Mean }),
        transform: Transform::Identity,
    }
}

/// The rules of the planned features; those of texts list them.
fn rules(plans: &[FeaturePlan], table: &Table, fit: &[&Row]) -> anyhow::Result<Vec<FeatureRule>> {
    let mut rules = statistics::rules(plans, fit)?;
    for (column, rule) in rules.iter_mut().enumerate() {
        if let Some(categories) = table.categories.get(&rule.name) {
            let positions: Vec<f64> = fit.iter().map(|row| row.values[column]).collect();
            rule.drift = drift::categories(categories.len(), &positions);
            rule.categories.clone_from(categories);
            (rule.mean, rule.std) = (0.0, 1.0);
            (rule.min, rule.max) = (0.0, categories.len() as f64 - 1.0);
        }
    }
    Ok(rules)
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
        (None, Some(interval)) => Grouping::again(interval),
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
        partial: manifest.information.iter().map(|set| (label(set), set.blank())).collect(),
        training: TrainingSummary { command: again.command, ..manifest.training },
    };
    let information = manifest.information;
    let manifest = draft.manifest()?;
    let table_in_order = assemble::in_order(&table, &draft.snapshot(&manifest)?)?;
    fitted::refuse(&manifest.training.fitted_sample, &table_in_order, again.accept.as_deref())?;
    let judging = Judging { leaks: LeakReport::default(), check: None, accept: again.accept.as_deref(), information };
    calibrated(&draft, manifest, &table, judging, models, replace)
}

/// Positions of the features that callers leave out who send the documented request and no more; `None` where that is no
/// question: the model reads none of its fields, or nothing that may be left out beside them.
fn beside_core(features: &[FeatureRule]) -> Option<Vec<usize>> {
    let is_core = |rule: &FeatureRule| CORE.contains(&rule.name.as_str());
    let others = features.iter().enumerate().filter(|(_, rule)| !is_core(rule) && !rule.required);
    let others: Vec<usize> = others.map(|(position, _)| position).collect();
    (features.iter().any(is_core) && !others.is_empty()).then_some(others)
}

/// What a bundle is judged by beside its figures.
pub(crate) struct Judging<'a> {
    pub leaks: LeakReport,
    pub check: Option<&'a LibraryCheck>,
    pub accept: Option<&'a str>,
    /// How customers were judged of whom less is known.
    pub information: Vec<Information>,
}

/// What the figures of customers are called who belong to a set.
fn label(set: &Information) -> String {
    format!("only_{}", set.name)
}

/// Customers that the tables of a set are made from: with fewer, those of the bundle stay.
const LEAST_OF_A_SET: usize = 100;

/// Rows by what is known of them.
struct RowsBySet<'r> {
    /// Those of whom everything is known; everybody, where they are too few.
    whole: Vec<&'r Row>,
    /// Those of each set. Where they are too few, everybody who can be seen without what it lacks.
    less: Vec<Vec<&'r Row>>,
}

impl<'r> RowsBySet<'r> {
    fn of(snapshot: &ModelSnapshot, rows: &[&'r Row], sets: &[Information]) -> anyhow::Result<Self> {
        let lacks: Vec<String> = sets.iter().map(|set| set.lacks.clone()).collect();
        let lacks = assemble::positions(snapshot, &lacks)?;
        let set_of = |row: &Row| lacks.iter().position(|at| Information::is_lacking(row.values[*at]));
        let of = |set: Option<usize>| rows.iter().filter(move |row| set_of(row) == set).copied();
        let whole: Vec<&Row> = of(None).collect();
        let less = sets.iter().enumerate().map(|(number, set)| {
            let own: Vec<&Row> = of(Some(number)).collect();
            if own.len() >= LEAST_OF_A_SET {
                return Ok(own);
            }
            let blank = assemble::positions(snapshot, &set.blank())?;
            let is_known = |row: &&&Row| !snapshot.is_cold_start(&assemble::raw(snapshot.schema(), &[row], &blank));
            Ok(own.into_iter().chain(whole.iter().filter(is_known).copied()).collect())
        });
        let less = less.collect::<anyhow::Result<_>>()?;
        Ok(Self { whole: if whole.len() < LEAST_OF_A_SET { rows.to_vec() } else { whole }, less })
    }
}

/// Adds the tables of a set, made from these customers as they are seen without what it lacks; the old ones where they are
/// too few. Whether they are new.
fn inform_again(
    manifest: &mut Manifest,
    snapshot: &ModelSnapshot,
    set: &Information,
    rows: &[&Row],
    whole: &Grouping,
) -> anyhow::Result<bool> {
    if rows.len() < LEAST_OF_A_SET {
        manifest.information.push(set.clone());
        return Ok(false);
    }
    let blank = assemble::positions(snapshot, &set.blank())?;
    let grouping = set.interval.as_ref().map_or_else(|| whole.clone(), Grouping::again);
    let scored = assemble::score(snapshot, rows, &grouping, &blank)?;
    let lost = assemble::lost_without(&scored, &without_each(snapshot, rows, &blank)?);
    let plan =
        InformationPlan { name: set.name.clone(), lacks: set.lacks.clone(), unread: set.unread.clone(), grouping };
    assemble::inform(manifest, &plan, &scored, lost)?;
    Ok(true)
}

/// The values predicted of rows without each one more feature.
fn without_each(snapshot: &ModelSnapshot, rows: &[&Row], blank: &[usize]) -> anyhow::Result<Vec<(String, Vec<f64>)>> {
    let rules = snapshot.schema().rules().iter().enumerate().filter(|(at, _)| !blank.contains(at));
    let without = rules.map(|(at, rule)| {
        let raw = assemble::raw(snapshot.schema(), rows, &[blank, &[at]].concat());
        let outputs = run_rows(snapshot, &raw)?;
        let values = outputs.chunks_exact(snapshot.engine().outputs().len());
        Ok((rule.name.clone(), values.map(|outputs| snapshot.roles().value.of(outputs).max(0.0)).collect()))
    });
    without.collect()
}

/// Calibrates a model on the `calibration` rows of a table, measures it on the `test` rows and stages the bundle.
pub(crate) fn calibrated(
    draft: &Draft,
    mut manifest: Manifest,
    table: &Table,
    Judging { leaks, check, accept, information }: Judging<'_>,
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
    let RowsBySet { whole: calibration, less } = RowsBySet::of(&snapshot, &calibration, &information)?;
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
    if let Some(tiers) = &mut manifest.tiers {
        let without = without_each(&snapshot, &calibration, &[])?;
        tiers.lost_without = assemble::lost_without(&evidence.calibration, &without);
    }
    let mut kept = Vec::new();
    for (set, rows) in information.iter().zip(&less) {
        if !inform_again(&mut manifest, &snapshot, set, rows, &draft.grouping)? {
            kept.push(set.name.as_str());
        }
    }
    let judged = judge(&draft.snapshot(&manifest)?, &test, &[])?;
    let grouped = table.position(&draft.grouping.feature);
    let mut quality = vec![Quality::of("", &judged, &draft.grouping, grouped)?];
    if let Some(others) = beside_core(&manifest.features) {
        let known = grouped.filter(|column| !others.contains(column));
        let judged = judge(&draft.snapshot(&manifest)?, &test, &others)?;
        quality.push(Quality::of(CORE_LABEL, &judged, &draft.grouping, known)?);
    }
    let tested = RowsBySet::of(&snapshot, &test, &information)?.less;
    for (set, rows) in information.iter().zip(&tested).filter(|(_, rows)| !rows.is_empty()) {
        let blank = assemble::positions(&snapshot, &set.blank())?;
        let judged = judge(&draft.snapshot(&manifest)?, rows, &blank)?;
        let grouping = set.interval.as_ref().map_or_else(|| draft.grouping.clone(), Grouping::again);
        quality.push(Quality::of(&label(set), &judged, &grouping, table.position(&grouping.feature))?);
    }
    "one split of the customers: fit, calibration, test".clone_into(&mut manifest.training.protocol);
    if !kept.is_empty() {
        let kept = kept.join(", ");
        let why = format!("; too few customers to calibrate {kept} anew: as in the bundle before");
        manifest.training.protocol.push_str(&why);
    }
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
    use scoreline_domain::Tier;

    use super::*;
    use crate::packing::split::mix;

    fn mapping(meaning: &str, value: &str) -> Mapping {
        Mapping { meaning: meaning.into(), value: value.into() }
    }

    #[test]
    fn outputs_are_mapped_by_meaning() {
        let found = outputs(&[mapping("value", "variable"), mapping("risk", "p")], &[mapping("value", "exp")], &[]);
        let found = found.expect("valid");
        let value = found.value.expect("given");
        assert_eq!((value.name(), value.apply()), ("variable", Apply::Exp));
        assert_eq!(found.risk.expect("given").apply(), Apply::Identity);
        let only = outputs(&[], &[mapping("value", "exp")], &["prediction".to_owned()]).expect("one is enough");
        let value = only.value.expect("the only one");
        assert_eq!((value.name(), value.apply()), ("prediction", Apply::Exp));
    }

    #[test]
    fn a_wrong_mapping_is_refused_with_what_is_allowed() {
        let refused = |given: &[Mapping], applies: &[Mapping]| {
            outputs(given, applies, &["a".to_owned(), "b".to_owned()]).expect_err("refused").to_string()
        };
        assert!(refused(&[mapping("worth", "x")], &[]).starts_with("an output means value, risk"));
        assert!(refused(&[mapping("risk", "x")], &[]).contains("`--map value=...` is required: the model writes a, b"));
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
            backend: None,
            maps: Vec::new(),
            applies: vec![mapping("value", "exp")],
            required: vec!["purchase_count".into()],
            missing_to_model: false,
            group_by: "purchase_count".into(),
            group_starts: vec![1.0, 3.0],
            cold_start_feature: "purchase_count".into(),
            horizon_days: Some(90),
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
        assert!(
            refused.to_string().contains("`tenure_days` is not a feature that the model reads from"),
            "{refused:#}"
        );
    }

    /// A table of customers of the shipped `clv` of whom so much is known, half to calibrate and half to measure.
    fn customers(folder: &Path, count: u32, lacking: &[&str]) -> PathBuf {
        let features = [
            ("recency_days", 0.0, 270.0),
            ("frequency_count", 1.0, 30.0),
            ("avg_handling_time_sec", 30.0, 900.0),
            ("sentiment_score_avg", -1.0, 1.0),
            ("sentiment_trend_slope", -0.2, 0.2),
            ("topic_diversity", 1.0, 8.0),
            ("channel_preference_email", 0.0, 0.3),
            ("channel_preference_voice", 0.0, 0.3),
            ("channel_preference_chat", 0.0, 0.3),
            ("purchase_recency_days", 0.0, 270.0),
            ("purchase_count", 1.0, 12.0),
            ("tenure_days", 189.0, 272.0),
            ("monetary_avg", 5.0, 200.0),
            ("total_spend_usd", 5.0, 900.0),
            ("purchase_gap_mean_days", 1.0, 250.0),
        ];
        let drawn = |row: u32, of: u64| mix((u64::from(row) << 8) | of) as f64 / u64::MAX as f64;
        let rows = (0..count).map(|row| {
            let values = features.iter().zip(0..).map(|((name, from, to), of)| {
                let whole = name.ends_with("_count") || name.ends_with("_days") || *name == "topic_diversity";
                // Most are near the lower end.
                let value = from + drawn(row, of).powi(3) * (to - from);
                let value = if whole { value.round() } else { value };
                if lacking.contains(name) { f64::NAN } else { value }
            });
            let buys = drawn(row, 100) < 0.4;
            Row {
                customer: row.to_string(),
                as_of: String::new(),
                split: if row % 2 == 0 { Split::Calibration } else { Split::Test },
                values: values.collect(),
                spend_usd: if buys { 10.0 + 200.0 * drawn(row, 101).powi(3) } else { 0.0 },
                acquisition_channel: String::new(),
                segment: String::new(),
            }
        });
        let names = features.map(|(name, ..)| name.to_owned()).to_vec();
        let table = Table { features: names, rows: rows.collect(), horizon_days: Some(273), ..Table::default() };
        let path = folder.join("customers.csv");
        table.write(&path).expect("writes");
        path
    }

    /// The shipped `clv`, and what it becomes on such a table.
    fn calibrated_again(folder: &Path, table: PathBuf) -> (Manifest, Trained) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/clv/v1.2");
        let before = BundleFiles::read(&from).expect("shipped").manifest;
        let order = Again {
            load: LoadSettings::default(),
            from,
            table,
            version: ModelVersion::parse("v9").expect("a version"),
            grouping: None,
            command: "scoreline models calibrate".into(),
            trained_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
            accept: Some("amounts made up for a test".to_owned()),
        };
        (before, again(order, &folder.join("models"), false).expect("calibrates"))
    }

    #[test]
    fn a_bundle_calibrated_anew_judges_who_is_known_less_by_tables_of_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let table = customers(folder.path(), 1200, &[]);
        let (before, Trained { staged, quality, .. }) = calibrated_again(folder.path(), table.clone());
        let Manifest { information, tiers: Some(whole), drift: Some(drift), .. } = &staged.manifest else {
            panic!("tiers and a reference")
        };
        assert!(!whole.lost_without.is_empty(), "what is imputed lowers the confidence");
        let names = |sets: &[Information]| sets.iter().map(|set| set.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(information), names(&before.information));
        assert_eq!(
            quality.iter().map(|of| of.label.as_str()).collect::<Vec<_>>(),
            ["", CORE_LABEL, "only_interactions", "only_purchases"]
        );
        let snapshot = staged.load().expect("loads");
        let table = assemble::in_order(&Table::read(&table).expect("a table"), &snapshot).expect("all columns");
        for (set, old) in information.iter().zip(&before.information) {
            assert_eq!((&set.lacks, &set.unread), (&old.lacks, &old.unread));
            let interval = set.interval.as_ref().expect("calibrated");
            assert_eq!((interval.pooled.n, interval.groups.is_empty()), (600, false), "{}", set.name);
            assert!(set.tiers != old.tiers && set.score != old.score && !set.tiers.lost_without.is_empty());
            assert_ne!(set.score, drift.score, "{}", set.name);
            // Nobody is put into the middle for being known less.
            let blank = assemble::positions(&snapshot, &set.blank()).expect("features");
            let judged = judge(&snapshot, &table.part(Split::Test), &blank).expect("runs");
            for (tier, share) in Tier::ALL.into_iter().zip([0.7, 0.2, 0.1]) {
                let found = judged.iter().filter(|one| one.estimate.tier == tier).count() as f64 / 600.0;
                assert!((found - share).abs() < 0.06, "{}: {found} are {tier:?}", set.name);
            }
        }
    }

    #[test]
    fn a_set_of_which_a_table_has_nobody_stays_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let interactions = [
            "recency_days",
            "frequency_count",
            "avg_handling_time_sec",
            "sentiment_score_avg",
            "sentiment_trend_slope",
            "topic_diversity",
            "channel_preference_email",
            "channel_preference_voice",
            "channel_preference_chat",
        ];
        let table = customers(folder.path(), 600, &interactions);
        let (before, Trained { staged, .. }) = calibrated_again(folder.path(), table);
        let [interactions, purchases] = staged.manifest.information.as_slice() else { panic!("two sets") };
        assert_eq!(interactions, &before.information[0]);
        assert_eq!(purchases.interval.as_ref().map(|interval| interval.pooled.n), Some(300));
        assert!(staged.manifest.training.protocol.ends_with("calibrate interactions anew: as in the bundle before"));
    }
}
