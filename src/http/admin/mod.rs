//! What the admin listener answers, and the public one never does.

mod comparison;
pub mod jobs;
pub mod metrics;
pub mod models;
pub mod outcomes;
pub mod privacy;
pub mod write_back;
