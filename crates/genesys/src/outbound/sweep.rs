//! The platform's own job over a list: every score older than a moment becomes another one, in two requests instead of one
//! for each thousand leads.

use serde::Deserialize;
use serde_json::{Value, json};

use super::SweepState;
use super::list_state::of_list;
use crate::SendFault;
use crate::settings::OutboundSettings;
use crate::transport::{ApiOperation, Method, ONE, Permits, Request, Transport};
use scoreline_domain::time::{Timestamp, seconds_between};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkJob {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    completed_records: u64,
}

/// What is asked for: scores above `value` that were calculated before `cutoff`. Contacts without a time stay as they are.
pub(super) fn body(list: &str, settings: &OutboundSettings, now: Timestamp, cutoff: Timestamp, value: u8) -> Vec<u8> {
    let is_old = json!({
        "column": settings.time_column,
        "columnType": "alphabetic",
        "operator": "BEFORE",
        "value": ago(now, cutoff),
    });
    let differs = json!({
        "column": settings.score_column,
        "columnType": "numeric",
        "operator": "GREATER_THAN",
        "value": value.to_string(),
    });
    let clause = json!({ "filterType": "AND", "predicates": [is_old, differs] });
    let mut data = serde_json::Map::new();
    data.insert(settings.score_column.clone(), Value::String(value.to_string()));
    json!({
        "criteria": { "filterType": "AND", "clauses": [clause] },
        "contact": { "contactListId": list, "data": data },
        "generateDownloadURI": false,
    })
    .to_string()
    .into_bytes()
}

/// A moment as the platform writes it, relative to its own now: `P-01DT00H00M` is a day ago. Up to a whole minute, so
/// that none is swept before its time. A sign stands before each number that is not nothing.
pub(crate) fn ago(now: Timestamp, then: Timestamp) -> String {
    let minutes = seconds_between(then, now).div_ceil(60);
    let signed = |number: u64| if number == 0 { "00".to_owned() } else { format!("-{number:02}") };
    format!("P{}DT{}H{}M", signed(minutes / 1440), signed(minutes / 60 % 24), signed(minutes % 60))
}

pub(super) async fn start(
    transport: &Transport,
    list: &str,
    permits: &Permits,
    body: Vec<u8>,
) -> Result<Option<String>, SendFault> {
    let request = Request {
        operation: ApiOperation::LeadsSweep,
        method: Method::POST,
        path: &["outbound", "contactlists", list, "contacts", "bulk", "update"],
        query: &[],
        body: Some(body),
        attempts: ONE,
    };
    let answer = transport.once(&request, permits).await.map_err(of_list)?;
    let job: BulkJob = answer.json().map_err(|err| SendFault::from(&err))?;
    let unnamed = || SendFault::Unknown { reason: "a job was started and not named".to_owned() };
    job.id.map(Some).ok_or_else(unnamed)
}

pub(super) async fn poll(
    transport: &Transport,
    list: &str,
    permits: &Permits,
    job: &str,
) -> Result<SweepState, SendFault> {
    let request = Request {
        operation: ApiOperation::SweepJob,
        method: Method::GET,
        path: &["outbound", "contactlists", list, "contacts", "bulk", "jobs", job],
        query: &[],
        body: None,
        attempts: ONE,
    };
    let job: BulkJob = match transport.once(&request, permits).await {
        Ok(answer) => answer.json().map_err(|err| SendFault::from(&err))?,
        // Gone, and what it did is not known: the rows are read.
        Err(SendFault::Refused { status: 404 | 410, .. }) => return Ok(SweepState::Failed),
        Err(fault) => return Err(fault),
    };
    Ok(match job.state.as_deref() {
        Some("Complete") => SweepState::Done { changed: job.completed_records },
        Some("Failed") => SweepState::Failed,
        Some(_) | None => SweepState::Running,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_is_told_as_the_platform_writes_it() {
        let now: Timestamp = "2026-11-28T10:00:00Z".parse().expect("a time");
        let told = |seconds: u64| ago(now, now.checked_sub(Duration::from_secs(seconds)).expect("in the calendar"));
        assert_eq!(told(24 * 3600), "P-01DT00H00M");
        assert_eq!(told(24 * 3600 + 1), "P-01DT00H-01M");
        assert_eq!(told(36 * 3600 + 30 * 60), "P-01DT-12H-30M");
        assert_eq!(told(2 * 3600), "P00DT-02H00M");
    }
}
