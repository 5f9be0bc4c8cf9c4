//! Headers that we read or write by name. Answers carry none that lets scripts of other sites read them: there is no CORS.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The id of a request, on its way in and out.
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Milliseconds that a caller waits, from the arrival of the request. It lowers `scoring.deadline` for this request and
/// never raises it.
pub(crate) static DEADLINE: HeaderName = HeaderName::from_static("x-deadline-ms");

/// Content type of every answer that is not a batch of lines.
pub(crate) static JSON: HeaderValue = HeaderValue::from_static("application/json");
/// A browser must not guess that an answer is a page or a script.
pub(crate) static NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
/// An answer is about one customer at one moment: nothing on the way keeps it.
pub(crate) static NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Puts on a reply what every reply carries.
pub(crate) fn secure(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING.clone());
    headers.insert(header::CACHE_CONTROL, NO_STORE.clone());
}
