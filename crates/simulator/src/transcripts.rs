//! Speech and text analytics: sentiment and topics, in bulk by aggregates and for one conversation. They are there some
//! time after a conversation's end, and for many conversations never.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::answer::{Answer, ReceivedCall, Refusal};
use super::book::ConversationRecord;
use super::details::interval;
use super::facts::Facts;
use super::faults::FaultKind;
use super::ids::Id;
use super::moment::{DAY_MS, Moment};
use super::world::World;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Query {
    interval: String,
    granularity: Option<String>,
    #[serde(default)]
    group_by: Vec<String>,
    metrics: Vec<String>,
    filter: Option<Filter>,
}

#[derive(Deserialize)]
struct Filter {
    #[serde(rename = "type")]
    join: String,
    #[serde(default)]
    clauses: Vec<Filter>,
    #[serde(default)]
    predicates: Vec<Predicate>,
}

#[derive(Deserialize)]
struct Predicate {
    dimension: String,
    value: String,
}

/// What can be grouped and filtered by here; the platform has more.
const DIMENSIONS: [&str; 4] = ["conversationId", "topicId", "queueId", "mediaType"];
const SENTIMENT: [&str; 2] = ["oSentimentScore", "oCustomerSentiment"];
const TOPICS: &str = "nTopicCommunications";
const ANALYSED: &str = "nSpeechTextAnalyzedConversations";

/// A conversation's share in the answer: one for each of its topics when topics are asked for.
struct Row<'a> {
    facts: &'a Facts,
    topic: Option<Id>,
}

impl Row<'_> {
    fn value(&self, dimension: &str) -> Option<String> {
        match dimension {
            "conversationId" => Some(self.facts.id.to_string()),
            "topicId" => self.topic.map(|topic| topic.to_string()),
            "queueId" => self.facts.queue().map(|queue| queue.to_string()),
            "mediaType" => Some(self.facts.media.as_str().to_owned()),
            _ => None,
        }
    }
}

impl Filter {
    fn check(&self) -> Result<(), Refusal> {
        if !["and", "or"].contains(&self.join.as_str()) {
            return Err(Refusal::bad(format!("filter type must be and or or, got {}", self.join)));
        }
        for Predicate { dimension, .. } in &self.predicates {
            if !DIMENSIONS.contains(&dimension.as_str()) && dimension != "resultsBy" {
                let known = DIMENSIONS.join(", ");
                return Err(Refusal::bad(format!("dimension {dimension} is not simulated here: {known}, resultsBy")));
            }
        }
        self.clauses.iter().try_for_each(Self::check)
    }

    fn holds(&self, row: &Row<'_>) -> bool {
        // How results are counted is no condition.
        let conditions = self.predicates.iter().filter(|predicate| predicate.dimension != "resultsBy");
        let mut parts = conditions
            .map(|predicate| row.value(&predicate.dimension).as_ref() == Some(&predicate.value))
            .chain(self.clauses.iter().map(|clause| clause.holds(row)))
            .peekable();
        match self.join.as_str() {
            _ if parts.peek().is_none() => true,
            "or" => parts.any(|holds| holds),
            _ => parts.all(|holds| holds),
        }
    }

    /// The conversations that any row must be of, when the filter says so: then no day has to be walked.
    fn conversations(&self) -> Option<Vec<Id>> {
        let named = |filter: &Self| -> Option<Vec<Id>> {
            let all = filter.predicates.iter().all(|predicate| predicate.dimension == "conversationId");
            let ids = || filter.predicates.iter().filter_map(|predicate| Id::parse(&predicate.value)).collect();
            (all && filter.clauses.is_empty() && !filter.predicates.is_empty()).then(ids)
        };
        if let Some(ids) = named(self) {
            return Some(ids);
        }
        (self.join == "and").then(|| self.clauses.iter().find_map(named))?
    }
}

#[derive(Default)]
struct Stats {
    count: u64,
    sum: i64,
    min: i32,
    max: i32,
}

impl Stats {
    fn take(&mut self, millionths: i32) {
        if self.count == 0 {
            (self.min, self.max) = (millionths, millionths);
        }
        self.count += 1;
        self.sum += i64::from(millionths);
        (self.min, self.max) = (self.min.min(millionths), self.max.max(millionths));
    }
}

