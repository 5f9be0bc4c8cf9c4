//! Contacts of a list: written by id, read by id.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::{List, ListContact};
use crate::answer::{Answer, ReceivedCall, Refusal};
use crate::moment::Moment;
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
    fn check(&self, list_id: &str, list: &List) -> Result<(), Refusal> {
        if self.contact_list_id != list_id {
            return Err(Refusal::bad(format!("contactListId {} is another list", self.contact_list_id)));
        }
        match self.data.keys().find(|column| !list.columns.contains(column)) {
            Some(unknown) => Err(Refusal::bad(format!("the contact list has no column {unknown}"))),
            None => Ok(()),
        }
    }
}

impl List {
    /// Adds a contact or changes the one with this id.
    fn write(&mut self, list_id: &str, id: &str, sent: Sent, now: i64, empty_unsent: bool) -> &ListContact {
        let contact = self.contacts.entry(id.to_owned()).or_insert_with(|| ListContact {
            id: id.to_owned(),
            contact_list_id: list_id.to_owned(),
            callable: true,
            data: BTreeMap::new(),
            date_created: Moment(now),
            self_uri: format!("/api/v2/outbound/contactlists/{list_id}/contacts/{id}"),
        });
        if empty_unsent {
            contact.data.values_mut().for_each(String::clear);
        }
        contact.data.extend(sent.data);
        contact.callable = sent.callable.unwrap_or(contact.callable);
        contact
    }
}

/// `POST …/contacts`: all are checked before any is written.
pub(crate) fn upsert(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let contacts: Vec<Sent> = call.json()?;
    let most = world.settings.limits.contacts;
    if contacts.is_empty() || contacts.len() > most {
        return Err(Refusal::bad(format!("contacts must be 1 to {most}, got {}", contacts.len())));
    }
    let list_id = call.parameter(0);
    let mut inner = world.outbound.locked();
    let list = inner.list(list_id)?;
    contacts.iter().try_for_each(|contact| contact.check(list_id, list))?;
    let mut written = Vec::with_capacity(contacts.len());
    for mut sent in contacts {
        let id = sent.id.take().unwrap_or_else(|| {
            list.unnamed += 1;
            format!("simulated-{}", list.unnamed)
        });
        written.push(list.write(list_id, &id, sent, call.now, world.settings.upsert_empties_unsent).clone());
    }
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
    let mut inner = world.outbound.locked();
    let list = inner.list(call.parameter(0))?;
    Ok(Answer::json(&ids.iter().filter_map(|id| list.contacts.get(id)).collect::<Vec<_>>()))
}

/// `GET …/contacts/{contactId}`.
pub(crate) fn get(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let mut inner = world.outbound.locked();
    let contact = inner.list(call.parameter(0))?.contacts.get(call.parameter(1));
    contact.map(Answer::json).ok_or_else(|| Refusal::not_found("contact"))
}

/// `PUT …/contacts/{contactId}`: the whole contact; columns that are not sent are emptied.
pub(crate) fn put(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let sent: Sent = call.json()?;
    let list_id = call.parameter(0);
    let id = call.parameter(1);
    let mut inner = world.outbound.locked();
    let list = inner.list(list_id)?;
    if !list.contacts.contains_key(id) {
        return Err(Refusal::not_found("contact"));
    }
    sent.check(list_id, list)?;
    let contact = list.write(list_id, id, sent, call.now, true).clone();
    drop(inner);
    world.written(call, "outbound_contact", contact.id.clone(), json!(contact.data));
    Ok(Answer::json(&contact))
}
