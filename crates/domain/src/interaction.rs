//! A customer's interaction with the contact centre, as it is kept: no name, no address, nothing anybody said.

use std::fmt;

use super::ids::CustomerKey;
use super::time::Timestamp;

/// How the customer and the centre talked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    Voice,
    Email,
    Chat,
    Message,
}

impl Channel {
    pub const ALL: [Self; 4] = [Self::Voice, Self::Email, Self::Chat, Self::Message];

    /// The name in files and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Email => "email",
            Self::Chat => "chat",
            Self::Message => "message",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == name)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What tells one interaction from another: the platform's conversation id (a UUID), or the first half of the keyed hash
/// of whatever else it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InteractionId(pub [u8; 16]);

/// Sentiment from -1 (negative) to 1 (positive) in millionths. Whole, so that a sum does not depend on its order: what
/// is added and taken away again is exactly what was never there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sentiment(i32);

impl Sentiment {
    const SCALE: f64 = 1e6;

    /// `None` outside -1..=1. Rounds to the nearest millionth.
    pub fn new(score: f64) -> Option<Self> {
        (-1.0..=1.0).contains(&score).then(|| Self((score * Self::SCALE).round() as i32))
    }

    /// `None` outside -1000000..=1000000.
    pub fn from_millionths(millionths: i32) -> Option<Self> {
        (-1_000_000..=1_000_000).contains(&millionths).then_some(Self(millionths))
    }

    pub fn millionths(self) -> i32 {
        self.0
    }

    /// -1 to 1.
    pub fn score(self) -> f64 {
        f64::from(self.0) / Self::SCALE
    }
}

/// A queue or a topic, by its number in the store: interactions are many, labels are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelId(pub u32);

/// One interaction as it was extracted.
#[derive(Clone, Debug, PartialEq)]
pub struct Interaction {
    pub id: InteractionId,
    pub customer: CustomerKey,
    pub start: Timestamp,
    /// `None` while it goes on.
    pub end: Option<Timestamp>,
    pub channel: Channel,
    /// Talk, hold and wrap-up; `None` when nobody handled it (abandoned in the queue, bots alone).
    pub handle_ms: Option<u32>,
    /// `None` when it was not scored, or not yet.
    pub sentiment: Option<Sentiment>,
    /// Distinct, in any order; empty when none were found, or not yet.
    pub topics: Vec<Box<str>>,
    /// The last queue it went through.
    pub queue: Option<Box<str>>,
}

/// An interaction as the platform told it, and what its customer is called there.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtractedInteraction {
    pub interaction: Interaction,
    /// The id to write scores to, of `interaction.customer`. Kept when the customer's contact is not known yet.
    pub contact: Option<SealedId>,
}

/// Sentiment and topics that were found for an interaction after it was extracted. What is absent takes nothing away.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    pub id: InteractionId,
    pub sentiment: Option<Sentiment>,
    /// All topics, instead of those there are; empty: nothing new.
    pub topics: Vec<Box<str>>,
}

/// One interaction of a customer as features are folded from it: numbers instead of names.
///
/// Adding the same one twice counts it twice: whoever reads histories removes duplicates.
#[derive(Clone, Copy, Debug)]
pub struct InteractionRow<'a> {
    /// Needed to leave one out; `None` where nobody asks.
    pub id: Option<InteractionId>,
    /// Milliseconds since 1970, like the end.
    pub start_ms: i64,
    /// `None` while it goes on.
    pub end_ms: Option<i64>,
    pub channel: Channel,
    /// Talk, hold and wrap-up; `None` when nobody handled it (abandoned in the queue).
    pub handle_ms: Option<u32>,
    /// `None` when it was not scored.
    pub sentiment: Option<Sentiment>,
    /// Distinct, in any order.
    pub topics: &'a [LabelId],
    /// The queue it went through, for the sentiment that stands in when none of a customer's interactions is scored.
    pub queue: Option<LabelId>,
}

/// What a customer is called on the platform, sealed under a key of this server: needed to write to their profile, and
/// never kept readable (see `privacy::seal`).
#[derive(Clone, PartialEq, Eq)]
pub struct SealedId(pub Box<[u8]>);

impl fmt::Debug for SealedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedId(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentiment_is_whole_millionths_and_keeps_to_its_range() {
        assert_eq!(Sentiment::new(0.65).map(Sentiment::millionths), Some(650_000));
        assert_eq!(Sentiment::new(-1.0).map(Sentiment::score), Some(-1.0));
        for outside in [1.000_001, -1.5, f64::NAN, f64::INFINITY] {
            assert_eq!(Sentiment::new(outside), None);
        }
        assert_eq!(Sentiment::from_millionths(1_000_001), None);
    }

    #[test]
    fn a_channel_is_found_by_its_name() {
        for channel in Channel::ALL {
            assert_eq!(Channel::parse(channel.as_str()), Some(channel));
        }
        assert_eq!(Channel::parse("fax"), None);
    }
}
