//! What people change while the server runs: promote a version, roll back, follow the newest again.

use super::settle::LoadAttempt;
use super::versions::LoadState;
use super::{Patience, Registry, VersionStatus, Work};
use scoreline_domain::{ModelName, ModelVersion, Promotions};

/// Why a change is not made. What serves goes on.
#[derive(Debug, thiserror::Error)]
pub enum ChangeFault {
    #[error("there is no model `{model}`; there are: {known}")]
    UnknownModel { model: String, known: String },
    #[error("model `{model}` has no version `{version}`; there are: {known}")]
    UnknownVersion { model: ModelName, version: String, known: String },
    #[error("`models.pins.{model}` = `{version}` in the settings wins over every change: take it out first")]
    Pinned { model: ModelName, version: ModelVersion },
    #[error("version `{version}` changed a moment ago and may still be being written: try again in two seconds")]
    Settling { version: ModelVersion },
    #[error("version `{version}` is refused ({code}): {reason}")]
    Refused { version: ModelVersion, code: &'static str, reason: String },
    #[error("model `{model}` has no earlier version to go back to")]
    NothingBefore { model: ModelName },
    #[error("the choice cannot be kept in the store, so nothing is changed: {0}")]
    NotKept(String),
}

impl Registry {
    /// Makes a version serve, and keeps it until the next change: newer ones that arrive do not take over. Blocks.
    ///
    /// # Errors
    /// When the version may not serve; the old one goes on.
    pub fn promote(&self, model: &str, version: &str) -> Result<Vec<VersionStatus>, ChangeFault> {
        let mut work = self.work();
        let model = self.free_model(&work, model)?;
        let version = known_version(&work, &model, version)?;
        self.switch(&mut work, &model, &version, false).inspect_err(|_| drop(self.tell(&mut work)))?;
        Ok(self.shown(&mut work, &model))
    }

    /// Goes back to the version that served before, or to the next older one when none is known to have, and keeps it.
    /// What served before a restart is known where people had chosen. Blocks.
    ///
    /// # Errors
    /// As `promote`, and when there is nothing to go back to.
    pub fn rollback(&self, model: &str) -> Result<Vec<VersionStatus>, ChangeFault> {
        let mut work = self.work();
        let model = self.free_model(&work, model)?;
        let serving = self.serving(&model).map(|serving| serving.version().clone());
        let usable = |version: &ModelVersion| {
            let known = work.versions.get(&(model.clone(), version.clone()));
            Some(version) != serving.as_ref()
                && known.is_some_and(|known| known.here && !matches!(known.outcome, LoadState::Refused(_)))
        };
        let served = work.choices.before(&model).find(|version| usable(version)).cloned();
        let older = || {
            let is_older = |version: &ModelVersion| {
                serving.as_ref().is_none_or(|serving| version.cmp_natural(serving).is_lt()) && usable(version)
            };
            work.versions.newest_first(&model).into_iter().find(is_older)
        };
        let target = served.or_else(older).ok_or_else(|| ChangeFault::NothingBefore { model: model.clone() })?;
        self.switch(&mut work, &model, &target, true).inspect_err(|_| drop(self.tell(&mut work)))?;
        // Rolling back twice goes further back instead of forth.
        if let Some(serving) = serving {
            work.choices.forget(&model, &serving);
        }
        Ok(self.shown(&mut work, &model))
    }

    /// Lets a model follow its newest complete version again. Blocks.
    ///
    /// # Errors
    /// When the model is unknown or pinned, or the change cannot be kept.
    pub fn follow_latest(&self, model: &str) -> Result<Vec<VersionStatus>, ChangeFault> {
        let mut work = self.work();
        let model = self.free_model(&work, model)?;
        self.choose(&mut work, &model, None, false)?;
        self.settle(&mut work, &model, Patience::WhenStable);
        Ok(self.shown(&mut work, &model))
    }

