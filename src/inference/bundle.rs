//! A bundle read from disk, checked, and turned into the immutable snapshot that answers requests.
//!
//! Reading and building are two steps: every byte is read once into memory and hashed, and what was hashed is what is
//! loaded. A snapshot never changes; a swap replaces it whole.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::backend::{Backend, BackendError, FeatureMatrix};
use super::engine::{Engine, Pooled};
use super::guard::ModelGuard;
use super::manifest::{
    Apply, BUNDLE_VERSION, BackendKind, Band, Baseline, CalibrationMethod, Curve, DriftReference, Manifest, Output,
    Task, TierThresholds,
};
use super::onnx;
use super::runtime_search::RuntimeSearch;
use super::{additive, linear, onnx_graph, smartcore, trees};
use crate::domain::{ModelName, ModelVersion, Tier};
use crate::features::{FeatureFault, FeatureSchema, Given, Value};

/// File names inside a bundle folder.
pub const MANIFEST_FILE: &str = "bundle.toml";
pub const GOLDEN_FILE: &str = "golden.jsonl";

/// Largest model file that is read (bytes).
pub const MODEL_FILE_LIMIT: u64 = 512 * 1024 * 1024;
/// Largest manifest or golden file that is read (bytes).
const TEXT_FILE_LIMIT: u64 = 16 * 1024 * 1024;

/// What loading may use beside the bundle itself.
#[derive(Clone, Debug, Default)]
pub struct LoadSettings {
    /// Where ONNX Runtime is looked for.
    pub runtime: RuntimeSearch,
    /// Threads, each with a handle of its own, for a model that needs ONNX Runtime.
    pub onnx_threads: usize,
    /// Requests that may wait for such a model before it answers "overloaded".
    pub onnx_queue: usize,
    /// Longest wait of a live request before such a model answers "overloaded"; without one, any.
    pub onnx_queue_age: Option<Duration>,
    /// Tier thresholds that override every CLV bundle's.
    pub tiers: Option<TierThresholds>,
}

/// Everything that identifies a bundle's content: SHA-256 over the manifest and the model file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BundleDigest([u8; 32]);

impl BundleDigest {
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A bundle's files, read once.
pub struct BundleFiles {
    pub manifest: Manifest,
    pub model: Vec<u8>,
    pub golden: Vec<GoldenRow>,
    pub digest: BundleDigest,
}

/// One line of `golden.jsonl`: a request and the answer the model must give.
#[derive(Clone, Debug, PartialEq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRow {
    pub request: GoldenRequest,
    pub expect: GoldenAnswer,
    /// Largest accepted difference, relative to the larger of the expected number and 1.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
}

fn default_tolerance() -> f64 {
    1e-6
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRequest {
    pub features: std::collections::BTreeMap<String, Option<GoldenValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquisition_channel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_source: Option<String>,
}

/// A feature of a golden request: a number or a category.
#[derive(Clone, Debug, PartialEq, Deserialize, serde::Serialize)]
#[serde(untagged)]
pub enum GoldenValue {
    Number(f64),
    Text(String),
}

impl From<f64> for GoldenValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a GoldenValue> for Value<'a> {
    fn from(value: &'a GoldenValue) -> Self {
        match value {
            GoldenValue::Number(number) => Self::Number(*number),
            GoldenValue::Text(text) => Self::Text(text),
        }
    }
}

/// Expected numbers; those left out are not checked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenAnswer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clv_value_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_interval_low: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_interval_high: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_score: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_score: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clv_tier: Option<Tier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_score: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion_probability: Option<f64>,
}

