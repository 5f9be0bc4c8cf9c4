//! The sliding window as a pure state machine: it is told the time and what happened, and says when the next request may
//! be sent. Reads no clock and waits for nothing.
//!
//! The platform counts a request when it arrives there, which is some time between its start and its end here. So a
//! request counts from its start until one period after its end: whatever the network does, no period at the platform
//! ever holds more than `most`.

use std::collections::VecDeque;
use std::time::Duration;

/// No pause the platform asks for is longer.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// The longest wait of our own making.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// The first pause when the platform names none.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A rate that was halved is back after so many steps, one every tenth of a period.
const STEPS_BACK: f64 = 20.0;

/// Whether the next request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestAdmission {
    Now,
    /// Ask again after this long.
    After(Duration),
}

/// Times are since some fixed moment and never go back.
#[derive(Debug)]
pub(crate) struct RequestWindow {
    most: u32,
    period: Duration,
    /// When each request ended that still counts, oldest first.
    ended: VecDeque<Duration>,
    in_flight: usize,
    /// Requests a period at the moment: `most`, or fewer after the platform has refused one.
    allowed: f64,
    paused_until: Duration,
    /// Refusals since the last request that was not refused.
    in_a_row: u32,
    last_step: Duration,
}

impl RequestWindow {
    pub(crate) fn new(most: u32, period: Duration) -> Self {
        Self {
            most,
            period,
            ended: VecDeque::new(),
            in_flight: 0,
            allowed: f64::from(most),
            paused_until: Duration::ZERO,
            in_a_row: 0,
            last_step: Duration::ZERO,
        }
    }

    /// Begins a request if one may be sent now; `end` has to follow.
    pub(crate) fn admit(&mut self, now: Duration) -> RequestAdmission {
        if now < self.paused_until {
            return RequestAdmission::After(self.paused_until.saturating_sub(now));
        }
        // At exactly one period both could still fall into one.
        while self.ended.front().is_some_and(|ended| *ended + self.period < now) {
            self.ended.pop_front();
        }
        let allowed = (self.allowed as usize).max(1);
        let counted = self.ended.len() + self.in_flight;
        if counted < allowed {
            self.in_flight += 1;
            return RequestAdmission::Now;
        }
        let too_many = counted - allowed;
        // Requests that have not ended yet count for one more period at least.
        let free_at = self.ended.get(too_many).map_or(now, |ended| *ended) + self.period + Duration::from_millis(1);
        RequestAdmission::After(free_at.saturating_sub(now))
    }

    /// A request that was begun is over, whatever came of it.
    pub(crate) fn end(&mut self, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.ended.push_back(now);
    }

    /// A request was answered and not refused for its rate.
    pub(crate) fn answered(&mut self, now: Duration) {
        self.in_a_row = 0;
        if self.allowed < f64::from(self.most) && now >= self.last_step + self.period / 10 {
            self.last_step = now;
            self.allowed = (self.allowed + (f64::from(self.most) / STEPS_BACK).max(1.0)).min(f64::from(self.most));
        }
    }

