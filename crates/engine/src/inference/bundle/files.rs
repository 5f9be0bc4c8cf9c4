//! A bundle's files, read once and checked against each other: a folder, or a lone model file. A lone ONNX file may carry its
//! manifest; every other inherits it.

use std::path::Path;

use super::digest::{BundleDigest, sha256};
use super::error::BundleError;
use super::golden_rows::{self, GoldenRow};
use super::plain_file;
use super::snapshot_columns;
use crate::inference::manifest::{BackendKind, Manifest, TrainingSummary};
use crate::inference::onnx_graph::{self, OnnxModel};
use crate::inference::{smartcore, trees};
use scoreline_domain::ModelVersion;
use scoreline_domain::text::{hex, in_plain_words};

/// File names inside a bundle folder.
pub const MANIFEST_FILE: &str = "bundle.toml";
pub const GOLDEN_FILE: &str = "golden.jsonl";
/// How the name of a lone file ends that may carry its manifest.
pub const LONE_EXTENSION: &str = "onnx";
/// How the names of lone model files end: ONNX, `LightGBM`'s text, `XGBoost`'s JSON.
pub const LONE_EXTENSIONS: [&str; 3] = [LONE_EXTENSION, "txt", "json"];
/// What a lone model file carries in its `metadata_props`.
pub const MANIFEST_KEY: &str = "scoreline.bundle";
pub const GOLDEN_KEY: &str = "scoreline.golden";

/// Largest model file that is read (bytes).
pub const MODEL_FILE_LIMIT: u64 = 512 * 1024 * 1024;
/// Bytes in which a JSON file of ours names its format.
const SNIFFED: usize = 4096;
/// Largest manifest or golden file that is read (bytes).
const TEXT_FILE_LIMIT: u64 = 16 * 1024 * 1024;

/// A bundle's files, read once.
pub struct BundleFiles {
    pub manifest: Manifest,
    /// The model file; of a lone file without what `models pack` added to it.
    pub model: Vec<u8>,
    pub golden: Vec<GoldenRow>,
    pub digest: BundleDigest,
}

/// The version a lone model file of this name is; `None` for the name of anything else. A text or JSON is one only where its
/// name is a version's (`v1.3.txt`): other such files may lie beside models.
pub fn lone_version(file_name: &str) -> Option<ModelVersion> {
    let (stem, extension) = file_name.rsplit_once('.')?;
    let is_number = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let is_meant = extension == LONE_EXTENSION || is_number(stem.strip_prefix('v').unwrap_or(stem));
    if is_meant && LONE_EXTENSIONS.contains(&extension) { ModelVersion::parse(stem).ok() } else { None }
}

impl BundleFiles {
    /// Reads and checks the files of the bundle in `folder`.
    ///
    /// # Errors
    /// Says which file is missing, too large, unreadable or not what the manifest promises.
    pub fn read(folder: &Path) -> Result<Self, BundleError> {
        let root = folder.canonicalize().map_err(|err| BundleError::File { path: folder.to_owned(), err })?;
        Self::read_within(&root, folder)
    }

    /// As `read`, for a folder of which every file must lie below `root`, an absolute path without links.
    ///
    /// # Errors
    /// As `read`, and when a link leads outside.
    pub fn read_within(root: &Path, folder: &Path) -> Result<Self, BundleError> {
        let manifest_path = folder.join(MANIFEST_FILE);
        let manifest_bytes = plain_file::read(root, &manifest_path, TEXT_FILE_LIMIT)?;
        let manifest = parse_manifest(&manifest_path, &manifest_bytes)?;
        if manifest.file.contains(['/', '\\']) || manifest.file.starts_with('.') || manifest.file.is_empty() {
            return Err(BundleError::Field {
                key: "file",
                problem: format!("must be a bare file name beside {MANIFEST_FILE}, got `{}`", manifest.file),
            });
        }
        let model = plain_file::read(root, &folder.join(&manifest.file), MODEL_FILE_LIMIT)?;
        let golden_path = folder.join(GOLDEN_FILE);
        let golden = match plain_file::read(root, &golden_path, TEXT_FILE_LIMIT) {
            Ok(bytes) => golden_rows::parse(&golden_path, &bytes)?,
            Err(BundleError::File { err, .. }) if err.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(err) => return Err(err),
        };
        Self::checked(manifest, &manifest_bytes, model, golden)
    }

