//! What identifies a bundle's content.

use std::fmt;

use sha2::{Digest as _, Sha256};

use scoreline_domain::text::hex;

/// Everything that identifies a bundle's content: SHA-256 over the manifest and the model file's SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BundleDigest([u8; 32]);

impl BundleDigest {
    pub(super) fn of(manifest: &[u8], model_sha256: [u8; 32]) -> Self {
        Self(Sha256::new().chain_update(manifest).chain_update(model_sha256).finalize().into())
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 of some bytes in hex, as manifests write it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
