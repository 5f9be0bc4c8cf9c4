//! Signed links: whoever has one may look at one conversation's score until it expires, and at nothing else.
//!
//! A token is `version (1) | key id (4) | expiry (8) | conversation (32) | customer (32) | HMAC-SHA-256 (32)` in Base64 for URLs.
//! The conversation is a keyed hash, the customer the digest of one: a link holds no identifier, and no key of the store.
//! All of it is signed. Of two keys the newest signs and both are taken, so that a change of the key ends no link.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use super::seal::derived;
use super::{PrivacySettings, Tombstone};
use crate::CustomerKey;
use crate::time::Timestamp;

/// The first byte of every token, for what may come later.
const VERSION: u8 = 1;
const SIGNED: usize = 1 + KEY_ID + 8 + 32 + 32;
const KEY_ID: usize = 4;
const MAC: usize = 32;
/// What a key's id is made of: it says nothing of the key.
const KEY_LABEL: &[u8] = b"scoreline link key id";
const SALT: &[u8] = b"scoreline signed link v1";
/// The place of a customer in a link to a conversation of nobody.
const NOBODY: [u8; 32] = [0; 32];

/// Signs links, and reads those it signed. Cheap to clone.
#[derive(Clone)]
pub struct LinkSigner {
    /// The newest first.
    keys: Arc<[LinkKey]>,
    lasts: Duration,
}

struct LinkKey {
    id: [u8; KEY_ID],
    keyed: Hmac<Sha256>,
}

/// What a link lets somebody look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewedConversation {
    /// Keyed hash of the conversation's identifier.
    pub conversation: [u8; 32],
    /// Whom the conversation was with when the link was made; nobody, where that was not known.
    pub customer: Option<Tombstone>,
}

/// Why a link is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    #[error("it is no link of this server")]
    Malformed,
    #[error("it is signed with a key that is not known")]
    UnknownKey,
    #[error("it is not signed with the key it names")]
    Forged,
    #[error("it has expired")]
    Expired,
}

impl LinkSigner {
    /// With these keys, the newest first; without any, with one that follows from the pepper, so that replicas take one another's
    /// links. Links last for so long.
    pub fn new(keys: &[SecretString], privacy: &PrivacySettings, lasts: Duration) -> Self {
        let keys: Arc<[_]> = if keys.is_empty() {
            let pepper = privacy.pepper();
            let key = derived(pepper.expose_secret().as_bytes(), SALT, b"hmac-sha-256");
            Arc::new([LinkKey::new(&*key)])
        } else {
            keys.iter().map(|key| LinkKey::new(key.expose_secret().as_bytes())).collect()
        };
        Self { keys, lasts }
    }

    /// The token of a link to a conversation with this customer.
    pub fn sign(&self, conversation: &[u8; 32], customer: Option<&CustomerKey>, now: Timestamp) -> String {
        let key = &self.keys[0];
        let expiry = now.as_second().saturating_add_unsigned(self.lasts.as_secs());
        let customer = customer.map_or(NOBODY, |customer| Tombstone::of(customer).0);
        let mut token = Vec::with_capacity(SIGNED + MAC);
        token.push(VERSION);
        token.extend_from_slice(&key.id);
        token.extend_from_slice(&expiry.to_be_bytes());
        token.extend_from_slice(conversation);
        token.extend_from_slice(&customer);
        let mac = key.keyed.clone().chain_update(&token).finalize().into_bytes();
        token.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What the link of this token may look at. Signatures are compared in constant time.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<ViewedConversation, LinkFault> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| LinkFault::Malformed)?;
        let (signed, mac) = bytes.split_first_chunk::<SIGNED>().ok_or(LinkFault::Malformed)?;
        if signed[0] != VERSION || mac.len() != MAC {
            return Err(LinkFault::Malformed);
        }
        let (id, rest) = signed[1..].split_first_chunk::<KEY_ID>().ok_or(LinkFault::Malformed)?;
        let key = self.keys.iter().find(|key| key.id == *id).ok_or(LinkFault::UnknownKey)?;
        key.keyed.clone().chain_update(signed).verify_slice(mac).map_err(|_| LinkFault::Forged)?;
        let (expiry, rest) = rest.split_first_chunk::<8>().ok_or(LinkFault::Malformed)?;
        let (conversation, customer) = rest.split_first_chunk::<32>().ok_or(LinkFault::Malformed)?;
        if now.as_second() >= i64::from_be_bytes(*expiry) {
            return Err(LinkFault::Expired);
        }
        let customer: [u8; 32] = customer.try_into().map_err(|_| LinkFault::Malformed)?;
        let customer = (customer != NOBODY).then_some(Tombstone(customer));
        Ok(ViewedConversation { conversation: *conversation, customer })
    }
}

