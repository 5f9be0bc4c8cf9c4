//! Which versions were promoted by hand, and what served before.

use std::collections::BTreeMap;

use scoreline_domain::{ModelName, ModelVersion, Promotions};

/// Versions that served before, remembered for a rollback.
const MOST_HISTORY: usize = 16;

/// Where promotions outlast the process and are shared between replicas.
pub trait PromotionKeeper: Send + Sync {
    /// Keeps a promotion, or its end; how all of them stand then. Blocks until it is on disk.
    ///
    /// # Errors
    /// Why it is not known to be kept.
    fn keep(&self, model: &ModelName, version: Option<&ModelVersion>) -> Result<Promotions, String>;
}

/// What people chose while the server runs.
#[derive(Default)]
pub(super) struct Choices {
    promotions: Promotions,
    /// What served before, the last one last.
    history: BTreeMap<ModelName, Vec<ModelVersion>>,
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

    /// Takes promotions as they stand, unless later ones are known; whether that changed anything.
    pub(super) fn adopt(&mut self, promotions: Promotions) -> bool {
        if promotions.number <= self.promotions.number {
            return false;
        }
        let changed = promotions.versions != self.promotions.versions;
        self.promotions = promotions;
        changed
    }

    /// How promotions stand with one more change, for a registry that nobody keeps them for.
    pub(super) fn with(&self, model: &ModelName, version: Option<&ModelVersion>) -> Promotions {
        let mut next = self.promotions.clone();
        next.number += 1;
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
