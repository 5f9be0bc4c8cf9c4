//! All conversations of the platform: generated, recorded and those that tests add. Days are listed on demand and the
//! last few kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::facts::{Facts, Media, NEVER};
use super::ids::{Id, IdKind};
use super::moment::Moment;
use super::population::{Key, Population};
use super::recorded::Recorded;

/// Where a conversation is found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConversationRef(u64);

/// Not generated: the rest is a position in the list of extras.
const EXTRA: u64 = 1 << 63;

/// A line of a day's list: what most questions are decided by.
#[derive(Clone, Copy, Debug)]
pub(super) struct DayEntry {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) reference: ConversationRef,
    /// `None` for recorded ones, which can have several.
    pub(super) media: Option<Media>,
}

/// A conversation.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "lives for a moment, and a box would cost more than its bytes")]
pub(super) enum ConversationRecord {
    Made(Facts),
    Recorded(Arc<Recorded>),
}

/// Days kept; a query's window is seven.
const DAYS_KEPT: usize = 16;

pub(super) struct ConversationBook {
    pub(super) seed: u64,
    pub(super) population: Population,
    /// Nothing was generated before this day.
    pub(super) first_day: i64,
    extras: RwLock<Extras>,
    days: Mutex<VecDeque<(i64, Arc<[DayEntry]>)>>,
}

#[derive(Default)]
struct Extras {
    records: Vec<ConversationRecord>,
    by_id: HashMap<Id, usize>,
}

impl ConversationBook {
    pub(super) fn new(seed: u64, population: Population, first_day: i64, recorded: Vec<Recorded>) -> Self {
        let book = Self { seed, population, first_day, extras: RwLock::default(), days: Mutex::default() };
        for recorded in recorded {
            book.insert(recorded.id, ConversationRecord::Recorded(Arc::new(recorded)));
        }
        book
    }

    fn extras(&self) -> std::sync::RwLockReadGuard<'_, Extras> {
        self.extras.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a conversation, or replaces the one with its id.
    fn insert(&self, id: Id, record: ConversationRecord) {
        let mut extras = self.extras.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&position) = extras.by_id.get(&id) {
            extras.records[position] = record;
        } else {
            let position = extras.records.len();
            extras.by_id.insert(id, position);
            extras.records.push(record);
        }
    }

    pub(super) fn add(&self, facts: Facts) {
        self.insert(facts.id, ConversationRecord::Made(facts));
    }

    /// Changes a conversation that was added; `false` when there is none of this id.
    pub(super) fn change(&self, id: Id, change: impl FnOnce(&mut Facts)) -> bool {
        let mut extras = self.extras.write().unwrap_or_else(PoisonError::into_inner);
        let Some(&position) = extras.by_id.get(&id) else { return false };
        match &mut extras.records[position] {
            ConversationRecord::Made(facts) => {
                change(facts);
                true
            }
            ConversationRecord::Recorded(_) => false,
        }
    }

    /// What is there on these days and had started by `as_of`, by start.
    pub(super) fn entries(&self, days: std::ops::RangeInclusive<i64>, as_of: i64) -> Vec<DayEntry> {
        let mut entries = Vec::new();
        // A conversation of a day that has not begun yet has not started either.
        for day in *days.start().max(&self.first_day)..=*days.end().min(&Moment(as_of).day()) {
            entries.extend(self.day(day).iter().take_while(|entry| entry.start <= as_of));
        }
        let extras = self.extras();
        if !extras.records.is_empty() {
            let extra = extras.records.iter().enumerate().map(|(position, record)| record.entry(position));
            let wanted = |entry: &DayEntry| entry.start <= as_of && days.contains(&Moment(entry.start).day());
            entries.extend(extra.filter(wanted));
            entries.sort_unstable_by_key(|entry| (entry.start, entry.reference));
        }
        entries
    }

    fn day(&self, day: i64) -> Arc<[DayEntry]> {
        let locked = || self.days.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, kept)) = locked().iter().find(|(kept, _)| *kept == day) {
            return Arc::clone(kept);
        }
        // Not under the lock: two that ask at once do the work twice, to the same end.
        let mut entries: Vec<DayEntry> = self
            .population
            .of_day(day)
            .map(|key| {
                let facts = self.population.facts(key);
                let reference = ConversationRef(key.pack());
                DayEntry { start: facts.start, end: facts.end, reference, media: Some(facts.media) }
            })
            .collect();
        entries.sort_unstable_by_key(|entry| (entry.start, entry.reference));
        let entries: Arc<[DayEntry]> = entries.into();
        let mut days = locked();
        if days.len() == DAYS_KEPT {
            days.pop_front();
        }
        days.push_back((day, Arc::clone(&entries)));
        entries
    }

    pub(super) fn record(&self, reference: ConversationRef) -> ConversationRecord {
        if reference.0 & EXTRA == 0 {
            return ConversationRecord::Made(self.population.facts(Key::unpack(reference.0)));
        }
        self.extras().records[(reference.0 & !EXTRA) as usize].clone()
    }

    /// A conversation by its id, if it has started by `as_of`.
    pub(super) fn find(&self, id: Id, as_of: i64) -> Option<ConversationRecord> {
        let extra = {
            let extras = self.extras();
            extras.by_id.get(&id).map(|&position| extras.records[position].clone())
        };
        let record = if let Some(record) = extra {
            record
        } else {
            let key = Key::unpack(id.value(self.seed, IdKind::Conversation)?);
            let there = key.day >= self.first_day && self.population.exists(key);
            ConversationRecord::Made(there.then(|| self.population.facts(key))?)
        };
        (record.start() <= as_of).then_some(record)
    }
}

impl ConversationRecord {
    fn entry(&self, position: usize) -> DayEntry {
        let reference = ConversationRef(EXTRA | position as u64);
        match self {
            Self::Made(facts) => DayEntry { start: facts.start, end: facts.end, reference, media: Some(facts.media) },
            Self::Recorded(recorded) => {
                let end = recorded.end.map_or(NEVER, |end| end.0);
                DayEntry { start: recorded.start.0, end, reference, media: None }
            }
        }
    }

    pub(super) fn start(&self) -> i64 {
        match self {
            Self::Made(facts) => facts.start,
            Self::Recorded(recorded) => recorded.start.0,
        }
    }
}
