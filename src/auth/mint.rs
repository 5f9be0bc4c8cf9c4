//! The access tokens of our own endpoint: signed with HMAC-SHA-256, because issuer and verifier are the same program.
//!
//! The key is drawn at start, or read from a file so that several replicas take each other's tokens.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::caller::Scopes;
use super::fault::AuthRefusal;
use super::secret::random;
use super::token::Token;
use scoreline_domain::text::hex;

/// `iss` and `aud` of our tokens; no external issuer may have this name.
pub(super) const OURSELVES: &str = "scoreline";
/// Least bytes of a key.
pub(super) const SHORTEST_KEY: usize = 32;

pub(super) struct Mint {
    signing: EncodingKey,
    verifying: DecodingKey,
    kid: String,
    audience: [String; 1],
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    aud: &'static str,
    sub: &'a str,
    scope: String,
    stamp: &'a str,
    iat: i64,
    exp: i64,
    /// Two tokens of the same second differ.
    jti: String,
}

impl Mint {
    pub(super) fn new(key: Option<&[u8]>) -> Self {
        let drawn: Zeroizing<[u8; SHORTEST_KEY]> = Zeroizing::new(random());
        let key = key.unwrap_or(drawn.as_slice());
        let fingerprint = Sha256::new().chain_update(b"kid").chain_update(key).finalize();
        Self {
            signing: EncodingKey::from_secret(key),
            verifying: DecodingKey::from_secret(key),
            kid: hex(&fingerprint[..6]),
            audience: [OURSELVES.to_owned()],
        }
    }

    /// A token for a client; `now` and `lifetime` in seconds. `None` should signing fail.
    pub(super) fn issue(&self, client: &str, stamp: &str, scopes: Scopes, now: i64, lifetime: i64) -> Option<String> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::HS256) };
        let (scope, jti) = (scopes.to_string(), hex(&random::<12>()));
        let exp = now + lifetime;
        let claims = Claims { iss: OURSELVES, aud: OURSELVES, sub: client, scope, stamp, iat: now, exp, jti };
        jsonwebtoken::encode(&header, &claims, &self.signing).ok()
    }

    /// # Errors
    /// When the token is not ours or its time is over; whether its client still exists is for the caller to see.
    pub(super) fn verify(&self, token: &Token<'_>, now: f64) -> Result<(), AuthRefusal> {
        if token.algorithm() != Algorithm::HS256 {
            return Err(AuthRefusal::Algorithm);
        }
        if token.kid.as_deref() != Some(self.kid.as_str()) {
            return Err(AuthRefusal::UnknownKey);
        }
        token.verify(&self.verifying)?;
        token.claims.judge(now, &self.audience)
    }
}
