//! What is held in memory of predictions and outcomes: whose prediction was recorded last, and the figures of each model
//! version. The rows themselves are in the store. Pure.

use std::collections::{BTreeMap, HashMap};

use super::outcome::Judged;
use super::quality::{Quality, Rolling};
use scoreline_domain::{CustomerKey, ModelName, ModelVersion};

/// A recorded prediction is kept this long after its horizon, waiting for its outcome.
pub const GRACE_SECONDS: i64 = 90 * 86_400;
/// Least time between two looks for room.
const SWEEP_SECONDS: i64 = 3600;
/// Most model versions whose outcomes are followed; those heard of longest ago are let go.
const MOST_VERSIONS: usize = 32;

/// Bounds of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictionLimits {
    /// Predictions that wait for their outcome; 0 for none.
    pub predictions: usize,
    /// Outcomes remembered, so that a repeated one is known.
    pub outcomes: usize,
    /// Newest outcomes of a model version that its figures are made of.
    pub window: usize,
    /// At least this many seconds between two recorded predictions of a customer.
    pub sample_every: i64,
}

/// The state itself.
#[derive(Debug)]
pub struct PredictionBook {
    limits: PredictionLimits,
    /// The second of the last recorded prediction.
    last: HashMap<(CustomerKey, ModelName), i64>,
    /// Predictions that wait, as far as is known here.
    pub predictions: usize,
    /// Outcomes remembered.
    pub outcomes: usize,
    /// Outcomes told before their horizon was over.
    pub immature: u64,
    /// Whether rows may have gone from the store that are still counted here.
    pub recount: bool,
    /// Whether predictions are remembered that may not be in the store.
    pub reread: bool,
    versions: BTreeMap<(ModelName, ModelVersion), FollowedVersion>,
    /// When the newest recorded prediction was made, and when room was last looked for, in seconds.
    newest: i64,
    swept_at: i64,
    /// Outcomes taken in, for telling which version was heard of last.
    heard: u64,
}

#[derive(Debug)]
struct FollowedVersion {
    rolling: Rolling,
    heard: u64,
}

/// Whether a prediction is to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictionAdmission {
    Record,
    /// The customer has a recent one.
    Sampled,
    /// There is no room.
    Full,
}

impl PredictionBook {
    pub fn new(limits: PredictionLimits) -> Self {
        Self {
            limits,
            last: HashMap::new(),
            predictions: 0,
            outcomes: 0,
            immature: 0,
            recount: false,
            reread: false,
            versions: BTreeMap::new(),
            newest: i64::MIN,
            swept_at: i64::MIN,
            heard: 0,
        }
    }

    /// Whether a prediction made at this second should be recorded; then it counts as recorded.
    pub fn admit(&mut self, customer: CustomerKey, model: &ModelName, at: i64) -> PredictionAdmission {
        self.newest = self.newest.max(at);
        let key = (customer, model.clone());
        if self.last.get(&key).is_some_and(|last| at.saturating_sub(*last) < self.limits.sample_every) {
            return PredictionAdmission::Sampled;
        }
        if self.predictions >= self.limits.predictions {
            return PredictionAdmission::Full;
        }
        self.predictions += 1;
        self.last.insert(key, at);
        PredictionAdmission::Record
    }

    /// When there is no room and none was looked for lately: predictions that matured before the second that this
    /// answers may be let go.
    pub fn sweep(&mut self) -> Option<i64> {
        let due = self.newest.saturating_sub(self.swept_at) >= SWEEP_SECONDS;
        if self.predictions < self.limits.predictions || !due {
            return None;
        }
        self.swept_at = self.newest;
        Some(self.newest.saturating_sub(GRACE_SECONDS))
    }

    /// Takes over whose predictions wait in the store.
    pub fn remember(&mut self, last: HashMap<(CustomerKey, ModelName), i64>) {
        self.last = last;
        self.reread = false;
    }

