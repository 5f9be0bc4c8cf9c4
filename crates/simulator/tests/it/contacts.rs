//! External contacts: custom fields are written as the platform takes them.

use serde_json::{Value, json};

use super::visitor::{Visitor, settings};

const CONTACTS: &str = "/api/v2/externalcontacts/contacts";

fn update(field: &str, value: &Value) -> Value {
    json!({ "changes": [{ "field": format!("$.customFields.{field}"), "value": value, "action": "Update" }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_keep_what_they_do_not_name_and_puts_do_not() {
    let visitor = Visitor::new(settings()).await;
    let contact = visitor.simulator.contact(2);
    let path = format!("{CONTACTS}/{contact}");
    visitor.ok("PATCH", &path, Some(&update("clv_tier_text", &json!("High_Value")))).await;
    let patched = visitor.ok("PATCH", &path, Some(&update("clv_number", &json!(12.5)))).await;
    let both = json!({ "clv_number": 12.5, "clv_tier_text": "High_Value" });
    assert_eq!(patched["customFields"], both);
    assert_eq!(visitor.ok("GET", &path, None).await, patched);
    assert_eq!(json!(visitor.simulator.profiles()[&contact.to_string()]), both);
    visitor.ok("PUT", &path, Some(&patched)).await;
    assert_eq!(visitor.ok("GET", &path, None).await["customFields"], both, "what was read can be sent back");
    let put = visitor.ok("PUT", &path, Some(&json!({ "customFields": { "clv_number": 1 } }))).await;
    assert_eq!(put["customFields"], json!({ "clv_number": 1 }));
    assert_eq!(visitor.simulator.writes().len(), 4);

    for (field, value) in [("clv", json!(1)), ("clv_number", json!("1")), ("at_datetime", json!("soon"))] {
        assert_eq!(visitor.send("PATCH", &path, Some(&update(field, &value))).await.status, 400, "{field}");
    }
    let name = json!({ "changes": [{ "field": "$.id", "value": "x", "action": "Update" }] });
    assert_eq!(visitor.send("PATCH", &path, Some(&name)).await.status, 400);
    visitor.simulator.delete_contact(contact);
    assert_eq!(visitor.get(&path).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_contact_is_written_under_its_new_id() {
    let visitor = Visitor::new(scoreline_simulator::SimulatorSettings { customers: 500, ..settings() }).await;
    let (customer, before) = visitor.simulator.merged().next().expect("one in fifty is merged");
    let canonical = visitor.simulator.contact(customer).to_string();
    let read = visitor.ok("GET", &format!("{CONTACTS}/{before}"), None).await;
    assert_eq!((&read["id"], &read["canonicalContact"]["id"]), (&json!(before.to_string()), &json!(canonical)));
    let change = update("clv_number", &json!(3));
    let written = visitor.ok("PATCH", &format!("{CONTACTS}/{before}"), Some(&change)).await;
    assert_eq!(written["id"], json!(canonical));
    assert!(visitor.simulator.profiles().contains_key(&canonical));
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_found_by_what_they_are_reached_at() {
    let visitor = Visitor::new(settings()).await;
    let contact = visitor.ok("GET", &format!("{CONTACTS}/{}", visitor.simulator.contact(7)), None).await;
    let phone = &contact["identifiers"][0]["value"];
    let lookup = "/api/v2/externalcontacts/identifierlookup/contacts";
    assert_eq!(visitor.ok("POST", lookup, Some(&json!({ "type": "Phone", "value": phone }))).await, contact);
    assert_eq!(visitor.post(lookup, &json!({ "type": "Phone", "value": "tel:+1" })).await.status, 404);

    let enrich = |action: &str, number: u32| {
        json!({ "matchingIdentifiers": [{ "type": "ExternalId", "value": format!("CUST-{number}") }], "action": action,
            "contact": { "customFields": { "clv_number": number } } })
    };
    let path = format!("{CONTACTS}/enrich");
    assert_eq!(visitor.ok("POST", &path, Some(&enrich("Update", 7))).await["id"], contact["id"]);
    assert_eq!(visitor.post(&path, &enrich("Insert", 7)).await.status, 409);
    assert_eq!(visitor.post(&path, &enrich("Update", 9999)).await.status, 404);
    let new = visitor.ok("POST", &path, Some(&enrich("Upsert", 9999))).await;
    assert_eq!(visitor.ok("GET", &format!("{CONTACTS}/{}", new["id"].as_str().expect("an id")), None).await, new);

    let bulk = "/api/v2/externalcontacts/bulk/contacts/enrich";
    let many =
        |count: u32| json!({ "entities": (0..count).map(|number| enrich("Update", number)).collect::<Vec<_>>() });
    assert_eq!(visitor.ok("POST", bulk, Some(&many(10))).await["errorCount"], 0);
    assert_eq!(visitor.post(bulk, &many(11)).await.status, 400);
    let mixed = json!({ "entities": [enrich("Update", 1), enrich("Update", 9999)] });
    let mixed = visitor.ok("POST", bulk, Some(&mixed)).await;
    assert_eq!((&mixed["errorCount"], &mixed["errorIndexes"]), (&json!(1), &json!([1])));
}
