//! Which versions were promoted by hand, and what served before.

use std::collections::{BTreeMap, BTreeSet};

use super::discover::VersionKey;
use crate::inference::bundle::ModelSnapshot;
use crate::inference::manifest::Manifest;
use scoreline_domain::{ModelName, ModelVersion, Promotions};

/// Versions that served before, remembered for a rollback.
const MOST_HISTORY: usize = 16;

/// Where promotions outlast the process and are shared between replicas.
pub trait PromotionKeeper: Send + Sync {
    /// Keeps a promotion, or its end, with what served before it, the last one last; how all of them stand then. Blocks
    /// until it is on disk.
    ///
    /// # Errors
    /// Why it is not known to be kept.
    fn keep(
        &self,
        model: &ModelName,
        version: Option<&ModelVersion>,
        before: &[ModelVersion],
    ) -> Result<Promotions, String>;
}

/// What people chose while the server runs.
#[derive(Default)]
pub(super) struct Choices {
    promotions: Promotions,
    /// What served before, the last one last.
    history: BTreeMap<ModelName, Vec<ModelVersion>>,
    /// Manifests that lone files took over, as TOML, and which of them are known to be kept.
    inherited: BTreeMap<VersionKey, String>,
    kept: BTreeSet<VersionKey>,
    /// Choices of versions that are not there, which have been told.
    missing: BTreeMap<ModelName, ModelVersion>,
}

impl Choices {
    pub(super) fn promoted(&self, model: &ModelName) -> Option<&ModelVersion> {
        self.promotions.versions.get(model)
    }

    /// Whether it is news that the version somebody chose is not there.
    pub(super) fn miss(&mut self, model: &ModelName, version: &ModelVersion) -> bool {
        self.missing.insert(model.clone(), version.clone()).is_none_or(|before| before != *version)
    }

    /// The version somebody chose is there.
    pub(super) fn found(&mut self, model: &ModelName) {
        self.missing.remove(model);
    }

    /// The manifest that a lone file took over.
    pub(super) fn inherited(&self, key: &VersionKey) -> Option<Manifest> {
        toml::from_str(self.inherited.get(key)?).ok()
    }

    /// Notes what a lone file took over, now that it serves.
    pub(super) fn note_inherited(&mut self, snapshot: &ModelSnapshot) {
        let manifest = snapshot.manifest();
        let text = manifest.inherited_from.as_ref().and_then(|_| toml::to_string(manifest).ok());
        let Some(text) = text else { return };
        let key = (snapshot.name().clone(), snapshot.version().clone());
        if self.inherited.get(&key) != Some(&text) {
            self.kept.remove(&key);
            self.inherited.insert(key, text);
        }
    }

    /// What is not known to be kept.
    pub(super) fn unkept(&self) -> Vec<(VersionKey, String)> {
        let unkept = self.inherited.iter().filter(|(key, _)| !self.kept.contains(*key));
        unkept.map(|(key, text)| (key.clone(), text.clone())).collect()
    }

    /// Takes in what is kept of lone files. What was kept first counts, as long as it is about the same file; the versions
    /// that serve with something else.
    pub(super) fn adopt_inherited(&mut self, kept: &BTreeMap<VersionKey, String>) -> Vec<VersionKey> {
        let file = |text: &str| toml::from_str::<Manifest>(text).map(|manifest| manifest.sha256).ok();
        let mut other = Vec::new();
        for (key, text) in kept {
            match self.inherited.get(key) {
                Some(own) if own == text => {}
                Some(own) if file(own) != file(text) => continue,
                Some(_) => other.push(key.clone()),
                None => {}
            }
            self.inherited.insert(key.clone(), text.clone());
            self.kept.insert(key.clone());
        }
        other
    }

    /// Takes promotions as they stand, unless later ones are known; whether that changed anything.
    pub(super) fn adopt(&mut self, promotions: Promotions) -> bool {
        if promotions.number <= self.promotions.number {
            return false;
        }
        let changed = promotions.versions != self.promotions.versions;
        self.history.extend(promotions.before.clone());
        self.promotions = promotions;
        changed
    }

    /// What will have served before, once another version takes the place of `serving`. People who go back from it do
    /// not come by it again.
    pub(super) fn history(
        &self,
        model: &ModelName,
        serving: Option<&ModelVersion>,
        goes_back: bool,
    ) -> Vec<ModelVersion> {
        let before = self.history.get(model).into_iter().flatten();
        let before = before.filter(|version| Some(*version) != serving).cloned();
        let mut before: Vec<_> = before.chain(serving.filter(|_| !goes_back).cloned()).collect();
        before.drain(..before.len().saturating_sub(MOST_HISTORY));
        before
    }

    /// How promotions stand with one more change, for a registry that nobody keeps them for.
    pub(super) fn with(
        &self,
        model: &ModelName,
        version: Option<&ModelVersion>,
        before: Vec<ModelVersion>,
    ) -> Promotions {
        let mut next = self.promotions.clone();
        next.number += 1;
        next.before.insert(model.clone(), before);
        match version {
            Some(version) => drop(next.versions.insert(model.clone(), version.clone())),
            None => drop(next.versions.remove(model)),
        }
        next
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
