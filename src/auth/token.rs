//! Reading a JSON Web Token and judging its claims; RFC 7519, 7515, 8725.
//!
//! jsonwebtoken does the signatures. The claims are judged here, because that library reads the system clock, takes an
//! `iss` that is a list, and checks `aud` and `iss` only when they are there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::fault::AuthRefusal;
use super::file::Names;

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
    /// The claims as JSON, for those whose names are settings.
    json: Vec<u8>,
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
    aud: Names,
    #[serde(default, deserialize_with = "present")]
    pub sub: Option<String>,
    #[serde(default, deserialize_with = "present")]
    client_id: Option<String>,
    /// The client that a token was issued to, as identity providers name it.
    azp: Option<String>,
    /// The same in version 1 tokens of Entra ID.
    appid: Option<String>,
    /// Only in our own tokens: which secret of the client it was issued under.
    #[serde(default, deserialize_with = "present")]
    pub stamp: Option<String>,
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
        let json = object(claims)?;
        let claims: Claims = serde_json::from_slice(&json)
            .map_err(|err| if err.is_data() { AuthRefusal::Claims } else { AuthRefusal::Malformed })?;
        let names = [Some(claims.iss.as_str()), claims.subject(), header.kid.as_deref()];
        if names.into_iter().flatten().any(|name| name.len() > LONGEST_NAME) {
            return Err(AuthRefusal::Claims);
        }
        Ok(Self { message, signature, algorithm, kid: header.kid, claims, json })
    }

    /// The claims of these names that there are: each a text or a list of texts.
    ///
    /// # Errors
    /// `Claims` for one of another type, and for one that is there twice.
    pub(super) fn named(&self, names: &[&str]) -> Result<Vec<Names>, AuthRefusal> {
        let mut json = serde_json::Deserializer::from_slice(&self.json);
        let found = NamedClaims(names).deserialize(&mut json).map_err(|_| AuthRefusal::Claims)?;
        Ok(found.into_iter().map(|(_, claim)| claim).collect())
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
        if self.aud.as_slice().iter().any(|audience| audiences.contains(audience)) {
            Ok(())
        } else {
            Err(AuthRefusal::Audience)
        }
    }

    /// Seconds from `now` until the token is refused.
    pub(super) fn lasts(&self, now: f64) -> f64 {
        self.exp + LEEWAY - now
    }

    /// Whom it was issued to, or for: a client that stands for itself need not be a subject.
    pub(super) fn subject(&self) -> Option<&str> {
        [&self.sub, &self.client_id, &self.azp, &self.appid].into_iter().find_map(Option::as_deref)
    }
}

/// Reads the claims of these names, each with its place among them.
struct NamedClaims<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for NamedClaims<'_> {
    type Value = Vec<(usize, Names)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NamedClaims<'_> {
    type Value = Vec<(usize, Names)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found: Self::Value = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let Some(place) = self.0.iter().position(|known| *known == name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if found.iter().any(|(known, _)| *known == place) {
                return Err(A::Error::custom("a claim is there twice"));
            }
            found.push((place, map.next_value()?));
        }
        Ok(found)
    }
}

/// A part of the token, decoded; only a JSON object, because a list would be read as a struct's members in order.
fn object(part: &str) -> Result<Vec<u8>, AuthRefusal> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthRefusal::Malformed)?;
    if json.trim_ascii_start().first() == Some(&b'{') { Ok(json) } else { Err(AuthRefusal::Malformed) }
}
