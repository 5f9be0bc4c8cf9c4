//! What the admin listener answers, and the public one never does.

mod comparison;
pub(super) mod jobs;
pub(super) mod metrics;
pub(super) mod models;
pub(super) mod operator;
pub(super) mod outcomes;
pub(super) mod privacy;
pub(super) mod push;
pub(super) mod write_back;
