//! The generated world: customers who call, write and chat. Nothing is kept but a rate for each customer; a conversation
//! follows from the seed, the day, the customer and its number on that day, whenever it is asked for.

use smallvec::SmallVec;

use super::draw::{Draw, mix, pair, unit};
use super::facts::{Facts, Leg, Media, OtherParty};
use super::ids::{Id, IdKind};
use super::moment::DAY_MS;

/// Which conversation of the generated world: packs into `ids::VALUE_BITS` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Days since 1970, below 2^20.
    pub(super) day: i64,
    /// Below 2^28.
    pub(super) customer: u32,
    pub(super) number: u8,
}

impl Key {
    pub(super) fn pack(self) -> u64 {
        (self.day as u64) << 36 | u64::from(self.customer) << 8 | u64::from(self.number)
    }

    pub(super) fn unpack(packed: u64) -> Self {
        Self { day: (packed >> 36).cast_signed(), customer: (packed >> 8) as u32 & 0x0FFF_FFFF, number: packed as u8 }
    }
}

/// Conversations a customer can have on a day.
const MOST_A_DAY: u8 = 31;
/// Log-normal spread of customers' rates: the busiest tenth has about half of the conversations.
const RATE_SPREAD: f64 = 1.2;
/// No customer is more than so many times as busy as the mean.
const BUSIEST: f64 = 40.0;
/// Share of a customer's 30-day months with any conversation, and of weekend days that are like others.
const ACTIVE_MONTHS: f64 = 0.75;
const WEEKENDS: f64 = 0.5;
/// Mean share of days that count, after both.
const ACTIVE_DAYS: f64 = ACTIVE_MONTHS * (5.0 + 2.0 * WEEKENDS) / 7.0;

/// Bit of a contact's number that marks its second id, from before it was merged.
const MERGED: u64 = 1 << 40;
const SHARE_MERGED: u64 = 50;

const SALT_RATE: u64 = 1;
const SALT_DAY: u64 = 2;
const SALT_MONTH: u64 = 3;
const SALT_FACTS: u64 = 4;
const SALT_TEMPER: u64 = 5;

pub(super) struct Population {
    seed: u64,
    /// Probability of a day without any conversation, by customer.
    quiet: Vec<f32>,
    /// What the platform's queues, agents, topics and wrap-up codes are called.
    pub(super) queues: Vec<Id>,
    pub(super) agents: Vec<Id>,
    pub(super) topics: Vec<Id>,
    pub(super) wrap_ups: Vec<Id>,
}

impl Population {
    pub(super) fn new(seed: u64, customers: u32, a_year: f64) -> Self {
        let labels = |kind, count| (0..count).map(|number| Id::of(seed, kind, number)).collect();
        let mean = a_year / 365.0 / ACTIVE_DAYS;
        let quiet = (0..u64::from(customers)).map(|customer| {
            let normal = Draw::new(pair(seed ^ mix(SALT_RATE), customer)).normal();
            let factor = libm::exp(RATE_SPREAD * normal - RATE_SPREAD * RATE_SPREAD / 2.0).min(BUSIEST);
            libm::exp(-mean * factor) as f32
        });
        Self {
            seed,
            quiet: quiet.collect(),
            queues: labels(IdKind::Queue, 12),
            agents: labels(IdKind::Agent, 240),
            topics: labels(IdKind::Topic, 24),
            wrap_ups: labels(IdKind::WrapUp, 16),
        }
    }

    pub(super) fn customers(&self) -> u32 {
        self.quiet.len() as u32
    }

    /// A customer's contact id.
    pub(super) fn contact(&self, customer: u32) -> Id {
        Id::of(self.seed, IdKind::Contact, u64::from(customer))
    }

    /// The customer behind a contact id, and whether the id is the one from before a merge.
    pub(super) fn customer(&self, contact: Id) -> Option<(u32, bool)> {
        let value = contact.value(self.seed, IdKind::Contact)?;
        let customer = (value & !MERGED) as u32;
        (u64::from(customer) == value & !MERGED && customer < self.customers())
            .then_some((customer, value & MERGED != 0))
    }

    /// The id a contact had before it was merged, for the few that were.
    pub(super) fn merged(&self, customer: u32) -> Option<Id> {
        let merged = pair(self.seed ^ mix(SALT_TEMPER), u64::from(customer)).is_multiple_of(SHARE_MERGED);
        merged.then(|| Id::of(self.seed, IdKind::Contact, u64::from(customer) | MERGED))
    }

