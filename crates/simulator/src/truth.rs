//! What a perfect extraction would find: straight from the facts, not from what was served.

use std::ops::RangeInclusive;

use super::book::{ConversationBook, ConversationRecord};
use super::facts::{Facts, Media, OtherParty};
use super::moment::Moment;
use super::wire;
use scoreline_domain::interaction::{Channel, InteractionId, Sentiment};
use scoreline_domain::time::Timestamp;

/// One interaction of a customer with the centre.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    pub id: InteractionId,
    pub party: Party,
    pub start: Timestamp,
    /// `None` while it goes on; then there is no handle time, wrap-up, sentiment or topic either.
    pub end: Option<Timestamp>,
    pub channel: Channel,
    /// Talk, hold and wrap-up of all agents; `None` when nobody handled it.
    pub handle_ms: Option<u32>,
    /// `None` when it was not scored, or not yet.
    pub sentiment: Option<Sentiment>,
    /// Topic ids; empty when there are none, or not yet.
    pub topics: Vec<Box<str>>,
    /// Distinct wrap-up codes of its agents, which can stand in for topics.
    pub wrap_ups: Vec<Box<str>>,
    /// Id of the last queue it went through.
    pub queue: Option<Box<str>>,
}

/// Who it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Party {
    /// An external contact: the id in the record, and the one after merges.
    Contact { id: String, canonical: String },
    /// Nobody the platform knows, at this address.
    Address(String),
}

/// A view of the world at one moment. Nothing is held but one day.
pub struct Truth<'a> {
    pub(super) book: &'a ConversationBook,
    pub(super) now: i64,
    pub(super) analysed_before: i64,
    pub(super) days: RangeInclusive<i64>,
}

impl Truth<'_> {
    /// Every interaction of the generated and added ones, by start. Recorded ones are not in it: what they say stands in
    /// their file.
    pub fn interactions(&self) -> impl Iterator<Item = Expected> {
        self.days.clone().flat_map(|day| {
            let records =
                self.book.entries(day..=day, self.now).into_iter().map(|entry| self.book.record(entry.reference));
            records.filter_map(|record| match record {
                ConversationRecord::Made(facts) => self.expected(&facts),
                ConversationRecord::Recorded(_) => None,
            })
        })
    }

    /// Conversations there are, those among colleagues and recorded ones included.
    pub fn conversations(&self) -> usize {
        self.days.clone().map(|day| self.book.entries(day..=day, self.now).len()).sum()
    }

    /// Those that are over.
    pub fn closed(&self) -> impl Iterator<Item = Expected> {
        self.interactions().filter(|expected| expected.end.is_some())
    }

    fn expected(&self, facts: &Facts) -> Option<Expected> {
        let party = match facts.caller {
            OtherParty::Contact { id, canonical } => {
                Party::Contact { id: id.to_string(), canonical: canonical.to_string() }
            }
            OtherParty::Address(number) => Party::Address(wire::address(facts.media, number).to_string()),
            OtherParty::Colleague => return None,
        };
        let over = facts.closed(self.now);
        let analysed = facts.closed(self.analysed_before);
        Some(Expected {
            id: InteractionId(facts.id.0),
            party,
            start: Moment(facts.start).timestamp(),
            end: over.then(|| Moment(facts.end).timestamp()),
            channel: match facts.media {
                Media::Voice | Media::Callback => Channel::Voice,
                Media::Chat => Channel::Chat,
                Media::Message => Channel::Message,
                Media::Email => Channel::Email,
            },
            handle_ms: facts.handle_ms().filter(|_| over),
            sentiment: facts.sentiment.filter(|_| analysed).and_then(Sentiment::from_millionths),
            topics: facts.topics.iter().filter(|_| analysed).map(|topic| topic.to_string().into()).collect(),
            wrap_ups: if over { wrap_ups(facts) } else { Vec::new() },
            queue: facts.queue().map(|queue| queue.to_string().into()),
        })
    }
}

fn wrap_ups(facts: &Facts) -> Vec<Box<str>> {
    let mut codes: Vec<Box<str>> = Vec::new();
    for leg in facts.legs.iter().filter(|leg| leg.wrap_up > 0) {
        let code = leg.wrap_up_code.to_string().into();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes
}