    /// Takes promotions as they are kept and lets them serve. Blocks.
    pub fn follow(&self, promotions: Promotions) {
        let mut work = self.work();
        let other = work.choices.adopt_inherited(&promotions.inherited);
        for key in &other {
            if let Some(known) = work.versions.get_mut(key) {
                known.outcome = LoadState::Untried;
            }
        }
        if !work.choices.adopt(promotions) && other.is_empty() {
            return;
        }
        for model in work.versions.models() {
            self.settle(&mut work, &model, Patience::WhenStable);
        }
        self.tell(&mut work);
    }

    /// Manifests that lone files took over and that are not known to be kept, as TOML.
    pub fn unkept_manifests(&self) -> Vec<((ModelName, ModelVersion), String)> {
        self.work().choices.unkept()
    }

    /// Loads a version and makes it the choice: on disk first, then for requests.
    fn switch(
        &self,
        work: &mut Work,
        model: &ModelName,
        version: &ModelVersion,
        goes_back: bool,
    ) -> Result<(), ChangeFault> {
        let serving = self.serving(model).filter(|serving| serving.version() == version);
        let snapshot = match serving {
            Some(serving) => serving,
            None => match self.attempt(work, &(model.clone(), version.clone()), Patience::WhenStable) {
                LoadAttempt::Loaded(snapshot) => snapshot,
                LoadAttempt::Wait => return Err(ChangeFault::Settling { version: version.clone() }),
                LoadAttempt::Refused => return Err(refused(work, model, version)),
            },
        };
        self.choose(work, model, Some(version), goes_back)?;
        self.publish(work, snapshot);
        self.settle(work, model, Patience::WhenStable);
        Ok(())
    }

    /// Notes a choice where it is kept. What another replica chose meanwhile is taken in by the next look.
    fn choose(
        &self,
        work: &mut Work,
        model: &ModelName,
        version: Option<&ModelVersion>,
        goes_back: bool,
    ) -> Result<(), ChangeFault> {
        let serving = self.serving(model);
        let before = work.choices.history(model, serving.as_ref().map(|serving| serving.version()), goes_back);
        let promotions = match self.keeper.get() {
            Some(keeper) => keeper.keep(model, version, &before).map_err(ChangeFault::NotKept)?,
            None => work.choices.with(model, version, before),
        };
        work.choices.adopt(promotions);
        Ok(())
    }

    /// A model whose version is not fixed by the settings.
    fn free_model(&self, work: &Work, model: &str) -> Result<ModelName, ChangeFault> {
        let models = work.versions.models();
        let Some(model) = models.iter().find(|known| known.as_str() == model) else {
            let known = models.iter().map(ModelName::as_str).collect::<Vec<_>>().join(", ");
            return Err(ChangeFault::UnknownModel { model: model.to_owned(), known });
        };
        match self.settings.pins.get(model) {
            Some(pin) => Err(ChangeFault::Pinned { model: model.clone(), version: pin.clone() }),
            None => Ok(model.clone()),
        }
    }

    fn shown(&self, work: &mut Work, model: &ModelName) -> Vec<VersionStatus> {
        self.tell(work);
        self.status().into_iter().filter(|status| status.model == *model).collect()
    }
}

fn known_version(work: &Work, model: &ModelName, version: &str) -> Result<ModelVersion, ChangeFault> {
    let versions = work.versions.newest_first(model);
    if let Some(version) = versions.iter().find(|known| known.as_str() == version) {
        return Ok(version.clone());
    }
    let known = versions.iter().map(ModelVersion::as_str).collect::<Vec<_>>().join(", ");
    Err(ChangeFault::UnknownVersion { model: model.clone(), version: version.to_owned(), known })
}

fn refused(work: &Work, model: &ModelName, version: &ModelVersion) -> ChangeFault {
    let version = version.clone();
    match work.versions.get(&(model.clone(), version.clone())).map(|known| &known.outcome) {
        Some(LoadState::Refused(refusal)) => {
            ChangeFault::Refused { version, code: refusal.code, reason: refusal.reason.clone() }
        }
        Some(LoadState::Untried | LoadState::Loaded | LoadState::Held(_)) | None => ChangeFault::Settling { version },
    }
}