    /// The conversations that start on a day, in no order.
    pub(super) fn of_day(&self, day: i64) -> impl Iterator<Item = Key> {
        let seed = pair(self.seed ^ mix(SALT_DAY), day as u64);
        self.quiet.iter().enumerate().flat_map(move |(customer, &quiet)| {
            let bits = mix(seed.wrapping_add(customer as u64));
            let count = if unit(bits) < f64::from(quiet) { 0 } else { self.count(day, customer as u32, bits) };
            (0..count).map(move |number| Key { day, customer: customer as u32, number })
        })
    }

    /// Whether a key is of a conversation that takes place.
    pub(super) fn exists(&self, key: Key) -> bool {
        let Some(&quiet) = self.quiet.get(key.customer as usize) else { return false };
        let bits = mix(pair(self.seed ^ mix(SALT_DAY), key.day as u64).wrapping_add(u64::from(key.customer)));
        unit(bits) >= f64::from(quiet) && key.number < self.count(key.day, key.customer, bits)
    }

    /// Poisson, by inversion, for a day on which there is something: not in months and on weekends when the customer is
    /// away.
    fn count(&self, day: i64, customer: u32, bits: u64) -> u8 {
        let month = pair(self.seed ^ mix(SALT_MONTH), u64::from(customer) << 20 | (day / 30) as u64);
        if unit(month) >= ACTIVE_MONTHS {
            return 0;
        }
        // 1970 began on a Thursday.
        let weekend = (day + 3).rem_euclid(7) >= 5;
        if weekend && unit(mix(bits)) >= WEEKENDS {
            return 0;
        }
        let none = f64::from(self.quiet[customer as usize]);
        let rate = -libm::log(none);
        let mut probability = none;
        let mut below = none;
        let mut count = 0;
        while unit(bits) >= below && count < MOST_A_DAY {
            count += 1;
            probability *= rate / f64::from(count);
            below += probability;
        }
        count
    }

    /// What happens in a conversation.
    pub(super) fn facts(&self, key: Key) -> Facts {
        let mut draw = Draw::new(pair(self.seed ^ mix(SALT_FACTS), key.pack()));
        let temper = pair(self.seed ^ mix(SALT_TEMPER), u64::from(key.customer));
        let media = media(&mut draw, temper);
        let outbound = matches!(media, Media::Voice | Media::Email) && draw.chance(0.08);
        let start = key.day * DAY_MS + time_of_day(&mut draw);
        let mut facts = Facts {
            id: Id::of(self.seed, IdKind::Conversation, key.pack()),
            start,
            end: start,
            media,
            outbound,
            caller: self.caller(&mut draw, key.customer),
            abandoned_in: None,
            legs: SmallVec::new(),
            sentiment: None,
            topics: SmallVec::new(),
        };
        let (abandoned, bot) = match media {
            Media::Voice => (0.08, 0.04),
            Media::Chat => (0.05, 0.05),
            Media::Message => (0.03, 0.12),
            Media::Email | Media::Callback => (0.01, 0.0),
        };
        let fate = if outbound { 1.0 } else { draw.unit() };
        if fate < abandoned {
            facts.abandoned_in = Some(*draw.pick(&self.queues));
            facts.end = start + i64::from(draw.spread(45_000.0, 0.9, 900_000.0));
        } else if fate < abandoned + bot {
            facts.end = start + i64::from(draw.spread(70_000.0, 0.7, 900_000.0));
        } else {
            self.handle(&mut draw, &mut facts);
        }
        self.analyse(&mut draw, temper, &mut facts);
        facts
    }

    fn caller(&self, draw: &mut Draw, customer: u32) -> OtherParty {
        let kind = draw.unit();
        if kind < 0.005 {
            return OtherParty::Colleague;
        }
        if kind < 0.06 {
            // Fewer addresses than customers, so that they come back too.
            return OtherParty::Address(draw.below(self.customers() / 8 + 1));
        }
        let canonical = self.contact(customer);
        let merged = self.merged(customer).filter(|_| draw.chance(0.4));
        OtherParty::Contact { id: merged.unwrap_or(canonical), canonical }
    }

