//! What is on disk, what is loaded and what serves.
//!
//! The models folder is the truth. A look compares it with what is known (`discover`, `versions`); a version that is
//! wanted and stands still goes through every stage beside the one that serves (`stages`) and is published in one store
//! (`route`), after which the old one is freed elsewhere (`retire`). A bad version is refused with its reason and not
//! tried again until it changes; a missing folder unloads nothing. People choose over `change`, kept in `choice`.
//!
//! One task at a time decides. Reading what serves, or how things stand, never waits for it.

mod change;
mod choice;
mod discover;
mod report;
mod retire;
mod route;
mod settle;
mod stages;
mod versions;
mod wake;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use self::choice::Choices;
use self::retire::Retired;
use self::versions::{KnownVersion, KnownVersions, LoadState};
use super::bundle::{BundleError, LoadSettings, ModelSnapshot};
use super::memory;
use scoreline_domain::{ModelName, ModelVersion};

pub use change::ChangeFault;
pub use choice::PromotionKeeper;
pub use report::RegistryEvent;
pub use route::{Candidate, CandidateMode, CandidateSettings, ModelRoute};
pub use wake::FolderWatch;

/// Checks a freshly built snapshot through the whole scoring pipeline before it may serve.
pub type Verify = fn(&ModelSnapshot) -> Result<(), BundleError>;

/// Why a version that nobody chose may not take over from the one it is compared with: it answers too differently. `None`
/// when it may. The first is the newcomer.
pub type Departure = fn(&ModelSnapshot, &ModelSnapshot) -> Option<String>;

/// Where models are, which version of them is wanted, and what a load may use.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    pub dir: PathBuf,
    /// Models held at one version; every other model serves what was promoted, else its newest complete version.
    pub pins: BTreeMap<ModelName, ModelVersion>,
    /// Versions on trial beside the serving one. A candidate never becomes the serving version by being the newest.
    pub candidates: BTreeMap<ModelName, CandidateSettings>,
    pub load: LoadSettings,
    /// The program that tries a model in a process of its own: scoreline itself. Without one, models are only tried in
    /// this process.
    pub probe: Option<PathBuf>,
    /// How long files must stand still before they are loaded, beside being unchanged over two looks.
    pub settle: Duration,
    /// Bytes of memory that may still be taken; `None` is unknown.
    pub memory: fn() -> Option<u64>,
    /// Compares a newcomer that nobody chose with what serves. Without it the newest version takes over whatever it
    /// answers.
    pub departure: Option<Departure>,
}

impl RegistrySettings {
    /// The newest versions in `dir`, looked at as often as somebody asks, without a child process.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            pins: BTreeMap::new(),
            candidates: BTreeMap::new(),
            load: LoadSettings::default(),
            probe: None,
            settle: Duration::ZERO,
            memory: memory::available,
            departure: None,
        }
    }
}

/// The state of one version of one model, as `models list` and `/admin/models` show it.
#[derive(Clone, Debug)]
pub struct VersionStatus {
    pub model: ModelName,
    pub version: ModelVersion,
    pub state: VersionState,
    /// The loaded snapshot, of the serving version and of the candidate.
    pub snapshot: Option<Arc<ModelSnapshot>>,
    /// Whether it answers requests. A serving version whose files were damaged since is refused and serves on.
    pub serves: bool,
    /// Why this version and not the newest.
    pub held: Option<Hold>,
    /// How it is tried, when the settings name it as candidate or it is held.
    pub trial: Option<CandidateMode>,
    /// Why it does not serve, when it could.
    pub behind: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionState {
    Serving,
    /// Loaded beside the serving version, to be compared with it.
    Candidate,
    /// Went through every check; another version serves.
    Available,
    /// On disk and complete as far as is known: nobody has tried to load it, because another version serves.
    Unchecked,
    /// Went through every check, and answers so differently that a person has to promote it: a shadow until then.
    Held {
        reason: String,
    },
    /// Seen for the first time, or changed a moment ago: somebody may still be writing.
    Settling,
    /// Could not be loaded; the reason and its short code.
    Refused {
        code: &'static str,
        reason: String,
    },
}

impl VersionState {
    /// What `as_str` can say.
    pub const WORDS: [&str; 7] = ["serving", "candidate", "available", "unchecked", "held", "settling", "refused"];

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Candidate => "candidate",
            Self::Available => "available",
            Self::Unchecked => "unchecked",
            Self::Held { .. } => "held",
            Self::Settling => "settling",
            Self::Refused { .. } => "refused",
        }
    }

    /// Code and reason of a refusal.
    pub fn refusal(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Refused { code, reason } => Some((code, reason)),
            Self::Serving
            | Self::Candidate
            | Self::Available
            | Self::Unchecked
            | Self::Held { .. }
            | Self::Settling => None,
        }
    }
}

