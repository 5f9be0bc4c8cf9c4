//! Identifiers become keyed hashes at the edge; a raw one is never stored, cached, logged or measured. Personal data in
//! the few fields that are text is refused, a customer can be erased, and what administrators do is written down.

pub mod audit;
pub mod erasure;
mod hash;
pub mod link;
mod rotation;
pub mod screen;
pub mod scrub;
pub mod seal;
pub mod signature;
pub mod tombstones;

use secrecy::SecretString;

pub use erasure::{Erasable, Eraser};
pub use hash::{CustomerKeys, IdHasher, PepperId};
pub use link::{LinkSigner, ViewedConversation};
pub use rotation::PepperChange;
pub use screen::{Identifiers, NumericIds, Screen};
pub use tombstones::{Tombstone, Tombstones};

use crate::time::Timestamp;

/// How identifiers are hashed and what is refused.
#[derive(Clone, Debug, Default)]
pub struct PrivacySettings {
    /// The secret key of the hash; without one a random key is used that nobody else has.
    pub pepper: Option<SecretString>,
    /// Peppers that keys go through before the current one, oldest first: a store tells.
    pub layers: Vec<SecretString>,
    /// Peppers that the settings say were in use before, newest first: what is kept under them is still found.
    pub previous: Vec<SecretString>,
    /// When the previous peppers are no longer tried; never, when absent.
    pub previous_until: Option<Timestamp>,
    pub screen: Screen,
}

/// A pepper that nobody has used before: 64 hexadecimal digits from the system's generator.
pub fn draw_pepper() -> SecretString {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()).into()
}

impl PrivacySettings {
    /// The pepper, or a random one.
    fn pepper(&self) -> SecretString {
        self.pepper.clone().unwrap_or_else(draw_pepper)
    }
}
