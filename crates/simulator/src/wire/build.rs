//! Facts told as participants, sessions, metrics and segments.

use super::{Attributes, Canary, WireConversation, WireMetric, WireParticipant, WireSegment, WireSession};
use crate::draw::mix;
use crate::facts::{Facts, Leg, Media, NEVER, OtherParty};
use crate::ids::{Id, IdKind};
use crate::moment::Moment;

const DIALLED: &str = "tel:+18005550199";
const MAILBOX: &str = "service@centre.invalid";

/// The telephone number of somebody without a contact.
pub(crate) fn phone(number: u32) -> Canary {
    Canary { before: "tel:+1555CANARY", number, after: "" }
}

/// The address somebody without a contact used, in this medium.
pub(crate) fn address(media: Media, number: u32) -> Canary {
    match media {
        Media::Voice | Media::Callback => phone(number),
        Media::Email => Canary { before: "CANARY-MAIL-", number, after: "@customers.invalid" },
        Media::Chat | Media::Message => Canary { before: "CANARY-ADDRESS-", number, after: "" },
    }
}

/// A conversation as it was at `as_of`. Participants' attributes are only part of what jobs give.
pub(crate) fn conversation(facts: &Facts, as_of: i64, attributes: bool) -> WireConversation {
    let mut teller = Teller { facts, parts: 0, end: if facts.end == NEVER { facts.end_of_legs() } else { facts.end } };
    let mut participants = Vec::with_capacity(1 + 2 * facts.legs.len().max(1));
    participants.extend(teller.customer(attributes));
    if facts.legs.is_empty() {
        participants.push(match facts.abandoned_in {
            Some(queue) => teller.abandoned(queue),
            None => teller.bot(),
        });
    }
    let mut at = facts.start;
    for leg in &facts.legs {
        if !facts.outbound && facts.caller != OtherParty::Colleague {
            participants.push(teller.queue(leg, at));
        }
        participants.push(teller.agent(leg, at));
        at += i64::from(leg.wait) + i64::from(leg.talk) + i64::from(leg.held);
    }
    let whole = WireConversation {
        conversation_id: facts.id,
        conversation_start: Moment(facts.start),
        conversation_end: (facts.end != NEVER).then_some(Moment(facts.end)),
        originating_direction: direction(facts),
        customer_participation: facts.caller != OtherParty::Colleague,
        division_ids: [Id::of(0, IdKind::Division, 1)],
        media_stats_min_conversation_mos: (facts.media == Media::Voice).then_some(4.5),
        participants,
    };
    if facts.closed(as_of) { whole } else { whole.until(as_of) }
}

fn direction(facts: &Facts) -> &'static str {
    if facts.outbound { "outbound" } else { "inbound" }
}

struct Teller<'a> {
    facts: &'a Facts,
    /// Ids given out so far.
    parts: u64,
    end: i64,
}

