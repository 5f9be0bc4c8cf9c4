//! One part of the table: entries in the order of their customers, values packed without loss. Never changed, only
//! replaced.

use super::StoredFeatures;
use super::batch::EntryEdit;
use scoreline_domain::CustomerKey;
use scoreline_domain::feature::{CATALOGUE, CatalogueRow};
use scoreline_domain::time::Timestamp;

/// Stands for "until something new is known".
const FOR_EVER: u32 = u32::MAX;
const SECONDS_A_MINUTE: i64 = 60;

#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: Box<[ShardEntry]>,
    /// The values of all entries, one after the other.
    packed: Box<[u8]>,
    /// Of the entry that has been computed longest ago.
    oldest: Option<i64>,
}

/// The first half of a customer's key, which is a keyed digest: two of a billion customers share it with a probability of
/// 10^-21. The order is the keys' own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryKey([u64; 2]);

/// A customer's place in a shard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShardEntry {
    pub key: EntryKey,
    /// The store's own name of the customer.
    pub number: i64,
    /// Two bits for each feature of the catalogue: its `PackedForm`.
    forms: u64,
    /// Seconds since 1970.
    as_of: u32,
    /// Minutes since 1970, rounded down.
    exact_until: u32,
    /// Where its values begin.
    start: u32,
}

const _: () = assert!(size_of::<ShardEntry>() == 48);
const _: () = assert!(CATALOGUE.len() <= 32, "`ShardEntry::forms` has room for 32 features");

/// How a value is packed. Each form is only taken when it gives back the very same bits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PackedForm {
    Missing,
    /// Four bytes: counts, days, simple shares.
    Single,
    /// Four bytes: amounts of money, in hundredths.
    Hundredths,
    /// Eight bytes.
    Double,
}

/// What became of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    pub stored: u64,
    /// Customers who were there and no longer are.
    pub removed: u64,
}

impl Shard {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.entries) + self.packed.len()
    }

    /// When the entry that was computed longest ago was, in seconds since 1970.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.oldest
    }

    pub(super) fn find(&self, customer: &CustomerKey) -> Option<StoredFeatures> {
        let key = EntryKey::of(customer);
        let at = self.entries.binary_search_by(|entry| entry.key.cmp(&key)).ok()?;
        let entry = &self.entries[at];
        Some(StoredFeatures {
            as_of: Timestamp::from_second(entry.as_of.into()).unwrap_or(Timestamp::UNIX_EPOCH),
            exact_until: (entry.exact_until != FOR_EVER)
                .then(|| Timestamp::from_second(i64::from(entry.exact_until) * SECONDS_A_MINUTE).ok())
                .flatten(),
            values: unpack(entry.forms, &self.packed[entry.start as usize..]),
        })
    }

    /// This shard with `edits`, which are in the order of their customers and have their values in `packed`. Of several of
    /// one customer the last holds.
    pub(super) fn with(&self, edits: &[EntryEdit], packed: &[u8]) -> (Self, Merged) {
        let values: usize = edits.iter().map(|edit| bytes(edit.entry.forms)).sum();
        let mut next = Growing {
            entries: Vec::with_capacity(self.entries.len() + edits.len()),
            packed: Vec::with_capacity(self.packed.len() + values),
        };
        let mut merged = Merged::default();
        let mut kept = self.entries.iter().peekable();
        let last_of_each = edits.chunk_by(|left, right| left.entry.key == right.entry.key);
        for edit in last_of_each.filter_map(<[EntryEdit]>::last) {
            while let Some(entry) = kept.next_if(|entry| entry.key < edit.entry.key) {
                next.keep(entry, &self.packed);
            }
            let was_there = kept.next_if(|entry| entry.key == edit.entry.key).is_some();
            if edit.removes {
                merged.removed += u64::from(was_there);
            } else {
                merged.stored += 1;
                next.keep(&edit.entry, packed);
            }
        }
        for entry in kept {
            next.keep(entry, &self.packed);
        }
        (next.finish(), merged)
    }

    /// This shard without those whose number is gone; `None` when none is.
    pub(super) fn without(&self, is_gone: impl Fn(&i64) -> bool) -> Option<Self> {
        if !self.entries.iter().any(|entry| is_gone(&entry.number)) {
            return None;
        }
        let mut next =
            Growing { entries: Vec::with_capacity(self.entries.len()), packed: Vec::with_capacity(self.packed.len()) };
        for entry in self.entries.iter().filter(|entry| !is_gone(&entry.number)) {
            next.keep(entry, &self.packed);
        }
        Some(next.finish())
    }
}

impl EntryKey {
    pub(super) fn of(customer: &CustomerKey) -> Self {
        let half = |from: usize| {
            customer.as_bytes()[from..].first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_be_bytes(*bytes))
        };
        Self([half(0), half(8)])
    }
}

impl ShardEntry {
    pub(super) fn without_values(key: EntryKey) -> Self {
        Self { key, ..Self::default() }
    }
}

