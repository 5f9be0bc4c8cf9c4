//! The sliding window as a pure state machine: it is told the time and what happened, and says when the next requests may
//! be sent. Reads no clock, waits for nothing, and is kept as a text between two changes, so that all who use a token share it.
//!
//! The platform counts a request when it arrives there, which is some time between its start and its end here. So a
//! request counts from its start until one period after its end: whatever the network does, no period at the platform
//! ever holds more than `most`. A request whose end nobody tells counts as ended when it must have.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// No pause the platform asks for is longer.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// The longest wait of our own making.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// The first pause when the platform names none.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A rate that was halved is back after so many steps, one every tenth of a period.
const STEPS_BACK: f64 = 20.0;
/// Requests of the same part of a period are counted as if they had ended with it: what is kept stays small.
const PARTS: i64 = 600;

/// What a token may do, and how long one of its requests can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaceLimits {
    /// Requests a period.
    pub(crate) most: u32,
    pub(crate) period: Duration,
    /// From its reservation on, a request has ended after so long.
    pub(crate) longest: Duration,
}

/// Whether the next requests may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestAdmission {
    /// Under this number, which is told with the end of each.
    Now(u64),
    /// Ask again after this long.
    After(Duration),
}

/// Requests that were admitted together and have not all ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct OpenRequests {
    id: u64,
    left: u32,
    /// They have ended by then, told or not.
    until: i64,
}

/// Times are milliseconds of one clock, which is named: those of another one tell nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RequestWindow {
    clock: Box<str>,
    /// When it was changed last.
    at: i64,
    /// How many requests ended up to each moment that still counts, oldest first.
    ended: VecDeque<(i64, u32)>,
    open: Vec<OpenRequests>,
    /// Requests a period at the moment: `most`, or fewer after the platform has refused one.
    allowed: f64,
    paused_until: i64,
    /// Refusals since the last request that was not refused.
    in_a_row: u32,
    last_step: i64,
    #[serde(skip)]
    limits: Option<PaceLimits>,
}

impl RequestWindow {
    /// The window as it was kept, moved to now. What was kept on another clock, or on one that was set back since, counts as
    /// if it had just been: rather a period of silence than one request too many.
    pub(crate) fn resume(kept: Option<&str>, clock: &str, now: i64, limits: PaceLimits) -> Self {
        let empty = Self {
            clock: clock.into(),
            at: now,
            ended: VecDeque::new(),
            open: Vec::new(),
            allowed: f64::from(limits.most),
            paused_until: i64::MIN,
            in_a_row: 0,
            last_step: i64::MIN,
            limits: Some(limits),
        };
        let Some(kept) = kept else { return empty };
        let Ok(mut window) = serde_json::from_str::<Self>(kept) else {
            return Self { paused_until: now + ms(limits.period), ..empty };
        };
        window.limits = Some(limits);
        window.allowed = window.allowed.min(f64::from(limits.most));
        if &*window.clock != clock || now < window.at {
            window.move_to(clock, now);
        }
        window.at = now;
        window.pass(now);
        window
    }

    /// What is kept of it.
    pub(crate) fn text(&self) -> String {
        // Numbers and one text: there is nothing in it that cannot be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn move_to(&mut self, clock: &str, now: i64) {
        let ended = self.ended.iter().map(|(_, count)| count).sum();
        self.ended.clear();
        self.ended.push_back((self.part_end(now), ended));
        let until = now + ms(self.limits().longest);
        self.open.iter_mut().for_each(|open| open.until = until);
        // What was left of a pause when it was last looked at.
        let left = self.paused_until.saturating_sub(self.at).clamp(0, ms(LONGEST_PAUSE + LONGEST_WAIT));
        (self.paused_until, self.last_step) = (now + left, now);
        (self.clock, self.at) = (clock.into(), now);
    }

    /// Forgets what does not count any more.
    fn pass(&mut self, now: i64) {
        let over: Vec<OpenRequests> = self.open.extract_if(.., |open| open.until <= now || open.left == 0).collect();
        for open in over {
            self.count_ended(open.until, open.left);
        }
        let period = ms(self.limits().period);
        // At exactly one period both could still fall into one.
        while self.ended.front().is_some_and(|(ended, _)| ended + period < now) {
            self.ended.pop_front();
        }
    }

    fn count_ended(&mut self, at: i64, count: u32) {
        if count == 0 {
            return;
        }
        let at = self.part_end(at);
        let place = self.ended.partition_point(|(ended, _)| *ended < at);
        match self.ended.get_mut(place) {
            Some((ended, counted)) if *ended == at => *counted += count,
            Some(_) | None => self.ended.insert(place, (at, count)),
        }
    }

    /// The end of the part of a period that a moment is in.
    fn part_end(&self, at: i64) -> i64 {
        let part = (ms(self.limits().period) / PARTS).max(1);
        at.div_euclid(part) * part + part
    }

