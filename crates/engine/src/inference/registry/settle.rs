//! Decides which version of a model should serve or be tried, loads it, and puts it in place.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::discover::{VersionForm, VersionKey};
use super::report::RegistryEvent;
use super::route::{Candidate, CandidateMode, CandidateSettings, ModelRoute};
use super::stages::{self, Around};
use super::versions::{HeldVersion, LoadRefusal, LoadState};
use super::{Patience, Registry, Work};
use crate::inference::bundle::ModelSnapshot;
use crate::inference::manifest::Manifest;
use scoreline_domain::{ModelName, ModelVersion};

/// Newest versions that are gone through at a start.
const MOST_COMPARED: usize = 8;

/// What came of a version.
pub(super) enum LoadAttempt {
    Loaded(Arc<ModelSnapshot>),
    /// Now or earlier.
    Refused,
    /// Not there, or not standing still.
    Wait,
}

impl Registry {
    /// Brings what serves, and what is tried, in line with what is wanted.
    pub(super) fn settle(&self, work: &mut Work, model: &ModelName, patience: Patience) {
        self.settle_serving(work, model, patience);
        self.settle_candidate(work, model, patience);
        self.note_behind(work, model, patience);
    }

    /// Tries the wanted versions of one model until one serves.
    fn settle_serving(&self, work: &mut Work, model: &ModelName, patience: Patience) {
        let pinned = self.settings.pins.get(model).cloned();
        let held = pinned.clone().or_else(|| work.choices.promoted(model).cloned());
        let serving = self.serving(model);
        note_missing(work, model, held.as_ref(), pinned.is_some());
        let mut wanted: Vec<ModelVersion> = held.clone().into_iter().collect();
        // A promoted version that is gone is better stood in for by the newest than by nothing.
        if held.is_none() || (pinned.is_none() && serving.is_none()) {
            let trial = self.settings.candidates.get(model).map(|candidate| &candidate.version);
            wanted.extend(work.versions.newest_first(model).into_iter().filter(|version| Some(version) != trial));
        }
        if held.is_none() && serving.is_none() && self.settings.departure.is_some() && wanted.len() > 1 {
            self.settle_first(work, model, &wanted, patience);
            if self.serving(model).is_some() {
                return;
            }
        }
        for version in wanted {
            let serving = self.serving(model);
            if held.is_none() && self.is_held(work, model, &version) {
                continue;
            }
            if let Some(serving) = &serving {
                // What serves is never traded for something older: going back is a pin, a promotion or a rollback.
                if held.is_none() && version.cmp_natural(serving.version()).is_lt() {
                    return;
                }
                if *serving.version() == version && is_current(work, model, &version) {
                    return;
                }
            }
            match self.attempt(work, &(model.clone(), version.clone()), patience) {
                LoadAttempt::Loaded(snapshot) => {
                    let is_chosen = held.as_ref() == Some(&version);
                    if is_chosen || serving.is_none_or(|serving| !self.hold(work, &snapshot, &serving)) {
                        return self.publish(work, snapshot);
                    }
                }
                // Being written. Keep what serves; older versions are not worth a detour.
                LoadAttempt::Wait if serving.is_some() => return,
                LoadAttempt::Wait | LoadAttempt::Refused => {}
            }
        }
    }

    /// Says once of every version that arrived and stands still why it does not take over. What is there at the start
    /// is no news.
    pub(super) fn note_behind(&self, work: &mut Work, model: &ModelName, patience: Patience) {
        let routes = self.routes.load_full();
        for version in work.versions.newest_first(model) {
            let reason = self.behind(work, &routes, model, &version);
            let serves = routes.get(model).is_some_and(|route| *route.serving.version() == version);
            let Some(known) = work.versions.get_mut(&(model.clone(), version.clone())) else { continue };
            let is_news = !known.told && !serves && matches!(known.outcome, LoadState::Untried | LoadState::Loaded);
            if patience == Patience::Now {
                known.told = true;
            } else if let Some(reason) = reason.filter(|_| is_news && known.stands_still(self.settings.settle)) {
                known.told = true;
                work.events.push(RegistryEvent::Behind { model: model.clone(), version, reason });
            }
        }
    }

    /// Whether a version is held against what serves now.
    fn is_held(&self, work: &Work, model: &ModelName, version: &ModelVersion) -> bool {
        let serving = self.serving(model);
        let known = work.versions.get(&(model.clone(), version.clone()));
        known.is_some_and(|known| match &known.outcome {
            LoadState::Held(held) => serving.is_none_or(|serving| *serving.digest() == held.beside),
            LoadState::Untried | LoadState::Loaded | LoadState::Refused(_) => false,
        })
    }

