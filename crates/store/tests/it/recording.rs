//! Interactions, annotations, purchases and positions: told once, twice, late, and of the erased.

use jiff::civil::date;
use scoreline_domain::{Annotation, Channel, CustomerKey, Interaction};
use scoreline_store::{
    Annotated, Batch, NewPurchase, PurchaseId, PurchasesRecorded, RecordedCounts, StoreError, Which,
};

use super::ground::Ground;
use super::on_both;
use super::rows::{MINUTE, at, batch, id, interaction, key, new, record, scan, sentiment};

on_both!(
    what_is_recorded_is_there_after_a_restart,
    telling_again_changes_nothing_and_marks_nobody,
    the_version_with_the_later_end_wins_and_keeps_what_analysis_found,
    an_interaction_may_turn_out_to_be_another_customers,
    late_annotations_are_added_to_known_interactions,
    open_and_impossible_interactions_are_passed_over,
    erased_customers_are_refused,
    purchases_are_kept_once,
    rows_and_position_are_recorded_together_or_not_at_all,
);

async fn what_is_recorded_is_there_after_a_restart(ground: &Ground) {
    let store = ground.open().await;
    let bare = Interaction {
        handle_ms: None,
        sentiment: None,
        topics: Vec::new(),
        queue: None,
        channel: Channel::Email,
        ..interaction(2, 1, 1000)
    };
    let many = Interaction { topics: ["returns", "billing", "billing"].map(Into::into).into(), ..interaction(3, 2, 7) };
    let recorded = record(&store, [interaction(1, 1, 2000), bare, many]).await;
    assert_eq!(recorded, RecordedCounts { new: 3, ..RecordedCounts::default() });
    store.save_position("other", "{\"cursor\":7}", at(9), None).await.expect("saved");
    store.close().await;

    let store = ground.open().await;
    assert_eq!(store.position("test").await.expect("read"), Some(("{}".to_owned(), at(0))));
    assert_eq!(store.position("other").await.expect("read"), Some(("{\"cursor\":7}".to_owned(), at(9))));
    assert_eq!(store.position("never").await.expect("read"), None);
    let histories = scan(&store, Which::All, 1).await;
    let customers: Vec<_> = histories.iter().map(|history| history.customer).collect();
    assert_eq!(customers, [key(1), key(2)]);
    let labels = store.labels().await.expect("read");
    let first = &histories[0];
    let [bare, full] = &first.interactions[..] else { panic!("two interactions, {first:?}") };
    assert_eq!((bare.start_ms, bare.end_ms), (at(1000).as_millisecond(), at(1300).as_millisecond()));
    assert_eq!((bare.channel, bare.handle_ms, bare.sentiment, bare.queue), (Channel::Email, None, None, None));
    assert!(first.topics(bare).is_empty());
    assert_eq!((full.channel, full.handle_ms, full.sentiment), (Channel::Voice, Some(240_000), sentiment(0.25)));
    assert_eq!(full.queue.map(|queue| &*labels[&queue]), Some("support"));
    let second = &histories[1];
    let mut topics: Vec<_> = second.topics(&second.interactions[0]).iter().map(|topic| &*labels[topic]).collect();
    topics.sort_unstable();
    assert_eq!(topics, ["billing", "returns"]);
    store.close().await;
}

async fn telling_again_changes_nothing_and_marks_nobody(ground: &Ground) {
    let store = ground.open().await;
    record(&store, [interaction(1, 1, 0), interaction(2, 2, 0)]).await;
    let before = scan(&store, Which::All, 100).await;
    let again = record(&store, [interaction(2, 2, 0), interaction(1, 1, 0), interaction(1, 1, 0)]).await;
    assert_eq!(again, RecordedCounts { same: 3, ..RecordedCounts::default() });
    // The marks too.
    assert_eq!(scan(&store, Which::All, 100).await, before);
    store.close().await;
}

