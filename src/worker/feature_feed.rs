//! The store's changes of features, as the book of features takes them.

use futures_util::future::BoxFuture;

use super::follow_features::{FeatureFeed, FeedError, FeedPage};
use crate::features::catalogue_row;
use crate::scoring::feature_book::{Change, StoredFeatures};
use crate::store::{FeatureChange, Store};

/// Vectors of a page.
const PAGE: usize = 10_000;

/// Reads the store from one change to the next.
pub struct StoreFeed {
    store: Store,
}

impl StoreFeed {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

/// `None` for a row of another catalogue: the features job makes it anew.
fn change(change: FeatureChange) -> Option<Change> {
    match change {
        FeatureChange::Saved { number, customer, features } => {
            let values = catalogue_row::from_bytes(&features.vector)?;
            let features = StoredFeatures { as_of: features.as_of, exact_until: features.next_change_at, values };
            Some(Change::Stored { number: number.get(), customer, features })
        }
        FeatureChange::Gone { number } => Some(Change::Gone { number: number.get() }),
    }
}

impl FeatureFeed for StoreFeed {
    fn since(&self, position: u64) -> BoxFuture<'_, Result<FeedPage, FeedError>> {
        Box::pin(async move {
            let page = self.store.features_since(position.cast_signed(), PAGE).await;
            let page = page.map_err(|err| FeedError::Store(Box::new(err)))?;
            let changes = page.changes.into_iter().filter_map(change).collect();
            Ok(FeedPage { changes, position: page.seq.cast_unsigned(), more: page.more })
        })
    }
}
