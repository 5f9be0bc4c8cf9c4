//! Who may score now: live calls before batches, and not more of either than can be answered in time.
//!
//! What there is to protect depends on where the time goes. A row of a pure-Rust model takes microseconds, less than
//! reading its request: nothing waits for the model, everything waits for a thread, and a refusal costs nearly as much
//! as an answer. There the caps on connections bound the queue, and what helps is to keep long work (batches,
//! explanations) out of the way. When the work does take milliseconds, requests queue in the runtime before any of our
//! code sees them, so their age can not be read off them. It is sampled instead: a task that asks to be woken is woken
//! as late as a request is begun. See `lag` for the sampler (and its governor on another thread) and `controller` for what is made of it.
//!
//! In this order, with rising lag:
//! 1. batches are refused, and running ones give way between rows;
//! 2. a share of live calls is refused, at once, so that the others are answered in time.
//!
//! Beside that each class has a bulkhead: so many in flight and no more, for models that run on threads of their own.
//! Entering takes one atomic addition and one read of a word that hardly ever changes. Enter after the body has been
//! read: a client that sends it slowly must not hold a place.

mod controller;
mod lag;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use metrics::Counter;

pub use lag::{Lag, SAMPLERS};

use super::edge::error::{ApiError, Code};

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
    /// A labelled baseline: `status: "fallback"`, `reason: "overloaded"`.
    Fallback,
    /// 503 with `Retry-After`.
    #[default]
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
    settings: AdmissionSettings,
    /// Live calls: in flight in the lower half, all that ever came in the upper.
    live: AtomicU64,
    batches: AtomicU32,
    /// Of `WHOLE` live calls, so many are refused.
    refused_share: AtomicU32,
    batches_closed: AtomicBool,
    refused: [Counter; 4],
}

/// Rows of a batch that a live call may have to wait for: some ten microseconds of a pure-Rust model.
const ROWS_IN_A_ROW: usize = 8;
const WHOLE: u32 = 1 << 16;
const ONE_TICKET: u64 = 1 << 32;
/// An odd number near 2^32 divided by the golden ratio: multiples of it spread evenly, so that of any few calls in a row
/// about the right share is refused.
const SPREAD: u32 = 0x9E37_79B9;

/// The right to score; given back when dropped, also when the caller went away.
#[must_use]
pub struct Permit<'a> {
    door: &'a Door,
    class: Class,
}

impl Admission {
    pub fn new(settings: AdmissionSettings) -> Self {
        let refused = [("live", "full"), ("live", "lag"), ("batch", "full"), ("batch", "lag")].map(|(class, reason)| {
            metrics::counter!("scoreline_admission_refused_total", "class" => class, "reason" => reason)
        });
        Self(Arc::new(Door {
            settings,
            live: AtomicU64::new(0),
            batches: AtomicU32::new(0),
            refused_share: AtomicU32::new(0),
            batches_closed: AtomicBool::new(false),
            refused,
        }))
    }

    /// What a live call that is not let in gets.
    pub fn when_overloaded(&self) -> WhenOverloaded {
        self.0.settings.when_overloaded
    }

    /// Never waits.
    ///
    /// # Errors
    /// When there is no room for this class now.
    pub fn enter(&self, class: Class) -> Result<Permit<'_>, Overloaded> {
        match class {
            Class::Live => self.0.enter_live(),
            Class::Batch => self.0.enter_batch(),
        }
    }

    /// After a row of a batch: lets live calls go first, every few rows while nothing waits, after each one otherwise.
    pub async fn give_way(&self, row: usize) {
        if row % ROWS_IN_A_ROW == ROWS_IN_A_ROW - 1 || self.0.batches_closed.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    /// Live calls and batches in flight.
    pub fn in_flight(&self) -> (u32, u32) {
        (self.0.live.load(Ordering::Relaxed) as u32, self.0.batches.load(Ordering::Relaxed))
    }

    /// Live calls that ever came, modulo 2^32.
    fn calls(&self) -> u32 {
        (self.0.live.load(Ordering::Relaxed) >> 32) as u32
    }

    fn apply(&self, decision: controller::Decision) {
        let share = (decision.refused * f64::from(WHOLE)) as u32;
        self.0.refused_share.store(share, Ordering::Relaxed);
        self.0.batches_closed.store(decision.batches_closed, Ordering::Relaxed);
    }
}

impl Door {
    fn enter_live(&self) -> Result<Permit<'_>, Overloaded> {
        let before = self.live.fetch_add(ONE_TICKET + 1, Ordering::Relaxed);
        // Made first: it takes the count back when the call is refused.
        let permit = Permit { door: self, class: Class::Live };
        if before as u32 >= self.settings.live {
            self.refused[0].increment(1);
            return Err(Overloaded);
        }
        let share = self.refused_share.load(Ordering::Relaxed);
        if share > 0 {
            let ticket = (before >> 32) as u32;
            if ticket.wrapping_mul(SPREAD) >> 16 < share {
                self.refused[1].increment(1);
                return Err(Overloaded);
            }
        }
        Ok(permit)
    }

    fn enter_batch(&self) -> Result<Permit<'_>, Overloaded> {
        let before = self.batches.fetch_add(1, Ordering::Relaxed);
        let permit = Permit { door: self, class: Class::Batch };
        if before >= self.settings.batches {
            self.refused[2].increment(1);
            return Err(Overloaded);
        }
        if self.batches_closed.load(Ordering::Relaxed) {
            self.refused[3].increment(1);
            return Err(Overloaded);
        }
        Ok(permit)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        match self.class {
            Class::Live => {
                self.door.live.fetch_sub(1, Ordering::Relaxed);
            }
            Class::Batch => {
                self.door.batches.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl From<Overloaded> for ApiError {
    fn from(overloaded: Overloaded) -> Self {
        Self::new(Code::Overloaded, overloaded.to_string())
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
    fn the_refused_share_is_spread_evenly() {
        let door = door(10, 1);
        for refused in [0.0, 0.1, 0.5, 0.8, 0.95] {
            door.apply(controller::Decision { refused, batches_closed: true });
            for _ in 0..20 {
                let got = (0..100).filter(|_| door.enter(Class::Live).is_err()).count() as f64 / 100.0;
                assert!((got - refused).abs() <= 0.03, "{got} of {refused}");
            }
            assert!(door.enter(Class::Batch).is_err());
        }
        door.apply(controller::Decision { refused: 0.0, batches_closed: false });
        assert!((0..1000).all(|_| door.enter(Class::Live).is_ok()));
        assert!(door.enter(Class::Batch).is_ok());
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
}
