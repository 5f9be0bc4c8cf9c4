//! Which conversations of a window were seen: what tells whether pages that moved under the reader have left any out.
//! Kept with the position, so six bytes for each, of a hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

const BYTES: usize = 6;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen(BTreeSet<[u8; BYTES]>);

impl Seen {
    /// Whether it was not there before.
    pub(super) fn add(&mut self, id: &str) -> bool {
        let digest = Sha256::digest(id.as_bytes());
        digest.first_chunk().is_some_and(|first| self.0.insert(*first))
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flatten().copied().collect();
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        let (chunks, []) = bytes.as_chunks::<BYTES>() else {
            return Err(D::Error::custom("ids of conversations are cut off"));
        };
        Ok(Self(chunks.iter().copied().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_after_a_restart() {
        let mut seen = Seen::default();
        let ids: Vec<_> = (0..20_000).map(|number| format!("6a1f0d2e-0000-4000-8000-{number:012}")).collect();
        assert!(ids.iter().all(|id| seen.add(id)));
        let kept = serde_json::to_string(&seen).expect("JSON");
        assert_eq!(kept.len(), 20_000 * 8 + 2);
        let mut again: Seen = serde_json::from_str(&kept).expect("JSON");
        assert_eq!(again, seen);
        assert!(ids.iter().all(|id| !again.add(id)));
        assert_eq!(again.len(), 20_000);
        assert!(serde_json::from_str::<Seen>("\"AAAA\"").is_err());
    }
}
