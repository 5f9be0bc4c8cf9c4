//! Several processes on one database: one of them runs a job, and one that was overtaken cannot write.

use std::sync::Arc;
use std::time::Duration;

use scoreline::worker::Leases;
use scoreline::worker::extract::Begin;
use scoreline_domain::JobName;
use scoreline_domain::time::{Clock, SystemClock};
use scoreline_store::Store;

use super::end_to_end::centre;
use super::line::Line;
use crate::ground::Ground;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_replicas_extracts_and_the_other_keeps_off() {
    let (ground, desk) = (Ground::postgres("one_of_two").await, centre(30));
    let (left, right) = (ground.open().await, ground.open().await);
    let (one, two) = (Line::new(&desk, &left, "one"), Line::new(&desk, &right, "two"));
    let both = tokio::join!(one.extraction.run(Begin::Onwards, |_| ()), two.extraction.run(Begin::Onwards, |_| ()));
    let done = [both.0.expect("no error"), both.1.expect("no error")];
    assert_eq!(done.iter().flatten().count(), 1, "one did it");
    assert_eq!(left.counts().await.expect("counted").interactions, desk.truth().len() as u64);
    // Whoever comes next finds what the other kept.
    assert_eq!(two.fold().await.interactions, desk.truth().len() as u64);
    assert_eq!(one.fold().await.customers, 0);
    for store in [left, right] {
        store.close().await;
    }
    ground.remove().await;
}

#[tokio::test]
async fn who_was_overtaken_can_not_write() {
    let ground = Ground::sqlite();
    let store: Store = ground.open().await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let slow = Leases::new(store.clone(), "slow", clock.clone());
    let held = slow.take(JobName::Features).await.expect("asked").expect("free");
    // As if it had run out: the store is told a later time.
    let later = SystemClock.now().checked_add(Duration::from_hours(1)).expect("in the calendar");
    let quick = store.lease(JobName::Features.as_str(), "quick", Duration::from_secs(30), later).await;
    quick.expect("asked").expect("it has run out");
    let refused = store.save_features(&[], Some(held.lease())).await.expect_err("another has it");
    assert!(refused.to_string().contains("lease of job `features` was lost"), "{refused}");
}
