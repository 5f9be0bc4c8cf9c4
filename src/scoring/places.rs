//! Where leads stand among those that this server scored just before, for each version of a model: what a probability's
//! priority is. It begins with the bundle's frozen population. What single leads were given balances what the next ones are.
//!
//! Single leads move it in blocks of `BLOCK` different ones, so that a few questions that are repeated are answered alike
//! whatever way they come. Leads that are asked about together, as many or more, come in at once and are placed among
//! themselves. Answers from the cache and baselines are placed and do not count.
//!
//! What was scored is kept in the store once a second by whoever follows it, so that restarts and replicas go on from there;
//! a prediction never waits for that.

use std::sync::{Arc, Mutex, PoisonError};

use scoreline_domain::lead::PriorityBalance;
use scoreline_domain::{LeadScore, Probability, RollingPlaces, Source};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::BundleDigest;

use super::Scored;

/// Single leads of different probabilities that are taken in at once.
const BLOCK: usize = 20;
/// Single leads that are taken in however alike they are.
const LONG_BLOCK: usize = 10 * BLOCK;
/// Leads that are remembered until they are kept; older ones would hardly weigh.
const UNKEPT: usize = 2000;
/// Versions whose leads are remembered: those that serve, are tried, or were just replaced.
const VERSIONS: usize = 8;

/// Where leads stand, for each version.
#[derive(Default)]
pub(crate) struct LeadPlaces {
    versions: Mutex<Vec<VersionPlaces>>,
}

struct VersionPlaces {
    digest: BundleDigest,
    now: Arc<RollingPlaces>,
    balance: PriorityBalance,
    /// Single leads since the last block and what they were given, and how many different probabilities they have.
    waiting: Vec<(Probability, u8)>,
    different: usize,
    /// Leads since they were last kept.
    unkept: Vec<Probability>,
}

/// What a version's leads have been since they were last kept.
pub struct UnkeptLeads {
    pub version: BundleDigest,
    pub leads: Vec<Probability>,
}

impl LeadPlaces {
    /// Places one lead, and counts it if the model scored it anew.
    pub(super) fn place(&self, scored: &mut Scored<LeadScore>) {
        if scored.is_neutral() {
            return;
        }
        let probability = scored.estimate.probability;
        let frozen = frozen(&scored.snapshot, probability);
        scored.estimate.priority = self.at(&scored.snapshot, |version| {
            let priority = version.balance.priority(version.now.passed(probability, frozen));
            if scored.source == Source::Model {
                version.saw(probability, priority);
            }
            priority
        });
    }

    /// Places leads that were asked about together.
    pub(super) fn place_together<'s>(&self, leads: impl Iterator<Item = &'s mut Scored<LeadScore>>) {
        let mut leads: Vec<&mut Scored<LeadScore>> = leads.filter(|scored| !scored.is_neutral()).collect();
        if leads.len() < BLOCK {
            // As they would be one by one.
            for scored in &mut leads {
                self.place(scored);
            }
            return;
        }
        // A model may have been swapped under way. Each version's leads are then placed among their own.
        while let Some(first) = leads.first() {
            let snapshot = Arc::clone(&first.snapshot);
            let (own, others): (Vec<_>, Vec<_>) =
                leads.into_iter().partition(|scored| scored.snapshot.digest() == snapshot.digest());
            let scored_anew = own.iter().filter(|scored| scored.source == Source::Model);
            let probabilities: Vec<Probability> = scored_anew.map(|scored| scored.estimate.probability).collect();
            let now = self.at(&snapshot, |version| {
                version.take(&probabilities);
                Arc::clone(&version.now)
            });
            for scored in own {
                scored.estimate = placed(&now, &snapshot, scored.estimate.probability);
            }
            leads = others;
        }
    }

    /// Does something with a version's places.
    fn at<T>(&self, snapshot: &ModelSnapshot, work: impl FnOnce(&mut VersionPlaces) -> T) -> T {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let found = versions.iter().position(|version| version.digest == *snapshot.digest());
        let position = found.unwrap_or_else(|| {
            if versions.len() == VERSIONS {
                versions.remove(0);
            }
            versions.push(VersionPlaces::begin(snapshot));
            versions.len() - 1
        });
        work(&mut versions[position])
    }

    /// Remembers a version before its first lead, so that what is kept of it is read in time.
    pub(super) fn expect(&self, snapshot: &ModelSnapshot) {
        self.at(snapshot, |_| ());
    }

    /// Every version, with its leads since the last time.
    pub(super) fn take_unkept(&self) -> Vec<UnkeptLeads> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let unkept = |version: &mut VersionPlaces| UnkeptLeads {
            version: version.digest,
            leads: std::mem::replace(&mut version.unkept, Vec::with_capacity(UNKEPT + LONG_BLOCK)),
        };
        versions.iter_mut().map(unkept).collect()
    }

    /// Goes on from what is kept, leads since included.
    pub(super) fn follow(&self, kept: BundleDigest, mut places: RollingPlaces) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = versions.iter_mut().find(|version| version.digest == kept) {
            places.take(&version.unkept);
            version.now = Arc::new(places);
        }
    }

    /// Leads that were taken to be kept, and were not.
    pub(super) fn give_back(&self, unkept: UnkeptLeads) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = versions.iter_mut().find(|version| version.digest == unkept.version) {
            let since = std::mem::replace(&mut version.unkept, unkept.leads);
            version.remember(&since);
        }
    }
}

