//! From a fitted model file and a table of customers to a bundle: tiers, calibration, baselines, measured quality and
//! golden rows. Every figure comes from the bundle as the server loads and runs it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use scoreline::domain::time::Timestamp;
use scoreline::domain::{Estimate, ModelName, ModelVersion, Probability, Tier};
use scoreline::features::FeatureRule;
use scoreline::inference::bundle::{
    GOLDEN_FILE, GoldenAnswer, GoldenRequest, GoldenRow, LoadSettings, MANIFEST_FILE, ModelSnapshot, run_rows,
    sha256_hex,
};
use scoreline::inference::manifest::{
    BUNDLE_VERSION, BackendKind, Baseline, Baselines, Manifest, Outputs, Task, Tiers, TrainingSummary,
};
use scoreline::inference::runtime_search::RuntimeSearch;
use scoreline::scoring::estimate::{self, Wish};
use scoreline::scoring::golden;

use crate::baseline::{Peer, baselines};
use crate::calibrate::{Grouping, Scored, calibrate};
use crate::metrics;
use crate::split::Split;
use crate::statistics::round;
use crate::table::{Row, Table};

/// Tier limits are these quantiles of the predicted value on the fit rows.
const TIER_QUANTILES: [f64; 2] = [0.7, 0.9];

/// Largest accepted relative difference of a golden row.
const GOLDEN_TOLERANCE: f64 = 1e-6;

/// What a bundle is made from.
pub struct Draft {
    pub name: ModelName,
    pub version: ModelVersion,
    pub trained_at: Timestamp,
    pub description: String,
    pub backend: BackendKind,
    /// Name of the model file in the bundle, and its bytes.
    pub file: String,
    pub model: Vec<u8>,
    pub horizon_days: u32,
    pub cold_start_feature: String,
    pub standardize: bool,
    pub outputs: Outputs,
    pub features: Vec<FeatureRule>,
    pub grouping: Grouping,
    /// Features that callers leave out together: a label, and what they leave out. Measured beside the whole.
    pub partial: Vec<(String, Vec<String>)>,
    /// Where the model comes from; rows and metrics are filled in here.
    pub training: TrainingSummary,
    /// Requests whose answers go to the golden rows, beside some test customers.
    pub golden: Vec<GoldenRequest>,
}

/// How good a bundle is on the test rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quality {
    pub label: String,
    pub metrics: BTreeMap<String, f64>,
}

/// A finished bundle that is not published yet. Dropped without `publish`, it leaves nothing behind.
pub struct Staged {
    folder: PathBuf,
    target: PathBuf,
    replace: bool,
    pub manifest: Manifest,
    /// The whole first, then each partial one.
    pub quality: Vec<Quality>,
}

/// Where a version goes, refused when it is there already and must not be replaced.
pub fn target(models: &Path, name: &ModelName, version: &ModelVersion, replace: bool) -> anyhow::Result<PathBuf> {
    let target = models.join(name.as_str()).join(version.as_str());
    anyhow::ensure!(
        replace || !target.exists(),
        "{} exists: give another `--version`, or `--force` to replace it",
        target.display()
    );
    Ok(target)
}

