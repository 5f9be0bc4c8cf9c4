//! Scores and the wishes for profiles: only news, one write in the air, failures kept.

use scoreline_domain::time::Timestamp;
use scoreline_domain::{Estimate, Interval, ModelName, ModelVersion, Probability, SealedId, Tier};
use scoreline_store::{
    Claim, CustomerNumber, Landed, OutboxCounts, Profile, ScoresSaved, Settled, Store, StoredScore, Which, WishState,
    WriteOutcome,
};

use super::ground::Ground;
use super::on_both;
use super::rows::{MINUTE, at, interaction, key, record, scan};

on_both!(
    a_score_is_kept_and_an_older_one_passed_over,
    only_news_is_written,
    a_wish_that_changes_in_the_air_stays_to_be_written,
    failures_are_kept_with_their_reasons_and_tried_again,
    a_claim_is_one_holders_until_it_runs_out,
);

fn score(value: f64, second: i64) -> StoredScore {
    let estimate = Estimate {
        value,
        interval: Interval::around(value, value - 1.0, value + 0.1),
        risk: Probability::clamped(0.125),
        confidence: None,
        tier_probability: None,
        tier: Tier::High,
    };
    StoredScore {
        estimate,
        model: ModelName::parse("clv").expect("a name"),
        version: ModelVersion::parse("v1.2").expect("a version"),
        features_as_of: at(second - 5),
        scored_at: at(second),
    }
}

fn profile(score: &StoredScore) -> Profile {
    Profile {
        value_usd: score.estimate.value,
        tier: score.estimate.tier,
        confidence: None,
        risk: Some(0.125),
        calculated_at: score.scored_at,
    }
}

async fn customer(store: &Store) -> CustomerNumber {
    record(store, [interaction(1, 1, 0)]).await;
    scan(store, Which::All, 1).await[0].number
}

async fn tell(store: &Store, number: CustomerNumber, value: f64, second: i64) -> ScoresSaved {
    let score = score(value, second);
    let wish = profile(&score);
    store.save_scores(&[(number, score, wish)], &["profile"], at(second), None).await.expect("saved")
}

async fn claim(store: &Store, holder: &str, now: Timestamp) -> Vec<Claim> {
    store.claim_writes("profile", holder, 10, now, MINUTE).await.expect("claimed")
}

async fn settle(store: &Store, holder: &str, claim: &Claim, outcome: WriteOutcome) -> Landed {
    store.settle_writes("profile", holder, &[Settled { claim, outcome }], at(0)).await.expect("settled")
}

fn wished(claim: &Claim) -> Profile {
    Profile::read(&claim.says, claim.calculated_at).expect("a profile")
}

fn unknown(reason: &str, second: i64) -> WriteOutcome {
    WriteOutcome::Unknown { reason: Some(reason.into()), at: at(second), most: 5 }
}

async fn a_score_is_kept_and_an_older_one_passed_over(ground: &Ground) {
    let store = ground.open().await;
    let number = customer(&store).await;
    assert_eq!(
        tell(&store, number, 0.1 + 0.2, 10).await,
        ScoresSaved { written: 1, wishes: 1, ..ScoresSaved::default() }
    );
    assert_eq!(tell(&store, number, 7.0, 9).await, ScoresSaved { older: 1, ..ScoresSaved::default() });
    assert_eq!(store.score_of(&key(1)).await.expect("read"), Some(score(0.1 + 0.2, 10)));
    store.erase_customers(&[key(1)]).await.expect("erased");
    assert_eq!(tell(&store, number, 7.0, 20).await, ScoresSaved { unknown: 1, ..ScoresSaved::default() });
    assert_eq!(store.score_of(&key(1)).await.expect("read"), None);
    store.close().await;
}

