//! Bodies of contact writes: what is sent of a contact, and how many fit into one request.

use std::collections::BTreeMap;
use std::ops::Range;

use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::LeadWrite;
use super::seen::written;
use crate::settings::{ContactWriteMode, OutboundSettings};

/// Contacts of a request.
pub(super) const MOST: usize = 1000;
/// Bytes of a body: the platform takes 512,000, what stands around them included.
pub(super) const MOST_BYTES: usize = 480_000;
/// Characters of a column's value.
const VALUE_CHARS: usize = 512;

/// What is sent of a contact. Never `callable` nor a status: those of the moment of reading would open again whom a wrap-up
/// has closed since.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SentContact<'a> {
    id: &'a str,
    contact_list_id: &'a str,
    data: BTreeMap<&'a str, &'a str>,
}

/// One contact, as JSON.
pub(super) fn contact(list: &str, settings: &OutboundSettings, row: &LeadWrite<'_>) -> Vec<u8> {
    let (score, time) = (row.score.to_string(), written(row.calculated_at));
    let reason: Option<String> = row.reason.map(|reason| reason.chars().take(VALUE_CHARS).collect());
    let mut data: BTreeMap<&str, &str> = match settings.write {
        ContactWriteMode::Merge => row.read.rest.columns.iter().map(|(name, value)| (&**name, &**value)).collect(),
        ContactWriteMode::Partial => BTreeMap::new(),
    };
    data.insert(&settings.score_column, &score);
    data.insert(&settings.time_column, &time);
    data.extend(settings.band_column.as_deref().zip(row.band));
    data.extend(settings.reason_column.as_deref().zip(reason.as_deref()));
    let id = row.read.lead.expose_secret();
    // Texts with names that are texts: there is nothing in it that cannot be written.
    serde_json::to_vec(&SentContact { id, contact_list_id: list, data }).unwrap_or_default()
}

/// Rows of each request, in order; those that are too large for one alone are `Err`.
pub(super) fn requests(contacts: &[Vec<u8>]) -> Vec<Result<Range<usize>, usize>> {
    let mut found = Vec::new();
    let (mut start, mut bytes) = (0, 2);
    for (place, contact) in contacts.iter().enumerate() {
        let alone = contact.len() + 2;
        if alone > MOST_BYTES {
            if start < place {
                found.push(Ok(start..place));
            }
            found.push(Err(place));
            (start, bytes) = (place + 1, 2);
            continue;
        }
        if place - start == MOST || bytes + contact.len() > MOST_BYTES {
            found.push(Ok(start..place));
            (start, bytes) = (place, 2);
        }
        bytes += contact.len() + 1;
    }
    if start < contacts.len() {
        found.push(Ok(start..contacts.len()));
    }
    found
}

/// The body of a request.
pub(super) fn array(contacts: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![b'['];
    body.extend(contacts.join(&b','));
    body.push(b']');
    body
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        /// Every contact is in exactly one request or alone too large; no request is larger than it may be, and none could
        /// have taken the next contact too.
        #[test]
        fn requests_are_full_and_never_too_large(sizes in prop::collection::vec(prop_oneof![1..300_usize, 20_000..40_000_usize, 400_000..600_000_usize], 0..60)) {
            let contacts: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
            let mut next = 0;
            for request in requests(&contacts) {
                match request {
                    Ok(range) => {
                        prop_assert_eq!(range.start, next);
                        next = range.end;
                        let body = array(&contacts[range]);
                        prop_assert!(body.len() <= MOST_BYTES);
                        if let Some(after) = contacts.get(next) {
                            prop_assert!(body.len() + after.len() + 1 > MOST_BYTES);
                        }
                    }
                    Err(place) => {
                        prop_assert_eq!(place, next);
                        prop_assert!(contacts[place].len() + 2 > MOST_BYTES);
                        next = place + 1;
                    }
                }
            }
            prop_assert_eq!(next, contacts.len());
        }
    }

    #[test]
    fn a_body_of_exactly_the_most_is_one_request() {
        let half = vec![b'x'; (MOST_BYTES - 3) / 2];
        let fits = vec![half.clone(), vec![b'x'; MOST_BYTES - 3 - half.len()]];
        assert_eq!(requests(&fits), [Ok(0..2)]);
        assert_eq!(array(&fits).len(), MOST_BYTES);
        let over = vec![half.clone(), vec![b'x'; MOST_BYTES - 2 - half.len()]];
        assert_eq!(requests(&over), [Ok(0..1), Ok(1..2)]);
        assert_eq!(requests(&[vec![b'x'; MOST_BYTES - 2]]), [Ok(0..1)]);
        assert_eq!(requests(&[vec![b'x'; MOST_BYTES - 1]]), [Err(0)]);
    }

    #[test]
    fn a_thousand_small_ones_are_a_request() {
        let contacts = vec![vec![b'x'; 20]; 2_500];
        let lengths: Vec<_> = requests(&contacts).into_iter().map(|range| range.map(|range| range.len())).collect();
        assert_eq!(lengths, [Ok(1000), Ok(1000), Ok(500)]);
    }
}
