//! The platform's limits are kept, with everything that can go wrong around them.

use std::time::Duration;

use scoreline_simulator::{FaultPlan, Logged, SimulatorSettings};

use super::desk::{Desk, small};
use super::kept::{Analysis, Kept, Restart, assert_complete, extract};

const PERIOD: Duration = Duration::from_millis(400);
const MOST: u32 = 12;

fn tight() -> SimulatorSettings {
    let mut settings = small();
    (settings.limits.requests, settings.limits.period) = (MOST, PERIOD);
    settings
}

fn keep_to_it(desk: &mut Desk) {
    (desk.settings.requests_per_minute, desk.settings.period) = (MOST, PERIOD);
    desk.settings.query_page_size = 10;
    desk.settings.job_page_size = 20;
}

#[tokio::test]
async fn no_window_holds_more_requests_than_the_limit() {
    let mut desk = Desk::open(tight());
    keep_to_it(&mut desk);
    let mut kept = Kept::default();
    extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
    assert_complete(&desk, &kept, Analysis::Compared);
    let (requests, refused) = desk.simulator.requests();
    let busiest = desk.simulator.busiest_window();
    println!("{requests} requests, {refused} refused, at most {busiest} of {MOST} in {PERIOD:?}");
    assert!(requests > u64::from(MOST) * 3, "the limit was reached several times");
    assert_eq!(refused, 0);
    assert!(busiest <= MOST as usize);
}

#[tokio::test]
async fn no_window_holds_more_across_restarts_either() {
    let mut desk = Desk::open(tight());
    keep_to_it(&mut desk);
    let mut kept = Kept::default();
    extract(&desk, desk.everything(), &mut kept, Restart::AfterEveryStep).await;
    assert_complete(&desk, &kept, Analysis::Compared);
    // The limit of a token is the least of it: a new process has a new one, and all together keep to the same limit.
    let log = desk.simulator.log();
    let counted: Vec<Logged> =
        log.into_iter().filter(|logged| logged.counted).map(|logged| Logged { token: 1, ..logged }).collect();
    let busiest = scoreline_simulator::busiest_window(&counted, PERIOD);
    println!("{} processes, {} requests, at most {busiest} of {MOST} in {PERIOD:?}", kept.steps, counted.len());
    assert!(busiest <= MOST as usize);
}

#[tokio::test]
async fn nothing_is_sent_before_the_platform_said_to_come_back() {
    let plan = "[[fault]]\npath = \"/api/**\"\nkind = \"too_many_requests\"\nretry_after_secs = 1\non = [3, 9]\n\
                [[fault]]\npath = \"/api/**\"\nkind = \"too_many_requests\"\nretry_after = \"date\"\nretry_after_secs = 2\non = [14]\n";
    let faults = FaultPlan::parse(plan).expect("a plan");
    let desk = Desk::open(SimulatorSettings { faults, ..small() });
    let mut kept = Kept::default();
    extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
    assert_complete(&desk, &kept, Analysis::Compared);
    let log = desk.simulator.log();
    let refused: Vec<usize> = (0..log.len()).filter(|position| log[*position].status == 429).collect();
    assert_eq!(refused.len(), 3);
    for (position, asked) in refused.into_iter().zip([1, 1, 2]) {
        let waited = log[position + 1].at.saturating_sub(log[position].at);
        println!("asked to wait {asked} s, waited {waited:?}");
        assert!(waited >= Duration::from_secs(asked), "{waited:?}");
        assert!(waited < Duration::from_secs(asked + 2), "{waited:?}");
    }
}
