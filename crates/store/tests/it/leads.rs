//! Scores of leads: the order of facts, events that come again, growing old, sweeps, erasure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, Probability, SealedId, Tier};
use scoreline_store::{
    Claim, LeadFact, LeadRuling, LeadSource, LeadVerdict, PepperLayer, Profile, Rekeyed, RunningSweep, ScoreRules,
    Settled, Store, StorePlace, WishState, WriteLog, WriteOutcome,
};
use sqlx::Connection as _;

use super::ground::Ground;
use super::on_both;
use super::rows::{MINUTE, interaction, key, record};

on_both!(
    s01_two_facts_of_one_moment_are_told_apart_by_their_sequence,
    facts_of_one_batch_are_taken_in_their_order,
    an_event_that_comes_again_is_answered_as_before,
    s13_an_equal_score_is_refreshed_and_never_expires,
    s15_a_late_old_event_does_not_bring_a_stale_score_back,
    s14_a_sweep_is_taken_over_and_what_was_written_meanwhile_is_read,
    s20_an_erased_lead_leaves_nothing_and_late_events_of_it_are_ignored,
    s12_a_lead_keeps_its_row_when_the_pepper_changes,
    what_an_earlier_version_kept_of_profiles_is_kept,
    the_log_keeps_the_newest_entries,
    a_target_that_is_named_later_is_told_of_fresh_leads,
    the_best_fresh_leads_come_first,
    where_leads_stand_is_kept_and_moved,
    what_was_refused_in_a_batch_is_claimed_in_halves_behind_all_others,
);

const TARGET: &str = "contact_list:one";
const HOUR: i64 = 3_600;

fn rules() -> ScoreRules {
    ScoreRules {
        stale_after: Duration::from_hours(24),
        refresh_after: Duration::from_hours(12),
        remember: Duration::from_hours(120),
    }
}

/// Seconds after a fixed moment.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).expect("in the calendar")
}

fn fact(lead: u32, score: u8, second: i64) -> LeadFact {
    LeadFact {
        lead: key(lead),
        sealed: Some(SealedId(format!("sealed {lead}").into_bytes().into())),
        score,
        probability: Some(0.25),
        reason: "".into(),
        calculated_at: at(second),
        sequence: 0,
        source: LeadSource::Event,
        version: "".into(),
        event: None,
    }
}

async fn take(store: &Store, facts: &[LeadFact], now: i64) -> Vec<LeadRuling> {
    let targets = [TARGET.to_owned()];
    let verdicts = store.take_facts(facts, &targets, &rules(), at(now)).await.expect("taken");
    verdicts.into_iter().map(|verdict| verdict.ruling).collect()
}

async fn claim(store: &Store, now: i64) -> Vec<Claim> {
    store.claim_writes(TARGET, "a", 100, at(now), MINUTE).await.expect("claimed")
}

async fn settle(store: &Store, claim: &Claim, outcome: WriteOutcome, now: i64) {
    let landed = store.settle_writes(TARGET, "a", &[Settled { claim, outcome }], at(now)).await.expect("settled");
    assert_eq!((landed.taken, landed.lost), (1, 0));
}

/// Everything that is due is written at once; what was said, by lead.
async fn write_all(store: &Store, now: i64) -> BTreeMap<CustomerKey, String> {
    let mut said = BTreeMap::new();
    loop {
        let claims = claim(store, now).await;
        if claims.is_empty() {
            return said;
        }
        for claim in &claims {
            said.insert(claim.key, claim.says.to_string());
            settle(store, claim, WriteOutcome::Applied, now).await;
        }
    }
}

