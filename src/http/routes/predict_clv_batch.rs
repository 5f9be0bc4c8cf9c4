//! `POST /v1/predict/clv/batch`: many predictions in one request, as NDJSON or as a JSON array.

use axum::response::Response;
use serde_json::json;

use super::batch::{BatchCall, BatchRow};
use super::question::ClvQuestion;
use crate::http::edge::body::BatchPayload;
use crate::http::edge::deadline::Hurry;
use crate::http::edge::error::{ASK, ApiError};
use crate::http::openapi::{Operation, Tag};
use crate::http::wire::answer::ClvAnswer;
use crate::http::wire::json::{append, parse_object};
use crate::http::wire::request::PredictRequest;
use crate::http::wire::rows::Batch;
use crate::scoring::Prefer;

pub(crate) fn describe() -> Operation {
    let example = json!({"customerId": "CUST-000042", "features": {"recency_days": 12, "frequency_count": 48}});
    Operation::new(Tag::Customers, "predict_clv_batch", "What many customers are worth")
        .about("A bad row is a row result. Results come in the form the rows came in.")
        .in_time()
        .takes_rows::<PredictRequest<'static>>(false, &example)
        .gives_rows::<Batch<'static, ClvAnswer<'static>>>("ClvBatch", "Results of the rows, in their order.")
        .refuses(&ASK)
}

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
