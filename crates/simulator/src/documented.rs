//! The endpoints as the guides describe them: they are on no real platform. What the guides leave open is fixed here, and
//! marked.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::{Answer, ReceivedCall, Refusal};
use super::book::ConversationRecord;
use super::facts::{Facts, Media, OtherParty};
use super::ids::Id;
use super::moment::{DAY_MS, Moment};
use super::wire;
use super::world::World;

const MOST_A_PAGE: usize = 100;

/// The guide's payload, in the body of the GET; `page`, `pageSize` and `customerId` also work as query parameters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Query {
    page_size: usize,
    page: usize,
    sort_order: SortOrder,
    sort_by: String,
    date_range: DateRange,
    filter_expression: Option<Expression>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            page_size: MOST_A_PAGE,
            page: 1,
            sort_order: SortOrder::Descending,
            sort_by: "startTime".to_owned(),
            date_range: DateRange::default(),
            filter_expression: None,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum SortOrder {
    Ascending,
    Descending,
}

/// `Relative` as in the guide; `Absolute` with `startDate` and `endDate` is ours.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
enum DateRange {
    Relative { relative_time_unit: Unit, relative_time_value: u32 },
    Absolute { start_date: jiff::Timestamp, end_date: jiff::Timestamp },
}

impl Default for DateRange {
    fn default() -> Self {
        Self::Relative { relative_time_unit: Unit::Days, relative_time_value: 365 }
    }
}

#[derive(Clone, Copy, Deserialize)]
enum Unit {
    Days,
    Hours,
}