/// What holds a model at a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The settings.
    Pinned,
    /// A call of the admin listener.
    Promoted,
}

impl Hold {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Promoted => "promoted",
        }
    }
}

/// How patient a scan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Load what is there: at start, and on the command line.
    Now,
    /// Load only what has not changed since the last scan: a copy may still be running.
    WhenStable,
}

/// Hears of what happens, on the thread that brought it about.
type EventListener = Box<dyn Fn(&RegistryEvent) + Send + Sync>;

type Routes = BTreeMap<ModelName, Arc<ModelRoute>>;

/// All models. Reading what serves is wait-free; whoever changes it takes turns.
pub struct Registry {
    settings: RegistrySettings,
    verify: Verify,
    routes: ArcSwap<Routes>,
    /// Whether no model that answers has threads of its own; every request asks.
    inline: AtomicBool,
    /// Held while models are loaded.
    work: Mutex<Work>,
    /// How things stood when something last changed, for people.
    view: ArcSwap<Vec<VersionStatus>>,
    retired: Retired,
    keeper: OnceLock<Box<dyn PromotionKeeper>>,
    told: OnceLock<EventListener>,
}

/// What the one who decides knows.
struct Work {
    versions: KnownVersions,
    choices: Choices,
    /// Of the look or call under way.
    events: Vec<RegistryEvent>,
    /// How patient the last look was.
    patience: Patience,
}

impl Registry {
    pub fn new(settings: RegistrySettings, verify: Verify) -> Self {
        for (name, meaning) in [
            ("scoreline_model_loads_total", "Versions of models that arrived, by what became of them."),
            ("scoreline_breaker_transitions_total", "Changes of a model's breaker, by the state it went to."),
            ("scoreline_model_runs_stopped_total", "Runs of a model that were stopped at their deadline."),
            ("scoreline_model_handles_unreturned_total", "Threads of a model that did not come back from a run."),
            ("scoreline_model_handles_replaced_total", "Threads of a model that were replaced."),
        ] {
            metrics::describe_counter!(name, meaning);
        }
        let versions = KnownVersions::default();
        let choices = Choices::default();
        let work = Mutex::new(Work { versions, choices, events: Vec::new(), patience: Patience::Now });
        let routes = ArcSwap::default();
        let view = ArcSwap::default();
        let retired = Retired::default();
        let inline = AtomicBool::new(true);
        let keeper = OnceLock::new();
        let told = OnceLock::new();
        Self { settings, verify, routes, inline, work, view, retired, keeper, told }
    }

    /// Names who keeps promotions from now on; without one they end with the process. Told once.
    pub fn keep_promotions(&self, keeper: impl PromotionKeeper + 'static) {
        // A second one would be the same.
        let _ = self.keeper.set(Box::new(keeper));
    }

    /// Names who hears of what happens from now on, beside the log. Told once.
    pub fn tell_also(&self, listener: impl Fn(&RegistryEvent) + Send + Sync + 'static) {
        let _ = self.told.set(Box::new(listener));
    }

    /// Who answers for `model` now: the serving version and its candidate, of one moment.
    pub fn route(&self, model: &ModelName) -> Option<Arc<ModelRoute>> {
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
        self.inline.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.routes.load().is_empty()
    }

    /// Every known version with its state, by model and version. Never waits for a load.
    pub fn status(&self) -> Vec<VersionStatus> {
        self.view.load().to_vec()
    }

    /// Replaced snapshots that are not freed yet, because a request still holds them.
    pub fn retiring(&self) -> usize {
        self.retired.waiting()
    }

