//! The same values for every contact that fits, as a job: it chooses them when it is sent and changes them when it ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::search::Criteria;
use super::{ListContact, ListsState};
use crate::answer::{Answer, ReceivedCall, Refusal};
use crate::faults::FaultKind;
use crate::ids::{Id, IdKind};
use crate::world::World;

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BulkJob {
    id: String,
    state: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    total_records: usize,
    completed_records: usize,
    percent_complete: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<Value>,
    self_uri: String,
    /// What it has still to do; `None` when it has ended.
    #[serde(skip)]
    work: Option<BulkWork>,
}

#[derive(Clone)]
struct BulkWork {
    due: i64,
    list: String,
    chosen: Vec<String>,
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edit {
    criteria: Option<Criteria>,
    contact_ids: Option<Vec<String>>,
    contact: ContactData,
}

#[derive(Deserialize)]
struct ContactData {
    data: BTreeMap<String, String>,
}

impl ListsState {
    /// Jobs that are due do their work. Returns what was written.
    pub(super) fn settle(&mut self, now: i64) -> Vec<(String, BTreeMap<String, String>)> {
        let mut written = Vec::new();
        for job in self.jobs.values_mut() {
            let Some(work) = job.work.take_if(|work| work.due <= now) else { continue };
            let Some(list) = self.lists.get_mut(&work.list) else { continue };
            for id in work.chosen {
                let Some(contact) = list.contacts.get_mut(&id) else { continue };
                contact.data.extend(work.data.clone());
                written.push((id, contact.data.clone()));
            }
        }
        written
    }
}

/// `POST …/contacts/bulk/update`.
pub(crate) fn update(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let edit: Edit = call.json()?;
    if edit.criteria.is_none() && edit.contact_ids.is_none() {
        return Err(Refusal::bad("criteria or contactIds must be given"));
    }
    let list_id = call.parameter(0);
    let mut inner = world.lists(call);
    let list = inner.list(list_id)?;
    if let Some(unknown) = edit.contact.data.keys().find(|column| !list.has(column)) {
        return Err(Refusal::bad(format!("the contact list has no column {unknown}")));
    }
    let wanted = |contact: &&ListContact| {
        edit.criteria.as_ref().is_none_or(|criteria| criteria.holds(contact, call.now))
            && edit.contact_ids.as_ref().is_none_or(|ids| ids.contains(&contact.id))
    };
    let chosen: Vec<String> = list.contacts.values().filter(wanted).map(|contact| contact.id.clone()).collect();
    let id = Id::of(world.settings.seed ^ 1, IdKind::Job, inner.jobs.len() as u64).to_string();
    let due = call.now + world.settings.bulk_edit_time.as_millis() as i64;
    let job = BulkJob {
        self_uri: format!("/api/v2/outbound/contactlists/{list_id}/contacts/bulk/jobs/{id}"),
        id: id.clone(),
        state: "InProgress",
        kind: "BulkEdit",
        total_records: chosen.len(),
        completed_records: 0,
        percent_complete: 0,
        failure_reason: None,
        work: Some(BulkWork { due, list: list_id.to_owned(), chosen, data: edit.contact.data }),
    };
    inner.jobs.insert(id, job.clone());
    Ok(Answer::json(&job))
}

/// `GET …/contacts/bulk/jobs/{jobId}`. A failing job has done nothing, one that is stuck never will.
pub(crate) fn job(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let mut inner = world.outbound.locked();
    inner.list(call.parameter(0))?;
    let job = inner.jobs.get_mut(call.parameter(1)).ok_or_else(|| Refusal::not_found("job"))?;
    match call.fault {
        Some(FaultKind::JobFailed) if job.work.is_some() => {
            (job.state, job.work) = ("Failed", None);
            job.failure_reason = Some(json!({ "code": "job.failed", "message": "a scripted fault" }));
        }
        Some(FaultKind::JobStuck) => return Ok(Answer::json(job)),
        Some(FaultKind::JobExpired) => return Err(Refusal::not_found("job")),
        Some(_) | None => {}
    }
    drop(inner);
    let mut inner = world.lists(call);
    let job = inner.jobs.get_mut(call.parameter(1)).ok_or_else(|| Refusal::not_found("job"))?;
    if job.work.is_none() && job.state == "InProgress" {
        (job.state, job.completed_records, job.percent_complete) = ("Complete", job.total_records, 100);
    }
    Ok(Answer::json(job))
}
