//! scoreline: customer lifetime value and lead priority, scored inside the process.
//!
//! The crate is a library with one thin binary. Modules only depend downwards; `tests/it/tidy.rs` checks the arrows:
//! cli, then app, then http, then scoring, then monitoring, then inference, then routing, privacy, auth, features and
//! resilience, then domain.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
pub mod features;
pub mod http;
pub mod inference;
pub mod lifecycle;
pub mod monitoring;
pub mod privacy;
pub mod resilience;
pub mod routing;
pub mod scoring;
pub mod store;
pub mod telemetry;
pub mod worker;
