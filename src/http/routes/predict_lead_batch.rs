//! `POST /v1/predict/lead/batch`: many leads in one request, as NDJSON or as a JSON array.

use axum::response::Response;

use super::batch::{BatchCall, BatchRow};
use super::predict_lead::{explain, score};
use crate::http::edge::body::BatchPayload;
use crate::http::edge::deadline::Hurry;
use crate::http::edge::error::ApiError;
use crate::http::wire::json::{append, parse_object};
use crate::http::wire::lead::{LeadAnswer, LeadRequest};

pub(crate) async fn handle(batch: BatchCall, BatchPayload(body): BatchPayload) -> Result<Response, ApiError> {
    batch.answer::<Lead>(&body).await
}

struct Lead;

impl BatchRow for Lead {
    async fn score(
        row: &[u8],
        row_id: &str,
        batch: &BatchCall,
        hurry: Hurry,
        results: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let request: LeadRequest<'_> = parse_object(row)?;
        let (scored, context) = score(&request, &batch.scorer, &batch.hasher, || row_id, hurry).await?;
        let explained = explain(&request, &batch.scorer, &scored).await;
        append(results, &LeadAnswer::new(&scored, context, explained.as_ref()));
        Ok(())
    }
}
