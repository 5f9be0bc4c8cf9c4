//! Jobs: submit, look, read the results by cursor. One that comes to nothing is submitted again; what it brought until
//! then is brought again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::record::{Conversation, RecordText};
use super::{At, Gathered, PlatformHistory, Stage, before, days, halved, questions};
use crate::GenesysError;
use crate::source::ExtractionWindow;
use crate::transport::{ApiOperation, HASTY, Method, Request};

/// Conversations that have been open for longer are not waited for: some never end.
const OPEN_DAYS: u32 = 31;
/// Jobs for one span that may come to nothing.
const LOST: u32 = 5;
/// Pauses between two looks at a job: users report about three seconds as the least a job takes.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// Looks at a job before it is taken for stuck: about half an hour.
const LOOKS: u32 = 60;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) span: ExtractionWindow,
    id: String,
    lost: u32,
    state: Read,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Read {
    /// Looked at so many times.
    Looks(u32),
    /// The cursor of the next page; none for the first.
    Page(Option<String>, u32),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Submitted {
    job_id: String,
}

#[derive(Deserialize)]
struct Status {
    state: String,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    conversations: Option<Vec<Conversation<'a>>>,
    #[serde(borrow)]
    cursor: Option<RecordText<'a>>,
}

impl PlatformHistory {
    pub(super) async fn submit(
        &self,
        stage: &Stage,
        span: ExtractionWindow,
        lost: u32,
        gathered: &mut Gathered,
    ) -> Result<Stage, GenesysError> {
        let path = ["analytics", "conversations", "details", "jobs"];
        let body = Some(questions::job(span));
        let at = match self.ask(ApiOperation::JobSubmit, Method::POST, &path, &[], body, gathered).await {
            Ok(answer) => {
                let id = answer.json::<Submitted>()?.job_id;
                gathered.wait = Some(FIRST_LOOK);
                At::Job(Job { span, id, lost, state: Read::Looks(0) })
            }
            Err(err) if err.asks_for_less() => {
                let span = halved(span).ok_or(err)?;
                gathered.tally.halved += 1;
                At::Submit { span, lost }
            }
            Err(err) => return Err(err),
        };
        Ok(Stage { at, ..stage.clone() })
    }

    pub(super) async fn work_on(
        &self,
        stage: &Stage,
        job: &Job,
        gathered: &mut Gathered,
    ) -> Result<Stage, GenesysError> {
        let at = match &job.state {
            Read::Looks(looks) => self.look_at(job, *looks, gathered).await?,
            Read::Page(cursor, size) => self.read_page(job, cursor.as_deref(), *size, gathered).await?,
        };
        Ok(Stage { at, ..stage.clone() })
    }

    async fn look_at(&self, job: &Job, looks: u32, gathered: &mut Gathered) -> Result<At, GenesysError> {
        let path = ["analytics", "conversations", "details", "jobs", &job.id];
        let status = match self.ask(ApiOperation::JobStatus, Method::GET, &path, &[], None, gathered).await {
            Ok(answer) => answer.json::<Status>()?.state,
            Err(err) if err.status() == Some(404) => return self.again(job, "gone", gathered).await,
            Err(err) => return Err(err),
        };
        match status.as_str() {
            "FULFILLED" => {
                let state = Read::Page(None, self.settings.job_page_size);
                Ok(At::Job(Job { state, ..job.clone() }))
            }
            "FAILED" => self.again(job, "FAILED", gathered).await,
            "EXPIRED" => self.again(job, "EXPIRED", gathered).await,
            "CANCELLED" => self.again(job, "CANCELLED", gathered).await,
            _ if looks >= LOOKS => self.again(job, "unfinished", gathered).await,
            // QUEUED, PENDING and what may be added one day.
            _ => {
                gathered.wait = Some(FIRST_LOOK.saturating_mul(1 << looks.min(5)).min(LONGEST_LOOK));
                Ok(At::Job(Job { state: Read::Looks(looks + 1), ..job.clone() }))
            }
        }
    }

    async fn read_page(
        &self,
        job: &Job,
        cursor: Option<&str>,
        size: u32,
        gathered: &mut Gathered,
    ) -> Result<At, GenesysError> {
        let path = ["analytics", "conversations", "details", "jobs", &job.id, "results"];
        let page_size = size.to_string();
        let mut query = vec![("pageSize", page_size.as_str())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let answer = match self.ask(ApiOperation::JobResults, Method::GET, &path, &query, None, gathered).await {
            Ok(answer) => answer,
            Err(err) if err.status() == Some(404) => return self.again(job, "gone", gathered).await,
            // The page size is what there is less of; a cursor may not be good for another one, so from the beginning.
            Err(err) if err.asks_for_less() => {
                let size = size / 2;
                if size == 0 {
                    return Err(err);
                }
                gathered.tally.halved += 1;
                return Ok(At::Job(Job { state: Read::Page(None, size), ..job.clone() }));
            }
            Err(err) => return Err(err),
        };
        let page: Page<'_> = answer.json()?;
        let oldest_open = before(self.clock.now(), days(OPEN_DAYS));
        let rows = page.conversations.iter().flatten();
        gathered.open_since =
            rows.clone().filter_map(Conversation::open_since).filter(|since| *since >= oldest_open).min();
        gathered.interactions = rows.filter_map(|row| row.extract(&self.identity, &mut gathered.tally)).collect();
        let next = page.cursor.filter(|cursor| !cursor.as_str().is_empty());
        Ok(if let Some(cursor) = next {
            At::Job(Job { state: Read::Page(Some(cursor.as_str().to_owned()), size), ..job.clone() })
        } else {
            debug!("a job's results are read");
            At::Annotations { span: job.span, from: job.span.from }
        })
    }

    /// Submits the span once more, if it was not lost too often.
    async fn again(&self, job: &Job, state: &str, gathered: &mut Gathered) -> Result<At, GenesysError> {
        let lost = job.lost + 1;
        warn!(state, lost, "a job for conversations came to nothing and is submitted again");
        if lost >= LOST {
            let days = u32::try_from((job.span.to.as_second() - job.span.from.as_second()) / super::DAY_S);
            let days = days.unwrap_or_default();
            return Err(GenesysError::JobFailed { from: job.span.from, days, times: lost, state: state.to_owned() });
        }
        if state == "unfinished" {
            // It would count against the jobs that may run at once. Whether it is really gone does not matter.
            let path = ["analytics", "conversations", "details", "jobs", &job.id];
            let operation = ApiOperation::JobDelete;
            let request =
                Request { operation, method: Method::DELETE, path: &path, query: &[], body: None, attempts: HASTY };
            let deleted = self.transport.call(&request).await;
            debug!(deleted = deleted.is_ok(), "a stuck job is deleted");
        }
        gathered.tally.resubmitted += 1;
        gathered.wait = Some(FIRST_LOOK.saturating_mul(1 << lost.min(5)));
        Ok(At::Submit { span: job.span, lost })
    }
}
