//! Whether a part that keeps failing is asked at all.
//!
//! Closed: everybody may ask. Open: nobody may, except one probe for each wait; a probe that succeeds closes, one that
//! fails doubles the wait, one whose caller went away is followed by the next. Rates are exact over ten one-second
//! buckets: a moving average forgets slowly and can hide that everything fails.
//!
//! No clock and no lock: the caller hands in the time since any fixed moment, and sees to exclusion.

use std::time::Duration;

/// One-second buckets that the rate is taken over.
pub const WINDOW_SECONDS: u64 = 10;
/// Calls in the window below which a rate says nothing.
pub const LEAST_CALLS: u32 = 20;
/// Failures one after the other that are enough by themselves.
pub const FAILURES_IN_A_ROW: u32 = 5;
/// Calls that never came back within `UNRETURNED_WITHIN` and are enough by themselves.
pub const UNRETURNED: usize = 3;
pub const UNRETURNED_WITHIN: Duration = Duration::from_mins(1);
/// Wait before the first probe; doubled by each that fails.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);
pub const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// The part of a wait that chance may take away, so that many processes do not probe at once.
pub const JITTER: f64 = 0.25;
/// A probe nobody has reported on for so long is lost. Longer than any call may take.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// The state machine.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: BreakerState,
    /// Counts changes of state: what a call of an earlier era reports is no news.
    era: u64,
    /// The latest time it was told. Callers read the clock before they queue for the breaker.
    now: Duration,
    window: CallWindow,
    in_a_row: u32,
    unreturned: [Option<Duration>; UNRETURNED],
    doublings: u32,
    opened_at: Duration,
    closed_at: Option<Duration>,
    noise: u64,
}

#[derive(Clone, Copy, Debug)]
enum BreakerState {
    Closed,
    Open { probe_from: Duration },
    Probing { since: Duration },
}

/// Leave to make one call. It is given back with what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    era: u64,
}

/// What came of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallOutcome {
    Success,
    Failure,
    /// The caller went away, or what stopped the call was not the fault of what was called.
    Unknown,
}

/// What the breaker does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Closed,
    Open,
    /// Open, with a probe under way.
    Probing,
}

/// A change of state worth telling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakerChange {
    Opened {
        cause: OpenCause,
        probe_in: Duration,
    },
    /// The probe failed, or nobody knows what became of it.
    StillOpen {
        probe_in: Duration,
    },
    Closed {
        open_for: Duration,
    },
}

/// Why it opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenCause {
    InARow,
    Rate,
    Unreturned,
}

impl Ticket {
    /// The ticket as a number, never 0.
    pub fn number(self) -> u64 {
        self.era
    }

    /// The ticket of a number; `None` for 0.
    pub fn from_number(number: u64) -> Option<Self> {
        (number != 0).then_some(Self { era: number })
    }
}

impl Phase {
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::Probing];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }
}

impl OpenCause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InARow => "failures_in_a_row",
            Self::Rate => "failure_rate",
            Self::Unreturned => "unreturned_calls",
        }
    }
}

impl Breaker {
    /// A closed breaker; `seed` picks its chances.
    pub fn new(seed: u64) -> Self {
        Self {
            state: BreakerState::Closed,
            era: 1,
            now: Duration::ZERO,
            window: CallWindow::default(),
            in_a_row: 0,
            unreturned: [None; UNRETURNED],
            doublings: 0,
            opened_at: Duration::ZERO,
            closed_at: None,
            noise: seed,
        }
    }

    pub fn phase(&self) -> Phase {
        match self.state {
            BreakerState::Closed => Phase::Closed,
            BreakerState::Open { .. } => Phase::Open,
            BreakerState::Probing { .. } => Phase::Probing,
        }
    }

    /// While it is closed: the ticket that everybody gets, so that it can be kept beside the lock.
    pub fn standing_ticket(&self) -> Option<Ticket> {
        matches!(self.state, BreakerState::Closed).then_some(Ticket { era: self.era })
    }

