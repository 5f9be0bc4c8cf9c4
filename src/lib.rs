//! scoreline: customer lifetime value and lead priority, scored inside the process.
//!
//! The package is a library with one thin binary, on top of the crates in `crates/`. Its modules only depend downwards:
//! cli, then app, then config, then http, worker and packing, then scoring and sinks, then monitoring, then routing, auth,
//! leads and conversations.
//! `tests/it/tidy.rs` checks these arrows, the compiler those between crates.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod conversations;
pub mod http;
pub mod leads;
pub mod lifecycle;
pub mod monitoring;
pub mod packing;
pub mod routing;
pub mod scoring;
pub mod sinks;
pub mod telemetry;
pub mod worker;
