//! Leases: one holder at a time, and nothing is written under one that was lost.

use scoreline_store::{Lease, Store, StoreError};

use super::ground::Ground;
use super::on_both;
use super::rows::{MINUTE, at, batch, interaction, key, new};

on_both!(a_job_has_one_holder_at_a_time, two_holders_never_both_write);

async fn a_job_has_one_holder_at_a_time(ground: &Ground) {
    let store = ground.open().await;
    let first = store.lease("extract", "a", MINUTE, at(0)).await.expect("asked").expect("free");
    assert_eq!((first.job(), first.holder()), ("extract", "a"));
    assert_eq!(store.lease("extract", "b", MINUTE, at(59)).await.expect("asked"), None);
    assert!(store.lease("rescore", "b", MINUTE, at(59)).await.expect("asked").is_some(), "another job");
    store.renew(&first, MINUTE, at(59)).await.expect("renewed");
    assert_eq!(store.lease("extract", "b", MINUTE, at(118)).await.expect("asked"), None);
    let second = store.lease("extract", "b", MINUTE, at(119)).await.expect("asked").expect("ran out");
    assert!(second.fence() > first.fence());
    for lost in [store.renew(&first, MINUTE, at(119)).await, store.release(&first).await] {
        assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    }
    store.release(&second).await.expect("released");
    let again = store.lease("extract", "a", MINUTE, at(119)).await.expect("asked").expect("free");
    assert!(again.fence() > second.fence(), "also after a release");
    store.close().await;
}

/// Holders take the lease from one another in the middle of their work; each position continues the one before it.
async fn two_holders_never_both_write(ground: &Ground) {
    let store = ground.open().await;
    store.save_position("test", "0", at(0), None).await.expect("saved");
    let (first, second) = tokio::join!(work(&store, "a"), work(&store, "b"));
    let (position, _) = store.position("test").await.expect("read").expect("saved");
    assert_eq!(position, (first + second).to_string(), "no step was lost and none was made twice");
    assert!(first + second > 0);
    let histories = store.counts().await.expect("counted");
    assert_eq!(histories.interactions, u64::from(first + second));
    assert!(store.history(&key(1)).await.expect("read").is_some());
    store.close().await;
}

/// Reads the position, lets others run, and records the next step under its lease; how many steps were recorded.
async fn work(store: &Store, holder: &str) -> u32 {
    let mut steps = 0;
    for turn in 0..40_i64 {
        // Each finds the other's lease run out.
        let now = at(turn * 100);
        let lease: Lease = match store.lease("extract", holder, MINUTE, now).await.expect("asked") {
            Some(lease) => lease,
            None => continue,
        };
        let (position, _) = store.position("test").await.expect("read").expect("saved");
        let step: u32 = position.parse().expect("a number");
        tokio::task::yield_now().await;
        let rows = [new(interaction(step + 1, 1, i64::from(step)))];
        let next = (step + 1).to_string();
        let batch = scoreline_store::Batch { position: &next, ..batch(&rows, Some(&lease)) };
        match store.record(&batch).await {
            Ok(_) => steps += 1,
            Err(StoreError::LeaseLost { .. }) => {}
            Err(err) => panic!("{err}"),
        }
    }
    steps
}
