//! `scoreline models verify`: goes through what a load does and says everything that is wrong.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::super::{Failure, print};
use crate::scoring::golden;
use scoreline_domain::ModelVersion;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::{
    self, BundleError, BundleFiles, LONE_EXTENSIONS, LoadSettings, MANIFEST_FILE, lone_version,
};
use scoreline_engine::inference::manifest::{Luck, Manifest, TrainingSummary};
use scoreline_engine::inference::probe::probe;
use scoreline_engine::inference::warm::warm;

pub(super) fn run(path: &Path, load: &LoadSettings) -> Result<(), Failure> {
    let bundles = bundles(path)?;
    let mut text = String::new();
    let mut failed = 0;
    for bundle in &bundles {
        let _ = writeln!(text, "{}", bundle.display());
        let problems = checks(bundle, load, &mut text);
        failed += usize::from(!problems.is_empty());
        for (step, problem) in problems {
            let _ = writeln!(text, "  FAIL  {step}: {problem}");
        }
    }
    let count = bundles.len();
    let _ = writeln!(text, "{count} bundle{}, {failed} failed", if count == 1 { "" } else { "s" });
    print(&text)?;
    if failed > 0 { Err(anyhow::anyhow!("{failed} of {count} bundles would be refused").into()) } else { Ok(()) }
}

/// What a load of each bundle at or below `path` would end with, by the step that fails.
pub(super) fn faults(path: &Path, load: &LoadSettings) -> Result<Vec<(PathBuf, Problems)>, Failure> {
    let all = bundles(path)?;
    Ok(all.into_iter().map(|bundle| (bundle.clone(), checks(&bundle, load, &mut String::new()))).collect())
}

/// The files of a bundle that carries its manifest, in a folder or in a lone file.
pub(super) fn read(path: &Path) -> Result<BundleFiles, Failure> {
    if path.is_file() && !is_manifest(path) {
        return Ok(read_lone(path)?);
    }
    let folder = if is_manifest(path) { path.parent().unwrap_or(path) } else { path };
    Ok(BundleFiles::read(folder)?)
}

