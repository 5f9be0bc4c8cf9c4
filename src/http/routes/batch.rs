//! What batches of either task do alike. A bad row is a row result; it never fails its neighbours.

use axum::extract::{FromRequestParts, State};
use axum::response::Response;

use crate::http::admission::{Admission, Class, GivingWay};
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
