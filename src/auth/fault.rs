//! Why somebody is not let in. No variant carries what was presented: a refusal can be logged and answered as it is.

use std::sync::Arc;

use super::caller::{Caller, Scope};

/// A request that is not let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthFault {
    /// Nothing was presented.
    #[error("an `authorization: Bearer` header is required")]
    Missing,
    /// HTTP Basic.
    #[error("HTTP Basic is not accepted here: send `authorization: Bearer` with an API key or an access token")]
    Basic,
    /// More than one header, another scheme, or something that is no bearer token.
    #[error("there must be one `authorization` header of the form `Bearer <token>`")]
    Malformed,
    /// A bearer token that is not valid.
    #[error("{0}")]
    Refused(AuthRefusal),
    /// A valid caller without the scope of this route.
    #[error("the scope `{}` is required", .0.as_str())]
    Forbidden(Scope),
    /// A valid caller who asks too often.
    #[error("too many requests: try again in {retry_after} s")]
    TooFast {
        /// Whole seconds, at least 1.
        retry_after: u64,
    },
}

/// Why a request is not let through, and whose it is where the credentials are good.
#[derive(Debug)]
pub struct NotAdmitted {
    pub fault: AuthFault,
    pub caller: Option<Arc<Caller>>,
}

/// Why a bearer token is not valid. What happens before a signature is verified is answered alike, so that nobody
/// learns from the answer how far a forgery got; the codes are for metrics and logs. A key that is not named is said:
/// whoever sends such a token cannot know, and key sets are public.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthRefusal {
    /// Longer than `LONGEST_TOKEN`.
    TooLong,
    /// Not three parts of base64url with JSON objects in the first two.
    Malformed,
    /// An algorithm the key is not for.
    Algorithm,
    /// A critical header extension.
    Critical,
    UnknownIssuer,
    UnknownKey,
    /// The token names no key, and more than one of its issuer's keys fits its algorithm.
    KeyNotNamed,
    /// The issuer's keys could not be refreshed for too long, or never.
    NoKeys,
    Signature,
    /// No such API key, or a wrong secret.
    ApiKey,
    /// A claim is missing or of the wrong type.
    Claims,
    Audience,
    Expired,
    NotYet,
    /// Issued to a client that is gone or has a new secret.
    Revoked,
}

impl AuthRefusal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::UnknownIssuer => "unknown_issuer",
            Self::UnknownKey => "unknown_key",
            Self::KeyNotNamed => "key_not_named",
            Self::NoKeys => "no_keys",
            Self::Signature => "signature",
            Self::ApiKey => "api_key",
            Self::Claims => "claims",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Revoked => "revoked",
        }
    }
}

impl std::fmt::Display for AuthRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Expired => "the bearer token has expired",
            Self::NotYet => "the bearer token is not valid yet",
            Self::Audience => "the bearer token is for another audience",
            Self::Claims => {
                "the bearer token lacks one of the required claims `exp`, `iss` and `aud`, or has a claim of another type"
            }
            Self::KeyNotNamed => "the bearer token must name its key: its issuer has more than one that fits",
            Self::TooLong
            | Self::Malformed
            | Self::Algorithm
            | Self::Critical
            | Self::UnknownIssuer
            | Self::UnknownKey
            | Self::NoKeys
            | Self::Signature
            | Self::ApiKey
            | Self::Revoked => "the bearer token is not valid",
        })
    }
}

impl AuthFault {
    /// For metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Basic => "basic",
            Self::Malformed => "malformed_header",
            Self::Refused(refusal) => refusal.as_str(),
            Self::Forbidden(_) => "scope",
            Self::TooFast { .. } => "rate",
        }
    }

    /// The `WWW-Authenticate` header that RFC 6750 section 3 asks for; `None` where authentication is not the matter.
    pub fn challenge(self) -> Option<&'static str> {
        match self {
            // No error code when nothing was tried, so says the RFC.
            Self::Missing | Self::Basic => Some("Bearer"),
            Self::Malformed => Some("Bearer error=\"invalid_request\""),
            Self::Refused(_) => Some("Bearer error=\"invalid_token\""),
            Self::Forbidden(scope) => Some(match scope {
                Scope::Predict => "Bearer error=\"insufficient_scope\", scope=\"predict\"",
                Scope::Leads => "Bearer error=\"insufficient_scope\", scope=\"leads\"",
                Scope::Events => "Bearer error=\"insufficient_scope\", scope=\"events\"",
                Scope::Admin => "Bearer error=\"insufficient_scope\", scope=\"admin\"",
            }),
            Self::TooFast { .. } => None,
        }
    }
}

impl From<AuthFault> for NotAdmitted {
    fn from(fault: AuthFault) -> Self {
        Self { fault, caller: None }
    }
}

impl From<AuthRefusal> for AuthFault {
    fn from(refusal: AuthRefusal) -> Self {
        Self::Refused(refusal)
    }
}
