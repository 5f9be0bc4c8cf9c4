//! Filters of conversation details: `and`/`or` of predicates, one level of clauses below.

use serde::Deserialize;

use super::super::book::{ConversationBook, ConversationRecord, DayEntry};
use super::super::facts::{Facts, Media, OtherParty};
use crate::answer::Refusal;

/// Dimensions that are understood, at each place. The platform has more; a question for them is refused, so that no
/// answer looks filtered that is not.
pub(super) const CONVERSATION: &[&str] =
    &["conversationEnd", "conversationId", "conversationStart", "originatingDirection", "customerParticipation"];
pub(super) const SEGMENT: &[&str] = &[
    "mediaType",
    "externalContactId",
    "canonicalExternalContactId",
    "queueId",
    "purpose",
    "direction",
    "userId",
    "wrapUpCode",
    "segmentEnd",
];

#[derive(Deserialize)]
pub(super) struct Filter {
    #[serde(rename = "type")]
    join: Join,
    #[serde(default)]
    clauses: Vec<Clause>,
    #[serde(default)]
    predicates: Vec<Predicate>,
}

#[derive(Deserialize)]
struct Clause {
    #[serde(rename = "type")]
    join: Join,
    predicates: Vec<Predicate>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Join {
    And,
    Or,
}

#[derive(Deserialize)]
struct Predicate {
    dimension: Option<String>,
    #[serde(default)]
    operator: Operator,
    value: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Operator {
    #[default]
    Matches,
    Exists,
    NotExists,
}

impl Join {
    fn holds(self, mut parts: impl Iterator<Item = bool>) -> bool {
        match self {
            Self::And => parts.all(|holds| holds),
            Self::Or => parts.any(|holds| holds),
        }
    }
}

/// A conversation that may be wanted. Most questions are answered by its entry.
pub(super) struct FilterCandidate<'a> {
    book: &'a ConversationBook,
    entry: &'a DayEntry,
    as_of: i64,
}

impl<'a> FilterCandidate<'a> {
    pub(super) fn new(book: &'a ConversationBook, entry: &'a DayEntry, as_of: i64) -> Self {
        Self { book, entry, as_of }
    }

    fn holds(&self, predicate: &Predicate) -> bool {
        let dimension = predicate.dimension.as_deref().unwrap_or_default();
        match (dimension, self.entry.media, predicate.operator) {
            ("conversationEnd" | "segmentEnd", _, Operator::Exists) => self.entry.end <= self.as_of,
            ("conversationEnd" | "segmentEnd", _, Operator::NotExists) => self.entry.end > self.as_of,
            ("mediaType", Some(media), Operator::Matches) if media != Media::Callback => {
                predicate.value.as_deref() == Some(media.as_str())
            }
            (_, _, operator) => {
                let values = match self.book.record(self.entry.reference) {
                    ConversationRecord::Made(facts) => values(&facts, dimension),
                    ConversationRecord::Recorded(recorded) => recorded.values(dimension),
                };
                match operator {
                    Operator::Exists => !values.is_empty(),
                    Operator::NotExists => values.is_empty(),
                    Operator::Matches => values.iter().any(|value| Some(value) == predicate.value.as_ref()),
                }
            }
        }
    }
}

/// What a generated conversation has in a dimension.
fn values(facts: &Facts, dimension: &str) -> Vec<String> {
    let contact = |of: fn(OtherParty) -> Option<String>| of(facts.caller).into_iter().collect();
    match dimension {
        "conversationId" => vec![facts.id.to_string()],
        "mediaType" if facts.media == Media::Callback => vec!["callback".to_owned(), "voice".to_owned()],
        "mediaType" => vec![facts.media.as_str().to_owned()],
        "externalContactId" => contact(|caller| match caller {
            OtherParty::Contact { id, .. } => Some(id.to_string()),
            OtherParty::Address(_) | OtherParty::Colleague => None,
        }),
        "canonicalExternalContactId" => contact(|caller| match caller {
            OtherParty::Contact { canonical, .. } => Some(canonical.to_string()),
            OtherParty::Address(_) | OtherParty::Colleague => None,
        }),
        "customerParticipation" => vec![(facts.caller != OtherParty::Colleague).to_string()],
        "queueId" => facts.queues().map(|queue| queue.to_string()).collect(),
        "userId" => facts.legs.iter().map(|leg| leg.agent.to_string()).collect(),
        "wrapUpCode" => facts.legs.iter().map(|leg| leg.wrap_up_code.to_string()).collect(),
        "direction" | "originatingDirection" => {
            vec![if facts.outbound { "outbound" } else { "inbound" }.to_owned()]
        }
        "purpose" => {
            let customer = match (facts.caller, facts.outbound) {
                (OtherParty::Colleague, _) => None,
                (OtherParty::Contact { .. } | OtherParty::Address(_), true) => Some("external"),
                (OtherParty::Contact { .. } | OtherParty::Address(_), false) => Some("customer"),
            };
            let agent = (!facts.legs.is_empty()).then_some("agent");
            customer.into_iter().chain(agent).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

impl Filter {
    fn predicates(&self) -> impl Iterator<Item = &Predicate> {
        self.predicates.iter().chain(self.clauses.iter().flat_map(|clause| &clause.predicates))
    }

    /// Refuses what is not understood.
    pub(super) fn check(&self, known: &[&str]) -> Result<(), Refusal> {
        for predicate in self.predicates() {
            let Some(dimension) = predicate.dimension.as_deref() else {
                return Err(Refusal::bad("only dimension predicates are simulated"));
            };
            if !known.contains(&dimension) {
                return Err(Refusal::bad(format!("dimension {dimension} is not simulated here: {}", known.join(", "))));
            }
            if matches!(predicate.operator, Operator::Matches) && predicate.value.is_none() {
                return Err(Refusal::bad(format!("predicate on {dimension} has no value")));
            }
        }
        Ok(())
    }

    pub(super) fn holds(&self, candidate: &FilterCandidate<'_>) -> bool {
        let clauses = self
            .clauses
            .iter()
            .map(|clause| clause.join.holds(clause.predicates.iter().map(|predicate| candidate.holds(predicate))));
        let predicates = self.predicates.iter().map(|predicate| candidate.holds(predicate));
        self.join.holds(clauses.chain(predicates))
    }
}
