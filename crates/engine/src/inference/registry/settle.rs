//! Decides which version of a model should serve or be tried, loads it, and puts it in place.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::discover::{VersionForm, VersionKey};
use super::report::RegistryEvent;
use super::route::{Candidate, CandidateSettings, ModelRoute};
use super::stages::{self, Around};
use super::versions::{LoadRefusal, LoadState};
use super::{Patience, Registry, Work};
use crate::inference::bundle::ModelSnapshot;
use crate::inference::manifest::Manifest;
use scoreline_domain::{ModelName, ModelVersion};

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
    }

    /// Tries the wanted versions of one model until one serves.
    fn settle_serving(&self, work: &mut Work, model: &ModelName, patience: Patience) {
        let pinned = self.settings.pins.get(model).cloned();
        let held = pinned.clone().or_else(|| work.choices.promoted(model).cloned());
        let serving = self.serving(model);
        let mut wanted: Vec<ModelVersion> = held.clone().into_iter().collect();
        // A promoted version that is gone is better stood in for by the newest than by nothing.
        if held.is_none() || (pinned.is_none() && serving.is_none()) {
            let trial = self.settings.candidates.get(model).map(|candidate| &candidate.version);
            wanted.extend(work.versions.newest_first(model).into_iter().filter(|version| Some(version) != trial));
        }
        for version in wanted {
            let serving = self.serving(model);
            if let Some(serving) = &serving {
                // What serves is never traded for something older: going back is a pin, a promotion or a rollback.
                if held.is_none() && version.cmp_natural(serving.version()).is_lt() {
                    return;
                }
                if *serving.version() == version && is_current(work, model, &version) {
                    return;
                }
            }
            match self.attempt(work, &(model.clone(), version), patience) {
                LoadAttempt::Loaded(snapshot) => return self.publish(work, snapshot),
                // Being written. Keep what serves; older versions are not worth a detour.
                LoadAttempt::Wait if serving.is_some() => return,
                LoadAttempt::Wait | LoadAttempt::Refused => {}
            }
        }
    }

    /// Loads the version on trial once something serves that it can be compared with.
    fn settle_candidate(&self, work: &mut Work, model: &ModelName, patience: Patience) {
        let Some(CandidateSettings { version, mode }) = self.settings.candidates.get(model) else { return };
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
        let base = (place.form == VersionForm::Lone).then(|| self.base(work, &key.0, serving.as_deref())).flatten();
        let around = Around {
            settings: &self.settings,
            verify: self.verify,
            base: base.as_ref(),
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

    /// The manifest that a lone file without one inherits: the serving version's, before anything serves the one of the
    /// newest version that has its own.
    fn base(&self, work: &Work, model: &ModelName, serving: Option<&ModelSnapshot>) -> Option<Manifest> {
        if let Some(serving) = serving {
            return Some(serving.manifest().clone());
        }
        work.versions.newest_first(model).into_iter().find_map(|version| {
            let key = (model.clone(), version);
            let known = work.versions.get(&key)?;
            stages::read(&self.settings, &key, &known.place, None).ok().map(|files| files.manifest)
        })
    }

    /// Makes a snapshot serve. The same content again changes nothing.
    pub(super) fn publish(&self, work: &mut Work, serving: Arc<ModelSnapshot>) {
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

/// Whether the files of a loaded version are the ones that were loaded.
fn is_current(work: &Work, model: &ModelName, version: &ModelVersion) -> bool {
    let known = work.versions.get(&(model.clone(), version.clone()));
    known.is_some_and(|known| matches!(known.outcome, LoadState::Loaded) || !known.here)
}

fn largest_loaded(work: &Work) -> u64 {
    let loaded = work.versions.iter().filter(|(_, known)| matches!(known.outcome, LoadState::Loaded));
    loaded.map(|(_, known)| known.place.largest_file()).max().unwrap_or(0)
}
