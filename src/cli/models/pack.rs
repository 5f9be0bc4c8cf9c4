//! `scoreline models pack`: a bundle from a model trained elsewhere, or a bundle as one ONNX file that carries its manifest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::super::{Failure, print};
use super::publish::{AcceptArgs, AllowArgs, BundleArgs, name, version};
use super::{packing_load_settings, show, verify};
use crate::app;
use crate::config::Settings;
use crate::packing::library::LibraryCheck;
use crate::packing::pack::{self, Mapping, Pack};
use crate::packing::report::Progress;
use scoreline_domain::{ModelName, ModelVersion, durable};
use scoreline_engine::inference::bundle::{LONE_EXTENSION, LoadSettings, sha256_hex};
use scoreline_engine::inference::manifest::{BackendKind, Manifest, TrainingSummary};

#[derive(Debug, Args)]
pub(in crate::cli) struct PackArgs {
    /// A bundle's folder, or a lone .onnx that carries its manifest, to write as one file
    #[arg(required_unless_present = "features", conflicts_with = "features", requires = "output")]
    bundle: Option<PathBuf>,
    /// The file to write, <model>/<version>.onnx when it is to be served
    #[arg(long, short, value_name = "FILE", conflicts_with = "features")]
    output: Option<PathBuf>,
    /// The model file: ONNX, a boosting library's own text or JSON, smartcore's or scoreline's JSON. It reads the features raw:
    /// by their names where it has names for them, else all of the table in its order. With a bundle: what takes the place of
    /// its model
    #[arg(long, value_name = "FILE", requires = "version")]
    model: Option<PathBuf>,
    /// The version to write into the manifest
    #[arg(long, value_parser = version)]
    version: Option<ModelVersion>,
    /// Table of customers, as `features export` writes it
    #[arg(long, value_name = "CSV", requires_all = ["model", "version", "name"])]
    features: Option<PathBuf>,
    /// Name of the model
    #[arg(long, value_parser = name, requires = "features")]
    name: Option<ModelName>,
    /// What runs the model; by its file when left out
    #[arg(long, requires = "features")]
    backend: Option<BackendName>,
    /// Which output of the model is what: `value` (required), `risk`, `low`, `high`, `log_mean`, `log_sigma`. Of a model with
    /// one output it is the value
    #[arg(long, value_name = "MEANING=OUTPUT", value_parser = mapping, requires = "features")]
    map: Vec<Mapping>,
    /// A last step for an output: identity, exp, expm1, complement or sigmoid
    #[arg(long, value_name = "MEANING=STEP", value_parser = mapping, requires = "features")]
    apply: Vec<Mapping>,
    /// Features a request must give
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "features")]
    required: Vec<String>,
    /// Leave missing values of features that lack some in the fit rows to the model, instead of imputing the mean
    #[arg(long, requires = "features")]
    missing_to_model: bool,
    /// The feature that picks the calibration group
    #[arg(long, value_name = "FEATURE", default_value = "purchase_count")]
    group_by: String,
    /// Where its groups start
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "1,2,4")]
    group_starts: Vec<f64>,
    /// A customer with 0 here has no history
    #[arg(long, value_name = "FEATURE", default_value = "purchase_count")]
    cold_start_feature: String,
    /// Days whose spend is predicted; as the table's column `horizon_days` says when left out
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    horizon_days: Option<u32>,
    /// One sentence for people
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// What the model was trained on
    #[arg(long, default_value = "", hide_default_value = true)]
    data: String,
    /// What of it was simulated
    #[arg(long, default_value = "", hide_default_value = true)]
    synthetic: String,
    /// Its licence
    #[arg(long, default_value = "", hide_default_value = true)]
    licence: String,
    /// What the model's own library predicts for customers of the table: CSV with the columns `customer` and `prediction`
    /// (dollars). A bundle that answers otherwise is not published; the worst rows are shown
    #[arg(long, value_name = "CSV", requires = "features")]
    check: Option<PathBuf>,
    /// How far the answers may be from those predictions, relative to them, or to a dollar for smaller ones. One row in a
    /// hundred may be further: a value beside a split
    #[arg(long, value_name = "NUMBER", default_value_t = 1e-4, value_parser = tolerance)]
    tolerance: f64,
    #[command(flatten)]
    allow: AllowArgs,
    #[command(flatten)]
    accept: AcceptArgs,
    #[command(flatten)]
    publish: BundleArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendName {
    Trees,
    Linear,
    Onnx,
    Smartcore,
}

impl PackArgs {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        if let (Some(bundle), Some(output)) = (&self.bundle, &self.output) {
            return to_lone(bundle, self.model.as_deref(), self.version, output, &app::load_settings(settings));
        }
        let publish = self.publish;
        let (Some(model), Some(table), Some(name), Some(version)) =
            (self.model, self.features, self.name, self.version)
        else {
            // The command line is refused before it comes here.
            return Err(Failure::Usage("`models pack` needs a bundle, or a model with `--features`".to_owned()));
        };
        let command = format!("scoreline models pack --name {name} --version {version}");
        let order = Pack {
            load: packing_load_settings(settings),
            model,
            table,
            name,
            version,
            backend: self.backend.map(|backend| match backend {
                BackendName::Trees => BackendKind::Trees,
                BackendName::Linear => BackendKind::Linear,
                BackendName::Onnx => BackendKind::Onnx,
                BackendName::Smartcore => BackendKind::Smartcore,
            }),
            maps: self.map,
            applies: self.apply,
            required: self.required,
            missing_to_model: self.missing_to_model,
            group_by: self.group_by,
            group_starts: self.group_starts,
            cold_start_feature: self.cold_start_feature,
            horizon_days: self.horizon_days,
            description: self.description,
            data: self.data,
            synthetic: self.synthetic,
            licence: self.licence,
            command,
            trained_at: publish.trained_at(),
            allow: self.allow.reasons(),
            check: self.check.map(|file| LibraryCheck { file, tolerance: self.tolerance }),
            accept: self.accept.accept,
        };
        let progress = Progress::new(1);
        progress.step("calibrating, measuring, writing");
        let trained = pack::pack(order, &publish.models(&settings.models.dir), publish.force)?;
        progress.done();
        print(&format!("{}\n", trained.leaks.text()?))?;
        print(&show(&trained, &publish)?)
    }
}

/// A bundle as one file, which is verified where it lies.
fn to_lone(
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

fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse().map_err(|_| format!("must be a number above 0, got `{text}`"))?;
    if number > 0.0 && number < 1.0 { Ok(number) } else { Err(format!("must be above 0 and below 1, got `{number}`")) }
}

fn mapping(text: &str) -> Result<Mapping, String> {
    match text.split_once('=') {
        Some((meaning, value)) if !meaning.is_empty() && !value.is_empty() => {
            Ok(Mapping { meaning: meaning.to_owned(), value: value.to_owned() })
        }
        _ => Err(format!("must look like `value=variable`, got `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_at_the_edge() {
        assert!(mapping("value").is_err() && mapping("=x").is_err() && mapping("value=variable").is_ok());
        assert!(version("../v1").is_err());
        assert!(tolerance("0").is_err() && tolerance("1").is_err() && tolerance("1e-4").is_ok());
    }
}