#[derive(Deserialize)]
struct Expression {
    #[serde(rename = "type")]
    join: Join,
    filters: Vec<Condition>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Join {
    And,
    Or,
}

#[derive(Deserialize)]
struct Condition {
    field: String,
    operator: Operator,
    value: Value,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Operator {
    Eq,
    In,
}

/// The answer is ours: the guide shows none.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InteractionsPage {
    page: usize,
    page_size: usize,
    page_count: usize,
    total: usize,
    interactions: Vec<InteractionEntry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InteractionEntry {
    interaction_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<Id>,
    interaction_type: &'static str,
    start_time: Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<Moment>,
    /// Talk, hold and wrap-up, in seconds to the millisecond.
    #[serde(skip_serializing_if = "Option::is_none")]
    handling_time_sec: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_id: Option<Id>,
    /// `null` when it was not scored.
    sentiment: Option<SentimentEntry>,
    topics: Vec<Id>,
    customer_name: String,
    customer_address: String,
}

#[derive(Serialize)]
struct SentimentEntry {
    score: f64,
}

/// As in `interactionType`.
fn kind(media: Media) -> &'static str {
    match media {
        Media::Voice | Media::Callback => "Call",
        Media::Chat | Media::Message => "Chat",
        Media::Email => "Email",
    }
}

impl Condition {
    fn holds(&self, facts: &Facts) -> bool {
        let own = match (self.field.as_str(), facts.caller) {
            ("interactionType", _) => kind(facts.media).to_owned(),
            (_, OtherParty::Contact { canonical, .. }) => canonical.to_string(),
            (_, OtherParty::Address(_) | OtherParty::Colleague) => return false,
        };
        match (&self.operator, &self.value) {
            (Operator::In, Value::Array(values)) => values.iter().any(|value| *value == own),
            (Operator::Eq | Operator::In, value) => *value == own,
        }
    }
}

/// `GET /api/v2/analytics/interactionhistory`.
pub(super) fn history(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let mut query: Query = if call.body.is_empty() { Query::default() } else { call.json()? };
    query.page = call.count("page")?.unwrap_or(query.page);
    query.page_size = call.count("pageSize")?.unwrap_or(query.page_size);
    if query.page == 0 || query.page_size == 0 || query.page_size > MOST_A_PAGE {
        return Err(Refusal::bad(format!("pageSize must be within 1 and {MOST_A_PAGE}, page at least 1")));
    }
    if query.sort_by != "startTime" {
        return Err(Refusal::bad(format!("sortBy must be startTime, got {}", query.sort_by)));
    }
    let expression = query.filter_expression.as_ref();
    let fields = ["customerId", "externalId", "interactionType"];
    if let Some(unknown) =
        expression.and_then(|all| all.filters.iter().find(|filter| !fields.contains(&filter.field.as_str())))
    {
        return Err(Refusal::bad(format!("field must be one of {}, got {}", fields.join(", "), unknown.field)));
    }
    let (from, to) = match query.date_range {
        DateRange::Relative { relative_time_unit, relative_time_value } => {
            let unit = match relative_time_unit {
                Unit::Days => DAY_MS,
                Unit::Hours => DAY_MS / 24,
            };
            (call.now - i64::from(relative_time_value) * unit, call.now + 1)
        }
        DateRange::Absolute { start_date, end_date } => (start_date.as_millisecond(), end_date.as_millisecond()),
    };
    let one = call.query("customerId");
    let mut found: Vec<Facts> = Vec::new();
    for entry in world.book.entries(Moment(from).day()..=Moment(to - 1).day(), call.now) {
        let ConversationRecord::Made(facts) = world.book.record(entry.reference) else { continue };
        let known = facts.caller != OtherParty::Colleague && (from..to).contains(&facts.start);
        let wanted = expression.is_none_or(|all| match all.join {
            Join::And => all.filters.iter().all(|filter| filter.holds(&facts)),
            Join::Or => all.filters.iter().any(|filter| filter.holds(&facts)),
        });
        let of_one = one.is_none_or(
            |one| matches!(facts.caller, OtherParty::Contact { canonical, .. } if canonical.to_string() == one),
        );
        if known && wanted && of_one {
            found.push(facts);
        }
    }
    if matches!(query.sort_order, SortOrder::Descending) {
        found.reverse();
    }
    let page = found.iter().skip((query.page - 1) * query.page_size).take(query.page_size);
    Ok(Answer::json(&InteractionsPage {
        page: query.page,
        page_size: query.page_size,
        page_count: found.len().div_ceil(query.page_size),
        total: found.len(),
        interactions: page.map(|facts| interaction(facts, call.now)).collect(),
    }))
}

fn interaction(facts: &Facts, now: i64) -> InteractionEntry {
    let over = facts.closed(now);
    let (customer_id, number) = match facts.caller {
        OtherParty::Contact { canonical, .. } => (Some(canonical), canonical.digits()),
        OtherParty::Address(number) => (None, number),
        OtherParty::Colleague => (None, 0),
    };
    InteractionEntry {
        interaction_id: facts.id,
        customer_id,
        interaction_type: kind(facts.media),
        start_time: Moment(facts.start),
        end_time: over.then_some(Moment(facts.end)),
        handling_time_sec: facts.handle_ms().filter(|_| over).map(|ms| f64::from(ms) / 1e3),
        queue_id: facts.queue(),
        sentiment: facts.sentiment.filter(|_| over).map(|score| SentimentEntry { score: f64::from(score) / 1e6 }),
        topics: if over { facts.topics.to_vec() } else { Vec::new() },
        customer_name: format!("CANARY-NAME-{number:07}"),
        customer_address: wire::address(facts.media, number).to_string(),
    }
}

/// Rows of the documented data entities, by entity and key. Locked for a moment, never across an await.
#[derive(Default)]
pub(super) struct Entities {
    rows: Mutex<BTreeMap<(String, String), Map<String, Value>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Write {
    entity: Map<String, Value>,
    #[serde(default)]
    overwrite_existing: bool,
}

impl Entities {
    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Map<String, Value>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every row of an entity, by its key.
    pub(super) fn rows(&self, entity: &str) -> BTreeMap<String, Map<String, Value>> {
        let rows = self.locked();
        rows.iter().filter(|((own, _), _)| own == entity).map(|((_, key), row)| (key.clone(), row.clone())).collect()
    }
}

/// The key and the fields of an entity, by its name.
fn shape(entity: &str) -> Result<(&'static str, &'static [&'static str]), Refusal> {
    match entity {
        "LeadScore" => Ok(("leadId", &["leadId", "priorityScore", "lastCalculatedAt"])),
        "customer_profile_enrichment" => Ok((
            "customerId",
            &["customerId", "predicted_clv_value", "clv_tier", "confidence_score", "risk_score", "last_calculated_at"],
        )),
        _ => Err(Refusal::not_found("entity")),
    }
}

/// `POST /api/v2/data/services/{serviceId}/entities/{entity}`: the guide's `LeadScore`, and the same form for
/// `customer_profile_enrichment`. Without `overwriteExisting` an existing row is a conflict.
pub(super) fn write(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let name = call.parameter(1);
    let (key, fields) = shape(name)?;
    let Write { entity, overwrite_existing } = call.json()?;
    if let Some(unknown) = entity.keys().find(|field| !fields.contains(&field.as_str())) {
        return Err(Refusal::bad(format!("entity {name} has no field {unknown}")));
    }
    let Some(Value::String(id)) = entity.get(key) else {
        return Err(Refusal::bad(format!("entity {name} needs {key}, a string")));
    };
    let score = entity.get("priorityScore").and_then(Value::as_f64);
    if let Some(score) = score.filter(|score| !(world.settings.least_score..=100.0).contains(score)) {
        return Err(Refusal::bad(format!("entity {name}: priorityScore {score} is out of range")));
    }
    let place = (name.to_owned(), id.clone());
    let mut rows = world.entities.locked();
    if !overwrite_existing && rows.contains_key(&place) {
        let message = format!("entity {name} with this {key} exists");
        return Err(Refusal::new(StatusCode::CONFLICT, "conflict", message));
    }
    rows.insert(place, entity.clone());
    drop(rows);
    world.written(call, name, id.clone(), Value::Object(entity.clone()));
    Ok(Answer::json(&serde_json::json!({ "entity": entity })))
}

/// `GET /api/v2/data/services/{serviceId}/entities/{entity}/{key}`.
pub(super) fn read(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    shape(call.parameter(1))?;
    let rows = world.entities.locked();
    let row = rows.get(&(call.parameter(1).to_owned(), call.parameter(2).to_owned()));
    row.map(|row| Answer::json(&serde_json::json!({ "entity": row }))).ok_or_else(|| Refusal::not_found("row"))
}
