//! `scoreline models list|verify|pack|calibrate`: what is in the models folder, what is wrong with it, a bundle out of a
//! model, one file out of a bundle, a bundle calibrated anew.

mod calibrate;
mod pack;
mod publish;
mod verify;

pub use publish::{AcceptArgs, AllowArgs, BundleArgs, name, version};

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Failure, print};
use crate::app;
use crate::config::Settings;
use crate::packing::{Trained, html, report};
use crate::scoring::golden;
use scoreline_engine::inference::bundle::{BundleFiles, LONE_EXTENSIONS, LoadSettings, MANIFEST_FILE};
use scoreline_engine::inference::manifest::Manifest;
use scoreline_engine::inference::probe;
use scoreline_engine::inference::registry::{CandidateMode, Hold, Patience, VersionState, VersionStatus};

const PACK_EXAMPLES: &str = "\
Examples, a bundle of a model that was trained elsewhere:
  scoreline features export --as-of 2026-01-01 --output customers.csv
  scoreline models pack --model model.txt --features customers.csv \\
    --name clv --version v2.0 --check model.predictions.csv

Its table has a row per customer: `customer`, `split`, the features, `spend_usd`. Rows of split `fit` \
say what the features look like, those of `calibration` calibrate and those of `test` measure: none of \
the last two may have fitted the model. A column of texts becomes one of categories. `--check` compares the bundle with what the model's own library \
predicts. The bundle appears in `models.dir` complete or not at all.

Examples, a bundle as one file:
  scoreline models pack models/clv/v1.2 --output v1.2.onnx
  scoreline models pack models/clv/v1.2 --model new.onnx --version v1.3 \\
    --output models/clv/v1.3.onnx

There with --model, the bundle's manifest is kept for the new model, which must read the same inputs; \
its golden rows and metrics are not, because they are the old model's.";

#[derive(Debug, Subcommand)]
pub(super) enum ModelsCommand {
    /// Load the models folder as the server would and show every version with its state
    #[command(after_help = "Example:\n  scoreline models list\n\n\
        States: serving (answers requests), candidate (tried beside it), available (on disk, another version serves), \
        refused (with the reason).\n\nNotes: pinned (models.pins), promoted (over the admin listener), shadow or canary \
        (models.candidates), inherits (a lone file with another version's manifest)")]
    List,
    /// Check bundles step by step: files, what the model holds, a run in a child process, golden rows. Exit code 1 when
    /// one fails
    #[command(after_help = "Examples:\n  scoreline models verify                every bundle in models.dir\n  \
        scoreline models verify models/clv     every version of one model\n  \
        scoreline models verify new/v1.3       one bundle, before it is dropped in\n  \
        scoreline models verify new/v1.3.onnx  a lone model file")]
    Verify {
        /// A models folder, a model's folder, a bundle's folder, a bundle.toml or a lone .onnx; `models.dir` when left out
        path: Option<PathBuf>,
    },
    /// Make a bundle of a model trained elsewhere: calibrate it, measure it, write its manifest and golden rows. Or write a
    /// bundle as one ONNX file that carries its manifest
    #[command(disable_version_flag = true, after_help = PACK_EXAMPLES)]
    Pack(Box<pack::PackArgs>),
    /// Calibrate a bundle anew, whatever runs it: intervals, tiers, baselines and drift reference from a table of
    /// customers
    #[command(
        disable_version_flag = true,
        after_help = "Example:\n  \
        scoreline models calibrate models/clv/v1.3 --version v1.4 \\\n    --features labelled.csv"
    )]
    Calibrate(Box<calibrate::CalibrateArgs>),
    /// Try one model in this process and say how it went; started by scoreline itself
    #[command(hide = true)]
    Probe,
}

impl ModelsCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        match self {
            Self::List => list(settings),
            Self::Verify { path } => {
                let path = path.unwrap_or_else(|| settings.models.dir.clone());
                verify::run(&path, &app::load_settings(settings))
            }
            Self::Pack(pack) => pack.run(settings),
            Self::Calibrate(calibrate) => calibrate.run(settings),
            Self::Probe => probe(),
        }
    }
}

/// What a load of each bundle at or below `path` would end with, by the step that fails; nothing for a good one.
pub(super) fn faults(path: &Path, load: &LoadSettings) -> Result<Vec<(PathBuf, verify::Problems)>, Failure> {
    verify::faults(path, load)
}

