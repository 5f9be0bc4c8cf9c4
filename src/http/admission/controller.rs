//! From the lag of the runtime to the share of calls that is refused: pure arithmetic.
//!
//! A sample is a task that waits in the queue like a request does. When it is begun it tells how long that took, and
//! while it is not begun its being overdue tells that it takes longer than that. So the admitted share falls in two ways:
//! by half whenever an overdue sample passes the limit (and twice, four times the limit), which is soon enough to stop a
//! queue that grows by seconds per second, and by little for each sample above the target, which keeps it there. Below
//! the target it rises again. Simulated in the tests, and tuned there: under five times what a thread can do, more than
//! 95 % of what the refusals leave over is used.

use std::time::Duration;

/// Lag to be kept to under pressure.
const TARGET: Duration = Duration::from_millis(20);
/// A sample that is overdue by this much is not waited for.
const OVERDUE: Duration = Duration::from_millis(30);
/// Lag above which batches are refused.
const BATCH_TARGET: Duration = Duration::from_millis(10);
/// Samples in a row below half of `BATCH_TARGET` before batches are welcome again.
const BATCH_CALM: u32 = 10;
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
    batches_closed: bool,
    calm: u32,
}

impl Controller {
    pub(super) fn new() -> Self {
        Self { admitted: 1.0, before: Duration::ZERO, halved: 0, batches_closed: false, calm: 0 }
    }

    /// Whether samples should follow each other closely.
    pub(super) fn is_pressed(&self) -> bool {
        self.admitted < 1.0
    }

    /// A sample is not begun and late by `lag` already.
    pub(super) fn overdue(&mut self, lag: Duration) -> Decision {
        if lag > BATCH_TARGET {
            (self.batches_closed, self.calm) = (true, 0);
        }
        if lag >= OVERDUE * (1 << self.halved.min(16)) {
            self.halved += 1;
            self.admitted = (self.admitted * 0.5).max(LEAST_ADMITTED);
        }
        self.decision()
    }

    /// A sample was begun, late by `lag`.
    pub(super) fn observe(&mut self, lag: Duration) -> Decision {
        // One late sample is no queue yet; under pressure there is one.
        let standing = if self.is_pressed() { lag } else { lag.min(self.before) };
        self.before = lag;
        let ratio = standing.as_secs_f64() / TARGET.as_secs_f64();
        if ratio <= 1.0 {
            self.admitted += (self.admitted * 0.08 + 0.001) * (1.0 - ratio);
        } else if self.halved == 0 {
            self.admitted *= (1.0 / ratio).clamp(0.8, 0.98);
        }
        self.halved = 0;
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
                dice: 7,
            }
        }

        /// What the governor outside the queue sees.
        fn look_until(&mut self, time: f64) {
            while self.look_at <= time {
                if self.look_at > self.sample_at {
                    let lag = Duration::from_secs_f64(self.look_at - self.sample_at);
                    self.refused = self.controller.overdue(lag).refused;
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
                    self.refused = self.controller.observe(lag).refused;
                    self.sample_at = begun + if self.controller.is_pressed() { PRESSED_EVERY } else { SAMPLE_EVERY };
                }
                self.now = arrival;
                let begun = self.free_at.max(arrival);
                self.look_until(begun);
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
            assert_eq!(controller.observe(Duration::from_millis(lag)).refused, 0.0, "{lag} ms");
        }
    }

    #[test]
    fn an_overdue_sample_halves_the_share_each_time_its_lag_doubles() {
        let mut controller = Controller::new();
        let shares: Vec<f64> =
            [10, 29, 30, 50, 60, 119, 120].map(|lag| controller.overdue(Duration::from_millis(lag)).refused).into();
        assert_eq!(shares, [0.0, 0.0, 0.5, 0.5, 0.75, 0.75, 0.875]);
        let begun = controller.observe(Duration::from_millis(130)).refused;
        assert_eq!(begun, 0.875, "already counted");
    }

    #[test]
    fn batches_go_first_and_come_back_last() {
        let mut controller = Controller::new();
        controller.observe(Duration::from_millis(15));
        let busy = controller.observe(Duration::from_millis(15));
        assert_eq!(busy, Decision { refused: 0.0, batches_closed: true });
        let calm: Vec<bool> = (0..12).map(|_| controller.observe(Duration::ZERO).batches_closed).collect();
        assert_eq!(calm.iter().filter(|closed| **closed).count(), 9);
        assert!(!calm[11]);
    }

    #[test]
    fn somebody_is_always_let_in() {
        let mut controller = Controller::new();
        let last = (0..1000).map(|_| controller.observe(Duration::from_secs(5))).last().expect("one");
        assert!(last.refused <= 1.0 - LEAST_ADMITTED);
    }
}