    /// Leave to make a call, or none.
    pub fn admit(&mut self, now: Duration) -> Option<Ticket> {
        let now = self.tell(now);
        if let BreakerState::Probing { since } = self.state
            && now >= since + PROBE_PATIENCE
        {
            let wait = self.wait();
            self.turn(BreakerState::Open { probe_from: since + wait });
        }
        match self.state {
            BreakerState::Closed => {}
            BreakerState::Open { probe_from } if now >= probe_from => self.turn(BreakerState::Probing { since: now }),
            BreakerState::Open { .. } | BreakerState::Probing { .. } => return None,
        }
        Some(Ticket { era: self.era })
    }

    /// Takes a ticket back with what came of the call.
    pub fn record(&mut self, ticket: Ticket, now: Duration, outcome: CallOutcome) -> Option<BreakerChange> {
        let now = self.tell(now);
        if ticket.era != self.era {
            return None;
        }
        match (self.state, outcome) {
            (BreakerState::Closed, CallOutcome::Unknown) | (BreakerState::Open { .. }, _) => None,
            (BreakerState::Closed, CallOutcome::Success | CallOutcome::Failure) => {
                self.count(now, outcome == CallOutcome::Failure)
            }
            (BreakerState::Probing { .. }, CallOutcome::Success) => {
                self.turn(BreakerState::Closed);
                self.closed_at = Some(now);
                Some(BreakerChange::Closed { open_for: now.saturating_sub(self.opened_at) })
            }
            (BreakerState::Probing { .. }, CallOutcome::Failure) => {
                self.doublings += 1;
                Some(self.stay_open(now))
            }
            (BreakerState::Probing { .. }, CallOutcome::Unknown) => Some(self.stay_open(now)),
        }
    }

    /// A call has not come back, long after it was told to end.
    pub fn unreturned(&mut self, now: Duration) -> Option<BreakerChange> {
        let now = self.tell(now);
        self.unreturned.rotate_left(1);
        self.unreturned[UNRETURNED - 1] = Some(now);
        let first = self.unreturned[0]?;
        let many = now.saturating_sub(first) <= UNRETURNED_WITHIN && matches!(self.state, BreakerState::Closed);
        many.then(|| self.open(now, OpenCause::Unreturned))
    }

    fn count(&mut self, now: Duration, failed: bool) -> Option<BreakerChange> {
        self.window.add(now.as_secs(), failed);
        self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
        if self.in_a_row >= FAILURES_IN_A_ROW {
            return Some(self.open(now, OpenCause::InARow));
        }
        let (calls, failures) = self.window.sums(now.as_secs());
        (calls >= LEAST_CALLS && 2 * failures >= calls).then(|| self.open(now, OpenCause::Rate))
    }

    fn open(&mut self, now: Duration, cause: OpenCause) -> BreakerChange {
        // A part that fails again soon after it recovered goes on waiting where it left off.
        let recently = self.closed_at.is_some_and(|closed| now.saturating_sub(closed) < LONGEST_WAIT);
        self.doublings = if recently { self.doublings + 1 } else { 0 };
        self.opened_at = now;
        self.window = CallWindow::default();
        self.in_a_row = 0;
        self.unreturned = [None; UNRETURNED];
        let probe_in = self.wait();
        self.turn(BreakerState::Open { probe_from: now + probe_in });
        BreakerChange::Opened { cause, probe_in }
    }

    fn stay_open(&mut self, now: Duration) -> BreakerChange {
        let probe_in = self.wait();
        self.turn(BreakerState::Open { probe_from: now + probe_in });
        BreakerChange::StillOpen { probe_in }
    }

    fn turn(&mut self, state: BreakerState) {
        self.state = state;
        self.era += 1;
    }

    fn tell(&mut self, now: Duration) -> Duration {
        self.now = self.now.max(now);
        self.now
    }

    /// `FIRST_WAIT` doubled by each failed probe up to `LONGEST_WAIT`, less a random part of it up to `JITTER`.
    fn wait(&mut self) -> Duration {
        let full = FIRST_WAIT.saturating_mul(1 << self.doublings.min(16)).min(LONGEST_WAIT);
        // SplitMix64 (Steele, Lea & Flood 2014).
        self.noise = self.noise.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.noise;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        full.mul_f64(1.0 - JITTER * share)
    }
}

