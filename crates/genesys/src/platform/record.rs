//! From a conversation of the platform to an interaction of ours. Only the fields named here are ever read; names,
//! addresses, subjects and notes pass by unseen.

use std::borrow::Cow;

use serde::Deserialize;

use crate::identity::Identity;
use crate::source::ExtractionTally;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{Channel, ExtractedInteraction, Interaction};

/// Text of a record, borrowed from the answer where it can be.
#[derive(Debug, Deserialize)]
pub(super) struct RecordText<'a>(#[serde(borrow)] Cow<'a, str>);

impl RecordText<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
pub(super) struct Conversation<'a> {
    #[serde(borrow, rename = "conversationId")]
    pub(super) id: Option<RecordText<'a>>,
    #[serde(borrow, rename = "conversationStart")]
    pub(super) start: Option<RecordText<'a>>,
    #[serde(borrow, rename = "conversationEnd")]
    pub(super) end: Option<RecordText<'a>>,
    #[serde(borrow)]
    participants: Option<Vec<Participant<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Participant<'a> {
    #[serde(borrow)]
    purpose: Option<RecordText<'a>>,
    #[serde(borrow)]
    external_contact_id: Option<RecordText<'a>>,
    #[serde(borrow)]
    sessions: Option<Vec<Session<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session<'a> {
    #[serde(borrow)]
    media_type: Option<RecordText<'a>>,
    #[serde(borrow)]
    metrics: Option<Vec<Metric<'a>>>,
    #[serde(borrow)]
    segments: Option<Vec<Segment<'a>>>,
}

#[derive(Deserialize)]
struct Metric<'a> {
    #[serde(borrow)]
    name: Option<RecordText<'a>>,
    value: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Segment<'a> {
    #[serde(borrow, rename = "segmentStart")]
    start: Option<RecordText<'a>>,
    #[serde(borrow)]
    queue_id: Option<RecordText<'a>>,
    #[serde(borrow)]
    wrap_up_code: Option<RecordText<'a>>,
}

/// Milliseconds of talk, hold and wrap-up.
const HANDLE: &str = "tHandle";
/// Wrap-up codes the platform sets itself, such as on a timeout: they name no topic.
const SYSTEM_CODE: &str = "ININ-";

/// Who a participant is to us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Customer,
    /// Somebody outside who is no customer of this conversation, such as whom a caller was transferred to. Where nobody is
    /// the customer, as in calls that agents make, it is about them.
    External,
    /// Queues: they have no handle time, but where somebody waited says what it was about.
    Queue,
    Agent,
    Neither,
}

impl Participant<'_> {
    fn side(&self) -> Side {
        match self.purpose.as_ref().map(RecordText::as_str) {
            Some("customer") => Side::Customer,
            Some("external") => Side::External,
            Some("acd") => Side::Queue,
            Some("agent" | "user") => Side::Agent,
            Some(_) | None => Side::Neither,
        }
    }

    fn sessions(&self) -> &[Session<'_>] {
        self.sessions.as_deref().unwrap_or_default()
    }
}

impl Session<'_> {
    fn segments(&self) -> &[Segment<'_>] {
        self.segments.as_deref().unwrap_or_default()
    }
}

fn channel(media: &str) -> Option<Channel> {
    match media {
        "voice" | "callback" => Some(Channel::Voice),
        "email" => Some(Channel::Email),
        "chat" => Some(Channel::Chat),
        "message" => Some(Channel::Message),
        _ => None,
    }
}

fn moment(text: Option<&RecordText<'_>>) -> Option<Timestamp> {
    text?.as_str().parse().ok()
}

