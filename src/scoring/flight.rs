//! Equal questions at the same time: the first runs the model, the others wait for its answer in the cache.
//!
//! Only for models on threads of their own, where a run costs tens of microseconds and a place in a queue. For an inline
//! model the lock and the wake-up would cost more than the run of about a microsecond that they save.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use scoreline_domain::{CustomerKey, Tier};
use scoreline_engine::inference::bundle::{BundleDigest, ModelSnapshot};

use super::estimate::Wish;

/// One exact question about a customer, by its bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct FlightKey {
    digest: BundleDigest,
    customer: CustomerKey,
    raw: Box<[u64]>,
    level: Option<u64>,
    previous: Option<Tier>,
}

impl FlightKey {
    pub(super) fn new(snapshot: &ModelSnapshot, customer: CustomerKey, raw: &[f64], wish: Wish) -> Self {
        let level = wish.level.map(f64::to_bits);
        let raw = raw.iter().map(|value| value.to_bits()).collect();
        Self { digest: *snapshot.digest(), customer, raw, level, previous: wish.previous }
    }
}

/// Questions that are being answered now.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<FlightKey, watch::Receiver<()>>>);

/// Who asks.
pub(super) enum Joined<'a> {
    /// Nobody else has this question.
    First(Turn<'a>),
    /// Somebody else is at it.
    After(Ahead),
}

/// The right to answer a question for all who wait. Dropping it, with or without an answer, lets them go on.
pub(super) struct Turn<'a> {
    flights: &'a Flights,
    key: FlightKey,
    /// Closed by the drop; nothing is ever sent.
    _waiting: watch::Sender<()>,
}

/// The caller ahead with the same question.
pub(super) struct Ahead(watch::Receiver<()>);

impl Flights {
    pub(super) fn join(&self, key: FlightKey) -> Joined<'_> {
        let mut flights = self.lock();
        if let Some(first) = flights.get(&key) {
            return Joined::After(Ahead(first.clone()));
        }
        let (waiting, first) = watch::channel(());
        flights.insert(key.clone(), first);
        drop(flights);
        Joined::First(Turn { flights: self, key, _waiting: waiting })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FlightKey, watch::Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ahead {
    /// Waits until the caller ahead has its answer, has failed or has gone, or `limit` is over.
    pub(super) async fn ended(mut self, limit: Duration) {
        // Nothing is sent: the only change is the end. Either way the cache knows more.
        drop(tokio::time::timeout(limit, self.0.changed()).await);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}
