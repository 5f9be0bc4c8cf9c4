//! What HTTP asks of a request's head and hyper leaves to whoever serves: one host, and no transfer coding but `chunked`
//! (RFC 9112, sections 3.2 and 6.1; RFC 9113, section 8.3.1). Two readers that take a head in two ways do not agree where
//! a request ends or whom it is for.

use std::net::Ipv6Addr;

use axum::http::header::{HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, Request, Version};

/// Most digits of a port.
const PORT_DIGITS: usize = 5;

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    #[error("header `host` must be there once and hold a name or an address, and a port where there is one")]
    Host,
    #[error("header `transfer-encoding` must be `chunked`, once")]
    Repeated,
    #[error("header `transfer-encoding` must be `chunked`: no other coding is known here")]
    UnknownCoding,
}

/// Looks at the head of a request.
///
/// # Errors
/// What is wrong with it: the request must not be served, nor another one of an HTTP/1 connection.
pub fn check_head<B>(request: &Request<B>) -> Result<(), HeadFault> {
    let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    if !has_one_host(request.version(), target, request.headers()) {
        return Err(HeadFault::Host);
    }
    codings(request.headers())
}

fn has_one_host(version: Version, target: Option<&[u8]>, headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let (host, other) = (lines.next(), lines.next());
    if other.is_some() || !host.is_none_or(is_host) {
        return false;
    }
    match version {
        Version::HTTP_09 | Version::HTTP_10 => true,
        Version::HTTP_11 => host.is_some(),
        // Either names the host; both together name the same.
        _ => match (target, host) {
            (Some(target), Some(host)) => is_host(target) && target.eq_ignore_ascii_case(host),
            (Some(target), None) => is_host(target),
            (None, host) => host.is_some(),
        },
    }
}

fn codings(headers: &HeaderMap) -> Result<(), HeadFault> {
    let (mut chunked, mut others) = (0_u32, 0_u32);
    for line in headers.get_all(TRANSFER_ENCODING) {
        for coding in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            match coding {
                b"" => {}
                coding if coding.eq_ignore_ascii_case(b"chunked") => chunked += 1,
                _ => others += 1,
            }
        }
    }
    match (chunked, others) {
        (2.., _) => Err(HeadFault::Repeated),
        (_, 1..) => Err(HeadFault::UnknownCoding),
        (_, 0) => Ok(()),
    }
}

/// Whether a text is a host with or without a port (RFC 9110, section 7.2). An empty name is one: probes of load
/// balancers send it. Escapes are none: no name that is looked up has them.
pub(super) fn is_host(text: &[u8]) -> bool {
    let (is_name, rest) = match text {
        [b'[', literal @ ..] => {
            let Some(end) = literal.iter().position(|byte| *byte == b']') else { return false };
            let address = str::from_utf8(&literal[..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
            (address.is_some(), &literal[end + 1..])
        }
        name => {
            let end = name.iter().position(|byte| *byte == b':').unwrap_or(name.len());
            (name[..end].iter().copied().all(is_of_a_name), &name[end..])
        }
    };
    let is_port = match rest {
        [] => true,
        [b':', port @ ..] => port.len() <= PORT_DIGITS && port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_name && is_port
}

/// `unreserved` and `sub-delims` of RFC 3986.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(version: Version, target: &str, headers: &[(&str, &str)]) -> Result<(), HeadFault> {
        let request = headers.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        check_head(&request.version(version).uri(target).body(()).expect("a request"))
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in [
            "x",
            "scoring.example.com",
            "scoring.example.com:8080",
            "scoring_blue.internal.",
            "127.0.0.1:8080",
            "[::1]",
            "[2001:db8::7]:443",
            "x:",
            "[::1]:",
            "",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for other in [
            "a b",
            "a/b",
            "http://x",
            "user@x",
            "x:port",
            "x:+80",
            "x:123456",
            "x:80:80",
            "::1",
            "[::1",
            "[x]",
            "[::1]x",
            "x\t",
            "a%20b",
            "gro\u{df}",
            "a\"b",
            "x?y",
            "x#y",
        ] {
            assert!(!is_host(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn http_1_1_needs_one_host_and_http_1_0_none() {
        for (headers, in_1_0, in_1_1) in [
            (&[][..], Ok(()), Err(HeadFault::Host)),
            (&[("host", "x")], Ok(()), Ok(())),
            (&[("host", "x"), ("host", "x")], Err(HeadFault::Host), Err(HeadFault::Host)),
            (&[("host", "a b")], Err(HeadFault::Host), Err(HeadFault::Host)),
        ] {
            assert_eq!(checked(Version::HTTP_10, "/", headers), in_1_0, "{headers:?}");
            assert_eq!(checked(Version::HTTP_11, "/", headers), in_1_1, "{headers:?}");
            assert_eq!(checked(Version::HTTP_11, "http://y/", headers), in_1_1, "absolute: {headers:?}");
        }
    }

    #[test]
    fn http_2_needs_a_host_and_no_two_that_differ() {
        let two = |target, headers| checked(Version::HTTP_2, target, headers).is_ok();
        assert!(two("https://x/", &[]) && two("https://x/", &[("host", "X")]) && two("/", &[("host", "x")]));
        assert!(!two("/", &[]) && !two("https://x/", &[("host", "y")]) && !two("https://user@x/", &[]));
        assert!(!two("https://x/", &[("host", "x"), ("host", "x")]));
    }

    #[test]
    fn the_one_coding_is_chunked_once() {
        for (codings, found) in [
            (&["chunked"][..], Ok(())),
            (&["Chunked , "], Ok(())),
            (&["chunked, chunked"], Err(HeadFault::Repeated)),
            (&["chunked", "chunked"], Err(HeadFault::Repeated)),
            (&["gzip, chunked"], Err(HeadFault::UnknownCoding)),
            (&["identity", "chunked"], Err(HeadFault::UnknownCoding)),
        ] {
            let headers: Vec<_> = codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            let headers = [&[("host", "x")], &headers[..]].concat();
            assert_eq!(checked(Version::HTTP_11, "/", &headers), found, "{codings:?}");
        }
    }
}