impl BundleFiles {
    /// Reads and checks the files of the bundle in `folder`.
    ///
    /// # Errors
    /// Says which file is missing, too large, unreadable or not what the manifest promises.
    pub fn read(folder: &Path) -> Result<Self, BundleError> {
        let manifest_path = folder.join(MANIFEST_FILE);
        let manifest_bytes = read_limited(&manifest_path, TEXT_FILE_LIMIT)?;
        let manifest_text = std::str::from_utf8(&manifest_bytes)
            .map_err(|_| BundleError::Text { path: manifest_path.clone(), reason: "is not UTF-8".into() })?;
        let manifest: Manifest = toml::from_str(manifest_text)
            .map_err(|err| BundleError::Text { path: manifest_path, reason: err.to_string().trim_end().to_owned() })?;
        if manifest.file.contains(['/', '\\']) || manifest.file.starts_with('.') || manifest.file.is_empty() {
            return Err(BundleError::Field {
                key: "file",
                problem: format!("must be a bare file name beside {MANIFEST_FILE}, got `{}`", manifest.file),
            });
        }
        let model = read_limited(&folder.join(&manifest.file), MODEL_FILE_LIMIT)?;
        let golden_path = folder.join(GOLDEN_FILE);
        let golden = match read_limited(&golden_path, TEXT_FILE_LIMIT) {
            Ok(bytes) => parse_golden(&golden_path, &bytes)?,
            Err(BundleError::File { err, .. }) if err.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(err) => return Err(err),
        };
        let actual: [u8; 32] = Sha256::digest(&model).into();
        if !hex(&actual).eq_ignore_ascii_case(&manifest.sha256) {
            return Err(BundleError::Checksum {
                file: manifest.file.clone(),
                expected: manifest.sha256.clone(),
                actual: hex(&actual),
            });
        }
        let digest = Sha256::new().chain_update(&manifest_bytes).chain_update(actual).finalize().into();
        Ok(Self { manifest, model, golden, digest: BundleDigest(digest) })
    }
}

impl BundleFiles {
    /// A bundle that is not on disk: what training measures before it writes anything.
    ///
    /// # Errors
    /// When the manifest can not be written down, or does not name this model.
    pub fn from_parts(manifest: Manifest, model: Vec<u8>, golden: Vec<GoldenRow>) -> Result<Self, BundleError> {
        let actual: [u8; 32] = Sha256::digest(&model).into();
        if hex(&actual) != manifest.sha256 {
            let (file, expected) = (manifest.file.clone(), manifest.sha256.clone());
            return Err(BundleError::Checksum { file, expected, actual: hex(&actual) });
        }
        let text = toml::to_string(&manifest)
            .map_err(|err| BundleError::Text { path: MANIFEST_FILE.into(), reason: err.to_string() })?;
        let digest = Sha256::new().chain_update(text).chain_update(actual).finalize().into();
        Ok(Self { manifest, model, golden, digest: BundleDigest(digest) })
    }
}

/// SHA-256 of some bytes in hex, as manifests write it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn parse_golden(path: &Path, bytes: &[u8]) -> Result<Vec<GoldenRow>, BundleError> {
    let mut rows = Vec::new();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        rows.push(serde_json::from_slice(line).map_err(|err| BundleError::Text {
            path: path.to_owned(),
            reason: format!("line {}: {err}", number + 1),
        })?);
    }
    Ok(rows)
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, BundleError> {
    let failed = |err| BundleError::File { path: path.to_owned(), err };
    let file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(BundleError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(limit) as usize);
    // One byte beyond the limit tells a file that grew since its size was read.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(BundleError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Position and last steps of one model output.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    index: usize,
    apply: Apply,
    curve: Option<Curve>,
}

impl Column {
    pub fn of(&self, outputs: &[f64]) -> f64 {
        self.last_steps(outputs[self.index])
    }

    /// Which of the model's outputs it is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// From the model's output to what is served.
    pub fn last_steps(&self, output: f64) -> f64 {
        let value = self.apply.to(output);
        self.curve.as_ref().map_or(value, |curve| curve.at(value))
    }
}

