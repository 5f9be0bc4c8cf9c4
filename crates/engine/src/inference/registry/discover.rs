//! What lies in the models folder: `<model>/<version>/bundle.toml` and lone files such as `<model>/<version>.onnx`.
//!
//! Only names and file marks are looked at, nothing is read. Links are followed here; whether they stay inside is
//! decided when a file is read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::inference::bundle::{MANIFEST_FILE, lone_version};
use scoreline_domain::{ModelName, ModelVersion};

pub(super) type VersionKey = (ModelName, ModelVersion);

/// Where a version lies and how its files look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VersionPlace {
    pub(super) path: PathBuf,
    pub(super) form: VersionForm,
    /// Changes whenever a file does.
    pub(super) marks: Vec<FileMark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VersionForm {
    Folder,
    /// A lone model file, which carries its manifest or inherits it.
    Lone,
}

/// A file as the system describes it. The change time catches what keeps the others: `cp -p` and edits in place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileMark {
    name: String,
    inode: u64,
    pub(super) bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl VersionPlace {
    fn new(path: PathBuf, form: VersionForm) -> Self {
        let marks = marks(&path, form);
        Self { path, form, marks }
    }

    /// The same place as it is now.
    pub(super) fn again(&self) -> Self {
        Self::new(self.path.clone(), self.form)
    }

    /// The largest file: about what the model takes.
    pub(super) fn largest_file(&self) -> u64 {
        self.marks.iter().map(|mark| mark.bytes).max().unwrap_or(0)
    }
}

/// Every version in the folder; `None` when the folder cannot be read. Names that are none of ours are left alone.
pub(super) fn discover(dir: &Path) -> Option<BTreeMap<VersionKey, VersionPlace>> {
    let mut found = BTreeMap::new();
    for (model, folder) in entries(dir)? {
        let Ok(model) = ModelName::parse(&model) else { continue };
        for (name, path) in entries(&folder).unwrap_or_default() {
            if let Some(version) = lone_version(&name)
                && !path.is_dir()
            {
                // A folder of the same version says more.
                found.entry((model.clone(), version)).or_insert_with(|| VersionPlace::new(path, VersionForm::Lone));
            } else if let Ok(version) = ModelVersion::parse(&name)
                // What is no plain file is refused with its reason when it is read.
                && path.join(MANIFEST_FILE).symlink_metadata().is_ok_and(|manifest| !manifest.is_dir())
            {
                found.insert((model.clone(), version), VersionPlace::new(path, VersionForm::Folder));
            }
        }
    }
    Some(found)
}

fn entries(dir: &Path) -> Option<Vec<(String, PathBuf)>> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let mut named: Vec<_> = named.collect();
    // Of two lone files of one version the same one is taken every time.
    named.sort();
    Some(named)
}

fn marks(path: &Path, form: VersionForm) -> Vec<FileMark> {
    let files = match form {
        VersionForm::Folder => entries(path).unwrap_or_default(),
        VersionForm::Lone => vec![(String::new(), path.to_owned())],
    };
    let mut marks: Vec<_> = files
        .into_iter()
        .filter_map(|(name, path)| {
            let metadata = fs::metadata(path).ok().filter(|metadata| !metadata.is_dir())?;
            Some(FileMark {
                name,
                inode: metadata.ino(),
                bytes: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            })
        })
        .collect();
    marks.sort();
    marks
}
