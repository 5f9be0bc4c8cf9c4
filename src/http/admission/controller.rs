//! From the lag of the runtime to the share of calls that is refused: pure arithmetic.
//!
//! A sample is a task that waits in the queue like a request does. When it is begun it tells how long that took, and
//! while it is not begun its being overdue tells that it takes longer than that. So the admitted share falls in two ways:
//! by half whenever an overdue sample passes the limit (and twice, four times the limit), which is soon enough to stop a
//! queue that grows by seconds per second, and by little for each sample above the target, which keeps it there. Below
//! the target it rises again. Lag without calls is not made by them: another process has the processor, and refusing the
//! few there are would help nobody; so pressure begins only while many calls come, and a sample is overdue only while
//! others are begun before it: when none is, the whole machine stands still. Simulated in the tests, and tuned there:
//! under five times what a thread can do, more than 95 % of what the refusals leave over is used.

use std::time::Duration;

/// Lag to be kept to under pressure.
const TARGET: Duration = Duration::from_millis(20);
/// A sample that is overdue by this much is not waited for.
const OVERDUE: Duration = Duration::from_millis(30);
/// Lag above which batches are refused.
const BATCH_TARGET: Duration = Duration::from_millis(10);
/// Samples in a row below half of `BATCH_TARGET` before batches are welcome again.
const BATCH_CALM: u32 = 10;
/// Calls begun while one sample waited, below which its lag is not laid at their door.
const MANY_CALLS: u32 = 8;
/// There are always some calls let in: without them nobody would notice that there is room again.
const LEAST_ADMITTED: f64 = 0.02;

/// What holds until the next sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decision {
    /// Share of live calls to be refused, from 0 to 1.
    pub(super) refused: f64,
    pub(super) batches_closed: bool,
}

#[derive(Debug)]
pub(super) struct Controller {
    admitted: f64,
    before: Duration,
    /// How many times the outstanding sample has halved the share.
    halved: u32,
    /// Calls begun since it was sent, when it was last seen overdue.
    passed_by: Option<u32>,
    batches_closed: bool,
    calm: u32,
}

impl Controller {
    pub(super) fn new() -> Self {
        Self { admitted: 1.0, before: Duration::ZERO, halved: 0, passed_by: None, batches_closed: false, calm: 0 }
    }

    /// Whether samples should follow each other closely.
    pub(super) fn is_pressed(&self) -> bool {
        self.admitted < 1.0
    }

    /// A sample is not begun and late by `lag` already; `calls` were begun since the one before.
    pub(super) fn overdue(&mut self, lag: Duration, calls: u32) -> Decision {
        let moving = self.passed_by.replace(calls).is_some_and(|before| before < calls);
        if !moving || (!self.is_pressed() && calls < MANY_CALLS) {
            return self.decision();
        }
        if lag > BATCH_TARGET {
            (self.batches_closed, self.calm) = (true, 0);
        }
        if lag >= OVERDUE * (1 << self.halved.min(16)) {
            self.halved += 1;
            self.admitted = (self.admitted * 0.5).max(LEAST_ADMITTED);
        }
        self.decision()
    }

    /// A sample was begun, late by `lag`; `calls` were begun since the one before.
    pub(super) fn observe(&mut self, lag: Duration, calls: u32) -> Decision {
        let lag = if !self.is_pressed() && calls < MANY_CALLS { Duration::ZERO } else { lag };
        // One late sample is no queue yet; under pressure there is one.
        let standing = if self.is_pressed() { lag } else { lag.min(self.before) };
        self.before = lag;
        let ratio = standing.as_secs_f64() / TARGET.as_secs_f64();
        if ratio <= 1.0 {
            self.admitted += (self.admitted * 0.08 + 0.001) * (1.0 - ratio);
        } else if self.halved == 0 {
            self.admitted *= (1.0 / ratio).clamp(0.8, 0.98);
        }
        (self.halved, self.passed_by) = (0, None);
        self.admitted = self.admitted.clamp(LEAST_ADMITTED, 1.0);

        if standing > BATCH_TARGET {
            (self.batches_closed, self.calm) = (true, 0);
        } else if lag * 2 < BATCH_TARGET {
            self.calm += 1;
            self.batches_closed &= self.calm < BATCH_CALM;
        } else {
            self.calm = 0;
        }
        self.decision()
    }

