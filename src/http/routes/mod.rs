//! What the public listener answers: one endpoint a file, and what several of them share.

mod batch;
mod call;
pub mod customer_score;
pub mod customers;
mod genesys_clv;
mod genesys_lead;
mod genesys_route;
pub mod health;
pub mod live;
pub mod oauth_token;
pub mod outcomes;
mod predict_clv;
pub mod predict_clv_batch;
mod predict_lead;
pub mod predict_lead_batch;
mod question;
mod route_tier;

pub use call::Call;
