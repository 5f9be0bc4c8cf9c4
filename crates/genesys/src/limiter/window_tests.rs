//! What must hold of the window of requests over any history: kills, clock changes, refusals and other processes.

use proptest::prelude::*;

use super::*;

const PERIOD: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_secs(25);
const CLOCK: &str = "boot 1";

fn limits(most: u32) -> PaceLimits {
    PaceLimits { most, period: PERIOD, longest: LONGEST }
}

fn window(most: u32) -> RequestWindow {
    RequestWindow::resume(None, CLOCK, 0, limits(most))
}

fn is_admitted(window: &mut RequestWindow, now: i64, id: u64) -> bool {
    matches!(window.admit(now, 1, id), RequestAdmission::Now(_))
}

/// What happens next, and how long after what happened before, in milliseconds.
#[derive(Clone, Debug)]
enum Event {
    Ask(i64),
    End(i64),
    Refuse(i64, Option<u64>),
    /// A process is killed in the middle of its requests, or another one takes over: nobody tells their end.
    Kill(i64),
    /// The machine starts anew, or the wall clock is all there is and was set back: the same moment has another number.
    OtherClock(i64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let gap = prop_oneof![Just(0_i64), 0..50_i64, 0..5_000_i64, 50_000..70_000_i64];
    let event = (gap, 0..100_u32, proptest::option::of(0..20_000_u64)).prop_map(|(gap, kind, after)| match kind {
        0..60 => Event::Ask(gap),
        60..92 => Event::End(gap),
        92..96 => Event::Refuse(gap, after),
        96..98 => Event::Kill(gap),
        _ => Event::OtherClock(gap),
    });
    proptest::collection::vec(event, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Against the naive rule: wherever between its start and its end a request arrives at the platform, no period
    /// there holds more than the limit, and nothing arrives inside a pause. Kept and read again at every step, over kills
    /// and over clocks that tell nothing of each other.
    #[test]
    fn no_period_ever_holds_more_than_the_limit(events in events(), most in 1..8_u32, arrivals: u64) {
        let mut kept: Option<String> = None;
        let (mut now, mut clock, mut shift) = (0_i64, "boot 1".to_owned(), 0_i64);
        let mut open: VecDeque<(u64, i64)> = VecDeque::new();
        let mut requests: Vec<(i64, i64)> = Vec::new();
        let mut closed_until = i64::MIN;
        for (number, event) in events.iter().enumerate() {
            let gap = match event {
                Event::Ask(gap) | Event::End(gap) | Event::Refuse(gap, _) | Event::Kill(gap) | Event::OtherClock(gap) => *gap,
            };
            now += gap;
            // Nothing takes longer than a request can.
            while let Some((_, start)) = open.front().copied().filter(|(_, start)| now - start >= ms(LONGEST)) {
                requests.push((start, start + ms(LONGEST)));
                open.pop_front();
            }
            let mut window = RequestWindow::resume(kept.as_deref(), &clock, now + shift, limits(most));
            match event {
                Event::Ask(_) => {
                    if let RequestAdmission::Now(id) = window.admit(now + shift, 1, number as u64) {
                        prop_assert!(now >= closed_until, "inside a pause");
                        open.push_back((id, now));
                    }
                }
                Event::End(_) => if let Some((id, start)) = open.pop_front() {
                    window.end(id, now + shift);
                    window.answered(now + shift);
                    requests.push((start, now));
                },
                Event::Refuse(_, after) => if let Some((id, start)) = open.pop_front() {
                    window.end(id, now + shift);
                    window.refused(now + shift, after.map(Duration::from_millis), 0.0);
                    requests.push((start, now));
                    closed_until = closed_until.max(now + after.unwrap_or(0).cast_signed());
                },
                // They may arrive as late as any request.
                Event::Kill(_) => requests.extend(open.drain(..).map(|(_, start)| (start, start + ms(LONGEST)))),
                Event::OtherClock(_) => {
                    let number = i64::try_from(number).expect("few");
                    let is_other = number % 2 == 0;
                    clock = if is_other { format!("boot {number}") } else { clock };
                    shift = if is_other { number * 1_000_000_000 } else { number * -10_000_000_000 };
                }
            }
            if !matches!(event, Event::OtherClock(_)) {
                kept = Some(window.text());
            }
        }
        requests.extend(open.drain(..).map(|(_, start)| (start, now.max(start))));
        let mut draw = fastrand::Rng::with_seed(arrivals);
        let mut arrived: Vec<i64> = requests.iter().map(|(start, end)| match draw.u8(0..3) {
            0 => *start,
            1 => *end,
            _ => start + ((end - start) as f64 * draw.f64()) as i64,
        }).collect();
        arrived.sort_unstable();
        for pair in arrived.windows(most as usize + 1) {
            prop_assert!(pair[most as usize] - pair[0] > ms(PERIOD), "{pair:?}");
        }
    }

    #[test]
    fn whoever_waits_as_told_is_admitted(most in 1..6_u32, takes in 0..3_000_i64, asked in 1..60_u32) {
        let mut window = window(most);
        let mut now = 0;
        for id in 0..asked {
            for turn in 0..3 {
                window = RequestWindow::resume(Some(&window.text()), CLOCK, now, limits(most));
                match window.admit(now, 1, u64::from(id)) {
                    RequestAdmission::Now(_) => break,
                    RequestAdmission::After(wait) => now += ms(wait),
                }
                prop_assert!(turn < 2, "told to wait twice although nothing happened in between");
            }
            now += takes;
            window.end(u64::from(id), now);
            window.answered(now);
        }
        // As fast as the limit allows, to a part of a period: one more period than full windows need, at most.
        let windows = i64::from(asked.div_ceil(most));
        prop_assert!(now <= ms(PERIOD) + (ms(PERIOD) + 101 + takes * i64::from(most)) * windows);
    }
}

#[test]
fn a_clock_set_forward_over_a_restart_forgets_nothing() {
    let mut before = window(300);
    for id in 0..300 {
        assert!(is_admitted(&mut before, 0, id));
    }
    before.hold(0, Duration::from_mins(5));
    let kept = before.text();
    for (clock, now) in [("boot 2", 3_600_000), ("boot 1", -3_600_000), ("database", 17)] {
        let mut after = RequestWindow::resume(Some(&kept), clock, now, limits(300));
        assert_eq!(after.counted(), 300, "{clock}");
        assert!(!is_admitted(&mut after, now, 999), "{clock}");
        assert!(!is_admitted(&mut after, now + 300_000, 999), "the pause is not over: {clock}");
    }
    let mut same = RequestWindow::resume(Some(&kept), CLOCK, 310_000, limits(300));
    assert!(is_admitted(&mut same, 310_000, 999), "the same clock tells that it is over");
}

#[test]
fn a_refusal_that_names_no_time_halves_the_rate_and_time_brings_it_back() {
    let mut window = window(300);
    let mut now = 60_000;
    assert!(is_admitted(&mut window, now, 1) && is_admitted(&mut window, now, 2));
    window.end(1, now);
    assert_eq!(window.refused(now, None, 1.0), Duration::from_secs(1));
    assert_eq!(window.allowed(), 150);
    window.end(2, now);
    window.refused(now, Some(Duration::from_secs(5)), 0.0);
    assert_eq!(window.allowed(), 150, "one message");
    assert_eq!(window.admit(now + 5_000, 1, 3), RequestAdmission::After(Duration::from_millis(1)));
    now += 5_001;
    assert!(is_admitted(&mut window, now, 3));
    for _ in 0..10 {
        now += 6_000;
        window.answered(now);
    }
    assert_eq!(window.allowed(), 300);
    assert!(!window.is_slowed());
}

#[test]
fn a_refusal_that_names_its_time_is_obeyed_and_halves_nothing_unless_it_comes_again() {
    let mut window = window(300);
    let asked = Some(Duration::from_secs(5));
    let mut now = 60_000;
    for _ in 0..10 {
        assert_eq!(window.refused(now, asked, 0.0), Duration::from_secs(5));
        assert!(!is_admitted(&mut window, now + 5_000, 1));
        now += 5_001;
        assert!(is_admitted(&mut window, now, 1));
        window.end(1, now);
        window.answered(now);
        assert_eq!(window.allowed(), 300);
    }
    window.refused(now, asked, 0.0);
    now += 5_001;
    window.refused(now, asked, 0.0);
    assert_eq!(window.allowed(), 150, "refused again right after the time that was named");
}

#[test]
fn repeated_refusals_wait_longer_and_no_pause_is_endless() {
    let mut window = window(300);
    let pauses: Vec<_> = (0..8).map(|_| window.refused(0, None, 1.0).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(window.refused(0, Some(Duration::from_secs(100_000)), 0.0), LONGEST_PAUSE);
    window.answered(0);
    assert_eq!(window.refused(0, None, 0.0), Duration::from_millis(500), "from the beginning after an answer");
}

#[test]
fn hints_lower_the_rate_and_never_raise_it() {
    let mut window = window(300);
    window.hinted(Some(3_000), None);
    assert_eq!(window.allowed(), 300);
    window.hinted(Some(180), Some(170));
    assert_eq!(window.allowed(), 170);
    for id in 0..100 {
        assert!(is_admitted(&mut window, 0, id));
    }
    window.hinted(None, Some(0));
    assert_eq!(window.allowed(), 100);
    assert!(!is_admitted(&mut window, 0, 100));
}

#[test]
fn what_is_reserved_and_not_sent_is_given_back() {
    let mut window = window(10);
    assert_eq!(window.admit(0, 10, 1), RequestAdmission::Now(1));
    assert!(!is_admitted(&mut window, 0, 2));
    window.end(1, 5);
    window.give_back(1, 9);
    assert_eq!(window.counted(), 1);
    assert_eq!(
        window.admit(0, 99, 3),
        RequestAdmission::After(Duration::from_millis(60_101)),
        "at most a period's worth"
    );
    assert_eq!(window.admit(0, 9, 3), RequestAdmission::Now(3));
}

#[test]
fn what_cannot_be_read_counts_as_a_full_period() {
    let mut window = RequestWindow::resume(Some("{"), CLOCK, 5, limits(10));
    assert!(!is_admitted(&mut window, 60_004, 1));
    assert!(is_admitted(&mut window, 60_005, 1));
}
