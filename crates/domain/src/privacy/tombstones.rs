//! Customers who were erased, by the digest of their key: nothing about them is kept again.
//!
//! The set in memory is what everybody looks at without waiting. The store keeps it, see `store::erase`; until what it
//! keeps has been read, anybody may have been erased, and nothing is kept of anybody.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

use crate::CustomerKey;

/// All that is left of an erased customer: enough to know them again by their key, and no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tombstone(pub [u8; 32]);

impl Tombstone {
    pub fn of(customer: &CustomerKey) -> Self {
        Self(Sha256::digest(customer.as_bytes()).into())
    }
}

/// The set of erased customers. Cheap to clone; looking into it takes no lock.
#[derive(Clone, Default)]
pub struct Tombstones {
    inner: Arc<TombstoneSet>,
}

#[derive(Default)]
struct TombstoneSet {
    /// Whether there may be any: all that a prediction looks at as long as nobody was erased.
    any: AtomicBool,
    /// Whether those that are kept have not been read yet.
    unread: AtomicBool,
    erased: ArcSwap<HashSet<Tombstone>>,
    /// Customers whose tombstone is not in the store yet. Locked for a moment; whoever changes the set takes it too.
    waiting: Mutex<Vec<CustomerKey>>,
}

impl Tombstones {
    /// A set that is not known yet: it holds for everybody until `set_read`.
    pub fn unread() -> Self {
        let inner =
            TombstoneSet { any: AtomicBool::new(true), unread: AtomicBool::new(true), ..TombstoneSet::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Whether nothing may be kept of this customer.
    pub fn contains(&self, customer: &CustomerKey) -> bool {
        // Sequentially consistent: whoever stores something and then looks here, and whoever lays a tombstone and then
        // looks for what is stored, cannot both miss the other.
        self.inner.any.load(Ordering::SeqCst)
            && (self.inner.unread.load(Ordering::SeqCst) || self.inner.erased.load().contains(&Tombstone::of(customer)))
    }

    /// Whether this one is known. Unlike `contains`, nobody counts as erased because tombstones have not been read yet.
    pub fn holds(&self, tombstone: &Tombstone) -> bool {
        self.inner.any.load(Ordering::SeqCst) && self.inner.erased.load().contains(tombstone)
    }

    /// Whether nobody was erased, as far as is known by now.
    pub fn is_empty(&self) -> bool {
        !self.inner.any.load(Ordering::SeqCst)
    }

    pub fn len(&self) -> usize {
        self.inner.erased.load().len()
    }

    pub fn all(&self) -> Vec<Tombstone> {
        self.inner.erased.load().iter().copied().collect()
    }

    /// Lets tombstones hold from now on; whether one of them is new.
    pub fn add(&self, tombstones: &[Tombstone]) -> bool {
        let turn = self.waiting();
        let mut erased = HashSet::clone(&self.inner.erased.load());
        let before = erased.len();
        erased.extend(tombstones);
        let is_new = erased.len() > before;
        if is_new {
            self.inner.erased.store(Arc::new(erased));
            self.inner.any.store(true, Ordering::SeqCst);
        }
        drop(turn);
        is_new
    }

    /// Says that everything that was kept has been added.
    pub fn set_read(&self) {
        let turn = self.waiting();
        self.inner.any.store(!self.inner.erased.load().is_empty(), Ordering::SeqCst);
        self.inner.unread.store(false, Ordering::SeqCst);
        drop(turn);
    }

    /// Lets tombstones of these customers hold from now on.
    pub fn lay(&self, customers: &[CustomerKey]) {
        let tombstones: Vec<_> = customers.iter().map(Tombstone::of).collect();
        self.add(&tombstones);
    }

    /// Lets a tombstone of an earlier pepper hold under the customer's current key. Never waits: `take_waiting` tells
    /// whoever keeps it.
    pub fn carry_over(&self, customer: CustomerKey) {
        self.lay(&[customer]);
        self.wait_for(&[customer]);
    }

    /// Remembers customers whose tombstone could not be kept yet.
    pub fn wait_for(&self, customers: &[CustomerKey]) {
        self.waiting().extend(customers);
    }

    /// The customers whose tombstone is still to be kept.
    pub fn take_waiting(&self) -> Vec<CustomerKey> {
        std::mem::take(&mut self.waiting())
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting().is_empty()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<CustomerKey>> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> CustomerKey {
        CustomerKey::from_digest([byte; 32])
    }

    #[test]
    fn a_tombstone_holds_from_the_moment_it_is_laid() {
        let tombstones = Tombstones::default();
        assert!(tombstones.is_empty() && !tombstones.contains(&key(1)));
        tombstones.lay(&[key(1), key(2)]);
        tombstones.lay(&[key(1)]);
        assert!(tombstones.contains(&key(1)) && tombstones.contains(&key(2)) && !tombstones.contains(&key(3)));
        assert_eq!((tombstones.len(), tombstones.is_empty()), (2, false));
        assert!(!tombstones.add(&[Tombstone::of(&key(2))]) && tombstones.add(&[Tombstone::of(&key(3))]));
        assert_ne!(Tombstone::of(&key(1)).0, *key(1).as_bytes(), "a digest, no key");
    }

    #[test]
    fn until_they_are_read_anybody_may_have_been_erased() {
        let tombstones = Tombstones::unread();
        tombstones.lay(&[key(1)]);
        assert!(tombstones.contains(&key(1)) && tombstones.contains(&key(2)));
        assert!(tombstones.holds(&Tombstone::of(&key(1))) && !tombstones.holds(&Tombstone::of(&key(2))));
        tombstones.add(&[Tombstone::of(&key(3))]);
        tombstones.set_read();
        assert!(tombstones.contains(&key(1)) && tombstones.contains(&key(3)) && !tombstones.contains(&key(2)));
        let none = Tombstones::unread();
        none.set_read();
        assert!(none.is_empty() && !none.contains(&key(1)));
    }

    #[test]
    fn what_is_carried_over_holds_at_once_and_waits_to_be_kept() {
        let tombstones = Tombstones::default();
        tombstones.carry_over(key(2));
        assert!(tombstones.contains(&key(2)));
        assert_eq!(tombstones.take_waiting(), [key(2)]);
        assert!(tombstones.take_waiting().is_empty());
    }
}
