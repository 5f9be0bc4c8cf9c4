//! What happened in one conversation: the facts that the platform's records, aggregates and the truth are all made of.

use smallvec::SmallVec;

use super::ids::Id;

/// The end of a conversation that has none yet.
pub(super) const NEVER: i64 = i64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Media {
    Voice,
    Chat,
    Message,
    Email,
    Callback,
}

impl Media {
    /// As in `mediaType`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Chat => "chat",
            Self::Message => "message",
            Self::Email => "email",
            Self::Callback => "callback",
        }
    }
}

/// Who the centre talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherParty {
    /// An external contact, under the id it had then, and the one it has after merges.
    Contact { id: Id, canonical: Id },
    /// Somebody with an address and no contact.
    Address(u32),
    /// Nobody: colleagues among themselves.
    Colleague,
}

/// One agent's part. Times in milliseconds; the leg begins where the one before stopped talking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    pub(super) queue: Id,
    pub(super) agent: Id,
    pub(super) wait: u32,
    pub(super) talk: u32,
    pub(super) held: u32,
    pub(super) wrap_up: u32,
    pub(super) wrap_up_code: Id,
}

impl Leg {
    /// What the platform calls handle time.
    pub(super) fn handle(&self) -> u32 {
        self.talk + self.held + self.wrap_up
    }
}

#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) id: Id,
    /// Milliseconds since 1970.
    pub(super) start: i64,
    /// `NEVER` while it goes on.
    pub(super) end: i64,
    pub(super) media: Media,
    pub(super) outbound: bool,
    pub(super) caller: OtherParty,
    /// The queue it waited in when nobody took it.
    pub(super) abandoned_in: Option<Id>,
    /// Empty when nobody handled it.
    pub(super) legs: SmallVec<[Leg; 3]>,
    /// Millionths.
    pub(super) sentiment: Option<i32>,
    pub(super) topics: SmallVec<[Id; 4]>,
}

impl Facts {
    /// Whether it is over at `as_of`.
    pub(super) fn closed(&self, as_of: i64) -> bool {
        self.end <= as_of
    }

    /// The last queue it went through.
    pub(super) fn queue(&self) -> Option<Id> {
        self.legs.last().map(|leg| leg.queue).or(self.abandoned_in)
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = Id> {
        self.legs.iter().map(|leg| leg.queue).chain(self.abandoned_in)
    }

    /// All agents' handle time; `None` when nobody handled it.
    pub(super) fn handle_ms(&self) -> Option<u32> {
        (!self.legs.is_empty()).then(|| self.legs.iter().map(Leg::handle).sum())
    }

    /// The end that the legs lead to: the last wrap-up.
    pub(super) fn end_of_legs(&self) -> i64 {
        let mut talked_until = self.start;
        let mut end = self.start;
        for leg in &self.legs {
            talked_until += i64::from(leg.wait) + i64::from(leg.talk) + i64::from(leg.held);
            end = end.max(talked_until + i64::from(leg.wrap_up));
        }
        end
    }
}
