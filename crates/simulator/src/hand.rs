//! What tests do to the world by hand: conversations added, closed and merged, contacts deleted, writes looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use smallvec::SmallVec;
use uuid::Uuid;

use super::facts::{Facts, Leg, Media, NEVER, OtherParty};
use super::ids::{Id, IdKind};
use super::moment::{DAY_MS, Moment};
use super::outbound;
use super::running::Simulator;
use super::truth::Truth;
use scoreline_domain::interaction::{Channel, InteractionId};
use scoreline_domain::time::Timestamp;

/// A conversation to add.
#[derive(Clone, Debug)]
pub struct NewConversation {
    /// An external contact: of a generated customer, or any other. `None` is an anonymous caller.
    pub contact: Option<Uuid>,
    pub start: Timestamp,
    /// Talk time of its one agent; `None` when nobody handles it.
    pub handle: Option<Duration>,
    /// Still going on: `Simulator::close` ends it.
    pub open: bool,
    pub channel: Channel,
    /// -1 to 1, in millionths.
    pub sentiment: Option<i32>,
    /// How many of the platform's topics it is about, counted from the first.
    pub topics: usize,
    /// Which of the platform's queues, from 0.
    pub queue: usize,
}

/// Something that was written to the platform.
#[derive(Clone, Debug, PartialEq)]
pub struct PlatformWrite {
    pub time: Timestamp,
    /// `external_contact`, `outbound_contact`, or the name of a documented entity.
    pub kind: String,
    pub id: String,
    /// The custom fields, the columns or the entity, after the write.
    pub value: Value,
}

impl Simulator {
    /// What a perfect extraction would find now.
    pub fn truth(&self) -> Truth<'_> {
        let now = self.world.clock.now_ms();
        let delay = self.world.settings.analysis_delay.as_millis() as i64;
        let days = self.world.book.first_day..=Moment(now).day();
        Truth { book: &self.world.book, now, analysed_before: now - delay, days }
    }

    /// The first day with conversations.
    pub fn first_day(&self) -> Timestamp {
        Moment(self.world.book.first_day * DAY_MS).timestamp()
    }

    /// The external contact of a generated customer.
    pub fn contact(&self, customer: u32) -> Uuid {
        Uuid::from_bytes(self.world.book.population.contact(customer).0)
    }

    /// Customers whose contact was merged, with the id from before.
    pub fn merged(&self) -> impl Iterator<Item = (u32, Uuid)> {
        let population = &self.world.book.population;
        (0..population.customers())
            .filter_map(|customer| Some((customer, Uuid::from_bytes(population.merged(customer)?.0))))
    }

    /// Id of one of the platform's queues, and of its topics.
    pub fn queue(&self, number: usize) -> Uuid {
        let queues = &self.world.book.population.queues;
        Uuid::from_bytes(queues[number % queues.len()].0)
    }

    pub fn topic(&self, number: usize) -> Uuid {
        let topics = &self.world.book.population.topics;
        Uuid::from_bytes(topics[number % topics.len()].0)
    }

    /// Adds a conversation.
    pub fn add(&self, new: &NewConversation) -> InteractionId {
        let population = &self.world.book.population;
        let number = self.world.next_visit();
        let id = Id::of(self.world.settings.seed ^ 2, IdKind::Conversation, number);
        let caller = match new.contact.map(|contact| Id(contact.into_bytes())) {
            None => OtherParty::Address(id.digits()),
            Some(id) => {
                let canonical = if let Some((customer, _)) = population.customer(id) {
                    population.contact(customer)
                } else {
                    self.world.contacts.know(id);
                    id
                };
                OtherParty::Contact { id, canonical }
            }
        };
        let queue = population.queues[new.queue % population.queues.len()];
        let leg = new.handle.map(|talk| Leg {
            queue,
            agent: population.agents[0],
            wait: 5000,
            talk: talk.as_millis() as u32,
            held: 0,
            wrap_up: 0,
            wrap_up_code: population.wrap_ups[0],
        });
        let start = new.start.as_millisecond();
        let mut facts = Facts {
            id,
            start,
            end: start,
            media: match new.channel {
                Channel::Voice => Media::Voice,
                Channel::Email => Media::Email,
                Channel::Chat => Media::Chat,
                Channel::Message => Media::Message,
            },
            outbound: false,
            caller,
            abandoned_in: new.handle.is_none().then_some(queue),
            legs: leg.into_iter().collect(),
            sentiment: new.sentiment,
            topics: population.topics.iter().take(new.topics).copied().collect::<SmallVec<_>>(),
        };
        facts.end = if new.open { NEVER } else { facts.end_of_legs().max(start + 1000) };
        self.world.book.add(facts);
        InteractionId(id.0)
    }

    /// Ends an added conversation now, or when its agent is done if that is later. `false` when there is no such one.
    pub fn close(&self, id: InteractionId) -> bool {
        let now = self.world.clock.now_ms();
        self.world.book.change(Id(id.0), |facts| facts.end = facts.end_of_legs().max(now))
    }

    /// A contact that is gone: 404 from now on.
    pub fn delete_contact(&self, contact: Uuid) {
        self.world.contacts.delete(Id(contact.into_bytes()));
    }

    /// Somebody changes a custom field of a contact by hand.
    pub fn edit_contact(&self, contact: Uuid, field: &str, value: Value) {
        self.world.contacts.edit(Id(contact.into_bytes()), field, value);
    }

    /// Custom fields by contact, of those that were written.
    pub fn profiles(&self) -> BTreeMap<String, Map<String, Value>> {
        let profiles = self.world.contacts.profiles();
        profiles.into_iter().map(|(id, fields)| (id.to_string(), fields)).collect()
    }

    /// Rows of a documented entity (`customer_profile_enrichment`, `LeadScore`) by their key.
    pub fn entities(&self, entity: &str) -> BTreeMap<String, Map<String, Value>> {
        self.world.entities.rows(entity)
    }

    /// The contact list and the campaign that are there from the start.
    pub fn contact_list(&self) -> Uuid {
        Uuid::from_bytes(outbound::default_list(self.world.settings.seed).0)
    }

    pub fn campaign(&self) -> Uuid {
        Uuid::from_bytes(outbound::default_campaign(self.world.settings.seed).0)
    }

    /// Every write so far, oldest first; the last million of them.
    pub fn writes(&self) -> Vec<PlatformWrite> {
        self.world.writes()
    }
}
