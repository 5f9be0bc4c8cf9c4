//! The platform's identifiers: UUIDs that can be read back, so that nothing has to be looked up.

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::draw::{mix, pair};

/// A UUID as the platform writes it: lower case, with dashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(pub(super) [u8; 16]);

/// What a readable UUID stands for; part of what it is made of.
#[derive(Clone, Copy, Debug)]
pub(super) enum IdKind {
    Conversation = 1,
    Contact,
    Queue,
    Agent,
    Topic,
    WrapUp,
    Division,
    Part,
    Job,
    Correlation,
}

/// Bits of the value that a readable UUID carries.
pub(super) const VALUE_BITS: u32 = 56;
const VALUE: u64 = (1 << VALUE_BITS) - 1;

impl Id {
    /// The UUID of `value` (`VALUE_BITS` bits) in the world of `seed`. It has the form of a random one (version 4).
    pub(super) fn of(seed: u64, kind: IdKind, value: u64) -> Self {
        let high = upper(seed, kind, value);
        let mask = pair(seed, high ^ kind as u64);
        let low = (value & VALUE) ^ (mask & (VALUE | 0x3F << VALUE_BITS)) | 0x80 << VALUE_BITS;
        Self((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    /// The value it was made of; `None` when it is of another kind, of another world or of nobody's making.
    pub(super) fn value(self, seed: u64, kind: IdKind) -> Option<u64> {
        let whole = u128::from_be_bytes(self.0);
        let high = (whole >> 64) as u64;
        let low = whole as u64;
        let value = (low ^ pair(seed, high ^ kind as u64)) & VALUE;
        (Self::of(seed, kind, value) == self).then_some(value)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(|id| Self(id.into_bytes()))
    }

    /// Some digits of it, for what is derived from it.
    pub(super) fn digits(self) -> u32 {
        u128::from_be_bytes(self.0) as u32 % 10_000_000
    }
}

fn upper(seed: u64, kind: IdKind, value: u64) -> u64 {
    pair(seed ^ mix(kind as u64), value) & !0xF000 | 0x4000
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
        serializer.serialize_str(Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_can_be_read_back_in_its_world_only() {
        for value in [0, 1, 77, 0x00FF_FFFF_FFFF_FFFF, 0x0012_3456_789A_BCDE] {
            let id = Id::of(7, IdKind::Conversation, value);
            assert_eq!(id.value(7, IdKind::Conversation), Some(value));
            assert_eq!(id.value(8, IdKind::Conversation), None);
            assert_eq!(id.value(7, IdKind::Contact), None);
            let uuid = Uuid::from_bytes(id.0);
            assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, uuid::Variant::RFC4122));
            assert_eq!(Id::parse(&id.to_string()), Some(id));
        }
    }
}
