//! External contacts: who customers are on the platform, and what is written to their profiles.

mod enrich;
mod patch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

use super::answer::{Answer, ReceivedCall, Refusal};
use super::ids::{Id, IdKind};
use super::moment::Moment;
use super::wire;
use super::world::World;

pub(super) use enrich::{bulk_enrich, bulk_update, enrich, lookup};
pub(super) use patch::patch;

/// What was written to contacts. Locked for a moment, never across an await.
#[derive(Default)]
pub(super) struct Contacts {
    inner: Mutex<ContactsState>,
}

#[derive(Default)]
struct ContactsState {
    /// Everything that differs from the generated contact.
    written: BTreeMap<Id, ContactEdits>,
    /// Contacts that tests brought along, or that were created.
    known: BTreeSet<Id>,
    deleted: BTreeSet<Id>,
    created: u64,
}

#[derive(Default)]
struct ContactEdits {
    fields: Map<String, Value>,
    custom: Map<String, Value>,
    modified: i64,
}

/// Fields a caller may change.
const WRITABLE: [&str; 11] = [
    "firstName",
    "middleName",
    "lastName",
    "salutation",
    "title",
    "workEmail",
    "personalEmail",
    "otherEmail",
    "surveyOptOut",
    "externalSystemUrl",
    "schema",
];
/// Fields that come back as they were and may be sent along.
const READ_ONLY: [&str; 8] =
    ["id", "canonicalContact", "identifiers", "externalIds", "createDate", "modifyDate", "type", "selfUri"];
/// What a custom field's name ends in says what it holds.
const TEXTS: [&str; 6] = ["_text", "_longtext", "_url", "_identifier", "_enum", "_tag"];

impl Contacts {
    fn locked(&self) -> MutexGuard<'_, ContactsState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn know(&self, id: Id) {
        self.locked().known.insert(id);
    }

    pub(super) fn delete(&self, id: Id) {
        self.locked().deleted.insert(id);
    }

    pub(super) fn edit(&self, id: Id, field: &str, value: Value) {
        self.locked().written.entry(id).or_default().custom.insert(field.to_owned(), value);
    }

    /// Custom fields by contact, of those that have any.
    pub(super) fn profiles(&self) -> BTreeMap<Id, Map<String, Value>> {
        let inner = self.locked();
        let kept = inner.written.iter().filter(|(_, written)| !written.custom.is_empty());
        kept.map(|(id, written)| (*id, written.custom.clone())).collect()
    }
}

impl World {
    /// The contact that an id stands for today: another one after a merge.
    fn contact(&self, id: &str) -> Result<Id, Refusal> {
        let missing = || Refusal::not_found("contact");
        let id = Id::parse(id).ok_or_else(missing)?;
        let canonical = self.book.population.customer(id).map(|(customer, _)| self.book.population.contact(customer));
        let inner = self.contacts.locked();
        let id = canonical.unwrap_or(id);
        let there = canonical.is_some() || inner.known.contains(&id);
        (there && !inner.deleted.contains(&id)).then_some(id).ok_or_else(missing)
    }

    /// A contact as it is written out.
    fn document(&self, id: Id) -> Value {
        let number = id.digits();
        let mut document = json!({
            "id": id,
            "firstName": format!("CANARY-FIRST-{number:07}"),
            "lastName": format!("CANARY-LAST-{number:07}"),
            "personalEmail": format!("CANARY-MAIL-{number:07}@customers.invalid"),
            "identifiers": [{ "type": "Phone", "value": wire::phone(number).to_string() }],
            "createDate": Moment(self.book.first_day * super::moment::DAY_MS),
            "modifyDate": Moment(self.book.first_day * super::moment::DAY_MS),
            "type": "Curated",
            "selfUri": format!("/api/v2/externalcontacts/contacts/{id}"),
        });
        if let Some((customer, _)) = self.book.population.customer(id) {
            document["externalIds"] = json!([{ "value": format!("CUST-{customer}") }]);
        }
        if let Some(written) = self.contacts.locked().written.get(&id) {
            for (field, value) in &written.fields {
                document[field] = value.clone();
            }
            document["modifyDate"] = json!(Moment(written.modified));
            document["customFields"] = Value::Object(written.custom.clone());
        }
        document
    }

