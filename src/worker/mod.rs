//! Jobs beside the requests.

pub mod feature_feed;
pub mod follow_features;
