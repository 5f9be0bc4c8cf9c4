//! The decision of `POST /oauth/token`: the client credentials grant of RFC 6749 (sections 2.3.1, 3.3, 4.4, 5).

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::book::CredentialBook;
use super::caller::{Scope, Scopes};
use super::mint::Mint;
use super::pace::AddressPaces;

/// A request for a token.
#[derive(Clone, Copy)]
pub struct GrantRequest<'a> {
    /// The value of the one `Authorization` header there is.
    pub authorization: Option<&'a [u8]>,
    pub content_type: Option<&'a [u8]>,
    pub body: &'a [u8],
    /// Where it comes from, when that is known.
    pub from: Option<IpAddr>,
}

/// A token.
pub struct GrantedToken {
    pub access_token: String,
    /// Seconds.
    pub expires_in: u64,
    /// Separated by spaces.
    pub scope: String,
}

/// Why there is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GrantFault {
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// One answer for an unknown client and for a wrong secret.
    #[error("the client is not known or its secret is wrong")]
    InvalidClient,
    #[error("grant_type must be client_credentials")]
    UnsupportedGrantType,
    #[error("scope must name scopes of the client, out of predict, leads, events, admin")]
    InvalidScope,
    #[error("too many requests: try again in {retry_after} s")]
    TooFast {
        /// Whole seconds, at least 1.
        retry_after: u64,
    },
    #[error("the token could not be made")]
    Unavailable,
}

impl GrantFault {
    /// The code of RFC 6749 section 5.2; for what that section does not foresee, the nearest of section 4.1.2.1.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::TooFast { .. } => "temporarily_unavailable",
            Self::Unavailable => "server_error",
        }
    }
}

/// Longest body that is read, in bytes.
const LONGEST_BODY: usize = 8 * 1024;
const MALFORMED: GrantFault = GrantFault::InvalidRequest("the body must be application/x-www-form-urlencoded text");

pub(super) fn grant(
    request: &GrantRequest<'_>,
    book: &CredentialBook,
    mint: &Mint,
    addresses: &AddressPaces,
    now: i64,
    lifetime: Duration,
) -> Result<GrantedToken, GrantFault> {
    let too_fast = |retry_after| GrantFault::TooFast { retry_after };
    addresses.take(request.from).map_err(too_fast)?;
    let form = GrantForm::read(request)?;
    let (id, secret) = form.credentials(request.authorization)?;
    let client = book.client(&id, secret.as_bytes()).ok_or(GrantFault::InvalidClient)?;
    match form.grant_type.as_ref().map(|text| text.as_str()) {
        Some("client_credentials") => {}
        Some("") | None => return Err(GrantFault::InvalidRequest("grant_type is required")),
        Some(_) => return Err(GrantFault::UnsupportedGrantType),
    }
    let own = client.caller.scopes();
    let scopes = match form.scope.as_ref().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        None => own,
        Some(text) => {
            let asked = Scopes::parse(text.split(' ').filter(|name| !name.is_empty()));
            asked.ok().filter(|asked| own.includes(*asked)).ok_or(GrantFault::InvalidScope)?
        }
    };
    // Only now, so that nobody can use up the rate of a client whose secret they do not have. A token costs like a lead.
    client.caller.pace().take(Scope::Leads).map_err(too_fast)?;
    let seconds = lifetime.as_secs();
    let token = mint.issue(&id, &client.stamp, scopes, now, i64::try_from(seconds).unwrap_or(i64::MAX - now));
    let access_token = token.ok_or(GrantFault::Unavailable)?;
    Ok(GrantedToken { access_token, expires_in: seconds, scope: scopes.to_string() })
}

type FormSecret = Zeroizing<String>;

/// The parameters that matter; others are ignored, as the RFC asks.
#[derive(Default)]
struct GrantForm {
    grant_type: Option<FormSecret>,
    scope: Option<FormSecret>,
    client_id: Option<FormSecret>,
    client_secret: Option<FormSecret>,
}

impl GrantForm {
    fn read(request: &GrantRequest<'_>) -> Result<Self, GrantFault> {
        let kind = request.content_type.unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default();
        if !kind.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            return Err(MALFORMED);
        }
        if request.body.len() > LONGEST_BODY {
            return Err(GrantFault::InvalidRequest("the body must be at most 8192 bytes"));
        }
        let mut form = Self::default();
        for pair in request.body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let name = decoded(parts.next().unwrap_or_default())?;
            let value = decoded(parts.next().unwrap_or_default())?;
            let place = match name.as_str() {
                "grant_type" => &mut form.grant_type,
                "scope" => &mut form.scope,
                "client_id" => &mut form.client_id,
                "client_secret" => &mut form.client_secret,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(GrantFault::InvalidRequest("a parameter must not be there twice"));
            }
        }
        Ok(form)
    }

    /// Id and secret out of HTTP Basic or out of the body, not of both.
    fn credentials(&self, authorization: Option<&[u8]>) -> Result<(FormSecret, FormSecret), GrantFault> {
        let Some(header) = authorization else {
            let (Some(id), Some(secret)) = (&self.client_id, &self.client_secret) else {
                return Err(GrantFault::InvalidClient);
            };
            return Ok((id.clone(), secret.clone()));
        };
        let (scheme, encoded) = header.split_at_checked(6).ok_or(GrantFault::InvalidClient)?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return Err(GrantFault::InvalidClient);
        }
        let plain = STANDARD.decode(encoded.trim_ascii()).map_err(|_| GrantFault::InvalidClient)?;
        let plain = Zeroizing::new(plain);
        let colon = plain.iter().position(|byte| *byte == b':').ok_or(GrantFault::InvalidClient)?;
        // Encoded as a form before they are put into the header, section 2.3.1.
        let id = decoded(&plain[..colon]).map_err(|_| GrantFault::InvalidClient)?;
        let secret = decoded(&plain[colon + 1..]).map_err(|_| GrantFault::InvalidClient)?;
        if self.client_secret.is_some() || self.client_id.as_ref().is_some_and(|named| *named != id) {
            return Err(GrantFault::InvalidRequest("the client must use one way to authenticate, not two"));
        }
        Ok((id, secret))
    }
}

/// One name or value of a form.
fn decoded(text: &[u8]) -> Result<FormSecret, GrantFault> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(*digit).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    (Some(_) | None, _) => return Err(MALFORMED),
                }
            }
            plain => *plain,
        });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| MALFORMED)?;
    Ok(Zeroizing::new(text.to_owned()))
}
