//! HTTP transport only: unpack, call one service, wrap. One endpoint, one file; wire structs never leave this module.

mod admin_models;
mod admin_outcomes;
mod answer;
pub mod auth;
mod error;
mod explanation;
mod genesys;
mod health;
mod json;
pub mod listener;
mod metrics;
mod oauth_token;
mod observe;
mod outcomes;
mod predict_batch;
mod predict_clv;
mod predict_lead;
mod request;
mod route_tier;
mod router;
mod state;

pub use health::Readiness;
pub use router::{admin, public};
pub use state::{HttpSettings, HttpState, RenderMetrics, Shared};