/// Sentiment, topics and conversations of a group, in one piece of the interval.
#[derive(Default)]
struct Cell {
    sentiment: Stats,
    topics: u64,
    analysed: u64,
}

#[derive(Serialize)]
struct AggregateGroup<'a> {
    group: BTreeMap<&'a str, &'a str>,
    data: Vec<AggregateData<'a>>,
}

#[derive(Serialize)]
struct AggregateData<'a> {
    interval: String,
    metrics: Vec<AggregateMetric<'a>>,
}

#[derive(Serialize)]
struct AggregateMetric<'a> {
    metric: &'a str,
    stats: Figures,
}

#[derive(Serialize)]
struct Figures {
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
}

/// `POST /api/v2/analytics/transcripts/aggregates/query`: over conversations that started within the interval.
pub(super) fn aggregates(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let query: Query = call.json()?;
    let (from, to) = interval(&query.interval, world.settings.limits.aggregate_window)?;
    let step = step(query.granularity.as_deref(), from, to)?;
    check(&query)?;
    let by_topic = query.group_by.iter().any(|dimension| dimension == "topicId")
        || query.metrics.iter().any(|metric| metric == TOPICS);
    let mut cells: BTreeMap<(SmallVec<[String; 2]>, i64), Cell> = BTreeMap::new();
    let most = world.settings.limits.aggregate_groups;
    let mut full = false;
    let mut take = |facts: &Facts| {
        let within = (from.0..to.0).contains(&facts.start);
        if !within || !analysed(world, facts, call) {
            return;
        }
        let topics = if by_topic { facts.topics.iter().copied().map(Some).collect() } else { Vec::new() };
        // Without topics a conversation still has its sentiment.
        for topic in if topics.is_empty() { vec![None] } else { topics } {
            let row = Row { facts, topic };
            let wanted = query.filter.as_ref().is_none_or(|filter| filter.holds(&row));
            let group: Option<_> = query.group_by.iter().map(|dimension| row.value(dimension)).collect();
            let Some(group) = group.filter(|_| wanted) else { continue };
            let piece = (facts.start - from.0) / step;
            let room = cells.len() < most;
            let cell = match cells.entry((group, piece)) {
                Slot::Occupied(cell) => cell.into_mut(),
                Slot::Vacant(cell) if room => cell.insert(Cell::default()),
                Slot::Vacant(_) => {
                    full = true;
                    return;
                }
            };
            cell.analysed += 1;
            cell.topics += u64::from(topic.is_some());
            if let Some(sentiment) = facts.sentiment {
                cell.sentiment.take(sentiment);
            }
        }
    };
    if let Some(ids) = query.filter.as_ref().and_then(Filter::conversations) {
        for id in ids {
            if let Some(ConversationRecord::Made(facts)) = world.book.find(id, call.now) {
                take(&facts);
            }
        }
    } else {
        for entry in world.book.entries(from.day()..=Moment(to.0 - 1).day(), call.now) {
            if let ConversationRecord::Made(facts) = world.book.record(entry.reference) {
                take(&facts);
            }
        }
    }
    if full {
        return Err(Refusal::bad(format!("the result would have more than {most} groups: ask for a shorter interval")));
    }
    Ok(Answer::json(&BTreeMap::from([("results", groups(&query, &cells, from, to, step))])))
}

fn check(query: &Query) -> Result<(), Refusal> {
    if let Some(filter) = &query.filter {
        filter.check()?;
    }
    if let Some(unknown) = query.group_by.iter().find(|dimension| !DIMENSIONS.contains(&dimension.as_str())) {
        return Err(Refusal::bad(format!("groupBy {unknown} is not simulated here: {}", DIMENSIONS.join(", "))));
    }
    let known = |metric: &str| SENTIMENT.contains(&metric) || [TOPICS, ANALYSED].contains(&metric);
    match query.metrics.iter().find(|metric| !known(metric)) {
        Some(unknown) => Err(Refusal::bad(format!("metric {unknown} is not simulated here"))),
        None if query.metrics.is_empty() => Err(Refusal::bad("metrics must not be empty")),
        None => Ok(()),
    }
}

