//! Reading a JSON Web Token and judging its claims; RFC 7519, 7515, 8725.
//!
//! jsonwebtoken does the signatures. The claims are judged here, because that library reads the system clock, takes an
//! `iss` that is a list, and checks `aud` and `iss` only when they are there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::caller::Scopes;
use super::fault::AuthRefusal;

/// Clocks of issuer and server may differ by so many seconds.
pub(super) const LEEWAY: f64 = 30.0;
/// Longest `kid`, `iss`, `sub` or audience that is looked at, in bytes.
const LONGEST_NAME: usize = 512;

/// A token taken apart. Nothing in it is to be believed before `verify`.
pub(super) struct Token<'t> {
    /// What is signed: header and claims as they were sent.
    message: &'t str,
    signature: &'t str,
    algorithm: Algorithm,
    pub kid: Option<String>,
    pub claims: Claims,
}

/// The header members that are understood. `jku`, `x5u`, `jwk` and `x5c` would let a token bring its own key: they are
/// passed over like any other member.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
}

/// A member that is there twice, or is there with the wrong type (a number in quotes, `null`), makes the token invalid.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub iss: String,
    exp: f64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<f64>,
    aud: OneOrMore,
    #[serde(default, deserialize_with = "present")]
    pub sub: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub client_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    scope: Option<OneOrMore>,
    #[serde(default, deserialize_with = "present")]
    scp: Option<OneOrMore>,
    /// Only in our own tokens: which secret of the client it was issued under.
    #[serde(default, deserialize_with = "present")]
    pub stamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let (one, more): (Option<&str>, &[String]) = match self {
            Self::One(one) => (Some(one), &[]),
            Self::More(more) => (None, more),
        };
        one.into_iter().chain(more.iter().map(String::as_str))
    }
}

/// A member that is there has to be of its type: `null` is not "absent".
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'t> Token<'t> {
    /// # Errors
    /// `Malformed`, `Critical`, `Claims` for claims that are missing or of another type, `Algorithm` for a name that is
    /// no signature algorithm of the standard (`none` is none).
    pub(super) fn parse(text: &'t str) -> Result<Self, AuthRefusal> {
        let (message, signature) = text.rsplit_once('.').ok_or(AuthRefusal::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(AuthRefusal::Malformed)?;
        if claims.contains('.') || signature.is_empty() {
            return Err(AuthRefusal::Malformed);
        }
        let header: Header = serde_json::from_slice(&object(header)?).map_err(|_| AuthRefusal::Malformed)?;
        if header.crit.is_some() {
            return Err(AuthRefusal::Critical);
        }
        let expected = |typ: &str| ["JWT", "at+jwt", "application/at+jwt"].iter().any(|t| t.eq_ignore_ascii_case(typ));
        if header.typ.as_deref().is_some_and(|typ| !expected(typ)) {
            return Err(AuthRefusal::Malformed);
        }
        let algorithm = header.alg.parse().map_err(|_| AuthRefusal::Algorithm)?;
        let claims: Claims = serde_json::from_slice(&object(claims)?)
            .map_err(|err| if err.is_data() { AuthRefusal::Claims } else { AuthRefusal::Malformed })?;
        let names = [Some(&claims.iss), claims.sub.as_ref(), claims.client_id.as_ref(), header.kid.as_ref()];
        if names.into_iter().flatten().any(|name| name.len() > LONGEST_NAME) {
            return Err(AuthRefusal::Claims);
        }
        Ok(Self { message, signature, algorithm, kid: header.kid, claims })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `key` made the signature; the caller has seen to it that the key is for the token's algorithm.
    pub(super) fn verify(&self, key: &DecodingKey) -> Result<(), AuthRefusal> {
        match jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), key, self.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(AuthRefusal::Signature),
        }
    }
}

impl Claims {
    /// # Errors
    /// `Expired`, `NotYet` or `Audience`. `now` is in seconds of Unix time.
    pub(super) fn judge(&self, now: f64, audiences: &[String]) -> Result<(), AuthRefusal> {
        // Written so that nothing passes should a number not compare.
        let still_good = self.exp > 0.0 && now < self.exp + LEEWAY;
        if !still_good {
            return Err(AuthRefusal::Expired);
        }
        let begun = |from: Option<f64>| from.is_none_or(|from| from <= now + LEEWAY);
        if !begun(self.nbf) || !begun(self.iat) {
            return Err(AuthRefusal::NotYet);
        }
        if self.aud.iter().any(|audience| audiences.iter().any(|ours| ours == audience)) {
            Ok(())
        } else {
            Err(AuthRefusal::Audience)
        }
    }

    /// Seconds from `now` until the token is refused.
    pub(super) fn lasts(&self, now: f64) -> f64 {
        self.exp + LEEWAY - now
    }

    /// The scopes of ours that are asked for: `scope`, else `scp`; text separated by spaces, or a list. Names that do
    /// not begin with `prefix` are for somebody else.
    pub(super) fn scopes(&self, prefix: &str) -> Scopes {
        let claimed = self.scope.as_ref().or(self.scp.as_ref());
        let names = claimed.into_iter().flat_map(OneOrMore::iter).flat_map(|text| text.split(' '));
        Scopes::known_among(names.filter_map(|name| name.strip_prefix(prefix)))
    }
}

/// A part of the token, decoded; only a JSON object, because a list would be read as a struct's members in order.
fn object(part: &str) -> Result<Vec<u8>, AuthRefusal> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthRefusal::Malformed)?;
    if json.trim_ascii_start().first() == Some(&b'{') { Ok(json) } else { Err(AuthRefusal::Malformed) }
}
