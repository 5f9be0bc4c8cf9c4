//! Which version was promoted by hand: kept in a small file, so that a restart serves the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use scoreline_domain::{ModelName, ModelVersion};

/// Versions that served before, remembered for a rollback.
const MOST_HISTORY: usize = 16;

/// What people chose while the server runs.
pub(super) struct Choices {
    file: Option<PathBuf>,
    promoted: BTreeMap<ModelName, ModelVersion>,
    /// What served before, the last one last.
    history: BTreeMap<ModelName, Vec<ModelVersion>>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    #[serde(default)]
    promoted: BTreeMap<String, String>,
}

impl Choices {
    /// Reads the file. One that cannot be read is told of and left as it is: the newest versions serve.
    pub(super) fn read(file: Option<PathBuf>) -> Self {
        let promoted = file.as_deref().map(read).unwrap_or_default();
        Self { file, promoted, history: BTreeMap::new() }
    }

    pub(super) fn promoted(&self, model: &ModelName) -> Option<&ModelVersion> {
        self.promoted.get(model)
    }

    /// Notes a promotion, or its end, on disk first.
    ///
    /// # Errors
    /// When it cannot be written; then nothing is changed.
    pub(super) fn promote(&mut self, model: &ModelName, version: Option<&ModelVersion>) -> io::Result<()> {
        let mut promoted = self.promoted.clone();
        match version {
            Some(version) => drop(promoted.insert(model.clone(), version.clone())),
            None => drop(promoted.remove(model)),
        }
        if promoted == self.promoted {
            return Ok(());
        }
        if let Some(file) = &self.file {
            write(file, &promoted)?;
        }
        self.promoted = promoted;
        Ok(())
    }

    /// Remembers what served until now.
    pub(super) fn served(&mut self, model: &ModelName, version: &ModelVersion) {
        let history = self.history.entry(model.clone()).or_default();
        history.retain(|other| other != version);
        history.push(version.clone());
        if history.len() > MOST_HISTORY {
            history.remove(0);
        }
    }

    /// What served before, the last one first.
    pub(super) fn before(&self, model: &ModelName) -> impl Iterator<Item = &ModelVersion> {
        self.history.get(model).into_iter().flatten().rev()
    }

    /// A version that was rolled back from is not what comes before the one that serves again.
    pub(super) fn forget(&mut self, model: &ModelName, version: &ModelVersion) {
        if let Some(history) = self.history.get_mut(model) {
            history.retain(|other| other != version);
        }
    }
}

fn read(file: &Path) -> BTreeMap<ModelName, ModelVersion> {
    let kept: Result<Kept, String> = match fs::read_to_string(file) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(err) => Err(err.to_string()),
        Ok(text) => toml::from_str(&text).map_err(|err| err.to_string()),
    };
    let promoted = kept.and_then(|kept| {
        let parse = |(model, version): (String, String)| {
            let model = ModelName::parse(&model).map_err(|err| err.to_string())?;
            Ok((model, ModelVersion::parse(&version).map_err(|err| err.to_string())?))
        };
        kept.promoted.into_iter().map(parse).collect()
    });
    promoted.unwrap_or_else(|reason: String| {
        let path = file.display();
        tracing::error!(%path, reason, "promoted versions cannot be read: the newest serve where no pin says otherwise");
        BTreeMap::new()
    })
}

/// Whole or not at all: a new file takes the old one's name once it is on disk.
fn write(file: &Path, promoted: &BTreeMap<ModelName, ModelVersion>) -> io::Result<()> {
    let promoted = promoted.iter().map(|(model, version)| (model.to_string(), version.to_string())).collect();
    let text = toml::to_string(&Kept { promoted }).map_err(io::Error::other)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let draft = file.with_extension("tmp");
    let mut out = File::create(&draft)?;
    out.write_all(b"# Versions promoted over /admin/models; written by scoreline.\n")?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&draft, file)?;
    File::open(folder)?.sync_all()
}