    /// A request was refused for its rate. `draw` is a random number from 0 to 1. Returns the pause.
    pub(crate) fn refused(&mut self, now: Duration, retry_after: Option<Duration>, draw: f64) -> Duration {
        // Refusals of requests that were under way together are one message.
        if now >= self.paused_until {
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
        self.paused_until = self.paused_until.max(now + pause);
        pause
    }

    /// Nothing may be sent for a while, for another reason than the rate.
    pub(crate) fn hold(&mut self, now: Duration, pause: Duration) {
        self.paused_until = self.paused_until.max(now + pause.min(LONGEST_PAUSE));
    }

    /// How long ago each request ended that still counts; those under way count as ending now.
    pub(crate) fn ages(&self, now: Duration) -> Vec<Duration> {
        let ended = self.ended.iter().map(|ended| now.saturating_sub(*ended));
        let ages = ended.filter(|age| *age <= self.period);
        ages.chain(std::iter::repeat_n(Duration::ZERO, self.in_flight)).collect()
    }

    pub(crate) fn pause_left(&self, now: Duration) -> Duration {
        self.paused_until.saturating_sub(now)
    }

    /// Counts requests of another process in, by their age. `now` must not be less than the period.
    pub(crate) fn restore(&mut self, now: Duration, ages: impl IntoIterator<Item = Duration>, pause_left: Duration) {
        self.ended.extend(ages.into_iter().map(|age| now.saturating_sub(age)));
        self.ended.make_contiguous().sort_unstable();
        self.paused_until = self.paused_until.max(now + pause_left.min(LONGEST_PAUSE + LONGEST_WAIT));
    }

    /// Requests a period at the moment.
    pub(crate) fn allowed(&self) -> u32 {
        self.allowed as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: Duration = Duration::from_mins(1);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// What happens next, and how long after what happened before, in milliseconds.
    #[derive(Clone, Debug)]
    enum Event {
        Ask(u64),
        End(u64),
        Refuse(u64, Option<u64>),
        Restart(u64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let gap = prop_oneof![Just(0_u64), 0..50_u64, 0..5_000_u64, 50_000..70_000_u64];
        let event = (gap, 0..100_u32, proptest::option::of(0..20_000_u64)).prop_map(|(gap, kind, after)| match kind {
            0..60 => Event::Ask(gap),
            60..94 => Event::End(gap),
            94..98 => Event::Refuse(gap, after),
            _ => Event::Restart(gap),
        });
        proptest::collection::vec(event, 1..400)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        /// Against the naive rule: wherever between its start and its end a request arrives at the platform, no period
        /// there holds more than the limit, nothing arrives inside a pause, and what is asked for is answered in the end.
        #[test]
        fn no_period_ever_holds_more_than_the_limit(events in events(), most in 1..8_u32, arrivals: u64) {
            let mut window = RequestWindow::new(most, PERIOD);
            let mut now = PERIOD;
            let mut open: VecDeque<Duration> = VecDeque::new();
            let mut requests: Vec<(Duration, Duration)> = Vec::new();
            let mut closed_until = Duration::ZERO;
            for event in &events {
                match event {
                    Event::Ask(gap) => {
                        now += ms(*gap);
                        let admitted = window.admit(now);
                        if admitted == RequestAdmission::Now {
                            prop_assert!(now >= closed_until, "inside a pause");
                            open.push_back(now);
                        }
                        if let RequestAdmission::After(wait) = admitted {
                            prop_assert!(wait > Duration::ZERO && wait <= LONGEST_PAUSE + PERIOD + LONGEST_WAIT);
                        }
                    }
                    Event::End(gap) => {
                        now += ms(*gap);
                        if let Some(start) = open.pop_front() {
                            window.end(now);
                            window.answered(now);
                            requests.push((start, now));
                        }
                    }
                    Event::Refuse(gap, after) => {
                        now += ms(*gap);
                        if let Some(start) = open.pop_front() {
                            window.end(now);
                            window.refused(now, after.map(ms), 0.0);
                            requests.push((start, now));
                            closed_until = closed_until.max(now + ms(after.unwrap_or(0)));
                        }
                    }
                    Event::Restart(gap) => {
                        now += ms(*gap);
                        let (ages, pause) = (window.ages(now), window.pause_left(now));
                        requests.extend(open.drain(..).map(|start| (start, now)));
                        window = RequestWindow::new(most, PERIOD);
                        window.restore(now, ages, pause);
                    }
                }
            }
            requests.extend(open.drain(..).map(|start| (start, now)));
            let mut draw = fastrand::Rng::with_seed(arrivals);
            let mut arrived: Vec<Duration> =
                requests.iter().map(|(start, end)| match draw.u8(0..3) {
                    0 => *start,
                    1 => *end,
                    _ => *start + end.saturating_sub(*start).mul_f64(draw.f64()),
                }).collect();
            arrived.sort();
            for pair in arrived.windows(most as usize + 1) {
                prop_assert!(pair[most as usize].saturating_sub(pair[0]) > PERIOD, "{pair:?}");
            }
        }

        #[test]
        fn whoever_waits_as_told_is_admitted(most in 1..6_u32, takes in 0..3_000_u64, asked in 1..60_usize) {
            let mut window = RequestWindow::new(most, PERIOD);
            let mut now = PERIOD;
            for _ in 0..asked {
                for turn in 0..3 {
                    match window.admit(now) {
                        RequestAdmission::Now => break,
                        RequestAdmission::After(wait) => now += wait,
                    }
                    prop_assert!(turn < 2, "told to wait twice although nothing happened in between");
                }
                now += ms(takes);
                window.end(now);
                window.answered(now);
            }
            // As fast as the limit allows: one more period than full windows need, at most.
            let windows = asked.div_ceil(most as usize) as u32;
            prop_assert!(now <= PERIOD + (PERIOD + ms(1) + ms(takes) * most) * windows);
        }
    }

    #[test]
    fn a_refusal_halves_the_rate_and_time_brings_it_back() {
        let mut window = RequestWindow::new(300, PERIOD);
        let mut now = PERIOD;
        assert_eq!(window.admit(now), RequestAdmission::Now);
        assert_eq!(window.admit(now), RequestAdmission::Now);
        window.end(now);
        assert_eq!(window.refused(now, Some(ms(5_000)), 0.0), ms(5_000));
        assert_eq!(window.allowed(), 150);
        window.end(now);
        window.refused(now, None, 1.0);
        assert_eq!(window.allowed(), 150, "one message");
        assert_eq!(window.admit(now + ms(4_999)), RequestAdmission::After(ms(1)));
        now += ms(5_000);
        assert_eq!(window.admit(now), RequestAdmission::Now);
        for _ in 0..10 {
            now += PERIOD / 10;
            window.answered(now);
        }
        assert_eq!(window.allowed(), 300);
    }

    #[test]
    fn repeated_refusals_wait_longer_and_no_pause_is_endless() {
        let mut window = RequestWindow::new(300, PERIOD);
        let pauses: Vec<_> = (0..8).map(|_| window.refused(PERIOD, None, 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(window.refused(PERIOD, Some(ms(100_000_000)), 0.0), LONGEST_PAUSE);
        window.answered(PERIOD);
        assert_eq!(window.refused(PERIOD, None, 0.0), ms(500), "from the beginning after an answer");
    }
}
