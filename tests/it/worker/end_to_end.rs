//! What is on the platform arrives in the store, what follows from it on the profiles, and a second round changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, Estimate, InteractionId, InteractionRow, LabelId, Probability};
use scoreline_engine::features::interactions::QueueSentiment;
use scoreline_engine::features::{CustomerFold, catalogue_row};
use scoreline_simulator::{Expected, FaultPlan, Party, SimulatorSettings};
use scoreline_store::{Store, WishState};

use super::line::{Line, dump};
use crate::desk::{Desk, small};
use crate::ground::Ground;

/// A contact centre of this many customers whose platform allows many requests.
pub fn centre(customers: u32) -> Desk {
    let mut settings = SimulatorSettings { customers, ..small() };
    settings.limits.requests = 1_000_000;
    let mut desk = Desk::open(settings);
    desk.settings.requests_per_minute = 1_000_000;
    desk
}

async fn there_and_back(desk: &Desk, store: &Store) {
    let line = Line::new(desk, store, "one");
    let (extracted, folded, rescored, written) = line.run().await;
    let truth = desk.truth();
    assert_eq!((extracted.written.new, extracted.missing), (truth.len() as u64, 0));
    let customers: BTreeMap<CustomerKey, Vec<&Expected>> = by_customer(desk, truth.values());
    assert_eq!(folded.customers, customers.len() as u64);
    assert_eq!(folded.interactions, truth.len() as u64);
    assert_eq!((rescored.customers, rescored.failed), (customers.len() as u64, 0));
    assert_eq!((written.written, written.failed, written.dead), (customers.len() as u64, 0, 0));
    features_are_those_of_the_truth(desk, store, &customers).await;
    profiles_say_what_the_store_says(desk, store).await;

    // Time stands still and nothing is new: nothing is told, computed, scored or written again.
    let (kept, writes) = (dump(store, desk.simulator.now()).await, desk.simulator.writes().len());
    let (extracted, folded, rescored, written) = line.run().await;
    assert_eq!((extracted.written.new, extracted.written.changed), (0, 0));
    assert_eq!((folded.customers, rescored.customers, written.written), (0, 0, 0));
    assert_eq!(dump(store, desk.simulator.now()).await, kept);
    assert_eq!(desk.simulator.writes().len(), writes);

    // Another model says something else of everybody.
    line.change_model();
    let (rescored, written) = (line.score().await, line.write().await);
    assert_eq!(rescored.customers, customers.len() as u64);
    assert_eq!(written.written, rescored.wishes);
    assert!(rescored.wishes * 2 > rescored.customers, "{rescored:?}");
    profiles_say_what_the_store_says(desk, store).await;
}

fn by_customer<'a>(desk: &Desk, truth: impl Iterator<Item = &'a Expected>) -> BTreeMap<CustomerKey, Vec<&'a Expected>> {
    let mut customers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for expected in truth {
        let Party::Contact { id, .. } = &expected.party else { continue };
        customers.entry(desk.hasher().key(id)).or_default().push(expected);
    }
    customers
}

/// Folded from the platform's own truth, with labels numbered by this test.
async fn features_are_those_of_the_truth(
    desk: &Desk,
    store: &Store,
    customers: &BTreeMap<CustomerKey, Vec<&Expected>>,
) {
    let mut labels: BTreeMap<&str, LabelId> = BTreeMap::new();
    let all = || customers.values().flatten();
    for text in all().flat_map(|expected| expected.topics.iter().chain(&expected.queue)) {
        let next = LabelId(labels.len() as u32);
        labels.entry(text).or_insert(next);
    }
    let topics =
        |expected: &Expected| -> Vec<LabelId> { expected.topics.iter().map(|topic| labels[&**topic]).collect() };
    let queue = |expected: &Expected| expected.queue.as_ref().map(|queue| labels[&**queue]);
    let as_of = desk.simulator.now();
    let mut queues = QueueSentiment::default();
    for expected in all() {
        if let (Some(queue), Some(sentiment)) = (queue(expected), expected.sentiment) {
            queues.observe(queue, sentiment);
        }
    }
    for (customer, interactions) in customers {
        let mut fold = CustomerFold::as_of(as_of);
        for expected in interactions {
            let interaction = InteractionRow {
                id: None::<InteractionId>,
                start_ms: expected.start.as_millisecond(),
                end_ms: expected.end.map(Timestamp::as_millisecond),
                channel: expected.channel,
                handle_ms: expected.handle_ms,
                sentiment: expected.sentiment,
                topics: &topics(expected),
                queue: queue(expected),
            };
            fold.interaction(&interaction).expect("ends after it starts");
        }
        let vector = fold.vector(&queues);
        let kept = store.features_of(customer).await.expect("read").expect("kept");
        let mut row = catalogue_row::from_bytes(&kept.vector).expect("of this catalogue");
        // Where nothing was analysed, wrap-up codes stand in for topics; the truth knows topics alone.
        if interactions.iter().any(|expected| expected.topics.is_empty()) {
            let topics = CATALOGUE.iter().position(|feature| feature.name == "topic_diversity").expect("catalogued");
            row[topics] = vector.values[topics];
        }
        // The means of several queues are summed in the order of their numbers, which are others here.
        let mean = CATALOGUE.iter().position(|feature| feature.name == "sentiment_score_avg").expect("catalogued");
        if vector.depends_on_queues && (row[mean] - vector.values[mean]).abs() < 1e-12 {
            row[mean] = vector.values[mean];
        }
        assert!(catalogue_row::same(&row, &vector.values), "{customer:?}: {row:?} and {:?}", vector.values);
        assert_eq!((kept.as_of, kept.next_change_at), (vector.as_of, vector.next_change_at));
    }
}

