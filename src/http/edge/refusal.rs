//! Who is not let in, said in the log: a line a second at most for each reason, so that a storm of bad tokens does not
//! fill a disk.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};

use crate::auth::Caller;
use scoreline_domain::time::{Clock as _, SystemClock};
use scoreline_domain::trace;

/// Pause between two lines of one reason.
const PAUSE: Duration = Duration::from_secs(1);

/// Why somebody is not let in. It travels as a response extension until `observe` says it, because only there the
/// request id is known.
#[derive(Clone)]
pub(crate) struct Refusal {
    pub reason: &'static str,
    /// Known where the credentials are good.
    pub caller: Option<Arc<Caller>>,
    pub address: Option<IpAddr>,
}

impl Refusal {
    /// Says it unless the same was said a moment ago.
    pub(crate) fn say(&self, route: &'static str, status: StatusCode, request_id: Option<&HeaderValue>) {
        static LINES: Lines = Lines(Mutex::new(Vec::new()));
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let Some(passed_over) = LINES.next(self.reason, SystemClock.monotonic()) else { return };
        tracing::info!(
            reason = self.reason,
            caller = self.caller.as_deref().map(Caller::name),
            address = self.address.map(tracing::field::display),
            route,
            status = status.as_u16(),
            request.id = request_id.and_then(|id| id.to_str().ok()),
            passed_over,
            trace_id = trace::current().map(tracing::field::display),
            "request refused"
        );
    }
}

/// When each reason was said last, and how often it was passed over since. There are as many as the code has reasons.
struct Lines(Mutex<Vec<(&'static str, Duration, u64)>>);

impl Lines {
    /// How many were passed over since the last line of this reason; `None` when this one is passed over as well.
    fn next(&self, reason: &'static str, now: Duration) -> Option<u64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, last, passed_over)) = lines.iter_mut().find(|(known, ..)| *known == reason) else {
            lines.push((reason, now, 0));
            return Some(0);
        };
        if now.saturating_sub(*last) < PAUSE {
            *passed_over += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(passed_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_a_line_a_second_for_each_reason_and_nothing_is_lost() {
        let lines = Lines(Mutex::default());
        let milliseconds = Duration::from_millis;
        assert_eq!(lines.next("expired", milliseconds(50)), Some(0));
        for late in 51..1050 {
            assert_eq!(lines.next("expired", milliseconds(late)), None);
        }
        assert_eq!(lines.next("rate", milliseconds(70)), Some(0), "each reason by itself");
        assert_eq!(lines.next("expired", milliseconds(1050)), Some(999));
        assert_eq!(lines.next("expired", milliseconds(9000)), Some(0));
    }
}
