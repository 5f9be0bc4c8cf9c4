//! scoreline: customer lifetime value and lead priority, scored inside the process.
//!
//! The crate is a library with one thin binary. Modules only depend downwards; `tests/it/tidy.rs` checks the
//! arrows: `cli > app > {http, worker} > {scoring, sinks} > inference > {routing, privacy, features, resilience}
//! > domain`.

pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod features;
pub mod http;
pub mod inference;
pub mod lifecycle;
pub mod privacy;
pub mod routing;
pub mod scoring;
pub mod telemetry;