/// Calls and failures of the last seconds, one bucket each.
#[derive(Clone, Debug, Default)]
struct CallWindow([SecondCounts; WINDOW_SECONDS as usize]);

#[derive(Clone, Copy, Debug, Default)]
struct SecondCounts {
    second: u64,
    calls: u32,
    failures: u32,
}

impl CallWindow {
    fn add(&mut self, second: u64, failed: bool) {
        let bucket = &mut self.0[(second % WINDOW_SECONDS) as usize];
        if bucket.second != second {
            *bucket = SecondCounts { second, ..SecondCounts::default() };
        }
        bucket.calls += 1;
        bucket.failures += u32::from(failed);
    }

    /// Calls and failures of the second that runs and the nine before.
    fn sums(&self, second: u64) -> (u32, u32) {
        let live = self.0.iter().filter(|bucket| bucket.second + WINDOW_SECONDS > second);
        live.fold((0, 0), |(calls, failures), bucket| (calls + bucket.calls, failures + bucket.failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn call(breaker: &mut Breaker, now: Duration, outcome: CallOutcome) -> Option<BreakerChange> {
        let ticket = breaker.admit(now).expect("admitted");
        breaker.record(ticket, now, outcome)
    }

    /// A breaker opened at `now` by five failures, and when it lets a probe through.
    fn opened(now: Duration) -> (Breaker, Duration) {
        let mut breaker = Breaker::new(7);
        for _ in 1..FAILURES_IN_A_ROW {
            assert_eq!(call(&mut breaker, now, CallOutcome::Failure), None);
        }
        let change = call(&mut breaker, now, CallOutcome::Failure);
        let Some(BreakerChange::Opened { cause: OpenCause::InARow, probe_in }) = change else { panic!("{change:?}") };
        (breaker, now + probe_in)
    }

    #[test]
    fn five_in_a_row_open_it_and_a_success_between_them_does_not() {
        let mut breaker = Breaker::new(1);
        for _ in 0..4 {
            for _ in 0..4 {
                assert_eq!(call(&mut breaker, at(0), CallOutcome::Failure), None);
            }
            breaker = Breaker { window: CallWindow::default(), ..breaker };
            assert_eq!(call(&mut breaker, at(0), CallOutcome::Success), None);
        }
        let (mut breaker, probe_from) = opened(at(500));
        assert_eq!(breaker.phase(), Phase::Open);
        assert!(probe_from >= at(1250) && probe_from <= at(1500), "{probe_from:?}");
        assert_eq!(breaker.admit(probe_from.saturating_sub(at(1))), None);
        assert!(breaker.admit(probe_from).is_some());
        assert_eq!(breaker.admit(probe_from), None, "one probe");
    }

    #[test]
    fn half_of_twenty_open_it_and_what_left_the_window_does_not_count() {
        let mut breaker = Breaker::new(1);
        let mut last = None;
        for number in 0..20 {
            let outcome = if number % 2 == 0 { CallOutcome::Failure } else { CallOutcome::Success };
            assert_eq!(last, None, "call {number}");
            last = call(&mut breaker, at(number * 10), outcome);
        }
        assert!(matches!(last, Some(BreakerChange::Opened { cause: OpenCause::Rate, .. })), "the twentieth: {last:?}");

        let mut breaker = Breaker::new(1);
        for number in 0..400 {
            // Ten calls to a window, every second one fails: never twenty.
            let outcome = if number % 2 == 0 { CallOutcome::Failure } else { CallOutcome::Success };
            assert_eq!(call(&mut breaker, at(number * 1000), outcome), None);
        }
    }

    #[test]
    fn a_probe_closes_it_or_doubles_the_wait_up_to_a_minute() {
        let (mut breaker, mut probe_from) = opened(at(0));
        for doublings in 1..10_u32 {
            let change = call(&mut breaker, probe_from, CallOutcome::Failure);
            let Some(BreakerChange::StillOpen { probe_in }) = change else { panic!("{change:?}") };
            let full = Duration::from_secs(1 << doublings).min(LONGEST_WAIT);
            assert!(probe_in <= full && probe_in >= full.mul_f64(1.0 - JITTER), "{probe_in:?} of {full:?}");
            probe_from += probe_in;
        }
        assert_eq!(
            call(&mut breaker, probe_from, CallOutcome::Success),
            Some(BreakerChange::Closed { open_for: probe_from }),
            "closed by the first success"
        );
        assert_eq!(breaker.phase(), Phase::Closed);
    }

    #[test]
    fn a_lost_probe_does_not_wedge_it() {
        let (mut breaker, probe_from) = opened(at(0));
        let lost = breaker.admit(probe_from).expect("a probe");
        let change = breaker.record(lost, probe_from, CallOutcome::Unknown);
        let Some(BreakerChange::StillOpen { probe_in }) = change else { panic!("{change:?}") };
        assert!(probe_in <= FIRST_WAIT, "not the part's fault: the wait is not doubled");
        let forgotten = breaker.admit(probe_from + probe_in).expect("the next probe");
        let later = probe_from + probe_in + PROBE_PATIENCE;
        assert_eq!(breaker.admit(later.saturating_sub(at(1))), None);
        let next = breaker.admit(later).expect("the forgotten one is given up");
        assert_eq!(breaker.record(forgotten, later, CallOutcome::Success), None, "too late to be heard");
        assert!(matches!(breaker.record(next, later, CallOutcome::Success), Some(BreakerChange::Closed { .. })));
    }

    #[test]
    fn calls_of_before_it_opened_say_nothing_about_the_probe() {
        let mut breaker = Breaker::new(3);
        let early = breaker.admit(at(0)).expect("closed");
        for _ in 0..FAILURES_IN_A_ROW {
            call(&mut breaker, at(0), CallOutcome::Failure);
        }
        let probe = breaker.admit(at(1000)).expect("a probe");
        assert_eq!(breaker.record(early, at(1001), CallOutcome::Success), None);
        assert_eq!(breaker.phase(), Phase::Probing);
        assert!(matches!(breaker.record(probe, at(1002), CallOutcome::Success), Some(BreakerChange::Closed { .. })));
    }

    #[test]
    fn three_that_never_return_within_a_minute_open_it() {
        let mut breaker = Breaker::new(3);
        for second in [0, 31, 62, 93] {
            assert_eq!(breaker.unreturned(Duration::from_secs(second)), None);
        }
        let change = breaker.unreturned(Duration::from_secs(100));
        assert!(
            matches!(change, Some(BreakerChange::Opened { cause: OpenCause::Unreturned, .. })),
            "62, 93 and 100: {change:?}"
        );
    }

    #[test]
    fn what_fails_again_soon_after_it_recovered_waits_longer() {
        let (mut breaker, mut probe_from) = opened(at(0));
        let mut full = FIRST_WAIT;
        for _ in 0..8 {
            call(&mut breaker, probe_from, CallOutcome::Success);
            let mut change = None;
            for _ in 0..FAILURES_IN_A_ROW {
                change = call(&mut breaker, probe_from, CallOutcome::Failure);
            }
            let Some(BreakerChange::Opened { probe_in, .. }) = change else { panic!("{change:?}") };
            full = (full * 2).min(LONGEST_WAIT);
            assert!(probe_in <= full && probe_in >= full.mul_f64(1.0 - JITTER), "{probe_in:?} of {full:?}");
            probe_from += probe_in;
        }
        call(&mut breaker, probe_from, CallOutcome::Success);
        let later = probe_from + LONGEST_WAIT;
        let mut change = None;
        for _ in 0..FAILURES_IN_A_ROW {
            change = call(&mut breaker, later, CallOutcome::Failure);
        }
        assert!(matches!(change, Some(BreakerChange::Opened { probe_in, .. }) if probe_in <= FIRST_WAIT), "{change:?}");
    }
}
