//! Something that keeps what the client brings as a store would, and the loop that brings it.

use std::collections::BTreeMap;

use scoreline_domain::{Channel, CustomerKey, Interaction, InteractionId, SealedId};
use scoreline_genesys::GenesysError;
use scoreline_genesys::settings::Api;
use scoreline_genesys::source::{ExtractionOutcome, ExtractionStep, ExtractionWindow, Position};
use scoreline_simulator::{FaultPlan, Party, SimulatorSettings};

use super::desk::{Desk, small};

impl Desk {
    pub fn with_faults(plan: &str) -> Self {
        let faults = FaultPlan::parse(plan).expect("a plan");
        Self::open(SimulatorSettings { faults, ..small() })
    }

    pub fn everything(&self) -> Position {
        Position::start(ExtractionWindow { from: self.simulator.first_day(), to: self.simulator.now() })
    }
}

/// What a store would hold.
#[derive(Default)]
pub struct Kept {
    pub interactions: BTreeMap<InteractionId, Interaction>,
    pub contacts: BTreeMap<CustomerKey, SealedId>,
    pub steps: usize,
    pub failures: Vec<GenesysError>,
}

impl Kept {
    pub fn of(steps: &[ExtractionStep]) -> Self {
        let mut kept = Self::default();
        for step in steps {
            kept.apply(step);
        }
        kept
    }

    fn apply(&mut self, step: &ExtractionStep) {
        self.steps += 1;
        for extracted in &step.interactions {
            let mut interaction = extracted.interaction.clone();
            assert!(interaction.end.is_some(), "only closed ones");
            if let Some(before) = self.interactions.get(&interaction.id) {
                interaction.sentiment = interaction.sentiment.or(before.sentiment);
                interaction.topics.clone_from(&before.topics);
            }
            if let Some(contact) = &extracted.contact {
                self.contacts.insert(interaction.customer, contact.clone());
            }
            self.interactions.insert(interaction.id, interaction);
        }
        for annotation in &step.annotations {
            let Some(kept) = self.interactions.get_mut(&annotation.id) else { continue };
            kept.sentiment = annotation.sentiment.or(kept.sentiment);
            if !annotation.topics.is_empty() {
                kept.topics.clone_from(&annotation.topics);
            }
        }
    }
}

/// When another process takes over.
#[derive(Clone, Copy, PartialEq)]
pub enum Restart {
    Never,
    AfterEveryStep,
}

/// The loop of an extraction, without its waits. Failures are tried again as a worker does.
pub async fn extract(desk: &Desk, from: Position, kept: &mut Kept, restart: Restart) -> (Position, ExtractionOutcome) {
    let mut position = from;
    let mut client = desk.client();
    for _ in 0..5_000 {
        let step = match client.history().step(&position).await {
            Ok(step) => step,
            Err(err) => {
                kept.failures.push(err);
                assert!(kept.failures.len() < 50, "{:?}", kept.failures.last());
                continue;
            }
        };
        kept.apply(&step);
        let stored = serde_json::to_string(&step.position).expect("JSON");
        position = serde_json::from_str(&stored).expect("as it was stored");
        assert_eq!(position, step.position);
        if let Some(outcome) = step.done {
            return (position, outcome);
        }
        if restart == Restart::AfterEveryStep {
            client = desk.client();
        }
    }
    panic!("no end after {} steps: {}", kept.steps, position.phase());
}

/// What is compared besides the interactions themselves.
#[derive(Clone, Copy, PartialEq)]
pub enum Analysis {
    Compared,
    /// The platform has withheld some of it.
    Partly,
}

/// Fails unless exactly the simulator's data were kept.
pub fn assert_complete(desk: &Desk, kept: &Kept, analysis: Analysis) {
    let truth = desk.truth();
    assert!(truth.len() > 50, "something to find: {}", truth.len());
    let missing = truth.keys().filter(|id| !kept.interactions.contains_key(id)).count();
    let invented = kept.interactions.keys().filter(|id| !truth.contains_key(id)).count();
    assert_eq!((missing, invented), (0, 0), "missing and invented, of {}", truth.len());
    let (hasher, sealer) = (desk.hasher(), desk.sealer());
    for (id, expected) in &truth {
        let found = &kept.interactions[id];
        let Party::Contact { id: contact, canonical } = &expected.party else { continue };
        let contact = if desk.settings.api == Api::Platform { contact } else { canonical };
        assert_eq!(found.customer, hasher.key(contact));
        let opened = sealer.open(&found.customer, &kept.contacts[&found.customer]).expect("ours");
        assert_eq!(secrecy::ExposeSecret::expose_secret(&opened), contact);
        assert_eq!((found.start, found.end), (expected.start, expected.end));
        // The guides know no messages.
        let is_chat = desk.settings.api == Api::Documented && expected.channel == Channel::Message;
        let channel = if is_chat { Channel::Chat } else { expected.channel };
        assert_eq!((found.channel, found.handle_ms), (channel, expected.handle_ms));
        assert_eq!(found.queue, expected.queue);
        if analysis == Analysis::Compared {
            assert_eq!(found.sentiment, expected.sentiment, "{id:?}");
            if !expected.topics.is_empty() {
                let sorted = |topics: &[Box<str>]| {
                    let mut topics = topics.to_vec();
                    topics.sort();
                    topics
                };
                assert_eq!(sorted(&found.topics), sorted(&expected.topics), "{id:?}");
            }
        }
    }
    if analysis == Analysis::Compared {
        let scored = kept.interactions.values().filter(|interaction| interaction.sentiment.is_some()).count();
        assert!(scored * 4 > truth.len(), "sentiment was compared: {scored} of {}", truth.len());
    }
}
