//! Batches: many rows in one body, as NDJSON or as a JSON array, and their results in the form the rows came in.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::json::{append, parse, with_body, without_mark};
use crate::http::edge::error::{ApiError, Code, ErrorBody};
use crate::http::edge::headers::JSON;
use crate::http::edge::request_id::with_request_id;

/// The rows of a batch, not parsed yet.
pub(crate) struct Rows<'b> {
    pub rows: Vec<&'b [u8]>,
    /// A JSON array; lines otherwise.
    pub is_array: bool,
}

impl<'b> Rows<'b> {
    pub(crate) fn split(body: &'b [u8], most: usize) -> Result<Self, ApiError> {
        let body = without_mark(body);
        let is_array = body.trim_ascii_start().first() == Some(&b'[');
        let rows: Vec<&[u8]> = if is_array {
            parse::<Vec<&RawValue>>(body)?.into_iter().map(|row| row.get().as_bytes()).collect()
        } else {
            body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|row| !row.is_empty()).collect()
        };
        if rows.len() > most {
            let problem = format!("batch holds {} rows, at most {most} are allowed", rows.len());
            return Err(ApiError::new(Code::TooManyRows, problem));
        }
        Ok(Self { rows, is_array })
    }
}

/// The reply to a batch: row results, one after the other with commas or line ends between them.
pub(crate) fn reply(mut results: Vec<u8>, is_array: bool, metadata: BatchMetadata<'_>) -> Response {
    let response = if is_array {
        let mut body = Vec::with_capacity(results.len() + 256);
        body.extend_from_slice(br#"{"status":"success","results":["#);
        body.append(&mut results);
        body.extend_from_slice(br#"],"metadata":"#);
        append(&mut body, &metadata);
        body.push(b'}');
        with_body(StatusCode::OK, JSON.clone(), body)
    } else {
        results.push(b'\n');
        with_body(StatusCode::OK, HeaderValue::from_static("application/x-ndjson"), results)
    };
    with_request_id(response, metadata.request_id)
}

/// What is wrong with a row; its neighbours are answered.
#[derive(Serialize, ToSchema)]
pub(crate) struct RowError<'a> {
    /// Position in the batch, from 0.
    pub row: usize,
    #[serde(flatten)]
    pub error: ErrorBody<'a>,
}

/// What became of a row.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum RowResult<'a, R> {
    Answer(R),
    Error(RowError<'a>),
}

/// As the document has the reply to a JSON array.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(crate) struct Batch<'a, R> {
    status: &'a str,
    /// In the order of the rows.
    results: Vec<RowResult<'a, R>>,
    metadata: BatchMetadata<'a>,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
pub(crate) struct BatchMetadata<'a> {
    pub rows: usize,
    pub errors: usize,
    pub request_id: &'a str,
}
