//! A bundle read from disk, checked, and turned into the immutable snapshot that answers requests.
//!
//! Reading and building are two steps: every byte is read once into memory and hashed, and what was hashed is what is
//! loaded. A snapshot never changes; a swap replaces it whole.

mod check;
mod digest;
mod error;
mod files;
mod golden_rows;
mod information;
mod plain_file;

use std::fmt;
use std::path::Path;

use super::backend::{Backend, BackendError, FeatureMatrix};
use super::engine::{Engine, Pooled};
use super::guard::ModelGuard;
use super::manifest::{Apply, BackendKind, Curve, Manifest, Output, Task, TierLimits, TierThresholds};
use super::onnx;
use super::onnx_graph::Unfit;
use super::runtime_search::RuntimeSearch;
use super::{additive, linear, onnx_graph, smartcore, trees};
use crate::features::{FeatureFault, FeatureSchema, Given, Value, catalogue_row};
use information::InformationSets;
use scoreline_domain::feature::{CATALOGUE, CatalogueRow};
use scoreline_domain::{ModelName, ModelVersion, Tier};

pub use digest::{BundleDigest, sha256_hex};
pub use error::{BundleError, CHILD_CODES, ProbeFault};
pub use files::{
    BundleFiles, GOLDEN_FILE, GOLDEN_KEY, LONE_EXTENSION, LONE_EXTENSIONS, MANIFEST_FILE, MANIFEST_KEY,
    MODEL_FILE_LIMIT, backend_of, columns_of, lone_version,
};
pub use golden_rows::{GoldenAnswer, GoldenRequest, GoldenRow, GoldenValue};
pub use information::{Standard, TierWorth};

/// What loading may use beside the bundle itself.
#[derive(Clone, Debug, Default)]
pub struct LoadSettings {
    /// Where ONNX Runtime is looked for.
    pub runtime: RuntimeSearch,
    /// Threads, each with a handle of its own, for a model that needs ONNX Runtime.
    pub onnx_threads: usize,
    /// Requests that may wait for such a model, however short their wait.
    pub onnx_queue: usize,
    /// Let ONNX models use `If`, `Loop` and `Scan`, which may never end. No setting does: it is for models that are meant to
    /// misbehave.
    pub control_flow: bool,
    /// Tier limits that override every CLV bundle's.
    pub tiers: Option<TierLimits>,
}

/// Position and last steps of one model output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputColumn {
    index: usize,
    apply: Apply,
    curve: Option<Curve>,
}

impl OutputColumn {
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
    pub value: OutputColumn,
    pub risk: Option<OutputColumn>,
    pub low: Option<OutputColumn>,
    pub high: Option<OutputColumn>,
    pub log_mean: Option<OutputColumn>,
    pub log_sigma: Option<OutputColumn>,
}

/// One version of a model, ready to answer: the model, its schema, calibration, baselines and tiers. Immutable; every
/// part of an answer comes from the same snapshot.
pub struct ModelSnapshot {
    manifest: Manifest,
    digest: BundleDigest,
    schema: FeatureSchema,
    engine: Engine,
    roles: Roles,
    information: InformationSets,
    /// The first of these features that is given decides whether a customer has a history.
    cold_start: Vec<usize>,
    golden: Vec<GoldenRow>,
}

/// A customer as a model sees them.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack of one request; a box would allocate for every one")]
pub enum ReadCustomer {
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
        check::check(&manifest)?;
        let schema = schema(&manifest)?;
        let engine = open(&manifest, &schema, &model, settings)?;
        if engine.inputs() != schema.columns() {
            return Err(BackendError::Inputs { model: engine.inputs(), bundle: schema.columns() }.into());
        }
        let roles = Roles::resolve(&manifest, engine.outputs())?;
        let cold_start = manifest.cold_start().into_iter().filter_map(|name| schema.position(name)).collect();
        let variants = engine.variants();
        let information = InformationSets::resolve(&manifest, &schema, &variants, settings.tiers)?;
        Ok(Self { manifest, digest, schema, engine, roles, information, cold_start, golden })
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

    /// Where the tiers of a customer begin of whom everything is known: the bundle's limits unless the settings override
    /// them.
    pub fn tiers(&self) -> TierThresholds {
        self.information.limits()
    }

