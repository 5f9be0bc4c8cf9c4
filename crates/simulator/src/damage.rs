//! What scripted faults do to an answer: something else instead, or the right bytes in the wrong way.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use futures_util::stream;

use super::answer::Refusal;
use super::faults::{FaultKind, RetryAfter};
use super::world::World;
use scoreline_domain::time::Clock as _;

/// Blanks are sent in pieces of so many.
const BLANKS: &[u8] = &[b' '; 64 * 1024];
const PAGE_FOR_PEOPLE: &str = "<!doctype html><title>Maintenance</title><p>We will be back soon.";

/// The refusal that a fault gives instead of the endpoint's answer, if it does.
pub(super) fn instead(world: &World, fault: &FaultKind, token: Option<u32>) -> Result<(), Refusal> {
    match fault {
        FaultKind::TooManyRequests { retry_after, limit_key } => {
            let value = u64::from(world.settings.limits.requests);
            let mut refusal = Refusal::too_many(limit_key, "platform.api", value);
            match retry_after {
                RetryAfter::Seconds(seconds) => refusal.headers.push(("retry-after", seconds.to_string())),
                RetryAfter::Date(seconds) => {
                    // By the clock that `Date` is of.
                    let at = world.clock.now().as_second() as u64 + seconds;
                    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
                    refusal.headers.push(("retry-after", httpdate::fmt_http_date(at)));
                }
                RetryAfter::Missing => {}
            }
            if *retry_after != RetryAfter::Missing {
                refusal.code = "too.many.requests.retry.after";
            }
            Err(refusal)
        }
        FaultKind::Status(status) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let code = match status.as_u16() {
                503 => "service.unavailable",
                504 => "gateway.timeout",
                400..500 => "bad.request",
                _ => "internal.server.error",
            };
            Err(Refusal::new(status, code, status.canonical_reason().unwrap_or("a scripted fault")))
        }
        FaultKind::TokenExpired => {
            world.tokens.revoke(token);
            let message = "Token has expired, and could not be validated.";
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "bad.credentials", message))
        }
        FaultKind::Redirect { location } => {
            let mut refusal = Refusal::new(StatusCode::FOUND, "found", "moved");
            refusal.headers.push(("location", location.clone()));
            Err(refusal)
        }
        FaultKind::Slow(_)
        | FaultKind::Late(_)
        | FaultKind::Cut { .. }
        | FaultKind::TokenRateLimit
        | FaultKind::JobExpired
        | FaultKind::JobFailed
        | FaultKind::JobStuck
        | FaultKind::RepeatRows(_)
        | FaultKind::SkipRows(_)
        | FaultKind::MovingTotal(_)
        | FaultKind::MissingSentiment
        | FaultKind::WrongContentType
        | FaultKind::Oversized { .. } => Ok(()),
    }
}

/// The body as it goes out.
pub(super) fn body(bytes: Vec<u8>, fault: Option<&FaultKind>, headers: &mut HeaderMap) -> Body {
    match fault {
        Some(FaultKind::Cut { after }) => {
            let sent = after.unwrap_or(bytes.len() / 2).min(bytes.len().saturating_sub(1));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len().max(1)));
            let first = Bytes::from(bytes).slice(..sent);
            let cut = std::io::Error::other("a scripted fault cuts the connection");
            Body::from_stream(stream::iter([Ok(first), Err(cut)]))
        }
        Some(FaultKind::WrongContentType) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            Body::from(PAGE_FOR_PEOPLE)
        }
        Some(FaultKind::Oversized { bytes: blanks }) => {
            // JSON may begin with blanks: whoever reads it all gets the right answer.
            let pieces = blanks.div_ceil(BLANKS.len());
            let blanks = std::iter::repeat_n(Bytes::from_static(BLANKS), pieces).chain([Bytes::from(bytes)]);
            Body::from_stream(stream::iter(blanks.map(Ok::<_, std::io::Error>)))
        }
        Some(_) | None => Body::from(bytes),
    }
}
