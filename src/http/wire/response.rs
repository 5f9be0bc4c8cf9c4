//! Answers as responses, and as bytes of an HTTP/1.1 connection for the lane: the same headers in the same order as
//! hyper writes them.

use std::cell::RefCell;
use std::io::Write as _;

use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;

use crate::http::edge::headers::{JSON, NO_SNIFFING, NO_STORE, REQUEST_ID};
use scoreline_domain::time::{Clock as _, SystemClock};

/// An answer to a live call: HTTP 200 and JSON. Everything else is an `ApiError`.
pub(crate) struct Reply {
    pub body: Vec<u8>,
    /// The id that the body shows.
    pub request_id: Option<HeaderValue>,
}

/// Behind the router, where `observe` adds what every answer carries.
impl IntoResponse for Reply {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(self.body.into());
        response.headers_mut().insert(header::CONTENT_TYPE, JSON.clone());
        if let Some(id) = self.request_id {
            response.headers_mut().insert(REQUEST_ID.clone(), id);
        }
        response
    }
}

impl Reply {
    /// Writes the whole response.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let headers = [
            ("content-type", JSON.as_bytes()),
            (REQUEST_ID.as_str(), self.request_id.as_ref().map_or(b"", HeaderValue::as_bytes)),
            ("x-content-type-options", NO_SNIFFING.as_bytes()),
            ("cache-control", NO_STORE.as_bytes()),
        ];
        write(StatusCode::OK, headers.into_iter(), &self.body, out);
    }
}

/// Writes a finished response.
pub(crate) fn write_response(response: &Response<Vec<u8>>, out: &mut Vec<u8>) {
    let headers = response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    write(response.status(), headers, response.body(), out);
}

fn write<'a>(status: StatusCode, headers: impl Iterator<Item = (&'a str, &'a [u8])>, body: &[u8], out: &mut Vec<u8>) {
    out.reserve(USUAL_HEAD + body.len());
    for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or("")] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        field(name, value, out);
    }
    field("content-length", itoa::Buffer::new().format(body.len()).as_bytes(), out);
    with_date(|date| field("date", date, out));
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// Room for the usual head.
const USUAL_HEAD: usize = 384;

fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    for part in [b"\r\n", name.as_bytes(), b": ", value] {
        out.extend_from_slice(part);
    }
}

/// The time of the moment. Answers of one second are dated alike.
fn with_date(take: impl FnOnce(&[u8])) {
    thread_local! {
        static LAST: RefCell<(i64, Vec<u8>)> = const { RefCell::new((i64::MIN, Vec::new())) };
    }
    let second = SystemClock.now().as_second();
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second {
            *last = second;
            text.clear();
            let since = std::time::Duration::from_secs(u64::try_from(second).unwrap_or(0));
            let _ = write!(text, "{}", httpdate::HttpDate::from(std::time::UNIX_EPOCH + since));
        }
        take(text);
    });
}
