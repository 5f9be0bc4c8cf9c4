//! Leases: one holder at a time, and nothing is written under one that was lost.

use std::time::Duration;

use scoreline_domain::time::Timestamp;
use scoreline_store::{Lease, Store, StoreError, StorePlace};
use tokio::time::Instant;

use super::ground::Ground;
use super::on_both;
use super::rows::{MINUTE, at, batch, interaction, key, new};

on_both!(a_job_has_one_holder_at_a_time, two_holders_never_both_write);

/// The time that counts for a lease: the test's own in a file, and the server's in PostgreSQL.
struct LeaseClock {
    is_shared: bool,
    origin: Instant,
}

impl LeaseClock {
    fn of(ground: &Ground) -> Self {
        Self { is_shared: matches!(ground.settings.place, StorePlace::Postgres(_)), origin: Instant::now() }
    }

    /// So many milliseconds after the start. What a process behind PostgreSQL takes for the time is a day ahead.
    async fn at(&self, ms: u64) -> Timestamp {
        let since = Duration::from_millis(ms);
        if !self.is_shared {
            return at(0).checked_add(since).expect("in the calendar");
        }
        tokio::time::sleep_until(self.origin + since).await;
        at(0).checked_add(Duration::from_hours(24)).expect("in the calendar")
    }
}

async fn a_job_has_one_holder_at_a_time(ground: &Ground) {
    const TTL: Duration = Duration::from_secs(2);
    let store = ground.open().await;
    let clock = LeaseClock::of(ground);
    let first = store.lease("extract", "a", TTL, clock.at(0).await).await.expect("asked").expect("free");
    assert_eq!((first.job(), first.holder()), ("extract", "a"));
    assert_eq!(store.lease("extract", "b", TTL, clock.at(900).await).await.expect("asked"), None);
    assert!(store.lease("rescore", "b", TTL, clock.at(900).await).await.expect("asked").is_some(), "another job");
    store.renew(&first, TTL, clock.at(900).await).await.expect("renewed");
    assert_eq!(store.lease("extract", "b", TTL, clock.at(2300).await).await.expect("asked"), None);
    let second = store.lease("extract", "b", TTL, clock.at(3500).await).await.expect("asked").expect("ran out");
    assert!(second.fence() > first.fence());
    for lost in [store.renew(&first, TTL, clock.at(0).await).await, store.release(&first).await] {
        assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    }
    store.release(&second).await.expect("released");
    let again = store.lease("extract", "a", TTL, clock.at(3500).await).await.expect("asked").expect("free");
    assert!(again.fence() > second.fence(), "also after a release");
    store.close().await;
}

/// A replica that takes today for tomorrow, and one that takes it for yesterday, both last as long as the others.
#[tokio::test]
async fn a_replica_s_own_clock_decides_nothing() {
    const TTL: Duration = Duration::from_millis(100);
    const DAY: i64 = 86_400;
    let ground = Ground::postgres("own_clock").await;
    let store = ground.open().await;
    for wrong in [at(400 * DAY), at(-400 * DAY)] {
        store.lease("extract", "wrong", TTL, wrong).await.expect("asked").expect("free");
        tokio::time::sleep(TTL * 3).await;
        let right = store.lease("extract", "right", MINUTE, at(0)).await.expect("asked").expect("it ran out");
        assert_eq!(store.lease("extract", "wrong", TTL, wrong).await.expect("asked"), None, "it is held");
        store.release(&right).await.expect("released");
    }
    store.close().await;
    ground.remove().await;
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
        let lease: Lease = match store.lease("extract", holder, Duration::ZERO, now).await.expect("asked") {
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
