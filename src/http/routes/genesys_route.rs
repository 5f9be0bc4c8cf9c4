//! `POST /v1/genesys/route`: routing for data actions; a customer with a recent score is routed by it.

use super::call::Call;
use super::genesys_clv::{answer, described};
use crate::http::edge::error::ApiError;
use crate::http::openapi::Operation;
use crate::http::state::HttpState;
use crate::http::wire::response::Reply;
use crate::scoring::Prefer;

pub(in crate::http) fn describe() -> Operation {
    described("data_action_route", "Where a customer is routed to, for data actions")
}

pub(super) async fn handle(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    answer(app, call, Prefer::LastScore).await
}
