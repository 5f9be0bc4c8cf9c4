//! The endpoints of the guides.

use std::collections::BTreeSet;

use scoreline_simulator::{Party, SimulatorSettings};
use serde_json::{Value, json};

use super::visitor::{Visitor, settings};

const HISTORY: &str = "/api/v2/analytics/interactionhistory";

/// The guide's payload.
fn payload(page: usize, customer: &str) -> Value {
    json!({
        "pageSize": 100, "page": page, "sortOrder": "DESCENDING", "sortBy": "startTime",
        "dateRange": { "type": "Relative", "relativeTimeUnit": "Days", "relativeTimeValue": 365 },
        "filterExpression": { "type": "AND",
            "filters": [{ "field": "customerId", "operator": "EQ", "value": customer }] }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_paged_by_a_hundred() {
    let visitor = Visitor::new(SimulatorSettings { customers: 200, days: 60, ..settings() }).await;
    let truth: Vec<_> = visitor.simulator.truth().interactions().collect();
    let mut seen = BTreeSet::new();
    let mut last = None;
    for number in 1.. {
        let page = visitor.ok("GET", &format!("{HISTORY}?page={number}&pageSize=100"), None).await;
        assert_eq!(page["total"], truth.len());
        let rows = page["interactions"].as_array().expect("interactions");
        for row in rows {
            let start = row["startTime"].as_str().expect("a start").to_owned();
            assert!(last.as_ref().is_none_or(|last| start <= *last), "newest first");
            last = Some(start);
            assert!(seen.insert(row["interactionId"].as_str().expect("an id").to_owned()));
        }
        if rows.len() < 100 {
            break;
        }
    }
    assert_eq!(seen.len(), truth.len());
    assert!(truth.len() > 300, "several pages: {}", truth.len());
    assert_eq!(visitor.get(&format!("{HISTORY}?pageSize=101")).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_payload_asks_for_one_customer() {
    let visitor = Visitor::new(SimulatorSettings { customers: 60, ..settings() }).await;
    let contact = visitor.simulator.contact(5).to_string();
    let page = visitor.ok("GET", HISTORY, Some(&payload(1, &contact))).await;
    let own = |party: &Party| matches!(party, Party::Contact { canonical, .. } if *canonical == contact);
    let truth: Vec<_> = visitor.simulator.truth().interactions().filter(|one| own(&one.party)).collect();
    assert_eq!(page["total"], truth.len());
    let rows = page["interactions"].as_array().expect("interactions");
    for (row, expected) in rows.iter().rev().zip(&truth) {
        assert_eq!(row["startTime"], format!("{:.3}", expected.start));
        assert_eq!(row["handlingTimeSec"].as_f64(), expected.handle_ms.map(|ms| f64::from(ms) / 1e3));
        assert_eq!(row["queueId"].as_str(), expected.queue.as_deref());
        assert!(row["customerName"].as_str().is_some_and(|name| name.starts_with("CANARY-NAME-")));
    }
    let unknown = json!({ "filterExpression": { "type": "AND", "filters": [{ "field": "name", "operator": "EQ", "value": "x" }] } });
    assert_eq!(visitor.send("GET", HISTORY, Some(&unknown)).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_are_overwritten_only_when_asked() {
    let visitor = Visitor::new(settings()).await;
    let entities = "/api/v2/data/services/s1/entities";
    let lead = |score: u32, overwrite: bool| {
        let entity =
            json!({ "leadId": "10000045", "priorityScore": score, "lastCalculatedAt": "2026-11-21T12:00:00Z" });
        json!({ "entity": entity, "overwriteExisting": overwrite })
    };
    let path = format!("{entities}/LeadScore");
    assert_eq!(visitor.post(&path, &lead(87, false)).await.status, 200);
    assert_eq!(visitor.post(&path, &lead(45, false)).await.status, 409);
    assert_eq!(visitor.post(&path, &lead(45, true)).await.status, 200);
    let row = visitor.ok("GET", &format!("{path}/10000045"), None).await;
    assert_eq!(row["entity"]["priorityScore"], 45);
    let profile = json!({ "entity": { "customerId": "c1", "predicted_clv_value": 4500.0, "clv_tier": "High_Value" },
        "overwriteExisting": true });
    assert_eq!(visitor.post(&format!("{entities}/customer_profile_enrichment"), &profile).await.status, 200);
    let rows = visitor.simulator.entities("customer_profile_enrichment");
    assert_eq!(rows["c1"]["clv_tier"], "High_Value");
    assert_eq!(visitor.simulator.writes().len(), 3);
    assert_eq!(visitor.post(&format!("{entities}/Unknown"), &profile).await.status, 404);
    let wrong = json!({ "entity": { "customerId": "c1", "clv": 1 } });
    assert_eq!(visitor.post(&format!("{entities}/customer_profile_enrichment"), &wrong).await.status, 400);
}