/// Milliseconds of one piece of the interval.
fn step(granularity: Option<&str>, from: Moment, to: Moment) -> Result<i64, Refusal> {
    match granularity {
        None => Ok(to.0 - from.0),
        Some("PT1H") => Ok(DAY_MS / 24),
        Some("P1D") => Ok(DAY_MS),
        Some("P7D" | "P1W") => Ok(7 * DAY_MS),
        Some(other) => Err(Refusal::bad(format!("granularity {other} is not simulated here: PT1H, P1D, P7D"))),
    }
}

fn groups<'a>(
    query: &'a Query,
    cells: &'a BTreeMap<(SmallVec<[String; 2]>, i64), Cell>,
    from: Moment,
    to: Moment,
    step: i64,
) -> Vec<AggregateGroup<'a>> {
    let mut groups: Vec<AggregateGroup<'a>> = Vec::new();
    let mut last: Option<&SmallVec<[String; 2]>> = None;
    for ((key, piece), cell) in cells {
        let metrics: Vec<_> = query.metrics.iter().filter_map(|metric| figures(metric, cell)).collect();
        if metrics.is_empty() {
            continue;
        }
        let start = from.0 + piece * step;
        let end = to.0.min(from.0 + (piece + 1) * step);
        let data = AggregateData { interval: format!("{}/{}", Moment(start), Moment(end)), metrics };
        if let Some(group) = groups.last_mut().filter(|_| last == Some(key)) {
            group.data.push(data);
        } else {
            let names = query.group_by.iter().map(String::as_str);
            groups
                .push(AggregateGroup { group: names.zip(key.iter().map(String::as_str)).collect(), data: vec![data] });
        }
        last = Some(key);
    }
    groups
}

fn figures<'a>(metric: &'a str, cell: &Cell) -> Option<AggregateMetric<'a>> {
    let counted = |count| Figures { count, sum: None, min: None, max: None };
    let stats = match metric {
        TOPICS => (cell.topics > 0).then(|| counted(cell.topics)),
        ANALYSED => Some(counted(cell.analysed)),
        _ => (cell.sentiment.count > 0).then(|| {
            let score = |millionths: i64| Some(millionths as f64 / 1e6);
            let Stats { count, sum, min, max } = cell.sentiment;
            Figures { count, sum: score(sum), min: score(i64::from(min)), max: score(i64::from(max)) }
        }),
    };
    stats.map(|stats| AggregateMetric { metric, stats })
}

/// Whether the analysis of a conversation is there.
fn analysed(world: &World, facts: &Facts, call: &ReceivedCall<'_>) -> bool {
    let delay = world.settings.analysis_delay.min(Duration::from_hours(24 * 365)).as_millis() as i64;
    let anything = facts.sentiment.is_some() || !facts.topics.is_empty();
    anything && !matches!(call.fault, Some(FaultKind::MissingSentiment)) && facts.closed(call.now - delay)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "they are called so in the JSON")]
struct Metrics {
    conversation: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    sentiment_score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sentiment_trend: Option<f64>,
    sentiment_trend_class: &'static str,
    participant_metrics: ParticipantMetrics,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    id: Id,
    self_uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "they are called so in the JSON")]
struct ParticipantMetrics {
    agent_duration_percentage: f64,
    customer_duration_percentage: f64,
    silence_duration_percentage: f64,
}

/// `GET /api/v2/speechandtextanalytics/conversations/{conversationId}`: 404 when nothing was analysed.
pub(super) fn conversation(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let record = Id::parse(call.parameter(0)).and_then(|id| world.book.find(id, call.now));
    let Some(ConversationRecord::Made(facts)) = record else { return Err(Refusal::not_found("conversation")) };
    if !analysed(world, &facts, call) {
        return Err(Refusal::not_found("analysis of the conversation"));
    }
    let score = facts.sentiment.map(|millionths| f64::from(millionths) / 1e6);
    Ok(Answer::json(&Metrics {
        conversation: Reference { id: facts.id, self_uri: format!("/api/v2/conversations/{}", facts.id) },
        sentiment_score: score,
        sentiment_trend: score.map(|_| 0.1),
        sentiment_trend_class: if score.is_some() { "SlightlyImproving" } else { "NotCalculated" },
        participant_metrics: ParticipantMetrics {
            agent_duration_percentage: 41.0,
            customer_duration_percentage: 38.0,
            silence_duration_percentage: 21.0,
        },
    }))
}
