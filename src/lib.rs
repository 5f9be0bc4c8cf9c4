//! scoreline: customer lifetime value and lead priority, scored inside the process.
//!
//! The crate is a library with one thin binary. Modules only depend downwards; `tests/it/tidy.rs` checks the arrows:
//! cli, then app, then http, then scoring, then monitoring, then inference, then routing, privacy, auth, features and
//! resilience, then domain.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod http;
pub mod lifecycle;
pub mod monitoring;
pub mod routing;
pub mod scoring;
pub mod sinks;
pub mod telemetry;
pub mod worker;
