//! What goes through the server, counted for people who look at it: requests by class with their durations, answers by
//! source and tier, rows by model. The counts only ever grow; what happened meanwhile is the difference of two readings.
//!
//! The places that count for metrics count here too. A thread that answers requests has counters of its own, which it alone
//! writes: an addition is a load and a store, without a locked instruction. Threads beyond those share one more copy.
//! Durations fall into buckets four to the octave, so a quantile is off by an eighth at most.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counts::{MOST_COPIES, thread_number};
use scoreline_domain::{Source, Tier};
use scoreline_engine::inference::bundle::BundleDigest;

/// Kinds of requests that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestClass {
    Predict,
    Route,
    DataAction,
    Lead,
    Batch,
    Other,
}

impl RequestClass {
    pub const ALL: [Self; 6] = [Self::Predict, Self::Route, Self::DataAction, Self::Lead, Self::Batch, Self::Other];

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Route => "route",
            Self::DataAction => "data actions",
            Self::Lead => "leads",
            Self::Batch => "batches",
            Self::Other => "other",
        }
    }
}

/// Reasons why an answer is not the model's, in the order of `FallbackReason`.
pub const REASONS: usize = 4;
/// Models whose rows are counted apart: those that serve and those on trial, in any sensible installation.
const MODELS: usize = 8;

/// The first bucket holds what took less than 2^9 ns, half a microsecond; the last what took 17 s and more.
const FIRST_OCTAVE: u32 = 9;
const OCTAVES: usize = 25;
const PARTS: usize = 4;
const BUCKETS: usize = OCTAVES * PARTS;

/// Where each kind of counter lies among the cells of a copy.
const FAILED: usize = RequestClass::ALL.len() * BUCKETS;
const REFUSED: usize = FAILED + RequestClass::ALL.len();
const SOURCES: usize = REFUSED + RequestClass::ALL.len();
const TIERS: usize = SOURCES + Source::ALL.len();
const REASON: usize = TIERS + Tier::ALL.len();
const IMPUTED: usize = REASON + REASONS;
const OUTSIDE: usize = IMPUTED + 1;
const ROWS: usize = OUTSIDE + 1;
const CELLS: usize = ROWS + MODELS * BUCKETS;

/// The counters.
pub struct TrafficCounts {
    /// By the number of the one thread that writes it.
    own: Box<[Box<[AtomicU64]>]>,
    shared: Box<[AtomicU64]>,
    /// The first bytes of the digests that `ROWS` are counted by; 0 is a free place.
    models: [AtomicU64; MODELS],
}

/// An answer as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct AnswerCount<'a> {
    pub source: Source,
    pub tier: Option<Tier>,
    /// Position of the reason, when there is one.
    pub reason: Option<usize>,
    /// Whether a feature was imputed, and whether one was outside of what training saw.
    pub is_imputed: bool,
    pub is_outside: bool,
    /// The snapshot that answered, and how long it took.
    pub model: &'a BundleDigest,
    pub took: Duration,
}

impl TrafficCounts {
    pub fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        // Some threads that are started with a process count as well, such as the admin listener's.
        let copies = (2 * threads).min(MOST_COPIES);
        let copy = || (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        Self { own: (0..copies).map(|_| copy()).collect(), shared: copy(), models: Default::default() }
    }

    /// Counts a request by its status.
    pub fn request(&self, class: RequestClass, status: u16, took: Duration) {
        let failure = match status {
            500.. => Some(FAILED + class as usize),
            400..500 => Some(REFUSED + class as usize),
            _ => None,
        };
        self.add([Some(class as usize * BUCKETS + bucket(took)), failure]);
    }

    /// Counts an answer of the pipeline.
    pub fn answer(&self, answer: &AnswerCount<'_>) {
        let place = self.place(model_number(answer.model));
        self.add([
            Some(SOURCES + answer.source as usize),
            answer.tier.map(|tier| TIERS + tier as usize),
            answer.reason.map(|reason| REASON + reason),
            answer.is_imputed.then_some(IMPUTED),
            answer.is_outside.then_some(OUTSIDE),
            place.map(|place| ROWS + place * BUCKETS + bucket(answer.took)),
        ]);
    }

    #[cfg(test)]
    pub(super) fn tier(&self, tier: Tier) {
        self.add([Some(TIERS + tier as usize)]);
    }