    /// Looks at the models folder once and publishes what should serve. Blocks on disk and model loads: not for a
    /// request's thread.
    pub fn scan(&self, patience: Patience) -> Vec<RegistryEvent> {
        let mut work = self.work();
        // A folder that cannot be read, say because it is not mounted now, says nothing about its models.
        let Some(found) = discover::discover(&self.settings.dir) else { return Vec::new() };
        work.patience = patience;
        let routes = self.routes.load_full();
        work.versions.look(found, |(model, version)| is_loaded(&routes, model, version));
        for model in work.versions.models() {
            self.settle(&mut work, &model, patience);
        }
        self.tell(&mut work)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        // Loads catch their panics; what is left cannot leave the books half written.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports what happened and shows how things stand now.
    fn tell(&self, work: &mut Work) -> Vec<RegistryEvent> {
        self.view.store(Arc::new(self.describe(work)));
        let events = std::mem::take(&mut work.events);
        for event in &events {
            event.report();
            if let Some(told) = self.told.get() {
                told(event);
            }
        }
        events
    }

    fn describe(&self, work: &Work) -> Vec<VersionStatus> {
        let routes = self.routes.load();
        let shown = work.versions.iter().filter(|((model, version), known)| {
            // A refused version that is gone is remembered, but no concern of anybody's.
            known.here || is_loaded(&routes, model, version)
        });
        let mut all: Vec<_> =
            shown.map(|((model, version), known)| self.status_of(work, &routes, model, version, known)).collect();
        all.sort_by(|a, b| a.model.cmp(&b.model).then_with(|| a.version.cmp_natural(&b.version)));
        all
    }

    fn status_of(
        &self,
        work: &Work,
        routes: &Routes,
        model: &ModelName,
        version: &ModelVersion,
        known: &KnownVersion,
    ) -> VersionStatus {
        let route = routes.get(model);
        let serving = route.map(|route| &route.serving).filter(|snapshot| snapshot.version() == version);
        let candidate = route.and_then(|route| route.candidate.as_ref()).map(|candidate| &candidate.snapshot);
        let candidate = candidate.filter(|snapshot| snapshot.version() == version);
        let state = match (&known.outcome, serving, candidate) {
            (LoadState::Refused(refusal), _, _) => {
                VersionState::Refused { code: refusal.code, reason: refusal.reason.clone() }
            }
            (LoadState::Held(held), _, _) => VersionState::Held { reason: held.reason.clone() },
            (LoadState::Untried | LoadState::Loaded, Some(_), _) => VersionState::Serving,
            (LoadState::Untried | LoadState::Loaded, None, Some(_)) => VersionState::Candidate,
            (LoadState::Loaded, None, None) => VersionState::Available,
            (LoadState::Untried, None, None) if work.patience == Patience::Now => VersionState::Unchecked,
            (LoadState::Untried, None, None) if known.stands_still(self.settings.settle) => VersionState::Unchecked,
            (LoadState::Untried, None, None) => VersionState::Settling,
        };
        let held = match (self.settings.pins.get(model), work.choices.promoted(model)) {
            (Some(pin), _) => (pin == version).then_some(Hold::Pinned),
            (None, Some(promoted)) => (promoted == version).then_some(Hold::Promoted),
            (None, None) => None,
        };
        let trial = self.settings.candidates.get(model).filter(|candidate| candidate.version == *version);
        let trial = trial.map(|candidate| candidate.mode);
        let shadow = candidate.filter(|_| matches!(state, VersionState::Held { .. })).map(|_| CandidateMode::Shadow);
        let waits = matches!(state, VersionState::Available | VersionState::Unchecked);
        let behind = waits.then(|| self.behind(work, routes, model, version)).flatten();
        VersionStatus {
            model: model.clone(),
            version: version.clone(),
            state,
            snapshot: serving.or(candidate).cloned(),
            serves: serving.is_some(),
            held,
            trial: trial.or(shadow),
            behind,
        }
    }
}

impl Registry {
    /// Why a version that could serve does not.
    fn behind(&self, work: &Work, routes: &Routes, model: &ModelName, version: &ModelVersion) -> Option<String> {
        let serving = routes.get(model)?.serving.version();
        Some(match (self.settings.pins.get(model), work.choices.promoted(model)) {
            (Some(pin), _) => format!("`models.pins.{model}` = `{pin}`"),
            (None, Some(promoted)) => format!("`{promoted}` was promoted"),
            (None, None) if version.cmp_natural(serving).is_lt() => format!("older than `{serving}`, which serves"),
            (None, None) => return None,
        })
    }
}

fn is_loaded(routes: &Routes, model: &ModelName, version: &ModelVersion) -> bool {
    routes.get(model).is_some_and(|route| {
        let candidate = route.candidate.as_ref().map(|candidate| candidate.snapshot.version());
        route.serving.version() == version || candidate == Some(version)
    })
}
