//! The breaker against a naive one that remembers everything, over random histories.

use std::cell::RefCell;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use scoreline_domain::resilience::breaker::{
    Breaker, BreakerChange, CallOutcome, FAILURES_IN_A_ROW, FIRST_WAIT, JITTER, LEAST_CALLS, LONGEST_WAIT, OpenCause,
    PROBE_PATIENCE, Phase, Ticket, UNRETURNED, UNRETURNED_WITHIN, WINDOW_SECONDS,
};

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    /// A call that is answered at once.
    Call(CallOutcome),
    Begin,
    /// The end of one of the calls under way, the oldest for 0.
    End(usize, CallOutcome),
    Unreturned,
}

/// What a breaker must do, said as plainly as possible.
struct Naive {
    state: State,
    /// Changes of state so far.
    period: usize,
    /// Second and failure of every call since it closed last.
    calls: Vec<(u64, bool)>,
    unreturned: Vec<Duration>,
    full_wait: Duration,
    opened: Duration,
    closed: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    /// The first probe is let through somewhere between the two: chance decides.
    Open {
        earliest: Duration,
        latest: Duration,
    },
    Probing {
        since: Duration,
    },
}

impl Naive {
    fn new() -> Self {
        Self {
            state: State::Closed,
            period: 0,
            calls: Vec::new(),
            unreturned: Vec::new(),
            full_wait: FIRST_WAIT,
            opened: Duration::ZERO,
            closed: None,
        }
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.period += 1;
    }

    /// Whether a call must be let through; `None` when either is right.
    fn admits(&mut self, now: Duration) -> Option<bool> {
        if let State::Probing { since } = self.state
            && now >= since + PROBE_PATIENCE
        {
            let earliest = since + self.full_wait.mul_f64(1.0 - JITTER);
            self.turn(State::Open { earliest, latest: since + self.full_wait });
        }
        match self.state {
            State::Closed => Some(true),
            State::Probing { .. } => Some(false),
            State::Open { earliest, .. } if now < earliest => Some(false),
            State::Open { latest, .. } if now >= latest => Some(true),
            State::Open { .. } => None,
        }
    }

    fn was_admitted(&mut self, now: Duration) {
        if !matches!(self.state, State::Closed) {
            self.turn(State::Probing { since: now });
        }
    }

    fn check_wait(&self, probe_in: Duration) {
        assert!(probe_in <= self.full_wait && probe_in >= self.full_wait.mul_f64(1.0 - JITTER), "{probe_in:?}");
    }

    fn must_open(&mut self, now: Duration, cause: OpenCause, change: Option<BreakerChange>) {
        let Some(BreakerChange::Opened { cause: told, probe_in }) = change else {
            panic!("{cause:?}, told {change:?}")
        };
        assert_eq!(told, cause);
        let soon = self.closed.is_some_and(|closed| now.saturating_sub(closed) < LONGEST_WAIT);
        self.full_wait = if soon { (self.full_wait * 2).min(LONGEST_WAIT) } else { FIRST_WAIT };
        self.check_wait(probe_in);
        self.calls.clear();
        self.unreturned.clear();
        self.opened = now;
        self.turn(State::Open { earliest: now + probe_in, latest: now + probe_in });
    }

    fn recorded(&mut self, period: usize, now: Duration, outcome: CallOutcome, change: Option<BreakerChange>) {
        if period != self.period {
            assert_eq!(change, None, "a call of an earlier period");
            return;
        }
        match (self.state, outcome) {
            (State::Open { .. }, _) => panic!("nobody has a ticket"),
            (State::Closed, CallOutcome::Unknown) => assert_eq!(change, None),
            (State::Closed, CallOutcome::Success | CallOutcome::Failure) => {
                self.calls.push((now.as_secs(), outcome == CallOutcome::Failure));
                let in_a_row = self.calls.iter().rev().take_while(|(_, failed)| *failed).count();
                let recent = self.calls.iter().filter(|(second, _)| second + WINDOW_SECONDS > now.as_secs());
                let (calls, failures) =
                    recent.fold((0, 0), |(calls, failures), (_, failed)| (calls + 1, failures + u32::from(*failed)));
                if in_a_row >= FAILURES_IN_A_ROW as usize {
                    self.must_open(now, OpenCause::InARow, change);
                } else if calls >= LEAST_CALLS && f64::from(failures) / f64::from(calls) >= 0.5 {
                    self.must_open(now, OpenCause::Rate, change);
                } else {
                    assert_eq!(change, None, "{failures} of {calls}, {in_a_row} in a row");
                }
            }
            (State::Probing { .. }, CallOutcome::Success) => {
                assert_eq!(change, Some(BreakerChange::Closed { open_for: now.saturating_sub(self.opened) }));
                self.closed = Some(now);
                self.turn(State::Closed);
            }
            (State::Probing { .. }, CallOutcome::Failure | CallOutcome::Unknown) => {
                let Some(BreakerChange::StillOpen { probe_in }) = change else { panic!("told {change:?}") };
                if outcome == CallOutcome::Failure {
                    self.full_wait = (self.full_wait * 2).min(LONGEST_WAIT);
                }
                self.check_wait(probe_in);
                self.turn(State::Open { earliest: now + probe_in, latest: now + probe_in });
            }
        }
    }