async fn s01_two_facts_of_one_moment_are_told_apart_by_their_sequence(ground: &Ground) {
    let store = ground.open().await;
    assert_eq!(take(&store, &[fact(1, 87, 0)], 1).await, [LeadRuling::Stored]);
    assert_eq!(take(&store, &[fact(1, 45, 0)], 1).await, [LeadRuling::Equal], "the first one stays");
    let next = LeadFact { sequence: 1, ..fact(1, 45, 0) };
    assert_eq!(take(&store, &[next], 1).await, [LeadRuling::Stored]);
    assert_eq!(take(&store, &[fact(1, 99, -1)], 1).await, [LeadRuling::Older]);
    assert_eq!(store.lead(&key(1)).await.expect("read").map(|lead| lead.score), Some(45));
    let claims = claim(&store, 1).await;
    assert_eq!(claims.iter().map(|claim| &*claim.says).collect::<Vec<_>>(), ["45"], "one wish of a lead");
    store.close().await;
}

async fn facts_of_one_batch_are_taken_in_their_order(ground: &Ground) {
    let store = ground.open().await;
    let facts = [fact(1, 10, 5), fact(2, 20, 5), fact(1, 11, 7), fact(1, 12, 6), fact(2, 20, 9)];
    let expected =
        [LeadRuling::Superseded, LeadRuling::Superseded, LeadRuling::Stored, LeadRuling::Older, LeadRuling::Stored];
    assert_eq!(take(&store, &facts, 10).await, expected);
    let said = write_all(&store, 10).await;
    assert_eq!(said.into_values().collect::<Vec<_>>(), ["11", "20"]);
    store.close().await;
}

async fn an_event_that_comes_again_is_answered_as_before(ground: &Ground) {
    let store = ground.open().await;
    let named = |id: u8, fact: LeadFact| LeadFact { event: Some([id; 16]), ..fact };
    let targets = [TARGET.to_owned()];
    let told =
        async |facts: &[LeadFact], now| store.take_facts(facts, &targets, &rules(), at(now)).await.expect("taken");
    let verdict = |ruling, is_repeated| LeadVerdict { ruling, is_repeated };
    let first = named(1, fact(1, 87, 10));
    let twice = told(&[first.clone(), first.clone()], 20).await;
    assert_eq!(twice, [verdict(LeadRuling::Stored, false), verdict(LeadRuling::Stored, true)]);
    let old = named(2, fact(1, 45, 5));
    assert_eq!(told(std::slice::from_ref(&old), 20).await, [verdict(LeadRuling::Older, false)]);
    told(&[fact(1, 50, 30)], 30).await;
    store.close().await;
    // After a restart too, and whatever is kept by then.
    let store = ground.open().await;
    let again = store.take_facts(&[first, old], &targets, &rules(), at(40)).await.expect("taken");
    assert_eq!(again, [verdict(LeadRuling::Stored, true), verdict(LeadRuling::Older, true)]);
    assert_eq!(store.lead(&key(1)).await.expect("read").map(|lead| lead.score), Some(50));
    assert_eq!(store.forget_events(at(119 * HOUR)).await.expect("forgotten"), 0);
    assert_eq!(store.forget_events(at(121 * HOUR)).await.expect("forgotten"), 2);
    store.close().await;
}

async fn grow_old(store: &Store, now: i64) -> (u64, u64) {
    let lease = store.lease("expire", "a", MINUTE, at(now)).await.expect("asked").expect("free");
    let aged = store.grow_old(TARGET, &rules(), 10 * MINUTE, at(now), 100, &lease).await.expect("aged");
    store.release(&lease).await.expect("released");
    (aged.refreshed, aged.stale)
}

async fn s13_an_equal_score_is_refreshed_and_never_expires(ground: &Ground) {
    let store = ground.open().await;
    take(&store, &[fact(1, 87, 0)], 0).await;
    assert_eq!(write_all(&store, 0).await.len(), 1);
    let mut writes = 0;
    for hour in 1..=60 {
        let rulings = take(&store, &[fact(1, 87, hour * HOUR)], hour * HOUR).await;
        assert_eq!(rulings, [LeadRuling::Unchanged], "{hour}");
        grow_old(&store, hour * HOUR).await;
        let said = write_all(&store, hour * HOUR).await;
        writes += said.len();
        assert!(said.values().all(|says| says == "87"), "{hour}: {said:?}");
    }
    assert_eq!(writes, 5, "every 12 hours");
    // A score that came in between the two: it is told before the old time runs out.
    take(&store, &[fact(2, 90, 0)], 0).await;
    write_all(&store, 0).await;
    assert_eq!(take(&store, &[fact(2, 90, 11 * HOUR)], 11 * HOUR).await, [LeadRuling::Unchanged]);
    assert_eq!(write_all(&store, 11 * HOUR).await.len(), 0);
    let soon = 24 * HOUR - 300;
    assert_eq!(grow_old(&store, soon).await.0, 1, "refreshed");
    assert_eq!(write_all(&store, soon).await.get(&key(2)).map(String::as_str), Some("90"));
    store.close().await;
}