    fn handle(&self, draw: &mut Draw, facts: &mut Facts) {
        let (wait, talk, wrap_up, longest): (f64, f64, f64, f64) = match facts.media {
            Media::Voice => (25_000.0, 210_000.0, 20_000.0, 3_600_000.0),
            Media::Chat => (20_000.0, 380_000.0, 15_000.0, 5_400_000.0),
            Media::Message => (90_000.0, 900_000.0, 15_000.0, 28_800_000.0),
            Media::Email => (5_400_000.0, 300_000.0, 25_000.0, 7_200_000.0),
            Media::Callback => (600_000.0, 240_000.0, 20_000.0, 3_600_000.0),
        };
        let transfers = if draw.chance(0.09) { 1 + draw.below(2) } else { 0 };
        for _ in 0..=transfers {
            let held =
                if facts.media == Media::Voice && draw.chance(0.2) { draw.spread(40_000.0, 0.6, 600_000.0) } else { 0 };
            facts.legs.push(Leg {
                queue: *draw.pick(&self.queues),
                agent: *draw.pick(&self.agents),
                // Whoever is transferred waits a moment, so that it can be told which queue was the last.
                wait: match (facts.outbound, facts.legs.is_empty()) {
                    (true, true) => 0,
                    (true, false) | (false, _) => draw.spread(wait, 0.8, 100_000_000.0).max(500),
                },
                talk: draw.spread(talk, 0.7, longest),
                held,
                wrap_up: if draw.chance(0.9) { draw.spread(wrap_up, 0.5, 300_000.0) } else { 0 },
                wrap_up_code: *draw.pick(&self.wrap_ups),
            });
        }
        facts.end = facts.end_of_legs();
    }

    /// Sentiment and topics, for what an agent handled and speech analytics took in.
    fn analyse(&self, draw: &mut Draw, temper: u64, facts: &mut Facts) {
        if facts.legs.is_empty() || facts.caller == OtherParty::Colleague || draw.chance(0.3) {
            return;
        }
        let usual = unit(mix(temper ^ 1)) * 1.2 - 0.5;
        if draw.chance(0.92) {
            let score = (usual + 0.35 * draw.normal()).clamp(-1.0, 1.0);
            // The platform's scores have two digits.
            facts.sentiment = Some(libm::round(score * 100.0) as i32 * 10_000);
        }
        // A customer comes back to a few subjects.
        let own = mix(temper ^ 2);
        for _ in 0..draw.below(4) {
            let number = if draw.chance(0.7) { own.wrapping_add(u64::from(draw.below(5))) } else { draw.bits() };
            let topic = self.topics[(number % self.topics.len() as u64) as usize];
            if !facts.topics.contains(&topic) {
                facts.topics.push(topic);
            }
        }
    }
}

/// Mostly the customer's favourite.
fn media(draw: &mut Draw, temper: u64) -> Media {
    let share = if draw.chance(0.6) { unit(temper) } else { draw.unit() };
    match share {
        x if x < 0.45 => Media::Voice,
        x if x < 0.65 => Media::Message,
        x if x < 0.75 => Media::Chat,
        x if x < 0.95 => Media::Email,
        _ => Media::Callback,
    }
}

/// Milliseconds since midnight: by day, most about two in the afternoon, a tenth at any time.
fn time_of_day(draw: &mut Draw) -> i64 {
    if draw.chance(0.1) {
        return (draw.unit() * DAY_MS as f64) as i64;
    }
    let hours = 7.0 + 7.0 * (draw.unit() + draw.unit());
    (hours * 3_600_000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: std::ops::Range<i64> = 20_000..20_365;

    #[test]
    fn customers_have_as_many_conversations_as_asked_for_and_very_different_ones() {
        let population = Population::new(7, 2000, 50.0);
        let mut by_customer = vec![0_u32; 2000];
        for key in YEAR.flat_map(|day| population.of_day(day)) {
            assert!(population.exists(key));
            by_customer[key.customer as usize] += 1;
        }
        let mean = f64::from(by_customer.iter().sum::<u32>()) / 2000.0;
        assert!((42.0..58.0).contains(&mean), "{mean}");
        by_customer.sort_unstable();
        let busiest: u32 = by_customer[1800..].iter().sum();
        let share = f64::from(busiest) / (mean * 2000.0);
        assert!((0.3..0.6).contains(&share), "the busiest tenth has {share}");
    }

    #[test]
    fn a_conversation_can_be_found_by_its_id() {
        let population = Population::new(7, 200, 50.0);
        for key in population.of_day(20_000) {
            let facts = population.facts(key);
            let packed = facts.id.value(7, IdKind::Conversation).expect("a readable id");
            assert_eq!(Key::unpack(packed), key);
            assert!(facts.end > facts.start);
            if let OtherParty::Contact { id, canonical } = facts.caller {
                assert_eq!(population.customer(id), Some((key.customer, id != canonical)));
            }
        }
        let other = Key { day: 20_000, customer: 3, number: 30 };
        assert!(!population.exists(other) && !population.exists(Key { customer: 9999, ..other }));
    }
}
