//! `[connections]` and the admission keys of `[server]`: what clients may use.

use std::time::Duration;

use super::layers::Reader;
use super::value::Bytes;
use super::{duration, whole};
use crate::http::admission::AdmissionSettings;
use scoreline_listener::Limits;

pub(super) fn limits(read: &mut Reader, header_timeout: Duration) -> Limits {
    let most = whole(read, "connections.most", 1, 1_000_000);
    let most_per_peer = whole(read, "connections.most_per_peer", 1, 1_000_000);
    let exempt_loopback: bool = read.get("connections.exempt_loopback");
    let minutes = |read: &mut Reader, key| duration(read, key, "from `100ms` to `5m`", 100, 300_000);
    let handshake_timeout = minutes(read, "connections.handshake_timeout");
    let idle_timeout = duration(read, "connections.idle_timeout", "from `100ms` to `1h`", 100, 3_600_000);
    let write_timeout = minutes(read, "connections.write_timeout");
    let requests = whole(read, "connections.most_requests", 1, 1_000_000_000) as u32;
    let age = duration(read, "connections.longest", "from `1s` to `8760h`", 1000, 8760 * 3_600_000);
    let allowed = "a size from `1KiB` to `64KiB`, such as `16KiB`";
    let size = read.get_if("connections.header_size", allowed, |size: &Bytes| (1 << 10..=64 << 10).contains(&size.0));
    // hyper takes no more than 100 of HTTP/1.
    let headers = whole(read, "connections.header_fields", 1, 100);
    let streams = whole(read, "connections.streams", 1, 1000) as u32;
    Limits {
        connections: most,
        connections_per_peer: most_per_peer,
        exempt_loopback,
        handshake_timeout,
        header_timeout,
        idle_timeout,
        write_timeout,
        requests,
        age,
        head_bytes: size.0 as usize,
        headers,
        streams,
    }
}

pub(super) fn admission(read: &mut Reader) -> AdmissionSettings {
    AdmissionSettings {
        live: whole(read, "server.most_live_calls", 1, 1_000_000) as u32,
        batches: whole(read, "server.most_batches", 1, 10_000) as u32,
        when_overloaded: read.get("server.overload"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_says_what_the_listener_does_by_itself() {
        let settings = crate::config::load(None, std::iter::empty()).expect("the defaults are valid");
        assert_eq!(settings.connections, Limits::default());
        assert_eq!(settings.server.threads, None);
    }

    #[test]
    fn limits_are_named_when_they_can_not_be_used() {
        let given = [
            ("SCORELINE__CONNECTIONS__HEADER_FIELDS", "101"),
            ("SCORELINE__CONNECTIONS__IDLE_TIMEOUT", "65"),
            ("SCORELINE__SERVER__OVERLOAD", "panic"),
        ];
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let problems = crate::config::load(None, given).expect_err("three problems").0;
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["server.overload", "connections.idle_timeout", "connections.header_fields"]);
        assert!(problems[0].message.contains("`fallback` or `refuse`"), "{}", problems[0].message);
    }
}
