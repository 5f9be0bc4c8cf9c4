//! The breaker of one model version, shared by everybody who asks it: time, lock, metrics and log lines around
//! [`scoreline_domain::resilience::breaker`].

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::Counter;

use scoreline_domain::resilience::breaker::{Breaker, BreakerChange, CallOutcome, Phase, Ticket};
use scoreline_domain::time::Stopwatch;
use scoreline_domain::{ModelName, ModelVersion};

/// Says whether the model may be asked, and hears what came of it.
pub struct ModelGuard {
    model: ModelName,
    version: ModelVersion,
    /// Held for a few additions, after the run.
    breaker: Mutex<Breaker>,
    /// Tickets given while it is closed; asking a healthy model takes no lock.
    standing: Standing,
    watch: Stopwatch,
    opened: Counter,
    closed: Counter,
    probes: Counter,
}

/// Leave to run the model once. Dropped without a word, nobody knows what became of the run.
pub struct ModelPermit<'a> {
    guard: &'a ModelGuard,
    ticket: Option<Ticket>,
}

impl ModelGuard {
    pub fn new(model: ModelName, version: ModelVersion) -> Self {
        let breaker = Breaker::new(RandomState::new().hash_one(version.as_str()));
        let transitions = |to| {
            let model = model.to_string();
            metrics::counter!("scoreline_breaker_transitions_total", "model" => model, "to" => to)
        };
        Self {
            standing: Standing::of(&breaker),
            breaker: Mutex::new(breaker),
            watch: Stopwatch::start(),
            opened: transitions(Phase::Open.as_str()),
            closed: transitions(Phase::Closed.as_str()),
            probes: transitions(Phase::Probing.as_str()),
            model,
            version,
        }
    }

    /// Leave to run the model; `None` while the breaker is open.
    pub fn admit(&self) -> Option<ModelPermit<'_>> {
        let ticket = self.standing.ticket().or_else(|| {
            let mut breaker = self.lock();
            let ticket = breaker.admit(self.watch.elapsed())?;
            if breaker.phase() == Phase::Probing {
                self.probes.increment(1);
            }
            Some(ticket)
        })?;
        Some(ModelPermit { guard: self, ticket: Some(ticket) })
    }

    pub fn model(&self) -> &ModelName {
        &self.model
    }

    pub fn phase(&self) -> Phase {
        self.lock().phase()
    }

    /// A run has not come back after it was told to end.
    pub fn unreturned(&self) {
        let mut breaker = self.lock();
        let change = breaker.unreturned(self.watch.elapsed());
        self.tell(breaker, change);
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, breaker: MutexGuard<'_, Breaker>, change: Option<BreakerChange>) {
        let Some(change) = change else { return };
        self.standing.follow(&breaker);
        drop(breaker);
        let (model, version) = (&self.model, &self.version);
        match change {
            BreakerChange::Opened { cause, probe_in } => {
                self.opened.increment(1);
                let (cause, probe_ms) = (cause.as_str(), probe_in.as_millis());
                tracing::error!(%model, %version, cause, probe_ms, "breaker opened: answers come from the ladder");
            }
            BreakerChange::StillOpen { probe_in } => {
                self.opened.increment(1);
                tracing::info!(%model, %version, probe_ms = probe_in.as_millis(), "breaker stays open");
            }
            BreakerChange::Closed { open_for } => {
                self.closed.increment(1);
                tracing::info!(%model, %version, open_ms = open_for.as_millis(), "breaker closed: the model answers again");
            }
        }
    }
}

impl ModelPermit<'_> {
    pub fn succeeded(self) {
        self.end(CallOutcome::Success);
    }

    pub fn failed(self) {
        self.end(CallOutcome::Failure);
    }

    fn end(mut self, outcome: CallOutcome) {
        self.report(outcome);
    }

    fn report(&mut self, outcome: CallOutcome) {
        let Some(ticket) = self.ticket.take() else { return };
        let now = self.guard.watch.elapsed();
        let mut breaker = self.guard.lock();
        let change = breaker.record(ticket, now, outcome);
        self.guard.tell(breaker, change);
    }
}

impl Drop for ModelPermit<'_> {
    fn drop(&mut self) {
        // Of a closed breaker's call there is nothing to tell.
        if self.ticket.is_some() && self.guard.standing.ticket() != self.ticket {
            self.report(CallOutcome::Unknown);
        }
    }
}

/// The standing ticket, readable without the lock. One that is read just before the breaker opens lets one more call
/// through, as if it had come a moment earlier.
struct Standing(AtomicU64);

impl Standing {
    fn of(breaker: &Breaker) -> Self {
        let standing = Self(AtomicU64::new(0));
        standing.follow(breaker);
        standing
    }

    fn ticket(&self) -> Option<Ticket> {
        Ticket::from_number(self.0.load(Ordering::Acquire))
    }

    fn follow(&self, breaker: &Breaker) {
        self.0.store(breaker.standing_ticket().map_or(0, Ticket::number), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scoreline_domain::resilience::breaker::FAILURES_IN_A_ROW;

    fn guard() -> ModelGuard {
        let model = ModelName::parse("clv");
        let version = ModelVersion::parse("v1");
        ModelGuard::new(model.expect("a name"), version.expect("a version"))
    }

    #[test]
    fn failures_take_the_standing_ticket_away() {
        let guard = guard();
        let early = guard.admit().expect("closed");
        for _ in 0..FAILURES_IN_A_ROW {
            guard.admit().expect("still closed").failed();
        }
        assert!(guard.admit().is_none());
        early.succeeded();
        assert!(guard.admit().is_none(), "a call of before says nothing");
        assert_eq!(guard.phase(), Phase::Open);
    }

    #[test]
    fn callers_that_leave_are_no_failures() {
        let guard = guard();
        for _ in 0..100 {
            drop(guard.admit().expect("closed"));
        }
        guard.admit().expect("closed").succeeded();
        assert_eq!(guard.phase(), Phase::Closed);
    }

    #[test]
    fn handles_that_do_not_come_back_open_it() {
        let guard = guard();
        for _ in 0..3 {
            assert!(guard.admit().is_some());
            guard.unreturned();
        }
        assert!(guard.admit().is_none());
    }
}
