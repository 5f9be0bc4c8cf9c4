//! Where the platform's names end: customers become keyed hashes and sealed ids, conversations become ids, and what a
//! name was is forgotten.

use scoreline_domain::privacy::IdHasher;
use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::{CustomerKey, InteractionId, SealedId};

#[derive(Clone)]
pub(crate) struct Identity {
    hasher: IdHasher,
    sealer: Sealer,
}

impl Identity {
    pub(crate) fn new(hasher: IdHasher, sealer: Sealer) -> Self {
        Self { hasher, sealer }
    }

    /// A customer by their id on the platform.
    pub(crate) fn customer(&self, contact: &str) -> (CustomerKey, SealedId) {
        let key = self.hasher.key(contact);
        (key, self.sealer.seal(&key, contact))
    }

    /// The UUID, or the first half of the keyed hash of what is none.
    pub(crate) fn interaction(&self, id: &str) -> InteractionId {
        const UUID: usize = 36;
        let uuid = (id.len() == UUID).then(|| uuid::Uuid::try_parse(id).ok()).flatten();
        InteractionId(uuid.map_or_else(|| first_half(&self.hasher.lasting_key(id)), uuid::Uuid::into_bytes))
    }
}

fn first_half(key: &CustomerKey) -> [u8; 16] {
    key.as_bytes().first_chunk().copied().unwrap_or_default()
}
