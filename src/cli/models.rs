//! `scoreline models list|verify`: what is in the models folder, and what is wrong with it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Failure, print};
use crate::app;
use crate::config::Settings;
use crate::inference::ModelSnapshot;
use crate::inference::bundle::{BundleFiles, LoadSettings, MANIFEST_FILE};
use crate::inference::manifest::Manifest;
use crate::inference::registry::{Patience, State};
use crate::scoring::golden;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Load the models folder as the server would and show every version with its state
    #[command(after_help = "Example:\n  scoreline models list\n\n\
        States: serving (answers requests), available (on disk, another version serves), refused (with the reason)")]
    List,
    /// Check bundles step by step: files, model, golden rows. Exit code 1 when one fails
    #[command(after_help = "Examples:\n  scoreline models verify                      every bundle in models.dir\n  \
        scoreline models verify models/clv           every version of one model\n  \
        scoreline models verify new/v1.3/bundle.toml one bundle, before it is dropped in")]
    Verify {
        /// A models folder, a model's folder, a bundle's folder or a bundle.toml; `models.dir` when left out
        path: Option<PathBuf>,
    },
}

impl Command {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        match self {
            Self::List => list(settings),
            Self::Verify { path } => {
                verify(&path.unwrap_or_else(|| settings.models.dir.clone()), &app::load_settings(settings))
            }
        }
    }
}

fn list(settings: &Settings) -> Result<(), Failure> {
    let dir = &settings.models.dir;
    if !dir.is_dir() {
        return Err(Failure::Usage(format!("`models.dir` = `{}` is not a folder", dir.display())));
    }
    let registry = app::registry(settings);
    registry.scan(Patience::Now);
    let mut rows = vec![["MODEL", "VERSION", "BACKEND", "STATE", "TRAINED", "FEATURES", "REASON"].map(str::to_owned)];
    for status in registry.status() {
        // A version that is not loaded is described by its manifest, as far as that can be read.
        let folder = dir.join(status.model.as_str()).join(status.version.as_str());
        let manifest = status.snapshot.as_ref().map(|snapshot| snapshot.manifest().clone());
        let manifest = manifest.or_else(|| read_manifest(&folder));
        let about = |tell: fn(&Manifest) -> String| manifest.as_ref().map_or_else(|| "-".to_owned(), tell);
        let reason = match &status.state {
            State::Refused { reason, .. } => one_line(reason),
            State::Serving | State::Candidate | State::Available => String::new(),
        };
        rows.push([
            status.model.to_string(),
            status.version.to_string(),
            about(|manifest| manifest.backend.as_str().to_owned()),
            status.state.as_str().to_owned(),
            about(|manifest| manifest.trained_at.strftime("%Y-%m-%d").to_string()),
            about(|manifest| manifest.features.len().to_string()),
            reason,
        ]);
    }
    if rows.len() == 1 {
        return print(&format!("no bundle in {}: expected <model>/<version>/{MANIFEST_FILE}\n", dir.display()));
    }
    print(&aligned(&rows))
}

fn read_manifest(folder: &Path) -> Option<Manifest> {
    toml::from_str(&fs::read_to_string(folder.join(MANIFEST_FILE)).ok()?).ok()
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

fn verify(path: &Path, load: &LoadSettings) -> Result<(), Failure> {
    let folders = bundle_folders(path)?;
    let mut text = String::new();
    let mut failed = 0;
    for folder in &folders {
        let _ = writeln!(text, "{}", folder.display());
        match checks(folder, load, &mut text) {
            Ok(()) => {}
            Err((step, problem)) => {
                failed += 1;
                let _ = writeln!(text, "  FAIL  {step}: {problem}");
            }
        }
    }
    let count = folders.len();
    let _ = writeln!(text, "{count} bundle{}, {failed} failed", if count == 1 { "" } else { "s" });
    print(&text)?;
    if failed > 0 { Err(anyhow::anyhow!("{failed} of {count} bundles would be refused").into()) } else { Ok(()) }
}

/// Runs the steps of a load in order; a later one makes no sense when an earlier one failed.
fn checks(folder: &Path, load: &LoadSettings, text: &mut String) -> Result<(), (&'static str, String)> {
    let files = BundleFiles::read(folder).map_err(|err| ("files", err.to_string()))?;
    let golden_rows = files.golden.len();
    let file = files.manifest.file.clone();
    let _ = writeln!(text, "  ok    files: {MANIFEST_FILE}, {file} with the right SHA-256, {golden_rows} golden rows");

    let snapshot = ModelSnapshot::build(files, load).map_err(|err| ("model", err.to_string()))?;
    let manifest = snapshot.manifest();
    let features: Vec<_> = manifest.features.iter().map(|rule| rule.name.as_str()).collect();
    let _ = writeln!(
        text,
        "  ok    model: {} {} ({}), {} features: {}",
        manifest.name,
        manifest.version,
        manifest.backend.as_str(),
        features.len(),
        features.join(", ")
    );

    golden::verify(&snapshot).map_err(|err| ("golden", err.to_string()))?;
    let _ = match golden_rows {
        0 => writeln!(text, "  warn  golden: no golden.jsonl, so nothing says what the model should answer"),
        rows => writeln!(text, "  ok    golden: {rows} answers as promised"),
    };

    let names = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let placed = folder.canonicalize().ok();
    let version = placed.as_deref().and_then(names);
    let model = placed.as_deref().and_then(Path::parent).and_then(names);
    if version.as_deref() != Some(manifest.version.as_str()) || model.as_deref() != Some(manifest.name.as_str()) {
        let _ = writeln!(
            text,
            "  note  place: to be served it must lie in <models.dir>/{}/{}/",
            manifest.name, manifest.version
        );
    }
    Ok(())
}

/// The bundle folders at or below `path`: a bundle, a model with its versions, or a folder of models.
fn bundle_folders(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let usage = |message: String| Err(Failure::Usage(message));
    if path.is_file() {
        let named = path.file_name().is_some_and(|name| name == MANIFEST_FILE);
        let folder = path.parent().filter(|_| named).map(Path::to_path_buf);
        return folder.map(|folder| vec![folder]).map_or_else(
            || usage(format!("`{}` is not a bundle: name a {MANIFEST_FILE} or its folder", path.display())),
            Ok,
        );
    }
    if !path.is_dir() {
        return usage(format!("`{}` does not exist", path.display()));
    }
    let is_bundle = |folder: &Path| folder.join(MANIFEST_FILE).is_file();
    if is_bundle(path) {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for folder in folders(path)? {
        if is_bundle(&folder) {
            found.push(folder);
        } else {
            // A version folder without a manifest is listed too: somebody expects it to be served.
            found.extend(folders(&folder)?);
        }
    }
    if found.is_empty() {
        return usage(format!("no bundle in `{}`: expected <model>/<version>/{MANIFEST_FILE}", path.display()));
    }
    Ok(found)
}

fn folders(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    use anyhow::Context;
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("`{}` can not be read", path.display()))? {
        let entry = entry?.path();
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if entry.is_dir() && !hidden {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}
