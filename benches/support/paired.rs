//! Ratios measured in pairs: machines are noisy, so two things are compared round by round in one run.

use std::time::Instant;

use crate::run::median_of;

/// Runs `a` and `b` in turn and returns the median of b's time over a's with its smallest and largest.
pub fn paired(rounds: usize, mut a: impl FnMut(), mut b: impl FnMut()) -> [f64; 3] {
    a();
    b();
    median_of((0..rounds).map(|_| {
        let first = seconds(&mut a);
        seconds(&mut b) / first
    }))
}

/// How long `work` takes.
#[expect(clippy::disallowed_methods, reason = "a bench is a stopwatch")]
pub fn seconds(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}
