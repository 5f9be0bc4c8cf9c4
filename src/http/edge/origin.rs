//! Whether a browser sends a request for a page of another site. Callers that are no browsers say nothing, and pass.

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;

use super::error::{ApiError, Code, error_response};

/// What a browser says of where a request comes from; not sent to plain addresses of other machines.
static SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a browser was made to send by a page of another site: on this machine, nobody is asked for a key.
pub(crate) async fn refuse_other_sites(request: Request, next: Next) -> Response {
    if comes_from_elsewhere(request.headers()) {
        return error_response(ApiError::of_another_site());
    }
    next.run(request).await
}

impl ApiError {
    pub(crate) fn of_another_site() -> Self {
        Self::new(Code::CrossSite, "a page of another site may not ask for this")
    }
}

/// Whether a browser says that a page of another site asks.
pub(crate) fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    match site(headers) {
        Some(site) => site != b"same-origin" && site != b"none",
        None => headers.contains_key(ORIGIN) && !has_own_origin(headers),
    }
}

/// Whether a browser says that a page of this server asks.
pub(crate) fn comes_from_here(headers: &HeaderMap) -> bool {
    match site(headers) {
        Some(site) => site == b"same-origin",
        None => has_own_origin(headers),
    }
}

fn site(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(&SITE).map(axum::http::HeaderValue::as_bytes)
}

/// Whether the origin is the host that is asked. The scheme need not be the one here: TLS may end before.
fn has_own_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(ORIGIN).and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, host)| text(HOST).is_some_and(|own| own.eq_ignore_ascii_case(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is said to come from elsewhere, and from here.
    fn said(headers: &[(&'static str, &str)]) -> (bool, bool) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), value.parse().expect("a value"));
        }
        (comes_from_elsewhere(&map), comes_from_here(&map))
    }

    #[test]
    fn a_browser_says_where_a_request_comes_from() {
        let (elsewhere, here, unsaid) = ((true, false), (false, true), (false, false));
        let own = ("host", "127.0.0.1:8081");
        assert_eq!(said(&[own]), unsaid);
        assert_eq!(said(&[own, ("sec-fetch-site", "same-origin"), ("origin", "null")]), here);
        assert_eq!(said(&[own, ("sec-fetch-site", "none")]), unsaid, "typed by a person");
        for site in ["cross-site", "same-site", "anything"] {
            assert_eq!(said(&[own, ("sec-fetch-site", site), ("origin", "http://127.0.0.1:8081")]), elsewhere);
        }
        assert_eq!(said(&[own, ("origin", "http://127.0.0.1:8081")]), here);
        for origin in ["http://127.0.0.1:9999", "https://example.com", "null", "http://127.0.0.1:8081.example.com"] {
            assert_eq!(said(&[own, ("origin", origin)]), elsewhere, "{origin}");
        }
    }
}
