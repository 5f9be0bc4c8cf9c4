//! From a fitted model file and the evidence about it to a bundle: tiers, calibration, baselines, measured quality and
//! golden rows. Every figure comes from the bundle as the server loads and runs it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::civil::Date;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{ModelName, ModelVersion, Probability, Tier};
use scoreline_engine::features::{DerivedRule, FeatureRule, FeatureSchema};
use scoreline_engine::inference::bundle::{
    BundleFiles, GOLDEN_FILE, GoldenAnswer, GoldenRequest, GoldenRow, GoldenValue, LoadSettings, MANIFEST_FILE,
    ModelSnapshot, run_rows, sha256_hex,
};
use scoreline_engine::inference::manifest::{
    BUNDLE_VERSION, BackendKind, Bands, Baseline, Baselines, CalibrationMethod, ColdStartFeature, Information,
    Manifest, Outputs, Task, Tiers, TrainingSummary,
};

use crate::packing::baseline::{Peer, baselines};
use crate::packing::calibrate::{Grouping, Scored, calibrate, hysteresis, recalibration};
use crate::packing::drift;
use crate::packing::metrics;
use crate::packing::quality::Quality;
use crate::packing::statistics::round;
use crate::packing::table::{Row, Table};
use crate::scoring::golden;

/// Tier limits are these quantiles of the predicted value of customers that did not fit the model.
const TIER_QUANTILES: [f64; 2] = [0.7, 0.9];

/// Bands of customers by prediction, and how many customers are behind one at least.
const MOST_BANDS: usize = 50;
const LEAST_IN_A_BAND: usize = 40;

/// Largest accepted relative difference of a golden row.
const GOLDEN_TOLERANCE: f64 = 1e-6;

/// What a bundle is made from.
#[derive(Clone)]
pub struct Draft {
    /// How the server would load it.
    pub load: LoadSettings,
    pub name: ModelName,
    pub version: ModelVersion,
    pub trained_at: Timestamp,
    pub description: String,
    pub backend: BackendKind,
    /// Name of the model file in the bundle, and its bytes.
    pub file: String,
    pub model: Vec<u8>,
    pub horizon_days: u32,
    /// The day from which outcomes were counted, where it is known.
    pub as_of: Option<Date>,
    pub cold_start_feature: ColdStartFeature,
    pub standardize: bool,
    pub outputs: Outputs,
    pub features: Vec<FeatureRule>,
    pub derived: Vec<DerivedRule>,
    pub grouping: Grouping,
    /// Features that callers leave out together: a label, and what they leave out. Some golden rows are theirs.
    pub partial: Vec<(String, Vec<String>)>,
    /// Where the model comes from; rows and metrics are filled in later.
    pub training: TrainingSummary,
}

/// What is known of customers that did not fit the model.
pub struct Evidence<'a> {
    pub calibration: Vec<Scored>,
    /// The same customers without the grouping feature; empty when nobody asks so.
    pub unknown: Vec<Scored>,
    /// Whom baselines describe.
    pub peers: Vec<Peer<'a>>,
}

/// A finished bundle that is not published yet. Dropped without `publish`, it leaves nothing behind.
pub struct Staged {
    folder: PathBuf,
    target: PathBuf,
    replace: bool,
    load: LoadSettings,
    pub manifest: Manifest,
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

impl Draft {
    /// Everything the draft knows; what is measured comes later.
    pub fn manifest(&self) -> anyhow::Result<Manifest> {
        let none = Probability::clamped(0.0).context("zero is a probability")?;
        Ok(Manifest {
            bundle_version: BUNDLE_VERSION,
            name: self.name.clone(),
            version: self.version.clone(),
            task: Task::Clv,
            backend: self.backend,
            file: self.file.clone(),
            sha256: sha256_hex(&self.model),
            trained_at: self.trained_at,
            horizon_days: Some(self.horizon_days),
            inherited_from: None,
            description: self.description.clone(),
            cold_start_feature: Some(self.cold_start_feature.clone()),
            standardize: self.standardize,
            outputs: self.outputs.clone(),
            tiers: Some(Tiers::between(0.0, 0.0)),
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
            drift: None,
            information: Vec::new(),
            training: self.training.clone(),
            baselines: Baselines::default(),
            features: self.features.clone(),
            derived: self.derived.clone(),
        })
    }

