//! Changes of single fields of a contact, by path.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::WRITABLE;
use crate::answer::{Answer, ReceivedCall, Refusal};
use crate::world::World;

#[derive(Deserialize)]
struct Patch {
    changes: Vec<FieldChange>,
}

#[derive(Deserialize)]
struct FieldChange {
    field: String,
    #[serde(default)]
    value: Value,
    action: PatchAction,
}

#[derive(Clone, Copy, Deserialize)]
enum PatchAction {
    UpdateIfEmpty,
    UpdateIfExists,
    Update,
    Remove,
    AppendToCollection,
    RemoveFromCollection,
}

impl FieldChange {
    fn apply(self, fields: &mut Map<String, Value>, custom: &mut Map<String, Value>) -> Result<(), Refusal> {
        let unknown = || Refusal::bad(format!("field {} cannot be changed", self.field));
        let path = self.field.strip_prefix("$.").ok_or_else(unknown)?;
        let (place, name) = match path.strip_prefix("customFields.") {
            Some(name) => (custom, name),
            None if WRITABLE.contains(&path) => (fields, path),
            None => return Err(unknown()),
        };
        let there = place.get(name).is_some_and(|value| !value.is_null());
        match self.action {
            PatchAction::Update => drop(place.insert(name.to_owned(), self.value)),
            PatchAction::UpdateIfEmpty if !there => drop(place.insert(name.to_owned(), self.value)),
            PatchAction::UpdateIfExists if there => drop(place.insert(name.to_owned(), self.value)),
            PatchAction::UpdateIfEmpty | PatchAction::UpdateIfExists => {}
            PatchAction::Remove => drop(place.remove(name)),
            PatchAction::AppendToCollection | PatchAction::RemoveFromCollection => {
                return Err(Refusal::bad(format!("field {} is no collection", self.field)));
            }
        }
        Ok(())
    }
}

/// `PATCH /api/v2/externalcontacts/contacts/{contactId}`: all changes or none.
pub(crate) fn patch(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let id = world.contact(call.parameter(0))?;
    let Patch { changes } = call.json()?;
    let document = world
        .change(call, id, |fields, custom| changes.into_iter().try_for_each(|change| change.apply(fields, custom)))?;
    Ok(Answer::json(&document))
}