async fn s15_a_late_old_event_does_not_bring_a_stale_score_back(ground: &Ground) {
    let store = ground.open().await;
    take(&store, &[fact(1, 87, 0)], 0).await;
    write_all(&store, 0).await;
    assert_eq!(grow_old(&store, 24 * HOUR).await, (0, 0), "not before its time");
    assert_eq!(grow_old(&store, 24 * HOUR + 1).await, (0, 1));
    assert_eq!(write_all(&store, 24 * HOUR + 1).await.into_values().collect::<Vec<_>>(), ["0"]);
    assert_eq!(grow_old(&store, 25 * HOUR).await, (0, 0), "once");
    let now = 25 * HOUR;
    assert_eq!(take(&store, &[fact(1, 99, 5 * HOUR)], now).await, [LeadRuling::Stale]);
    assert_eq!(take(&store, &[fact(1, 99, 24 * HOUR)], now).await, [LeadRuling::Stale], "from before it was stale");
    assert_eq!(take(&store, &[fact(9, 50, -1)], now).await, [LeadRuling::Stale], "too old to count for anybody");
    assert!(store.lead(&key(9)).await.expect("read").is_none());
    assert_eq!(write_all(&store, now).await.len(), 0);
    assert_eq!(take(&store, &[fact(1, 87, now)], now).await, [LeadRuling::Stored], "an equal one restores it");
    assert_eq!(write_all(&store, now).await.into_values().collect::<Vec<_>>(), ["87"]);
    store.close().await;
}

async fn s14_a_sweep_is_taken_over_and_what_was_written_meanwhile_is_read(ground: &Ground) {
    let store = ground.open().await;
    let many: Vec<_> = (0..20_u32).map(|lead| fact(lead, 80, 0)).collect();
    take(&store, &many, 0).await;
    write_all(&store, 0).await;
    let now = 24 * HOUR + 60;
    assert_eq!(store.count_stale(TARGET, &rules(), at(now), 15).await.expect("counted"), 15);
    let lease = store.lease("expire", "a", MINUTE, at(now)).await.expect("asked").expect("free");
    let mut sweep = RunningSweep { started_at: at(now), cutoff: at(60), job: String::new() };
    store.begin_sweep(TARGET, &sweep, &lease).await.expect("written down");
    assert_eq!(store.sweep_of(TARGET).await.expect("read"), Some(sweep.clone()));
    "job-7".clone_into(&mut sweep.job);
    store.begin_sweep(TARGET, &sweep, &lease).await.expect("written down");
    // Two leads are fresh again while it runs; the sweep may have come after their writes.
    take(&store, &[fact(3, 85, now), fact(4, 80, now)], now).await;
    assert_eq!(write_all(&store, now + 1).await.len(), 2);
    let mut swept = 0;
    loop {
        let part = store.end_sweep(TARGET, &sweep, at(now + 5), 7, &lease).await.expect("taken over");
        swept += part;
        if part == 0 {
            break;
        }
    }
    assert_eq!(swept, 18);
    assert_eq!(store.sweep_of(TARGET).await.expect("read"), None);
    let read: BTreeMap<_, _> = claim(&store, now + 6).await.into_iter().map(|it| (it.key, it.is_unsettled)).collect();
    assert_eq!(read, BTreeMap::from([(key(3), true), (key(4), true)]));
    let counts = store.outbox_counts(TARGET).await.expect("counted");
    assert_eq!((counts.applied, counts.unknown), (18, 2));
    assert_eq!(grow_old(&store, now + 7).await, (0, 0), "the sweep did it");
    store.close().await;
}

