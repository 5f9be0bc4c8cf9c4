//! Under which pepper a store's customers are, and their way to a new one.

use scoreline_domain::{CustomerKey, ExtractedInteraction, SealedId};
use scoreline_store::{PepperLayer, Rekeyed, ReplayRow, Store, StoreError};

use super::ground::Ground;
use super::on_both;
use super::records::{prediction, told, waiting};
use super::rows::{at, batch, interaction, key, new, record};

on_both!(
    keys_change_once_each_however_often_the_work_is_broken_off,
    layers_are_kept_only_in_the_place_of_those_that_were_read,
);

fn layer(id: &str, sealed: Option<&[u8]>) -> PepperLayer {
    PepperLayer { id: id.to_owned(), sealed: sealed.map(<[u8]>::to_vec) }
}

/// The key that a test's new pepper makes of an old one.
fn flipped(old: &CustomerKey) -> CustomerKey {
    CustomerKey::from_digest(old.as_bytes().map(|byte| !byte))
}

fn change(old: CustomerKey, sealed: Option<&SealedId>) -> Rekeyed {
    Rekeyed { key: flipped(&old), sealed: sealed.map(|sealed| SealedId([b"anew ", &*sealed.0].concat().into())) }
}

async fn fill(store: &Store) {
    record(store, (0..300).map(|number| interaction(number, number % 50, i64::from(number)))).await;
    let unsealed = ExtractedInteraction { contact: None, ..new(interaction(900, 77, 0)) };
    store.record(&batch(&[unsealed], None)).await.expect("recorded");
    store.keep_predictions(vec![waiting(3, 0), waiting(60, 0)], 100).await.expect("kept");
    let outcomes = [told(4, 700, Some(prediction(0))), told(61, 700, Some(prediction(0)))];
    store.tell_outcomes(&outcomes, &[], 100).await.expect("told");
    let question = |customer| ReplayRow { customer, asked_at: at(0), question: "{}".to_owned() };
    store.keep_replay(vec![question(Some(key(62))), question(None)], 100).await.expect("kept");
}

async fn keys_change_once_each_however_often_the_work_is_broken_off(ground: &Ground) {
    let store = ground.open().await;
    assert!(store.keep_peppers(&[], &[layer("one", None)]).await.expect("kept"));
    fill(&store).await;
    let before = store.counts().await.expect("counted");
    let two = [layer("one", Some(b"sealed")), layer("two", None)];
    assert!(store.keep_peppers(&[layer("one", None)], &two).await.expect("kept"));
    // 50 customers and one without a contact, the customers of two predictions and two outcomes, two of them known, and the
    // one of a question.
    assert_eq!(store.keys_to_change().await.expect("counted"), 54);
    assert!(!store.keep_peppers(&two, &[layer("three", None)]).await.expect("asked"), "one change at a time");

    // Half of them, a batch that nothing comes of, and the process ends.
    assert_eq!(store.change_keys(20, change).await.expect("changed"), 34);
    drop(tokio::time::timeout(std::time::Duration::ZERO, store.change_keys(20, change)).await);
    let store = reopened(store, ground).await;
    while store.change_keys(20, change).await.expect("changed") > 0 {}
    assert_eq!(store.keys_to_change().await.expect("counted"), 0);
    assert_eq!(store.change_keys(20, change).await.expect("nothing to do"), 0);

    for number in (0..50).chain([77]) {
        assert!(store.history(&key(number)).await.expect("read").is_none(), "{number}");
        assert!(store.history(&flipped(&key(number))).await.expect("read").is_some(), "{number}");
    }
    let samples = store.sealed_samples(100).await.expect("read");
    assert_eq!(samples.len(), 50, "all but the one without a contact");
    for (customer, sealed) in samples {
        assert_eq!(*sealed.0, *format!("anew sealed {:?}", flipped(&customer)).as_bytes());
    }
    let last = store.last_predictions().await.expect("read");
    let whose: Vec<_> = last.keys().map(|(customer, _)| *customer).collect();
    assert!([3, 60].iter().all(|number| whose.contains(&flipped(&key(*number)))), "{whose:?}");
    // An outcome that is told again under the new key is known.
    let again = scoreline_store::ToldOutcome { customer: flipped(&key(4)), ..told(4, 700, Some(prediction(0))) };
    let rulings = store.tell_outcomes(&[again], &[], 100).await.expect("told");
    assert!(matches!(rulings[..], [scoreline_store::Ruling::Duplicate(_)]), "{rulings:?}");
    assert_eq!(store.counts().await.expect("counted"), before);
    // A question is erased by the new key, and one that names nobody stays.
    assert_eq!(store.erase_customers(&[key(62)]).await.expect("erased"), 0);
    assert_eq!(store.erase_customers(&[flipped(&key(62))]).await.expect("erased"), 1);
    assert_eq!(store.replay_count().await.expect("counted"), 1);
    store.close().await;
}

async fn reopened(store: Store, ground: &Ground) -> Store {
    store.close().await;
    ground.open().await
}

async fn layers_are_kept_only_in_the_place_of_those_that_were_read(ground: &Ground) {
    let store = ground.open().await;
    assert!(store.peppers().await.expect("read").is_new());
    assert!(store.keep_peppers(&[], &[layer("one", None)]).await.expect("kept"));
    assert!(!store.keep_peppers(&[], &[layer("two", None)]).await.expect("asked"), "another came first");
    assert_eq!(store.peppers().await.expect("read").layers, [layer("one", None)]);
    store.use_pepper(1);
    store.save_position("test", "{}", at(0), None).await.expect("saved");

    // Whoever was told of the first alone writes nothing any more, and says so.
    let two = [layer("one", Some(b"sealed")), layer("two", None)];
    assert!(store.keep_peppers(&[layer("one", None)], &two).await.expect("kept"));
    store.check().await;
    let trouble = store.trouble().expect("seen");
    assert!(trouble.contains("newer pepper (id two)") && trouble.contains("`privacy.pepper_file`"), "{trouble}");
    if matches!(ground.settings.place, scoreline_store::StorePlace::Postgres(_)) {
        let refused = store.save_position("test", "{}", at(0), None).await;
        assert!(matches!(refused, Err(StoreError::NewerPepper { .. })), "{refused:?}");
    }
    store.use_pepper(2);
    store.check().await;
    assert_eq!(store.trouble(), None);
    store.close().await;
}