impl LinkKey {
    fn new(key: &[u8]) -> Self {
        let keyed = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        let label = keyed.clone().chain_update(KEY_LABEL).finalize().into_bytes();
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&label[..KEY_ID]);
        Self { id, keyed }
    }
}

impl fmt::Debug for LinkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkSigner({} keys)", self.keys.len())
    }
}

impl LinkFault {
    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Forged => "forged",
            Self::Expired => "expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOURS: Duration = Duration::from_hours(4);

    fn signer(keys: &[&str]) -> LinkSigner {
        let keys: Vec<_> = keys.iter().map(|key| SecretString::from((*key).to_owned())).collect();
        LinkSigner::new(&keys, &PrivacySettings::default(), HOURS)
    }

    fn of_pepper(pepper: &str) -> LinkSigner {
        let pepper = Some(SecretString::from(pepper.to_owned()));
        LinkSigner::new(&[], &PrivacySettings { pepper, ..PrivacySettings::default() }, HOURS)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    fn customer(byte: u8) -> CustomerKey {
        CustomerKey::from_digest([byte; 32])
    }

    #[test]
    fn a_link_shows_one_conversation_until_it_expires() {
        let signer = signer(&["the first key of these tests"]);
        let token = signer.sign(&[7; 32], Some(&customer(1)), at(0));
        let viewed = ViewedConversation { conversation: [7; 32], customer: Some(Tombstone::of(&customer(1))) };
        assert_eq!(signer.check(&token, at(0)), Ok(viewed));
        assert_eq!(signer.check(&token, at(4 * 3600 - 1)), Ok(viewed));
        assert_eq!(signer.check(&token, at(4 * 3600)), Err(LinkFault::Expired));
        let nobodys = signer.sign(&[7; 32], None, at(0));
        assert_eq!(signer.check(&nobodys, at(1)), Ok(ViewedConversation { customer: None, ..viewed }));
        assert_eq!(token.len(), 146);
    }

    #[test]
    fn the_key_before_is_taken_and_one_before_that_is_not() {
        let (first, second, third) = ("first key of three", "second key of three", "third key of three");
        let old = signer(&[first]).sign(&[7; 32], None, at(0));
        assert!(signer(&[second, first]).check(&old, at(1)).is_ok());
        assert_eq!(signer(&[third, second]).check(&old, at(1)), Err(LinkFault::UnknownKey));
        let new = signer(&[second, first]).sign(&[7; 32], None, at(0));
        assert!(signer(&[second]).check(&new, at(1)).is_ok(), "the newest signs");
    }

    #[test]
    fn without_a_key_replicas_of_one_pepper_take_one_anothers_links() {
        let token = of_pepper("a pepper of two").sign(&[7; 32], None, at(0));
        assert!(of_pepper("a pepper of two").check(&token, at(1)).is_ok());
        assert_eq!(of_pepper("another pepper").check(&token, at(1)), Err(LinkFault::UnknownKey));
    }

    proptest! {
        #[test]
        fn a_link_that_was_changed_anywhere_is_refused(place in 0..SIGNED + MAC, bit in 0..8_u8) {
            let signer = signer(&["the first key of these tests"]);
            let token = signer.sign(&[7; 32], Some(&customer(1)), at(0));
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).expect("Base64");
            bytes[place] ^= 1 << bit;
            prop_assert!(signer.check(&URL_SAFE_NO_PAD.encode(bytes), at(1)).is_err());
        }

        #[test]
        fn no_other_text_is_a_link(text in "\\PC{0,200}") {
            prop_assert!(signer(&["the first key of these tests"]).check(&text, at(1)).is_err());
        }

        #[test]
        fn a_shorter_or_longer_link_is_refused(cut in 0..145_usize, more in "[A-Za-z0-9_-]{1,8}") {
            let signer = signer(&["the first key of these tests"]);
            let token = signer.sign(&[7; 32], None, at(0));
            prop_assert!(signer.check(&token[..cut], at(1)).is_err());
            let longer = format!("{token}{more}");
            prop_assert!(signer.check(&longer, at(1)).is_err());
        }
    }
}