    fn unreturned(&mut self, now: Duration, change: Option<BreakerChange>) {
        self.unreturned.push(now);
        let recent = self.unreturned.iter().filter(|at| now.saturating_sub(**at) <= UNRETURNED_WITHIN).count();
        if matches!(self.state, State::Closed) && recent >= UNRETURNED {
            self.must_open(now, OpenCause::Unreturned, change);
        } else {
            assert_eq!(change, None);
        }
    }

    fn phase(&self) -> Phase {
        match self.state {
            State::Closed => Phase::Closed,
            State::Open { .. } => Phase::Open,
            State::Probing { .. } => Phase::Probing,
        }
    }
}

/// What the histories led to: they prove nothing about what never happened.
#[derive(Debug, Default)]
struct Seen {
    causes: [u32; 3],
    still_open: u32,
    closed: u32,
    lost_probes: u32,
}

impl Seen {
    fn note(&mut self, change: Option<BreakerChange>) {
        match change {
            Some(BreakerChange::Opened { cause, .. }) => self.causes[cause as usize] += 1,
            Some(BreakerChange::StillOpen { .. }) => self.still_open += 1,
            Some(BreakerChange::Closed { .. }) => self.closed += 1,
            None => {}
        }
    }
}

/// Both breakers through one history.
fn replay(seed: u64, steps: &[Step], seen: &mut Seen) {
    let (mut breaker, mut naive, mut now) = (Breaker::new(seed), Naive::new(), Duration::ZERO);
    let mut under_way: Vec<(Ticket, usize)> = Vec::new();
    for step in steps {
        match *step {
            Step::Wait(millis) => now += Duration::from_millis(millis),
            Step::Call(_) | Step::Begin => {
                let period = naive.period;
                let must = naive.admits(now);
                seen.lost_probes += u32::from(naive.period != period);
                let ticket = breaker.admit(now);
                assert!(must.is_none_or(|must| ticket.is_some() == must), "{must:?} and {ticket:?}");
                if let Some(ticket) = ticket {
                    naive.was_admitted(now);
                    under_way.push((ticket, naive.period));
                    if let Step::Call(outcome) = step {
                        let (ticket, period) = under_way.pop().expect("just begun");
                        let change = breaker.record(ticket, now, *outcome);
                        seen.note(change);
                        naive.recorded(period, now, *outcome, change);
                    }
                }
            }
            Step::End(which, outcome) if !under_way.is_empty() => {
                let (ticket, period) = under_way.remove(which % under_way.len());
                let change = breaker.record(ticket, now, outcome);
                seen.note(change);
                naive.recorded(period, now, outcome, change);
            }
            Step::End(..) => {}
            Step::Unreturned => {
                let change = breaker.unreturned(now);
                seen.note(change);
                naive.unreturned(now, change);
            }
        }
        assert_eq!(breaker.phase(), naive.phase());
        assert_eq!(breaker.standing_ticket().is_some(), naive.phase() == Phase::Closed);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Histories that mostly succeed, mostly fail, and half and half: each opens in its own way.
    let outcome = |failures: u32| {
        prop_oneof![
            10 - failures => Just(CallOutcome::Success),
            failures => Just(CallOutcome::Failure),
            1 => Just(CallOutcome::Unknown),
        ]
    };
    (1_u32..10).prop_flat_map(move |failures| {
        let step = prop_oneof![
            3 => (0_u64..400).prop_map(Step::Wait),
            1 => (400_u64..15_000).prop_map(Step::Wait),
            16 => outcome(failures).prop_map(Step::Call),
            2 => Just(Step::Begin),
            2 => (0_usize..8, outcome(failures)).prop_map(|(which, outcome)| Step::End(which, outcome)),
            1 => Just(Step::Unreturned),
        ];
        prop::collection::vec(step, 0..120)
    })
}

fn histories(cases: u32) -> Seen {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let seen = RefCell::new(Seen::default());
    let outcome = runner.run(&(any::<u64>(), steps()), |(seed, steps)| {
        replay(seed, &steps, &mut seen.borrow_mut());
        Ok(())
    });
    outcome.unwrap_or_else(|err| panic!("{err}"));
    let seen = seen.into_inner();
    let Seen { causes, still_open, closed, lost_probes } = seen;
    assert!(causes.into_iter().chain([still_open, closed, lost_probes]).all(|times| times > 10), "{seen:?}");
    seen
}

#[test]
fn it_does_what_a_naive_one_does() {
    println!("5,000 histories: {:?}", histories(5_000));
}

#[test]
#[ignore = "20 s: cargo test --test it breaker::it_does_what_a_naive_one_does_in_a_hundred_thousand -- --ignored --nocapture"]
fn it_does_what_a_naive_one_does_in_a_hundred_thousand() {
    println!("100,000 histories: {:?}", histories(100_000));
}