async fn s20_an_erased_lead_leaves_nothing_and_late_events_of_it_are_ignored(ground: &Ground) {
    let store = ground.open().await;
    take(&store, &[fact(1, 87, 0), fact(2, 50, 0)], 0).await;
    let claims = claim(&store, 0).await;
    let log = WriteLog { claim: &claims[0], previous: "12".to_owned() };
    store.log_writes(TARGET, &[log], at(0)).await.expect("logged");
    assert!(store.erase_customers(&[key(1)]).await.expect("erased") >= 3);
    let of_one = claims.iter().find(|claim| claim.key == key(1)).expect("claimed");
    let late = Settled { claim: of_one, outcome: WriteOutcome::Applied };
    assert_eq!(store.settle_writes(TARGET, "a", &[late], at(1)).await.expect("settled").lost, 1);
    let late = WriteLog { claim: of_one, previous: "12".to_owned() };
    store.log_writes(TARGET, &[late], at(1)).await.expect("nobody to log of");
    assert_eq!(take(&store, &[fact(1, 90, 5)], 5).await, [LeadRuling::Erased]);
    assert!(store.lead(&key(1)).await.expect("read").is_none());
    assert!(store.lead_log(&key(1)).await.expect("read").is_empty());
    assert!(store.outbox_of_lead(&key(1)).await.expect("read").is_empty());
    assert!(store.lead(&key(2)).await.expect("read").is_some());
    store.close().await;
}

async fn s12_a_lead_keeps_its_row_when_the_pepper_changes(ground: &Ground) {
    let store = ground.open().await;
    let layer = |id: &str, sealed: Option<&[u8]>| PepperLayer { id: id.to_owned(), sealed: sealed.map(<[u8]>::to_vec) };
    let (one, two) = (layer("one", None), [layer("one", Some(b"sealed")), layer("two", None)]);
    assert!(store.keep_peppers(&[], std::slice::from_ref(&one)).await.expect("kept"));
    take(&store, &[fact(1, 87, 0)], 0).await;
    assert!(store.keep_peppers(&[one], &two).await.expect("kept"));
    assert_eq!(store.keys_to_change().await.expect("counted"), 1, "a lead is kept by its key, too");
    let flipped = |old: &CustomerKey| CustomerKey::from_digest(old.as_bytes().map(|byte| !byte));
    let anew = |sealed: &SealedId| SealedId([b"anew ", &*sealed.0].concat().into());
    let change = |old: CustomerKey, sealed: Option<&SealedId>| Rekeyed { key: flipped(&old), sealed: sealed.map(anew) };
    assert_eq!(store.change_keys(10, change).await.expect("changed"), 0);
    assert!(store.lead(&key(1)).await.expect("read").is_none());
    // The same lead under its new key: no second row that would fight over one contact.
    let next = LeadFact { lead: flipped(&key(1)), sealed: None, ..fact(1, 45, 5) };
    assert_eq!(take(&store, &[next], 5).await, [LeadRuling::Stored]);
    let claims = claim(&store, 5).await;
    assert_eq!(claims.iter().map(|claim| (claim.key, &*claim.says)).collect::<Vec<_>>(), [(flipped(&key(1)), "45")]);
    assert_eq!(claims[0].sealed.as_ref().map(|sealed| &*sealed.0), Some(&b"anew sealed 1"[..]));
    store.close().await;
}

