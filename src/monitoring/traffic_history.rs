//! The last quarter of an hour by the second and the last day by the minute, from readings of the traffic counters. A
//! supervised task samples once a second; whoever looks waits for nobody.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::traffic::{DurationSummary, REASONS, TrafficCounts, TrafficReading};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{Source, Tier};
use scoreline_engine::inference::bundle::BundleDigest;

/// Samples that are kept: 900 seconds, and 1,440 minutes.
const SECONDS: usize = 900;
const MINUTES: usize = 1440;
/// Readings that the quantiles of the last minute are between, and how far they are apart.
const RECENT: usize = 7;
const RECENT_EVERY: u64 = 10;

/// Traffic, counted and remembered.
#[derive(Default)]
pub struct Traffic {
    counts: TrafficCounts,
    /// Locked by the sampling task and by whoever looks, never by a request.
    history: Mutex<TrafficHistory>,
}

#[derive(Default)]
struct TrafficHistory {
    seconds: VecDeque<TrafficSample>,
    minutes: VecDeque<TrafficSample>,
    /// The readings that the open second and the open minute began with, at these monotonic times.
    last: Option<(Duration, TrafficReading)>,
    minute: Option<(Duration, TrafficReading)>,
    recent: VecDeque<(Duration, TrafficReading)>,
    /// The longest lag of the open minute.
    lag: Duration,
    samples: u64,
}

/// What happened in one second, or in one minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrafficSample {
    /// Its end.
    pub at: Timestamp,
    pub seconds: f32,
    pub requests: u32,
    /// Durations in seconds.
    pub p50: f32,
    pub p99: f32,
    pub p999: f32,
    pub sources: [u32; Source::ALL.len()],
    pub tiers: [u32; Tier::ALL.len()],
    /// Answers below the model, by reason.
    pub reasons: [u32; REASONS],
    /// How late the task that samples was woken, in seconds: the threads that answer were busy for so long.
    pub lag: f32,
}

/// What happened in a span of time.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficSpan {
    pub seconds: f64,
    pub reading: TrafficReading,
}

/// Everything there is to show.
#[derive(Clone, Debug)]
pub struct TrafficView {
    pub seconds: Vec<TrafficSample>,
    /// The last minute or so, by class and by model.
    pub recent: TrafficSpan,
    /// Answers by source in the last hour, and in the last day.
    pub sources: [[u64; Source::ALL.len()]; 2],
    pub tiers: [[u64; Tier::ALL.len()]; 2],
    pub reasons: [[u64; REASONS]; 2],
    /// The longest lag of the last minute, in seconds.
    pub lag: f64,
    /// Minutes that are remembered.
    pub minutes: usize,
}

impl Traffic {
    pub fn counts(&self) -> &TrafficCounts {
        &self.counts
    }

    /// Ends a second: `now` and `monotonic` are one moment by two clocks, `lag` is how late it is, `loaded` are the models
    /// whose rows are still to be counted.
    pub fn sample(&self, now: Timestamp, monotonic: Duration, lag: Duration, loaded: &[BundleDigest]) {
        let reading = self.counts.read();
        let mut history = self.history();
        if self.counts.retain(loaded) {
            history.recent.clear();
        }
        history.take(now, monotonic, lag, reading);
    }

    /// What was sampled, and what was counted since the last sample.
    pub fn view(&self, monotonic: Duration) -> TrafficView {
        self.history().view(monotonic, &self.counts.read())
    }

    fn history(&self) -> MutexGuard<'_, TrafficHistory> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TrafficHistory {
    fn take(&mut self, now: Timestamp, monotonic: Duration, lag: Duration, reading: TrafficReading) {
        self.lag = self.lag.max(lag);
        if let Some((from, before)) = self.last.replace((monotonic, reading.clone())) {
            let second = TrafficSample::new(now, monotonic.saturating_sub(from), lag, &reading.since(&before));
            push(&mut self.seconds, second, SECONDS);
        }
        match &self.minute {
            None => self.minute = Some((monotonic, reading.clone())),
            Some((from, before)) if monotonic.saturating_sub(*from) >= Duration::from_mins(1) => {
                let minute = TrafficSample::new(now, monotonic.saturating_sub(*from), self.lag, &reading.since(before));
                push(&mut self.minutes, minute, MINUTES);
                self.minute = Some((monotonic, reading.clone()));
                self.lag = Duration::ZERO;
            }
            Some(_) => {}
        }
        if self.samples.is_multiple_of(RECENT_EVERY) || self.recent.is_empty() {
            push(&mut self.recent, (monotonic, reading), RECENT);
        }
        self.samples += 1;
    }

