//! Whole histories, and what comes after them.

use std::time::Duration;

use scoreline_domain::Channel;
use scoreline_simulator::{NewConversation, SimulatorSettings};

use super::desk::{Desk, small};
use super::kept::{Analysis, Kept, Restart, assert_complete, extract};

#[tokio::test]
async fn a_whole_history_is_extracted_with_all_that_belongs_to_it() {
    let desk = Desk::open(SimulatorSettings { customers: 300, ..small() });
    let mut kept = Kept::default();
    let (position, outcome) = extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
    assert_complete(&desk, &kept, Analysis::Compared);
    let (requests, refused) = desk.simulator.requests();
    println!(
        "{} interactions in {} steps and {requests} requests, {refused} refused; {:?}",
        kept.interactions.len(),
        kept.steps,
        outcome.totals
    );
    assert_eq!(refused, 0);
    assert_eq!(outcome.totals.kept + outcome.totals.no_contact + outcome.totals.open, outcome.totals.rows);
    assert!(outcome.totals.no_contact > 0, "people without a contact are counted");
    assert!(outcome.mismatches.is_empty());
    let oldest = desk.truth().values().map(|expected| expected.start).min().expect("some");
    assert!(outcome.totals.oldest.expect("some") <= oldest);
    assert!(outcome.resume_from < outcome.watermark && outcome.watermark < desk.simulator.now());
    assert_eq!((position.phase(), position.progress()), ("done", 1.0));
    assert!(kept.failures.is_empty());
}

#[tokio::test]
async fn spans_the_platform_refuses_are_halved_until_it_takes_them() {
    let mut settings = SimulatorSettings { customers: 80, ..small() };
    settings.limits.job_window = Duration::from_hours(5 * 24);
    settings.limits.query_window = Duration::from_hours(24);
    settings.limits.aggregate_window = Duration::from_hours(3 * 24);
    settings.jobs.lag = Duration::from_hours(4 * 24);
    let desk = Desk::open(settings);
    let mut kept = Kept::default();
    let (_, outcome) = extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
    assert_complete(&desk, &kept, Analysis::Compared);
    assert!(outcome.totals.halved > 3, "{:?}", outcome.totals);
}

#[tokio::test]
async fn the_next_extraction_brings_what_has_happened_since_however_long_it_took() {
    let desk = Desk::open(SimulatorSettings { customers: 80, ..small() });
    let day = Duration::from_hours(24);
    // Begun before the look-back, and still going on.
    let long = desk.simulator.add(&NewConversation {
        contact: Some(desk.simulator.contact(3)),
        start: desk.simulator.now().checked_sub(5 * day).expect("a time"),
        handle: Some(Duration::from_mins(5)),
        open: true,
        channel: Channel::Message,
        sentiment: Some(-250_000),
        topics: 2,
        queue: 1,
    });
    let mut kept = Kept::default();
    let (position, outcome) = extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
    assert_complete(&desk, &kept, Analysis::Compared);
    assert!(!kept.interactions.contains_key(&long));
    assert!(outcome.resume_from.duration_until(desk.simulator.now()).as_hours() >= 5 * 24 - 1);

    desk.simulator.advance(Duration::from_hours(4));
    assert!(desk.simulator.close(long));
    // Until jobs see it.
    desk.simulator.advance(Duration::from_hours(8));
    let before = kept.interactions.len();
    let next = position.following(desk.simulator.now()).expect("done");
    let (position, _) = extract(&desk, next, &mut kept, Restart::Never).await;
    assert_complete(&desk, &kept, Analysis::Compared);
    assert!(kept.interactions.contains_key(&long), "it has ended in between");
    println!("{} interactions, then {} more", before, kept.interactions.len() - before);

    // Nothing waits for anything any more: the next one begins a look-back before its watermark.
    let outcome = position.outcome().expect("done");
    assert!(outcome.resume_from.duration_until(outcome.watermark).as_hours() >= 24);
    assert!(position.following(desk.simulator.now()).is_some());
}
