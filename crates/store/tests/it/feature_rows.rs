//! Features: saved with marks, followed by sequence, gone when they are gone.

use scoreline_store::{Computed, FeatureChange, FeatureRow, Saved, Store, Which};

use super::ground::Ground;
use super::on_both;
use super::rows::{at, interaction, key, record, scan};

on_both!(
    a_mark_is_cleared_only_when_nothing_came_since,
    who_is_due_by_time_or_by_queue_is_scanned_again,
    followers_see_each_change_once_and_in_order,
);

fn features(byte: u8) -> FeatureRow {
    FeatureRow { as_of: at(1000), vector: [byte; 5].into(), next_change_at: Some(at(5000)), fills_from_queue: false }
}

async fn compute(store: &Store, features: impl Fn(u32) -> Option<FeatureRow>) -> Saved {
    let due = scan(store, Which::Due { as_of: at(0), filled: false }, 100).await;
    let computed: Vec<_> = (1..)
        .zip(&due)
        .map(|(n, history)| Computed { number: history.number, mark: history.mark, features: features(n) })
        .collect();
    store.save_features(&computed, None).await.expect("saved")
}

async fn a_mark_is_cleared_only_when_nothing_came_since(ground: &Ground) {
    let store = ground.open().await;
    record(&store, [interaction(1, 1, 0), interaction(2, 2, 0)]).await;
    let due = scan(&store, Which::Due { as_of: at(0), filled: false }, 100).await;
    record(&store, [interaction(3, 2, 50)]).await;
    let computed =
        due.iter().map(|history| Computed { number: history.number, mark: history.mark, features: Some(features(7)) });
    let saved = store.save_features(&computed.collect::<Vec<_>>(), None).await.expect("saved");
    assert_eq!(saved, Saved { written: 2, still_dirty: 1, ..Saved::default() });
    let due = scan(&store, Which::Due { as_of: at(0), filled: false }, 100).await;
    assert_eq!(due.iter().map(|history| history.customer).collect::<Vec<_>>(), [key(2)]);
    assert_eq!(store.features_of(&key(1)).await.expect("read"), Some(features(7)));
    assert_eq!(store.features_of(&key(9)).await.expect("read"), None);
    store.close().await;
}

async fn who_is_due_by_time_or_by_queue_is_scanned_again(ground: &Ground) {
    let store = ground.open().await;
    record(&store, (1..=4).map(|number| interaction(number, number, 0))).await;
    compute(&store, |n| {
        let next_change_at = (n != 3).then(|| at(1000 * i64::from(n)));
        Some(FeatureRow { next_change_at, fills_from_queue: n == 3, ..features(1) })
    })
    .await;
    let due = async |as_of, filled| -> Vec<_> {
        let due = scan(&store, Which::Due { as_of: at(as_of), filled }, 1).await;
        due.iter().map(|history| (history.customer, history.mark.is_some())).collect()
    };
    assert_eq!(due(999, false).await, []);
    assert_eq!(due(1000, false).await, [(key(1), false)]);
    assert_eq!(due(2500, true).await, [(key(1), false), (key(2), false), (key(3), false)]);
    record(&store, [interaction(9, 4, 60)]).await;
    assert_eq!(due(0, false).await, [(key(4), true)]);
    store.close().await;
}

async fn followers_see_each_change_once_and_in_order(ground: &Ground) {
    let store = ground.open().await;
    assert_eq!(store.features_since(0, 10).await.expect("read").seq, 0);
    record(&store, (1..=5).map(|number| interaction(number, number, 0))).await;
    compute(&store, |n| Some(features(n as u8))).await;
    let (mut seq, mut seen) = (0, Vec::new());
    loop {
        let told = store.features_since(seq, 2).await.expect("read");
        seq = told.seq;
        for change in told.changes {
            match change {
                FeatureChange::Saved { customer, features, number } => {
                    seen.push((customer, features.vector[0], number));
                }
                FeatureChange::Gone { number } => panic!("nobody is gone: {number:?}"),
            }
        }
        if !told.more {
            break;
        }
    }
    let customers: Vec<_> = seen.iter().map(|(customer, byte, _)| (*customer, *byte)).collect();
    assert_eq!(customers, [1, 2, 3, 4, 5].map(|n| (key(n), n as u8)));
    assert_eq!(store.features_since(seq, 10).await.expect("read").changes, []);

    // One is changed, one has no features any more, one is erased.
    record(&store, [interaction(12, 2, 60), interaction(14, 4, 60)]).await;
    let saved = compute(&store, |n| (n == 1).then(|| features(99))).await;
    assert_eq!(saved, Saved { written: 1, removed: 1, ..Saved::default() });
    store.erase_customers(&[key(5)]).await.expect("erased");
    let told = store.features_since(seq, 10).await.expect("read");
    let number = |n: usize| seen[n - 1].2;
    let expected = [
        FeatureChange::Saved { number: number(2), customer: key(2), features: features(99) },
        FeatureChange::Gone { number: number(4) },
        FeatureChange::Gone { number: number(5) },
    ];
    assert_eq!(told.changes, expected);
    assert!(!told.more);
    // What was computed for the erased one meanwhile is not kept.
    let late = [Computed { number: number(5), mark: None, features: Some(features(1)) }];
    let saved = store.save_features(&late, None).await.expect("saved");
    assert_eq!(saved, Saved { unknown: 1, ..Saved::default() });
    store.close().await;
}
