//! The same values for every contact that fits, as a job.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ListContact;
use super::search::Criteria;
use crate::answer::{Answer, ReceivedCall, Refusal};
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
    self_uri: String,
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

/// `POST …/contacts/bulk/update`. The change is made at once; the job says so at the next look.
pub(crate) fn update(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let edit: Edit = call.json()?;
    if edit.criteria.is_none() && edit.contact_ids.is_none() {
        return Err(Refusal::bad("criteria or contactIds must be given"));
    }
    let list_id = call.parameter(0);
    let mut inner = world.outbound.locked();
    let list = inner.list(list_id)?;
    if let Some(unknown) = edit.contact.data.keys().find(|column| !list.columns.contains(column)) {
        return Err(Refusal::bad(format!("the contact list has no column {unknown}")));
    }
    let wanted = |contact: &ListContact| {
        edit.criteria.as_ref().is_none_or(|criteria| criteria.holds(contact, call.now))
            && edit.contact_ids.as_ref().is_none_or(|ids| ids.contains(&contact.id))
    };
    let mut changed = Vec::new();
    for contact in list.contacts.values_mut().filter(|contact| wanted(contact)) {
        contact.data.extend(edit.contact.data.clone());
        changed.push((contact.id.clone(), json!(contact.data)));
    }
    let id = Id::of(world.settings.seed ^ 1, IdKind::Job, inner.jobs.len() as u64).to_string();
    let job = BulkJob {
        self_uri: format!("/api/v2/outbound/contactlists/{list_id}/contacts/bulk/jobs/{id}"),
        id: id.clone(),
        state: "InProgress",
        kind: "BulkEdit",
        total_records: changed.len(),
        completed_records: 0,
        percent_complete: 0,
    };
    inner.jobs.insert(id, job.clone());
    drop(inner);
    for (id, data) in changed {
        world.written(call, "outbound_contact", id, data);
    }
    Ok(Answer::json(&job))
}

/// `GET …/contacts/bulk/jobs/{jobId}`.
pub(crate) fn job(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let mut inner = world.outbound.locked();
    inner.list(call.parameter(0))?;
    let job = inner.jobs.get_mut(call.parameter(1)).ok_or_else(|| Refusal::not_found("job"))?;
    (job.state, job.completed_records, job.percent_complete) = ("Complete", job.total_records, 100);
    Ok(Answer::json(job))
}
