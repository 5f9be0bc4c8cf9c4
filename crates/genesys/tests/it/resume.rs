//! Killed anywhere, an extraction goes on from what was stored last.

use scoreline_genesys::source::{ExtractionWindow, Position};
use scoreline_simulator::{FaultPlan, SimulatorSettings};

use super::desk::{Desk, small};
use super::kept::{Analysis, Kept, Restart, assert_complete, extract};

#[tokio::test]
async fn another_process_can_take_over_after_every_step() {
    let plan = "[[fault]]\npath = \"/api/v2/analytics/conversations/details/jobs\"\nmethod = \"POST\"\nkind = \"job_expired\"\non = [2]\n\
                [[fault]]\npath = \"/api/v2/analytics/conversations/details/query\"\nkind = \"repeat_rows\"\nrows = 3\nevery = 2\n\
                [[fault]]\npath = \"/api/v2/analytics/conversations/details/query\"\nkind = \"skip_rows\"\nrows = 1\nevery = 3\n";
    let faults = FaultPlan::parse(plan).expect("a plan");
    let mut desk = Desk::open(SimulatorSettings { faults, ..small() });
    desk.settings.query_page_size = 10;
    desk.settings.job_page_size = 40;
    // Each new process counts some requests in doubt.
    (desk.settings.requests_per_minute, desk.settings.period) = (300, std::time::Duration::from_millis(200));
    let mut kept = Kept::default();
    let (_, outcome) = extract(&desk, desk.everything(), &mut kept, Restart::AfterEveryStep).await;
    println!("{} processes: {:?}", kept.steps, outcome.totals);
    assert!(outcome.totals.resubmitted > 0 && kept.steps > 20);
    assert_complete(&desk, &kept, Analysis::Compared);
}

/// A step that was taken but not stored is taken again, by another process: from any position, to the same end.
#[tokio::test]
async fn every_position_leads_to_the_same_end() {
    let mut desk = Desk::open(SimulatorSettings { customers: 25, ..small() });
    desk.settings.query_page_size = 8;
    desk.settings.job_page_size = 30;
    (desk.settings.requests_per_minute, desk.settings.period) = (1000, std::time::Duration::from_millis(100));
    desk.simulator.set_faults(FaultPlan::default());
    let client = desk.client();
    let mut position = desk.everything();
    let mut stored = vec![(position.clone(), 0)];
    let mut steps = Vec::new();
    loop {
        let step = client.history().step(&position).await.expect("nothing is wrong");
        position = step.position.clone();
        let done = step.done.is_some();
        steps.push(step);
        stored.push((position.clone(), steps.len()));
        if done {
            break;
        }
    }
    println!("{} positions", stored.len());
    for (position, taken) in stored {
        let mut kept = Kept::of(&steps[..taken]);
        extract(&desk, position, &mut kept, Restart::Never).await;
        let truth = desk.truth();
        assert_eq!(kept.interactions.len(), truth.len());
        for (id, expected) in truth {
            assert_eq!(kept.interactions[&id].sentiment, expected.sentiment);
        }
    }
}

#[tokio::test]
async fn a_position_of_another_history_is_refused() {
    let mut desk = Desk::open(small());
    let window = ExtractionWindow { from: desk.simulator.first_day(), to: desk.simulator.now() };
    let begun = desk.client().history().step(&Position::start(window)).await.expect("begun").position;
    desk.settings.api = scoreline_genesys::settings::Api::Documented;
    let refused = desk.client().history().step(&begun).await.expect_err("of the platform");
    assert_eq!(refused.kind(), "foreign_position");
}
