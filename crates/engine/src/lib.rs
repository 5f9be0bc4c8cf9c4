//! What a model reads and how it is run: features as of a time, bundles, backends, and the registry of what serves.

pub mod features;
pub mod inference;
