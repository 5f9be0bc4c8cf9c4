//! `POST /v1/predict/clv/batch`: many predictions in one request, as NDJSON or as a JSON array.

use axum::response::Response;

use super::batch::{BatchCall, BatchRow};
use super::question::ClvQuestion;
use crate::http::edge::body::BatchPayload;
use crate::http::edge::deadline::Hurry;
use crate::http::edge::error::ApiError;
use crate::http::wire::answer::ClvAnswer;
use crate::http::wire::json::{append, parse_object};
use crate::http::wire::request::PredictRequest;
use crate::scoring::Prefer;

pub(crate) async fn handle(batch: BatchCall, BatchPayload(body): BatchPayload) -> Result<Response, ApiError> {
    batch.answer::<Clv>(&body).await
}

struct Clv;

impl BatchRow for Clv {
    async fn score(
        row: &[u8],
        row_id: &str,
        batch: &BatchCall,
        hurry: Hurry,
        results: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let request: PredictRequest<'_> = parse_object(row)?;
        let question = ClvQuestion::new(&request, batch.hasher.screen(), || row_id, hurry)?;
        let scored = question.score(&batch.scorer, &batch.hasher, Prefer::Exact).await?;
        let explained = question.explain(&batch.scorer, &batch.hasher, &scored).await;
        append(results, &ClvAnswer::new(&scored, None, question.context()).explained(explained.as_ref()));
        Ok(())
    }
}
