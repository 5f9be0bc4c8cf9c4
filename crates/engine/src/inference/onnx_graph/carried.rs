//! Texts that an ONNX file carries in its `metadata_props`, beside the model and without changing it.
//!
//! Protobuf messages are lists of fields, so entries are put behind the file as it is and taken away again without
//! touching another byte: what is left is the file as it was before, with the same SHA-256.

use std::collections::BTreeMap;

use super::graph::malformed;
use super::wire::{fields, put_bytes};
use crate::inference::BackendError;

/// `metadata_props` of a model; `key` and `value` of an entry.
const METADATA: u64 = 14;
const KEY: u64 = 1;
const VALUE: u64 = 2;

/// What was found in a file.
pub struct Carried {
    /// By key; the last entry of a key counts.
    pub values: BTreeMap<String, Vec<u8>>,
    /// The file without them.
    pub model: Vec<u8>,
}

/// Takes the entries with these keys out of a file.
///
/// # Errors
/// When the bytes are not a protobuf message.
pub fn carried(bytes: &[u8], keys: &[&str]) -> Result<Carried, BackendError> {
    let mut found = Carried { values: BTreeMap::new(), model: Vec::with_capacity(bytes.len()) };
    for field in fields(bytes) {
        let field = field.map_err(malformed)?;
        if field.number == METADATA {
            let mut key = String::new();
            let mut value = &[][..];
            for part in fields(field.value.bytes()) {
                let part = part.map_err(malformed)?;
                match part.number {
                    KEY => key = part.value.text(),
                    VALUE => value = part.value.bytes(),
                    _ => {}
                }
            }
            if keys.contains(&key.as_str()) {
                found.values.insert(key, value.to_owned());
                continue;
            }
        }
        found.model.extend_from_slice(field.raw);
    }
    Ok(found)
}

/// The file with these entries in place of those it had with the same keys.
///
/// # Errors
/// When the bytes are not a protobuf message.
pub fn with_metadata(bytes: &[u8], entries: &[(&str, &str)]) -> Result<Vec<u8>, BackendError> {
    let keys: Vec<&str> = entries.iter().map(|(key, _)| *key).collect();
    let mut out = carried(bytes, &keys)?.model;
    for (key, value) in entries {
        let mut entry = Vec::with_capacity(key.len() + value.len() + 12);
        put_bytes(&mut entry, KEY, key.as_bytes());
        put_bytes(&mut entry, VALUE, value.as_bytes());
        put_bytes(&mut out, METADATA, &entry);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_and_go_without_touching_the_model() {
        let mut model = Vec::new();
        put_bytes(&mut model, 7, &[b'g'; 300]);
        let mut foreign = Vec::new();
        put_bytes(&mut foreign, KEY, b"author");
        put_bytes(&mut model, METADATA, &foreign);
        let once = with_metadata(&model, &[("a", "1"), ("b", "2")]).expect("a message");
        let twice = with_metadata(&once, &[("a", "3"), ("b", "4")]).expect("a message");
        let Carried { values, model: left } = carried(&twice, &["a", "b"]).expect("a message");
        assert_eq!(left, model);
        assert_eq!(values, BTreeMap::from([("a".to_owned(), b"3".to_vec()), ("b".to_owned(), b"4".to_vec())]));
        assert!(carried(&twice[..twice.len() - 1], &[]).is_err(), "torn");
    }
}
