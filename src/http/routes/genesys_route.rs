//! `POST /v1/genesys/route`: routing for data actions; a customer with a recent score is routed by it.

use super::call::Call;
use super::genesys_clv::answer;
use crate::http::edge::error::ApiError;
use crate::http::state::HttpState;
use crate::http::wire::response::Reply;
use crate::scoring::Prefer;

pub(super) async fn handle(app: &HttpState, call: &Call) -> Result<Reply, ApiError> {
    answer(app, call, Prefer::LastScore).await
}