    /// The tier of a customer with this value, who was in `previous` before, and of whom everything is known.
    pub fn tier_from(&self, value: f64, previous: Option<Tier>) -> Tier {
        match previous.zip(self.manifest.tiers.as_ref().and_then(|tiers| tiers.hysteresis.as_ref())) {
            Some((previous, hysteresis)) => self.tiers().tier_from(value, previous, hysteresis),
            None => self.tiers().tier(value),
        }
    }

    /// Whether the tier limits in effect are the bundle's.
    pub fn has_own_limits(&self) -> bool {
        self.manifest.tiers.as_ref().is_none_or(|tiers| tiers.thresholds() == self.tiers())
    }

    /// The tables that judge a customer with this raw row.
    pub fn standard(&self, raw: &[f64]) -> Standard<'_> {
        self.information.standard(&self.manifest, raw)
    }

    /// The `[[information]]` table that holds for a raw row, by its position; `None` where everything is known.
    pub fn information(&self, raw: &[f64]) -> Option<usize> {
        self.information.of(raw)
    }

    /// What the tiers are worth: of customers of whom everything is known, then of each `[[information]]` table. None without
    /// `tiers.bands`.
    pub fn tier_worth(&self) -> Vec<TierWorth> {
        self.information.worth(&self.manifest)
    }

    /// Whether the feature at `position` is read of the rows of a set.
    pub fn reads(&self, set: Option<usize>, position: usize) -> bool {
        self.information.reads(set, position)
    }

    /// Reads what is known about a customer. One without history needs no more than that to be said: a recency of
    /// nothing does not exist.
    ///
    /// # Errors
    /// Names the feature that is unknown, given twice, impossible, or required and missing.
    pub fn read<'a, V: Into<Value<'a>>>(
        &self,
        features: impl IntoIterator<Item = (&'a str, Option<V>)>,
    ) -> Result<ReadCustomer, FeatureFault> {
        self.known(self.schema.collect(features)?)
    }

    /// As `read`, for one row that is already in schema order; `NaN` is missing, a category is its position.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_row(&self, raw: &[f64]) -> Result<ReadCustomer, FeatureFault> {
        self.known(self.schema.collect_row(raw)?)
    }

    /// As `read`, for a row of every catalogued feature.
    ///
    /// # Errors
    /// Names the feature that is impossible, or required and missing.
    pub fn read_catalogued(&self, row: &CatalogueRow) -> Result<ReadCustomer, FeatureFault> {
        self.known(self.schema.collect_catalogued(row)?)
    }

    fn known(&self, mut given: Given) -> Result<ReadCustomer, FeatureFault> {
        if self.is_cold_start(&given.raw) {
            return Ok(ReadCustomer::New);
        }
        let set = self.information.of(&given.raw);
        self.schema.require_all(&given, |position| self.information.reads(set, position))?;
        self.information.settle(&mut given);
        Ok(ReadCustomer::Known(given))
    }

    /// The feature that says whether these raw values are of a customer with a history.
    fn history(&self, raw: &[f64]) -> Option<usize> {
        self.cold_start.iter().copied().find(|position| !raw[*position].is_nan())
    }

    /// Names of the features whose 0 is a customer without history: the first that is given decides.
    pub fn cold_start_features(&self) -> impl Iterator<Item = &str> {
        self.cold_start.iter().map(|position| self.schema.rules()[*position].name.as_str())
    }

    /// Whether these raw values are of a customer without history.
    pub fn is_cold_start(&self, raw: &[f64]) -> bool {
        self.history(raw).is_some_and(|position| raw[position] == 0.0)
    }

    /// The position of the feature whose 0 makes somebody a customer without history, where this row has it at 0 and says
    /// something else about them.
    pub fn lacks(&self, row: &CatalogueRow) -> Option<u16> {
        let given = |position: &usize| catalogue_row::value(row, &self.schema.rules()[*position].name).is_some();
        let position = self.cold_start.iter().copied().find(given)?;
        let name = &self.schema.rules()[position].name;
        let is_known = |feature: &str| catalogue_row::value(row, feature);
        let says_more =
            CATALOGUE.iter().any(|feature| feature.name != name.as_str() && is_known(feature.name).is_some());
        (is_known(name) == Some(0.0) && says_more).then_some(position as u16)
    }
}

fn schema(manifest: &Manifest) -> Result<FeatureSchema, BundleError> {
    let Manifest { features, derived, standardize, .. } = manifest;
    Ok(FeatureSchema::with_derived(features.clone(), derived.clone(), *standardize)?)
}

