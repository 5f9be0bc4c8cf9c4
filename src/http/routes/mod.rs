//! What the public listener answers: one endpoint a file, and what several of them share.

mod batch;
mod call;
mod conversation;
pub(super) mod customer_score;
pub(super) mod customers;
pub(super) mod docs;
pub(super) mod genesys_clv;
pub(super) mod genesys_lead;
pub(super) mod genesys_route;
pub(super) mod health;
pub(super) mod job;
pub(super) mod lead_events;
pub(super) mod lead_scores;
pub(super) mod leads;
pub(super) mod live;
pub(super) mod oauth_token;
pub(super) mod oip;
pub(super) mod outcomes;
pub(super) mod predict_clv;
pub(super) mod predict_clv_batch;
pub(super) mod predict_later;
pub(super) mod predict_lead;
pub(super) mod predict_lead_batch;
pub(super) mod purchases;
mod question;
pub(super) mod route_tier;
pub(super) mod widget;

pub(super) use call::Call;
