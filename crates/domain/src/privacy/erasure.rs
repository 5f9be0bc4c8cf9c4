//! Erasing a customer: first the tombstone, then every place that keeps something about them.
//!
//! A place is `Erasable` and is registered where the program is put together. The store is one of them: its tombstone and
//! what it deletes are one transaction, and what it could not do yet waits until it can.

use std::sync::Arc;

use super::CustomerKeys;
use super::audit::{self, Actor, AuditAction, AuditOutcome};
use super::tombstones::{Tombstone, Tombstones};
use crate::CustomerKey;

/// Who tries erasures again.
const RETRIED: &str = "retried";

/// A place that keeps something about customers.
pub trait Erasable: Send + Sync {
    /// What it is called in answers and in the log.
    fn name(&self) -> &'static str;

    /// Removes everything about these customers, from memory and from disk; how many entries that were. Customers it
    /// knows nothing about are no error. May block. The tombstones hold already.
    ///
    /// # Errors
    /// Why something may be left. It is asked again.
    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError>;

    /// Removes what it has in memory of everybody with a tombstone: another replica erased customers.
    fn sweep(&self, _tombstones: &Tombstones) {}

    /// Whether it is the place that lets tombstones outlast the process.
    fn lasts(&self) -> bool {
        false
    }
}

/// Why a place could not erase.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EraseError(pub String);

/// Why an erasure is not complete: something may be left in this place. It is tried again, and can be asked for again.
#[derive(Debug, thiserror::Error)]
#[error("`{place}` could not be erased")]
pub struct ErasureFault {
    pub place: &'static str,
    pub source: EraseError,
}

/// Entries by place, in the order of registration.
pub type Erased = Vec<(&'static str, u64)>;

/// Erases customers everywhere. Cheap to clone.
#[derive(Clone, Default)]
pub struct Eraser {
    tombstones: Tombstones,
    places: Arc<[Arc<dyn Erasable>]>,
}

impl Eraser {
    pub fn new(tombstones: Tombstones, places: Vec<Arc<dyn Erasable>>) -> Self {
        Self { tombstones, places: places.into() }
    }

    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// Whether tombstones outlast the process.
    pub fn lasts(&self) -> bool {
        self.places.iter().any(|place| place.lasts())
    }

    /// Erases a customer under all their keys. Blocks for the disk. Erasing again changes nothing.
    ///
    /// # Errors
    /// The first place that failed; the others were erased.
    pub fn erase(&self, customer: &CustomerKeys) -> Result<Erased, ErasureFault> {
        let keys: Vec<_> = customer.all().collect();
        self.tombstones.lay(&keys);
        self.erase_keys(&keys).inspect_err(|fault| {
            let place = fault.place;
            tracing::error!(place, error = %fault.source, "customer could not be erased; tried again until the process ends");
        })
    }

    /// Erases whoever could not be erased when it was asked for, and whoever is known to be erased since under a new
    /// pepper. Blocks for the disk. An erasure that is complete by this is written down as one that was asked for.
    ///
    /// # Errors
    /// As `erase`; the next call tries again.
    pub fn catch_up(&self) -> Result<(), ErasureFault> {
        let waiting = self.tombstones.take_waiting();
        if waiting.is_empty() {
            return Ok(());
        }
        self.erase_keys(&waiting)?;
        audit::record(&Actor::named(RETRIED), AuditAction::EraseCustomer, "customer", AuditOutcome::Done, "");
        Ok(())
    }

    /// Whether an erasure is not complete: it ends with the process unless it is asked for again.
    pub fn is_waiting(&self) -> bool {
        self.tombstones.is_waiting()
    }

    /// Lets the tombstones that the store keeps hold here too.
    pub fn follow(&self, kept: &[Tombstone]) {
        if self.tombstones.add(kept) {
            self.places.iter().for_each(|place| place.sweep(&self.tombstones));
        }
    }

    fn erase_keys(&self, keys: &[CustomerKey]) -> Result<Erased, ErasureFault> {
        let mut failed = None;
        let mut entries = Vec::with_capacity(self.places.len());
        for place in &*self.places {
            match place.erase(keys) {
                Ok(count) => entries.push((place.name(), count)),
                Err(source) => {
                    tracing::debug!(place = place.name(), error = %source, "customer could not be erased; tried again");
                    failed.get_or_insert(ErasureFault { place: place.name(), source });
                }
            }
        }
        let Some(fault) = failed else { return Ok(entries) };
        self.tombstones.wait_for(keys);
        Err(fault)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Shelf {
        name: &'static str,
        kept: Mutex<HashSet<CustomerKey>>,
        broken: AtomicBool,
    }

    impl Shelf {
        fn new(name: &'static str, broken: bool) -> Arc<Self> {
            Arc::new(Self { name, kept: Mutex::new((1..4).map(key).collect()), broken: broken.into() })
        }

        fn len(&self) -> usize {
            self.kept.lock().expect("not poisoned").len()
        }
    }

    impl Erasable for Shelf {
        fn name(&self) -> &'static str {
            self.name
        }

        fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError> {
            if self.broken.load(Ordering::Relaxed) {
                return Err(EraseError("is broken".to_owned()));
            }
            let mut kept = self.kept.lock().expect("not poisoned");
            Ok(customers.iter().filter(|key| kept.remove(key)).count() as u64)
        }

        fn sweep(&self, tombstones: &Tombstones) {
            self.kept.lock().expect("not poisoned").retain(|key| !tombstones.contains(key));
        }
    }

    fn key(byte: u8) -> CustomerKey {
        CustomerKey::from_digest([byte; 32])
    }

    fn customer(current: u8, previous: u8) -> CustomerKeys {
        CustomerKeys { current: key(current), previous: vec![key(previous)] }
    }

    #[test]
    fn a_customer_is_erased_under_every_key_and_once() {
        let shelf = Shelf::new("shelf", false);
        let eraser = Eraser::new(Tombstones::default(), vec![shelf.clone()]);
        assert_eq!(eraser.erase(&customer(1, 2)).expect("erased"), [("shelf", 2)]);
        assert_eq!(eraser.erase(&customer(1, 2)).expect("erased"), [("shelf", 0)]);
        assert_eq!((shelf.len(), eraser.tombstones().len(), eraser.lasts()), (1, 2, false));
    }

    #[test]
    fn a_place_that_fails_does_not_spare_the_others_and_is_asked_again() {
        let (broken, whole) = (Shelf::new("broken", true), Shelf::new("whole", false));
        let eraser = Eraser::new(Tombstones::default(), vec![broken.clone(), whole.clone()]);
        let fault = eraser.erase(&customer(1, 2)).expect_err("broken");
        assert_eq!(fault.to_string(), "`broken` could not be erased");
        assert_eq!((broken.len(), whole.len()), (3, 1));
        assert!(eraser.tombstones().contains(&key(1)));
        assert!(eraser.catch_up().is_err(), "still broken");
        broken.broken.store(false, Ordering::Relaxed);
        eraser.catch_up().expect("mended");
        assert_eq!(broken.len(), 1);
    }

    #[test]
    fn whom_another_replica_erased_goes_from_memory_here() {
        let shelf = Shelf::new("shelf", false);
        let eraser = Eraser::new(Tombstones::default(), vec![shelf.clone()]);
        eraser.follow(&[Tombstone::of(&key(3)), Tombstone::of(&key(9))]);
        assert_eq!(shelf.len(), 2);
        assert!(eraser.tombstones().contains(&key(9)));
    }
}
