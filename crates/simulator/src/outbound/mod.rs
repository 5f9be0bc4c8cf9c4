//! Outbound: contact lists with their contacts in memory, and campaigns, rule sets, filters and skills as they were configured.

mod configured;
mod list;
mod search;
mod sweep;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{ReceivedCall, Refusal};
use super::ids::{Id, IdKind};
use super::moment::Moment;
use super::world::World;

pub(super) use configured::{campaign, contact_list, contact_list_filter, rule_set, skill};
pub(super) use list::{delete, get, many, put, upsert};
pub(super) use search::search;
pub(super) use sweep::{job, update};

/// Columns of the list that is there from the start, with their types.
const COLUMNS: [(&str, &str); 4] =
    [("leadId", "TEXT"), ("Cell", "TEXT"), ("ml_score", "NUMERIC"), ("ml_last_calculated_at", "TIMESTAMP")];

/// Lists and jobs. Locked for a moment, never across an await.
pub(super) struct Outbound {
    inner: Mutex<ListsState>,
}

#[derive(Default)]
pub(super) struct ListsState {
    lists: BTreeMap<String, List>,
    jobs: BTreeMap<String, sweep::BulkJob>,
    /// What was set by hand over what is there from the start, by kind and id.
    configured: BTreeMap<(&'static str, String), Value>,
    tally: ContactTally,
    awkward: AwkwardContacts,
}

/// What was done to contacts by requests that should not have done it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContactTally {
    /// Contacts that a write made.
    pub created: u64,
    /// Contacts that were sent with `callable`.
    pub callable_sent: u64,
    /// Contacts whose system data a write cleared.
    pub cleared: u64,
    /// Contacts that a write put back into the queue.
    pub requeued: u64,
}

/// Contacts that no write with one of them in it gets past, by the beginning of their id.
#[derive(Clone, Debug, Default)]
pub struct AwkwardContacts {
    /// Answered 400.
    pub refused: Option<String>,
    /// Not answered within the time; nothing is written.
    pub hanging: Option<(String, Duration)>,
}

struct List {
    /// With their types.
    columns: Vec<(String, String)>,
    contacts: BTreeMap<String, ListContact>,
    /// Contacts that were not given an id.
    unnamed: u64,
    /// Contacts are being imported or cleared: no write is taken.
    is_importing: bool,
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
        let mut inner = ListsState::default();
        inner.set_list(&default_list(seed).to_string(), &COLUMNS);
        Self { inner: Mutex::new(inner) }
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, ListsState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// Lists as they are at the moment of a call: jobs that are due have done their work.
    fn lists(&self, call: &ReceivedCall<'_>) -> MutexGuard<'_, ListsState> {
        let mut inner = self.outbound.locked();
        for (id, data) in inner.settle(call.now) {
            self.written(call, "outbound_contact", id, json!(data));
        }
        inner
    }
}

impl List {
    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|(name, _)| name == column)
    }
}

impl ListsState {
    fn list(&mut self, id: &str) -> Result<&mut List, Refusal> {
        self.lists.get_mut(id).ok_or_else(|| Refusal::not_found("contact list"))
    }

    /// Makes a list, or gives one other columns.
    pub(super) fn set_list(&mut self, id: &str, columns: &[(&str, &str)]) {
        let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
        let contacts = self.lists.remove(id).map(|list| list.contacts).unwrap_or_default();
        self.lists.insert(id.to_owned(), List { columns, contacts, unnamed: 0, is_importing: false });
    }

    pub(super) fn remove_list(&mut self, id: &str) {
        self.lists.remove(id);
    }

    pub(super) fn import(&mut self, id: &str, is_importing: bool) {
        if let Some(list) = self.lists.get_mut(id) {
            list.is_importing = is_importing;
        }
    }

    /// What somebody else writes: columns of a contact, which is made when there is none.
    pub(super) fn put_by_hand(&mut self, list: &str, id: &str, data: BTreeMap<String, String>, now: i64) {
        if let Some(found) = self.lists.get_mut(list) {
            found.contact(list, id, now).data.extend(data);
        }
    }

    pub(super) fn delete_by_hand(&mut self, list: &str, id: &str) -> bool {
        self.lists.get_mut(list).is_some_and(|list| list.contacts.remove(id).is_some())
    }

    /// Lets a wrap-up close a contact, or open it; `None` asks only.
    pub(super) fn callable(&mut self, list: &str, id: &str, callable: Option<bool>) -> Option<bool> {
        let contact = self.lists.get_mut(list)?.contacts.get_mut(id)?;
        contact.callable = callable.unwrap_or(contact.callable);
        Some(contact.callable)
    }

    pub(super) fn configure(&mut self, kind: &'static str, id: &str, value: Value) {
        self.configured.insert((kind, id.to_owned()), value);
    }

    pub(super) fn tally(&self) -> ContactTally {
        self.tally
    }

    pub(super) fn set_awkward(&mut self, awkward: AwkwardContacts) {
        self.awkward = awkward;
    }

    /// Contacts of a list by their id: the columns.
    pub(super) fn contacts(&mut self, list: &str, now: i64) -> BTreeMap<String, BTreeMap<String, String>> {
        self.settle(now);
        let contacts = self.lists.get(list).map(|list| list.contacts.iter());
        contacts.into_iter().flatten().map(|(id, contact)| (id.clone(), contact.data.clone())).collect()
    }
}
