//! Time as a dependency: the wall clock behind a trait, the stopwatch for latencies, and work that is done again and again.
//!
//! No other file reads a clock; `clippy.toml` and the tidy test see to it.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

pub use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use quanta::Instant;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior};

/// Where "now" comes from. Two implementations: the system and a clock that tests move by hand.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment. Unlike `now` it never goes back: for ages, pauses and rates.
    fn monotonic(&self) -> Duration;
}

/// The wall clock, to the kernel's tick (4 ms at most): every request reads it, scores and tokens are dated to the
/// second, and the exact clock costs five times as much.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        // The kernel's nanoseconds are always below a second, its seconds within the calendar.
        Timestamp::new(now.tv_sec, now.tv_nsec as i32).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn monotonic(&self) -> Duration {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        Instant::now().saturating_duration_since(*ORIGIN.get_or_init(Instant::now))
    }
}

impl SystemClock {
    /// The wall clock to the nanosecond, for traces: what another machine has noted stands beside it.
    pub fn exact(self) -> Timestamp {
        let now = clock_gettime(ClockId::Realtime);
        Timestamp::new(now.tv_sec, now.tv_nsec as i32).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves the clock forward.
    ///
    /// # Panics
    /// When the result is beyond the year 9999.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().expect("clock lock is never held across a panic");
        *now = now.checked_add(by).expect("time within the calendar");
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("clock lock is never held across a panic")
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.now().as_nanosecond()).unwrap_or(0))
    }
}

/// Monotonic elapsed time for latencies and deadlines. Reads the processor's counter where it is steady: every request
/// looks four times, and the kernel's clock costs three times as much.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    pub fn elapsed_ms(&self) -> f64 {
        self.0.elapsed().as_secs_f64() * 1e3
    }
}

/// Time that processors have spent on this process, all its threads together. While the process stands still, and while
/// others have the processors, it does not pass. The kernel is asked, which costs about a microsecond.
#[derive(Clone, Copy, Debug)]
pub struct WorkWatch(Duration);

impl WorkWatch {
    pub fn start() -> Self {
        Self(Self::now())
    }

    pub fn elapsed(&self) -> Duration {
        Self::now().saturating_sub(self.0)
    }

    fn now() -> Duration {
        let now = clock_gettime(ClockId::ProcessCPUTime);
        // Both are never negative, and nanoseconds always below a second.
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
    }
}

/// Rounds of work that is done again and again: the first at once, the next a period later. A round that took longer than
/// the period is followed by a whole one.
#[derive(Debug)]
pub struct Rounds(Interval);

impl Rounds {
    /// # Panics
    /// When the period is zero, or outside a runtime.
    pub fn every(period: Duration) -> Self {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(ticks)
    }

    /// Waits for the next round. `false`: `stop` was ready before, and there is none.
    pub async fn next(&mut self, stop: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = stop => false,
            _ = self.0.tick() => true,
        }
    }
}

/// Whole seconds from `earlier` to `later`; 0 when the clock went backwards.
pub fn seconds_between(earlier: Timestamp, later: Timestamp) -> u64 {
    u64::try_from(later.as_second() - earlier.as_second()).unwrap_or(0)
}

/// The time that a text in RFC 3339 is; one without an offset is in UTC.
pub fn utc_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let without_offset = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    text.parse().ok().or_else(|| without_offset().map(|zoned| zoned.timestamp()))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rounds_keep_their_pace_until_the_stop() {
        let began = Instant::now();
        let mut rounds = Rounds::every(Duration::from_secs(2));
        let mut stop = pin!(sleep(Duration::from_secs(12)));
        let mut seconds = Vec::new();
        while rounds.next(stop.as_mut()).await {
            seconds.push(began.elapsed().as_secs());
            if seconds.len() == 2 {
                sleep(Duration::from_secs(5)).await;
            }
        }
        assert_eq!(seconds, [0, 2, 7, 9, 11], "a long round is followed by a whole period");
        assert_eq!(began.elapsed().as_secs(), 12);
    }

    #[test]
    fn times_without_an_offset_are_in_utc() {
        let time = "2023-10-27T14:30:00Z".parse().ok();
        for text in ["2023-10-27T14:30:00Z", " 2023-10-27T16:30:00+02:00", "2023-10-27 14:30:00", "2023-10-27T14:30"] {
            assert_eq!(utc_time(text), time, "{text}");
        }
        assert_eq!(utc_time("2023-10-27"), "2023-10-27T00:00:00Z".parse().ok());
        for text in ["", "today", "1698417000", "27/10/2023 14:30", "2023-10-27T25:00:00Z"] {
            assert_eq!(utc_time(text), None, "{text}");
        }
    }
}