/// An entry whose values are added to `packed`.
pub(super) fn pack_entry(
    customer: &CustomerKey,
    number: i64,
    features: &StoredFeatures,
    packed: &mut Vec<u8>,
) -> ShardEntry {
    // What is packed together is a small part of a table that is in memory: its bytes are counted in 32 bits.
    let start = packed.len() as u32;
    let forms = pack(&features.values, packed);
    let minutes = |until: Timestamp| u32::try_from(until.as_second().div_euclid(SECONDS_A_MINUTE));
    let exact_until = features.exact_until.map_or(FOR_EVER, |until| minutes(until).unwrap_or(0));
    let as_of = u32::try_from(features.as_of.as_second().max(0)).unwrap_or(u32::MAX);
    ShardEntry { key: EntryKey::of(customer), number, forms, as_of, exact_until, start }
}

/// A shard in the making.
struct Growing {
    entries: Vec<ShardEntry>,
    packed: Vec<u8>,
}

impl Growing {
    /// An entry whose values are in `packed`.
    fn keep(&mut self, entry: &ShardEntry, packed: &[u8]) {
        let from = entry.start as usize;
        self.entries.push(ShardEntry { start: self.packed.len() as u32, ..*entry });
        self.packed.extend_from_slice(&packed[from..from + bytes(entry.forms)]);
    }

    fn finish(self) -> Shard {
        let oldest = self.entries.iter().map(|entry| entry.as_of.into()).min();
        Shard { entries: self.entries.into(), packed: self.packed.into(), oldest }
    }
}

impl PackedForm {
    fn of(value: f64) -> Self {
        if value.is_nan() {
            Self::Missing
        } else if f64::from(value as f32).to_bits() == value.to_bits() {
            Self::Single
        } else if from_hundredths(hundredths(value)).to_bits() == value.to_bits() {
            Self::Hundredths
        } else {
            Self::Double
        }
    }

    /// The form at a position of the catalogue.
    fn at(forms: u64, position: usize) -> Self {
        match (forms >> (2 * position)) & 3 {
            0 => Self::Missing,
            1 => Self::Single,
            2 => Self::Hundredths,
            _ => Self::Double,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Single | Self::Hundredths => 4,
            Self::Double => 8,
        }
    }
}

/// Rounded and held within 32 bits: whether it stands for the value is for the caller to see.
fn hundredths(value: f64) -> i32 {
    (value * 100.0).round() as i32
}

fn from_hundredths(hundredths: i32) -> f64 {
    f64::from(hundredths) / 100.0
}

fn bytes(forms: u64) -> usize {
    (0..CATALOGUE.len()).map(|position| PackedForm::at(forms, position).bytes()).sum()
}

fn pack(values: &CatalogueRow, packed: &mut Vec<u8>) -> u64 {
    let mut forms = 0;
    for (position, &value) in values.iter().enumerate() {
        let form = PackedForm::of(value);
        forms |= (form as u64) << (2 * position);
        match form {
            PackedForm::Missing => {}
            PackedForm::Single => packed.extend_from_slice(&(value as f32).to_le_bytes()),
            PackedForm::Hundredths => packed.extend_from_slice(&hundredths(value).to_le_bytes()),
            PackedForm::Double => packed.extend_from_slice(&value.to_le_bytes()),
        }
    }
    forms
}

fn unpack(forms: u64, packed: &[u8]) -> CatalogueRow {
    let mut rest = packed;
    let mut values = [f64::NAN; CATALOGUE.len()];
    for (position, value) in values.iter_mut().enumerate() {
        let form = PackedForm::at(forms, position);
        // What was packed is always there; a value that were not would be missing.
        *value = match form {
            PackedForm::Missing => f64::NAN,
            PackedForm::Single => rest.first_chunk().map_or(f64::NAN, |bytes| f32::from_le_bytes(*bytes).into()),
            PackedForm::Hundredths => {
                rest.first_chunk().map_or(f64::NAN, |bytes| from_hundredths(i32::from_le_bytes(*bytes)))
            }
            PackedForm::Double => rest.first_chunk().map_or(f64::NAN, |bytes| f64::from_le_bytes(*bytes)),
        };
        rest = rest.get(form.bytes()..).unwrap_or_default();
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = f64> {
        prop_oneof![
            Just(f64::NAN),
            any::<f64>(),
            (0..1_000_000_u32).prop_map(f64::from),
            any::<i32>().prop_map(from_hundredths),
            -1.0..1.0,
            Just(-0.0),
            Just(f64::MAX),
        ]
    }

    proptest! {
        #[test]
        fn every_value_comes_back_bit_for_bit(values in prop::array::uniform::<_, { CATALOGUE.len() }>(any_value())) {
            let mut packed = vec![1, 2, 3];
            let forms = pack(&values, &mut packed);
            prop_assert_eq!(packed.len(), 3 + bytes(forms));
            packed.push(9);
            let back = unpack(forms, &packed[3..]);
            for (value, back) in values.iter().zip(back) {
                prop_assert!(value.to_bits() == back.to_bits() || value.is_nan() && back.is_nan(), "{value} {back}");
            }
        }
    }

    #[test]
    fn amounts_counts_and_halves_take_four_bytes() {
        for value in [0.0, 48.0, 0.5, 12.34, 4500.01, -3.0] {
            assert_eq!(PackedForm::of(value).bytes(), 4, "{value}");
        }
        assert_eq!(PackedForm::of(1.0 / 3.0).bytes(), 8);
    }
}
