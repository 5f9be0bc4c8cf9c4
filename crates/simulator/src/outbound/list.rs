//! Contacts of a list: written by id, read by id, taken out.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{AwkwardContacts, ContactTally, List, ListContact};
use crate::answer::{Answer, ReceivedCall, Refusal};
use crate::moment::Moment;
use crate::settings::PlatformLimits;
use crate::world::World;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    id: Option<String>,
    contact_list_id: String,
    data: BTreeMap<String, String>,
    callable: Option<bool>,
}

impl Sent {
    fn check(&self, list_id: &str, list: &List, limits: &PlatformLimits) -> Result<(), Refusal> {
        if self.contact_list_id != list_id {
            return Err(Refusal::bad(format!("contactListId {} is another list", self.contact_list_id)));
        }
        if let Some(unknown) = self.data.keys().find(|column| !list.has(column)) {
            return Err(Refusal::bad(format!("the contact list has no column {unknown}")));
        }
        match self.data.iter().find(|(_, value)| value.chars().count() > limits.value_chars) {
            Some((column, _)) => Err(Refusal::bad(format!("column {column} is too long"))),
            None => Ok(()),
        }
    }
}

impl AwkwardContacts {
    /// What a write with these contacts in it is answered, if one of them is awkward.
    fn check<'a>(&self, mut ids: impl Iterator<Item = &'a str> + Clone) -> Result<(), Refusal> {
        if let Some((start, time)) = &self.hanging
            && ids.clone().any(|id| id.starts_with(start.as_str()))
        {
            let refusal = Refusal::new(StatusCode::GATEWAY_TIMEOUT, "gateway.timeout", "no answer in time");
            return Err(Refusal { delay_ms: time.as_millis() as u64, ..refusal });
        }
        match &self.refused {
            Some(start) if ids.any(|id| id.starts_with(start.as_str())) => Err(Refusal::bad("a contact is not valid")),
            Some(_) | None => Ok(()),
        }
    }
}

impl List {
    /// The contact with this id; it is made when there is none.
    pub(super) fn contact(&mut self, list_id: &str, id: &str, now: i64) -> &mut ListContact {
        self.contacts.entry(id.to_owned()).or_insert_with(|| ListContact {
            id: id.to_owned(),
            contact_list_id: list_id.to_owned(),
            callable: true,
            data: BTreeMap::new(),
            date_created: Moment(now),
            self_uri: format!("/api/v2/outbound/contactlists/{list_id}/contacts/{id}"),
        })
    }

    fn is_open(&self) -> Result<(), Refusal> {
        let refusal = || {
            let message = "contacts of this list are being imported or cleared";
            Refusal::new(StatusCode::BAD_REQUEST, "contact.list.import.in.progress", message)
        };
        if self.is_importing { Err(refusal()) } else { Ok(()) }
    }
}

/// How a write treats what is there.
#[derive(Clone, Copy)]
struct WriteMode {
    empties_unsent: bool,
    clears: bool,
    requeues: bool,
}

/// Adds a contact or changes the one with this id.
fn write(list: &mut List, id: &str, sent: Sent, now: i64, mode: WriteMode, tally: &mut ContactTally) -> ListContact {
    tally.created += u64::from(!list.contacts.contains_key(id));
    tally.callable_sent += u64::from(sent.callable.is_some());
    tally.cleared += u64::from(mode.clears);
    tally.requeued += u64::from(mode.requeues);
    let contact = list.contact(&sent.contact_list_id, id, now);
    if mode.empties_unsent {
        contact.data.values_mut().for_each(String::clear);
    }
    contact.data.extend(sent.data);
    contact.callable = sent.callable.unwrap_or(contact.callable || mode.clears);
    contact.clone()
}

/// `POST …/contacts`: all are checked before any is written.
pub(crate) fn upsert(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let contacts: Vec<Sent> = call.json()?;
    let limits = &world.settings.limits;
    let most = limits.contacts;
    if contacts.is_empty() || contacts.len() > most {
        return Err(Refusal::bad(format!("contacts must be 1 to {most}, got {}", contacts.len())));
    }
    let list_id = call.parameter(0);
    let mut inner = world.lists(call);
    let (awkward, mut tally) = (inner.awkward.clone(), inner.tally);
    let list = inner.list(list_id)?;
    list.is_open()?;
    contacts.iter().try_for_each(|contact| contact.check(list_id, list, limits))?;
    awkward.check(contacts.iter().filter_map(|contact| contact.id.as_deref()))?;
    let is_new = |sent: &&Sent| sent.id.as_ref().is_none_or(|id| !list.contacts.contains_key(id));
    if list.contacts.len() + contacts.iter().filter(is_new).count() > limits.list_contacts {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "list.full", "the contact list is full"));
    }
    let mode = WriteMode {
        empties_unsent: world.settings.upsert_empties_unsent,
        clears: call.flag("clearSystemData"),
        requeues: !call.flag("doNotQueue"),
    };
    let mut written = Vec::with_capacity(contacts.len());
    for mut sent in contacts {
        let id = sent.id.take().unwrap_or_else(|| {
            list.unnamed += 1;
            format!("simulated-{}", list.unnamed)
        });
        written.push(write(list, &id, sent, call.now, mode, &mut tally));
    }
    inner.tally = tally;
    drop(inner);
    for contact in &written {
        world.written(call, "outbound_contact", contact.id.clone(), json!(contact.data));
    }
    Ok(Answer::json(&written))
}

/// `POST …/contacts/bulk`: reads many; those that there are.
pub(crate) fn many(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let ids: Vec<String> = call.json()?;
    let most = world.settings.limits.contacts;
    if ids.len() > most {
        return Err(Refusal::bad(format!("at most {most} contacts can be read, got {}", ids.len())));
    }
    let mut inner = world.lists(call);
    let list = inner.list(call.parameter(0))?;
    Ok(Answer::json(&ids.iter().filter_map(|id| list.contacts.get(id)).collect::<Vec<_>>()))
}

/// `GET …/contacts/{contactId}`.
pub(crate) fn get(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let mut inner = world.lists(call);
    let contact = inner.list(call.parameter(0))?.contacts.get(call.parameter(1));
    contact.map(Answer::json).ok_or_else(|| Refusal::not_found("contact"))
}

/// `PUT …/contacts/{contactId}`: the whole contact; columns that are not sent are emptied.
pub(crate) fn put(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let sent: Sent = call.json()?;
    let list_id = call.parameter(0);
    let id = call.parameter(1);
    let mut inner = world.lists(call);
    let (awkward, mut tally) = (inner.awkward.clone(), inner.tally);
    let list = inner.list(list_id)?;
    if !list.contacts.contains_key(id) {
        return Err(Refusal::not_found("contact"));
    }
    list.is_open()?;
    sent.check(list_id, list, &world.settings.limits)?;
    awkward.check(std::iter::once(id))?;
    let mode = WriteMode { empties_unsent: true, clears: false, requeues: false };
    let contact = write(list, id, sent, call.now, mode, &mut tally);
    inner.tally = tally;
    drop(inner);
    world.written(call, "outbound_contact", contact.id.clone(), json!(contact.data));
    Ok(Answer::json(&contact))
}

/// `DELETE …/contacts/{contactId}`.
pub(crate) fn delete(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let mut inner = world.lists(call);
    let contact = inner.list(call.parameter(0))?.contacts.remove(call.parameter(1));
    contact.map(|_| Answer::nothing()).ok_or_else(|| Refusal::not_found("contact"))
}