    /// Reads the lone model file at `path`, which must lie below `root`. Without a manifest of its own it inherits the one
    /// of `base`, which may be the one that these very bytes took over before.
    ///
    /// # Errors
    /// As `read`, and [`BundleError::NoManifest`] when there is no manifest anywhere.
    pub fn read_lone(
        root: &Path,
        path: &Path,
        version: &ModelVersion,
        base: Option<&Manifest>,
    ) -> Result<Self, BundleError> {
        let bytes = plain_file::read(root, path, MODEL_FILE_LIMIT)?;
        if trees::is_booster(&bytes) {
            return inherit(path, version, bytes, base.ok_or(BundleError::NoManifest)?);
        }
        let carried = onnx_graph::carried(&bytes, &[MANIFEST_KEY, GOLDEN_KEY])?;
        let model = carried.model;
        match carried.values.get(MANIFEST_KEY) {
            Some(text) => {
                let manifest = parse_manifest(path, text)?;
                let golden = carried.values.get(GOLDEN_KEY).map(|rows| golden_rows::parse(path, rows));
                Self::checked(manifest, text, model, golden.transpose()?.unwrap_or_default())
            }
            None => inherit(path, version, model, base.ok_or(BundleError::NoManifest)?),
        }
    }

    /// A bundle that is not on disk: what training measures before it writes anything.
    ///
    /// # Errors
    /// When the manifest cannot be written down, or does not name this model.
    pub fn from_parts(manifest: Manifest, model: Vec<u8>, golden: Vec<GoldenRow>) -> Result<Self, BundleError> {
        let text = written(&manifest)?;
        Self::checked(manifest, text.as_bytes(), model, golden)
    }

    fn checked(
        manifest: Manifest,
        manifest_text: &[u8],
        model: Vec<u8>,
        golden: Vec<GoldenRow>,
    ) -> Result<Self, BundleError> {
        let actual = sha256(&model);
        if !hex(&actual).eq_ignore_ascii_case(&manifest.sha256) {
            let (file, expected) = (manifest.file, manifest.sha256);
            return Err(BundleError::Checksum { file, expected, actual: hex(&actual) });
        }
        let digest = BundleDigest::of(manifest_text, actual);
        Ok(Self { manifest, model, golden, digest })
    }

    /// The lone file that holds this bundle: the model with manifest and golden rows in its metadata.
    ///
    /// # Errors
    /// When the model is not ONNX, or the manifest cannot be written down.
    pub fn to_lone(&self) -> Result<Vec<u8>, BundleError> {
        if is_own_json(&self.model) || trees::is_booster(&self.model) {
            let reason =
                "is not ONNX, and no other model file has room for a manifest: the bundle stays a folder".into();
            return Err(BundleError::Text { path: self.manifest.file.clone().into(), reason });
        }
        let manifest = written(&self.manifest)?;
        let mut entries = vec![(MANIFEST_KEY, manifest)];
        if !self.golden.is_empty() {
            let lines: Result<Vec<_>, _> = self.golden.iter().map(serde_json::to_string).collect();
            let lines = lines.map_err(|err| BundleError::Text { path: GOLDEN_FILE.into(), reason: err.to_string() })?;
            entries.push((GOLDEN_KEY, lines.join("\n")));
        }
        let entries: Vec<_> = entries.iter().map(|(key, text)| (*key, text.as_str())).collect();
        Ok(onnx_graph::with_metadata(&self.model, &entries)?)
    }
}

