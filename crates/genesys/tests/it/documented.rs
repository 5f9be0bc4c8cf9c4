//! The guides' shapes.

use scoreline_genesys::settings::Api;
use scoreline_simulator::{FaultPlan, SimulatorSettings};

use super::desk::{Desk, small};
use super::kept::{Analysis, Kept, Restart, assert_complete, extract};

#[tokio::test]
async fn the_documented_history_is_extracted_page_by_page() {
    let mut desk = Desk::open(SimulatorSettings { customers: 100, ..small() });
    desk.settings.api = Api::Documented;
    let mut kept = Kept::default();
    let (position, outcome) = extract(&desk, desk.everything(), &mut kept, Restart::AfterEveryStep).await;
    println!("{} interactions in {} pages: {:?}", kept.interactions.len(), kept.steps, outcome.totals);
    assert!(kept.steps > 5);
    assert_complete(&desk, &kept, Analysis::Compared);
    assert!(outcome.mismatches.is_empty());
    assert!(position.following(desk.simulator.now()).is_some());
}

#[tokio::test]
async fn the_documented_history_survives_a_bad_day() {
    let mut desk = Desk::open(SimulatorSettings { customers: 60, ..small() });
    let plan = "[[fault]]\npath = \"/api/**\"\nkind = \"status\"\nstatus = 503\nevery = 3\n\
                [[fault]]\npath = \"/api/**\"\nkind = \"cut\"\non = [5]\n";
    desk.simulator.set_faults(FaultPlan::parse(plan).expect("a plan"));
    desk.settings.api = Api::Documented;
    let mut kept = Kept::default();
    extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
    assert_complete(&desk, &kept, Analysis::Compared);
}
