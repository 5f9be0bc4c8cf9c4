//! Rows to put into a store, and what is read back.

use std::time::Duration;

use scoreline_domain::time::Timestamp;
use scoreline_domain::{Channel, CustomerKey, ExtractedInteraction, Interaction, InteractionId, SealedId, Sentiment};
use scoreline_store::{Batch, History, Lease, RecordedCounts, ScanRequest, Store, Which};

pub const MINUTE: Duration = Duration::from_mins(1);

/// Seconds after a fixed time.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).expect("in the calendar")
}

pub fn key(number: u32) -> CustomerKey {
    let mut digest = [0x5a; 32];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    CustomerKey::from_digest(digest)
}

pub fn id(number: u32) -> InteractionId {
    let mut id = [0xc3; 16];
    id[..4].copy_from_slice(&number.to_le_bytes());
    InteractionId(id)
}

pub fn sentiment(score: f64) -> Option<Sentiment> {
    let sentiment = Sentiment::new(score);
    assert!(sentiment.is_some(), "within -1..1: {score}");
    sentiment
}

/// A scored voice interaction of five minutes, about billing, in the queue `support`.
pub fn interaction(number: u32, customer: u32, start: i64) -> Interaction {
    Interaction {
        id: id(number),
        customer: key(customer),
        start: at(start),
        end: Some(at(start + 300)),
        channel: Channel::Voice,
        handle_ms: Some(240_000),
        sentiment: sentiment(0.25),
        topics: vec!["billing".into()],
        queue: Some("support".into()),
    }
}

pub fn new(interaction: Interaction) -> ExtractedInteraction {
    let contact = Some(SealedId(format!("sealed {:?}", interaction.customer).into_bytes().into()));
    ExtractedInteraction { interaction, contact }
}

pub fn batch<'a>(interactions: &'a [ExtractedInteraction], lease: Option<&'a Lease>) -> Batch<'a> {
    Batch { interactions, annotations: &[], source: "test", position: "{}", at: at(0), lease }
}

pub async fn record(store: &Store, interactions: impl IntoIterator<Item = Interaction>) -> RecordedCounts {
    let interactions: Vec<_> = interactions.into_iter().map(new).collect();
    store.record(&batch(&interactions, None)).await.expect("recorded")
}

/// Every history of a scan, over all its pages.
pub async fn scan(store: &Store, which: Which, interactions: usize) -> Vec<History> {
    let mut scan = ScanRequest { which, after: None, interactions, since: None };
    let mut all = Vec::new();
    loop {
        let page = store.scan(&scan).await.expect("scanned");
        all.extend(page.histories);
        scan.after = page.next;
        if page.next.is_none() {
            return all;
        }
    }
}
