//! From an interaction of the guides to one of ours. Names and addresses pass by unseen.

use std::borrow::Cow;

use serde::Deserialize;

use crate::identity::Identity;
use crate::source::ExtractionTally;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{Channel, ExtractedInteraction, Interaction, Sentiment};

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(borrow, default)]
    interactions: Option<Vec<Row<'a>>>,
    pub(super) total: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row<'a> {
    #[serde(borrow)]
    interaction_id: Option<Text<'a>>,
    #[serde(borrow)]
    customer_id: Option<Text<'a>>,
    #[serde(borrow)]
    interaction_type: Option<Text<'a>>,
    #[serde(borrow)]
    start_time: Option<Text<'a>>,
    #[serde(borrow)]
    end_time: Option<Text<'a>>,
    handling_time_sec: Option<f64>,
    #[serde(borrow)]
    queue_id: Option<Text<'a>>,
    sentiment: Option<Score>,
    #[serde(borrow)]
    topics: Option<Vec<Text<'a>>>,
}

#[derive(Deserialize)]
struct Score {
    score: Option<f64>,
}

impl<'a> Page<'a> {
    pub(super) fn rows(&self) -> &[Row<'a>] {
        self.interactions.as_deref().unwrap_or_default()
    }
}

impl Text<'_> {
    fn moment(&self) -> Option<Timestamp> {
        self.0.parse().ok()
    }
}

impl Row<'_> {
    /// The interaction, when it has ended and its customer is known; counted in `tally` either way.
    pub(super) fn extract(&self, identity: &Identity, tally: &mut ExtractionTally) -> Option<ExtractedInteraction> {
        tally.rows += 1;
        let id = self.interaction_id.as_ref().filter(|id| !id.0.is_empty());
        let start = self.start_time.as_ref().and_then(Text::moment);
        let (Some(id), Some(start)) = (id, start) else {
            tally.malformed += 1;
            return None;
        };
        tally.oldest = Some(tally.oldest.map_or(start, |oldest| oldest.min(start)));
        let Some(end) = &self.end_time else {
            tally.open += 1;
            return None;
        };
        let Some(end) = end.moment().filter(|end| *end >= start) else {
            tally.malformed += 1;
            return None;
        };
        let Some(contact) = self.customer_id.as_ref().filter(|contact| !contact.0.is_empty()) else {
            tally.no_contact += 1;
            return None;
        };
        let Some(channel) = self.interaction_type.as_ref().and_then(|kind| channel(&kind.0)) else {
            tally.other_media += 1;
            return None;
        };
        tally.kept += 1;
        let (customer, sealed) = identity.customer(&contact.0);
        let interaction = Interaction {
            id: identity.interaction(&id.0),
            customer,
            start,
            end: Some(end),
            channel,
            handle_ms: self
                .handling_time_sec
                .filter(|seconds| *seconds >= 0.0)
                .map(|seconds| (seconds * 1e3).round() as u32),
            sentiment: self.sentiment.as_ref().and_then(|sentiment| sentiment.score).and_then(Sentiment::new),
            topics: self.topics(),
            queue: self.queue_id.as_ref().filter(|queue| !queue.0.is_empty()).map(|queue| queue.0.as_ref().into()),
        };
        Some(ExtractedInteraction { interaction, contact: Some(sealed) })
    }

    /// When it started, if it goes on.
    pub(super) fn open_since(&self) -> Option<Timestamp> {
        if self.end_time.is_some() {
            return None;
        }
        self.start_time.as_ref()?.moment()
    }

    fn topics(&self) -> Vec<Box<str>> {
        let mut topics: Vec<Box<str>> = Vec::new();
        for topic in self.topics.iter().flatten() {
            if !topic.0.is_empty() && !topics.iter().any(|known| **known == *topic.0) {
                topics.push(topic.0.as_ref().into());
            }
        }
        topics
    }
}

fn channel(kind: &str) -> Option<Channel> {
    match kind {
        "Call" => Some(Channel::Voice),
        "Chat" => Some(Channel::Chat),
        "Email" => Some(Channel::Email),
        "Message" => Some(Channel::Message),
        _ => None,
    }
}