    fn decision(&self) -> Decision {
        Decision { refused: 1.0 - self.admitted, batches_closed: self.batches_closed || self.is_pressed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One thread, first come first served: calls arrive evenly, an admitted one takes `work` seconds and a refused one
    /// `refusal`. The sampler waits in the same queue.
    struct Queue {
        controller: Controller,
        refused: f64,
        now: f64,
        free_at: f64,
        sample_at: f64,
        look_at: f64,
        /// Calls begun since the outstanding sample was sent.
        calls: u32,
        dice: u32,
    }

    #[derive(Default)]
    struct Seen {
        served: usize,
        refused: usize,
        worst_wait: f64,
    }

    const WORK: f64 = 0.002;
    const REFUSAL: f64 = 0.000_04;
    /// The sampler's and the governor's pace.
    const SAMPLE_EVERY: f64 = 0.010;
    const PRESSED_EVERY: f64 = 0.001;

    impl Queue {
        fn new() -> Self {
            Self {
                controller: Controller::new(),
                refused: 0.0,
                now: 0.0,
                free_at: 0.0,
                sample_at: 0.01,
                look_at: 0.01,
                calls: 0,
                dice: 7,
            }
        }

        /// What the governor outside the queue sees.
        fn look_until(&mut self, time: f64) {
            while self.look_at <= time {
                if self.look_at > self.sample_at {
                    let lag = Duration::from_secs_f64(self.look_at - self.sample_at);
                    self.refused = self.controller.overdue(lag, self.calls).refused;
                }
                self.look_at += SAMPLE_EVERY;
            }
        }

        fn run(&mut self, seconds: f64, calls_per_second: f64) -> Seen {
            let end = self.now + seconds;
            let mut seen = Seen::default();
            while self.now < end {
                let arrival = self.now + 1.0 / calls_per_second;
                while self.sample_at <= arrival {
                    let begun = self.free_at.max(self.sample_at);
                    self.look_until(begun);
                    let lag = Duration::from_secs_f64(begun - self.sample_at);
                    self.refused = self.controller.observe(lag, self.calls).refused;
                    self.calls = 0;
                    self.sample_at = begun + if self.controller.is_pressed() { PRESSED_EVERY } else { SAMPLE_EVERY };
                }
                self.now = arrival;
                let begun = self.free_at.max(arrival);
                self.look_until(begun);
                self.calls += 1;
                seen.worst_wait = seen.worst_wait.max(begun - arrival);
                self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if f64::from(self.dice) / f64::from(u32::MAX) < self.refused {
                    seen.refused += 1;
                    self.free_at = begun + REFUSAL;
                } else {
                    seen.served += 1;
                    self.free_at = begun + WORK;
                }
            }
            seen
        }
    }

    #[test]
    fn five_times_the_peak_costs_little_of_it_and_recovers() {
        let mut queue = Queue::new();
        let peak = 1.0 / WORK;
        let quiet = queue.run(5.0, peak * 0.7);
        assert_eq!(quiet.refused, 0);
        let over = queue.run(30.0, peak * 5.0);
        let goodput = over.served as f64 / 30.0 / peak;
        // Refusing four of five takes 7 % of the time.
        assert!(goodput > 0.88, "{goodput}");
        assert!(over.worst_wait < 0.15, "{} s", over.worst_wait);
        queue.run(1.0, peak * 0.7);
        assert_eq!(queue.run(5.0, peak * 0.7).refused, 0, "a second later nobody is refused");
    }

    #[test]
    fn one_late_sample_refuses_nobody() {
        let mut controller = Controller::new();
        for lag in [0, 80, 0, 0, 120, 1, 0] {
            assert_eq!(controller.observe(Duration::from_millis(lag), MANY_CALLS).refused, 0.0, "{lag} ms");
        }
    }

    #[test]
    fn an_overdue_sample_halves_the_share_each_time_its_lag_doubles() {
        let mut controller = Controller::new();
        let shares: Vec<f64> = [(10, 0), (29, 1), (30, 2), (50, 3), (60, 4), (119, 5), (120, 6)]
            .map(|(lag, calls)| controller.overdue(Duration::from_millis(lag), MANY_CALLS + calls).refused)
            .into();
        assert_eq!(shares, [0.0, 0.0, 0.5, 0.5, 0.75, 0.75, 0.875]);
        let begun = controller.observe(Duration::from_millis(130), MANY_CALLS).refused;
        assert_eq!(begun, 0.875, "already counted");
    }

    #[test]
    fn lag_that_calls_have_not_made_refuses_nobody() {
        let mut controller = Controller::new();
        for lag in [50, 100, 500, 2000] {
            let lag = Duration::from_millis(lag);
            let nobody = Decision { refused: 0.0, batches_closed: false };
            assert_eq!(controller.overdue(lag, MANY_CALLS - 1), nobody, "{lag:?}");
            assert_eq!(controller.observe(lag, MANY_CALLS - 1), nobody, "{lag:?}");
        }
        controller.overdue(OVERDUE, MANY_CALLS);
        controller.overdue(OVERDUE, MANY_CALLS + 1);
        assert!(controller.observe(OVERDUE, 0).refused > 0.0, "few calls come when most are refused");
    }

    #[test]
    fn a_machine_that_stands_still_is_no_queue() {
        let mut controller = Controller::new();
        for lag in [40, 80, 160, 320] {
            let stopped = controller.overdue(Duration::from_millis(lag), 1_000);
            assert_eq!(stopped, Decision { refused: 0.0, batches_closed: false }, "{lag} ms");
        }
        assert_eq!(controller.observe(Duration::from_millis(330), 1_000).refused, 0.0);
        assert_eq!(controller.overdue(Duration::from_millis(40), 1_200).refused, 0.0, "a sample of its own");
        assert_eq!(controller.overdue(Duration::from_millis(50), 1_201).refused, 0.5, "it moves and passes it by");
    }

    #[test]
    fn batches_go_first_and_come_back_last() {
        let mut controller = Controller::new();
        controller.observe(Duration::from_millis(15), MANY_CALLS);
        let busy = controller.observe(Duration::from_millis(15), MANY_CALLS);
        assert_eq!(busy, Decision { refused: 0.0, batches_closed: true });
        let calm: Vec<bool> = (0..12).map(|_| controller.observe(Duration::ZERO, MANY_CALLS).batches_closed).collect();
        assert_eq!(calm.iter().filter(|closed| **closed).count(), 9);
        assert!(!calm[11]);
    }

    #[test]
    fn somebody_is_always_let_in() {
        let mut controller = Controller::new();
        let last = (0..1000).map(|_| controller.observe(Duration::from_secs(5), MANY_CALLS)).last().expect("one");
        assert!(last.refused <= 1.0 - LEAST_ADMITTED);
    }
}
