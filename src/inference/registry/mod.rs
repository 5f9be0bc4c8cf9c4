//! What is on disk, what is loaded and what serves.
//!
//! The models folder is the truth: `<model>/<version>/bundle.toml`. A scan compares it with what is known; a folder that
//! changed is loaded beside the old one, verified, and published in one atomic step. A bad bundle is refused with its
//! reason and not tried again until it changes; a missing folder unloads nothing.

mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::bundle::{BundleError, LoadSettings, MANIFEST_FILE, ModelSnapshot};
use crate::domain::{ModelName, ModelVersion};

pub use route::{Candidate, CandidateMode, CandidateSettings, Route};

/// Checks a freshly built snapshot through the whole scoring pipeline before it may serve.
pub type Verify = fn(&ModelSnapshot) -> Result<(), BundleError>;

/// Where models are and which version of them is wanted.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    pub dir: PathBuf,
    /// Models held at one version; every other model serves its newest complete version.
    pub pins: BTreeMap<ModelName, ModelVersion>,
    /// Versions on trial beside the serving one. A candidate never becomes the serving version by being the newest.
    pub candidates: BTreeMap<ModelName, CandidateSettings>,
    pub load: LoadSettings,
}

/// The state of one version of one model, as `models list` and `/admin/models` show it.
#[derive(Clone, Debug)]
pub struct VersionStatus {
    pub model: ModelName,
    pub version: ModelVersion,
    pub state: State,
    /// The loaded snapshot, of the serving version.
    pub snapshot: Option<Arc<ModelSnapshot>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Serving,
    /// Loaded beside the serving version, to be compared with it.
    Candidate,
    /// On disk, complete as far as is known, not loaded: another version serves.
    Available,
    /// Could not be loaded; the reason and its short code.
    Refused {
        code: &'static str,
        reason: String,
    },
}

impl State {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Candidate => "candidate",
            Self::Available => "available",
            Self::Refused { .. } => "refused",
        }
    }
}

/// What a scan did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Published {
        model: ModelName,
        version: ModelVersion,
        digest: String,
    },
    /// Loaded as the candidate.
    Trial {
        model: ModelName,
        version: ModelVersion,
        digest: String,
        mode: &'static str,
    },
    Refused {
        model: ModelName,
        version: ModelVersion,
        code: &'static str,
        reason: String,
    },
}

/// All models. Reading what serves is wait-free; scanning is serialised.
pub struct Registry {
    settings: RegistrySettings,
    verify: Verify,
    routes: ArcSwap<BTreeMap<ModelName, Arc<Route>>>,
    known: Mutex<BTreeMap<(ModelName, ModelVersion), Known>>,
}

struct Known {
    fingerprint: Fingerprint,
    /// Fingerprint unchanged over two scans: nobody is writing any more.
    stable: bool,
    /// This fingerprint is what serves.
    loaded: bool,
    refused: Option<(&'static str, String)>,
}

/// Name, size and modification time of every file of a bundle folder: changes whenever the bundle does.
type Fingerprint = Vec<(String, u64, Option<SystemTime>)>;

/// How patient a scan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Load what is there: at start, and on the command line.
    Now,
    /// Load only what has not changed since the last scan: a copy may still be running.
    WhenStable,
}

impl Registry {
    pub fn new(settings: RegistrySettings, verify: Verify) -> Self {
        Self { settings, verify, routes: ArcSwap::default(), known: Mutex::default() }
    }

    /// Who answers for `model` now: the serving version and its candidate, of one moment.
    pub fn route(&self, model: &ModelName) -> Option<Arc<Route>> {
        self.routes.load().get(model).cloned()
    }

    /// The snapshot that answers for `model` now.
    pub fn serving(&self, model: &ModelName) -> Option<Arc<ModelSnapshot>> {
        self.routes.load().get(model).map(|route| Arc::clone(&route.serving))
    }

    /// Every snapshot that serves, by model.
    pub fn all_serving(&self) -> Vec<Arc<ModelSnapshot>> {
        self.routes.load().values().map(|route| Arc::clone(&route.serving)).collect()
    }