/// Builds the bundle in a folder of its own beside the models.
pub fn assemble(
    draft: &Draft,
    table: &Table,
    peers: &[Peer<'_>],
    models: &Path,
    replace: bool,
) -> anyhow::Result<Staged> {
    let target = target(models, &draft.name, &draft.version, replace)?;
    // A leading dot is no model name: whoever watches the folder passes it by.
    let folder = models.join(format!(".staging-{}-{}-{}", draft.name, draft.version, std::process::id()));
    let Draft { model, grouping, partial, .. } = draft;
    let manifest = first_manifest(draft)?;
    let mut staged = Staged { folder, target, replace, manifest, quality: Vec::new() };
    fs::create_dir_all(&staged.folder).with_context(|| format!("can not create {}", staged.folder.display()))?;
    write(&staged.folder.join(&draft.file), model)?;

    let snapshot = staged.save()?;
    let table = in_order(table, &snapshot)?;
    let fit = table.part(Split::Fit);
    let calibration = table.part(Split::Calibration);
    let test = table.part(Split::Test);
    for (part, rows) in [("fit", &fit), ("calibration", &calibration), ("test", &test)] {
        anyhow::ensure!(!rows.is_empty(), "the table has no `{part}` rows");
    }
    let tiers = tiers(&score(&snapshot, &fit, grouping, &[])?);
    let (neutral, tables) = baselines(peers, tiers.thresholds())?;
    staged.manifest.tiers = Some(tiers);
    staged.manifest.neutral = Some(neutral);
    staged.manifest.baselines = tables;
    let residuals = score(&snapshot, &calibration, grouping, &[])?;
    let unknown = match partial.iter().find(|(_, missing)| missing.contains(&grouping.feature)) {
        Some((_, missing)) => score(&snapshot, &calibration, grouping, &positions(&snapshot, missing)?)?,
        None => Vec::new(),
    };
    staged.manifest.interval = Some(calibrate(&residuals, &unknown, grouping)?);

    let snapshot = staged.save()?;
    staged.quality.push(Quality { label: String::new(), metrics: measure(&snapshot, &test, &[])? });
    for (label, missing) in partial {
        let blank = positions(&snapshot, missing)?;
        staged.quality.push(Quality { label: label.clone(), metrics: measure(&snapshot, &test, &blank)? });
    }
    let training = &mut staged.manifest.training;
    training.rows = u32::try_from(fit.len())?;
    training.calibration_rows = u32::try_from(calibration.len())?;
    training.metrics = staged.quality.iter().flat_map(Quality::prefixed).collect();

    let snapshot = staged.save()?;
    write(&staged.folder.join(GOLDEN_FILE), &golden_rows(&snapshot, &test, draft)?)?;
    let snapshot = staged.save()?;
    golden::verify(&snapshot)?;
    Ok(staged)
}

impl Staged {
    /// Begins a bundle of a finished manifest and model file in a folder of its own beside the models.
    pub fn begin(manifest: Manifest, model: &[u8], models: &Path, replace: bool) -> anyhow::Result<Self> {
        let target = target(models, &manifest.name, &manifest.version, replace)?;
        let folder = models.join(format!(".staging-{}-{}-{}", manifest.name, manifest.version, std::process::id()));
        let file = folder.join(&manifest.file);
        let staged = Self { folder, target, replace, manifest, quality: Vec::new() };
        fs::create_dir_all(&staged.folder).with_context(|| format!("can not create {}", staged.folder.display()))?;
        write(&file, model)?;
        Ok(staged)
    }

    pub fn write_golden(&self, lines: &[u8]) -> anyhow::Result<()> {
        write(&self.folder.join(GOLDEN_FILE), lines)
    }

    /// Puts the bundle in its place at once: nobody ever sees half of it.
    pub fn publish(&self) -> anyhow::Result<&Path> {
        let problem = || format!("can not publish {}", self.target.display());
        let parent = self.target.parent().context("a target has a parent")?;
        fs::create_dir_all(parent).with_context(problem)?;
        let old = self.folder.with_extension("old");
        if self.target.exists() {
            anyhow::ensure!(self.replace, "{} has appeared meanwhile", self.target.display());
            fs::rename(&self.target, &old).with_context(problem)?;
        }
        fs::rename(&self.folder, &self.target).with_context(problem)?;
        if old.exists() {
            fs::remove_dir_all(&old).with_context(problem)?;
        }
        Ok(&self.target)
    }

    /// Writes the manifest and loads the bundle as the server would.
    pub fn save(&self) -> anyhow::Result<ModelSnapshot> {
        let text = format!(
            "# Written by `{}`. Train or pack a new version instead of editing.\n{}",
            self.manifest.training.command,
            toml::to_string(&self.manifest)?
        );
        write(&self.folder.join(MANIFEST_FILE), text.as_bytes())?;
        let settings = LoadSettings { runtime: runtime(), onnx_threads: 1, onnx_queue: 1, ..LoadSettings::default() };
        Ok(ModelSnapshot::load(&self.folder, &settings)?)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Already renamed when it was published; a leftover only costs disk.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Quality {
    /// The metrics as the manifest names them: those of a partial request carry its label.
    fn prefixed(&self) -> Vec<(String, f64)> {
        let name = |key: &String| if self.label.is_empty() { key.clone() } else { format!("{}_{key}", self.label) };
        self.metrics.iter().map(|(key, value)| (name(key), *value)).collect()
    }
}

/// Everything the draft knows; what is measured comes later.
fn first_manifest(draft: &Draft) -> anyhow::Result<Manifest> {
    let none = Probability::clamped(0.0).context("zero is a probability")?;
    Ok(Manifest {
        bundle_version: BUNDLE_VERSION,
        name: draft.name.clone(),
        version: draft.version.clone(),
        task: Task::Clv,
        backend: draft.backend,
        file: draft.file.clone(),
        sha256: sha256_hex(&draft.model),
        trained_at: draft.trained_at,
        horizon_days: Some(draft.horizon_days),
        description: draft.description.clone(),
        cold_start_feature: Some(draft.cold_start_feature.clone()),
        standardize: draft.standardize,
        outputs: draft.outputs.clone(),
        tiers: Some(Tiers { medium: 0.0, high: 0.0, hysteresis: None, below_medium: None, below_high: None }),
        neutral: Some(Baseline {
            value: 0.0,
            low: 0.0,
            high: 0.0,
            risk: none,
            tier_share: [none; 3],
            n: 0,
            weight: 0.0,
        }),
        lead: None,
        interval: None,
        training: draft.training.clone(),
        baselines: Baselines::default(),
        features: draft.features.clone(),
    })
}

/// The table with its columns in the schema's order and without customers the model is not asked about.
fn in_order(table: &Table, snapshot: &ModelSnapshot) -> anyhow::Result<Table> {
    let names = || snapshot.schema().rules().iter().map(|rule| rule.name.clone());
    let columns = names()
        .map(|name| table.position(&name).with_context(|| format!("feature `{name}` is not a column of the table")))
        .collect::<Result<Vec<_>, _>>()?;
    let rows = table
        .rows
        .iter()
        .map(|row| Row { values: columns.iter().map(|column| row.values[*column]).collect(), ..row.clone() });
    Ok(Table { features: names().collect(), rows: rows.filter(|row| !snapshot.is_cold_start(&row.values)).collect() })
}

fn positions(snapshot: &ModelSnapshot, names: &[String]) -> anyhow::Result<Vec<usize>> {
    names
        .iter()
        .map(|name| snapshot.schema().position(name).with_context(|| format!("`{name}` is not a feature")))
        .collect()
}

/// Raw rows with some features left out.
fn raw(rows: &[&Row], blank: &[usize]) -> Vec<f64> {
    let mut all = Vec::new();
    for row in rows {
        let values = row.values.iter().enumerate();
        all.extend(values.map(|(i, value)| if blank.contains(&i) { f64::NAN } else { *value }));
    }
    all
}

/// Predictions beside outcomes. The snapshot need not be calibrated yet.
fn score(snapshot: &ModelSnapshot, rows: &[&Row], grouping: &Grouping, blank: &[usize]) -> anyhow::Result<Vec<Scored>> {
    let column = snapshot
        .schema()
        .position(&grouping.feature)
        .with_context(|| format!("`{}` picks the calibration group and is not a feature", grouping.feature))?;
    let raw = raw(rows, blank);
    let outputs = run_rows(snapshot, &raw)?;
    let roles = snapshot.roles();
    let scored = rows.iter().zip(outputs.chunks_exact(snapshot.engine().outputs().len())).map(|(row, outputs)| {
        Scored { value: roles.value.of(outputs).max(0.0), spend_usd: row.spend_usd, group_value: row.values[column] }
    });
    let scored: Vec<_> = scored.collect();
    if let Some(position) = scored.iter().position(|scored| !scored.value.is_finite()) {
        anyhow::bail!("the model's value for customer {} is not a finite number", rows[position].customer);
    }
    Ok(scored)
}

fn tiers(fit: &[Scored]) -> Tiers {
    let mut values: Vec<f64> = fit.iter().map(|scored| scored.value).collect();
    values.sort_unstable_by(f64::total_cmp);
    let [medium, high] = TIER_QUANTILES.map(|quantile| {
        let value = values[((values.len() as f64 * quantile) as usize).min(values.len() - 1)];
        // Whole cents: people read and override these.
        (value * 100.0).round() / 100.0
    });
    Tiers { medium, high, hysteresis: None, below_medium: None, below_high: None }
}

/// All figures on some rows, from the answers a server would give.
fn measure(snapshot: &ModelSnapshot, rows: &[&Row], blank: &[usize]) -> anyhow::Result<BTreeMap<String, f64>> {
    let raw = raw(rows, blank);
    let answers: Vec<Estimate> =
        estimate::estimate_rows(snapshot, &raw, Wish::default())?.into_iter().collect::<Result<_, _>>()?;
    let actual: Vec<f64> = rows.iter().map(|row| row.spend_usd).collect();
    let value: Vec<f64> = answers.iter().map(|answer| answer.value).collect();
    let mut found = vec![
        ("customers".to_owned(), rows.len() as f64),
        ("mean_spend_usd".to_owned(), actual.iter().sum::<f64>() / rows.len() as f64),
        ("normalized_gini".to_owned(), metrics::normalized_gini(&actual, &value)),
        ("total_error".to_owned(), metrics::total_error(&actual, &value)),
        ("decile_error".to_owned(), metrics::decile_error(&actual, &value)),
        ("rmse_usd".to_owned(), metrics::rmse(&actual, &value)),
        ("spearman".to_owned(), metrics::spearman(&actual, &value)),
    ];
    let gone: Vec<bool> = actual.iter().map(|spend| *spend <= 0.0).collect();
    if let Some(risk) = answers.iter().map(|answer| answer.risk.map(Probability::get)).collect::<Option<Vec<_>>>() {
        found.push(("risk_auc".to_owned(), metrics::auc(&gone, &risk)));
        found.push(("risk_ece".to_owned(), metrics::calibration_error(&gone, &risk)));
    }
    if let Some(sure) = answers.iter().map(|answer| answer.confidence.map(Probability::get)).collect::<Option<Vec<_>>>()
    {
        let right = actual.iter().zip(&answers).map(|(spend, answer)| snapshot.tiers().tier(*spend) == answer.tier);
        found.push(("confidence_ece".to_owned(), metrics::calibration_error(&right.collect::<Vec<_>>(), &sure)));
        found.push(("confidence_mean".to_owned(), sure.iter().sum::<f64>() / sure.len() as f64));
    }
    let intervals = answers.iter().map(|answer| answer.interval.map(|interval| (interval.low(), interval.high())));
    if let (Some(intervals), Some(calibration)) = (intervals.collect::<Option<Vec<_>>>(), &snapshot.manifest().interval)
    {
        let width = intervals.iter().map(|(low, high)| high - low).sum::<f64>() / rows.len() as f64;
        found.push(("interval_coverage".to_owned(), metrics::coverage(actual.iter().zip(&intervals))));
        found.push(("interval_width_usd".to_owned(), width));
        found.push(("interval_score".to_owned(), metrics::interval_score(&actual, &intervals, calibration.level)));
        let of = |members: &[usize]| metrics::coverage(members.iter().map(|i| (&actual[*i], &intervals[*i])));
        found.push(("interval_coverage_top_decile".to_owned(), of(&metrics::top_decile(&value))));
        // Without the grouping feature there are no groups that a caller, or the calibration, could tell apart.
        let column = snapshot.schema().position(&calibration.group_by).context("the grouping is a feature")?;
        for (i, group) in calibration.groups.iter().enumerate().filter(|_| !blank.contains(&column)) {
            let to = calibration.groups.get(i + 1).map(|next| next.from);
            let members: Vec<usize> = (0..rows.len())
                .filter(|row| {
                    let value = rows[*row].values[column];
                    value >= group.from && to.is_none_or(|to| value < to)
                })
                .collect();
            if !members.is_empty() {
                let to = match to {
                    None => "_up".to_owned(),
                    Some(to) if to - group.from > 1.0 => format!("_to_{}", to - 1.0),
                    Some(_) => String::new(),
                };
                found.push((format!("interval_coverage_{}_{}{to}", calibration.group_by, group.from), of(&members)));
            }
        }
    }
    Ok(found.into_iter().map(|(name, value)| (name, (value * 1e4).round() / 1e4)).collect())
}

/// Golden rows: test customers as they are, some as each partial caller knows them, and the draft's own requests.
fn golden_rows(snapshot: &ModelSnapshot, test: &[&Row], draft: &Draft) -> anyhow::Result<Vec<u8>> {
    let names: Vec<_> = snapshot.schema().rules().iter().map(|rule| rule.name.clone()).collect();
    let request = |row: &Row, missing: &[String]| GoldenRequest {
        features: names
            .iter()
            .zip(&row.values)
            .filter(|(name, value)| !value.is_nan() && !missing.contains(name))
            .map(|(name, value)| (name.clone(), Some((*value).into())))
            .collect(),
        ..GoldenRequest::default()
    };
    // Spread over the range of predictions: the same number from each tier.
    let scored = score(snapshot, test, &draft.grouping, &[])?;
    let mut all = draft.golden.clone();
    for tier in Tier::ALL {
        let members: Vec<&Row> = test
            .iter()
            .zip(&scored)
            .filter(|(_, s)| snapshot.tiers().tier(s.value) == tier)
            .map(|(row, _)| *row)
            .collect();
        all.extend(members.iter().take(3).map(|row| request(row, &[])));
        for (_, missing) in &draft.partial {
            all.extend(members.iter().skip(3).take(1).map(|row| request(row, missing)));
        }
    }
    let mut lines = Vec::new();
    for request in all {
        let row = GoldenRow { request, expect: GoldenAnswer::default(), tolerance: GOLDEN_TOLERANCE };
        let answer = golden::answer(snapshot, &row).map_err(anyhow::Error::msg).context("golden row")?;
        let expect = rounded(&golden::expectation(&answer));
        serde_json::to_writer(&mut lines, &GoldenRow { expect, ..row })?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn rounded(answer: &GoldenAnswer) -> GoldenAnswer {
    GoldenAnswer {
        clv_value_usd: answer.clv_value_usd.map(round),
        confidence_interval_low: answer.confidence_interval_low.map(round),
        confidence_interval_high: answer.confidence_interval_high.map(round),
        risk_score: answer.risk_score.map(round),
        confidence_score: answer.confidence_score.map(round),
        clv_tier: answer.clv_tier,
        ..GoldenAnswer::default()
    }
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let problem = || format!("can not write {}", path.display());
    let mut file = fs::File::create(path).with_context(problem)?;
    file.write_all(bytes).with_context(problem)?;
    file.sync_all().with_context(problem)
}
/// ONNX Runtime as this process's environment points to it, for models of the `onnx` backend.
#[expect(clippy::disallowed_methods, reason = "the trainer has no settings but its arguments and the environment")]
fn runtime() -> RuntimeSearch {
    RuntimeSearch::new(None, |name| std::env::var_os(name))
}