    /// The bundle with this manifest as the server loads it, without writing it down.
    ///
    /// # Errors
    /// When the server would refuse it.
    pub fn snapshot(&self, manifest: &Manifest) -> anyhow::Result<ModelSnapshot> {
        let files = BundleFiles::from_parts(manifest.clone(), self.model.clone(), Vec::new())?;
        Ok(ModelSnapshot::build(files, &self.load)?)
    }
}

/// Fills in what the evidence says: tiers, baselines, interval, how firmly a tier is held.
pub fn conclude(
    manifest: &mut Manifest,
    evidence: &Evidence<'_>,
    grouping: &Grouping,
    as_of: Option<Date>,
) -> anyhow::Result<()> {
    let mut tiers = tiers(&evidence.calibration);
    let limits = tiers.thresholds();
    let (neutral, tables) = baselines(&evidence.peers, limits, as_of)?;
    manifest.neutral = Some(neutral);
    manifest.baselines = tables;
    let calibration = calibrate(&evidence.calibration, &evidence.unknown, grouping)?;
    tiers.hysteresis = hysteresis(&evidence.calibration, limits);
    // A model that gives its own distribution is calibrated by its likelihood; two more numbers only add noise.
    if calibration.method == CalibrationMethod::ScaledResidual {
        tiers.below_medium = recalibration(&evidence.calibration, &calibration, limits.medium);
        tiers.below_high = recalibration(&evidence.calibration, &calibration, limits.high);
    }
    manifest.tiers = Some(tiers);
    manifest.interval = Some(calibration);
    let predicted: Vec<f64> = evidence.calibration.iter().map(|scored| scored.value).collect();
    manifest.drift = Some(drift::reference(manifest.training.rows, &predicted)?);
    manifest.training.calibration_rows = u32::try_from(evidence.calibration.len())?;
    Ok(())
}

/// Customers of whom less is known.
pub struct InformationPlan {
    pub name: String,
    /// The feature they lack, and those that say nothing without it.
    pub lacks: String,
    pub unread: Vec<String>,
    pub grouping: Grouping,
}

impl InformationPlan {
    /// Everything that is not read of them.
    pub fn blank(&self) -> Vec<String> {
        [self.lacks.clone()].into_iter().chain(self.unread.iter().cloned()).collect()
    }
}

/// Adds the tables that judge customers of whom less is known. `scored` are those the whole was concluded from, as they are
/// seen without it.
pub fn inform(
    manifest: &mut Manifest,
    plan: &InformationPlan,
    scored: &[Scored],
    lost_without: BTreeMap<String, f64>,
) -> anyhow::Result<()> {
    let mut tiers = tiers(scored);
    tiers.lost_without = lost_without;
    tiers.hysteresis = hysteresis(scored, tiers.thresholds());
    let predicted: Vec<f64> = scored.iter().map(|scored| scored.value).collect();
    manifest.information.push(Information {
        name: plan.name.clone(),
        lacks: plan.lacks.clone(),
        unread: plan.unread.clone(),
        tiers,
        interval: Some(calibrate(scored, &[], &plan.grouping)?),
        score: drift::bins(&predicted),
    });
    Ok(())
}

/// How much less of the order is right without each feature: 1 minus the ratio of normalized Gini coefficients. `without`
/// holds the values predicted of the same customers without it.
pub fn lost_without(scored: &[Scored], without: &[(String, Vec<f64>)]) -> BTreeMap<String, f64> {
    let spent: Vec<f64> = scored.iter().map(|row| row.spend_usd).collect();
    let known = metrics::normalized_gini(&spent, &scored.iter().map(|row| row.value).collect::<Vec<_>>());
    let lost = without.iter().map(|(name, values)| {
        let lost = (1.0 - metrics::normalized_gini(&spent, values) / known).clamp(0.0, 1.0);
        (name.clone(), if lost.is_nan() { 0.0 } else { (lost * 1e3).round() / 1e3 })
    });
    lost.filter(|(_, lost)| *lost > 0.0).collect()
}

/// Writes the bundle with its golden rows in a folder of its own beside the models: some of `rows` as they are and as a
/// partial caller knows them, and `requests`.
pub fn stage(
    draft: &Draft,
    manifest: Manifest,
    rows: &[&Row],
    requests: &[GoldenRequest],
    models: &Path,
    replace: bool,
) -> anyhow::Result<Staged> {
    let mut staged = Staged::begin(manifest, &draft.model, models, replace)?;
    staged.load = draft.load.clone();
    let snapshot = staged.save()?;
    staged.write_golden(&golden_rows(&snapshot, rows, requests, draft)?)?;
    golden::verify(&staged.save()?)?;
    Ok(staged)
}

impl Staged {
    /// Begins a bundle of a finished manifest and model file in a folder of its own beside the models.
    pub fn begin(manifest: Manifest, model: &[u8], models: &Path, replace: bool) -> anyhow::Result<Self> {
        let target = target(models, &manifest.name, &manifest.version, replace)?;
        // A leading dot is no model name: whoever watches the folder passes it by.
        let folder = models.join(format!(".staging-{}-{}-{}", manifest.name, manifest.version, std::process::id()));
        let file = folder.join(&manifest.file);
        let staged = Self { folder, target, replace, load: LoadSettings::default(), manifest };
        fs::create_dir_all(&staged.folder).with_context(|| format!("cannot create {}", staged.folder.display()))?;
        write(&file, model)?;
        Ok(staged)
    }

