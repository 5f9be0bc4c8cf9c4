//! The store's changes of features, as the book of features takes them.

use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::follow_features::{FeatureFeed, FeedError, FeedPage};
use crate::domain::CustomerKey;
use crate::features::catalogue_row;
use crate::scoring::feature_book::{Change, StoredFeatures};
use crate::store::{FeatureChange, Store};

/// Vectors of a page.
const PAGE: usize = 10_000;

/// Reads the store from one change to the next.
pub struct StoreFeed {
    store: Store,
    /// Customers by number, which is all that is left of one whom another replica erased. 32 bytes for each: numbers are
    /// handed out one after the other. Locked for a moment, never across an await.
    keys: Mutex<Vec<CustomerKey>>,
}

impl StoreFeed {
    pub fn new(store: Store) -> Self {
        Self { store, keys: Mutex::default() }
    }

    fn change(keys: &mut Vec<CustomerKey>, change: FeatureChange) -> Option<Change> {
        match change {
            FeatureChange::Saved { number, customer, features } => {
                let number = usize::try_from(number.get()).ok()?;
                if keys.len() <= number {
                    keys.resize(number + 1, CustomerKey::from_digest([0; 32]));
                }
                keys[number] = customer;
                // Of another catalogue: the features job makes it anew.
                let values = catalogue_row::from_bytes(&features.vector)?;
                let features = StoredFeatures { as_of: features.as_of, exact_until: features.next_change_at, values };
                Some(Change { customer, features: Some(features) })
            }
            FeatureChange::Gone { number } => {
                let known = usize::try_from(number.get()).ok().and_then(|number| keys.get(number));
                known.map(|&customer| Change { customer, features: None })
            }
        }
    }
}

impl FeatureFeed for StoreFeed {
    fn since(&self, position: u64) -> BoxFuture<'_, Result<FeedPage, FeedError>> {
        Box::pin(async move {
            let page = self.store.features_since(position.cast_signed(), PAGE).await;
            let page = page.map_err(|err| FeedError::Store(Box::new(err)))?;
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            let changes = page.changes.into_iter().filter_map(|change| Self::change(&mut keys, change)).collect();
            Ok(FeedPage { changes, position: page.seq.cast_unsigned(), more: page.more })
        })
    }
}
