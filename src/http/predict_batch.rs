//! `POST /v1/predict/clv/batch`: many predictions in one request, as NDJSON or as a JSON array. A bad row is a row
//! result; it never fails its neighbours.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;

use super::answer::Answer;
use super::error::{ApiError, Code};
use super::json::{BatchPayload, parse, parse_object, respond, with_body};
use super::observe::RequestId;
use super::predict_clv::Question;
use super::request::PredictRequest;
use super::state::HttpSettings;
use crate::privacy::IdHasher;
use crate::scoring::{Prefer, Scorer};

pub async fn handle(
    State(scorer): State<Scorer>,
    State(hasher): State<IdHasher>,
    State(settings): State<HttpSettings>,
    id: RequestId,
    BatchPayload(body): BatchPayload,
) -> Result<Response, ApiError> {
    let is_array = body.trim_ascii_start().first() == Some(&b'[');
    let rows: Vec<&[u8]> = if is_array {
        parse::<Vec<&RawValue>>(&body)?.into_iter().map(|row| row.get().as_bytes()).collect()
    } else {
        body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|row| !row.is_empty()).collect()
    };
    if rows.len() > settings.batch_rows {
        let problem = format!("batch holds {} rows, at most {} are allowed", rows.len(), settings.batch_rows);
        return Err(ApiError::new(Code::TooManyRows, problem));
    }
    let mut results = Vec::with_capacity(rows.len() * 512);
    let mut errors = 0;
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            results.push(if is_array { b',' } else { b'\n' });
        }
        let row_id = format!("{}-{number}", id.as_str());
        if let Err(error) = score(row, &row_id, &scorer, &hasher, &mut results).await {
            errors += 1;
            write(&mut results, &RowError { row: number, error: error.body(&row_id) });
        }
        // A batch shares its thread with live calls.
        tokio::task::consume_budget().await;
    }
    if !is_array {
        results.push(b'\n');
        return Ok(with_body(StatusCode::OK, "application/x-ndjson", results));
    }
    let results = [b"[".as_slice(), &results, b"]"].concat();
    let results: &RawValue = parse(&results)?;
    let metadata = BatchMetadata { rows: rows.len(), errors, request_id: id.as_str() };
    Ok(respond(StatusCode::OK, &BatchAnswer { status: "success", results, metadata }))
}

async fn score(
    row: &[u8],
    row_id: &str,
    scorer: &Scorer,
    hasher: &IdHasher,
    results: &mut Vec<u8>,
) -> Result<(), ApiError> {
    let request: PredictRequest<'_> = parse_object(row)?;
    let question = Question::new(&request, row_id)?;
    let scored = question.score(scorer, hasher, Prefer::Exact).await?;
    let explained = question.explain(scorer, &scored).await;
    write(results, &Answer::new(&scored, None, question.context()).explained(explained.as_ref()));
    Ok(())
}

fn write<T: Serialize>(results: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(results, value).expect("our own answers serialise into memory");
}

#[derive(Serialize)]
struct RowError<'a> {
    /// Position in the batch, from 0.
    row: usize,
    #[serde(flatten)]
    error: super::error::ErrorBody<'a>,
}

#[derive(Serialize)]
struct BatchAnswer<'a> {
    status: &'static str,
    results: &'a RawValue,
    metadata: BatchMetadata<'a>,
}

#[derive(Serialize)]
struct BatchMetadata<'a> {
    rows: usize,
    errors: usize,
    request_id: &'a str,
}
