//! What is known of every version: whether it stands still, what came of loading it, when it may be tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::discover::{VersionKey, VersionPlace};
use crate::inference::bundle::{BundleDigest, BundleError, ModelSnapshot};
use scoreline_domain::time::Stopwatch;
use scoreline_domain::{ModelName, ModelVersion};

/// A reason that lies in the machine is looked at again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// Refused versions that are gone from the disk and still remembered, so that putting one back is no new try.
const MOST_GONE: usize = 1000;

/// All versions by model and version.
#[derive(Default)]
pub(super) struct KnownVersions(BTreeMap<VersionKey, KnownVersion>);

pub(super) struct KnownVersion {
    /// As it was last seen.
    pub(super) place: VersionPlace,
    /// Whether the last look found it.
    pub(super) here: bool,
    looks: u32,
    since: Stopwatch,
    pub(super) outcome: LoadState,
    /// Whether it was said why it does not take over.
    pub(super) told: bool,
}

#[derive(Clone, Debug)]
pub(super) enum LoadState {
    Untried,
    /// These very files were loaded.
    Loaded,
    Refused(LoadRefusal),
    Held(Box<HeldVersion>),
}

/// A version that went through every check and may not take over by itself.
#[derive(Clone, Debug)]
pub(super) struct HeldVersion {
    pub(super) snapshot: Arc<ModelSnapshot>,
    pub(super) reason: String,
    /// What it was compared with.
    pub(super) beside: BundleDigest,
}

#[derive(Clone, Debug)]
pub(super) struct LoadRefusal {
    pub(super) code: &'static str,
    pub(super) reason: String,
    /// Set when the reason may pass: since when, and what served then.
    passing: Option<(Stopwatch, Option<BundleDigest>)>,
}

impl LoadRefusal {
    pub(super) fn new(err: &BundleError, serving: Option<BundleDigest>) -> Self {
        let passing = err.is_passing().then(|| (Stopwatch::start(), serving));
        Self { code: err.code(), reason: err.to_string(), passing }
    }

    /// Whether it is too early to try the same files again.
    pub(super) fn holds(&self, serving: Option<BundleDigest>) -> bool {
        match &self.passing {
            None => true,
            Some((since, served)) => since.elapsed() < TRY_AGAIN && *served == serving,
        }
    }
}

impl KnownVersion {
    fn new(place: VersionPlace) -> Self {
        Self { place, here: true, looks: 1, since: Stopwatch::start(), outcome: LoadState::Untried, told: false }
    }

    /// Whether nobody is writing any more: unchanged over two looks and for some time.
    pub(super) fn stands_still(&self, settle: Duration) -> bool {
        self.looks > 1 && self.since.elapsed() >= settle
    }

    /// What was tried may not be what is there now: everything begins anew.
    pub(super) fn changed_to(&mut self, place: VersionPlace) {
        *self = Self::new(place);
    }
}

impl KnownVersions {
    /// Takes in what a look found.
    pub(super) fn look(&mut self, found: BTreeMap<VersionKey, VersionPlace>, is_loaded: impl Fn(&VersionKey) -> bool) {
        for version in self.0.values_mut() {
            version.here = false;
        }
        for (key, place) in found {
            match self.0.get_mut(&key) {
                Some(version) if version.place == place => {
                    version.here = true;
                    version.looks = version.looks.saturating_add(1);
                }
                Some(version) => version.changed_to(place),
                None => drop(self.0.insert(key, KnownVersion::new(place))),
            }
        }
        // A missing file unloads nothing, and what was refused is not tried again because it was away for a while.
        let mut gone = 0;
        self.0.retain(|key, version| {
            let refused = matches!(version.outcome, LoadState::Refused(_));
            gone += usize::from(!version.here);
            version.here || is_loaded(key) || (refused && gone <= MOST_GONE)
        });
    }

    pub(super) fn get(&self, key: &VersionKey) -> Option<&KnownVersion> {
        self.0.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &VersionKey) -> Option<&mut KnownVersion> {
        self.0.get_mut(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&VersionKey, &KnownVersion)> {
        self.0.iter()
    }

    pub(super) fn models(&self) -> Vec<ModelName> {
        let mut models: Vec<_> = self.0.keys().map(|(model, _)| model.clone()).collect();
        models.dedup();
        models
    }

    /// The versions of a model that are on disk, newest first.
    pub(super) fn newest_first(&self, model: &ModelName) -> Vec<ModelVersion> {
        let here = self.0.iter().filter(|((name, _), version)| name == model && version.here);
        let mut versions: Vec<_> = here.map(|((_, version), _)| version.clone()).collect();
        versions.sort_by(|a, b| b.cmp_natural(a));
        versions
    }
}
