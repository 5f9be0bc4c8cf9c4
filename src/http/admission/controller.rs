//! From the lag of the runtime to the share of calls that is refused: pure arithmetic.
//!
//! The samples come at the pace of the queue itself, because the sampler waits in it: each one sees what the decision
//! before it did. So the rule can be simple. The admitted share falls in proportion to how far the lag is above its
//! target (at most by half) and rises slowly below it. One late sample is no queue, two in a row are.

use std::time::Duration;

/// Lag above which live calls are refused. Together with the queue that builds up before it is seen, it keeps the age
/// of a call when it is begun near 50 ms.
const TARGET: Duration = Duration::from_millis(20);
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
    batches_closed: bool,
    calm: u32,
}

impl Controller {
    pub(super) fn new() -> Self {
        Self { admitted: 1.0, before: Duration::ZERO, batches_closed: false, calm: 0 }
    }

    /// Takes a sample: how late a task was begun.
    pub(super) fn observe(&mut self, lag: Duration) -> Decision {
        let standing = lag.min(self.before);
        self.before = lag;
        let ratio = standing.as_secs_f64() / TARGET.as_secs_f64();
        if ratio > 1.0 {
            self.admitted *= (1.0 / ratio).clamp(0.5, 0.97);
        } else {
            self.admitted += self.admitted * 0.08 * (1.0 - ratio) + 0.002 * (1.0 - ratio);
        }
        self.admitted = self.admitted.clamp(LEAST_ADMITTED, 1.0);

        if standing > BATCH_TARGET {
            (self.batches_closed, self.calm) = (true, 0);
        } else if lag * 2 < BATCH_TARGET {
            self.calm += 1;
            self.batches_closed &= self.calm < BATCH_CALM;
        } else {
            self.calm = 0;
        }
        Decision { refused: 1.0 - self.admitted, batches_closed: self.batches_closed || self.admitted < 1.0 }
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
    const SAMPLE_EVERY: f64 = 0.010;

    impl Queue {
        fn new() -> Self {
            Self { controller: Controller::new(), refused: 0.0, now: 0.0, free_at: 0.0, sample_at: 0.01, dice: 7 }
        }

        fn run(&mut self, seconds: f64, calls_per_second: f64) -> Seen {
            let end = self.now + seconds;
            let mut seen = Seen::default();
            while self.now < end {
                let arrival = self.now + 1.0 / calls_per_second;
                while self.sample_at <= arrival {
                    let begun = self.free_at.max(self.sample_at);
                    let lag = Duration::from_secs_f64(begun - self.sample_at);
                    self.refused = self.controller.observe(lag).refused;
                    self.sample_at = begun + SAMPLE_EVERY;
                }
                self.now = arrival;
                let begun = self.free_at.max(arrival);
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
        let onset = queue.run(2.0, peak * 5.0);
        assert!(onset.worst_wait < 0.5, "{} s", onset.worst_wait);
        let over = queue.run(30.0, peak * 5.0);
        let goodput = over.served as f64 / 30.0 / peak;
        // 8 % of the time goes into refusing four of five.
        assert!(goodput > 0.85, "{goodput}");
        assert!(over.worst_wait < 0.1, "{} s", over.worst_wait);
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
