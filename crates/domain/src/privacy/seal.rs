//! Seals what a customer is called on the platform: needed to write to their profile, and never kept readable.
//!
//! AES-256-GCM under a key derived from the pepper, with a random nonce, bound to the customer's key: a sealed id that is
//! moved to another customer does not open. What was sealed under a previous pepper still opens.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::PrivacySettings;
use crate::{CustomerKey, SealedId};

/// The first byte of everything sealed here, for what may come later.
const VERSION: u8 = 1;
const SALT: &[u8] = b"scoreline sealed id v1";
/// What a sealed pepper is bound to, in the place of a customer's key.
const PEPPER: &[u8] = b"scoreline pepper";
const KEY_LEN: usize = 32;

/// Seals under the current pepper and opens under that and the previous ones. Cheap to clone; without a pepper its key is
/// random and nothing opens after a restart, so one is made for a process and shared.
#[derive(Clone)]
pub struct Sealer {
    /// The current one first.
    keys: Arc<[RandomizedNonceKey]>,
}

/// Why a sealed id does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the customer's id was sealed under another pepper, or for another customer")]
    NotOurs,
    #[error("the customer's sealed id is damaged")]
    Damaged,
}

/// The length that HKDF is asked for.
struct KeyBytes;

impl KeyType for KeyBytes {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

impl Sealer {
    pub fn new(settings: &PrivacySettings) -> Self {
        let peppers = std::iter::once(settings.pepper()).chain(settings.previous.iter().cloned());
        Self { keys: peppers.map(|pepper| key(pepper.expose_secret().as_bytes())).collect() }
    }

    /// The id, readable only to this pepper and together with this customer.
    pub fn seal(&self, customer: &CustomerKey, id: &str) -> SealedId {
        SealedId(self.seal_text(customer.as_bytes(), id).into_boxed_slice())
    }

    /// # Errors
    /// When it was sealed under a pepper that is not known any more, or for another customer, or is damaged.
    pub fn open(&self, customer: &CustomerKey, sealed: &SealedId) -> Result<SecretString, SealError> {
        self.open_text(customer.as_bytes(), &sealed.0)
    }

    /// Another pepper, readable only to this one.
    pub fn seal_pepper(&self, pepper: &SecretString) -> Vec<u8> {
        self.seal_text(PEPPER, pepper.expose_secret())
    }

    /// # Errors
    /// As `open`.
    pub fn open_pepper(&self, sealed: &[u8]) -> Result<SecretString, SealError> {
        self.open_text(PEPPER, sealed)
    }

    fn seal_text(&self, belongs_to: &[u8], text: &str) -> Vec<u8> {
        let mut text = Zeroizing::new(text.as_bytes().to_vec());
        let aad = Aad::from(belongs_to);
        let (nonce, tag) =
            self.keys[0].seal_in_place_separate_tag(aad, &mut text).expect("AES-GCM seals any text this short");
        let parts: [&[u8]; 4] = [&[VERSION], nonce.as_ref(), &text, tag.as_ref()];
        parts.concat()
    }

    fn open_text(&self, belongs_to: &[u8], sealed: &[u8]) -> Result<SecretString, SealError> {
        let (&version, rest) = sealed.split_first().ok_or(SealError::Damaged)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Damaged)?;
        if version != VERSION || text.len() < AES_256_GCM.tag_len() {
            return Err(SealError::Damaged);
        }
        for key in self.keys.iter() {
            let mut text = Zeroizing::new(text.to_vec());
            let aad = Aad::from(belongs_to);
            if let Ok(opened) = key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut text) {
                return str::from_utf8(opened).map(SecretString::from).map_err(|_| SealError::Damaged);
            }
        }
        Err(SealError::NotOurs)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} keys)", self.keys.len())
    }
}

fn key(pepper: &[u8]) -> RandomizedNonceKey {
    let bytes = derived(pepper, SALT, b"aes-256-gcm");
    RandomizedNonceKey::new(&AES_256_GCM, &*bytes).expect("AES-256 takes keys of this length")
}

/// A key of its own for one purpose, by HKDF-SHA-256 (RFC 5869). It says nothing of the pepper, and nothing of the keys of
/// other purposes.
pub(super) fn derived(pepper: &[u8], salt: &[u8], purpose: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    let pseudo_random = Salt::new(HKDF_SHA256, salt).extract(pepper);
    pseudo_random
        .expand(&[purpose], KeyBytes)
        .and_then(|expanded| expanded.fill(&mut *bytes))
        .expect("HKDF gives keys of this length");
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer(pepper: &str, previous: &[&str]) -> Sealer {
        let secret = |text: &str| SecretString::from(text.to_owned());
        let previous = previous.iter().map(|text| secret(text)).collect();
        Sealer::new(&PrivacySettings { pepper: Some(secret(pepper)), previous, ..PrivacySettings::default() })
    }

    fn customer(byte: u8) -> CustomerKey {
        CustomerKey::from_digest([byte; 32])
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_again_and_nothing_else_does(id in ".{0,80}", flipped: usize, bit in 0..8_u8) {
            let ours = sealer("pepper of tests", &[]);
            let sealed = ours.seal(&customer(1), &id);
            let opened = ours.open(&customer(1), &sealed).expect("ours");
            prop_assert_eq!(opened.expose_secret(), &id);
            prop_assert_eq!(ours.open(&customer(2), &sealed).err(), Some(SealError::NotOurs));
            let mut damaged = sealed.0.to_vec();
            let place = flipped % damaged.len();
            damaged[place] ^= 1 << bit;
            prop_assert!(ours.open(&customer(1), &SealedId(damaged.into_boxed_slice())).is_err());
        }
    }

    #[test]
    fn a_sealed_pepper_opens_under_the_one_that_follows_it_alone() {
        let sealed = sealer("new pepper", &[]).seal_pepper(&"old pepper".to_owned().into());
        let opened = sealer("new pepper", &[]).open_pepper(&sealed).expect("ours");
        assert_eq!(opened.expose_secret(), "old pepper");
        assert_eq!(sealer("old pepper", &[]).open_pepper(&sealed).err(), Some(SealError::NotOurs));
    }

    #[test]
    fn a_sealed_id_is_not_readable_and_never_twice_the_same() {
        let ours = sealer("pepper of tests", &[]);
        let id = "6a1f0d2e-0000-4000-8000-0000000000c1";
        let one = ours.seal(&customer(1), id);
        let another = ours.seal(&customer(1), id);
        assert_ne!(one, another);
        assert!(!one.0.windows(8).any(|part| id.as_bytes().windows(8).any(|clear| clear == part)));
    }

    #[test]
    fn a_new_pepper_opens_what_the_one_before_sealed_as_long_as_it_is_known() {
        let sealed = sealer("old pepper", &[]).seal(&customer(1), "contact");
        let opened = sealer("new pepper", &["older", "old pepper"]).open(&customer(1), &sealed).expect("known");
        assert_eq!(opened.expose_secret(), "contact");
        assert_eq!(sealer("new pepper", &[]).open(&customer(1), &sealed).err(), Some(SealError::NotOurs));
        let short = SealedId(vec![VERSION; 20].into_boxed_slice());
        assert_eq!(sealer("x", &[]).open(&customer(1), &short).err(), Some(SealError::Damaged));
    }
}
