//! Questions kept for a replay: the newest stay, old ones go, and a customer's go with the customer.

use scoreline_store::{ReplayRow, Store};

use super::ground::Ground;
use super::on_both;
use super::rows::{at, key};

on_both!(
    questions_come_back_in_their_order_and_the_oldest_make_room,
    nothing_of_an_erased_customer_is_left_or_comes_back,
);

fn row(customer: Option<u32>, question: &str, second: i64) -> ReplayRow {
    ReplayRow { customer: customer.map(key), asked_at: at(second), question: question.to_owned() }
}

async fn kept(store: &Store) -> Vec<String> {
    let rows = store.replay_after(-1, 100).await.expect("read");
    assert_eq!(store.replay_count().await.expect("counted"), rows.len() as u64);
    rows.into_iter().map(|(_, question)| question).collect()
}

async fn questions_come_back_in_their_order_and_the_oldest_make_room(ground: &Ground) {
    let store = ground.open().await;
    assert_eq!(store.keep_replay(Vec::new(), 3).await.expect("nothing to keep"), 0);
    let rows = vec![row(Some(1), "a", 10), row(None, "b", 20), row(Some(1), "c", 30)];
    assert_eq!(store.keep_replay(rows, 4).await.expect("kept"), 3);
    assert_eq!(kept(&store).await, ["a", "b", "c"]);
    store.keep_replay(vec![row(Some(2), "d", 40), row(Some(2), "e", 5)], 4).await.expect("kept");
    assert_eq!(kept(&store).await, ["b", "c", "d", "e"]);
    let first = store.replay_after(-1, 2).await.expect("read");
    let rest = store.replay_after(first[1].0, 100).await.expect("read");
    assert_eq!((first.len(), rest.len(), rest[0].1.as_str()), (2, 2, "d"));
    assert_eq!(store.forget_replay(at(30)).await.expect("cleared"), 2);
    assert_eq!(kept(&store).await, ["c", "d"]);
    store.close().await;
}

async fn nothing_of_an_erased_customer_is_left_or_comes_back(ground: &Ground) {
    let store = ground.open().await;
    let rows = vec![row(Some(1), "a", 10), row(Some(2), "b", 10), row(None, "c", 10)];
    store.keep_replay(rows, 100).await.expect("kept");
    assert_eq!(store.erase_customers(&[key(1)]).await.expect("erased"), 1);
    assert_eq!(store.keep_replay(vec![row(Some(1), "d", 11)], 100).await.expect("told"), 0);
    assert_eq!(kept(&store).await, ["b", "c"]);
    store.close().await;
}
