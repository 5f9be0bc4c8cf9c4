//! The bodies of the questions that are asked of the platform.

use serde_json::{Value, json};

use crate::source::ExtractionWindow;
use scoreline_domain::time::Timestamp;

/// `start/end`, as the platform writes intervals.
pub(super) fn interval(window: ExtractionWindow) -> String {
    format!("{}/{}", moment(window.from), moment(window.to))
}

fn moment(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Everything, also what goes on: the next extraction has to begin with that.
pub(super) fn job(window: ExtractionWindow) -> Vec<u8> {
    bytes(&json!({ "interval": interval(window), "order": "asc", "orderBy": "conversationStart" }))
}

/// What has ended, in the order in which it did: pages of conversations that go on would move even more.
pub(super) fn query(window: ExtractionWindow, page: u32, size: u32) -> Vec<u8> {
    bytes(&json!({
        "interval": interval(window),
        "order": "asc",
        "orderBy": "conversationEnd",
        "conversationFilters": [{
            "type": "and",
            "predicates": [{ "type": "dimension", "dimension": "conversationEnd", "operator": "exists" }],
        }],
        "paging": { "pageSize": size, "pageNumber": page },
    }))
}

/// Mean sentiment by conversation; of these conversations only, unless there are none.
pub(super) fn sentiments(window: ExtractionWindow, ids: &[String]) -> Vec<u8> {
    let filter = (!ids.is_empty()).then(|| json!({ "type": "or", "predicates": of_conversations(ids) }));
    aggregates(window, &["conversationId"], "oSentimentScore", filter)
}

/// Topics by conversation; of these conversations only, unless there are none.
pub(super) fn topics(window: ExtractionWindow, ids: &[String]) -> Vec<u8> {
    let mut filter = json!({
        "type": "and",
        "predicates": [{ "type": "dimension", "dimension": "resultsBy", "operator": "matches", "value": "communication" }],
    });
    if !ids.is_empty() {
        filter["clauses"] = json!([{ "type": "or", "predicates": of_conversations(ids) }]);
    }
    aggregates(window, &["conversationId", "topicId"], "nTopicCommunications", Some(filter))
}

fn of_conversations(ids: &[String]) -> Vec<Value> {
    ids.iter()
        .map(|id| json!({ "type": "dimension", "dimension": "conversationId", "operator": "matches", "value": id }))
        .collect()
}

fn aggregates(window: ExtractionWindow, group_by: &[&str], metric: &str, filter: Option<Value>) -> Vec<u8> {
    let mut body = json!({ "interval": interval(window), "groupBy": group_by, "metrics": [metric] });
    if let Some(filter) = filter {
        body["filter"] = filter;
    }
    bytes(&body)
}

fn bytes(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}