async fn only_news_is_written(ground: &Ground) {
    let store = ground.open().await;
    let number = customer(&store).await;
    tell(&store, number, 10.0, 10).await;
    let claims = claim(&store, "a", at(10)).await;
    let [first] = &claims[..] else { panic!("one claim, {claims:?}") };
    let contact = SealedId(format!("sealed {:?}", key(1)).into_bytes().into());
    assert_eq!((first.key, first.sealed.as_ref(), wished(first)), (key(1), Some(&contact), profile(&score(10.0, 10))));
    let landed = settle(&store, "a", first, WriteOutcome::Applied).await;
    assert_eq!(landed, Landed { taken: 1, lost: 0 });
    assert_eq!(tell(&store, number, 10.0, 20).await.wishes, 0, "a later time alone is no news");
    assert_eq!(claim(&store, "a", at(20)).await, []);
    assert_eq!(tell(&store, number, 11.0, 30).await.wishes, 1);
    assert_eq!(tell(&store, number, 10.0, 40).await.wishes, 0, "the profile says so already");
    assert_eq!(claim(&store, "a", at(40)).await, []);
    let counts = store.outbox_counts("profile").await.expect("counted");
    assert_eq!(counts, OutboxCounts { applied: 1, ..OutboxCounts::default() });
    store.close().await;
}

async fn a_wish_that_changes_in_the_air_stays_to_be_written(ground: &Ground) {
    let store = ground.open().await;
    let number = customer(&store).await;
    tell(&store, number, 10.0, 10).await;
    let sent = claim(&store, "a", at(10)).await.remove(0);
    tell(&store, number, 11.0, 11).await;
    assert_eq!(claim(&store, "b", at(12)).await, [], "one write in the air");
    settle(&store, "a", &sent, WriteOutcome::Applied).await;
    let next = claim(&store, "a", at(12)).await.remove(0);
    assert_eq!(wished(&next).value_usd, 11.0);
    // It changes there and back while a write is in the air: what was sent is what is wished for.
    tell(&store, number, 12.0, 13).await;
    tell(&store, number, 11.0, 14).await;
    settle(&store, "a", &next, WriteOutcome::Applied).await;
    assert_eq!(claim(&store, "a", at(20)).await, []);
    store.close().await;
}

async fn failures_are_kept_with_their_reasons_and_tried_again(ground: &Ground) {
    let store = ground.open().await;
    let number = customer(&store).await;
    tell(&store, number, 10.0, 10).await;
    let first = claim(&store, "a", at(10)).await.remove(0);
    settle(&store, "a", &first, unknown("answered 503", 100)).await;
    assert_eq!(claim(&store, "a", at(99)).await, []);
    let counts = store.outbox_counts("profile").await.expect("counted");
    assert_eq!(counts, OutboxCounts { pending: 1, failing: 1, unknown: 1, ..OutboxCounts::default() });
    let failures = store.failed_writes("profile", 10).await.expect("listed");
    assert_eq!((failures.len(), failures[0].state, failures[0].attempts), (1, WishState::Unknown, 1));
    assert_eq!((&*failures[0].reason, failures[0].next_at), ("answered 503", at(100)));
    let second = claim(&store, "a", at(100)).await.remove(0);
    assert_eq!((second.attempts, second.is_unsettled, second.most), (1, true, 5));
    settle(&store, "a", &second, WriteOutcome::Untried).await;
    let third = claim(&store, "a", at(100)).await.remove(0);
    assert_eq!(third.attempts, 1);
    settle(&store, "a", &third, WriteOutcome::Dead { reason: "answered 404".into() }).await;
    assert_eq!(claim(&store, "a", at(9999)).await, []);
    assert_eq!(tell(&store, number, 10.0, 200).await.wishes, 0, "it would fail again");
    let failures = store.failed_writes("profile", 10).await.expect("listed");
    assert_eq!((failures[0].state, &*failures[0].reason), (WishState::Dead, "answered 404"));
    assert_eq!(store.retry_writes("profile", at(300)).await.expect("retried"), 1);
    assert_eq!(claim(&store, "a", at(300)).await.len(), 1);
    store.close().await;
}

async fn a_claim_is_one_holders_until_it_runs_out(ground: &Ground) {
    let store = ground.open().await;
    let number = customer(&store).await;
    tell(&store, number, 10.0, 10).await;
    let first = claim(&store, "a", at(10)).await.remove(0);
    assert_eq!(claim(&store, "b", at(69)).await, []);
    let taken = claim(&store, "b", at(70)).await.remove(0);
    assert_eq!((&taken.says, taken.is_unsettled), (&first.says, true), "it may have been written");
    let landed = settle(&store, "a", &first, WriteOutcome::Applied).await;
    assert_eq!(landed, Landed { taken: 0, lost: 1 });
    assert_eq!(settle(&store, "b", &taken, WriteOutcome::Applied).await, Landed { taken: 1, lost: 0 });
    store.close().await;
}
