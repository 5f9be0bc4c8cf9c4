//! The few headers that decide about a request, found in one pass, whichever door it came through.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName};

use super::headers::{DEADLINE, REQUEST_ID};
use scoreline_domain::trace::TRACEPARENT;

/// What a request's head says to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub authorization: Field<'a>,
    pub request_id: Field<'a>,
    pub deadline: Field<'a>,
    pub traceparent: Field<'a>,
}

/// A header that may be there once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    /// More often than once; the first.
    Repeated(&'a [u8]),
}

/// A header that may be there once was there more often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeated;

impl<'a> Field<'a> {
    pub(crate) fn first(self) -> Option<&'a [u8]> {
        match self {
            Self::Absent => None,
            Self::Once(value) | Self::Repeated(value) => Some(value),
        }
    }

    /// # Errors
    /// When it is repeated.
    pub(crate) fn once(self) -> Result<Option<&'a [u8]>, Repeated> {
        match self {
            Self::Absent => Ok(None),
            Self::Once(value) => Ok(Some(value)),
            Self::Repeated(_) => Err(Repeated),
        }
    }

    fn add(&mut self, value: &'a [u8]) {
        *self = match *self {
            Self::Absent => Self::Once(value),
            Self::Once(first) | Self::Repeated(first) => Self::Repeated(first),
        };
    }
}

impl<'a> Head<'a> {
    /// From names, in any case, and values as they came.
    pub(crate) fn of(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            // Most names differ in length from all of ours.
            let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str());
            match name.len() {
                11 if name.eq_ignore_ascii_case(TRACEPARENT) => head.traceparent.add(value),
                12 if is(&REQUEST_ID) => head.request_id.add(value),
                13 if is(&AUTHORIZATION) => head.authorization.add(value),
                13 if is(&DEADLINE) => head.deadline.add(value),
                _ => {}
            }
        }
        head
    }

    pub(crate) fn of_map(headers: &'a HeaderMap) -> Self {
        Self::of(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Repeated fields are told apart whether or not they were put into a map.
        #[test]
        fn a_map_and_a_list_say_the_same(
            names in proptest::collection::vec(
                prop_oneof![
                    Just("Authorization"), Just("authorization"), Just("X-Request-ID"), Just("x-request-id"),
                    Just("X-Deadline-Ms"), Just("TraceParent"), Just("host"), Just("Content-Type"), Just("x-request-ix"),
                ],
                0..8,
            ),
            values in proptest::collection::vec("[!-~]{0,12}", 8),
        ) {
            let pairs: Vec<_> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
            let mut map = HeaderMap::new();
            for (name, value) in &pairs {
                let name: HeaderName = name.parse().expect("a name");
                map.append(name, HeaderValue::from_str(value).expect("visible"));
            }
            let listed = Head::of(pairs.iter().map(|(name, value)| (*name, value.as_bytes())));
            prop_assert_eq!(listed, Head::of_map(&map));
        }
    }
}