async fn the_version_with_the_later_end_wins_and_keeps_what_analysis_found(ground: &Ground) {
    let store = ground.open().await;
    record(&store, [interaction(1, 1, 0)]).await;
    let longer = Interaction {
        end: Some(at(900)),
        handle_ms: Some(500_000),
        sentiment: None,
        topics: Vec::new(),
        queue: Some("sales".into()),
        ..interaction(1, 1, 0)
    };
    let changed = record(&store, [longer]).await;
    assert_eq!(changed, RecordedCounts { changed: 1, ..RecordedCounts::default() });
    let older = Interaction { end: Some(at(200)), queue: None, sentiment: sentiment(-1.0), ..interaction(1, 1, 0) };
    let same = record(&store, [older]).await;
    assert_eq!(same, RecordedCounts { same: 1, ..RecordedCounts::default() });
    let labels = store.labels().await.expect("read");
    let history = store.history(&key(1)).await.expect("read").expect("known");
    let [kept] = &history.interactions[..] else { panic!("one interaction, {history:?}") };
    assert_eq!((kept.end_ms, kept.handle_ms), (at(900).as_millisecond(), Some(500_000)));
    assert_eq!(kept.queue.map(|queue| &*labels[&queue]), Some("sales"));
    assert_eq!((kept.sentiment, history.topics(kept).len()), (sentiment(0.25), 1));
    store.close().await;
}

async fn an_interaction_may_turn_out_to_be_another_customers(ground: &Ground) {
    let store = ground.open().await;
    record(&store, [interaction(1, 1, 0)]).await;
    let moved = Interaction { end: Some(at(301)), start: at(5), ..interaction(1, 2, 0) };
    assert_eq!(record(&store, [moved]).await, RecordedCounts { changed: 1, ..RecordedCounts::default() });
    let histories = scan(&store, Which::Due { as_of: at(0), filled: false }, 100).await;
    let counts: Vec<_> = histories.iter().map(|history| (history.customer, history.interactions.len())).collect();
    assert_eq!(counts, [(key(1), 0), (key(2), 1)], "both are due");
    assert_eq!(store.counts().await.expect("counted").interactions, 1);
    store.close().await;
}

async fn late_annotations_are_added_to_known_interactions(ground: &Ground) {
    let store = ground.open().await;
    let unscored = Interaction { sentiment: None, topics: Vec::new(), ..interaction(1, 1, 0) };
    record(&store, [unscored.clone()]).await;
    let late = |number, score, topics: &[&str]| Annotation {
        id: id(number),
        sentiment: sentiment(score),
        topics: topics.iter().map(|topic| (*topic).into()).collect(),
    };
    let told = [late(1, -0.5, &["returns"]), late(9, 0.1, &[])];
    let annotated = store.annotate(&told, None).await.expect("annotated");
    assert_eq!(annotated, Annotated { changed: 1, same: 0, unknown: 1 });
    let again = store.annotate(&told[..1], None).await.expect("annotated");
    assert_eq!(again, Annotated { changed: 0, same: 1, unknown: 0 });
    // The conversation comes again without them: nothing is taken away.
    assert_eq!(record(&store, [unscored]).await.same, 1);
    // In one step with the interaction they belong to.
    let rows = [new(interaction(2, 1, 50))];
    let step = Batch { annotations: &[late(2, 0.75, &[]), late(8, 0.0, &[])], ..batch(&rows, None) };
    let recorded = store.record(&step).await.expect("recorded");
    assert_eq!(recorded, RecordedCounts { new: 1, unknown: 1, ..RecordedCounts::default() });
    let history = store.history(&key(1)).await.expect("read").expect("known");
    let scores: Vec<_> = history.interactions.iter().map(|one| one.sentiment).collect();
    assert_eq!(scores, [sentiment(-0.5), sentiment(0.75)]);
    assert_eq!(history.topics(&history.interactions[0]).len(), 1);
    store.close().await;
}