impl Teller<'_> {
    fn id(&mut self) -> Id {
        self.parts += 1;
        let whole = u128::from_be_bytes(self.facts.id.0);
        Id::of(mix(whole as u64), IdKind::Part, self.parts)
    }

    fn session(&mut self, media: Media, metrics: Vec<WireMetric>, segments: Vec<WireSegment>) -> WireSession {
        WireSession {
            session_id: self.id(),
            peer_id: None,
            media_type: media.as_str(),
            message_type: (media == Media::Message).then(|| self.message_type()),
            direction: direction(self.facts),
            provider: (media == Media::Voice).then_some("Edge"),
            ani: None,
            dnis: None,
            remote: None,
            address_from: None,
            address_to: None,
            callback_user_name: None,
            callback_numbers: None,
            requested_routings: None,
            used_routing: None,
            metrics,
            segments,
        }
    }

    fn message_type(&self) -> &'static str {
        ["webmessaging", "whatsapp", "sms", "facebook"][usize::from(self.facts.id.0[0] % 4)]
    }

    /// The customer's own part, if there is a customer.
    fn customer(&mut self, attributes: bool) -> Option<WireParticipant> {
        let (contact, number) = match self.facts.caller {
            OtherParty::Contact { id, canonical } => (Some(id), canonical.digits()),
            OtherParty::Address(number) => (None, number),
            OtherParty::Colleague => return None,
        };
        let canary = |before| Canary { before, number, after: "" };
        let facts = self.facts;
        let (start, end) = (facts.start, self.end);
        let connected = start + 200.min(end - start);
        let queue = facts.queues().next();
        let subject = (facts.media == Media::Email).then(|| canary("CANARY-SUBJECT-"));
        let talk = WireSegment { queue_id: queue, subject, ..segment("interact", connected, end, Some("endpoint")) };
        let metrics = vec![metric("nConnected", 1, connected), metric("tConnected", (end - connected) as u64, end)];
        let mut first = self.session(facts.media, metrics, vec![segment("system", start, connected, None), talk]);
        let address = address(facts.media, number);
        match facts.media {
            Media::Voice | Media::Callback => {
                first.ani = Some(address);
                first.dnis = Some(DIALLED);
                first.remote = Some(canary("CANARY-REMOTE-"));
            }
            Media::Email => {
                first.address_from = Some(address);
                first.address_to = Some(MAILBOX);
            }
            Media::Chat | Media::Message => first.address_from = Some(address),
        }
        let mut sessions = vec![first];
        if facts.media == Media::Callback {
            // Who asks for a callback has called first.
            sessions[0].callback_user_name = Some(canary("CANARY-NAME-"));
            sessions[0].callback_numbers = Some([phone(number)]);
            let mut call = self.session(Media::Voice, Vec::new(), vec![segment("ivr", start, connected, None)]);
            call.ani = Some(phone(number));
            sessions.insert(0, call);
        }
        let channels = ["organic", "referral", "paid_search", "partner"];
        Some(WireParticipant {
            participant_id: self.id(),
            participant_name: Some(canary("CANARY-NAME-")),
            purpose: if facts.outbound { "external" } else { "customer" },
            external_contact_id: contact,
            user_id: None,
            attributes: attributes.then(|| Attributes {
                acquisition_channel: channels[number as usize % channels.len()],
                customer_said: canary("CANARY-SAID-"),
            }),
            sessions,
        })
    }

    fn participant(&mut self, purpose: &'static str, session: WireSession) -> WireParticipant {
        WireParticipant {
            participant_id: self.id(),
            participant_name: None,
            purpose,
            external_contact_id: None,
            user_id: None,
            attributes: None,
            sessions: vec![session],
        }
    }

    fn bot(&mut self) -> WireParticipant {
        let (start, end) = (self.facts.start, self.end);
        let voice = self.facts.media == Media::Voice;
        let (purpose, name) = if voice { ("ivr", "tIvr") } else { ("botflow", "tFlow") };
        let metrics = vec![metric(name, (end - start) as u64, end)];
        let session = self.session(self.facts.media, metrics, vec![segment("ivr", start, end, Some("peer"))]);
        self.participant(purpose, session)
    }

    fn abandoned(&mut self, queue: Id) -> WireParticipant {
        let (start, end) = (self.facts.start, self.end);
        let wait = (end - start) as u64;
        let metrics = vec![metric("nOffered", 1, start), metric("tAbandon", wait, end), metric("tAcd", wait, end)];
        let waiting = WireSegment { queue_id: Some(queue), ..segment("interact", start, end, Some("peer")) };
        let session = self.session(self.facts.media, metrics, vec![waiting]);
        self.participant("acd", session)
    }

    fn queue(&mut self, leg: &Leg, at: i64) -> WireParticipant {
        let answered = at + i64::from(leg.wait);
        let metrics = vec![metric("nOffered", 1, at), metric("tAcd", u64::from(leg.wait), answered)];
        let waiting = WireSegment { queue_id: Some(leg.queue), ..segment("interact", at, answered, Some("transfer")) };
        let session = self.session(self.facts.media, metrics, vec![waiting]);
        self.participant("acd", WireSession { requested_routings: Some(["Standard"]), ..session })
    }

    fn agent(&mut self, leg: &Leg, at: i64) -> WireParticipant {
        let queue_id = Some(leg.queue);
        let answered = at + i64::from(leg.wait);
        let talked = answered + i64::from(leg.talk);
        let left = talked + i64::from(leg.held);
        let wrapped = left + i64::from(leg.wrap_up);
        let mut metrics = vec![
            metric("tAnswered", u64::from(leg.wait), answered),
            metric("tTalk", u64::from(leg.talk), left),
            metric("tTalkComplete", u64::from(leg.talk), left),
        ];
        let mut segments = vec![WireSegment { queue_id, ..segment("interact", answered, talked, None) }];
        if leg.held > 0 {
            metrics.push(metric("tHeld", u64::from(leg.held), left));
            metrics.push(metric("tHeldComplete", u64::from(leg.held), left));
            segments.push(WireSegment { queue_id, ..segment("hold", talked, left, Some("peer")) });
        } else {
            segments[0].disconnect_type = Some("peer");
        }
        if leg.wrap_up > 0 {
            metrics.push(metric("tAcw", u64::from(leg.wrap_up), wrapped));
            segments.push(WireSegment {
                queue_id,
                wrap_up_code: Some(leg.wrap_up_code),
                wrap_up_note: Some(Canary { before: "CANARY-NOTE-", number: self.facts.id.digits(), after: "" }),
                ..segment("wrapup", left, wrapped, None)
            });
        }
        metrics.push(metric("tHandle", u64::from(leg.handle()), wrapped));
        let mut session = self.session(self.facts.media, metrics, segments);
        session.used_routing = (!self.facts.outbound).then_some("Standard");
        let participant = self.participant("agent", session);
        WireParticipant {
            user_id: Some(leg.agent),
            participant_name: Some(Canary { before: "CANARY-AGENT-", number: leg.agent.digits(), after: "" }),
            ..participant
        }
    }
}

fn metric(name: &'static str, value: u64, at: i64) -> WireMetric {
    WireMetric { name, value, emit_date: Moment(at) }
}

fn segment(segment_type: &'static str, start: i64, end: i64, disconnect_type: Option<&'static str>) -> WireSegment {
    WireSegment {
        segment_start: Moment(start),
        segment_end: Some(Moment(end)),
        segment_type,
        queue_id: None,
        wrap_up_code: None,
        wrap_up_note: None,
        subject: None,
        disconnect_type,
        conference: false,
    }
}
