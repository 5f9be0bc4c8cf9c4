//! Answers as bytes of an HTTP/1.1 connection, for those that do not go through hyper. They look as hyper's do.

use std::cell::RefCell;
use std::io::Write as _;

use axum::http::{HeaderValue, Response};

use scoreline_domain::time::{Clock as _, SystemClock};

/// Head of a usual answer up to the id.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: ";
/// From the id to the length; the same headers as `headers::secure` sets.
const SECURE: &[u8] = b"\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\ncontent-length: ";
const DATE: &[u8] = b"\r\ndate: ";
const END: &[u8] = b"\r\n\r\n";

/// Writes a usual answer: HTTP 200 and JSON.
pub fn reply(id: Option<&HeaderValue>, body: &[u8], out: &mut Vec<u8>) {
    out.reserve(OK.len() + SECURE.len() + DATE.len() + END.len() + 128 + body.len());
    out.extend_from_slice(OK);
    out.extend_from_slice(id.map_or(b"", HeaderValue::as_bytes));
    out.extend_from_slice(SECURE);
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    date(out);
    out.extend_from_slice(body);
}

/// Writes any other answer.
pub fn write(response: &Response<Vec<u8>>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(response.status().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(response.status().canonical_reason().unwrap_or("").as_bytes());
    for (name, value) in response.headers() {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"\r\ncontent-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(response.body().len()).as_bytes());
    date(out);
    out.extend_from_slice(response.body());
}

/// The last header, and the end of the head.
fn date(out: &mut Vec<u8>) {
    thread_local! {
        // Answers of one second are dated alike.
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
        out.extend_from_slice(DATE);
        out.extend_from_slice(text);
    });
    out.extend_from_slice(END);
}