impl Conversation<'_> {
    /// The interaction of a conversation that has ended and whose customer is known; counted in `tally` either way.
    pub(super) fn extract(&self, identity: &Identity, tally: &mut ExtractionTally) -> Option<ExtractedInteraction> {
        tally.rows += 1;
        let id = self.id.as_ref().map(RecordText::as_str).filter(|id| !id.is_empty());
        let start = moment(self.start.as_ref());
        let (Some(id), Some(start)) = (id, start) else {
            tally.malformed += 1;
            return None;
        };
        tally.oldest = Some(tally.oldest.map_or(start, |oldest| oldest.min(start)));
        if self.end.is_none() {
            tally.open += 1;
            return None;
        }
        let Some(end) = moment(self.end.as_ref()).filter(|end| *end >= start) else {
            tally.malformed += 1;
            return None;
        };
        let participants = self.participants.as_deref().unwrap_or_default();
        let is_there = |side| participants.iter().any(|participant| participant.side() == side);
        let side = if is_there(Side::Customer) { Side::Customer } else { Side::External };
        let customers = || participants.iter().filter(|participant| participant.side() == side);
        let contact = customers()
            .filter_map(|customer| customer.external_contact_id.as_ref().map(RecordText::as_str))
            .find(|contact| !contact.is_empty());
        let Some(contact) = contact else {
            tally.no_contact += 1;
            return None;
        };
        let media = customers().flat_map(Participant::sessions).filter_map(|session| session.media_type.as_ref());
        let Some(channel) = media.map(RecordText::as_str).find_map(channel) else {
            tally.other_media += 1;
            return None;
        };
        tally.kept += 1;
        let (customer, sealed) = identity.customer(contact);
        let interaction = Interaction {
            id: identity.interaction(id),
            customer,
            start,
            end: Some(end),
            channel,
            handle_ms: handle(participants),
            sentiment: None,
            topics: wrap_ups(participants),
            queue: last_queue(participants),
        };
        Some(ExtractedInteraction { interaction, contact: Some(sealed) })
    }

    /// When it started, if it goes on.
    pub(super) fn open_since(&self) -> Option<Timestamp> {
        if self.end.is_some() {
            return None;
        }
        moment(self.start.as_ref())
    }
}