    /// Holds a loaded version that nobody chose when it answers too differently from what serves. Whether it is held.
    fn hold(&self, work: &mut Work, snapshot: &Arc<ModelSnapshot>, reference: &ModelSnapshot) -> bool {
        let (model, version) = (snapshot.name().clone(), snapshot.version().clone());
        let Some(departure) = self.settings.departure.filter(|_| reference.task() == snapshot.task()) else {
            return false;
        };
        let Some(reason) = departure(snapshot, reference) else { return false };
        let Some(known) = work.versions.get_mut(&(model.clone(), version.clone())) else { return false };
        let held = HeldVersion { snapshot: Arc::clone(snapshot), reason: reason.clone(), beside: *reference.digest() };
        known.outcome = LoadState::Held(Box::new(held));
        work.events.push(RegistryEvent::Held { model, version, reason });
        true
    }

    /// Which of several versions serves first, where nobody chose one: they are gone through from old to new, as they
    /// would have arrived, so that a restart comes to what served before it.
    fn settle_first(&self, work: &mut Work, model: &ModelName, wanted: &[ModelVersion], patience: Patience) {
        let mut serving: Option<Arc<ModelSnapshot>> = None;
        for version in wanted.iter().take(MOST_COMPARED).rev() {
            let LoadAttempt::Loaded(snapshot) = self.attempt(work, &(model.clone(), version.clone()), patience) else {
                continue;
            };
            if serving.as_ref().is_none_or(|serving| !self.hold(work, &snapshot, serving)) {
                serving = Some(snapshot);
            }
        }
        if let Some(serving) = serving {
            self.publish(work, serving);
        }
    }

    /// A held version is a shadow beside what serves, unless the settings name another candidate.
    fn settle_held(&self, work: &Work, model: &ModelName) {
        let Some(route) = self.route(model) else { return };
        let held = work.versions.newest_first(model).into_iter().find_map(|version| {
            match &work.versions.get(&(model.clone(), version))?.outcome {
                LoadState::Held(held) => Some(Arc::clone(&held.snapshot)),
                LoadState::Untried | LoadState::Loaded | LoadState::Refused(_) => None,
            }
        });
        let now = route.candidate.as_ref().map(|candidate| candidate.snapshot.digest());
        if now == held.as_ref().map(|held| held.digest()) {
            return;
        }
        let candidate = held.map(|snapshot| Candidate { snapshot, mode: CandidateMode::Shadow });
        self.replace(ModelRoute { serving: Arc::clone(&route.serving), candidate });
    }

    /// Loads the version on trial once something serves that it can be compared with.
    fn settle_candidate(&self, work: &mut Work, model: &ModelName, patience: Patience) {
        let Some(CandidateSettings { version, mode }) = self.settings.candidates.get(model) else {
            return self.settle_held(work, model);
        };
        let Some(route) = self.route(model) else { return };
        let on_trial = route.candidate.as_ref().is_some_and(|candidate| candidate.snapshot.version() == version);
        if route.serving.version() == version || (on_trial && is_current(work, model, version)) {
            return;
        }
        let LoadAttempt::Loaded(snapshot) = self.attempt(work, &(model.clone(), version.clone()), patience) else {
            return;
        };
        if route.candidate.as_ref().is_some_and(|candidate| candidate.snapshot.digest() == snapshot.digest()) {
            return;
        }
        let (digest, candidate) = (snapshot.digest().to_string(), Candidate { snapshot, mode: *mode });
        self.replace(ModelRoute { serving: Arc::clone(&route.serving), candidate: Some(candidate) });
        let (model, version, mode) = (model.clone(), version.clone(), mode.as_str());
        work.events.push(RegistryEvent::Trial { model, version, digest, mode });
    }

    /// Takes a version through every stage, unless it must wait or was refused as it is.
    pub(super) fn attempt(&self, work: &mut Work, key: &VersionKey, patience: Patience) -> LoadAttempt {
        let serving = self.serving(&key.0);
        let digest = serving.as_ref().map(|serving| *serving.digest());
        let Some(known) = work.versions.get(key).filter(|known| known.here) else { return LoadAttempt::Wait };
        if let LoadState::Refused(refusal) = &known.outcome
            && refusal.holds(digest)
        {
            return LoadAttempt::Refused;
        }
        if patience == Patience::WhenStable && !known.stands_still(self.settings.settle) {
            return LoadAttempt::Wait;
        }
        let place = known.place.clone();
        let base = (place.form == VersionForm::Lone).then(|| self.base(work, key, patience)).flatten();
        let inherited = work.choices.inherited(key);
        let around = Around {
            settings: &self.settings,
            verify: self.verify,
            base: base.as_ref(),
            inherited: inherited.as_ref(),
            serving: serving.as_deref(),
            largest_loaded: largest_loaded(work),
            probe_all: patience == Patience::WhenStable,
        };
        let loaded = stages::load(key, &place, &around);
        let now = place.again();
        let Some(known) = work.versions.get_mut(key) else { return LoadAttempt::Wait };
        if now != place {
            // Somebody wrote while it was read: whatever came of it says nothing about the files.
            known.changed_to(now);
            return LoadAttempt::Wait;
        }
        match loaded {
            Ok(snapshot) => {
                known.outcome = LoadState::Loaded;
                LoadAttempt::Loaded(Arc::new(snapshot))
            }
            Err(err) => {
                let refusal = LoadRefusal::new(&err, digest);
                let (code, reason) = (refusal.code, refusal.reason.clone());
                let again = matches!(&known.outcome, LoadState::Refused(before) if before.code == code);
                known.outcome = LoadState::Refused(refusal);
                // What fails every half minute for the same reason is told once.
                if !again {
                    let (model, version) = key.clone();
                    work.events.push(RegistryEvent::Refused { model, version, code, reason });
                }
                LoadAttempt::Refused
            }
        }
    }

