//! Who may see the page and act on it. Where nobody is asked for a key, only this machine may; a name that leads here from
//! outside does not make somebody else's page ours.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri};

use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::origin::{comes_from_elsewhere, comes_from_here};
use crate::http::state::SharedState;
use scoreline_listener::PeerAddress;

/// The header that the page's script sends with what it asks for. A form cannot, and a script of another site would have to
/// ask first, which is not answered.
pub(super) static ACTION: HeaderName = HeaderName::from_static("x-scoreline-action");

/// Whether callers are asked for a key, and whether this one is on this machine.
pub(crate) struct PageAccess {
    pub(super) asks_for_a_key: bool,
    is_local: bool,
}

impl FromRequestParts<SharedState> for PageAccess {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &SharedState) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<PeerAddress>().map(|peer| peer.0.ip());
        let is_local =
            peer.is_some_and(|peer| peer.to_canonical().is_loopback()) && is_own_name(&parts.headers, &parts.uri);
        Ok(Self { asks_for_a_key: app.auth.is_some(), is_local })
    }
}

impl PageAccess {
    /// # Errors
    /// For somebody who was not asked for a key and is not on this machine.
    pub(super) fn admit(&self) -> Result<(), ApiError> {
        if self.asks_for_a_key || self.is_local {
            return Ok(());
        }
        let message =
            "without `auth.credentials_file` this page is for this machine only, under its address or `localhost`";
        Err(ApiError::new(Code::Forbidden, message))
    }

    /// # Errors
    /// As `admit`, and for what may come from another site: it has neither the script's header, nor a key, nor does the
    /// browser say that it comes from here.
    pub(super) fn admit_change(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        self.admit()?;
        let is_meant = has_header(headers) || headers.contains_key(AUTHORIZATION) || comes_from_here(headers);
        if is_meant && !comes_from_elsewhere(headers) { Ok(()) } else { Err(ApiError::of_another_site()) }
    }
}

/// Whether the page's own script asks.
pub(super) fn has_header(headers: &HeaderMap) -> bool {
    headers.contains_key(&ACTION)
}

/// Whether the server was called by its address or as `localhost`: any other name may be somebody's that was made to lead
/// here, and his pages would be of the same origin.
fn is_own_name(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).or_else(|| uri.authority().map(Authority::as_str));
    let Some(host) = host else { return !headers.contains_key(ORIGIN) };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_our_name() {
        let called = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("a value"));
            is_own_name(&headers, &Uri::from_static("/"))
        };
        for own in ["localhost", "LOCALHOST:8081", "127.0.0.1:8081", "127.0.0.1", "[::1]:8081", "10.0.0.7"] {
            assert!(called(own), "{own}");
        }
        for other in ["example.com", "example.com:8081", "127.0.0.1.example.com", "localhost.example.com", ""] {
            assert!(!called(other), "{other}");
        }
    }
}
