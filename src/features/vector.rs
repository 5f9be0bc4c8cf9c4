//! All catalogued features of one customer, in the catalogue's order.

use std::fmt;

use crate::domain::feature::{CATALOGUE, Origin};

use super::interactions::InteractionFeatures;
use super::purchases::PurchaseFeatures;

/// How many features the catalogue knows.
pub const FEATURES: usize = CATALOGUE.len();

/// What `recency_days` means to a model: it stands for two things in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recency {
    /// Days since the last interaction: a model that reads anything else about interactions, or neither.
    OfInteractions,
    /// Days since the last purchase: a model that reads features of purchases and, beside `recency_days`, none of
    /// interactions. It does not ask for `purchase_recency_days`, which is the same to it.
    OfPurchases,
}

impl Recency {
    /// For a model that reads these features.
    pub fn of_model<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut purchases = false;
        for name in names {
            match CATALOGUE.iter().find(|feature| feature.name == name) {
                Some(feature) if feature.name == RECENCY => {}
                Some(feature) if feature.name == PURCHASE_RECENCY => return Self::OfInteractions,
                Some(feature) => match feature.origin {
                    Origin::Interactions => return Self::OfInteractions,
                    Origin::Purchases => purchases = true,
                },
                None => {}
            }
        }
        if purchases { Self::OfPurchases } else { Self::OfInteractions }
    }
}

const RECENCY: &str = "recency_days";
const PURCHASE_RECENCY: &str = "purchase_recency_days";
const PURCHASE_COUNT: &str = "purchase_count";
const FREQUENCY: &str = "frequency_count";

/// The values of all catalogued features, `NaN` where one is missing. Two are equal when they are bit for bit.
#[derive(Clone, Copy)]
pub struct FeatureValues([f64; FEATURES]);

impl FeatureValues {
    /// Bytes of the stored form.
    pub const BYTES: usize = 8 * (FEATURES + 1);

    /// Of a customer without interactions in the window `frequency_count` is 0, everything else about them is missing.
    /// Without a purchase on record everything about purchases is missing: purchases that were never imported are not
    /// zero.
    pub fn of(interactions: Option<&InteractionFeatures>, purchases: Option<&PurchaseFeatures>) -> Self {
        let mut values = Self([f64::NAN; FEATURES]);
        values.set(FREQUENCY, Some(0.0));
        for (name, value) in interactions.iter().flat_map(|found| found.named()) {
            values.set(name, value);
        }
        for (name, value) in purchases.iter().flat_map(|found| found.named_beside_interactions()) {
            values.set(name, value);
        }
        values
    }

    /// By catalogue name; `None` when it is missing or not catalogued.
    pub fn get(&self, name: &str) -> Option<f64> {
        let position = CATALOGUE.iter().position(|feature| feature.name == name)?;
        Some(self.0[position]).filter(|value| !value.is_nan())
    }

    /// In the catalogue's order, `NaN` where one is missing.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// By catalogue name, as [`FeatureSchema::read`](super::FeatureSchema::read) takes them; `None` is missing.
    ///
    /// For a purchase model `recency_days` is that of the last purchase, and a customer without a purchase on record has
    /// bought 0 times.
    pub fn named(&self, recency: Recency) -> impl Iterator<Item = (&'static str, Option<f64>)> + '_ {
        CATALOGUE.iter().zip(self.0).map(move |(feature, value)| {
            let value = Some(value).filter(|value| !value.is_nan());
            let value = match (recency, feature.name) {
                (Recency::OfPurchases, RECENCY) => self.get(PURCHASE_RECENCY),
                (Recency::OfPurchases, PURCHASE_COUNT) => value.or(Some(0.0)),
                (Recency::OfPurchases | Recency::OfInteractions, _) => value,
            };
            (feature.name, value)
        })
    }

    /// Whether nothing is known: no interaction in the window, no purchase on record.
    pub fn is_cold(&self) -> bool {
        self.get(FREQUENCY) == Some(0.0) && self.get(PURCHASE_COUNT).is_none()
    }

    /// The stored form: a mark of the catalogue, then the values, little-endian.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = std::iter::once(CATALOGUE_MARK).chain(self.0.iter().map(|value| value.to_bits()));
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// `None` for bytes that were stored under another catalogue: fold the customer anew.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (mark, values) = words.split_first()?;
        if u64::from_le_bytes(*mark) != CATALOGUE_MARK || !rest.is_empty() {
            return None;
        }
        let values: &[[u8; 8]; FEATURES] = values.try_into().ok()?;
        Some(Self(values.map(f64::from_le_bytes)))
    }

