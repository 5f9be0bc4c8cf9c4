//! Identifiers become keyed hashes at the edge; a raw one is never stored, cached, logged or measured.

mod hash;

pub use hash::{IdHasher, PrivacySettings};
