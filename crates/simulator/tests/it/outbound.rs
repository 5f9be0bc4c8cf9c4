//! Contact lists: upserts, searches, sweeps.

use scoreline_simulator::SimulatorSettings;
use serde_json::{Value, json};

use super::visitor::{Visitor, settings};

fn lists(visitor: &Visitor) -> String {
    format!("/api/v2/outbound/contactlists/{}/contacts", visitor.simulator.contact_list())
}

fn lead(visitor: &Visitor, id: &str, data: &Value) -> Value {
    json!({ "id": id, "contactListId": visitor.simulator.contact_list().to_string(), "data": data })
}

#[tokio::test(flavor = "multi_thread")]
async fn upserts_are_by_id_and_may_empty_what_they_do_not_send() {
    for empties in [true, false] {
        let visitor = Visitor::new(SimulatorSettings { upsert_empties_unsent: empties, ..settings() }).await;
        let path = lists(&visitor);
        let first = lead(&visitor, "L1", &json!({ "leadId": "L1", "Cell": "CANARY-1", "ml_score": "87" }));
        visitor.ok("POST", &path, Some(&json!([first]))).await;
        visitor.ok("POST", &path, Some(&json!([lead(&visitor, "L1", &json!({ "ml_score": "45" }))]))).await;
        let list = visitor.simulator.contact_list().to_string();
        let contact = &visitor.simulator.contacts(&list)["L1"];
        assert_eq!(contact["ml_score"], "45");
        assert_eq!(contact["Cell"], if empties { "" } else { "CANARY-1" });
        let many = visitor.ok("POST", &format!("{path}/bulk"), Some(&json!(["L1", "L2"]))).await;
        assert_eq!(many.as_array().map(Vec::len), Some(1));
    }
    let visitor = Visitor::new(settings()).await;
    let path = lists(&visitor);
    let number = lead(&visitor, "L1", &json!({ "ml_score": 87 }));
    let column = lead(&visitor, "L1", &json!({ "shoe_size": "44" }));
    let elsewhere = json!({ "id": "L1", "contactListId": "other", "data": {} });
    let good = lead(&visitor, "L2", &json!({ "ml_score": "1" }));
    for wrong in [json!([number]), json!([good, column]), json!([elsewhere]), json!([])] {
        assert_eq!(visitor.post(&path, &wrong).await.status, 400, "{wrong}");
    }
    let list = visitor.simulator.contact_list().to_string();
    assert!(visitor.simulator.contacts(&list).is_empty(), "all or nothing");
    let many: Vec<Value> = (0..1001).map(|number| lead(&visitor, &format!("L{number}"), &json!({}))).collect();
    assert_eq!(visitor.post(&path, &json!(many)).await.status, 400);
    assert_eq!(visitor.post(&path, &json!(many[..1000])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_scores_are_swept_and_the_rest_is_sorted_by_number() {
    let visitor = Visitor::new(settings()).await;
    let path = lists(&visitor);
    let leads: Vec<Value> =
        [("A", "9", "2026-11-21T11:00:00Z"), ("B", "87", "2026-11-21T00:00:00Z"), ("C", "70", "2026-11-20T11:00:00Z")]
            .map(|(id, score, at)| {
                lead(&visitor, id, &json!({ "leadId": id, "ml_score": score, "ml_last_calculated_at": at }))
            })
            .into();
    visitor.ok("POST", &path, Some(&json!(leads))).await;
    let search = json!({ "pageNumber": 1, "pageSize": 2,
        "contactSorts": [{ "fieldName": "ml_score", "direction": "DESC", "numeric": true }] });
    let found = visitor.ok("POST", &format!("{path}/search"), Some(&search)).await;
    assert_eq!((&found["entities"][0]["id"], &found["entities"][1]["id"]), (&json!("B"), &json!("C")));
    assert_eq!(found["total"], 3);
    let predicates = json!([
        { "column": "ml_last_calculated_at", "columnType": "alphabetic", "operator": "BEFORE", "value": "P-01DT00H00M" },
        { "column": "ml_score", "columnType": "numeric", "operator": "GREATER_THAN", "value": "0" },
    ]);
    let sweep = json!({ "criteria": { "filterType": "AND", "clauses": [{ "filterType": "AND", "predicates": predicates }] },
        "contact": { "contactListId": "any", "data": { "ml_score": "0" } } });
    let job = visitor.ok("POST", &format!("{path}/bulk/update"), Some(&sweep)).await;
    assert_eq!((&job["state"], &job["totalRecords"]), (&json!("InProgress"), &json!(1)));
    let job = visitor.ok("GET", &format!("{path}/bulk/jobs/{}", job["id"].as_str().expect("an id")), None).await;
    assert_eq!(job["state"], "Complete");
    let contacts = visitor.simulator.contacts(&visitor.simulator.contact_list().to_string());
    assert_eq!(contacts.values().map(|contact| contact["ml_score"].as_str()).collect::<Vec<_>>(), ["9", "87", "0"]);
}
