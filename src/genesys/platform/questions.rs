//! The bodies of the questions that are asked of the platform.

use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::time::Timestamp;
use crate::genesys::source::Window;

/// `start/end`, as the platform writes intervals.
pub(super) fn interval(window: Window) -> String {
    format!("{}/{}", moment(window.from), moment(window.to))
}

fn moment(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Whether conversations that have ended are asked for, or those that have not.
#[derive(Clone, Copy)]
pub(super) enum Ended {
    Exists,
    NotExists,
}

impl Serialize for Ended {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Exists => "exists",
            Self::NotExists => "notExists",
        })
    }
}

fn ended(ended: Ended) -> Value {
    json!([{
        "type": "and",
        "predicates": [{ "type": "dimension", "dimension": "conversationEnd", "operator": ended }],
    }])
}

/// Everything that ended, in the order in which it did.
pub(super) fn job(window: Window) -> Vec<u8> {
    bytes(&json!({
        "interval": interval(window),
        "order": "asc",
        "orderBy": "conversationEnd",
        "conversationFilters": ended(Ended::Exists),
    }))
}

pub(super) fn query(window: Window, asked: Ended, page: u32, size: u32) -> Vec<u8> {
    let order_by = match asked {
        Ended::Exists => "conversationEnd",
        Ended::NotExists => "conversationStart",
    };
    bytes(&json!({
        "interval": interval(window),
        "order": "asc",
        "orderBy": order_by,
        "conversationFilters": ended(asked),
        "paging": { "pageSize": size, "pageNumber": page },
    }))
}

/// Mean sentiment by conversation; of these conversations only, unless there are none.
pub(super) fn sentiments(window: Window, ids: &[String]) -> Vec<u8> {
    let filter = (!ids.is_empty()).then(|| json!({ "type": "or", "predicates": of_conversations(ids) }));
    aggregates(window, &["conversationId"], "oSentimentScore", filter)
}

/// Topics by conversation; of these conversations only, unless there are none.
pub(super) fn topics(window: Window, ids: &[String]) -> Vec<u8> {
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

fn aggregates(window: Window, group_by: &[&str], metric: &str, filter: Option<Value>) -> Vec<u8> {
    let mut body = json!({ "interval": interval(window), "groupBy": group_by, "metrics": [metric] });
    if let Some(filter) = filter {
        body["filter"] = filter;
    }
    bytes(&body)
}

fn bytes(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}
