//! Contact lists: upserts, searches, sweeps.

use scoreline_simulator::{AwkwardContacts, ContactTally, FaultKind, FaultPlan, FaultRule, SimulatorSettings};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_job_chooses_when_it_is_sent_and_changes_when_it_ends() {
    let bulk_edit_time = std::time::Duration::from_secs(30);
    let visitor = Visitor::new(SimulatorSettings { bulk_edit_time, ..settings() }).await;
    let (path, list) = (lists(&visitor), visitor.simulator.contact_list().to_string());
    visitor.simulator.put_contact(&list, "A", [("ml_score", "87"), ("Cell", "CANARY-1")]);
    let edit = json!({ "contactIds": ["A"], "contact": { "contactListId": list, "data": { "ml_score": "0" } } });
    let job = visitor.ok("POST", &format!("{path}/bulk/update"), Some(&edit)).await;
    let look = format!("{path}/bulk/jobs/{}", job["id"].as_str().expect("an id"));
    assert_eq!(visitor.ok("GET", &look, None).await["state"], "InProgress");
    visitor.simulator.put_contact(&list, "A", [("ml_score", "91")]);
    assert_eq!(visitor.simulator.contacts(&list)["A"]["ml_score"], "91");
    visitor.simulator.advance(bulk_edit_time);
    assert_eq!(visitor.ok("GET", &look, None).await["state"], "Complete");
    let contact = &visitor.simulator.contacts(&list)["A"];
    assert_eq!((&*contact["ml_score"], &*contact["Cell"]), ("0", "CANARY-1"), "over what came in between");
    let job = visitor.ok("POST", &format!("{path}/bulk/update"), Some(&edit)).await;
    let look = format!("{path}/bulk/jobs/{}", job["id"].as_str().expect("an id"));
    let rule = FaultRule::at("/api/v2/outbound/contactlists/*/contacts/bulk/jobs/*", FaultKind::JobFailed);
    visitor.simulator.set_faults(FaultPlan { rules: vec![rule] });
    assert_eq!(visitor.ok("GET", &look, None).await["state"], "Failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_write_should_not_do_is_counted_and_awkward_contacts_hold_up_their_batch() {
    let visitor = Visitor::new(settings()).await;
    let (path, list) = (lists(&visitor), visitor.simulator.contact_list().to_string());
    visitor.simulator.put_contact(&list, "L1", [("leadId", "L1")]);
    visitor.simulator.set_callable(&list, "L1", false);
    let careful = format!("{path}?doNotQueue=true&clearSystemData=false");
    let one = |id: &str| lead(&visitor, id, &json!({ "ml_score": "1" }));
    visitor.ok("POST", &careful, Some(&json!([one("L1")]))).await;
    assert_eq!(visitor.simulator.contact_tally(), ContactTally::default());
    assert_eq!(visitor.simulator.callable(&list, "L1"), Some(false));
    visitor.ok("POST", &path, Some(&json!([one("L2")]))).await;
    let tally = visitor.simulator.contact_tally();
    assert_eq!((tally.created, tally.requeued), (1, 1));
    visitor.simulator.set_importing(&list, true);
    assert_eq!(visitor.post(&careful, &json!([one("L1")])).await.status, 400);
    visitor.simulator.set_importing(&list, false);
    let hanging = Some(("H".to_owned(), std::time::Duration::from_millis(50)));
    visitor.simulator.set_awkward_contacts(AwkwardContacts { refused: Some("P".to_owned()), hanging });
    assert_eq!(visitor.post(&careful, &json!([one("L1"), one("P1")])).await.status, 400);
    assert_eq!(visitor.post(&careful, &json!([one("L1"), one("H1")])).await.status, 504);
    assert_eq!(visitor.send("DELETE", &format!("{path}/L2"), None).await.status, 204);
    assert_eq!(visitor.send("DELETE", &format!("{path}/L2"), None).await.status, 404);
    assert_eq!(visitor.simulator.contacts(&list).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_lands_although_nobody_waits_for_it() {
    let visitor = Visitor::new(settings()).await;
    let (path, list) = (lists(&visitor), visitor.simulator.contact_list().to_string());
    let late = FaultPlan::parse(
        "[[fault]]\npath = \"/api/v2/outbound/contactlists/*/contacts\"\nkind = \"late\"\ndelay_ms = 300\n",
    );
    visitor.simulator.set_faults(late.expect("a plan"));
    let body = json!([lead(&visitor, "L1", &json!({ "ml_score": "87" }))]);
    let sent = visitor.try_send("POST", &path, Some(&body));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), sent).await.is_err());
    assert!(visitor.simulator.contacts(&list).is_empty());
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(visitor.simulator.contacts(&list)["L1"]["ml_score"], "87");
}
