//! Requests that need nothing HTTP is rich in: they have come whole, say whom they are for and how long their body is, and ask
//! for nothing of the connection. hyper is there for all others, and for everything that is wrong with a request.

use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};

use super::Limits;
use super::head::is_host;

/// Most headers of a request that is looked at here; `Limits::headers` may be lower.
const MOST_HEADERS: usize = 64;

/// A `POST` over HTTP/1.1, whole.
pub struct Plain<'a> {
    pub path: &'a str,
    pub body: &'a [u8],
    headers: &'a [Header<'a>],
}

impl<'a> Plain<'a> {
    /// Names in whatever case they came.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }
}

/// What the first bytes of a buffer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferResult {
    /// A plain request of that many bytes, which was taken.
    Taken(usize),
    /// So far nothing that could not become a plain request. Also when the buffer is empty.
    Part,
    /// Something for hyper.
    Other,
}

/// Offers the request at the beginning of `bytes` to `take`, which says whether it took it.
///
/// Whoever reads the body in another way than the client (or a proxy on the way) meant it, reads its end as a request of
/// somebody else's. So there is one way to give its length here, and it is the only one present.
pub fn offer(bytes: &[u8], limits: &Limits, take: impl FnOnce(&Plain<'_>) -> bool) -> OfferResult {
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_HEADERS];
    let mut request = Request::new(&mut []);
    let head = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Complete(head)) => head,
        Ok(Status::Partial) if bytes.len() < limits.head_bytes => return OfferResult::Part,
        Ok(Status::Partial) | Err(_) => return OfferResult::Other,
    };
    let (Some("POST"), Some(1), Some(path)) = (request.method, request.version, request.path) else {
        return OfferResult::Other;
    };
    if head > limits.head_bytes || request.headers.len() > limits.headers {
        return OfferResult::Other;
    }
    let Some(length) = length(request.headers) else { return OfferResult::Other };
    let Some(end) = head.checked_add(length) else { return OfferResult::Other };
    match bytes.get(head..end) {
        Some(body) if take(&Plain { path, body, headers: request.headers }) => OfferResult::Taken(end),
        Some(_) => OfferResult::Other,
        None => OfferResult::Part,
    }
}

/// The length of the body, unless anything else in the head is about the connection or the body, or it has not one host.
fn length(headers: &[Header<'_>]) -> Option<usize> {
    let mut length = None;
    let mut has_host = false;
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            14 if is("content-length") => {
                let digits = header.value;
                // Nine digits cannot overflow, and are far more than is taken here.
                let few = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
                if !few || length.is_some() {
                    return None;
                }
                length = Some(digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')));
            }
            4 if is("host") => {
                if has_host || !is_host(header.value) {
                    return None;
                }
                has_host = true;
            }
            17 if is("transfer-encoding") => return None,
            10 if is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive") => return None,
            6 if is("expect") => return None,
            7 if is("upgrade") || is("trailer") => return None,
            2 if is("te") => return None,
            16 if is("content-encoding") || is("proxy-connection") => return None,
            _ => {}
        }
    }
    length.filter(|_| has_host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    fn offered(bytes: &[u8]) -> (OfferResult, Option<Vec<u8>>) {
        let mut body = None;
        let found = offer(bytes, &Limits::default(), |plain| {
            body = Some(plain.body.to_vec());
            true
        });
        (found, body)
    }

    #[test]
    fn one_length_and_nothing_else_about_the_body() {
        let raw = |headers: &str| format!("POST /x HTTP/1.1\r\n{headers}\r\nbody and more").into_bytes();
        let request = |headers: &str| raw(&format!("host: x\r\n{headers}"));
        for plain in ["content-length: 4\r\n", "Content-Length:004\r\nConnection: Keep-Alive\r\n"] {
            let (found, body) = offered(&request(plain));
            assert!(matches!(found, OfferResult::Taken(_)), "{plain}");
            assert_eq!(body.as_deref(), Some(&b"body"[..]), "{plain}");
        }
        assert_eq!(offered(&request("content-length: 40\r\n")).0, OfferResult::Part);
        for other in [
            "",
            "content-length: 4\r\ncontent-length: 4\r\n",
            "content-length: 4, 4\r\n",
            "content-length: +4\r\n",
            "content-length: 4294967300\r\n",
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            "content-length: 4\r\nconnection: close\r\n",
            "content-length: 4\r\nexpect: 100-continue\r\n",
            "content-length: 4\r\nupgrade: h2c\r\n",
            "content-length: 4\r\nHost: x\r\n",
        ] {
            assert_eq!(offered(&request(other)), (OfferResult::Other, None), "{other}");
        }
        for other in ["content-length: 4\r\n", "host: a b\r\ncontent-length: 4\r\n"] {
            assert_eq!(offered(&raw(other)), (OfferResult::Other, None), "{other}");
        }
    }

    proptest! {
        /// What a request is does not depend on what comes behind it, and no part of it is a request of its own.
        #[test]
        fn a_request_ends_where_it_ends(
            lines in proptest::collection::vec(
                select(vec![
                    "POST /v1/predict/clv HTTP/1.1\r\n", "GET / HTTP/1.1\r\n", "content-length: 2\r\n", "host: y\r\n",
                    "Content-Length: 0\r\n", "transfer-encoding: chunked\r\n", "a:\r\n", "\r\n", "{}", "\n", "\0",
                ]),
                0..8,
            ),
            cut in any::<Index>(),
        ) {
            let bytes = format!("POST /x HTTP/1.1\r\nhost: x\r\n{}", lines.concat()).into_bytes();
            if let (OfferResult::Taken(end), body) = offered(&bytes) {
                prop_assert!(end <= bytes.len());
                prop_assert_eq!(offered(&bytes[..end]), (OfferResult::Taken(end), body));
                prop_assert_eq!(offered(&bytes[..cut.index(end)]), (OfferResult::Part, None));
            }
        }
    }
}
