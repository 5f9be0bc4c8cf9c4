//! `HMAC-SHA-256(pepper, id)`: a plain SHA-256 of a phone number is reversible in hours on one core, so a caller's own
//! hash is hashed again under a secret.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::domain::CustomerKey;

/// How identifiers are hashed.
#[derive(Clone, Debug, Default)]
pub struct PrivacySettings {
    /// The secret key of the hash; without one a random key is used and keys differ after a restart.
    pub pepper: Option<SecretString>,
}

/// Hashes identifiers under one pepper. Cheap to clone.
#[derive(Clone)]
pub struct IdHasher {
    keyed: Arc<Hmac<Sha256>>,
}

impl IdHasher {
    pub fn new(settings: &PrivacySettings) -> Self {
        let random = || [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
        let key = settings.pepper.as_ref().map_or_else(random, |pepper| pepper.expose_secret().as_bytes().to_vec());
        let keyed = Hmac::new_from_slice(&key);
        Self { keyed: Arc::new(keyed.expect("HMAC takes keys of any length")) }
    }

    pub fn key(&self, id: &str) -> CustomerKey {
        let mut mac = Hmac::clone(&self.keyed);
        mac.update(id.as_bytes());
        CustomerKey::from_digest(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher(pepper: &str) -> IdHasher {
        IdHasher::new(&PrivacySettings { pepper: Some(SecretString::from(pepper.to_owned())) })
    }

    #[test]
    fn keys_match_the_published_hmac_vector() {
        // RFC 4231, test case 2.
        let key = hasher("Jefe").key("what do ya want for nothing?");
        let published = 0x5bdc_c146_bf60_754e_6a04_2426_0895_75c7_u128.to_be_bytes();
        assert_eq!(key.as_bytes()[..16], published);
    }

    #[test]
    fn another_pepper_or_process_gives_another_key() {
        assert_ne!(hasher("a").key("CUST-1"), hasher("b").key("CUST-1"));
        let random = PrivacySettings::default();
        assert_ne!(IdHasher::new(&random).key("CUST-1"), IdHasher::new(&random).key("CUST-1"));
    }
}