    /// Gives the places of models away that are not loaded any more; whether there were any.
    pub fn retain(&self, loaded: &[BundleDigest]) -> bool {
        let mut are_gone = false;
        for place in &self.models {
            let number = place.load(Ordering::Relaxed);
            if number != 0 && loaded.iter().all(|digest| model_number(digest) != number) {
                place.store(0, Ordering::Relaxed);
                are_gone = true;
            }
        }
        are_gone
    }

    /// What was counted so far.
    pub fn read(&self) -> TrafficReading {
        let copies = || self.own.iter().chain([&self.shared]);
        let total = |cell: usize| copies().map(|copy| copy[cell].load(Ordering::Relaxed)).sum();
        TrafficReading {
            cells: (0..CELLS).map(total).collect(),
            models: std::array::from_fn(|place| self.models[place].load(Ordering::Relaxed)),
        }
    }

    fn add<const N: usize>(&self, cells: [Option<usize>; N]) {
        let cells = cells.into_iter().flatten();
        match self.own.get(thread_number()) {
            Some(own) => cells.for_each(|cell| {
                let count = own[cell].load(Ordering::Relaxed);
                own[cell].store(count + 1, Ordering::Relaxed);
            }),
            None => cells.for_each(|cell| _ = self.shared[cell].fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// The place of a model; `None` when all are taken by others.
    fn place(&self, number: u64) -> Option<usize> {
        let found = self.models.iter().position(|place| place.load(Ordering::Relaxed) == number);
        found.or_else(|| {
            self.models.iter().position(|place| {
                let taken = place.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
                taken.is_ok() || taken == Err(number)
            })
        })
    }
}

impl Default for TrafficCounts {
    fn default() -> Self {
        Self::new()
    }
}

/// What tells models apart here. A digest is random, so its first bytes do.
fn model_number(digest: &BundleDigest) -> u64 {
    digest.as_bytes().first_chunk().map_or(1, |bytes| u64::from_be_bytes(*bytes).max(1))
}

/// The bucket of a duration.
fn bucket(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1 << FIRST_OCTAVE);
    let octave = nanos.ilog2();
    let part = (nanos >> (octave - 2)) as usize % PARTS;
    ((octave - FIRST_OCTAVE) as usize * PARTS + part).min(BUCKETS - 1)
}

/// Where a bucket begins, in seconds.
fn edge(bucket: usize) -> f64 {
    let octave = f64::from(FIRST_OCTAVE) + (bucket / PARTS) as f64;
    (1.0 + (bucket % PARTS) as f64 / PARTS as f64) * octave.exp2() * 1e-9
}

/// The counters at one moment, or their growth between two.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficReading {
    cells: Box<[u64]>,
    models: [u64; MODELS],
}

/// Requests of one class, or runs of one model, with their durations in seconds: all together, and quantiles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DurationSummary {
    pub count: u64,
    pub total: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

impl TrafficReading {
    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let cells = self.cells.iter().zip(&before.cells).map(|(now, before)| now.saturating_sub(*before));
        Self { cells: cells.collect(), models: self.models }
    }

    /// Requests of a class.
    pub fn class(&self, class: RequestClass) -> DurationSummary {
        summary(&self.cells[class as usize * BUCKETS..][..BUCKETS])
    }

    /// Requests of all classes.
    pub fn requests(&self) -> DurationSummary {
        let mut buckets = [0; BUCKETS];
        for class in self.cells[..FAILED].chunks_exact(BUCKETS) {
            buckets.iter_mut().zip(class).for_each(|(sum, count)| *sum += count);
        }
        summary(&buckets)
    }

    /// Requests that were answered with a status of 500 and above.
    pub fn failed(&self, class: RequestClass) -> u64 {
        self.cells[FAILED + class as usize]
    }

    /// Requests that were answered with a status of 400 to 499.
    pub fn refused(&self, class: RequestClass) -> u64 {
        self.cells[REFUSED + class as usize]
    }

    /// Answers by source, in the order of `Source::ALL`.
    pub fn sources(&self) -> [u64; Source::ALL.len()] {
        self.some(SOURCES)
    }

    /// Answers by tier, in the order of `Tier::ALL`.
    pub fn tiers(&self) -> [u64; Tier::ALL.len()] {
        self.some(TIERS)
    }

