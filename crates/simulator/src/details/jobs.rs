//! Jobs: ask, look, fetch by cursor. A job sees the platform as it was at the data's availability date: what ended later
//! is still open to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{Wanted, write_all};
use crate::answer::{Answer, ReceivedCall, Refusal};
use crate::book::ConversationRef;
use crate::faults::FaultKind;
use crate::ids::{Id, IdKind};
use crate::moment::Moment;
use crate::world::World;

const HOUR_MS: i64 = 3_600_000;

#[derive(Default)]
pub(crate) struct DetailsJobs {
    inner: Mutex<JobsState>,
}

#[derive(Default)]
struct JobsState {
    started: u64,
    jobs: BTreeMap<Id, DetailsJob>,
}

struct DetailsJob {
    rows: Arc<[ConversationRef]>,
    /// The availability date when it was submitted.
    as_of: i64,
    submitted: i64,
    done: Option<i64>,
    looks: u32,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Normal,
    Fails,
    Stuck,
    Expired,
}

impl Fate {
    fn of(fault: Option<&FaultKind>) -> Option<Self> {
        match fault {
            Some(FaultKind::JobFailed) => Some(Self::Fails),
            Some(FaultKind::JobStuck) => Some(Self::Stuck),
            Some(FaultKind::JobExpired) => Some(Self::Expired),
            Some(_) | None => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct AvailabilityDate {
    #[serde(rename = "dataAvailabilityDate")]
    date: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'static str>,
    expiration_date: Moment,
    submission_date: Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_date: Option<Moment>,
}

impl DetailsJobs {
    /// Never held across an await, and not while a job's rows are looked for.
    fn locked(&self) -> MutexGuard<'_, JobsState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Jobs see what happened up to here.
fn available(world: &World, now: i64) -> i64 {
    let lag = world.settings.jobs.lag.as_millis() as i64;
    (now - lag).div_euclid(HOUR_MS) * HOUR_MS
}

/// `GET …/jobs/availability`.
#[expect(clippy::unnecessary_wraps, reason = "every endpoint has this form")]
pub(crate) fn availability(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    Ok(Answer::json(&AvailabilityDate { date: Moment(available(world, call.now)).to_string() }))
}

/// `POST …/jobs`.
pub(crate) fn start(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let wanted: Wanted = call.json()?;
    let settings = &world.settings;
    {
        let inner = world.jobs.locked();
        let open = inner.jobs.values().filter(|job| job.done.is_none() && job.fate != Fate::Fails).count();
        if open >= settings.jobs.at_once {
            return Err(Refusal::too_many(
                "details.jobs.concurrent.access.max",
                "analytics",
                settings.jobs.at_once as u64,
            ));
        }
    }
    let as_of = available(world, call.now);
    // The end of what is available is the first moment that is not.
    let rows: Vec<ConversationRef> = wanted
        .find(&world.book, settings.limits.job_window, as_of - 1)?
        .into_iter()
        .map(|entry| entry.reference)
        .collect();
    let mut inner = world.jobs.locked();
    inner.started += 1;
    let id = Id::of(settings.seed, IdKind::Job, inner.started);
    let life = settings.jobs.life.as_millis() as i64;
    inner.jobs.retain(|_, job| job.done.is_none_or(|done| done + life > call.now));
    let fate = Fate::of(call.fault).unwrap_or(Fate::Normal);
    let job = DetailsJob { rows: rows.into(), as_of: as_of - 1, submitted: call.now, done: None, looks: 0, fate };
    inner.jobs.insert(id, job);
    Ok(Answer::with(StatusCode::ACCEPTED, &serde_json::json!({ "jobId": id })))
}

fn find<'a>(inner: &'a mut JobsState, call: &ReceivedCall<'_>) -> Result<&'a mut DetailsJob, Refusal> {
    let job = Id::parse(call.parameter(0)).and_then(|id| inner.jobs.get_mut(&id));
    let job = job.ok_or_else(|| Refusal::not_found("job"))?;
    if let Some(fate) = Fate::of(call.fault) {
        job.fate = fate;
    }
    Ok(job)
}

/// `GET …/jobs/{jobId}`.
pub(crate) fn status(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let mut inner = world.jobs.locked();
    let job = find(&mut inner, call)?;
    job.looks = job.looks.saturating_add(1);
    let settings = &world.settings.jobs;
    let life = settings.life.as_millis() as i64;
    let due = job.looks >= settings.looks && call.now - job.submitted >= settings.time.as_millis() as i64;
    if due && matches!(job.fate, Fate::Normal | Fate::Expired) {
        job.done.get_or_insert(call.now);
    }
    let expired = job.done.is_some_and(|done| job.fate == Fate::Expired || done + life <= call.now);
    let (state, error_message) = match (job.fate, job.done) {
        _ if expired => ("EXPIRED", None),
        (Fate::Fails, _) if due => ("FAILED", Some("job failed: this is a scripted fault")),
        (Fate::Normal | Fate::Expired, Some(_)) => ("FULFILLED", None),
        (_, _) if job.looks < 2 => ("QUEUED", None),
        (Fate::Normal | Fate::Expired | Fate::Stuck | Fate::Fails, _) => ("PENDING", None),
    };
    Ok(Answer::json(&Status {
        state,
        error_message,
        expiration_date: Moment(if expired { call.now } else { job.submitted + life }),
        submission_date: Moment(job.submitted),
        completion_date: job.done.map(Moment),
    }))
}

/// `GET …/jobs/{jobId}/results`: the last page has no cursor. The same cursor gives the same page for as long as there are
/// results.
pub(crate) fn results(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let most = world.settings.limits.job_page_size;
    let size = call.count("pageSize")?.unwrap_or(most);
    if size > most {
        return Err(Refusal::bad(format!("pageSize must not exceed {most}, got {size}")));
    }
    let (rows, as_of) = {
        let mut inner = world.jobs.locked();
        let job = find(&mut inner, call)?;
        let life = world.settings.jobs.life.as_millis() as i64;
        match job.done {
            Some(done) if job.fate == Fate::Expired || done + life <= call.now => {
                return Err(Refusal::not_found("results of the job"));
            }
            Some(_) => (Arc::clone(&job.rows), job.as_of),
            None => return Err(Refusal::bad("job is not FULFILLED")),
        }
    };
    let first = match call.query("cursor") {
        None => 0,
        Some(cursor) => position(cursor, call.parameter(0)).ok_or_else(|| Refusal::bad("cursor is not valid"))?,
    };
    let next = (first + size).min(rows.len());
    let mut body = Vec::with_capacity(4096 * (next - first.min(next)));
    body.push(b'{');
    write_all(&mut body, &world.book, rows.iter().skip(first).take(size).copied(), as_of, true);
    if next < rows.len() {
        let cursor = URL_SAFE_NO_PAD.encode(format!("{}:{next}", call.parameter(0)));
        body.extend_from_slice(format!(",\"cursor\":\"{cursor}\"").as_bytes());
    }
    body.extend_from_slice(format!(",\"dataAvailabilityDate\":\"{}\"}}", Moment(as_of + 1)).as_bytes());
    Ok(Answer::bytes(StatusCode::OK, body))
}

fn position(cursor: &str, job: &str) -> Option<usize> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (owner, position) = text.split_once(':')?;
    (owner == job).then(|| position.parse().ok())?
}

/// `DELETE …/jobs/{jobId}`.
pub(crate) fn delete(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let removed = Id::parse(call.parameter(0)).and_then(|id| world.jobs.locked().jobs.remove(&id));
    removed.map(|_| Answer::nothing()).ok_or_else(|| Refusal::not_found("job"))
}
