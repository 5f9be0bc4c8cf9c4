//! `POST /v1/predict/clv/batch`: many predictions in one request, as NDJSON or as a JSON array. A bad row is a row
//! result; it never fails its neighbours.

use axum::extract::{FromRequestParts, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;

use super::admission::{Admission, Class, GivingWay};
use super::answer::Answer;
use super::call::Hurry;
use super::deadline::{BatchTime, OwnDeadline};
use super::error::{ApiError, Code};
use super::json::{BatchPayload, JSON, append, parse, parse_object, with_body};
use super::observe::{RequestId, with_request_id};
use super::predict_clv::Question;
use super::request::PredictRequest;
use super::state::{HttpSettings, Shared};
use crate::privacy::IdHasher;
use crate::scoring::{Prefer, Scorer};

pub async fn handle(batch: Batch, BatchPayload(body): BatchPayload) -> Result<Response, ApiError> {
    batch.answer::<Clv>(&body).await
}

/// What the rows of a batch share, of either task.
#[derive(FromRequestParts)]
#[from_request(state(Shared))]
pub struct Batch {
    #[from_request(via(State))]
    pub scorer: Scorer,
    #[from_request(via(State))]
    pub hasher: IdHasher,
    #[from_request(via(State))]
    settings: HttpSettings,
    #[from_request(via(State))]
    admission: Admission,
    id: RequestId,
    deadline: OwnDeadline,
}

/// How a row of a batch is read, scored and written.
pub trait Row {
    /// Scores `row` under the id `row_id` and appends its answer to `results`.
    ///
    /// # Errors
    /// What is wrong with this row; nothing is appended then.
    fn score(
        row: &[u8],
        row_id: &str,
        batch: &Batch,
        hurry: Hurry,
        results: &mut Vec<u8>,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
}

impl Batch {
    /// Answers row by row, in the form the rows came in.
    ///
    /// # Errors
    /// When there is no room for a batch, or it can not be taken apart.
    pub async fn answer<R: Row>(&self, body: &[u8]) -> Result<Response, ApiError> {
        let _permit = self.admission.enter(Class::Batch)?;
        let time = BatchTime::start(self.settings.batch_deadline, self.deadline.0);
        let Rows { rows, is_array } = Rows::split(body, self.settings.batch_rows)?;
        let mut results = Vec::with_capacity(rows.len() * 512);
        let mut errors = 0;
        let mut way = GivingWay::start();
        for (number, row) in rows.iter().enumerate() {
            if number > 0 {
                results.push(if is_array { b',' } else { b'\n' });
            }
            let row_id = format!("{}-{number}", self.id.as_str());
            if let Err(error) = R::score(row, &row_id, self, time.next_row(), &mut results).await {
                errors += 1;
                append(&mut results, &RowError { row: number, error: error.body(&row_id) });
            }
            way.pause().await;
        }
        Ok(reply(results, is_array, BatchMetadata { rows: rows.len(), errors, request_id: self.id.as_str() }))
    }
}

struct Clv;

impl Row for Clv {
    async fn score(
        row: &[u8],
        row_id: &str,
        batch: &Batch,
        hurry: Hurry,
        results: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let request: PredictRequest<'_> = parse_object(row)?;
        let question = Question::new(&request, || row_id, hurry)?;
        let scored = question.score(&batch.scorer, &batch.hasher, Prefer::Exact).await?;
        let explained = question.explain(&batch.scorer, &batch.hasher, &scored).await;
        append(results, &Answer::new(&scored, None, question.context()).explained(explained.as_ref()));
        Ok(())
    }
}

/// The rows of a batch, not parsed yet.
pub struct Rows<'b> {
    pub rows: Vec<&'b [u8]>,
    /// A JSON array; lines otherwise.
    pub is_array: bool,
}

impl<'b> Rows<'b> {
    pub fn split(body: &'b [u8], most: usize) -> Result<Self, ApiError> {
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
pub fn reply(mut results: Vec<u8>, is_array: bool, metadata: BatchMetadata<'_>) -> Response {
    let response = if is_array {
        let mut body = Vec::with_capacity(results.len() + 256);
        body.extend_from_slice(br#"{"status":"success","results":["#);
        body.append(&mut results);
        body.extend_from_slice(br#"],"metadata":"#);
        append(&mut body, &metadata);
        body.push(b'}');
        with_body(StatusCode::OK, JSON, body)
    } else {
        results.push(b'\n');
        with_body(StatusCode::OK, HeaderValue::from_static("application/x-ndjson"), results)
    };
    with_request_id(response, metadata.request_id)
}

#[derive(Serialize)]
pub struct RowError<'a> {
    /// Position in the batch, from 0.
    pub row: usize,
    #[serde(flatten)]
    pub error: super::error::ErrorBody<'a>,
}

#[derive(Clone, Copy, Serialize)]
pub struct BatchMetadata<'a> {
    pub rows: usize,
    pub errors: usize,
    pub request_id: &'a str,
}