/// The steps that fail, each with why.
pub(super) type Problems = Vec<(&'static str, String)>;

/// Runs the steps of a load in order, and gives what fails. A step that needs what an earlier one could not give is left
/// out; the others are not.
fn checks(path: &Path, load: &LoadSettings, text: &mut String) -> Problems {
    let lone = path.is_file();
    let read = if lone { read_lone(path) } else { BundleFiles::read(path) };
    let files = match read {
        Ok(files) => files,
        Err(err) => return vec![("files", err.to_string())],
    };
    let golden_rows = files.golden.len();
    let file = files.manifest.file.clone();
    let _ = match (&files.manifest.inherited_from, lone) {
        (Some(from), _) => writeln!(text, "  note  files: no manifest in the file; it would inherit the one of {from}"),
        (None, true) => writeln!(text, "  ok    files: carries its manifest, {golden_rows} golden rows"),
        (None, false) => {
            writeln!(text, "  ok    files: {MANIFEST_FILE}, {file} with the right SHA-256, {golden_rows} golden rows")
        }
    };
    let mut problems: Problems = match bundle::screen(&files, load) {
        Ok(unfit) => unfit.into_iter().map(|unfit| ("static", unfit.to_string())).collect(),
        Err(err) => vec![("manifest", err.to_string())],
    };
    // What no runtime should see is not run, here either.
    if problems.is_empty() {
        let _ = writeln!(text, "  ok    static: nothing in the model that is not allowed");
        match std::env::current_exe().map_err(|err| err.to_string()) {
            Ok(program) => match probe(&program, &files, load) {
                Ok(()) => drop(writeln!(text, "  ok    probe: a process of its own loads and runs it")),
                Err(err) => problems.push(("probe", err.to_string())),
            },
            Err(reason) => problems.push(("probe", reason)),
        }
    }
    let manifest = files.manifest.clone();
    if problems.is_empty()
        && let Err(problem) = run_here(files, load, text)
    {
        problems.push(problem);
    }
    note_place(path, lone, &manifest, text);
    problems
}

/// Loads and runs the model in this process: what a probe has shown to be safe.
fn run_here(files: BundleFiles, load: &LoadSettings, text: &mut String) -> Result<(), (&'static str, String)> {
    let golden_rows = files.golden.len();
    let snapshot = ModelSnapshot::build(files, load).map_err(|err| ("model", err.to_string()))?;
    let manifest = snapshot.manifest();
    let features: Vec<_> = manifest.features.iter().map(|rule| rule.name.as_str()).collect();
    let (name, version, backend) = (&manifest.name, &manifest.version, manifest.backend.as_str());
    let count = features.len();
    let names = features.join(", ");
    let _ = writeln!(text, "  ok    model: {name} {version} ({backend}), {count} features: {names}");
    golden::verify(&snapshot).map_err(|err| ("golden", err.to_string()))?;
    let _ = match golden_rows {
        0 => writeln!(text, "  warn  golden: no golden rows, so nothing says what the model should answer"),
        rows => writeln!(text, "  ok    golden: {rows} answers as promised"),
    };
    warm(&snapshot).map_err(|err| ("range", err.to_string()))?;
    let _ = writeln!(text, "  ok    range: finite answers inside the training range");
    note_quality(&snapshot.manifest().training, text);
    Ok(())
}

/// What was measured on customers the model had not seen, beside what a perfect model shows.
fn note_quality(training: &TrainingSummary, text: &mut String) {
    let told = |key: &&String| TOLD.iter().any(|end| key.ends_with(end));
    let figures = training.luck.keys().filter(told).filter_map(|key| Some((key, training.metrics.get(key)?)));
    for (key, measured) in figures {
        let Luck { mean, low, high } = training.luck[key];
        let _ = writeln!(
            text,
            "  note  quality: {key} {measured:.3}; a perfect model shows {mean:.3}, {low:.3} to {high:.3} in 90 of 100 draws"
        );
    }
}

/// Ends of the figures that are told.
const TOLD: [&str; 3] = ["decile_error", "_ece", "interval_coverage"];

fn note_place(path: &Path, lone: bool, manifest: &Manifest, text: &mut String) {
    let names = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let placed = path.canonicalize().ok();
    let version = placed.as_deref().and_then(names);
    let model = placed.as_deref().and_then(Path::parent).and_then(names);
    let extension = path.extension().filter(|_| lone).map(|extension| extension.to_string_lossy());
    let ending = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    let due = format!("{}{ending}", manifest.version);
    if version.as_deref() != Some(due.as_str()) || model.as_deref() != Some(manifest.name.as_str()) {
        let _ = writeln!(text, "  note  place: to be served it must be <models.dir>/{}/{due}", manifest.name);
    }
}

/// A lone file beside bundles inherits from the newest of them, as at a start.
fn read_lone(path: &Path) -> Result<BundleFiles, BundleError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let root = folder.canonicalize().map_err(|err| BundleError::File { path: folder.to_owned(), err })?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let version = ModelVersion::parse(&stem)
        .map_err(|err| BundleError::Field { key: "version", problem: format!("is the file's name: {err}") })?;
    let mut siblings: Vec<_> = fs::read_dir(&root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| BundleFiles::read(&entry.path()).ok().map(|files| files.manifest))
        .collect();
    siblings.sort_by(|a, b| a.version.cmp_natural(&b.version));
    BundleFiles::read_lone(&root, path, &version, siblings.last())
}

fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == MANIFEST_FILE)
}

/// Whether somebody who names this file means a model.
fn is_lone(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    path.is_file() && extension.is_some_and(|extension| LONE_EXTENSIONS.contains(&extension))
}

/// Whether a file that lies in a model's folder is a version of it.
fn is_lone_version(path: &Path) -> bool {
    path.is_file() && path.file_name().and_then(OsStr::to_str).and_then(lone_version).is_some()
}

/// The bundles at or below `path`: one bundle, a model with its versions, or a folder of models.
fn bundles(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let usage = |message: String| Err(Failure::Usage(message));
    if is_lone(path) {
        return Ok(vec![path.to_owned()]);
    }
    if path.is_file() {
        let folder = path.parent().filter(|_| is_manifest(path)).map(Path::to_path_buf);
        return folder.map(|folder| vec![folder]).map_or_else(
            || {
                let path = path.display();
                usage(format!(
                    "`{path}` is not a bundle: name a {MANIFEST_FILE}, its folder or a lone model file (.{})",
                    LONE_EXTENSIONS.join(", .")
                ))
            },
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
    for entry in entries(path)? {
        if is_bundle(&entry) || is_lone_version(&entry) {
            found.push(entry);
        } else if entry.is_dir() {
            // A version folder without a manifest is listed too: somebody expects it to be served.
            found.extend(entries(&entry)?.into_iter().filter(|entry| entry.is_dir() || is_lone_version(entry)));
        }
    }
    if found.is_empty() {
        return usage(format!("no bundle in `{}`: expected <model>/<version>/{MANIFEST_FILE}", path.display()));
    }
    Ok(found)
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("`{}` cannot be read", path.display()))? {
        let entry = entry?.path();
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}