/// How a bundle that is being made is loaded: as the server would, without tiers that settings put over the bundle's.
fn packing_load_settings(settings: &Settings) -> LoadSettings {
    LoadSettings { onnx_threads: 1, tiers: None, ..app::load_settings(settings) }
}

/// Publishes what was made; its figures and where it is.
fn show(trained: &Trained, publish: &BundleArgs) -> anyhow::Result<String> {
    let figures = report::text(trained)?;
    Ok(figures + &publish.publish(&trained.staged, &html::run::report(trained))?)
}

/// The child's side of a probe: it has no settings, only what comes through its standard input.
pub(super) fn probe() -> Result<(), Failure> {
    let verdict = probe::answer(std::io::stdin().lock(), golden::verify);
    print(&serde_json::to_string(&verdict).map_err(anyhow::Error::new)?)
}

fn list(settings: &Settings) -> Result<(), Failure> {
    let dir = &settings.models.dir;
    if !dir.is_dir() {
        return Err(Failure::Usage(format!("`models.dir` = `{}` is not a folder", dir.display())));
    }
    let registry = app::registry(settings);
    registry.follow(app::stored::promotions(settings));
    registry.scan(Patience::Now);
    let heads = ["MODEL", "VERSION", "BACKEND", "STATE", "NOTE", "TRAINED", "FEATURES", "REASON"];
    let mut rows = vec![heads.map(str::to_owned)];
    for status in registry.status() {
        // A version that is not loaded is described by its manifest, as far as that can be read.
        let manifest = status.snapshot.as_ref().map(|snapshot| snapshot.manifest().clone());
        let manifest = manifest.or_else(|| read_manifest(settings, &status));
        let about = |tell: fn(&Manifest) -> String| manifest.as_ref().map_or_else(|| "-".to_owned(), tell);
        let reason = status.state.refusal();
        rows.push([
            status.model.to_string(),
            status.version.to_string(),
            about(|manifest| manifest.backend.as_str().to_owned()),
            status.state.as_str().to_owned(),
            note(&status, manifest.as_ref()),
            about(|manifest| manifest.trained_at.strftime("%Y-%m-%d").to_string()),
            about(|manifest| manifest.features.len().to_string()),
            match (&status.state, reason) {
                (VersionState::Held { reason }, _) => format!("promote it to let it serve: {reason}"),
                (_, Some((code, reason))) => format!("{code}: {}", one_line(reason)),
                (_, None) => status.behind.clone().unwrap_or_default(),
            },
        ]);
    }
    if rows.len() == 1 {
        return print(&format!("no bundle in {}: expected <model>/<version>/{MANIFEST_FILE}\n", dir.display()));
    }
    print(&aligned(&rows))
}

/// Why a version has the part it has.
fn note(status: &VersionStatus, manifest: Option<&Manifest>) -> String {
    let held = status.held.map(|hold: Hold| hold.as_str().to_owned());
    let trial = status.trial.map(|mode| match mode {
        CandidateMode::Shadow => "shadow".to_owned(),
        CandidateMode::Canary { share } => format!("canary {share}"),
    });
    let inherits =
        manifest.and_then(|manifest| manifest.inherited_from.as_ref()).map(|from| format!("inherits {from}"));
    let notes: Vec<_> = [held, trial, inherits].into_iter().flatten().collect();
    if notes.is_empty() { "-".to_owned() } else { notes.join(", ") }
}

/// The manifest of a version, whether it is loaded or not, as far as it can be read.
pub(in crate::cli) fn read_manifest(settings: &Settings, status: &VersionStatus) -> Option<Manifest> {
    let model = settings.models.dir.join(status.model.as_str());
    let folder = model.join(status.version.as_str());
    let files = if folder.is_dir() {
        BundleFiles::read(&folder)
    } else {
        let files = LONE_EXTENSIONS.map(|extension| model.join(format!("{}.{extension}", status.version)));
        let file = files.iter().find(|file| file.is_file())?;
        BundleFiles::read_lone(&model.canonicalize().ok()?, file, &status.version, None)
    };
    if let Ok(files) = files {
        return Some(files.manifest);
    }
    toml::from_str(&std::fs::read_to_string(folder.join(MANIFEST_FILE)).ok()?).ok()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    rows.iter().fold(String::new(), |mut text, row| {
        let line = row.iter().zip(widths).fold(String::new(), |mut line, (cell, width)| {
            let _ = write!(line, "{cell:width$}  ");
            line
        });
        let _ = writeln!(text, "{}", line.trim_end());
        text
    })
}