    fn view(&self, monotonic: Duration, reading: &TrafficReading) -> TrafficView {
        let recent = self.recent.front().map_or_else(
            // Nothing was sampled yet.
            || TrafficSpan { seconds: 0.0, reading: reading.clone() },
            |(from, before)| TrafficSpan {
                seconds: monotonic.saturating_sub(*from).as_secs_f64(),
                reading: reading.since(before),
            },
        );
        let open = self.minute.as_ref().map_or_else(|| reading.clone(), |(_, before)| reading.since(before));
        let last_hour = || self.minutes.iter().rev().take(60);
        let last_minute = self.seconds.iter().rev().take(60);
        TrafficView {
            seconds: self.seconds.iter().copied().collect(),
            recent,
            sources: [
                sum(open.sources(), last_hour().map(|minute| minute.sources)),
                sum(open.sources(), self.minutes.iter().map(|minute| minute.sources)),
            ],
            tiers: [
                sum(open.tiers(), last_hour().map(|minute| minute.tiers)),
                sum(open.tiers(), self.minutes.iter().map(|minute| minute.tiers)),
            ],
            reasons: [
                sum(open.reasons(), last_hour().map(|minute| minute.reasons)),
                sum(open.reasons(), self.minutes.iter().map(|minute| minute.reasons)),
            ],
            lag: last_minute.map(|second| f64::from(second.lag)).fold(0.0, f64::max),
            minutes: self.minutes.len(),
        }
    }
}

impl TrafficSample {
    fn new(at: Timestamp, span: Duration, lag: Duration, counted: &TrafficReading) -> Self {
        let DurationSummary { count, p50, p99, p999, .. } = counted.requests();
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            at,
            seconds: span.as_secs_f32(),
            requests: small(count),
            p50: p50 as f32,
            p99: p99 as f32,
            p999: p999 as f32,
            sources: counted.sources().map(small),
            tiers: counted.tiers().map(small),
            reasons: counted.reasons().map(small),
            lag: lag.as_secs_f32(),
        }
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { f64::from(self.requests) / f64::from(self.seconds) } else { 0.0 }
    }
}

impl TrafficSpan {
    /// So many a second.
    pub fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

/// Keeps the newest `most`.
fn push<T>(kept: &mut VecDeque<T>, newest: T, most: usize) {
    if kept.len() >= most {
        kept.pop_front();
    }
    kept.push_back(newest);
}

fn sum<const N: usize>(begun: [u64; N], samples: impl Iterator<Item = [u32; N]>) -> [u64; N] {
    samples.fold(begun, |sum, sample| std::array::from_fn(|index| sum[index] + u64::from(sample[index])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitoring::traffic::RequestClass;

    /// So many samples with `step` seconds between them, with `each` before every one but the first.
    fn samples(traffic: &Traffic, from: u64, number: u64, step: u64, mut each: impl FnMut(u64)) -> TrafficView {
        let moment = |second: u64| Duration::from_secs(second);
        for second in (from..=from + number * step).step_by(step as usize) {
            let now = Timestamp::from_second(1_700_000_000 + second.cast_signed()).expect("a time");
            if second > from {
                each(second);
            }
            traffic.sample(now, moment(second), Duration::ZERO, &[]);
        }
        traffic.view(moment(from + number * step))
    }

    #[test]
    fn rings_hold_a_quarter_of_an_hour_and_a_day() {
        let traffic = Traffic::default();
        let ask = |_| traffic.counts().request(RequestClass::Predict, 200, Duration::from_micros(50));
        let view = samples(&traffic, 0, 1500, 60, ask);
        assert_eq!((view.seconds.len(), view.minutes), (SECONDS, MINUTES));
        let view = samples(&traffic, 1500 * 60, 1000, 1, ask);
        assert_eq!((view.seconds.len(), view.minutes), (SECONDS, MINUTES));
        assert!(view.seconds.iter().all(|second| second.requests == 1 && second.rate() == 1.0));
        let p50 = f64::from(view.seconds[0].p50);
        assert!((40e-6..60e-6).contains(&p50), "{p50}");
        let recent = &view.recent;
        assert!((60.0..=70.0).contains(&recent.seconds), "{}", recent.seconds);
        assert_eq!(recent.reading.class(RequestClass::Predict).count, recent.seconds as u64);
    }

    #[test]
    fn the_hour_and_the_day_end_now_and_not_with_their_last_minute() {
        let traffic = Traffic::default();
        let answer = |tier| traffic.counts().tier(tier);
        samples(&traffic, 0, 120, 60, |_| answer(Tier::Low));
        let view = samples(&traffic, 120 * 60, 30, 1, |_| answer(Tier::High));
        assert_eq!(view.minutes, 120);
        let [hour, day] = view.tiers;
        assert_eq!((hour, day), ([60, 0, 30], [120, 0, 30]));
    }
}