    /// Names of the models that serve, for messages.
    pub fn serving_names(&self) -> String {
        let routes = self.routes.load();
        let names: Vec<_> = routes.keys().map(ModelName::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// Whether no model that answers has threads of its own.
    pub fn is_inline(&self) -> bool {
        self.routes.load().values().all(|route| route.is_inline())
    }

    pub fn is_empty(&self) -> bool {
        self.routes.load().is_empty()
    }

    /// Every known version with its state, by model and version.
    pub fn status(&self) -> Vec<VersionStatus> {
        let routes = self.routes.load_full();
        let known = self.known.lock().expect("registry lock is never held across a panic");
        let mut all: Vec<_> = known
            .iter()
            .map(|((model, version), entry)| {
                let route = routes.get(model);
                let serving = route.map(|route| &route.serving).filter(|snapshot| snapshot.version() == version);
                let candidate = route.and_then(|route| route.candidate.as_ref()).map(|candidate| &candidate.snapshot);
                let candidate = candidate.filter(|snapshot| snapshot.version() == version);
                let state = match (&entry.refused, serving, candidate) {
                    (Some((code, reason)), _, _) => State::Refused { code, reason: reason.clone() },
                    (None, Some(_), _) => State::Serving,
                    (None, None, Some(_)) => State::Candidate,
                    (None, None, None) => State::Available,
                };
                let snapshot = serving.or(candidate).cloned();
                VersionStatus { model: model.clone(), version: version.clone(), state, snapshot }
            })
            .collect();
        all.sort_by(|a, b| a.model.cmp(&b.model).then_with(|| a.version.cmp_natural(&b.version)));
        all
    }

    /// Looks at the models folder once and publishes what should serve. Blocks on disk and model loads: not for a
    /// request's thread.
    pub fn scan(&self, patience: Patience) -> Vec<Event> {
        let mut events = Vec::new();
        let mut known = self.known.lock().expect("registry lock is never held across a panic");
        let found = discover(&self.settings.dir);
        for (key, fingerprint) in &found {
            match known.get_mut(key) {
                Some(entry) if entry.fingerprint == *fingerprint => entry.stable = true,
                _ => {
                    let entry = Known { fingerprint: fingerprint.clone(), stable: false, loaded: false, refused: None };
                    known.insert(key.clone(), entry);
                }
            }
        }
        // A version whose folder is gone is forgotten unless it serves: a missing folder unloads nothing.
        let routes = self.routes.load_full();
        known.retain(|(model, version), _| {
            let loaded = routes.get(model).is_some_and(|route| {
                let candidate = route.candidate.as_ref().map(|candidate| candidate.snapshot.version());
                route.serving.version() == version || candidate == Some(version)
            });
            loaded || found.contains_key(&(model.clone(), version.clone()))
        });
        let models: BTreeSet<ModelName> = known.keys().map(|(model, _)| model.clone()).collect();
        for model in models {
            self.settle(&model, &found, &mut known, patience, &mut events);
            self.settle_candidate(&model, &found, &mut known, patience, &mut events);
        }
        events
    }

    /// Tries the wanted versions of one model, newest first, until one serves.
    fn settle(
        &self,
        model: &ModelName,
        found: &BTreeMap<(ModelName, ModelVersion), Fingerprint>,
        known: &mut BTreeMap<(ModelName, ModelVersion), Known>,
        patience: Patience,
        events: &mut Vec<Event>,
    ) {
        let mut wanted: Vec<ModelVersion> = match self.settings.pins.get(model) {
            Some(pin) => vec![pin.clone()],
            None => {
                let trial = self.settings.candidates.get(model).map(|candidate| &candidate.version);
                let of_model = found.keys().filter(|(name, _)| name == model).map(|(_, version)| version);
                of_model.filter(|version| Some(*version) != trial).cloned().collect()
            }
        };
        wanted.sort_by(|a, b| b.cmp_natural(a));
        for version in wanted {
            let key = (model.clone(), version.clone());
            let Some(entry) = known.get_mut(&key) else { continue };
            if entry.refused.is_some() || !found.contains_key(&key) {
                continue;
            }
            let serving = self.serving(model);
            let pinned = self.settings.pins.contains_key(model);
            if !pinned && serving.as_ref().is_some_and(|snapshot| version.cmp_natural(snapshot.version()).is_lt()) {
                // What serves is never traded for something older: going back is a pin or a rollback.
                return;
            }
            let serves = serving.as_ref().is_some_and(|snapshot| *snapshot.version() == version);
            if patience == Patience::WhenStable && !entry.stable {
                // Being written. Keep what serves; older versions are not worth a detour.
                if serving.is_some() {
                    return;
                }
                continue;
            }
            if serves && entry.loaded {
                return;
            }
            match self.load(&key) {
                Ok(snapshot) => {
                    entry.loaded = true;
                    if serving.is_none_or(|old| old.digest() != snapshot.digest()) {
                        let digest = snapshot.digest().to_string();
                        self.publish(snapshot);
                        events.push(Event::Published { model: model.clone(), version, digest });
                    }
                    return;
                }
                Err(err) => {
                    let (code, reason) = (err.code(), err.to_string());
                    entry.refused = Some((code, reason.clone()));
                    events.push(Event::Refused { model: model.clone(), version, code, reason });
                }
            }
        }
    }

    fn load(&self, key: &(ModelName, ModelVersion)) -> Result<ModelSnapshot, BundleError> {
        let snapshot = ModelSnapshot::load(&self.folder(key), &self.settings.load)?;
        if (snapshot.name(), snapshot.version()) != (&key.0, &key.1) {
            return Err(BundleError::Misplaced {
                manifest: format!("{}/{}", snapshot.name(), snapshot.version()),
                folder: format!("{}/{}", key.0, key.1),
            });
        }
        (self.verify)(&snapshot)?;
        Ok(snapshot)
    }

    fn publish(&self, snapshot: ModelSnapshot) {
        let serving = Arc::new(snapshot);
        self.replace(serving.name(), |old| {
            let candidate = old.and_then(|route| route.candidate.clone());
            // A candidate that serves now is not on trial any more.
            let candidate = candidate.filter(|candidate| candidate.snapshot.version() != serving.version());
            Some(Route { serving: Arc::clone(&serving), candidate })
        });
    }

    /// Puts the route of one model in place of the old one, in one store.
    fn replace(&self, model: &ModelName, next: impl Fn(Option<&Route>) -> Option<Route>) {
        self.routes.rcu(|routes| {
            let mut routes = BTreeMap::clone(routes);
            if let Some(route) = next(routes.get(model).map(|route| &**route)) {
                routes.insert(model.clone(), Arc::new(route));
            }
            routes
        });
    }

    /// Loads the version on trial once something serves that it can be compared with.
    fn settle_candidate(
        &self,
        model: &ModelName,
        found: &BTreeMap<(ModelName, ModelVersion), Fingerprint>,
        known: &mut BTreeMap<(ModelName, ModelVersion), Known>,
        patience: Patience,
        events: &mut Vec<Event>,
    ) {
        let Some(CandidateSettings { version, mode }) = self.settings.candidates.get(model) else { return };
        let Some(route) = self.route(model) else { return };
        let key = (model.clone(), version.clone());
        let Some(entry) = known.get_mut(&key) else { return };
        let waits = patience == Patience::WhenStable && !entry.stable;
        if route.serving.version() == version
            || entry.refused.is_some()
            || entry.loaded
            || waits
            || !found.contains_key(&key)
        {
            return;
        }
        match self.load(&key) {
            Ok(snapshot) => {
                entry.loaded = true;
                let (snapshot, mode) = (Arc::new(snapshot), *mode);
                let digest = snapshot.digest().to_string();
                self.replace(model, |old| {
                    let candidate = Some(Candidate { snapshot: Arc::clone(&snapshot), mode });
                    old.map(|route| Route { serving: Arc::clone(&route.serving), candidate })
                });
                events.push(Event::Trial {
                    model: model.clone(),
                    version: version.clone(),
                    digest,
                    mode: mode.as_str(),
                });
            }
            Err(err) => {
                let (code, reason) = (err.code(), err.to_string());
                entry.refused = Some((code, reason.clone()));
                events.push(Event::Refused { model: model.clone(), version: version.clone(), code, reason });
            }
        }
    }

    fn folder(&self, (model, version): &(ModelName, ModelVersion)) -> PathBuf {
        self.settings.dir.join(model.as_str()).join(version.as_str())
    }
}

/// Every `<model>/<version>/` that holds a manifest. Folders with other names, and files beside them, are none of ours.
fn discover(dir: &Path) -> BTreeMap<(ModelName, ModelVersion), Fingerprint> {
    let mut found = BTreeMap::new();
    for (model, folder) in folders(dir) {
        let Ok(model) = ModelName::parse(&model) else { continue };
        for (version, folder) in folders(&folder) {
            let Ok(version) = ModelVersion::parse(&version) else { continue };
            if folder.join(MANIFEST_FILE).is_file() {
                found.insert((model.clone(), version), fingerprint(&folder));
            }
        }
    }
    found
}

fn folders(dir: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect()
}

fn fingerprint(folder: &Path) -> Fingerprint {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let metadata = fs::metadata(entry.path()).ok()?;
            Some((entry.file_name().into_string().ok()?, metadata.len(), metadata.modified().ok()))
        })
        .collect();
    files.sort();
    files
}