/// The contacts that profiles are written to, each with the ids that its customers are known by: several after a merge.
fn contacts(desk: &Desk) -> BTreeMap<String, BTreeSet<String>> {
    let mut contacts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for expected in desk.truth().into_values() {
        let Party::Contact { id, canonical } = expected.party else { continue };
        contacts.entry(canonical).or_default().insert(id);
    }
    contacts
}

async fn profiles_say_what_the_store_says(desk: &Desk, store: &Store) {
    let (profiles, contacts) = (desk.simulator.profiles(), contacts(desk));
    assert!(profiles.keys().eq(contacts.keys()), "{} profiles, {} contacts", profiles.len(), contacts.len());
    for (contact, fields) in profiles {
        let mut scores = Vec::new();
        for id in &contacts[&contact] {
            scores.push(store.score_of(&desk.hasher().key(id)).await.expect("read").expect("scored").estimate);
        }
        assert!(scores.iter().any(|score| says(&fields, score)), "{contact}: {fields:?}, {scores:?}");
    }
}

fn says(fields: &serde_json::Map<String, serde_json::Value>, score: &Estimate) -> bool {
    let close = |name: &str, value: Option<f64>, within: f64| match (fields.get(name), value) {
        (Some(said), Some(value)) => said.as_f64().is_some_and(|said| (said - value).abs() <= within + 1e-9),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    fields["clv_tier_text"] == score.tier.as_str()
        && close("predicted_clv_value_number", Some(score.value), 0.005)
        && close("confidence_score_number", score.confidence.map(Probability::get), 0.000_05)
        && close("risk_score_number", score.risk.map(Probability::get), 0.000_05)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_becomes_profiles_and_a_second_round_writes_nothing() {
    let (ground, desk) = (Ground::sqlite(), centre(150));
    there_and_back(&desk, &ground.open().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_becomes_profiles_through_postgresql_too() {
    let (ground, desk) = (Ground::postgres("there_and_back").await, centre(60));
    let store = ground.open().await;
    there_and_back(&desk, &store).await;
    store.close().await;
    ground.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two thousand customers: cargo test --workspace --test it worker::end_to_end -- --ignored"]
async fn two_thousand_customers_there_and_back() {
    let (ground, desk) = (Ground::sqlite(), centre(2000));
    there_and_back(&desk, &ground.open().await).await;
}

/// Whatever the platform does on the way: the end is the same as on a good day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_change_nothing_but_the_time_it_takes() {
    let (ground, desk) = (Ground::sqlite(), centre(60));
    let faults = "[[fault]]\npath = \"/api/v2/analytics/conversations/details/query\"\nkind = \"repeat_rows\"\nrows = 3\nevery = 2\n\
                  [[fault]]\npath = \"/api/v2/analytics/conversations/details/jobs\"\nmethod = \"POST\"\nkind = \"job_expired\"\non = [1]\n\
                  [[fault]]\npath = \"/api/v2/externalcontacts/contacts/{contactId}\"\nmethod = \"PATCH\"\nkind = \"status\"\nstatus = 400\non = [3, 5]\n";
    desk.simulator.set_faults(FaultPlan::parse(faults).expect("a plan"));
    let store = ground.open().await;
    let line = Line::new(&desk, &store, "one");
    let (extracted, .., written) = line.run().await;
    assert_eq!(extracted.written.new, desk.truth().len() as u64);
    assert_eq!((written.dead, written.failed), (2, 0), "refused for good, with the reason kept");
    let target = line.rescore.target.expect("a target");
    let failures = store.failed_writes(target, 10).await.expect("read");
    assert_eq!(failures.len(), 2);
    assert!(
        failures.iter().all(|failure| failure.state == WishState::Dead && failure.reason.contains("400")),
        "{failures:?}"
    );
    // Asked for again, they are written.
    desk.simulator.set_faults(FaultPlan::default());
    assert_eq!(store.retry_writes(target, desk.simulator.now()).await.expect("asked"), 2);
    assert_eq!(line.write().await.written, 2);
    assert_eq!(store.outbox_counts(target).await.expect("counted").dead, 0);
}

/// An outage while writing leaves everything waiting with its reason, and costs those that were not tried nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_keeps_every_write_for_later() {
    let (ground, desk) = (Ground::sqlite(), centre(30));
    let store = ground.open().await;
    let line = Line::new(&desk, &store, "one");
    line.extract().await;
    line.fold().await;
    let rescored = line.score().await;
    let faults =
        "[[fault]]\npath = \"/api/v2/externalcontacts/contacts/{contactId}\"\nkind = \"status\"\nstatus = 503\n";
    desk.simulator.set_faults(FaultPlan::parse(faults).expect("a plan"));
    let down = line.write_back.run(|_| ()).await.expect_err("nobody takes anything");
    assert!(down.to_string().contains("503"), "{down}");
    let target = line.rescore.target.expect("a target");
    let counts = store.outbox_counts(target).await.expect("counted");
    assert_eq!((counts.pending, counts.dead, counts.applied), (rescored.wishes, 0, 0));
    assert_eq!(counts.failing, 0, "nothing was sent that may have changed a profile: {counts:?}");
    let asked = || desk.simulator.log().iter().filter(|logged| logged.template.contains("/contacts/")).count();
    let before = asked();
    let paused = line.write_back.run(|_| ()).await.expect_err("the target pauses");
    assert!(paused.to_string().contains("503") && asked() == before, "{paused}");
    desk.simulator.set_faults(FaultPlan::default());
    desk.simulator.advance(Duration::from_mins(3));
    assert_eq!(line.write().await.written, rescored.wishes);
    assert!(desk.simulator.profiles().keys().eq(contacts(&desk).keys()));
}

/// A tier that a person set on the platform is replaced by the next score, and counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_edited_on_the_platform_is_seen_when_it_is_written_once_more() {
    let (ground, desk) = (Ground::sqlite(), centre(30));
    let store = ground.open().await;
    let line = Line::new(&desk, &store, "one");
    line.run().await;
    // A contact that others were merged into is written for each of them.
    let shared: Vec<_> =
        desk.simulator.merged().map(|(customer, _)| desk.simulator.contact(customer).to_string()).collect();
    let edited = desk.simulator.profiles().into_keys().find(|id| !shared.contains(id)).expect("a profile");
    let contact = uuid::Uuid::try_parse(&edited).expect("an id");
    desk.simulator.edit_contact(contact, "clv_tier_text", "Platinum".into());
    line.change_model();
    line.score().await;
    let written = line.write().await;
    let may_look_so = 1 + shared.len() as u64;
    assert!(written.written > 10 && (1..=may_look_so).contains(&written.edited), "{written:?}");
    assert_ne!(desk.simulator.profiles()[&edited]["clv_tier_text"], "Platinum");
}

/// Days pass: recencies grow without anything new, and who changed is written again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_alone_changes_features_scores_and_profiles() {
    let (ground, desk) = (Ground::sqlite(), centre(40));
    let store = ground.open().await;
    let line = Line::new(&desk, &store, "one");
    let (_, folded, ..) = line.run().await;
    desk.simulator.advance(Duration::from_hours(25));
    let again = line.fold().await;
    assert_eq!(again.customers, folded.customers, "a day later every recency is another");
    let (rescored, written) = (line.score().await, line.write().await);
    assert_eq!(rescored.customers, folded.customers);
    assert!(rescored.wishes > 0 && written.written == rescored.wishes, "{rescored:?} {written:?}");
}
