//! The store's changes of features, as the table of features takes them.

use futures_util::future::BoxFuture;

use super::follow_features::{FeatureFeed, FeedError, FeedPage};
use crate::scoring::feature_table::{StoredFeatures, TableChange};
use scoreline_engine::features::catalogue_row;
use scoreline_store::{FeatureChange, Store};

/// Vectors of a page.
const PAGE: usize = 10_000;

/// Reads the store from one change to the next.
pub struct StoreFeed(Store);

impl StoreFeed {
    pub fn new(store: Store) -> Self {
        Self(store)
    }
}

impl FeatureFeed for StoreFeed {
    fn since(&self, position: u64) -> BoxFuture<'_, Result<FeedPage, FeedError>> {
        Box::pin(async move {
            let page = self.0.features_since(position.cast_signed(), PAGE).await;
            let page = page.map_err(|err| FeedError::Store(Box::new(err)))?;
            let changes = page.changes.into_iter().map(change).collect();
            Ok(FeedPage { changes, position: page.seq.cast_unsigned(), more: page.more })
        })
    }
}

fn change(change: FeatureChange) -> TableChange {
    match change {
        FeatureChange::Saved { number, customer, features } => match catalogue_row::from_bytes(&features.vector) {
            Some(values) => {
                let features = StoredFeatures { as_of: features.as_of, exact_until: features.next_change_at, values };
                TableChange::Stored { number: number.get(), customer, features }
            }
            // Of another catalogue: nothing to answer from until the features job has made it anew.
            None => TableChange::Gone { number: number.get() },
        },
        FeatureChange::Gone { number } => TableChange::Gone { number: number.get() },
    }
}
