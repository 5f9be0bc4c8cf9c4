//! `POST /v1/predict/lead/batch`: many leads in one request, as NDJSON or as a JSON array. They are placed among themselves.

use axum::response::Response;
use serde_json::json;

use super::batch::{BatchCall, Results};
use super::predict_lead::{explain, score_of_many};
use crate::http::edge::body::BatchPayload;
use crate::http::edge::error::{ASK, ApiError};
use crate::http::openapi::{Operation, Tag};
use crate::http::wire::json::{append, parse_object};
use crate::http::wire::lead::{LeadAnswer, LeadRequest};
use crate::http::wire::rows::Batch;

pub(crate) fn describe() -> Operation {
    let example = json!({"leadId": "LEAD-000042", "features": {"age": 41, "job": "technician"}});
    Operation::new(Tag::Leads, "predict_lead_batch", "Which of many leads to call next, placed among themselves")
        .about("A bad row is a row result. Results come in the form the rows came in.")
        .in_time()
        .takes_rows::<LeadRequest<'static>>(false, &example)
        .gives_rows::<Batch<'static, LeadAnswer<'static>>>("LeadBatch", "Results of the rows, in their order.")
        .refuses(&ASK)
}

pub(crate) async fn handle(batch: BatchCall, BatchPayload(body): BatchPayload) -> Result<Response, ApiError> {
    let mut running = batch.begin(&body)?;
    let ids: Vec<String> = (0..running.rows.rows.len()).map(|number| batch.row_id(number)).collect();
    let requests: Vec<Result<LeadRequest<'_>, ApiError>> =
        running.rows.rows.iter().map(|row| parse_object(row)).collect();
    let mut leads = Vec::with_capacity(requests.len());
    for (request, row_id) in requests.iter().zip(&ids) {
        leads.push(match request {
            Ok(request) => {
                score_of_many(request, &batch.scorer, &batch.hasher, || row_id, running.time.next_row()).await
            }
            Err(error) => Err(error.clone()),
        });
        running.way.pause().await;
    }
    batch.scorer.place_together(leads.iter_mut().flatten().map(|(scored, _)| scored));
    let mut results = Results::for_rows(&running.rows);
    for (number, (lead, request)) in leads.into_iter().zip(&requests).enumerate() {
        results.next();
        let answered = match (lead, request) {
            (Ok((scored, context)), Ok(request)) => {
                let explained = explain(request, &batch.scorer, &scored).await;
                append(&mut results.bytes, &LeadAnswer::new(&scored, context, explained.as_ref()));
                Ok(())
            }
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) => Err(error.clone()),
        };
        results.or_error(answered, number, &ids[number]);
        running.way.pause().await;
    }
    Ok(results.reply(&batch))
}
