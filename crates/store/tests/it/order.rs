//! Whatever the order and however often versions of interactions are told, the same is kept.

use scoreline_domain::{Channel, CustomerKey, Interaction, InteractionId, LabelId, Sentiment};
use scoreline_store::{History, Store};

use super::ground::Ground;
use super::on_both;
use super::rows::{at, record};

on_both!(order_and_repetition_do_not_matter);

const CASES: u8 = 40;
const TELLINGS: u8 = 3;
const CUSTOMERS: u8 = 3;

async fn order_and_repetition_do_not_matter(ground: &Ground) {
    let store = ground.open().await;
    for case in 0..CASES {
        let mut random = fastrand::Rng::with_seed(u64::from(case));
        let versions: Vec<_> = (0..random.usize(1..24)).map(|_| version(&mut random)).collect();
        let mut kept = Vec::new();
        for telling in 0..TELLINGS {
            // Each telling has customers and interactions of its own, in the same order as the others'.
            let mut told: Vec<_> = versions.iter().map(|version| renamed(version, case, telling)).collect();
            for _ in 0..random.usize(0..10) {
                told.push(told[random.usize(..versions.len())].clone());
            }
            random.shuffle(&mut told);
            let mut rest = &told[..];
            while !rest.is_empty() {
                let (some, more) = rest.split_at(random.usize(1..=rest.len()));
                record(&store, some.to_vec()).await;
                rest = more;
            }
            kept.push(state(&store, case, telling).await);
        }
        assert!(kept.windows(2).all(|two| two[0] == two[1]), "case {case}: {versions:#?}\nkept {kept:#?}");
    }
    store.close().await;
}

/// Few ids, ends and values: they meet.
fn version(random: &mut fastrand::Rng) -> Interaction {
    let labels = ["a", "b", "c"];
    let mut id = [0; 16];
    id[15] = random.u8(0..4);
    let mut customer = [0; 32];
    customer[31] = random.u8(0..CUSTOMERS);
    let score = f64::from(random.i8(-2..=2)) / 2.0;
    Interaction {
        id: InteractionId(id),
        customer: CustomerKey::from_digest(customer),
        start: at(random.i64(0..2)),
        end: random.bool().then(|| at(random.i64(2..5))),
        channel: Channel::ALL[random.usize(..Channel::ALL.len())],
        handle_ms: random.bool().then(|| random.u32(0..3)),
        sentiment: random.bool().then(|| Sentiment::new(score).expect("within -1..1")),
        topics: labels.iter().filter(|_| random.bool()).map(|label| (*label).into()).collect(),
        queue: random.bool().then(|| labels[random.usize(..labels.len())].into()),
    }
}

fn renamed(version: &Interaction, case: u8, telling: u8) -> Interaction {
    let mut id = version.id.0;
    id[..2].copy_from_slice(&[case, telling]);
    Interaction {
        id: InteractionId(id),
        customer: customer(version.customer.as_bytes()[31], case, telling),
        ..version.clone()
    }
}

fn customer(number: u8, case: u8, telling: u8) -> CustomerKey {
    let mut digest = [1; 32];
    (digest[0], digest[1], digest[31]) = (case, telling, number);
    CustomerKey::from_digest(digest)
}

type Kept = (i64, i64, Channel, Option<u32>, Option<Sentiment>, Option<LabelId>, Vec<LabelId>);

async fn state(store: &Store, case: u8, telling: u8) -> Vec<Vec<Kept>> {
    let mut state = Vec::new();
    for number in 0..CUSTOMERS {
        let history = store.history(&customer(number, case, telling)).await.expect("read");
        state.push(history.map(|history| rows(&history)).unwrap_or_default());
    }
    state
}

fn rows(history: &History) -> Vec<Kept> {
    let row = |one: &scoreline_store::StoredInteraction| {
        let topics = history.topics(one).to_vec();
        (one.start_ms, one.end_ms, one.channel, one.handle_ms, one.sentiment, one.queue, topics)
    };
    history.interactions.iter().map(row).collect()
}
