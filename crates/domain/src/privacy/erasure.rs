//! Erasing a customer: first the tombstone, then every place that keeps something about them.
//!
//! A place is `Erasable` and is registered where the program is put together. What a kill interrupts between the
//! tombstone and the last place is finished at the next start, see `Eraser::finish`.

use std::sync::Arc;

use super::CustomerKeys;
use super::tombstones::{TombstoneError, Tombstones};
use crate::CustomerKey;
use crate::time::Timestamp;

/// A place that keeps something about customers.
pub trait Erasable: Send + Sync {
    /// What it is called in answers and in the log.
    fn name(&self) -> &'static str;

    /// Removes everything about these customers, from memory and from disk; how many entries that were. Customers it
    /// knows nothing about are no error. May block. The tombstones have been laid before.
    ///
    /// # Errors
    /// Why something may be left. It is asked again.
    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError>;
}

/// Why a place could not erase.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EraseError(pub String);

/// Why an erasure is not complete. It can be asked for again.
#[derive(Debug, thiserror::Error)]
pub enum ErasureFault {
    #[error(transparent)]
    Tombstone(#[from] TombstoneError),
    #[error("`{place}` could not be erased")]
    Place { place: &'static str, source: EraseError },
}

/// What was erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Entries by place, in the order of registration.
    pub entries: Vec<(&'static str, u64)>,
    /// Whether the tombstone outlasts the process.
    pub lasts: bool,
}

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

    /// Erases a customer under all their keys. Blocks for the disk. Erasing again changes nothing.
    ///
    /// # Errors
    /// The first place that failed; the others were erased.
    pub fn erase(&self, customer: &CustomerKeys, at: Timestamp) -> Result<Erased, ErasureFault> {
        let keys: Vec<_> = customer.all().collect();
        let laid = self.tombstones.lay(&keys, at);
        // Even without a tombstone on disk: what is gone is gone.
        let entries = self.erase_keys(&keys);
        laid?;
        Ok(Erased { entries: entries?, lasts: self.tombstones.lasts() })
    }

    /// Finishes erasures that the end of an earlier process interrupted. Blocks for the disk.
    ///
    /// # Errors
    /// As `erase`.
    pub fn finish(&self) -> Result<u64, ErasureFault> {
        if self.tombstones.is_empty() {
            return Ok(0);
        }
        let keys: Vec<_> = self.tombstones.all().iter().copied().collect();
        Ok(self.erase_keys(&keys)?.iter().map(|(_, entries)| entries).sum())
    }

    fn erase_keys(&self, keys: &[CustomerKey]) -> Result<Vec<(&'static str, u64)>, ErasureFault> {
        let mut failed = None;
        let mut entries = Vec::with_capacity(self.places.len());
        for place in &*self.places {
            match place.erase(keys) {
                Ok(count) => entries.push((place.name(), count)),
                Err(source) => {
                    tracing::error!(place = place.name(), error = %source, "customer could not be erased");
                    failed.get_or_insert(ErasureFault::Place { place: place.name(), source });
                }
            }
        }
        failed.map_or(Ok(entries), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;

    struct Shelf {
        name: &'static str,
        kept: Mutex<HashSet<CustomerKey>>,
        broken: bool,
    }

    impl Shelf {
        fn new(name: &'static str, broken: bool) -> Arc<Self> {
            Arc::new(Self { name, kept: Mutex::new((1..4).map(key).collect()), broken })
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
            if self.broken {
                return Err(EraseError("is broken".to_owned()));
            }
            let mut kept = self.kept.lock().expect("not poisoned");
            Ok(customers.iter().filter(|key| kept.remove(key)).count() as u64)
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
        let erased = eraser.erase(&customer(1, 2), Timestamp::UNIX_EPOCH).expect("erased");
        assert_eq!(erased, Erased { entries: vec![("shelf", 2)], lasts: false });
        let again = eraser.erase(&customer(1, 2), Timestamp::UNIX_EPOCH).expect("erased");
        assert_eq!(again.entries, [("shelf", 0)]);
        assert_eq!((shelf.len(), eraser.tombstones().len()), (1, 2));
    }

    #[test]
    fn a_place_that_fails_does_not_spare_the_others_and_the_tombstone_stays() {
        let (broken, whole) = (Shelf::new("broken", true), Shelf::new("whole", false));
        let eraser = Eraser::new(Tombstones::default(), vec![broken, whole.clone()]);
        let fault = eraser.erase(&customer(1, 2), Timestamp::UNIX_EPOCH).expect_err("broken");
        assert_eq!(fault.to_string(), "`broken` could not be erased");
        assert_eq!(whole.len(), 1);
        assert!(eraser.tombstones().contains(&key(1)));
    }

    #[test]
    fn what_was_interrupted_is_finished() {
        let tombstones = Tombstones::default();
        tombstones.lay(&[key(1)], Timestamp::UNIX_EPOCH).expect("laid");
        let shelf = Shelf::new("shelf", false);
        let eraser = Eraser::new(tombstones, vec![shelf.clone()]);
        assert_eq!(eraser.finish().expect("finished"), 1);
        assert_eq!(shelf.len(), 2);
    }
}
