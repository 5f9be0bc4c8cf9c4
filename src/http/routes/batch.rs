//! What batches of either task do alike. A bad row is a row result; it never fails its neighbours.

use axum::extract::{FromRequestParts, State};
use axum::response::Response;

use crate::http::admission::{Admission, Class, GivingWay, Permit};
use crate::http::edge::deadline::{BatchTime, Hurry, OwnDeadline};
use crate::http::edge::error::ApiError;
use crate::http::edge::request_id::RequestId;
use crate::http::state::{HttpSettings, SharedState};
use crate::http::wire::json::append;
use crate::http::wire::rows::{BatchMetadata, RowError, Rows, reply};
use crate::scoring::Scorer;
use scoreline_domain::privacy::IdHasher;

/// What the rows of a batch share, of either task.
#[derive(FromRequestParts)]
#[from_request(state(SharedState))]
pub(crate) struct BatchCall {
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
pub(crate) trait BatchRow {
    /// Scores `row` under the id `row_id` and appends its answer to `results`.
    ///
    /// # Errors
    /// What is wrong with this row; nothing is appended then.
    fn score(
        row: &[u8],
        row_id: &str,
        batch: &BatchCall,
        hurry: Hurry,
        results: &mut Vec<u8>,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
}

impl BatchCall {
    /// Answers row by row, in the form the rows came in.
    ///
    /// # Errors
    /// When there is no room for a batch, or it cannot be taken apart.
    pub(crate) async fn answer<R: BatchRow>(&self, body: &[u8]) -> Result<Response, ApiError> {
        let mut running = self.begin(body)?;
        let mut results = Results::for_rows(&running.rows);
        for (number, row) in running.rows.rows.iter().enumerate() {
            let row_id = self.row_id(number);
            results.next();
            let scored = R::score(row, &row_id, self, running.time.next_row(), &mut results.bytes).await;
            results.or_error(scored, number, &row_id);
            running.way.pause().await;
        }
        Ok(results.reply(self))
    }

    /// Lets a batch in and takes it apart.
    ///
    /// # Errors
    /// When there is no room for a batch, or it cannot be taken apart.
    pub(super) fn begin<'b>(&'b self, body: &'b [u8]) -> Result<RunningBatch<'b>, ApiError> {
        Ok(RunningBatch {
            _permit: self.admission.enter(Class::Batch)?,
            time: BatchTime::start(self.settings.batch_deadline, self.deadline.0),
            rows: Rows::split(body, self.settings.batch_rows)?,
            way: GivingWay::start(),
        })
    }

    /// The id of a row that brings none.
    pub(super) fn row_id(&self, number: usize) -> String {
        format!("{}-{number}", self.id.as_str())
    }
}

/// A batch that was let in.
pub(super) struct RunningBatch<'b> {
    /// Held until the batch is answered.
    _permit: Permit<'b>,
    pub(super) time: BatchTime,
    pub(super) rows: Rows<'b>,
    pub(super) way: GivingWay,
}

/// Answers of rows, one behind the other.
pub(super) struct Results {
    pub(super) bytes: Vec<u8>,
    rows: usize,
    errors: usize,
    is_array: bool,
}

impl Results {
    pub(super) fn for_rows(rows: &Rows<'_>) -> Self {
        Self { bytes: Vec::with_capacity(rows.rows.len() * 512), rows: 0, errors: 0, is_array: rows.is_array }
    }

    /// Begins another row's answer.
    pub(super) fn next(&mut self) {
        if self.rows > 0 {
            self.bytes.push(if self.is_array { b',' } else { b'\n' });
        }
        self.rows += 1;
    }

    /// Appends what is wrong with a row, where something is.
    pub(super) fn or_error(&mut self, row: Result<(), ApiError>, number: usize, row_id: &str) {
        if let Err(error) = row {
            self.errors += 1;
            append(&mut self.bytes, &RowError { row: number, error: error.body(row_id) });
        }
    }

    pub(super) fn reply(self, batch: &BatchCall) -> Response {
        let metadata = BatchMetadata { rows: self.rows, errors: self.errors, request_id: batch.id.as_str() };
        reply(self.bytes, self.is_array, metadata)
    }
}