/// Looks through the model file of a bundle without loading it: every problem there is.
///
/// # Errors
/// When the manifest does not say which columns the model reads.
pub fn screen(files: &BundleFiles, settings: &LoadSettings) -> Result<Vec<Unfit>, BundleError> {
    if !is_onnx(&files.manifest, &files.model) {
        return Ok(Vec::new());
    }
    let columns = snapshot_columns(&files.manifest)?;
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut unfit = onnx_graph::screen_all(&files.model, &columns, settings.control_flow);
    if unfit.is_empty() {
        unfit.extend(lost_step(&files.manifest, &files.model));
    }
    Ok(unfit)
}

/// What an ONNX file itself says was lost when it was exported, unless the manifest makes it good.
fn lost_step(manifest: &Manifest, model: &[u8]) -> Option<Unfit> {
    let main = match manifest.task {
        Task::Clv => &manifest.outputs.value,
        Task::Lead => &manifest.outputs.probability,
    };
    // What only ONNX Runtime reads tells nothing here.
    let model = onnx_graph::OnnxModel::parse(model).ok()?;
    model.lost_step(main.as_ref().map(Output::apply).unwrap_or_default()).map(Unfit::LostStep)
}

/// Whether the model file is ONNX rather than a boosting library's own, JSON of our own or of smartcore.
fn is_onnx(manifest: &Manifest, model: &[u8]) -> bool {
    match manifest.backend {
        BackendKind::Trees => !trees::is_booster(model),
        BackendKind::Onnx => true,
        BackendKind::Linear => !model.trim_ascii_start().starts_with(b"{"),
        BackendKind::Smartcore => false,
    }
}

/// The columns a manifest's model reads.
fn snapshot_columns(manifest: &Manifest) -> Result<Vec<String>, BundleError> {
    Ok(schema(manifest)?.column_names().map(str::to_owned).collect())
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
    if is_onnx(manifest, model) {
        onnx_graph::screen(model, features, settings.control_flow)?;
        lost_step(manifest, model).map_or(Ok(()), Err)?;
    }
    let own_json = !is_onnx(manifest, model);
    Ok(match manifest.backend {
        BackendKind::Trees if trees::is_booster(model) => {
            inline(trees::load_booster(model, features, &manifest.features)?)
        }
        BackendKind::Trees => inline(trees::load(&onnx_graph::OnnxModel::parse(model)?, features)?),
        BackendKind::Linear if additive::is_additive(model) => inline(additive::load(model, schema)?),
        BackendKind::Linear if own_json => inline(linear::load_with_schema(model, schema)?),
        BackendKind::Linear => inline(onnx_graph::load_linear(&onnx_graph::OnnxModel::parse(model)?, features)?),
        BackendKind::Smartcore => inline(smartcore::load(model, features)?),
        BackendKind::Onnx => {
            let threads = settings.onnx_threads.max(1);
            let categories =
                |name: &str| manifest.features.iter().find(|rule| rule.name == name).map(|rule| &rule.categories);
            let given = features
                .iter()
                .map(|name| onnx::ModelColumn { name, categories: categories(name).map_or(&[], Vec::as_slice) });
            let given: Vec<_> = given.collect();
            let (handles, spares) = onnx::open_with_spares(model, &given, &settings.runtime, threads)?;
            let guard = ModelGuard::new(manifest.name.clone(), manifest.version.clone());
            let queue = settings.onnx_queue.max(1);
            Engine::Pooled(Pooled::start(guard, handles, Some(spares), queue)?)
        }
    })
}

/// Names of the columns that a manifest's model writes.
///
/// # Errors
/// When the model cannot be loaded with the manifest's features.
pub fn outputs_of(manifest: &Manifest, model: &[u8], settings: &LoadSettings) -> Result<Vec<String>, BundleError> {
    Ok(open(manifest, &schema(manifest)?, model, settings)?.outputs().to_vec())
}

impl Roles {
    fn resolve(manifest: &Manifest, columns: &[String]) -> Result<Self, BundleError> {
        let find = |key: &'static str, output: Option<&Output>| -> Result<Option<OutputColumn>, BundleError> {
            let Some(output) = output else { return Ok(None) };
            let index =
                columns.iter().position(|column| column == output.name()).ok_or_else(|| BundleError::Field {
                    key,
                    problem: format!("names `{}`; the model has {}", output.name(), columns.join(", ")),
                })?;
            Ok(Some(OutputColumn { index, apply: output.apply(), curve: output.curve().cloned() }))
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
