//! HTTP transport only: unpack, call one service, wrap. One endpoint, one file; wire structs never leave this module.

mod admin_comparison;
mod admin_models;
mod admin_outcomes;
pub mod admission;
mod answer;
mod call;
mod deadline;
mod error;
mod explanation;
mod genesys;
mod health;
mod hot;
mod json;
pub mod listener;
mod metrics;
mod observe;
mod outcomes;
mod predict_batch;
mod predict_clv;
mod predict_lead;
mod request;
mod route_tier;
mod router;
mod service;
mod state;
pub mod tls;
mod writer;

pub use health::Readiness;
pub use router::admin;
pub use service::{Public, ReplyBody};
pub use state::{HttpSettings, HttpState, RenderMetrics, Shared};