/// Runs statements on the database itself, while no store is open.
async fn run(ground: &Ground, statements: &[&'static str]) {
    match &ground.settings.place {
        StorePlace::Postgres(url) => {
            let url = secrecy::ExposeSecret::expose_secret(url);
            let mut connection = sqlx::PgConnection::connect(url).await.expect("reached");
            for sql in statements {
                sqlx::query(*sql).execute(&mut connection).await.expect("executed");
            }
            connection.close().await.expect("closed");
        }
        StorePlace::Sqlite(_) | StorePlace::Memory => {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(ground.path());
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("opened");
            for sql in statements {
                sqlx::query(*sql).execute(&mut connection).await.expect("executed");
            }
            connection.close().await.expect("closed");
        }
    }
}

/// The tables as they were before leads, and what a customer's profiles were in them.
const EARLIER: [&str; 8] = [
    "DELETE FROM _sqlx_migrations WHERE version = 8",
    "DROP TABLE wishes",
    "DROP TABLE leads",
    "DROP TABLE lead_log",
    "DROP TABLE events_seen",
    "DROP TABLE sweeps",
    "CREATE TABLE profiles (target TEXT NOT NULL, customer BIGINT NOT NULL, seq BIGINT NOT NULL, \
     value_usd DOUBLE PRECISION NOT NULL, tier TEXT NOT NULL, confidence DOUBLE PRECISION, risk DOUBLE PRECISION, \
     calculated_ms BIGINT NOT NULL, state TEXT NOT NULL, applied_seq BIGINT NOT NULL, applied_value_usd DOUBLE PRECISION, \
     applied_tier TEXT, applied_confidence DOUBLE PRECISION, applied_risk DOUBLE PRECISION, attempts BIGINT NOT NULL, \
     next_ms BIGINT NOT NULL, last_error TEXT, inflight_seq BIGINT, lease_holder TEXT, lease_until_ms BIGINT)",
    "INSERT INTO profiles VALUES \
     ('profile', 1, 3, 932.22, 'High_Value', 0.25, NULL, 1790000000000, 'applied', 3, 932.22, 'High_Value', 0.25, NULL, 0, 0, \
      NULL, NULL, NULL, NULL), \
     ('profile', 2, 1, 25.0, 'Low_Value', NULL, 0.5, 1790000000000, 'pending', 0, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, \
      NULL, NULL), \
     ('profile', 3, 1, 100.0, 'Medium_Value', NULL, NULL, 1790000000000, 'pending', 0, NULL, NULL, NULL, NULL, 2, 0, \
      'answered 503', NULL, NULL, NULL), \
     ('profile', 4, 1, 7.5, 'Low_Value', NULL, NULL, 1790000000000, 'dead', 0, NULL, NULL, NULL, NULL, 1, 0, 'answered 404', \
      NULL, NULL, NULL)",
];

async fn what_an_earlier_version_kept_of_profiles_is_kept(ground: &Ground) {
    let store = ground.open().await;
    record(&store, (0..4).map(|number| interaction(number, number, i64::from(number)))).await;
    store.close().await;
    run(ground, &EARLIER).await;
    let store = ground.open().await;
    let claims = store.claim_writes("profile", "a", 10, at(0), MINUTE).await.expect("claimed");
    let mut said: Vec<_> = claims
        .iter()
        .map(|claim| {
            let profile = Profile::read(&claim.says, claim.calculated_at).expect("a profile");
            (profile.value_usd, profile.tier, profile.confidence, profile.risk, claim.is_unsettled)
        })
        .collect();
    said.sort_by(|one, other| one.0.total_cmp(&other.0));
    let expected = [(25.0, Tier::Low, None, Some(0.5), false), (100.0, Tier::Medium, None, None, true)];
    assert_eq!(said, expected, "one that may have been written is read first");
    let counts = store.outbox_counts("profile").await.expect("counted");
    assert_eq!((counts.applied, counts.pending, counts.dead), (1, 2, 1));
    let failures = store.failed_writes("profile", 10).await.expect("read");
    assert!(failures.iter().any(|failure| &*failure.reason == "answered 404"), "{failures:?}");
    store.close().await;
}

async fn the_log_keeps_the_newest_entries(ground: &Ground) {
    let store = ground.open().await;
    for step in 0..25_u8 {
        take(&store, &[fact(1, 1 + step, i64::from(step))], i64::from(step)).await;
    }
    let claims = claim(&store, 30).await;
    let log = WriteLog { claim: &claims[0], previous: "n/a".to_owned() };
    store.log_writes(TARGET, &[log], at(30)).await.expect("logged");
    let log = store.lead_log(&key(1)).await.expect("read");
    assert_eq!(log.len(), 10);
    assert_eq!((&*log[0].target, &*log[0].previous, &*log[0].says, &*log[0].cause), (TARGET, "n/a", "25", "push"));
    let facts: Vec<_> = log[1..].iter().map(|entry| (&*entry.previous, &*entry.says, &*entry.cause)).collect();
    assert_eq!(facts[0], ("24", "25", "event"));
    assert_eq!(facts[8], ("16", "17", "event"));
    store.close().await;
}

async fn a_target_that_is_named_later_is_told_of_fresh_leads(ground: &Ground) {
    let store = ground.open().await;
    store.take_facts(&[fact(1, 87, 0), fact(2, 50, 30 * HOUR)], &[], &rules(), at(0)).await.expect("taken");
    let now = 31 * HOUR;
    let lease = store.lease("expire", "a", MINUTE, at(now)).await.expect("asked").expect("free");
    let told = async || store.introduce_leads(TARGET, &rules(), at(now), 10, &lease).await.expect("told");
    assert_eq!((told().await, told().await), (1, 0));
    assert_eq!(write_all(&store, now).await, BTreeMap::from([(key(2), "50".to_owned())]));
    store.close().await;
}

async fn the_best_fresh_leads_come_first(ground: &Ground) {
    let store = ground.open().await;
    let facts = [fact(1, 90, -HOUR), fact(2, 85, 0), fact(3, 85, 60), fact(4, 10, 0), fact(5, 84, 0)];
    take(&store, &facts, 60).await;
    let next = async |stale, least, limit| {
        let next = store.next_leads(at(stale), least, limit).await.expect("read");
        next.into_iter().map(|lead| (lead.lead, lead.kept.score)).collect::<Vec<_>>()
    };
    assert_eq!(next(-HOUR, 1, 4).await, [(key(3), 85), (key(2), 85), (key(5), 84), (key(4), 10)], "one is stale");
    assert_eq!(next(-2 * HOUR, 85, 10).await, [(key(1), 90), (key(3), 85), (key(2), 85)]);
    let kept = store.lead(&key(2)).await.expect("read").expect("kept");
    assert_eq!(store.leads_before(&kept, at(-2 * HOUR)).await.expect("counted"), 2);
    assert_eq!(store.lead_counts(at(-HOUR)).await.expect("counted"), (4, 1));
    let likelier = LeadFact { probability: Some(0.5), ..fact(6, 85, -10) };
    let told = LeadFact { probability: None, ..fact(7, 85, 90) };
    take(&store, &[likelier, told], 90).await;
    let expected = [(key(6), 85), (key(3), 85), (key(2), 85), (key(7), 85)];
    assert_eq!(next(-HOUR, 85, 10).await, expected, "of one score the likeliest first");
    let told = store.lead(&key(7)).await.expect("read").expect("kept");
    assert_eq!(store.leads_before(&told, at(-HOUR)).await.expect("counted"), 3);
    store.close().await;
}

async fn where_leads_stand_is_kept_and_moved(ground: &Ground) {
    let store = ground.open().await;
    let lead = |p: f64| Probability::clamped(p).expect("a number");
    assert_eq!(store.lead_places(&[1; 32]).await.expect("read"), None);
    let moved = store.move_lead_places(&[1; 32], at(0), |places| places.take(&[lead(0.1); 400])).await.expect("moved");
    assert_eq!(moved.priority(lead(0.2), 1), 100);
    // What another replica has scored comes on top.
    let moved = store.move_lead_places(&[1; 32], at(1), |places| places.take(&[lead(0.3); 400])).await.expect("moved");
    assert!(moved.priority(lead(0.2), 1) <= 2);
    let kept = store.lead_places(&[1; 32]).await.expect("read").expect("kept");
    assert_eq!(kept.priority(lead(0.3), 1), moved.priority(lead(0.3), 1));
    assert_eq!(store.lead_places(&[2; 32]).await.expect("read"), None);
    // A version that has not served for months is forgotten.
    store.move_lead_places(&[2; 32], at(91 * 24 * HOUR), |_| ()).await.expect("moved");
    assert_eq!(store.lead_places(&[1; 32]).await.expect("read"), None);
    store.close().await;
}

async fn what_was_refused_in_a_batch_is_claimed_in_halves_behind_all_others(ground: &Ground) {
    let store = ground.open().await;
    let many: Vec<_> = (0..8).map(|lead| fact(lead, 80, 0)).collect();
    take(&store, &many, 0).await;
    let all = claim(&store, 0).await;
    assert_eq!(all.len(), 8);
    for claim in &all {
        settle(&store, claim, WriteOutcome::Refused { reason: "answered 400".into(), most: 4 }, 0).await;
    }
    take(&store, &[fact(9, 50, 0)], 1).await;
    let new = claim(&store, 1).await;
    assert_eq!(new.iter().map(|claim| claim.key).collect::<Vec<_>>(), [key(9)], "not beside a suspect");
    let (one, other) = (claim(&store, 1).await, claim(&store, 1).await);
    assert_eq!((one.len(), other.len()), (4, 4));
    assert!(one.iter().all(|claim| claim.most == 4 && claim.attempts == 0));
    let counts = store.outbox_counts(TARGET).await.expect("counted");
    assert_eq!((counts.pending, counts.failing), (9, 8));
    for claim in &one {
        settle(&store, claim, WriteOutcome::Applied, 1).await;
    }
    assert_eq!(store.outbox_of_lead(&key(0)).await.expect("read")[0].state, WishState::Applied);
    store.close().await;
}

/// One step of a lead's life.
#[derive(Clone, Debug)]
enum Step {
    Fact { lead: u32, score: u8, age: i64, sequence: u64 },
    Wait { seconds: i64 },
    Push,
    GrowOld,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fact = (0..3_u32, 1..=100_u8, prop_oneof![0..120_i64, 0..200_000_i64], 0..3_u64)
        .prop_map(|(lead, score, age, sequence)| Step::Fact { lead, score, age, sequence });
    let wait = prop_oneof![1..600_i64, 3_600..100_000_i64].prop_map(|seconds| Step::Wait { seconds });
    prop::collection::vec(prop_oneof![4 => fact, 3 => wait, 3 => Just(Step::Push), 2 => Just(Step::GrowOld)], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever comes in which order: what is kept is the newest fact that counted, and once all is pushed the target says it,
    /// or 0 when it is stale.
    #[test]
    fn a_target_says_the_newest_fact_or_nothing(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let ground = Ground::sqlite();
            let store = ground.open().await;
            let mut now = 0;
            let mut newest: HashMap<u32, (i64, u64, u8)> = HashMap::new();
            let mut target: BTreeMap<CustomerKey, String> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Wait { seconds } => now += seconds,
                    Step::Push => target.extend(write_all(&store, now).await),
                    Step::GrowOld => _ = grow_old(&store, now).await,
                    Step::Fact { lead, score, age, sequence } => {
                        let told = LeadFact { sequence, ..fact(lead, score, now - age) };
                        let ruling = take(&store, &[told], now).await[0];
                        let known = newest.get(&lead).copied();
                        let day = 24 * HOUR;
                        let counts = age <= day
                            && known.is_none_or(|(at, order, _)| {
                                let is_stale = now - at > day;
                                (!is_stale || now - age > at + day) && (now - age, sequence) > (at, order)
                            });
                        let is_taken = matches!(ruling, LeadRuling::Stored | LeadRuling::Unchanged);
                        assert_eq!(is_taken, counts, "{ruling:?} {known:?}");
                        if counts {
                            newest.insert(lead, (now - age, sequence, score));
                        }
                    }
                }
            }
            grow_old(&store, now).await;
            target.extend(write_all(&store, now).await);
            for (lead, (at, _, score)) in newest {
                let kept = store.lead(&key(lead)).await.expect("read").expect("kept");
                assert_eq!(kept.score, score);
                let expected = if now - at > 24 * HOUR { "0".to_owned() } else { score.to_string() };
                assert_eq!(target.get(&key(lead)), Some(&expected), "lead {lead} of {at} at {now}");
            }
            store.close().await;
        });
    }
}
