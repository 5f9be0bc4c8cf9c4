//! An issuer's public keys as JWKS (RFC 7517), each with the algorithms it may be used with. That set follows from the
//! key and the operator's settings and never from a token.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::fault::AuthRefusal;

/// Largest document, in bytes.
pub(super) const LARGEST: usize = 1 << 20;
/// Most keys of an issuer.
const MOST_KEYS: usize = 100;

/// What an operator may allow: signatures whose verifier cannot forge one.
pub(super) const ALLOWED: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The keys of an issuer.
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// SHA-256 of the document: says whether anything changed.
    pub digest: [u8; 32],
}

struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    verifying: DecodingKey,
}

/// Why a document cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum KeySetFault {
    #[error("is larger than {LARGEST} bytes")]
    TooLarge,
    #[error("is not a JSON object with a list `keys`")]
    NotAKeySet,
    #[error("holds more than {MOST_KEYS} keys")]
    TooManyKeys,
    #[error("holds no key for the allowed algorithms")]
    NoUsableKey,
}

#[derive(Deserialize)]
struct Document {
    /// Read one by one, so that a key of a kind that is not known does not cost the others.
    keys: Vec<Value>,
}

impl KeySet {
    /// # Errors
    /// When there is nothing in it to verify with.
    pub(super) fn parse(document: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetFault> {
        if document.len() > LARGEST {
            return Err(KeySetFault::TooLarge);
        }
        let Document { keys } = serde_json::from_slice(document).map_err(|_| KeySetFault::NotAKeySet)?;
        if keys.len() > MOST_KEYS {
            return Err(KeySetFault::TooManyKeys);
        }
        let keys: Vec<_> = keys.into_iter().filter_map(|key| Key::read(key, allowed)).collect();
        if keys.is_empty() {
            return Err(KeySetFault::NoUsableKey);
        }
        Ok(Self { keys, digest: Sha256::digest(document).into() })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key with this id; without an id, the only key that fits.
    ///
    /// # Errors
    /// `UnknownKey`, `Algorithm` when the key of this id is not for it, `KeyNotNamed` when several fit and none is named.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, AuthRefusal> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        let Some(kid) = kid else {
            let key = fitting.next().ok_or(AuthRefusal::UnknownKey)?;
            return if fitting.next().is_none() { Ok(&key.verifying) } else { Err(AuthRefusal::KeyNotNamed) };
        };
        let is_named = |key: &&Key| key.kid.as_deref() == Some(kid);
        // Ids may repeat across kinds of keys.
        match fitting.find(is_named) {
            Some(key) => Ok(&key.verifying),
            None if self.keys.iter().any(|key| is_named(&key)) => Err(AuthRefusal::Algorithm),
            None => Err(AuthRefusal::UnknownKey),
        }
    }
}

impl Key {
    fn read(value: Value, allowed: &[Algorithm]) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
            return None;
        }
        let fitting: &[Algorithm] = if let AlgorithmParameters::RSA(_) = &jwk.algorithm {
            &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ]
        } else if let AlgorithmParameters::EllipticCurve(ec) = &jwk.algorithm {
            if ec.curve == EllipticCurve::P256 {
                &[Algorithm::ES256]
            } else if ec.curve == EllipticCurve::P384 {
                &[Algorithm::ES384]
            } else {
                return None;
            }
        } else if let AlgorithmParameters::OctetKeyPair(pair) = &jwk.algorithm
            && pair.curve == EllipticCurve::Ed25519
        {
            &[Algorithm::EdDSA]
        } else {
            // A symmetric key in a public document is no secret.
            return None;
        };
        let own = jwk.common.key_algorithm;
        let algorithms: Vec<_> = fitting
            .iter()
            .copied()
            .filter(|algorithm| allowed.contains(algorithm) && own.is_none_or(|own| own == (*algorithm).into()))
            .collect();
        if algorithms.is_empty() {
            return None;
        }
        Some(Self { verifying: DecodingKey::from_jwk(&jwk).ok()?, kid: jwk.common.key_id, algorithms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: &str = r#"{"kty":"EC","crv":"P-256","kid":"a","use":"sig",
        "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;
    const OKP: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"b","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const OCT: &str = r#"{"kty":"oct","kid":"c","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T","alg":"HS256"}"#;

    fn all() -> Vec<Algorithm> {
        ALLOWED.iter().map(|(_, algorithm)| *algorithm).collect()
    }

    fn set(keys: &[&str], allowed: &[Algorithm]) -> Result<KeySet, KeySetFault> {
        KeySet::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes(), allowed)
    }

    #[test]
    fn a_key_is_found_by_its_id_and_only_for_its_algorithms() {
        let keys = set(&[EC, OKP, OCT, r#"{"kty":"future"}"#, "17"], &all()).expect("usable");
        assert_eq!(keys.len(), 2);
        let found = |kid, algorithm| keys.find(kid, algorithm).map(|_| ());
        assert_eq!(found(Some("a"), Algorithm::ES256), Ok(()));
        assert_eq!(found(Some("a"), Algorithm::ES384), Err(AuthRefusal::Algorithm));
        assert_eq!(found(Some("a"), Algorithm::HS256), Err(AuthRefusal::Algorithm));
        assert_eq!(found(Some("b"), Algorithm::EdDSA), Ok(()));
        assert_eq!(found(Some("c"), Algorithm::HS256), Err(AuthRefusal::UnknownKey), "symmetric keys are not taken");
        assert_eq!(found(Some("../a"), Algorithm::ES256), Err(AuthRefusal::UnknownKey));
        assert_eq!((found(None, Algorithm::ES256), found(None, Algorithm::EdDSA)), (Ok(()), Ok(())));
        assert_eq!(found(None, Algorithm::RS256), Err(AuthRefusal::UnknownKey), "none fits");
        let two = set(&[EC, &EC.replace("\"a\"", "\"d\""), OKP], &all()).expect("usable");
        let unnamed = |algorithm| two.find(None, algorithm).map(|_| ());
        assert_eq!(unnamed(Algorithm::ES256), Err(AuthRefusal::KeyNotNamed));
        assert_eq!(unnamed(Algorithm::EdDSA), Ok(()));
    }

    #[test]
    fn what_can_not_be_used_is_refused() {
        let fault = |document: &[u8]| KeySet::parse(document, &all()).err();
        for bad in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>", r#"{"keys":7}"#] {
            assert_eq!(fault(bad.as_bytes()), Some(KeySetFault::NotAKeySet), "{bad}");
        }
        assert_eq!(fault(br#"{"keys":[]}"#), Some(KeySetFault::NoUsableKey));
        assert_eq!(set(&[OCT], &all()).err(), Some(KeySetFault::NoUsableKey));
        assert_eq!(set(&[EC], &[Algorithm::RS256]).err(), Some(KeySetFault::NoUsableKey));
        let encrypting = EC.replace("\"sig\"", "\"enc\"");
        assert_eq!(set(&[&encrypting], &all()).err(), Some(KeySetFault::NoUsableKey));
        let other = EC.replace("\"use\":\"sig\"", "\"alg\":\"ES384\"");
        assert_eq!(set(&[&other], &all()).err(), Some(KeySetFault::NoUsableKey));
        assert_eq!(fault(&vec![b' '; LARGEST + 1]), Some(KeySetFault::TooLarge));
        assert_eq!(set(&[EC; 101], &all()).err(), Some(KeySetFault::TooManyKeys));
    }
}
