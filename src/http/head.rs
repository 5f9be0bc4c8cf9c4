//! The few headers that hot routes look at, found in one pass, whoever read the request.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName};

use super::deadline;
use super::observe::REQUEST_ID;

/// What a request's head says to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head<'a> {
    pub authorization: Field<'a>,
    pub request_id: Field<'a>,
    pub deadline: Field<'a>,
}

/// A header that may be there once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    /// More often than once; the first.
    Repeated(&'a [u8]),
}

/// A header that may be there once was there more often.
#[derive(Clone, Copy, Debug)]
pub struct Repeated;

impl<'a> Field<'a> {
    pub fn first(self) -> Option<&'a [u8]> {
        match self {
            Self::Absent => None,
            Self::Once(value) | Self::Repeated(value) => Some(value),
        }
    }

    /// # Errors
    /// When it is repeated.
    pub fn once(self) -> Result<Option<&'a [u8]>, Repeated> {
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

    fn of(headers: &'a HeaderMap, name: &HeaderName) -> Self {
        let mut field = Self::Absent;
        // Looked up once where it is absent, which is usual.
        if headers.contains_key(name) {
            headers.get_all(name).iter().for_each(|value| field.add(value.as_bytes()));
        }
        field
    }
}

impl<'a> Head<'a> {
    pub fn of(headers: &'a HeaderMap) -> Self {
        Self {
            authorization: Field::of(headers, &AUTHORIZATION),
            request_id: Field::of(headers, &REQUEST_ID),
            deadline: Field::of(headers, &deadline::HEADER),
        }
    }

    /// From headers as they came, in any case.
    pub fn of_pairs(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            // Most names differ in length from all of ours.
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            match name.len() {
                12 if is(REQUEST_ID.as_str()) => head.request_id.add(value),
                13 if is(AUTHORIZATION.as_str()) => head.authorization.add(value),
                13 if is(deadline::HEADER_NAME) => head.deadline.add(value),
                _ => {}
            }
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Both ways of reading a head see the same.
        #[test]
        fn a_map_and_a_list_say_the_same(
            names in proptest::collection::vec(
                prop_oneof![
                    Just("Authorization"), Just("authorization"), Just("X-Request-ID"), Just("x-request-id"),
                    Just("X-Deadline-Ms"), Just("host"), Just("Content-Type"), Just("x-request-ix"),
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
            let listed = Head::of_pairs(pairs.iter().map(|(name, value)| (*name, value.as_bytes())));
            prop_assert_eq!(listed, Head::of(&map));
        }
    }
}