    /// The manifest that a lone file without one inherits: that of the newest version below it which has one of its own
    /// and goes through every stage; without any, of the newest above it. What is on disk decides and not what serves,
    /// so that a restart comes to the same.
    fn base(&self, work: &mut Work, key: &VersionKey, patience: Patience) -> Option<Manifest> {
        let (model, lone) = key;
        let serving = self.serving(model);
        let (below, above): (Vec<_>, Vec<_>) = work
            .versions
            .newest_first(model)
            .into_iter()
            .filter(|version| version != lone)
            .partition(|version| version.cmp_natural(lone).is_lt());
        below.into_iter().chain(above).find_map(|version| {
            let key = (model.clone(), version);
            let place = work.versions.get(&key)?.place.clone();
            // Whether it has a manifest of its own.
            stages::read(&self.settings, &key, &place, (None, None)).ok()?;
            let loaded = serving.clone().filter(|serving| *serving.version() == key.1);
            let snapshot = loaded.or_else(|| match self.attempt(work, &key, patience) {
                LoadAttempt::Loaded(snapshot) => Some(snapshot),
                LoadAttempt::Wait | LoadAttempt::Refused => None,
            })?;
            Some(snapshot.manifest().clone())
        })
    }

    /// Makes a snapshot serve. The same content again changes nothing.
    pub(super) fn publish(&self, work: &mut Work, serving: Arc<ModelSnapshot>) {
        work.choices.note_inherited(&serving);
        let model = serving.name().clone();
        let before = self.route(&model);
        if before.as_ref().is_some_and(|before| before.serving.digest() == serving.digest()) {
            return;
        }
        if let Some(before) = &before
            && before.serving.version() != serving.version()
        {
            work.choices.served(&model, before.serving.version());
        }
        let candidate = before.and_then(|before| before.candidate.clone());
        // A candidate that serves now is not on trial any more.
        let candidate = candidate.filter(|candidate| candidate.snapshot.version() != serving.version());
        let (version, digest) = (serving.version().clone(), serving.digest().to_string());
        self.replace(ModelRoute { serving, candidate });
        work.events.push(RegistryEvent::Published { model, version, digest });
    }

    /// Puts the route of one model in place of the old one, in one store, and retires what is not part of it any more.
    /// Only whoever holds the work calls this, so nobody else writes in between.
    fn replace(&self, route: ModelRoute) {
        let mut routes = self.routes.load().as_ref().clone();
        let kept = [Some(&route.serving), route.candidate.as_ref().map(|candidate| &candidate.snapshot)];
        let kept: Vec<_> = kept.into_iter().flatten().map(Arc::as_ptr).collect();
        let before = routes.insert(route.serving.name().clone(), Arc::new(route));
        self.inline.store(routes.values().all(|route| route.is_inline()), Ordering::Relaxed);
        self.routes.store(Arc::new(routes));
        let Some(before) = before else { return };
        let old = std::iter::once(&before.serving).chain(before.candidate.as_ref().map(|it| &it.snapshot));
        for snapshot in old.filter(|snapshot| !kept.contains(&Arc::as_ptr(snapshot))) {
            self.retired.take(Arc::clone(snapshot));
        }
    }
}

/// Says once that a choice names a version that is not there.
fn note_missing(work: &mut Work, model: &ModelName, held: Option<&ModelVersion>, is_pin: bool) {
    let Some(version) = held else { return };
    let known = work.versions.newest_first(model);
    if known.contains(version) {
        return work.choices.found(model);
    }
    if work.choices.miss(model, version) {
        let key = if is_pin { format!("models.pins.{model}") } else { "promotion".to_owned() };
        let known = known.iter().map(ModelVersion::as_str).collect::<Vec<_>>().join(", ");
        let (model, version) = (model.clone(), version.clone());
        work.events.push(RegistryEvent::Missing { model, version, key, known });
    }
}

/// Whether the files of a loaded version are the ones that were loaded.
fn is_current(work: &Work, model: &ModelName, version: &ModelVersion) -> bool {
    let known = work.versions.get(&(model.clone(), version.clone()));
    known.is_some_and(|known| matches!(known.outcome, LoadState::Loaded) || !known.here)
}

fn largest_loaded(work: &Work) -> u64 {
    let loaded = work.versions.iter().filter(|(_, known)| matches!(known.outcome, LoadState::Loaded));
    loaded.map(|(_, known)| known.place.largest_file()).max().unwrap_or(0)
}
