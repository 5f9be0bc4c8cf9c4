//! Questions that are answered later: kept, answered, told, forgotten, erased.

use std::time::Duration;

use scoreline_store::{
    CallbackOutcome, Lease, NewQuestion, QuestionAnswer, QuestionCounts, QuestionRuling, QuestionStage, Store,
    StoreError,
};

use super::ground::Ground;
use super::on_both;
use super::rows::{MINUTE, at, key};

on_both!(
    a_question_is_kept_until_it_is_answered_and_told,
    as_many_as_may_be_are_kept_and_none_of_an_erased_customer,
    what_a_lost_lease_writes_is_not_kept,
);

async fn ask(store: &Store, id: &str, customer: Option<u32>, callback: Option<&str>) -> QuestionRuling {
    let question =
        NewQuestion { id, customer: customer.map(key), request: "{\"features\":{}}", callback, accepted_at: at(0) };
    store.ask_question(&question, 3).await.expect("asked")
}

async fn lease(store: &Store, holder: &str, now: i64) -> Lease {
    store.lease("predictions", holder, MINUTE, at(now)).await.expect("known").expect("free")
}

fn answer(id: &str, refused: bool) -> QuestionAnswer {
    QuestionAnswer { id: id.to_owned(), refused, answer: format!("{{\"of\":\"{id}\"}}") }
}

async fn a_question_is_kept_until_it_is_answered_and_told(ground: &Ground) {
    let store = ground.open().await;
    assert_eq!(ask(&store, "a", Some(1), Some("https://hooks.example.com/a")).await, QuestionRuling::Kept);
    assert_eq!(ask(&store, "b", None, None).await, QuestionRuling::Kept);
    let waiting = store.waiting_questions(at(0), 10).await.expect("read");
    let seen: Vec<_> = waiting.iter().map(|one| (one.id.as_str(), one.customer)).collect();
    assert_eq!(seen, [("a", Some(key(1))), ("b", None)]);
    assert_eq!(waiting[0].request, "{\"features\":{}}");

    let held = lease(&store, "one", 1).await;
    store.postpone_questions(&["b".to_owned()], at(5), &held).await.expect("postponed");
    assert_eq!(store.waiting_questions(at(4), 10).await.expect("read").len(), 1);
    store.answer_questions(&[answer("a", false), answer("b", true)], at(10), at(100), &held).await.expect("kept");
    assert!(store.waiting_questions(at(50), 10).await.expect("read").is_empty());
    let b = store.question("b").await.expect("read").expect("known");
    assert_eq!((b.stage, b.refused, b.answer.as_str()), (QuestionStage::Over, true, "{\"of\":\"b\"}"));
    assert_eq!((b.finished_at, b.has_callback), (Some(at(10)), false));

    let due = store.due_callbacks(at(10), 10).await.expect("read");
    let seen: Vec<_> = due.iter().map(|due| (due.id.as_str(), due.callback.as_str(), due.attempts)).collect();
    assert_eq!(seen, [("a", "https://hooks.example.com/a", 0)]);
    let retry = CallbackOutcome::Retry { reason: "it answered 500".into(), at: at(30) };
    store.settle_callbacks(&[("a".to_owned(), retry)], at(200), &held).await.expect("settled");
    assert!(store.due_callbacks(at(29), 10).await.expect("read").is_empty());
    assert_eq!(store.next_question(QuestionStage::Telling).await.expect("read"), Some(at(30)));
    let a = store.question("a").await.expect("read").expect("known");
    assert_eq!((a.stage, a.attempts, a.last_error.as_str()), (QuestionStage::Telling, 1, "it answered 500"));
    store.settle_callbacks(&[("a".to_owned(), CallbackOutcome::Told)], at(200), &held).await.expect("settled");
    let a = store.question("a").await.expect("read").expect("known");
    assert_eq!((a.stage, a.told, a.attempts, a.last_error.as_str()), (QuestionStage::Over, true, 2, ""));

    assert_eq!(store.forget_questions(at(99)).await.expect("done"), 0);
    assert_eq!(store.forget_questions(at(150)).await.expect("done"), 1);
    assert_eq!(store.question("b").await.expect("read"), None);
    let counts = QuestionCounts { over: 1, ..QuestionCounts::default() };
    assert_eq!(store.question_counts().await.expect("counted"), counts);
    store.close().await;
}

async fn as_many_as_may_be_are_kept_and_none_of_an_erased_customer(ground: &Ground) {
    let store = ground.open().await;
    store.erase_customers(&[key(9)]).await.expect("erased");
    assert_eq!(ask(&store, "erased", Some(9), None).await, QuestionRuling::Erased);
    for id in ["a", "b", "c"] {
        assert_eq!(ask(&store, id, Some(1), None).await, QuestionRuling::Kept);
    }
    assert_eq!(ask(&store, "d", Some(2), None).await, QuestionRuling::Full);
    assert_eq!(store.erase_customers(&[key(1)]).await.expect("erased"), 3);
    assert_eq!(store.question("a").await.expect("read"), None);
    // An answer that was under way finds nothing to be kept in.
    let held = lease(&store, "one", 1).await;
    store.answer_questions(&[answer("a", false)], at(10), at(100), &held).await.expect("nothing");
    assert_eq!(store.question("a").await.expect("read"), None);
    store.close().await;
}

async fn what_a_lost_lease_writes_is_not_kept(ground: &Ground) {
    let store = ground.open().await;
    ask(&store, "a", None, Some("https://hooks.example.com/a")).await;
    // By the clock of either database it has run out at once.
    let lost = store.lease("predictions", "one", Duration::ZERO, at(0)).await.expect("known").expect("free");
    let held = lease(&store, "two", 61).await;
    let refused = store.answer_questions(&[answer("a", false)], at(62), at(100), &lost).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "{refused:?}");
    assert!(store.postpone_questions(&["a".to_owned()], at(70), &lost).await.is_err());
    store.answer_questions(&[answer("a", false)], at(62), at(100), &held).await.expect("kept");
    assert!(store.settle_callbacks(&[("a".to_owned(), CallbackOutcome::Told)], at(200), &lost).await.is_err());
    let due = store.due_callbacks(at(62).checked_add(Duration::from_secs(1)).expect("in range"), 10).await;
    assert_eq!(due.expect("read").len(), 1);
    store.close().await;
}
