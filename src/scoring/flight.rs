//! Equal questions at the same time: the first runs the model, the others wait for its answer in the cache.
//!
//! Only for models on threads of their own, where a run costs tens of microseconds and a place in a queue. For an inline
//! model the lock and the wake-up would cost more than the run of about a microsecond that they save.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::cache::ExactKey;

/// Questions that are being answered now.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<ExactKey, watch::Receiver<()>>>);

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
    key: ExactKey,
    /// Closed by the drop; nothing is ever sent.
    _waiting: watch::Sender<()>,
}

/// The caller ahead with the same question.
pub(super) struct Ahead(watch::Receiver<()>);

impl Flights {
    pub(super) fn join(&self, key: ExactKey) -> Joined<'_> {
        let mut flights = self.lock();
        if let Some(first) = flights.get(&key) {
            return Joined::After(Ahead(first.clone()));
        }
        let (waiting, first) = watch::channel(());
        flights.insert(key, first);
        drop(flights);
        Joined::First(Turn { flights: self, key, _waiting: waiting })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExactKey, watch::Receiver<()>>> {
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
