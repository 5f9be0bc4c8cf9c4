//! Who may score now: so many live calls and so many batches in flight, each class in a bulkhead of its own, and batches
//! give way to live calls.
//!
//! A model that runs inline is answered within one poll, so no more calls are in flight than there are threads: whoever
//! waits, waits in a socket, and the caps on connections bound how many can. A call to a model with threads of its own
//! waits in that model's queue, which turns away what it cannot answer in time. What stays for the bulkhead of live calls
//! is to bound memory; by default it lets in as many as there may be connections.
//!
//! Entering takes one atomic addition. Enter after the body has been read: a client that sends it slowly must not hold a
//! place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use metrics::Counter;

use scoreline_domain::time::Stopwatch;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody is on the phone.
    Live,
    Batch,
}

/// What a live call gets when there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenOverloaded {
    /// A labelled baseline: `status: "fallback"`, `reason: "model_overloaded"`.
    #[default]
    Fallback,
    /// 503 with `Retry-After`.
    Refuse,
}

#[derive(Clone, Copy, Debug)]
pub struct AdmissionSettings {
    /// Live calls in flight.
    pub live: u32,
    /// Batches in flight.
    pub batches: u32,
    pub when_overloaded: WhenOverloaded,
}

/// No room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much to do at the moment; try again in {RETRY_AFTER_SECONDS} s")]
pub struct Overloaded;

/// What `Retry-After` says.
pub const RETRY_AFTER_SECONDS: u32 = 1;

/// The door to scoring. A clone is the same door.
#[derive(Clone)]
pub struct Admission(Arc<Door>);

struct Door {
    live: Bulkhead,
    batches: Bulkhead,
    when_overloaded: WhenOverloaded,
}

/// So many at the same time and no more.
struct Bulkhead {
    most: u32,
    inside: AtomicU32,
    refused: Counter,
}

/// The right to score; given back when dropped, also when the caller went away.
#[must_use]
pub struct Permit<'a>(&'a Bulkhead);

impl Admission {
    pub fn new(settings: AdmissionSettings) -> Self {
        metrics::describe_counter!("scoreline_admission_refused_total", "Calls that there was no room for, by class.");
        Self(Arc::new(Door {
            live: Bulkhead::new(settings.live, "live"),
            batches: Bulkhead::new(settings.batches, "batch"),
            when_overloaded: settings.when_overloaded,
        }))
    }

    /// What a live call that there is no room for gets.
    pub fn when_overloaded(&self) -> WhenOverloaded {
        self.0.when_overloaded
    }

    /// Never waits.
    ///
    /// # Errors
    /// When there is no room for this class now.
    pub fn enter(&self, class: Class) -> Result<Permit<'_>, Overloaded> {
        match class {
            Class::Live => self.0.live.enter(),
            Class::Batch => self.0.batches.enter(),
        }
    }

    /// Live calls and batches in flight.
    pub fn in_flight(&self) -> (u32, u32) {
        let inside = |bulkhead: &Bulkhead| bulkhead.inside.load(Ordering::Relaxed);
        (inside(&self.0.live), inside(&self.0.batches))
    }
}

impl Bulkhead {
    fn new(most: u32, class: &'static str) -> Self {
        let refused = metrics::counter!("scoreline_admission_refused_total", "class" => class);
        Self { most, inside: AtomicU32::new(0), refused }
    }

    fn enter(&self) -> Result<Permit<'_>, Overloaded> {
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        // Made first: it takes the count back when there is no room.
        let permit = Permit(self);
        if before < self.most {
            return Ok(permit);
        }
        self.refused.increment(1);
        Err(Overloaded)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a batch may keep its thread from live calls: about as long as twenty of them take.
const SPELL: Duration = Duration::from_micros(200);

/// A batch at work, which gives way to live calls after each spell.
pub struct GivingWay(Stopwatch);

impl GivingWay {
    pub fn start() -> Self {
        Self(Stopwatch::start())
    }

    /// To be called between rows.
    pub async fn pause(&mut self) {
        if self.0.elapsed() >= SPELL {
            tokio::task::yield_now().await;
            self.0 = Stopwatch::start();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(live: u32, batches: u32) -> Admission {
        Admission::new(AdmissionSettings { live, batches, when_overloaded: WhenOverloaded::Refuse })
    }

    #[test]
    fn places_are_given_back() {
        let door = door(2, 1);
        for _ in 0..3 {
            let first = door.enter(Class::Live).expect("room");
            let second = door.enter(Class::Live).expect("room");
            assert_eq!(door.enter(Class::Live).err(), Some(Overloaded));
            let batch = door.enter(Class::Batch).expect("room of its own");
            assert_eq!(door.enter(Class::Batch).err(), Some(Overloaded));
            assert_eq!(door.in_flight(), (2, 1));
            drop((first, second, batch));
            assert_eq!(door.in_flight(), (0, 0));
        }
    }

    #[test]
    fn a_caller_that_leaves_gives_its_place_back() {
        let door = door(1, 1);
        let mut call = Box::pin(async {
            let _permit = door.enter(Class::Live).expect("room");
            std::future::pending::<()>().await;
        });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut context).is_pending());
        assert_eq!(door.in_flight(), (1, 0));
        drop(call);
        assert_eq!(door.in_flight(), (0, 0));
    }

    #[test]
    fn a_batch_gives_way_after_a_spell_of_work_and_not_before() {
        let mut batch = GivingWay::start();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::thread::sleep(SPELL);
        let mut pause = Box::pin(batch.pause());
        assert!(pause.as_mut().poll(&mut context).is_pending());
        assert!(pause.as_mut().poll(&mut context).is_ready());
        drop(pause);
        batch.0 = Stopwatch::start();
        // Unless the machine takes longer than a spell for this line.
        let at_once = Box::pin(batch.pause()).as_mut().poll(&mut context).is_ready();
        assert!(at_once || batch.0.elapsed() >= SPELL);
    }
}