    fn set(&mut self, name: &str, value: Option<f64>) {
        if let Some(position) = CATALOGUE.iter().position(|feature| feature.name == name) {
            self.0[position] = value.unwrap_or(f64::NAN);
        }
    }
}

impl PartialEq for FeatureValues {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a.to_bits() == b.to_bits())
    }
}

impl fmt::Debug for FeatureValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = CATALOGUE.iter().zip(&self.0).filter(|(_, value)| !value.is_nan());
        f.debug_map().entries(known.map(|(feature, value)| (feature.name, value))).finish()
    }
}

/// FNV-1a of the catalogued names in their order: stored values are only read under the catalogue they were written
/// under.
const CATALOGUE_MARK: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut feature = 0;
    while feature < FEATURES {
        let name = CATALOGUE[feature].name.as_bytes();
        let mut byte = 0;
        while byte < name.len() {
            hash = (hash ^ name[byte] as u64).wrapping_mul(0x0100_0000_01b3);
            byte += 1;
        }
        // A byte that no name has ends each of them.
        hash = (hash ^ 0xff).wrapping_mul(0x0100_0000_01b3);
        feature += 1;
    }
    hash
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_values_come_back_bit_for_bit_and_only_under_their_catalogue() {
        let mut values = FeatureValues::of(None, None);
        values.set("monetary_avg", Some(0.1 + 0.2));
        let bytes = values.to_bytes();
        assert_eq!(FeatureValues::from_bytes(&bytes), Some(values));
        let mut other = bytes;
        other[0] ^= 1;
        assert_eq!(FeatureValues::from_bytes(&other), None);
        assert_eq!(FeatureValues::from_bytes(&bytes[..FeatureValues::BYTES - 8]), None);
        assert_eq!(FeatureValues::from_bytes(&[]), None);
    }

    #[test]
    fn recency_is_of_purchases_where_nothing_else_is_of_interactions() {
        let of = |names: &[&str]| Recency::of_model(names.iter().copied());
        assert_eq!(of(&["recency_days", "purchase_count", "tenure_days", "monetary_avg"]), Recency::OfPurchases);
        assert_eq!(of(&["recency_days", "frequency_count", "purchase_count"]), Recency::OfInteractions);
        assert_eq!(of(&["recency_days", "purchase_recency_days", "purchase_count"]), Recency::OfInteractions);
        assert_eq!(of(&["recency_days"]), Recency::OfInteractions);

        let mut values = FeatureValues::of(None, None);
        assert!(values.is_cold());
        let named = |values: &FeatureValues, recency, name| {
            values.named(recency).find(|(known, _)| *known == name).and_then(|(_, value)| value)
        };
        assert_eq!(named(&values, Recency::OfPurchases, PURCHASE_COUNT), Some(0.0));
        assert_eq!(named(&values, Recency::OfInteractions, PURCHASE_COUNT), None, "not known is not zero");
        values.set(RECENCY, Some(3.0));
        values.set(PURCHASE_RECENCY, Some(40.0));
        values.set(PURCHASE_COUNT, Some(2.0));
        assert!(!values.is_cold());
        assert_eq!(named(&values, Recency::OfPurchases, RECENCY), Some(40.0));
        assert_eq!(named(&values, Recency::OfInteractions, RECENCY), Some(3.0));
    }
}
