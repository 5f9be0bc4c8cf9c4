//! Answers of conversations that go on: the newest is kept, forgotten in time, and erased with its customer.

use scoreline_store::{ConversationRow, Store};

use super::ground::Ground;
use super::on_both;
use super::rows::{at, key};

on_both!(
    the_newest_answer_of_a_conversation_is_kept_and_old_ones_are_forgotten,
    nothing_of_an_erased_customer_is_left_or_comes_back,
);

fn row(conversation: u8, customer: Option<u32>, answer: &str, second: i64) -> ConversationRow {
    let answer = answer.to_owned();
    ConversationRow { conversation: [conversation; 32], customer: customer.map(key), answer, answered_at: at(second) }
}

async fn found(store: &Store, conversation: u8) -> Option<ConversationRow> {
    store.conversation(&[conversation; 32]).await.expect("read")
}

async fn the_newest_answer_of_a_conversation_is_kept_and_old_ones_are_forgotten(ground: &Ground) {
    let store = ground.open().await;
    assert_eq!(found(&store, 1).await, None);
    store.keep_conversations(vec![row(1, Some(1), "{}", 10), row(2, None, "{}", 20)]).await.expect("kept");
    assert_eq!(found(&store, 1).await, Some(row(1, Some(1), "{}", 10)));
    assert_eq!(found(&store, 2).await, Some(row(2, None, "{}", 20)));
    // Another replica answered later, and writes first.
    store.keep_conversations(vec![row(1, Some(2), "{\"new\":1}", 30)]).await.expect("kept");
    store.keep_conversations(vec![row(1, Some(1), "{\"old\":1}", 25)]).await.expect("kept");
    assert_eq!(found(&store, 1).await, Some(row(1, Some(2), "{\"new\":1}", 30)));
    assert_eq!(store.forget_conversations(at(30)).await.expect("done"), 1);
    assert_eq!((found(&store, 2).await, found(&store, 1).await.is_some()), (None, true));
    store.keep_conversations(Vec::new()).await.expect("nothing to keep");
    store.close().await;
}

async fn nothing_of_an_erased_customer_is_left_or_comes_back(ground: &Ground) {
    let store = ground.open().await;
    store.keep_conversations(vec![row(1, Some(1), "{}", 10), row(2, Some(2), "{}", 10)]).await.expect("kept");
    assert_eq!(store.erase_customers(&[key(1)]).await.expect("erased"), 1);
    store.keep_conversations(vec![row(1, Some(1), "{}", 11), row(3, None, "{}", 11)]).await.expect("kept");
    assert_eq!(found(&store, 1).await, None);
    assert!(found(&store, 2).await.is_some() && found(&store, 3).await.is_some());
    store.close().await;
}