    /// Changes a contact, remembers that it was changed, and gives it back.
    fn change(
        &self,
        call: &ReceivedCall<'_>,
        id: Id,
        change: impl FnOnce(&mut Map<String, Value>, &mut Map<String, Value>) -> Result<(), Refusal>,
    ) -> Result<Value, Refusal> {
        let custom = {
            let mut inner = self.contacts.locked();
            let before = inner.written.get(&id).map(|written| (written.fields.clone(), written.custom.clone()));
            let (mut fields, mut custom) = before.unwrap_or_default();
            change(&mut fields, &mut custom)?;
            check_custom(&custom)?;
            if let Some(Value::Object(schema)) = fields.get_mut("schema") {
                // Named by id and version; it comes back whole.
                schema.entry("jsonSchema").or_insert_with(|| json!({}));
            }
            let written = ContactEdits { fields, custom: custom.clone(), modified: call.now };
            inner.written.insert(id, written);
            custom
        };
        self.written(call, "external_contact", id.to_string(), Value::Object(custom));
        Ok(self.document(id))
    }

    fn create(&self) -> Id {
        let mut inner = self.contacts.locked();
        inner.created += 1;
        let id = Id::of(self.settings.seed, IdKind::Contact, 1 << 41 | inner.created);
        inner.known.insert(id);
        id
    }
}

fn check_custom(custom: &Map<String, Value>) -> Result<(), Refusal> {
    for (name, value) in custom {
        let ends = |end: &str| name.ends_with(end);
        let fits = match value {
            Value::Null => true,
            Value::Number(number) => ends("_number") || ends("_integer") && number.is_i64(),
            Value::String(text) if ends("_datetime") || ends("_date") => {
                text.parse::<jiff::Timestamp>().is_ok() || text.parse::<jiff::civil::Date>().is_ok()
            }
            Value::String(_) => TEXTS.iter().any(|end| ends(end)),
            Value::Bool(_) => ends("_checkbox"),
            Value::Array(_) => ends("_tag"),
            Value::Object(_) => false,
        };
        if !fits {
            return Err(Refusal::bad(format!(
                "custom field {name} does not take {value}: its name must end in its type"
            )));
        }
    }
    Ok(())
}

type Fields = Map<String, Value>;

/// Splits a body into what may be written and the custom fields.
fn parts(mut contact: Fields) -> Result<(Fields, Option<Fields>), Refusal> {
    let custom = match contact.remove("customFields") {
        None | Some(Value::Null) => None,
        Some(Value::Object(custom)) => Some(custom),
        Some(_) => return Err(Refusal::bad("customFields must be an object")),
    };
    contact.retain(|field, _| !READ_ONLY.contains(&field.as_str()));
    match contact.keys().find(|field| !WRITABLE.contains(&field.as_str())) {
        Some(unknown) => Err(Refusal::bad(format!("contact has no field {unknown}"))),
        None => Ok((contact, custom)),
    }
}

/// `GET /api/v2/externalcontacts/contacts/{contactId}`. A merged id is told its new one.
pub(super) fn get(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let id = world.contact(call.parameter(0))?;
    let mut document = world.document(id);
    if Id::parse(call.parameter(0)) != Some(id) {
        document["canonicalContact"] = json!({ "id": id, "selfUri": document["selfUri"] });
        document["id"] = json!(call.parameter(0));
    }
    Ok(Answer::json(&document))
}

/// `PUT …/{contactId}`: the whole contact; custom fields that are not sent are gone.
pub(super) fn put(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let id = world.contact(call.parameter(0))?;
    let (new, new_custom) = parts(call.json()?)?;
    let document = world.change(call, id, |fields, custom| {
        (*fields, *custom) = (new, new_custom.unwrap_or_default());
        Ok(())
    });
    document.map(|document| Answer::json(&document))
}
