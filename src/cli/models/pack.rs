//! `scoreline models pack`: a bundle as one ONNX file that carries its manifest.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::super::{Failure, print};
use super::verify;
use scoreline_domain::{ModelVersion, durable};
use scoreline_engine::inference::bundle::{LONE_EXTENSION, LoadSettings, sha256_hex};
use scoreline_engine::inference::manifest::{Manifest, TrainingSummary};

pub(super) fn run(
    bundle: &Path,
    model: Option<&Path>,
    version: Option<ModelVersion>,
    output: &Path,
    load: &LoadSettings,
) -> Result<(), Failure> {
    if output.extension().is_none_or(|extension| extension != LONE_EXTENSION) {
        return Err(Failure::Usage(format!("`--output` must end in .{LONE_EXTENSION}, got `{}`", output.display())));
    }
    let mut files = verify::read(bundle)?;
    let name = output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let version = version.unwrap_or_else(|| files.manifest.version.clone());
    files.manifest = Manifest { version, file: name, ..files.manifest };
    if let Some(model) = model {
        let bytes = fs::read(model).with_context(|| format!("`{}` cannot be read", model.display()))?;
        let training = TrainingSummary {
            synthetic: files.manifest.training.synthetic.clone(),
            command: "scoreline models pack --model".to_owned(),
            ..TrainingSummary::default()
        };
        files.manifest = Manifest { sha256: sha256_hex(&bytes), training, ..files.manifest };
        (files.model, files.golden) = (bytes, Vec::new());
    }
    let bytes = files.to_lone().with_context(|| format!("`{}` cannot be packed", bundle.display()))?;
    // What watches the folder sees the whole file or none.
    let written = durable::write_whole(output, &bytes, durable::SHARED);
    written.with_context(|| format!("`{}` cannot be written", output.display()))?;
    print(&format!("{} written: {} bytes, {} golden rows\n", output.display(), bytes.len(), files.golden.len()))?;
    verify::run(output, load)
}