    /// Requests that count at the moment.
    pub(crate) fn counted(&self) -> u32 {
        let ended: u32 = self.ended.iter().map(|(_, count)| count).sum();
        ended + self.open.iter().map(|open| open.left).sum::<u32>()
    }

    /// Begins `count` requests if they may be sent now; the end of each has to follow, or that it is not sent.
    pub(crate) fn admit(&mut self, now: i64, count: u32, id: u64) -> RequestAdmission {
        if now < self.paused_until {
            return RequestAdmission::After(span(self.paused_until - now));
        }
        let allowed = self.allowed().max(1);
        // More than a period holds would wait for ever.
        let count = count.clamp(1, allowed);
        let wanted = self.counted() + count;
        if wanted <= allowed {
            self.open.push(OpenRequests { id, left: count, until: now + ms(self.limits().longest) });
            return RequestAdmission::Now(id);
        }
        let mut too_many = wanted - allowed;
        let free_at = self.ended.iter().find_map(|(ended, count)| {
            too_many = too_many.saturating_sub(*count);
            (too_many == 0).then_some(*ended)
        });
        // Requests that have not ended yet count for one more period at least.
        let wait = free_at.unwrap_or(now) + ms(self.limits().period) + 1 - now;
        RequestAdmission::After(span(wait))
    }

    /// One request that was begun is over, whatever came of it.
    pub(crate) fn end(&mut self, id: u64, at: i64) {
        if let Some(open) = self.open.iter_mut().find(|open| open.id == id && open.left > 0) {
            open.left -= 1;
            self.count_ended(at, 1);
        }
    }

    /// So many requests that were begun are not sent after all.
    pub(crate) fn give_back(&mut self, id: u64, count: u32) {
        if let Some(open) = self.open.iter_mut().find(|open| open.id == id) {
            open.left = open.left.saturating_sub(count);
        }
    }

    /// A request was answered and not refused for its rate.
    pub(crate) fn answered(&mut self, now: i64) {
        self.in_a_row = 0;
        let limits = self.limits();
        let most = f64::from(limits.most);
        if self.allowed < most && now >= self.last_step.saturating_add(ms(limits.period / 10)) {
            self.last_step = now;
            self.allowed = (self.allowed + (most / STEPS_BACK).max(1.0)).min(most);
        }
    }

    /// A request was refused for its rate. `draw` is a random number from 0 to 1. Returns the pause.
    pub(crate) fn refused(&mut self, now: i64, retry_after: Option<Duration>, draw: f64) -> Duration {
        // Refusals of requests that were under way together are one message. One that names its time is obeyed, and that is
        // all: the rate is halved where none is named, or where the first request after the named time is refused again.
        if now >= self.paused_until && (retry_after.is_none() || self.in_a_row > 0) {
            self.allowed = (self.allowed / 2.0).max(1.0);
            self.last_step = now;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        let growing = FIRST_PAUSE.saturating_mul(1 << (self.in_a_row - 1).min(6)).min(LONGEST_WAIT);
        let pause = match retry_after {
            // Never before it; users report to be refused again right after it.
            Some(asked) => asked.min(LONGEST_PAUSE) + growing.mul_f64(draw / 2.0),
            None => growing.mul_f64(0.5 + draw / 2.0),
        };
        self.hold_for(now, pause);
        pause
    }

    /// Nothing may be sent for a while, for another reason than the rate.
    pub(crate) fn hold(&mut self, now: i64, pause: Duration) {
        self.hold_for(now, pause.min(LONGEST_PAUSE));
    }

    fn hold_for(&mut self, now: i64, pause: Duration) {
        self.paused_until = self.paused_until.max(now + ms(pause) + 1);
    }

    /// The platform says beside an answer how many requests a period it allows, or how many are left. Hints only lower the
    /// rate: which limit they are of is not known.
    pub(crate) fn hinted(&mut self, allowed: Option<u32>, remaining: Option<u32>) {
        let left = remaining.map(|remaining| self.counted().saturating_add(remaining));
        let hinted = allowed.into_iter().chain(left).min();
        self.allowed = hinted.map_or(self.allowed, |hinted| self.allowed.min(f64::from(hinted.max(1))));
    }

    /// Whether an answer that was not refused changes anything.
    pub(crate) fn is_slowed(&self) -> bool {
        self.in_a_row > 0 || self.allowed < f64::from(self.limits().most)
    }

    /// Requests a period at the moment.
    pub(crate) fn allowed(&self) -> u32 {
        self.allowed as u32
    }

    fn limits(&self) -> PaceLimits {
        // Set by `resume`, the only way to a window.
        self.limits.unwrap_or(PaceLimits { most: 1, period: LONGEST_WAIT, longest: LONGEST_WAIT })
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// At least a millisecond.
fn span(ms: i64) -> Duration {
    Duration::from_millis(ms.max(1).unsigned_abs())
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
