//! Contacts found by what they are reached at: looked up, enriched, written in bulk.

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::parts;
use crate::answer::{Answer, ReceivedCall, Refusal};
use crate::ids::Id;
use crate::wire;
use crate::world::World;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Enrich {
    matching_identifiers: Vec<Identifier>,
    action: EnrichAction,
    #[serde(default)]
    contact: Map<String, Value>,
    #[serde(default)]
    field_rules: Rules,
}

#[derive(Deserialize)]
struct Identifier {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

#[derive(Clone, Copy, Deserialize)]
enum EnrichAction {
    Merge,
    Upsert,
    Update,
    Insert,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    #[serde(default)]
    default_action: Preference,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum Preference {
    #[default]
    AlwaysUseProvided,
    PreferExisting,
    PreferProvided,
}

#[derive(Deserialize)]
struct Bulk<T> {
    entities: Vec<T>,
}

impl World {
    fn identified(&self, identifier: &Identifier) -> Option<Id> {
        let population = &self.book.population;
        let known = |id: Id| self.contact(&id.to_string()).ok();
        match identifier.kind.as_str() {
            "ExternalId" => {
                let number = identifier.value.strip_prefix("CUST-")?.parse().ok()?;
                (number < population.customers()).then(|| known(population.contact(number)))?
            }
            "Phone" | "Email" => {
                let phone = identifier.kind == "Phone";
                let own = |id: Id| {
                    let address = if phone {
                        wire::phone(id.digits()).to_string()
                    } else {
                        format!("CANARY-MAIL-{:07}@customers.invalid", id.digits())
                    };
                    address == identifier.value
                };
                (0..population.customers())
                    .map(|customer| population.contact(customer))
                    .find(|id| own(*id))
                    .and_then(known)
            }
            _ => None,
        }
    }

    fn enriched(&self, call: &ReceivedCall<'_>, request: Enrich) -> Result<Value, Refusal> {
        let found = request.matching_identifiers.iter().find_map(|identifier| self.identified(identifier));
        let (new, new_custom) = parts(request.contact)?;
        if call.flag("dryRun") {
            return found.map(|id| self.document(id)).ok_or_else(|| Refusal::not_found("contact"));
        }
        let id = match (request.action, found) {
            (EnrichAction::Insert, Some(_)) => {
                let message = "a contact with these identifiers exists";
                return Err(Refusal::new(StatusCode::CONFLICT, "conflict", message));
            }
            (EnrichAction::Update | EnrichAction::Merge, None) => return Err(Refusal::not_found("contact")),
            (EnrichAction::Upsert | EnrichAction::Insert, None) => self.create(),
            (EnrichAction::Upsert | EnrichAction::Update | EnrichAction::Merge, Some(id)) => id,
        };
        let prefer = request.field_rules.default_action;
        self.change(call, id, |fields, custom| {
            fill(fields, new, prefer);
            fill(custom, new_custom.unwrap_or_default(), prefer);
            Ok(())
        })
    }
}

fn fill(old: &mut Map<String, Value>, new: Map<String, Value>, prefer: Preference) {
    for (name, value) in new {
        let there = old.get(&name).is_some_and(|value| !value.is_null());
        let keep =
            prefer == Preference::PreferExisting && there || prefer == Preference::PreferProvided && value.is_null();
        if !keep {
            old.insert(name, value);
        }
    }
}

/// `POST /api/v2/externalcontacts/identifierlookup/contacts`.
pub(crate) fn lookup(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let identifier: Identifier = call.json()?;
    let id = world.identified(&identifier).ok_or_else(|| Refusal::not_found("contact"))?;
    Ok(Answer::json(&world.document(id)))
}

/// `POST /api/v2/externalcontacts/contacts/enrich`.
pub(crate) fn enrich(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    world.enriched(call, call.json()?).map(|document| Answer::json(&document))
}

/// `POST /api/v2/externalcontacts/bulk/contacts/enrich`: each for itself.
pub(crate) fn bulk_enrich(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let Bulk { entities } = call.json::<Bulk<Enrich>>()?;
    bulk(world.settings.limits.enrich, entities, |request| world.enriched(call, request))
}

/// `POST /api/v2/externalcontacts/bulk/contacts/update`: whole contacts, each for itself.
pub(crate) fn bulk_update(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let Bulk { entities } = call.json::<Bulk<Map<String, Value>>>()?;
    bulk(world.settings.limits.bulk_update, entities, |contact| {
        let id = world.contact(contact.get("id").and_then(Value::as_str).unwrap_or_default())?;
        let (new, new_custom) = parts(contact)?;
        world.change(call, id, |fields, custom| {
            (*fields, *custom) = (new, new_custom.unwrap_or_default());
            Ok(())
        })
    })
}

fn bulk<T>(
    most: usize,
    entities: Vec<T>,
    mut write: impl FnMut(T) -> Result<Value, Refusal>,
) -> Result<Answer, Refusal> {
    if entities.is_empty() || entities.len() > most {
        return Err(Refusal::bad(format!("entities must be 1 to {most}, got {}", entities.len())));
    }
    let mut failed = Vec::new();
    let mut results = Vec::new();
    for (position, entity) in entities.into_iter().enumerate() {
        results.push(match write(entity) {
            Ok(entity) => json!({ "id": entity["id"], "success": true, "status": 200, "entity": entity }),
            Err(refusal) => {
                failed.push(position);
                let error =
                    json!({ "code": refusal.code, "message": refusal.message, "status": refusal.status.as_u16() });
                json!({ "success": false, "status": refusal.status.as_u16(), "error": error })
            }
        });
    }
    Ok(Answer::json(&json!({ "results": results, "errorCount": failed.len(), "errorIndexes": failed })))
}
