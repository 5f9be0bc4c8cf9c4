//! One customer's value of every catalogued feature: how it is put together, compared and stored.

use super::interactions::InteractionFeatures;
use super::purchases::PurchaseFeatures;
use scoreline_domain::feature::{CATALOGUE, CatalogueRow};

/// Bytes of a stored row.
const STORED_BYTES: usize = 8 * (CATALOGUE.len() + 1);

/// A row as of a time; `NaN` is missing. `recency_days` is that of the last interaction.
///
/// Of a customer without a closed interaction in the window `frequency_count` is 0, everything else about interactions is
/// missing. Without a purchase on record everything about purchases is missing: purchases that nobody imported are not 0.
pub fn row(interactions: Option<&InteractionFeatures>, purchases: Option<&PurchaseFeatures>) -> CatalogueRow {
    let mut row = [f64::NAN; CATALOGUE.len()];
    let mut set = |name: &str, value: Option<f64>| {
        if let (Some(position), Some(value)) = (CATALOGUE.iter().position(|feature| feature.name == name), value) {
            row[position] = value;
        }
    };
    set("frequency_count", Some(0.0));
    let interactions = interactions.iter().flat_map(|found| found.named());
    let purchases = purchases.iter().flat_map(|found| found.named_beside_interactions());
    interactions.chain(purchases).for_each(|(name, value)| set(name, value));
    row
}

/// The value of a feature; `None` when it is missing or not catalogued.
pub fn value(row: &CatalogueRow, name: &str) -> Option<f64> {
    let position = CATALOGUE.iter().position(|feature| feature.name == name)?;
    Some(row[position]).filter(|value| !value.is_nan())
}

/// Whether two rows are the same bit for bit.
pub fn same(a: &CatalogueRow, b: &CatalogueRow) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// The stored form: a mark of the catalogue, then the values, little-endian.
pub fn to_bytes(row: &CatalogueRow) -> [u8; STORED_BYTES] {
    let mut bytes = [0; STORED_BYTES];
    let words = std::iter::once(CATALOGUE_MARK).chain(row.iter().map(|value| value.to_bits()));
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// `None` for bytes that were stored under another catalogue: fold the customer anew.
pub fn from_bytes(bytes: &[u8]) -> Option<CatalogueRow> {
    let (words, rest) = bytes.as_chunks::<8>();
    let (mark, values) = words.split_first()?;
    if u64::from_le_bytes(*mark) != CATALOGUE_MARK || !rest.is_empty() {
        return None;
    }
    let values: &[[u8; 8]; CATALOGUE.len()] = values.try_into().ok()?;
    Some(values.map(f64::from_le_bytes))
}

/// FNV-1a of the catalogued names in their order: a stored row is only read under the catalogue it was written under.
const CATALOGUE_MARK: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut feature = 0;
    while feature < CATALOGUE.len() {
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
    fn a_stored_row_comes_back_bit_for_bit_and_only_under_its_catalogue() {
        let mut values = row(None, None);
        values[3] = 0.1 + 0.2;
        let bytes = to_bytes(&values);
        assert!(from_bytes(&bytes).is_some_and(|read| same(&read, &values)));
        let mut other = bytes;
        other[0] ^= 1;
        assert_eq!(from_bytes(&other), None);
        assert_eq!(from_bytes(&bytes[..STORED_BYTES - 8]), None);
        assert_eq!(from_bytes(&[]), None);
    }

    #[test]
    fn of_a_customer_without_history_only_the_count_of_interactions_is_known() {
        let values = row(None, None);
        assert_eq!(value(&values, "frequency_count"), Some(0.0));
        assert_eq!(values.iter().filter(|value| !value.is_nan()).count(), 1);
        assert_eq!(value(&values, "shoe_size"), None);
    }
}