    pub fn write_golden(&self, lines: &[u8]) -> anyhow::Result<()> {
        write(&self.folder.join(GOLDEN_FILE), lines)
    }

    /// Puts the bundle in its place at once: nobody ever sees half of it.
    pub fn publish(&self) -> anyhow::Result<&Path> {
        let problem = || format!("cannot publish {}", self.target.display());
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

    /// The newest other version beside this one: what it takes over from, unless a pin or promotion says otherwise.
    pub(crate) fn predecessor(&self) -> Option<Manifest> {
        let versions = fs::read_dir(self.target.parent()?).ok()?.flatten();
        let read =
            |folder: PathBuf| toml::from_str::<Manifest>(&fs::read_to_string(folder.join(MANIFEST_FILE)).ok()?).ok();
        let others = versions.filter_map(|entry| read(entry.path()));
        others.filter(|other| other.version != self.manifest.version).max_by(|a, b| a.version.cmp(&b.version))
    }

    /// Writes the manifest and loads the bundle as the server would.
    pub fn save(&self) -> anyhow::Result<ModelSnapshot> {
        let text = format!(
            "# Written by `{}`. Train or pack a new version instead of editing.\n{}",
            self.manifest.training.command,
            toml::to_string(&self.manifest)?
        );
        write(&self.folder.join(MANIFEST_FILE), text.as_bytes())?;
        self.load()
    }

    /// Loads the bundle as it was saved.
    pub fn load(&self) -> anyhow::Result<ModelSnapshot> {
        Ok(ModelSnapshot::load(&self.folder, &self.load)?)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Already renamed when it was published; a leftover only costs disk.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The metrics of the whole and of partial requests as the manifest names them, and what luck gives.
pub fn record(manifest: &mut Manifest, quality: &[Quality]) {
    manifest.training.metrics = quality.iter().flat_map(|of| of.prefixed(&of.metrics)).collect();
    manifest.training.luck = quality.iter().flat_map(|of| of.prefixed(&of.luck)).collect();
}

/// The table with its columns in the schema's order and without customers the model is not asked about.
pub fn in_order(table: &Table, snapshot: &ModelSnapshot) -> anyhow::Result<Table> {
    let names = || snapshot.schema().rules().iter().map(|rule| rule.name.clone());
    let columns = names()
        .map(|name| table.position(&name).with_context(|| format!("feature `{name}` is not a column of the table")))
        .collect::<Result<Vec<_>, _>>()?;
    let rules = snapshot.schema().rules();
    if let Some(text) = rules.iter().find(|r| r.categories.is_empty() && table.categories.contains_key(&r.name)) {
        anyhow::bail!("feature `{}` is a number for the model and a text in the table", text.name);
    }
    // A category stands at another position in the table's list than in the bundle's.
    let value = |row: &Row, column: usize, rule: &FeatureRule| {
        let given = row.values[column];
        if rule.categories.is_empty() || given.is_nan() {
            return given;
        }
        let text = match table.categories.get(&rule.name) {
            Some(texts) => texts.get(given as usize).cloned().unwrap_or_default(),
            None => given.to_string(),
        };
        rule.categories.iter().position(|category| *category == text).map_or(f64::NAN, |position| position as f64)
    };
    let rows = table.rows.iter().map(|row| Row {
        values: columns.iter().zip(rules).map(|(column, rule)| value(row, *column, rule)).collect(),
        ..row.clone()
    });
    let rows = rows.filter(|row| !snapshot.is_cold_start(&row.values)).collect();
    let categories = rules.iter().filter(|rule| !rule.categories.is_empty());
    let categories = categories.map(|rule| (rule.name.clone(), rule.categories.clone())).collect();
    Ok(Table { features: names().collect(), categories, horizon_days: table.horizon_days, rows })
}

/// Positions of features in a schema.
pub fn positions(snapshot: &ModelSnapshot, names: &[String]) -> anyhow::Result<Vec<usize>> {
    names
        .iter()
        .map(|name| snapshot.schema().position(name).with_context(|| format!("`{name}` is not a feature")))
        .collect()
}

/// Raw rows with some features left out. What follows from the others is worked out, as for a request that lacks it.
pub fn raw(schema: &FeatureSchema, rows: &[&Row], blank: &[usize]) -> Vec<f64> {
    let mut all = Vec::with_capacity(rows.len() * schema.len());
    for row in rows {
        let from = all.len();
        let values = row.values.iter().enumerate();
        all.extend(values.map(|(i, value)| if blank.contains(&i) { f64::NAN } else { *value }));
        if !blank.is_empty() {
            schema.follow(&mut all[from..]);
        }
    }
    all
}

/// Predictions beside outcomes. The snapshot need not be calibrated yet.
pub fn score(
    snapshot: &ModelSnapshot,
    rows: &[&Row],
    grouping: &Grouping,
    blank: &[usize],
) -> anyhow::Result<Vec<Scored>> {
    let column = snapshot
        .schema()
        .position(&grouping.feature)
        .with_context(|| format!("`{}` picks the calibration group and is not a feature", grouping.feature))?;
    let raw = raw(snapshot.schema(), rows, blank);
    let outputs = run_rows(snapshot, &raw)?;
    let roles = snapshot.roles();
    let scored = rows.iter().zip(outputs.chunks_exact(snapshot.engine().outputs().len())).map(|(row, outputs)| {
        let risk = roles.risk.as_ref().map(|column| probability(column.of(outputs), row)).transpose()?;
        let shape = roles.log_mean.as_ref().zip(roles.log_sigma.as_ref());
        let scored = Scored {
            value: roles.value.of(outputs).max(0.0),
            risk,
            shape: shape.map(|(mean, sigma)| (mean.of(outputs), sigma.of(outputs))),
            spend_usd: row.spend_usd,
            group_value: row.values[column],
        };
        let (mean, sigma) = scored.shape.unwrap_or_default();
        let finite = [scored.value, scored.risk.unwrap_or_default(), mean, sigma].iter().all(|x| x.is_finite());
        anyhow::ensure!(finite, "an output of the model for customer {} is not a finite number", row.customer);
        Ok(scored)
    });
    scored.collect()
}

fn probability(said: f64, row: &Row) -> anyhow::Result<f64> {
    let read = Probability::read(said).map(Probability::get);
    read.with_context(|| format!("`risk` is {said} for customer {}, which is no probability", row.customer))
}

/// What customers spent in bands of equal size by their prediction.
fn bands(scored: &[Scored]) -> Bands {
    let mut ordered: Vec<&Scored> = scored.iter().collect();
    ordered.sort_by(|a, b| a.value.total_cmp(&b.value));
    let count = MOST_BANDS.min(ordered.len() / LEAST_IN_A_BAND).max(1);
    let mean = |numbers: &[f64]| round(numbers.iter().sum::<f64>() / numbers.len().max(1) as f64);
    let mut found = Bands {
        n: u32::try_from(ordered.len()).unwrap_or(u32::MAX),
        from: Vec::new(),
        to: ordered.last().map_or(0.0, |last| round(last.value)),
        said: Vec::new(),
        spent: Vec::new(),
        zero: Vec::new(),
        log_mean: Vec::new(),
        log_sigma: Vec::new(),
    };
    for band in 0..count {
        let members = &ordered[band * ordered.len() / count..(band + 1) * ordered.len() / count];
        let spends: Vec<f64> = members.iter().map(|one| one.spend_usd).collect();
        let logs: Vec<f64> = spends.iter().filter(|spend| **spend > 0.0).map(|spend| spend.ln()).collect();
        let log_mean = mean(&logs);
        let squares: Vec<f64> = logs.iter().map(|log| (log - log_mean).powi(2)).collect();
        found.from.push(members.first().map_or(0.0, |first| round(first.value)));
        found.said.push(mean(&members.iter().map(|one| one.value).collect::<Vec<_>>()));
        found.zero.push(round(1.0 - logs.len() as f64 / members.len().max(1) as f64));
        found.spent.push(mean(&spends));
        found.log_mean.push(log_mean);
        found.log_sigma.push(round(mean(&squares).sqrt()));
    }
    found
}

fn tiers(scored: &[Scored]) -> Tiers {
    let mut values: Vec<f64> = scored.iter().map(|scored| scored.value).collect();
    values.sort_unstable_by(f64::total_cmp);
    let [medium, high] = TIER_QUANTILES.map(|quantile| {
        let value = values[((values.len() as f64 * quantile) as usize).min(values.len() - 1)];
        // Whole cents: people read and override these.
        (value * 100.0).round() / 100.0
    });
    Tiers { bands: Some(bands(scored)), ..Tiers::between(medium, high) }
}

/// Golden rows: customers as they are, some as a partial caller knows them, and requests of one's own.
fn golden_rows(
    snapshot: &ModelSnapshot,
    rows: &[&Row],
    requests: &[GoldenRequest],
    draft: &Draft,
) -> anyhow::Result<Vec<u8>> {
    let rules = snapshot.schema().rules();
    let request = |row: &Row, missing: &[String]| GoldenRequest {
        features: rules
            .iter()
            .zip(&row.values)
            .filter(|(rule, value)| !value.is_nan() && !missing.contains(&rule.name))
            .map(|(rule, value)| {
                // Somebody who asks says a category by its name.
                let category = rule.categories.get(*value as usize);
                let given = category.map_or_else(|| (*value).into(), |text| GoldenValue::Text(text.clone()));
                (rule.name.clone(), Some(given))
            })
            .collect(),
        ..GoldenRequest::default()
    };
    // Spread over the range of predictions: the same number from each tier.
    let scored = score(snapshot, rows, &draft.grouping, &[])?;
    let mut all = requests.to_vec();
    for tier in Tier::ALL {
        let members: Vec<&Row> = rows
            .iter()
            .zip(&scored)
            .filter(|(_, s)| snapshot.tiers().tier(s.value) == tier)
            .map(|(row, _)| *row)
            .collect();
        all.extend(members.iter().take(3).map(|row| request(row, &[])));
        // Of whoever gives what is required besides.
        let is_whole = |row: &Row, missing: &[String]| {
            let mut required = rules.iter().zip(&row.values).filter(|(rule, _)| rule.required);
            required.all(|(rule, value)| !value.is_nan() || missing.contains(&rule.name))
        };
        let partial = draft.partial.iter().zip(members.iter().skip(3));
        let partial = partial.filter(|((_, missing), row)| is_whole(row, missing));
        all.extend(partial.map(|((_, missing), row)| request(row, missing)));
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
    let problem = || format!("cannot write {}", path.display());
    let mut file = fs::File::create(path).with_context(problem)?;
    file.write_all(bytes).with_context(problem)?;
    file.sync_all().with_context(problem)
}
