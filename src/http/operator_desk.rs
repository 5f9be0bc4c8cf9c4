//! What the operator's page remembers between two looks: what was read from the store last, since when something is wrong,
//! and what it looked like when it was made last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::lifecycle::Stop;
use crate::monitoring::quality::Quality;
use scoreline_domain::time::{Stopwatch, Timestamp};
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_genesys::Genesys;
use scoreline_listener::OpenConnections;
use scoreline_store::{OutboxCounts, WishState};

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct OperatorDesk {
    /// Where the public listener is reached, to be shown in commands.
    pub address: Arc<str>,
    /// Those of the public listener.
    pub connections: OpenConnections,
    /// Ends what is sent to those who watch.
    pub stop: Stop,
    /// Set once there is one.
    pub platform: Arc<OnceLock<Genesys>>,
    memory: Arc<Mutex<DeskMemory>>,
    live: Arc<LiveParts>,
}

#[derive(Default)]
struct DeskMemory {
    stored: Option<(Stopwatch, Arc<StoredFindings>)>,
    /// Since when what is wrong.
    troubles: BTreeMap<String, Timestamp>,
}

/// The parts of the page as they were made last, for those who watch. Whoever is slow gets the newest and misses the others.
#[derive(Default)]
struct LiveParts(watch::Sender<Arc<Vec<PagePart>>>);

/// One part of the page, which is replaced whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PagePart {
    pub(crate) id: &'static str,
    pub(crate) html: String,
}

/// What the store says of scores on their way out, and of how predictions turned out.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredFindings {
    pub(crate) targets: Vec<TargetFindings>,
    /// Leads with a score that counts, and with one that is too old to.
    pub(crate) leads: Option<(u64, u64)>,
    pub(crate) quality: Vec<(ModelName, ModelVersion, Quality)>,
    /// Why the store says less than it could.
    pub(crate) problem: Option<&'static str>,
}

/// Scores on their way to one place.
#[derive(Clone, Debug)]
pub(crate) struct TargetFindings {
    pub(crate) name: String,
    /// Scores of leads; else profiles of customers.
    pub(crate) is_of_leads: bool,
    pub(crate) counts: OutboxCounts,
    pub(crate) oldest_seconds: Option<u64>,
    /// Reasons of failures, with how many of those that were looked at failed for them.
    pub(crate) reasons: Vec<(WishState, Box<str>, usize)>,
}

impl OperatorDesk {
    /// Of a server whose public listener is reached at this address, until it stops.
    pub fn new(address: String, stop: Stop) -> Self {
        Self { address: address.into(), stop, ..Self::default() }
    }

    /// What was read from the store, unless that is longer ago.
    pub(crate) fn stored(&self, most: Duration) -> Option<Arc<StoredFindings>> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, found) = memory.stored.as_ref()?;
        (since.elapsed() < most).then(|| Arc::clone(found))
    }

    pub(crate) fn keep_stored(&self, found: Arc<StoredFindings>) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).stored = Some((Stopwatch::start(), found));
    }

    /// The store is to be read anew: something was changed in it.
    pub(crate) fn forget_stored(&self) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).stored = None;
    }

    /// Since when each of these is wrong: from `now` on for one that was not before.
    pub(crate) fn since(&self, wrong: &[String], now: Timestamp) -> Vec<Timestamp> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.troubles.retain(|key, _| wrong.contains(key));
        wrong.iter().map(|key| *memory.troubles.entry(key.clone()).or_insert(now)).collect()
    }

    /// The parts as they are made from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Vec<PagePart>>> {
        self.live.0.subscribe()
    }

    pub(crate) fn watchers(&self) -> usize {
        self.live.0.receiver_count()
    }

    /// Shows the parts to those who watch.
    pub(crate) fn show(&self, parts: Vec<PagePart>) {
        self.live.0.send_replace(Arc::new(parts));
    }
}
