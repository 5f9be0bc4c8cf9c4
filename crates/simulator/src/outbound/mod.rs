//! Outbound: contact lists with their contacts in memory, and campaigns that show what was configured.

mod list;
mod search;
mod sweep;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{Answer, ReceivedCall, Refusal};
use super::ids::{Id, IdKind};
use super::moment::Moment;
use super::world::World;

pub(super) use list::{get, many, put, upsert};
pub(super) use search::search;
pub(super) use sweep::{job, update};

/// Columns of the list that is there from the start.
const COLUMNS: [&str; 4] = ["leadId", "Cell", "ml_score", "ml_last_calculated_at"];

/// Lists and jobs. Locked for a moment, never across an await.
pub(super) struct Outbound {
    inner: Mutex<ListsState>,
}

struct ListsState {
    lists: BTreeMap<String, List>,
    jobs: BTreeMap<String, sweep::BulkJob>,
}

struct List {
    columns: Vec<String>,
    contacts: BTreeMap<String, ListContact>,
    /// Contacts that were not given an id.
    unnamed: u64,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListContact {
    id: String,
    contact_list_id: String,
    callable: bool,
    data: BTreeMap<String, String>,
    date_created: Moment,
    self_uri: String,
}

/// The list and the campaign that are there from the start.
pub(super) fn default_list(seed: u64) -> Id {
    Id::of(seed, IdKind::Part, 72)
}

pub(super) fn default_campaign(seed: u64) -> Id {
    Id::of(seed, IdKind::Part, 71)
}

impl Outbound {
    pub(super) fn new(seed: u64) -> Self {
        let outbound = Self { inner: Mutex::new(ListsState { lists: BTreeMap::new(), jobs: BTreeMap::new() }) };
        outbound.add_list(&default_list(seed).to_string(), &COLUMNS);
        outbound
    }

    fn locked(&self) -> MutexGuard<'_, ListsState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_list(&self, id: &str, columns: &[&str]) {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        self.locked().lists.insert(id.to_owned(), List { columns, contacts: BTreeMap::new(), unnamed: 0 });
    }

    /// Contacts of a list by their id: the columns.
    pub(super) fn contacts(&self, list: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        let inner = self.locked();
        let contacts = inner.lists.get(list).map(|list| list.contacts.iter());
        contacts.into_iter().flatten().map(|(id, contact)| (id.clone(), contact.data.clone())).collect()
    }
}

impl ListsState {
    fn list(&mut self, id: &str) -> Result<&mut List, Refusal> {
        self.lists.get_mut(id).ok_or_else(|| Refusal::not_found("contact list"))
    }
}

/// `GET /api/v2/outbound/contactlists/{contactListId}`.
pub(super) fn contact_list(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let id = call.parameter(0);
    let mut inner = world.outbound.locked();
    let list = inner.list(id)?;
    let kind = |column: &String| {
        let kind = match column.as_str() {
            "ml_score" => "NUMERIC",
            "ml_last_calculated_at" => "TIMESTAMP",
            _ => "TEXT",
        };
        json!({ "columnName": column, "columnDataType": kind })
    };
    Ok(Answer::json(&json!({
        "id": id,
        "name": "Simulated list",
        "version": 1,
        "columnNames": list.columns,
        "columnDataTypeSpecifications": list.columns.iter().map(kind).collect::<Vec<Value>>(),
        "size": list.contacts.len(),
        "selfUri": format!("/api/v2/outbound/contactlists/{id}"),
    })))
}

/// `GET /api/v2/outbound/campaigns/{campaignId}`: one campaign, over the list that is there from the start.
pub(super) fn campaign(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let own = default_campaign(world.settings.seed).to_string();
    if call.parameter(0) != own {
        return Err(Refusal::not_found("campaign"));
    }
    let list = default_list(world.settings.seed);
    Ok(Answer::json(&json!({
        "id": own,
        "name": "Simulated campaign",
        "version": 1,
        "contactList": { "id": list, "name": "Simulated list" },
        "dialingMode": "predictive",
        "campaignStatus": "on",
        "callerName": "Simulated",
        "callerAddress": "+18005550199",
        "priority": 5,
        "contactSorts": [{ "fieldName": "ml_score", "direction": "DESC", "numeric": true }],
        "dynamicContactQueueingSettings": { "sort": true, "filter": true },
        "selfUri": format!("/api/v2/outbound/campaigns/{own}"),
    })))
}
