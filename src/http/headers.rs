//! Headers that every answer carries. None says that scripts of other sites may read it: there is no CORS.

use axum::http::{HeaderMap, HeaderValue, header};

/// A browser must not guess that an answer is a page or a script.
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
/// An answer is about one customer at one moment: nothing on the way keeps it.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Puts them on a reply.
pub fn secure(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
}
