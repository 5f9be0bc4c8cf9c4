//! What the platform says of lists, campaigns, rule sets, filters and skills: from the start, or as tests set it by hand.

use serde_json::{Value, json};

use super::{default_campaign, default_list};
use crate::answer::{Answer, ReceivedCall, Refusal};
use crate::world::World;

/// `GET /api/v2/outbound/contactlists/{contactListId}`.
pub(crate) fn contact_list(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let id = call.parameter(0);
    let mut inner = world.lists(call);
    let list = inner.list(id)?;
    let names: Vec<&String> = list.columns.iter().map(|(name, _)| name).collect();
    let typed = |(name, kind): &(String, String)| json!({ "columnName": name, "columnDataType": kind });
    let mut answer = json!({
        "id": id,
        "name": "Simulated list",
        "version": 1,
        "columnNames": names,
        "columnDataTypeSpecifications": list.columns.iter().map(typed).collect::<Vec<Value>>(),
        "selfUri": format!("/api/v2/outbound/contactlists/{id}"),
    });
    if call.flag("includeSize") {
        answer["size"] = json!(list.contacts.len());
    }
    if call.flag("includeImportStatus") {
        let state = if list.is_importing { "IN_PROGRESS" } else { "NONE" };
        answer["importStatus"] = json!({ "state": state });
    }
    Ok(Answer::json(&answer))
}

/// `GET /api/v2/outbound/campaigns/{campaignId}`: one campaign over the list that is there from the start, and what was set
/// by hand.
pub(crate) fn campaign(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let id = call.parameter(0);
    let seed = world.settings.seed;
    if id != default_campaign(seed).to_string() {
        return found(world, call, "campaign");
    }
    let mut answer = json!({
        "id": id,
        "name": "Simulated campaign",
        "version": 1,
        "contactList": { "id": default_list(seed), "name": "Simulated list" },
        "dialingMode": "predictive",
        "campaignStatus": "on",
        "callerName": "Simulated",
        "callerAddress": "+18005550199",
        "priority": 5,
        "contactSorts": [
            { "fieldName": "ml_score", "direction": "DESC", "numeric": true },
            { "fieldName": "ml_last_calculated_at", "direction": "DESC", "numeric": false },
        ],
        "dynamicContactQueueingSettings": { "sort": true, "filter": true },
        "selfUri": format!("/api/v2/outbound/campaigns/{id}"),
    });
    let inner = world.outbound.locked();
    if let Some(Value::Object(changed)) = inner.configured.get(&("campaign", id.to_owned())) {
        for (name, value) in changed {
            answer[name] = value.clone();
        }
    }
    Ok(Answer::json(&answer))
}

/// `GET /api/v2/outbound/rulesets/{ruleSetId}`.
pub(crate) fn rule_set(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    found(world, call, "rule set")
}

/// `GET /api/v2/outbound/contactlistfilters/{contactListFilterId}`.
pub(crate) fn contact_list_filter(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    found(world, call, "contact list filter")
}

/// `GET /api/v2/routing/skills/{skillId}`.
pub(crate) fn skill(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    found(world, call, "skill")
}

fn found(world: &World, call: &ReceivedCall<'_>, kind: &'static str) -> Result<Answer, Refusal> {
    let inner = world.outbound.locked();
    let value = inner.configured.get(&(kind, call.parameter(0).to_owned()));
    value.map(Answer::json).ok_or_else(|| Refusal::not_found(kind))
}
