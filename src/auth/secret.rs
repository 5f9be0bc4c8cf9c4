//! Secrets that are made here: drawn from the operating system's generator, shown once, kept as salted SHA-256.
//!
//! A secret has 256 random bits, so nobody can try them all and a slow password hash would only slow down requests. The
//! salt makes equal secrets look different; it is sized so that salt and secret fill exactly one block of SHA-256.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use scoreline_domain::text::hex;

/// What an API key begins with; `sk_<id>_<secret>`.
pub(super) const API_KEY: &str = "sk_";
const SALT: usize = 12;
const DIGEST: usize = 32;
/// Characters of an id, 5 random bits each.
const ID_LENGTH: usize = 10;
const ID_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A secret as it is kept: `sha256:<salt>:<digest>` in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct Hashed {
    salt: [u8; SALT],
    digest: [u8; DIGEST],
}

impl Hashed {
    pub(super) fn of(secret: &str) -> Self {
        let salt = random();
        Self { salt, digest: digest(&salt, secret.as_bytes()) }
    }

    /// What no secret matches.
    pub(super) const fn nobody() -> Self {
        Self { salt: [0; SALT], digest: [0; DIGEST] }
    }

    /// Takes the same time wherever the difference is.
    pub(super) fn matches(&self, secret: &[u8]) -> bool {
        digest(&self.salt, secret).ct_eq(&self.digest).into()
    }

    /// Says which secret a token was issued under, without saying anything about it.
    pub(super) fn stamp(&self) -> String {
        hex(&Sha256::new().chain_update(b"stamp").chain_update(self.digest).finalize()[..8])
    }

    fn parse(text: &str) -> Option<Self> {
        let (salt, digest) = text.strip_prefix("sha256:")?.split_once(':')?;
        Some(Self { salt: unhex(salt)?, digest: unhex(digest)? })
    }
}

impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}:{}", hex(&self.salt), hex(&self.digest))
    }
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(..)")
    }
}

impl<'de> Deserialize<'de> for Hashed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = "expected `sha256:<24 hexadecimal digits>:<64 hexadecimal digits>`";
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(expected))
    }
}

impl Serialize for Hashed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A new secret of 256 random bits, in 43 characters.
pub(super) fn new_secret() -> Zeroizing<String> {
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(random());
    Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

/// A new id: letters and digits that are not taken for one another.
pub(super) fn new_id() -> String {
    let letter = |byte: u8| char::from(ID_LETTERS[usize::from(byte) % ID_LETTERS.len()]);
    random::<ID_LENGTH>().into_iter().map(letter).collect()
}

/// Bytes from the generator that also makes the keys of TLS.
///
/// # Panics
/// When the operating system has no randomness; nothing secret can be made then.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let source = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    source.fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N * 2 || !text.is_ascii() {
        return None;
    }
    for (position, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(position * 2..position * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn digest(salt: &[u8], secret: &[u8]) -> [u8; DIGEST] {
    Sha256::new().chain_update(salt).chain_update(secret).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_matches_what_is_kept_of_it_and_nothing_else_does() {
        let secret = new_secret();
        let kept = Hashed::of(&secret);
        assert_eq!(secret.len(), 43);
        assert!(kept.matches(secret.as_bytes()));
        assert!(
            !kept.matches(&secret.as_bytes()[..42]) && !kept.matches(b"") && !kept.matches(new_secret().as_bytes())
        );
        assert_ne!(kept, Hashed::of(&secret), "salted");
        assert_eq!(Hashed::parse(&kept.to_string()), Some(kept.clone()));
        assert!(!format!("{kept:?}").contains(&kept.to_string()[30..]));
        for bad in ["", "sha256::", "md5:00:00", "sha256:é:é"] {
            assert_eq!(Hashed::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_digest_is_the_published_one() {
        // FIPS 180-4's example message "abc".
        assert!(hex(&digest(b"a", b"bc")).starts_with("ba7816bf8f01cfea414140de5dae2223"));
    }

    #[test]
    fn ids_and_secrets_do_not_repeat() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == ID_LENGTH && !id.contains('_')));
    }
}
