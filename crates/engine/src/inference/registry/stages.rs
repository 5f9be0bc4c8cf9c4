//! The way of one version from its files to a snapshot that may serve: read once and hashed, looked through, tried in a
//! child process, built, asked its golden rows, warmed. The first stage that fails is the reason of the refusal.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::discover::{VersionForm, VersionKey, VersionPlace};
use super::{RegistrySettings, Verify};
use crate::inference::bundle::{self, BundleError, BundleFiles, ModelSnapshot};
use crate::inference::manifest::{BackendKind, Manifest};
use crate::inference::probe::probe;
use crate::inference::warm::warm;

/// While a model is swapped, two of them are loaded: this many times the larger one must be there.
const MEMORY_FACTOR: u64 = 2;

/// What a load needs beside the files.
pub(super) struct Around<'a> {
    pub(super) settings: &'a RegistrySettings,
    pub(super) verify: Verify,
    /// The manifest a lone file without one inherits.
    pub(super) base: Option<&'a Manifest>,
    /// The one that it inherited when it served before.
    pub(super) inherited: Option<&'a Manifest>,
    /// What serves now.
    pub(super) serving: Option<&'a ModelSnapshot>,
    /// Largest file of what is loaded, in bytes.
    pub(super) largest_loaded: u64,
    /// Try our own engines' models in a child process too. They cannot crash a process the way a C++ runtime can, so
    /// a start does without.
    pub(super) probe_all: bool,
}

/// Loads a version.
///
/// # Errors
/// Why it may not serve. A panic on the way is such a reason too.
pub(super) fn load(key: &VersionKey, place: &VersionPlace, around: &Around<'_>) -> Result<ModelSnapshot, BundleError> {
    catch_unwind(AssertUnwindSafe(|| staged(key, place, around))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let reason = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given").to_owned();
        Err(BundleError::Panicked { reason })
    })
}

fn staged(key: &VersionKey, place: &VersionPlace, around: &Around<'_>) -> Result<ModelSnapshot, BundleError> {
    let Around { settings, verify, base, inherited, serving, largest_loaded, probe_all } = *around;
    let needed = place.largest_file().max(largest_loaded).saturating_mul(MEMORY_FACTOR);
    if let Some(available) = (settings.memory)().filter(|available| *available < needed) {
        return Err(BundleError::Memory { needed, available });
    }
    let files = read(settings, key, place, (base, inherited))?;
    let manifest = &files.manifest;
    if (&manifest.name, &manifest.version) != (&key.0, &key.1) {
        return Err(BundleError::Misplaced {
            manifest: format!("{}/{}", manifest.name, manifest.version),
            folder: format!("{}/{}", key.0, key.1),
        });
    }
    if let Some(serving) = serving.filter(|serving| serving.task() != manifest.task) {
        let problem =
            format!("is `{}`, the serving version's is `{}`", manifest.task.as_str(), serving.task().as_str());
        return Err(BundleError::Field { key: "task", problem });
    }
    if let Some(unfit) = bundle::screen(&files, &settings.load)?.into_iter().next() {
        return Err(unfit.into());
    }
    if let Some(program) = &settings.probe
        && (probe_all || manifest.backend == BackendKind::Onnx)
    {
        probe(program, &files, &settings.load)?;
    }
    let snapshot = ModelSnapshot::build(files, &settings.load)?;
    verify(&snapshot)?;
    warm(&snapshot)?;
    Ok(snapshot)
}

/// Reads the files of a version, whatever its form.
pub(super) fn read(
    settings: &RegistrySettings,
    key: &VersionKey,
    place: &VersionPlace,
    (base, inherited): (Option<&Manifest>, Option<&Manifest>),
) -> Result<BundleFiles, BundleError> {
    let dir = &settings.dir;
    let root = dir.canonicalize().map_err(|err| BundleError::File { path: dir.clone(), err })?;
    match place.form {
        VersionForm::Folder => BundleFiles::read_within(&root, &place.path),
        VersionForm::Lone => {
            let by = |base| BundleFiles::read_lone(&root, &place.path, &key.1, base);
            // The same file keeps what it took over; another one under its name begins anew.
            let again = inherited.and_then(|inherited| by(Some(inherited)).ok().filter(|it| it.manifest == *inherited));
            again.map_or_else(|| by(base), Ok)
        }
    }
}