impl VersionPlaces {
    fn begin(snapshot: &ModelSnapshot) -> Self {
        Self {
            digest: *snapshot.digest(),
            now: Arc::default(),
            balance: PriorityBalance::default(),
            waiting: Vec::with_capacity(LONG_BLOCK),
            different: 0,
            unkept: Vec::with_capacity(UNKEPT + LONG_BLOCK),
        }
    }

    fn saw(&mut self, probability: Probability, priority: u8) {
        self.different += usize::from(self.waiting.iter().all(|(waiting, _)| *waiting != probability));
        self.waiting.push((probability, priority));
        if self.different == BLOCK || self.waiting.len() == LONG_BLOCK {
            self.take(&[]);
        }
    }

    /// Takes in what waits, then these.
    fn take(&mut self, together: &[Probability]) {
        let Self { now, balance, waiting, different, unkept, .. } = self;
        let now = Arc::make_mut(now);
        let since = unkept.len();
        unkept.extend(waiting.iter().map(|(probability, _)| *probability));
        now.take(&unkept[since..]);
        // A few questions that are asked again and again say nothing about shares.
        if *different == BLOCK {
            balance.gave(waiting.iter().map(|(_, priority)| *priority));
        }
        now.take(together);
        waiting.clear();
        *different = 0;
        self.remember(together);
    }

    fn remember(&mut self, leads: &[Probability]) {
        self.unkept.extend_from_slice(leads);
        let old = self.unkept.len().saturating_sub(UNKEPT);
        self.unkept.drain(..old);
    }
}

/// A probability's place in the frozen population of its bundle.
fn frozen(snapshot: &ModelSnapshot, probability: Probability) -> u8 {
    snapshot.manifest().lead.as_ref().map_or(1, |lead| lead.reference.place(probability))
}

/// A probability with its priority among others and that population.
fn placed(places: &RollingPlaces, snapshot: &ModelSnapshot, probability: Probability) -> LeadScore {
    LeadScore { priority: places.priority(probability, frozen(snapshot, probability)), probability }
}

/// Places leads of a table that is no server's: among those that are read together, beginning with the frozen population.
pub(crate) fn place_among<'s>(snapshot: &ModelSnapshot, leads: impl Iterator<Item = &'s mut LeadScore>) {
    let mut leads: Vec<&mut LeadScore> = leads.collect();
    let mut places = RollingPlaces::default();
    if leads.len() >= BLOCK {
        places.take(&leads.iter().map(|lead| lead.probability).collect::<Vec<_>>());
    }
    for lead in &mut leads {
        **lead = placed(&places, snapshot, lead.probability);
    }
}