async fn open_and_impossible_interactions_are_passed_over(ground: &Ground) {
    let store = ground.open().await;
    let open = Interaction { end: None, ..interaction(1, 1, 0) };
    let backwards = Interaction { end: Some(at(-1)), ..interaction(2, 1, 0) };
    let recorded = record(&store, [open, backwards]).await;
    assert_eq!(recorded, RecordedCounts { open: 1, impossible: 1, ..RecordedCounts::default() });
    assert_eq!(store.counts().await.expect("counted").customers, 0);
    store.close().await;
}

async fn erased_customers_are_refused(ground: &Ground) {
    let store = ground.open().await;
    store.erase_customers(&[key(1)]).await.expect("erased");
    let recorded = record(&store, [interaction(1, 1, 0), interaction(2, 2, 0)]).await;
    assert_eq!(recorded, RecordedCounts { new: 1, refused: 1, ..RecordedCounts::default() });
    let purchase = purchase(key(1), "1", 3.0);
    let purchases = store.record_purchases(&[purchase], None).await.expect("recorded");
    assert_eq!(purchases, PurchasesRecorded { refused: 1, ..PurchasesRecorded::default() });
    // Whoever opens the store next refuses them too.
    store.erase_customers(&[key(2)]).await.expect("erased");
    store.close().await;
    let other = ground.open().await;
    assert_eq!(
        record(&other, [interaction(2, 2, 0)]).await,
        RecordedCounts { refused: 1, ..RecordedCounts::default() }
    );
    other.close().await;
}

fn purchase(customer: CustomerKey, name: &str, amount_usd: f64) -> NewPurchase {
    NewPurchase { customer, id: PurchaseId::named(name), day: date(2026, 3, 1), amount_usd, items: 2.0 }
}

async fn purchases_are_kept_once(ground: &Ground) {
    let store = ground.open().await;
    let earlier = NewPurchase { day: date(1969, 12, 30), ..purchase(key(1), "b", 0.1) };
    let all = [purchase(key(1), "a", 12.5), earlier, purchase(key(2), "a", 1.0)];
    let told = [&all[..], &all[..1], &[purchase(key(1), "c", f64::NAN)]].concat();
    let recorded = store.record_purchases(&told, None).await.expect("recorded");
    assert_eq!(recorded, PurchasesRecorded { written: 3, same: 1, refused: 0, impossible: 1 });
    let again = store.record_purchases(&all, None).await.expect("recorded");
    assert_eq!(again, PurchasesRecorded { same: 3, ..PurchasesRecorded::default() });
    let corrected = store.record_purchases(&[purchase(key(1), "a", 13.0)], None).await.expect("recorded");
    assert_eq!(corrected.written, 1);
    let history = store.history(&key(1)).await.expect("read").expect("known");
    let kept: Vec<_> = history.purchases.iter().map(|one| (one.day, one.amount_usd, one.items)).collect();
    assert_eq!(kept, [(date(1969, 12, 30), 0.1, 2.0), (date(2026, 3, 1), 13.0, 2.0)]);
    assert!(history.mark.is_some());
    let [first, second] = [0, 1].map(|repetition| PurchaseId::line(date(2026, 3, 1), 5.0, 1.0, repetition));
    assert_ne!(first, second);
    store.close().await;
}

async fn rows_and_position_are_recorded_together_or_not_at_all(ground: &Ground) {
    let store = ground.open().await;
    let lease = store.lease("extract", "a", MINUTE, at(0)).await.expect("asked").expect("free");
    store.release(&lease).await.expect("released");
    let rows = [new(interaction(1, 1, 0))];
    let refused = store.record(&batch(&rows, Some(&lease))).await.expect_err("the lease is gone");
    assert!(matches!(&refused, StoreError::LeaseLost { job } if &**job == "extract"), "{refused}");
    assert_eq!(store.position("test").await.expect("read"), None);
    assert_eq!(store.counts().await.expect("counted").interactions, 0);
    store.close().await;
}
