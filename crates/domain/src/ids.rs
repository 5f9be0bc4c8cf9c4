//! Names of customers and models. A raw customer identifier never gets this far: see `privacy`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A customer, as the keyed hash of whatever the caller called them (32 bytes, HMAC-SHA-256).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CustomerKey([u8; 32]);

impl CustomerKey {
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight bytes, to spread customers by.
    pub fn prefix(&self) -> u64 {
        self.0.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }

    /// Whether the customer is among a fixed share of all. A larger share keeps those of a smaller one.
    pub fn is_in_share(&self, share: f64) -> bool {
        // Its own bytes: whoever spreads customers by `prefix` parts them otherwise.
        let bytes = self.0.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
        ((bytes >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

/// Eight hex digits: enough to follow one customer through a log, too few to rebuild the key.
impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..4] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("..")
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Letters, digits, `.`, `_` and `-`, starting with a letter or digit: safe as a folder name and as
            /// a metric label.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let ok = !text.is_empty()
                    && text.len() <= $max
                    && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
                if ok { Ok(Self(text.into())) } else { Err(NameError { what: stringify!($name), max: $max }) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a model, such as `clv`: its folder under `models/`.
    ModelName,
    64
);
name_type!(
    /// The version of a model, such as `v1.2`: its folder under the model's folder.
    ModelVersion,
    64
);

impl ModelVersion {
    /// Orders versions as people write them: runs of digits compare as numbers (`v1.10` is newer than `v1.9`), a longer
    /// number with the same beginning is newer, and a suffix is below its release, as in Semantic Versioning: `v1.2-rc1`,
    /// `v1.2.dev3` and `v1.2-old` are older than `v1.2`.
    pub fn cmp_natural(&self, other: &Self) -> Ordering {
        let (own, others) = (VersionParts::of(&self.0), VersionParts::of(&other.0));
        let by_suffix = || match (own.suffix.is_empty(), others.suffix.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => cmp_pieces(own.suffix, others.suffix),
        };
        let order = cmp_pieces(own.release, others.release).then_with(by_suffix);
        order.then_with(|| self.0.cmp(&other.0))
    }
}

/// A version's name up to the end of its number, and what follows.
struct VersionParts<'a> {
    release: &'a str,
    /// Begins with a letter after separators. A name without a number is all release.
    suffix: &'a str,
}

impl<'a> VersionParts<'a> {
    fn of(text: &'a str) -> Self {
        let Some(first) = text.find(|c: char| c.is_ascii_digit()) else { return Self { release: text, suffix: "" } };
        let mut end = first;
        let mut rest = &text[first..];
        loop {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            end += digits;
            rest = &rest[digits..];
            // A single separator joins two numbers.
            let mut next = rest.chars();
            let joins = next.next().is_some_and(|c| matches!(c, '.' | '-' | '_'));
            if !(joins && next.next().is_some_and(|c| c.is_ascii_digit())) {
                return Self { release: &text[..end], suffix: &text[end..] };
            }
            end += 1;
            rest = &rest[1..];
        }
    }
}

fn cmp_pieces(left: &str, right: &str) -> Ordering {
    pieces(left).cmp(pieces(right))
}

/// The versions that people promoted, as of one change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promotions {
    /// Grows with every change.
    pub number: i64,
    pub versions: BTreeMap<ModelName, ModelVersion>,
    /// What served before the last change of each model, the last one last: where a rollback leads.
    pub before: BTreeMap<ModelName, Vec<ModelVersion>>,
    /// Manifests, as TOML, that lone model files took over when they first served: a restart comes to the same.
    pub inherited: BTreeMap<(ModelName, ModelVersion), String>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Piece<'a> {
    Text(&'a str),
    Number(u64),
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (piece, tail) = rest.split_at(end);
        rest = tail;
        // A run of digits too long for a number is compared as text: still a total order.
        Some(if digits { piece.parse().map_or(Piece::Text(piece), Piece::Number) } else { Piece::Text(piece) })
    })
}

/// A name with characters that would not be safe in a path or a label.
#[derive(Debug, thiserror::Error)]
#[error("`{what}` must be 1 to {max} letters, digits, `.`, `_` or `-`, and start with a letter or digit")]
pub struct NameError {
    what: &'static str,
    max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_as_people_read_them() {
        let version = |text: &str| ModelVersion::parse(text).expect("valid");
        let mut all: Vec<_> = ["v1.10", "v1.2", "v1", "v2.0", "v1.9", "v1.2.1"].map(version).into();
        all.sort_by(ModelVersion::cmp_natural);
        let sorted: Vec<_> = all.iter().map(ModelVersion::as_str).collect();
        assert_eq!(sorted, ["v1", "v1.2", "v1.2.1", "v1.9", "v1.10", "v2.0"]);
        let order = |older: &str, newer: &str| {
            assert!(version(older).cmp_natural(&version(newer)).is_lt(), "{older} < {newer}");
            assert!(version(newer).cmp_natural(&version(older)).is_gt(), "{newer} > {older}");
        };
        for suffix in ["-rc1", "-beta", ".dev3", "-SNAPSHOT", "-old", "b2", "_tmp"] {
            order(&format!("v1.2{suffix}"), "v1.2");
            order("v1.1", &format!("v1.2{suffix}"));
        }
        order("v1.2-rc2", "v1.2-rc10");
        order("2026-11-27", "2026-11-28");
        order("v1.2", "v1.2-1");
        order("alpha", "beta");
        assert_eq!(version("v1.2").cmp_natural(&version("v1.2")), Ordering::Equal);
    }

    #[test]
    fn names_that_could_leave_the_models_folder_are_refused() {
        for bad in ["", "..", "../x", "a/b", ".hidden", "a b", "ü"] {
            assert!(ModelName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_customer_key_prints_too_little_to_be_used() {
        let key = CustomerKey::from_digest([0xab; 32]);
        assert_eq!(format!("{key:?}"), "abababab..");
    }
}
