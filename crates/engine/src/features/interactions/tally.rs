//! How often each label was seen: a small sorted list, because a customer knows few topics and fewer queues.

use smallvec::SmallVec;

use scoreline_domain::LabelId;

/// Labels in order, with how often each was seen; none that was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(SmallVec<[(LabelId, u32); 8]>);

impl Tally {
    #[inline]
    pub(super) fn add(&mut self, label: LabelId) {
        match self.find(label) {
            Ok(position) => self.0[position].1 += 1,
            Err(position) => self.0.insert(position, (label, 1)),
        }
    }

    /// Takes back one that was added.
    pub(super) fn retract(&mut self, label: LabelId) {
        if let Ok(position) = self.find(label) {
            self.0[position].1 -= 1;
            if self.0[position].1 == 0 {
                self.0.remove(position);
            }
        }
    }

    pub(super) fn distinct(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LabelId, u32)> {
        self.0.iter().copied()
    }

    #[inline]
    fn find(&self, label: LabelId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&label, |(known, _)| *known)
    }
}