fn handle(participants: &[Participant<'_>]) -> Option<u32> {
    let agents = participants.iter().filter(|participant| participant.side() == Side::Agent);
    let metrics = agents.flat_map(Participant::sessions).flat_map(|session| session.metrics.iter().flatten());
    let handles = metrics.filter(|metric| metric.name.as_ref().is_some_and(|name| name.as_str() == HANDLE));
    let values = handles.filter_map(|metric| metric.value).filter(|value| *value >= 0.0);
    // A conversion from a float keeps within the range of the type.
    values.fold(None, |sum: Option<f64>, value| Some(sum.unwrap_or(0.0) + value)).map(|sum| sum.round() as u32)
}

fn last_queue(participants: &[Participant<'_>]) -> Option<Box<str>> {
    let sides = participants.iter().filter(|participant| matches!(participant.side(), Side::Queue | Side::Agent));
    let segments = sides.flat_map(Participant::sessions).flat_map(Session::segments);
    let queued = segments.filter_map(|segment| {
        let queue = segment.queue_id.as_ref()?.as_str();
        (!queue.is_empty()).then(|| (moment(segment.start.as_ref()), queue))
    });
    queued.max_by_key(|(start, _)| *start).map(|(_, queue)| queue.into())
}

fn wrap_ups(participants: &[Participant<'_>]) -> Vec<Box<str>> {
    let agents = participants.iter().filter(|participant| participant.side() == Side::Agent);
    let segments = agents.flat_map(Participant::sessions).flat_map(Session::segments);
    let mut codes: Vec<Box<str>> = Vec::new();
    for code in segments.filter_map(|segment| segment.wrap_up_code.as_ref()).map(RecordText::as_str) {
        if !code.is_empty() && !code.starts_with(SYSTEM_CODE) && !codes.iter().any(|known| **known == *code) {
            codes.push(code.into());
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::SecretString;
    use serde_json::{Map, Value, json};

    use super::*;
    use scoreline_domain::privacy::seal::Sealer;
    use scoreline_domain::privacy::{IdHasher, PrivacySettings};

    const CONTACT: &str = "6a1f0d2e-0000-4000-8000-0000000000c1";

    fn identity() -> (Identity, Sealer) {
        let pepper = Some(SecretString::from("pepper of the record tests"));
        let settings = PrivacySettings { pepper, ..PrivacySettings::default() };
        let sealer = Sealer::new(&settings);
        (Identity::new(IdHasher::new(&settings), sealer.clone()), sealer)
    }

    fn extract(conversation: &Value) -> (Option<ExtractedInteraction>, ExtractionTally) {
        let mut tally = ExtractionTally::default();
        let text = conversation.to_string();
        let read: Conversation<'_> = serde_json::from_str(&text).expect("a conversation");
        (read.extract(&identity().0, &mut tally), tally)
    }

    /// A voice call that two agents took, of the platform's shape.
    fn call() -> Value {
        let metric =
            |name: &str, value: u32| json!({ "name": name, "value": value, "emitDate": "2026-11-19T09:04:17.000Z" });
        let segment =
            |start: &str, queue: &str| json!({ "segmentStart": start, "queueId": queue, "segmentType": "interact" });
        json!({
            "conversationId": "6a1f0d2e-0000-4000-8000-000000000001",
            "conversationStart": "2026-11-19T09:00:00.000Z",
            "conversationEnd": "2026-11-19T09:04:17.250Z",
            "participants": [
                { "purpose": "ivr", "sessions": [{ "mediaType": "voice", "segments": [segment("2026-11-19T09:30:00.000Z", "q9")] }] },
                { "purpose": "customer", "externalContactId": CONTACT, "sessions": [{ "mediaType": "voice", "metrics": [metric("tHandle", 7)] }] },
                { "purpose": "acd", "sessions": [{ "mediaType": "voice", "segments": [segment("2026-11-19T09:00:01.000Z", "q1")] }] },
                { "purpose": "agent", "sessions": [{ "mediaType": "voice", "metrics": [metric("tTalk", 200_000), metric("tHandle", 245_000)],
                    "segments": [segment("2026-11-19T09:00:12.000Z", "q1"), { "segmentType": "wrapup", "wrapUpCode": "w1" }] }] },
                { "purpose": "acd", "sessions": [{ "mediaType": "voice", "segments": [segment("2026-11-19T09:02:00.000Z", "q2")] }] },
                { "purpose": "user", "sessions": [{ "mediaType": "voice", "metrics": [metric("tHandle", 5_000)],
                    "segments": [{ "wrapUpCode": "w1" }, { "wrapUpCode": "w2" }, { "wrapUpCode": "ININ-WRAP-UP-TIMEOUT" }] }] },
            ],
        })
    }

    #[test]
    fn a_call_becomes_an_interaction() {
        let (extracted, tally) = extract(&call());
        let ExtractedInteraction { interaction, contact } = extracted.expect("kept");
        let (identity, sealer) = identity();
        assert_eq!(interaction.customer, identity.customer(CONTACT).0);
        let opened = sealer.open(&interaction.customer, &contact.expect("sealed")).expect("ours");
        assert_eq!(secrecy::ExposeSecret::expose_secret(&opened), CONTACT);
        assert_eq!(interaction.id.0[..4], [0x6a, 0x1f, 0x0d, 0x2e]);
        assert_eq!(interaction.channel, Channel::Voice);
        assert_eq!(interaction.handle_ms, Some(250_000), "agents' only");
        assert_eq!(interaction.queue.as_deref(), Some("q2"), "the last one, and not the menu's");
        assert_eq!(interaction.topics, ["w1".into(), "w2".into()] as [Box<str>; 2]);
        assert_eq!(interaction.end.expect("over").as_millisecond() - interaction.start.as_millisecond(), 257_250);
        assert_eq!((tally.rows, tally.kept), (1, 1));
        assert_eq!(tally.oldest, Some(interaction.start));
    }

    #[test]
    fn whom_a_caller_was_transferred_to_is_not_the_customer() {
        let external = |contact: &str| json!({ "purpose": "external", "externalContactId": contact, "sessions": [{ "mediaType": "voice" }] });
        let customer = |call: &Value| extract(call).0.map(|extracted| extracted.interaction.customer);
        let (caller, other) = (identity().0.customer(CONTACT).0, identity().0.customer("other").0);
        for place in 0..=6 {
            let mut call = call();
            call["participants"].as_array_mut().expect("a list").insert(place, external("other"));
            assert_eq!(customer(&call), Some(caller), "at {place}");
        }
        let mut unknown = call();
        unknown["participants"][1]["externalContactId"] = Value::Null;
        unknown["participants"].as_array_mut().expect("a list").push(external("other"));
        assert_eq!((customer(&unknown), extract(&unknown).1.no_contact), (None, 1), "nobody knows who called");
        let mut outbound = call();
        outbound["participants"][1] = external("other");
        assert_eq!(customer(&outbound), Some(other), "a call that an agent made");
    }

    #[test]
    fn what_is_left_out_is_counted_by_its_reason() {
        let changed = |path: &str, value: Value| {
            let mut call = call();
            *call.pointer_mut(path).expect("a field") = value;
            extract(&call).1
        };
        assert_eq!(changed("/conversationEnd", Value::Null).open, 1);
        assert_eq!(changed("/participants/1/externalContactId", Value::Null).no_contact, 1);
        assert_eq!(changed("/participants/1/externalContactId", json!("")).no_contact, 1);
        assert_eq!(changed("/participants/1/purpose", json!("agent")).no_contact, 1);
        assert_eq!(changed("/participants/1/sessions/0/mediaType", json!("video")).other_media, 1);
        assert_eq!(changed("/conversationId", json!("")).malformed, 1);
        assert_eq!(changed("/conversationStart", json!("yesterday")).malformed, 1);
        assert_eq!(changed("/conversationEnd", json!("2026-11-19T08:00:00.000Z")).malformed, 1);
        assert_eq!(changed("/participants", json!([])).no_contact, 1);
        for (media, channel) in [("callback", Channel::Voice), ("message", Channel::Message), ("email", Channel::Email)]
        {
            let mut call = call();
            call["participants"][1]["sessions"][0]["mediaType"] = json!(media);
            assert_eq!(extract(&call).0.expect("kept").interaction.channel, channel);
        }
    }

    /// Fields that hold people, names of fields that are read but in places where they are not, and unknown ones.
    const NAMES: [&str; 20] = [
        "participantName",
        "ani",
        "dnis",
        "addressFrom",
        "addressTo",
        "addressSelf",
        "remote",
        "callbackNumbers",
        "callbackUserName",
        "subject",
        "wrapUpNote",
        "attributes",
        "customerSaid",
        "sessionDnis",
        "destinationAddresses",
        "journeyCustomerId",
        "userId",
        "externalTag",
        "somethingNew",
        "wrapUpTags",
    ];
    const CANARY: &str = "CANARY jane.doe@example.com +15555550100";

    fn objects<'a>(value: &'a mut Value, found: &mut Vec<&'a mut Map<String, Value>>, wanted: &mut usize) {
        match value {
            Value::Object(fields) => {
                if *wanted == 0 {
                    *wanted = usize::MAX;
                    found.push(fields);
                    return;
                }
                *wanted -= 1;
                fields.values_mut().for_each(|value| objects(value, found, wanted));
            }
            Value::Array(values) => values.iter_mut().for_each(|value| objects(value, found, wanted)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    proptest! {
        #[test]
        fn no_other_field_ever_comes_out(places in proptest::collection::vec((0..24_usize, 0..NAMES.len(), 0..4_u8), 1..40)) {
            let mut call = call();
            for (place, name, shape) in places {
                let canary = match shape {
                    0 => json!(CANARY),
                    1 => json!([CANARY, CANARY]),
                    2 => json!({ "value": CANARY, CANARY: 1 }),
                    _ => json!([{ "deep": { "deeper": CANARY } }]),
                };
                let mut found = Vec::new();
                let mut wanted = place;
                objects(&mut call, &mut found, &mut wanted);
                if let Some(fields) = found.first_mut() {
                    fields.insert(NAMES[name].to_owned(), canary);
                }
            }
            let (extracted, tally) = extract(&call);
            let (plain, _) = extract(&self::call());
            let (extracted, plain) = (extracted.expect("kept"), plain.expect("kept"));
            prop_assert_eq!(&extracted.interaction, &plain.interaction);
            let shown = format!("{extracted:?} {tally:?}");
            prop_assert!(!shown.contains("CANARY") && !shown.contains("jane") && !shown.contains("555"), "{}", shown);
        }
    }
}