/// The manifest of a model file that has none: the serving version's, with the new file in it. What was measured on the
/// other model is not repeated.
fn inherit(path: &Path, version: &ModelVersion, model: Vec<u8>, base: &Manifest) -> Result<BundleFiles, BundleError> {
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // Named after the version that really has a manifest, so that a restart comes to the same digest.
    let from = base.inherited_from.clone().unwrap_or_else(|| base.version.clone());
    let columns = snapshot_columns(base)?;
    let sha256 = hex(&sha256(&model));
    if base.version == *version && base.inherited_from.is_some() && base.sha256 == sha256 {
        return BundleFiles::from_parts(base.clone(), model, Vec::new());
    }
    let manifest = Manifest {
        version: version.clone(),
        backend: backend_of(&model, &columns)?,
        file,
        sha256,
        description: format!("everything but the model itself is inherited from {from}"),
        training: TrainingSummary { synthetic: base.training.synthetic.clone(), ..TrainingSummary::default() },
        inherited_from: Some(from),
        ..base.clone()
    };
    BundleFiles::from_parts(manifest, model, Vec::new())
}

/// The columns a model file names, in its order: a booster's, those of an ONNX file's inputs or of its metadata (`features`, a
/// JSON list). `None` where it names none.
///
/// # Errors
/// When the file is not readable.
pub fn columns_of(model: &[u8]) -> Result<Option<Vec<String>>, BundleError> {
    if is_own_json(model) {
        return Ok(None);
    }
    if trees::is_booster(model) {
        return Ok(trees::booster_columns(model)?);
    }
    let model = OnnxModel::parse(model)?;
    if let Some(names) = model.metadata().get("features").and_then(|text| serde_json::from_str(text).ok()) {
        return Ok(Some(names));
    }
    let inputs = model.inputs();
    Ok((inputs.len() > 1).then(|| inputs.into_iter().map(|input| input.name).collect()))
}

/// What runs a model file: our own engines where they can, ONNX Runtime otherwise.
///
/// # Errors
/// When the file is not readable.
pub fn backend_of(model: &[u8], columns: &[String]) -> Result<BackendKind, BundleError> {
    if is_own_json(model) {
        let is_smartcore = String::from_utf8_lossy(&model[..model.len().min(SNIFFED)]).contains(smartcore::FORMAT);
        return Ok(if is_smartcore { BackendKind::Smartcore } else { BackendKind::Linear });
    }
    if trees::is_booster(model) {
        return Ok(BackendKind::Trees);
    }
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    if onnx_graph::screen(model, &names, false).is_err() {
        // Not looked into any further here: every load says what is wrong with it before anything runs it.
        return Ok(BackendKind::Onnx);
    }
    let graph = OnnxModel::parse(model)?;
    Ok(graph.runs_natively(&names).unwrap_or(BackendKind::Onnx))
}

/// Whether a JSON file is in a format of ours rather than `XGBoost`'s.
fn is_own_json(model: &[u8]) -> bool {
    model.trim_ascii_start().starts_with(b"{")
        && String::from_utf8_lossy(&model[..model.len().min(SNIFFED)]).contains("\"scoreline-")
}

fn parse_manifest(path: &Path, bytes: &[u8]) -> Result<Manifest, BundleError> {
    let wrong = |reason: String| BundleError::Text { path: path.to_owned(), reason };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("is not UTF-8".into()))?;
    let manifest: Manifest = toml::from_str(text).map_err(|err| wrong(in_plain_words(err.to_string().trim_end())))?;
    if manifest.inherited_from.is_some() {
        let problem = "is only known while scoreline runs: a manifest that is written down stands for itself";
        return Err(BundleError::Field { key: "inherited_from", problem: problem.into() });
    }
    Ok(manifest)
}

fn written(manifest: &Manifest) -> Result<String, BundleError> {
    toml::to_string(manifest).map_err(|err| BundleError::Text { path: MANIFEST_FILE.into(), reason: err.to_string() })
}