    /// Takes over how much is in the store.
    pub fn count(&mut self, predictions: u64, outcomes: u64) {
        self.predictions = usize::try_from(predictions).unwrap_or(usize::MAX);
        self.outcomes = usize::try_from(outcomes).unwrap_or(usize::MAX);
        self.recount = false;
    }

    /// Takes an outcome into the figures, unless the horizon was not over.
    pub fn take(&mut self, model: &ModelName, version: &ModelVersion, outcome: &Judged, mature: bool) {
        self.outcomes = (self.outcomes + 1).min(self.limits.outcomes);
        if !mature {
            self.immature += 1;
            return;
        }
        self.heard += 1;
        let new = || FollowedVersion { rolling: Rolling::new(self.limits.window), heard: 0 };
        let followed = self.versions.entry((model.clone(), version.clone())).or_insert_with(new);
        followed.rolling.add(outcome);
        followed.heard = self.heard;
        if self.versions.len() > MOST_VERSIONS {
            let oldest = self.versions.iter().min_by_key(|(_, followed)| followed.heard);
            if let Some(oldest) = oldest.map(|(version, _)| version.clone()) {
                self.versions.remove(&oldest);
            }
        }
    }

    /// Lets every figure go, to be made again of the outcomes that are left.
    pub fn clear_figures(&mut self) {
        self.versions.clear();
        self.outcomes = 0;
        self.immature = 0;
        self.recount = true;
    }

    /// Forgets customers; of how many anything was known. The figures that their outcomes went into are to be made again.
    pub fn forget(&mut self, gone: impl Fn(&CustomerKey) -> bool) -> u64 {
        self.recount = true;
        let before = self.last.len();
        self.last.retain(|(customer, _), _| !gone(customer));
        (before - self.last.len()) as u64
    }

    /// The figures of every model version that is followed.
    pub fn quality(&self) -> Vec<(ModelName, ModelVersion, Quality)> {
        let versions = self.versions.iter();
        versions.map(|((model, version), it)| (model.clone(), version.clone(), it.rolling.quality())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::prediction;
    use super::*;

    const DAY: i64 = 86_400;

    fn key(customer: u8) -> CustomerKey {
        CustomerKey::from_digest([customer; 32])
    }

    fn model() -> ModelName {
        ModelName::parse("clv").expect("a name")
    }

    fn book() -> PredictionBook {
        PredictionBook::new(PredictionLimits { predictions: 3, outcomes: 4, window: 10, sample_every: DAY })
    }

    #[test]
    fn predictions_are_sampled_and_their_number_is_bounded() {
        let mut book = book();
        assert_eq!(book.admit(key(1), &model(), 0), PredictionAdmission::Record);
        assert_eq!(book.admit(key(1), &model(), DAY - 1), PredictionAdmission::Sampled);
        assert_eq!(book.sweep(), None, "there is room");
        assert_eq!(book.admit(key(1), &model(), DAY), PredictionAdmission::Record);
        assert_eq!(book.admit(key(2), &model(), DAY), PredictionAdmission::Record);
        assert_eq!(book.admit(key(3), &model(), DAY), PredictionAdmission::Full);
        assert_eq!(book.sweep(), Some(DAY - GRACE_SECONDS));
        assert_eq!(book.sweep(), None, "a moment ago");
        book.predictions = 2;
        assert_eq!(book.admit(key(3), &model(), DAY), PredictionAdmission::Record);
    }

    #[test]
    fn a_forgotten_customer_is_not_known_and_the_figures_stay() {
        let mut book = book();
        book.admit(key(1), &model(), 0);
        book.admit(key(2), &model(), 0);
        let prediction = prediction("2026-01-01T00:00:00Z");
        let judged = Judged::new(&prediction, 5.0);
        for mature in [true, false] {
            book.take(&model(), &prediction.version, &judged, mature);
        }
        assert_eq!(book.forget(|customer| *customer == key(1)), 1);
        assert_eq!(book.forget(|customer| *customer == key(1)), 0);
        assert_eq!((book.outcomes, book.immature, book.quality()[0].2.outcomes), (2, 1, 1));
    }
}