    /// Answers below the model by reason, in the order of `FallbackReason`.
    pub fn reasons(&self) -> [u64; REASONS] {
        self.some(REASON)
    }

    /// Answers with an imputed feature, and those with one outside of what training saw.
    pub fn remarks(&self) -> [u64; 2] {
        self.some(IMPUTED)
    }

    /// Answers of a model.
    pub fn model(&self, digest: &BundleDigest) -> DurationSummary {
        let place = self.models.iter().position(|number| *number == model_number(digest));
        place.map_or_else(DurationSummary::default, |place| summary(&self.cells[ROWS + place * BUCKETS..][..BUCKETS]))
    }

    fn some<const N: usize>(&self, from: usize) -> [u64; N] {
        let range: Range<usize> = from..from + N;
        std::array::from_fn(|index| self.cells[range.start + index])
    }
}

fn summary(buckets: &[u64]) -> DurationSummary {
    let count: u64 = buckets.iter().sum();
    if count == 0 {
        return DurationSummary::default();
    }
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| quantile(buckets, count, q));
    let middle = |number: usize| 0.5 * (edge(number) + edge(number + 1));
    let total = buckets.iter().enumerate().map(|(number, held)| *held as f64 * middle(number)).sum();
    DurationSummary { count, total, p50, p99, p999 }
}

/// Interpolated inside its bucket.
fn quantile(buckets: &[u64], count: u64, q: f64) -> f64 {
    let wanted = q * count as f64;
    let mut below = 0.0;
    for (number, held) in buckets.iter().map(|held| *held as f64).enumerate() {
        if below + held >= wanted && held > 0.0 {
            let share = (wanted - below) / held;
            return edge(number) + share * (edge(number + 1) - edge(number));
        }
        below += held;
    }
    edge(buckets.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn took(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    proptest! {
        #[test]
        fn a_duration_falls_into_the_bucket_around_it(nanos in 512u64..16_000_000_000) {
            let number = bucket(took(nanos));
            let seconds = nanos as f64 * 1e-9;
            prop_assert!(edge(number) <= seconds * 1.000_001 && seconds < edge(number + 1) * 1.000_001);
        }

        #[test]
        fn quantiles_are_off_by_a_bucket_at_most(mut nanos in prop::collection::vec(600u64..5_000_000_000, 1..300)) {
            let counts = TrafficCounts::new();
            for nanos in &nanos {
                counts.request(RequestClass::Route, 200, took(*nanos));
            }
            nanos.sort_unstable();
            let found = counts.read().class(RequestClass::Route);
            prop_assert_eq!(found.count, nanos.len() as u64);
            let total = nanos.iter().sum::<u64>() as f64 * 1e-9;
            prop_assert!((found.total / total - 1.0).abs() <= 0.126, "{} is not {}", found.total, total);
            for (q, found) in [(0.5, found.p50), (0.99, found.p99), (0.999, found.p999)] {
                let at = ((q * nanos.len() as f64).ceil() as usize).clamp(1, nanos.len()) - 1;
                let exact = nanos[at] as f64 * 1e-9;
                prop_assert!((found / exact).ln().abs() <= 1.25_f64.ln() + 1e-6, "{} is not {}", found, exact);
            }
        }
    }

    #[test]
    fn extremes_have_a_bucket() {
        assert_eq!((bucket(Duration::ZERO), bucket(took(511)), bucket(took(512))), (0, 0, 0));
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert_eq!(TrafficCounts::new().read().requests(), DurationSummary::default());
    }

    #[test]
    fn requests_of_all_threads_are_counted_once() {
        let counts = TrafficCounts::new();
        std::thread::scope(|scope| {
            for class in RequestClass::ALL {
                let counts = &counts;
                scope.spawn(move || {
                    for status in [200, 404, 503, 200] {
                        counts.request(class, status, took(1_000_000));
                    }
                });
            }
        });
        let reading = counts.read();
        for class in RequestClass::ALL {
            assert_eq!((reading.class(class).count, reading.failed(class), reading.refused(class)), (4, 1, 1));
        }
        assert_eq!(reading.requests().count, 24);
        assert_eq!(counts.read().since(&reading).requests().count, 0);
    }
}
