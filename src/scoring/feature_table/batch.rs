//! Changes on their way into the table, packed as the table packs them: a sixth of a large table waits here while it is
//! read for the first time.

use std::collections::HashSet;

use super::TableChange;
use super::shard::{EntryKey, ShardEntry, pack_entry};
use scoreline_domain::CustomerKey;

/// Changes in the order they were made.
#[derive(Default)]
pub struct TableBatch {
    pub(super) edits: Vec<EntryEdit>,
    /// The values of all entries, one after the other.
    pub(super) packed: Vec<u8>,
    /// Numbers of those of whom nothing is stored any more.
    pub(super) gone: HashSet<i64>,
}

/// A change of one entry.
pub(super) struct EntryEdit {
    /// Whole, because the erased are known by it.
    pub customer: CustomerKey,
    pub entry: ShardEntry,
    /// Place among the edits of a batch.
    pub order: u32,
    pub removes: bool,
}

impl TableBatch {
    pub fn len(&self) -> usize {
        self.edits.len() + self.gone.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl EntryEdit {
    /// That nothing is kept of this customer.
    pub(super) fn removal(customer: CustomerKey, order: u32) -> Self {
        let entry = ShardEntry::without_values(EntryKey::of(&customer));
        Self { customer, entry, order, removes: true }
    }
}

impl Extend<TableChange> for TableBatch {
    fn extend<T: IntoIterator<Item = TableChange>>(&mut self, changes: T) {
        for change in changes {
            match change {
                TableChange::Stored { number, customer, features } => {
                    self.gone.remove(&number);
                    let entry = pack_entry(&customer, number, &features, &mut self.packed);
                    let order = self.edits.len() as u32;
                    self.edits.push(EntryEdit { customer, entry, order, removes: false });
                }
                TableChange::Gone { number } => drop(self.gone.insert(number)),
            }
        }
    }
}

impl FromIterator<TableChange> for TableBatch {
    fn from_iter<T: IntoIterator<Item = TableChange>>(changes: T) -> Self {
        let mut batch = Self::default();
        batch.extend(changes);
        batch
    }
}
