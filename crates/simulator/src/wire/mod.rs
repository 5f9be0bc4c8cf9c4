//! A conversation as the platform writes it: `AnalyticsConversation`, complete with everything personal in it. What is
//! personal says CANARY, so that a test can look for it where it must not be.

mod build;

use serde::{Serialize, Serializer};

use super::ids::Id;
use super::moment::Moment;

pub(super) use build::{address, conversation, phone};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireConversation {
    pub(super) conversation_id: Id,
    conversation_start: Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conversation_end: Option<Moment>,
    originating_direction: &'static str,
    customer_participation: bool,
    division_ids: [Id; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    media_stats_min_conversation_mos: Option<f32>,
    pub(super) participants: Vec<WireParticipant>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireParticipant {
    participant_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    participant_name: Option<Canary>,
    purpose: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_contact_id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<Attributes>,
    sessions: Vec<WireSession>,
}

/// What flows wrote to a participant.
#[derive(Serialize)]
struct Attributes {
    acquisition_channel: &'static str,
    customer_said: Canary,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSession {
    session_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<Id>,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_type: Option<&'static str>,
    direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ani: Option<Canary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dnis: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<Canary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address_from: Option<Canary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address_to: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_user_name: Option<Canary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_numbers: Option<[Canary; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_routings: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_routing: Option<&'static str>,
    metrics: Vec<WireMetric>,
    segments: Vec<WireSegment>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireMetric {
    name: &'static str,
    value: u64,
    emit_date: Moment,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSegment {
    segment_start: Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_end: Option<Moment>,
    segment_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrap_up_code: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrap_up_note: Option<Canary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Canary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_type: Option<&'static str>,
    conference: bool,
}

/// Something personal: text with a number in it, never kept as text.
#[derive(Clone, Copy)]
pub(super) struct Canary {
    before: &'static str,
    number: u32,
    after: &'static str,
}

impl std::fmt::Display for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:07}{}", self.before, self.number, self.after)
    }
}

impl Serialize for Canary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl WireConversation {
    /// Forgets what had not happened at `as_of`.
    fn until(mut self, as_of: i64) -> Self {
        self.conversation_end = self.conversation_end.filter(|end| end.0 <= as_of);
        if self.conversation_end.is_some() {
            return self;
        }
        for session in self.participants.iter_mut().flat_map(|participant| &mut participant.sessions) {
            session.metrics.retain(|metric| metric.emit_date.0 <= as_of);
            session.segments.retain(|segment| segment.segment_start.0 <= as_of);
            for segment in &mut session.segments {
                segment.segment_end = segment.segment_end.filter(|end| end.0 <= as_of);
                if segment.segment_end.is_none() {
                    segment.disconnect_type = None;
                    segment.wrap_up_code = None;
                    segment.wrap_up_note = None;
                }
            }
        }
        for participant in &mut self.participants {
            participant.sessions.retain(|session| !session.segments.is_empty());
        }
        self.participants.retain(|participant| !participant.sessions.is_empty());
        self
    }
}