/// The model's outputs by meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Roles {
    /// The main output: expected spend of a `clv` model, probability of conversion of a `lead` model. The others are
    /// a `clv` model's only.
    pub value: Column,
    pub risk: Option<Column>,
    pub low: Option<Column>,
    pub high: Option<Column>,
    pub log_mean: Option<Column>,
    pub log_sigma: Option<Column>,
}

/// One version of a model, ready to answer: the model, its schema, calibration, baselines and tiers. Immutable; every
/// part of an answer comes from the same snapshot.
pub struct ModelSnapshot {
    manifest: Manifest,
    digest: BundleDigest,
    schema: FeatureSchema,
    engine: Engine,
    roles: Roles,
    tiers: TierThresholds,
    cold_start: Option<usize>,
    group_by: Option<usize>,
    /// What must be given too for the group to be known.
    group_with: Vec<usize>,
    golden: Vec<GoldenRow>,
}

/// A customer as a model sees them.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack of one request; a box would allocate for every one")]
pub enum Customer {
    /// Without history: answered from a baseline.
    New,
    Known(Given),
}

impl fmt::Debug for ModelSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelSnapshot")
            .field("name", &self.manifest.name)
            .field("version", &self.manifest.version)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl ModelSnapshot {
    /// Reads the bundle in `folder` and builds its snapshot.
    pub fn load(folder: &Path, settings: &LoadSettings) -> Result<Self, BundleError> {
        Self::build(BundleFiles::read(folder)?, settings)
    }

    /// Checks the manifest against the model and loads it. Golden rows are not run here: that takes the scoring
    /// pipeline, see `scoring::golden`.
    ///
    /// # Errors
    /// Names the manifest key or the model property that is wrong.
    pub fn build(files: BundleFiles, settings: &LoadSettings) -> Result<Self, BundleError> {
        let BundleFiles { manifest, model, golden, digest } = files;
        check(&manifest)?;
        let schema =
            FeatureSchema::with_derived(manifest.features.clone(), manifest.derived.clone(), manifest.standardize)?;
        let engine = open(&manifest, &schema, &model, settings)?;
        if engine.inputs() != schema.columns() {
            return Err(BackendError::Inputs { model: engine.inputs(), bundle: schema.columns() }.into());
        }
        let roles = Roles::resolve(&manifest, engine.outputs())?;
        let grouping = |key, name: &String| {
            schema.position(name).ok_or_else(|| BundleError::Field {
                key,
                problem: format!("names `{name}`, which is not one of the features"),
            })
        };
        let (group_by, group_with) = match &manifest.interval {
            None => (None, Vec::new()),
            Some(calibration) => {
                let with = calibration.group_with.iter().map(|name| grouping("interval.group_with", name));
                (Some(grouping("interval.group_by", &calibration.group_by)?), with.collect::<Result<_, _>>()?)
            }
        };
        let cold_start = manifest.cold_start().and_then(|name| schema.position(name));
        // A lead model has no tiers, and nobody asks it for one.
        let none = TierThresholds { medium: f64::INFINITY, high: f64::INFINITY };
        let tiers = manifest.tiers.as_ref().map_or(none, |tiers| settings.tiers.unwrap_or(tiers.thresholds()));
        Ok(Self { manifest, digest, schema, engine, roles, tiers, cold_start, group_by, group_with, golden })
    }

    pub fn name(&self) -> &ModelName {
        &self.manifest.name
    }

    pub fn version(&self) -> &ModelVersion {
        &self.manifest.version
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn digest(&self) -> &BundleDigest {
        &self.digest
    }

    pub fn schema(&self) -> &FeatureSchema {
        &self.schema
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// The question the model answers.
    pub fn task(&self) -> Task {
        self.manifest.task
    }

    pub fn golden(&self) -> &[GoldenRow] {
        &self.golden
    }

    /// Where the tiers begin: the bundle's limits unless the settings override them.
    pub fn tiers(&self) -> TierThresholds {
        self.tiers
    }

    /// The tier of a customer with this value, who was in `previous` before.
    pub fn tier_from(&self, value: f64, previous: Option<Tier>) -> Tier {
        match previous.zip(self.manifest.tiers.as_ref().and_then(|tiers| tiers.hysteresis.as_ref())) {
            Some((previous, hysteresis)) => self.tiers.tier_from(value, previous, hysteresis),
            None => self.tiers.tier(value),
        }
    }

    /// Reads what is known about a customer. One without history needs no more than that to be said: a recency of
    /// nothing does not exist.
    ///
    /// # Errors
    /// Names the feature that is unknown, given twice, impossible, or required and missing.
    pub fn read<'a, V: Into<Value<'a>>>(
        &self,
        features: impl IntoIterator<Item = (&'a str, Option<V>)>,
    ) -> Result<Customer, FeatureFault> {
        self.known(self.schema.collect(features)?)
    }

    /// As `read`, for one row that is already in schema order; `NaN` is missing, a category is its position.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_row(&self, raw: &[f64]) -> Result<Customer, FeatureFault> {
        self.known(self.schema.collect_row(raw)?)
    }

    fn known(&self, given: Given) -> Result<Customer, FeatureFault> {
        if self.is_cold_start(&given.raw) {
            return Ok(Customer::New);
        }
        self.schema.require(&given)?;
        Ok(Customer::Known(given))
    }

    /// Whether these raw values are of a customer without history.
    pub fn is_cold_start(&self, raw: &[f64]) -> bool {
        self.cold_start.is_some_and(|position| raw[position] == 0.0)
    }

    /// The raw value that picks the calibration group, `NaN` when unknown.
    pub fn group_value(&self, raw: &[f64]) -> f64 {
        match self.group_by {
            Some(position) if !self.group_with.iter().any(|other| raw[*other].is_nan()) => raw[position],
            _ => f64::NAN,
        }
    }
}

fn check(manifest: &Manifest) -> Result<(), BundleError> {
    let field = |key, problem: String| Err(BundleError::Field { key, problem });
    if manifest.bundle_version != BUNDLE_VERSION {
        return field("bundle_version", format!("must be {BUNDLE_VERSION}, got `{}`", manifest.bundle_version));
    }
    match manifest.task {
        Task::Clv => check_clv(manifest),
        Task::Lead => check_lead(manifest),
    }
}

/// What a lead model must carry, and what of a customer's value makes no sense for it.
fn check_lead(manifest: &Manifest) -> Result<(), BundleError> {
    let field = |key, problem: &str| Err(BundleError::Field { key, problem: problem.to_owned() });
    let Some(lead) = &manifest.lead else {
        return field(
            "lead",
            "is required for a `lead` model: `reference`, `population`, `rows`, `made_at`, `base_rate`",
        );
    };
    let baselines = &manifest.baselines;
    for (key, is_there) in [
        ("tiers", manifest.tiers.is_some()),
        ("neutral", manifest.neutral.is_some()),
        ("interval", manifest.interval.is_some()),
        ("baselines.channel", !baselines.channel.is_empty()),
        ("baselines.segment", !baselines.segment.is_empty()),
    ] {
        if is_there {
            return field(key, "is in dollars and makes no sense for a `lead` model: see `lead.sources`");
        }
    }
    if lead.sources.values().any(|source| !(0.0..=1.0).contains(&source.weight)) {
        return field("lead.sources", "must have weights from 0 to 1");
    }
    Ok(())
}

fn check_clv(manifest: &Manifest) -> Result<(), BundleError> {
    let field = |key, problem: String| Err(BundleError::Field { key, problem });
    let required = |key| BundleError::Field { key, problem: "is required for a `clv` model".to_owned() };
    if manifest.lead.is_some() {
        return field("lead", "makes no sense for a `clv` model".into());
    }
    manifest.horizon_days.ok_or_else(|| required("horizon_days"))?;
    let tiers = manifest.tiers.as_ref().ok_or_else(|| required("tiers"))?;
    let neutral = manifest.neutral.as_ref().ok_or_else(|| required("neutral"))?;
    if !(tiers.medium.is_finite() && tiers.high.is_finite() && 0.0 <= tiers.medium && tiers.medium <= tiers.high) {
        return field("tiers", "must have finite 0 <= medium <= high".into());
    }
    if let Some(hysteresis) = &tiers.hysteresis {
        let sound = |band: Band| (0.0..=1.0).contains(&band.fall) && band.rise >= 1.0 && band.rise.is_finite();
        if !(sound(hysteresis.medium) && sound(hysteresis.high)) {
            return field("tiers.hysteresis", "must have 0 <= fall <= 1 <= rise".into());
        }
    }
    for (key, odds) in [("tiers.below_medium", &tiers.below_medium), ("tiers.below_high", &tiers.below_high)] {
        if odds.is_some_and(|odds| !(odds.intercept.is_finite() && odds.slope.is_finite() && odds.slope > 0.0)) {
            return field(key, "must have a finite `intercept` and a `slope` > 0".into());
        }
    }
    let baselines = &manifest.baselines;
    let tables = [("baselines.channel", &baselines.channel), ("baselines.segment", &baselines.segment)];
    for (key, table) in tables {
        if let Some((name, _)) = table.iter().find(|(_, baseline)| !is_ordered(baseline)) {
            return field(key, format!("entry `{name}` must have finite 0 <= low <= value <= high"));
        }
    }
    if !is_ordered(neutral) {
        return field("neutral", "must have finite 0 <= low <= value <= high".into());
    }
    if let Some(problem) = manifest.drift.as_ref().and_then(DriftReference::problem) {
        return field("drift", problem.to_owned());
    }
    if let Some(interval) = &manifest.interval {
        interval.check().or_else(|(key, problem)| field(key, problem))?;
        let shaped = [&manifest.outputs.risk, &manifest.outputs.log_mean, &manifest.outputs.log_sigma];
        if interval.method == CalibrationMethod::Distribution && shaped.into_iter().any(Option::is_none) {
            let problem = "`distribution` needs the outputs `risk`, `log_mean` and `log_sigma`".to_owned();
            return field("interval.method", problem);
        }
    }
    Ok(())
}

fn is_ordered(baseline: &Baseline) -> bool {
    [0.0, baseline.low, baseline.value, baseline.high].is_sorted() && baseline.high.is_finite()
}

fn open(
    manifest: &Manifest,
    schema: &FeatureSchema,
    model: &[u8],
    settings: &LoadSettings,
) -> Result<Engine, BundleError> {
    let names: Vec<&str> = schema.column_names().collect();
    let features = names.as_slice();
    let inline = |backend: Box<dyn Backend>| Engine::Inline(backend);
    Ok(match manifest.backend {
        BackendKind::Trees => inline(trees::load(&onnx_graph::OnnxModel::parse(model)?, features)?),
        BackendKind::Linear if additive::is_additive(model) => inline(additive::load(model, &manifest.features)?),
        BackendKind::Linear if model.trim_ascii_start().starts_with(b"{") => {
            inline(linear::load_with_schema(model, schema)?)
        }
        BackendKind::Linear => inline(onnx_graph::load_linear(&onnx_graph::OnnxModel::parse(model)?, features)?),
        BackendKind::Smartcore => inline(smartcore::load(model, features)?),
        BackendKind::Onnx => {
            let threads = settings.onnx_threads.max(1);
            let (handles, spares) = onnx::open_with_spares(model, features, &settings.runtime, threads)?;
            let guard = ModelGuard::new(manifest.name.clone(), manifest.version.clone());
            let queue = settings.onnx_queue.max(1);
            Engine::Pooled(Pooled::start(guard, handles, Some(spares), queue, settings.onnx_queue_age)?)
        }
    })
}

impl Roles {
    fn resolve(manifest: &Manifest, columns: &[String]) -> Result<Self, BundleError> {
        let find = |key: &'static str, output: Option<&Output>| -> Result<Option<Column>, BundleError> {
            let Some(output) = output else { return Ok(None) };
            let index =
                columns.iter().position(|column| column == output.name()).ok_or_else(|| BundleError::Field {
                    key,
                    problem: format!("names `{}`; the model has {}", output.name(), columns.join(", ")),
                })?;
            Ok(Some(Column { index, apply: output.apply(), curve: output.curve().cloned() }))
        };
        let outputs = &manifest.outputs;
        let (key, main) = match manifest.task {
            Task::Clv => ("outputs.value", &outputs.value),
            Task::Lead => ("outputs.probability", &outputs.probability),
        };
        Ok(Self {
            value: find(key, main.as_ref())?.ok_or_else(|| BundleError::Field {
                key,
                problem: format!("is required for a `{}` model; it has {}", manifest.task.as_str(), columns.join(", ")),
            })?,
            risk: find("outputs.risk", outputs.risk.as_ref())?,
            low: find("outputs.low", outputs.low.as_ref())?,
            high: find("outputs.high", outputs.high.as_ref())?,
            log_mean: find("outputs.log_mean", outputs.log_mean.as_ref())?,
            log_sigma: find("outputs.log_sigma", outputs.log_sigma.as_ref())?,
        })
    }
}

/// Prepares raw rows and runs them to completion on the calling thread.
///
/// `raw` is `rows × schema.len()`, row-major; the result is `rows × outputs`.
pub fn run_rows(snapshot: &ModelSnapshot, raw: &[f64]) -> Result<Vec<f64>, BackendError> {
    let (width, columns) = (snapshot.schema.len(), snapshot.schema.columns());
    let rows = raw.len() / width;
    let mut prepared = vec![0.0; rows * columns];
    for (raw, row) in raw.chunks_exact(width).zip(prepared.chunks_exact_mut(columns)) {
        snapshot.schema.prepare(raw, row);
    }
    let mut out = vec![0.0; rows * snapshot.engine.outputs().len()];
    snapshot.engine.run(FeatureMatrix::new(&prepared, columns), &mut out)?;
    Ok(out)
}

/// Why a bundle is refused. The text is the reason shown to the operator.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{} can not be read: {err}", path.display())]
    File { path: PathBuf, err: std::io::Error },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{}: {reason}", path.display())]
    Text { path: PathBuf, reason: String },
    #[error("{file} has SHA-256 {actual}, the manifest says {expected}")]
    Checksum { file: String, expected: String, actual: String },
    #[error("manifest key `{key}` {problem}")]
    Field { key: &'static str, problem: String },
    #[error("manifest: {0}")]
    Feature(#[from] FeatureFault),
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A golden row's answer differs from what the bundle promises.
    #[error("golden row {row}: {problem}")]
    Golden { row: usize, problem: String },
    /// The folder's names and the manifest's do not agree.
    #[error("manifest says `{manifest}` but the folder is `{folder}`")]
    Misplaced { manifest: String, folder: String },
}

impl BundleError {
    /// A short stable word for metrics and `models list`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::NotAFile { .. } => "unreadable",
            Self::TooLarge { .. } => "too_large",
            Self::Text { .. } => "malformed_text",
            Self::Checksum { .. } => "checksum",
            Self::Field { .. } | Self::Feature(_) => "manifest",
            Self::Misplaced { .. } => "misplaced",
            Self::Golden { .. } => "golden",
            Self::Backend(BackendError::Malformed { .. }) => "malformed_model",
            Self::Backend(BackendError::Unsupported { .. }) => "unsupported_model",
            Self::Backend(BackendError::Inputs { .. }) => "inputs",
            Self::Backend(BackendError::RuntimeMissing { .. }) => "runtime_missing",
            Self::Backend(BackendError::Run { .. } | BackendError::Overloaded | BackendError::Deadline) => "run",
        }
    }
}
