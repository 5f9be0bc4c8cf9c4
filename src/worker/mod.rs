//! Jobs beside the requests.

pub mod follow_features;
