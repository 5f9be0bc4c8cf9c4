//! The way from the store to an answer by id: stored, told, taken in, answered; changed, removed and erased likewise.

use std::time::Duration;

use scoreline::scoring::feature_table::{Absorbed, FeatureTable};
use scoreline::worker::feature_feed::StoreFeed;
use scoreline::worker::follow_features::FeatureTableKeeper;
use scoreline_domain::feature::{CATALOGUE, CatalogueRow};
use scoreline_domain::privacy::IdHasher;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{Channel, CustomerKey, ExtractedInteraction, Interaction, InteractionId};
use scoreline_engine::features::catalogue_row;
use scoreline_store::{Batch, Computed, FeatureRow, Store, StoreSettings};
use serde_json::json;
use tempfile::TempDir;

use crate::support::test_app::privacy;
use crate::support::{TestApp, TestBundle};

const PREDICT: &str = "/v1/predict/clv";

pub fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

fn key(customer: &str) -> CustomerKey {
    IdHasher::new(&privacy("test pepper", &[])).key(customer)
}

fn row(recency: f64, frequency: f64) -> CatalogueRow {
    let mut row = [f64::NAN; CATALOGUE.len()];
    for (slot, feature) in row.iter_mut().zip(CATALOGUE) {
        match feature.name {
            "recency_days" => *slot = recency,
            "frequency_count" => *slot = frequency,
            _ => {}
        }
    }
    row
}

/// Makes customers known: with an interaction each.
pub async fn know(store: &Store, customers: impl Iterator<Item = (InteractionId, CustomerKey)>) {
    let interactions: Vec<_> = customers
        .map(|(id, customer)| ExtractedInteraction {
            interaction: Interaction {
                id,
                customer,
                start: at("2026-10-22T06:00:00Z"),
                end: Some(at("2026-10-22T06:10:00Z")),
                channel: Channel::Voice,
                handle_ms: Some(600_000),
                sentiment: None,
                topics: Vec::new(),
                queue: None,
            },
            contact: None,
        })
        .collect();
    let batch = Batch {
        interactions: &interactions,
        annotations: &[],
        source: "test",
        position: "{}",
        at: at("2026-11-21T06:00:00Z"),
        lease: None,
    };
    store.record(&batch).await.expect("recorded");
}

/// A store in a folder that lives as long.
struct Kept {
    store: Store,
    _folder: TempDir,
}

impl Kept {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let settings = StoreSettings::sqlite(folder.path().join("store.db"));
        let store = Store::open(&settings).await.expect("a new store opens");
        Self { store, _folder: folder }
    }

    async fn know(&self, customers: &[&str]) {
        let customers = (1..).zip(customers).map(|(number, customer)| (InteractionId([number; 16]), key(customer)));
        know(&self.store, customers).await;
    }

    /// Saves features as a pass at 07:00 does; without a row there are none.
    async fn save(&self, customer: &str, row: Option<&CatalogueRow>) {
        self.save_bytes(customer, row.map(|row| catalogue_row::to_bytes(row).into())).await;
    }

    async fn save_bytes(&self, customer: &str, vector: Option<Box<[u8]>>) {
        let history = self.store.history(&key(customer)).await.expect("read").expect("known");
        let features = vector.map(|vector| FeatureRow {
            as_of: at("2026-11-21T07:00:00Z"),
            vector,
            next_change_at: Some(at("2026-11-22T06:10:00Z")),
            fills_from_queue: false,
        });
        let computed = Computed { number: history.number, mark: history.mark, features };
        self.store.save_features(&[computed], None).await.expect("saved");
    }
}

#[tokio::test]
async fn what_is_stored_is_answered_and_what_is_gone_is_not() {
    let kept = Kept::new().await;
    kept.know(&["CUST-1", "CUST-2", "CUST-3"]).await;
    for customer in ["CUST-1", "CUST-2", "CUST-3"] {
        kept.save(customer, Some(&row(30.0, 10.0))).await;
    }
    let table = FeatureTable::new(Duration::from_hours(36));
    let app = TestApp::with_table(&[TestBundle::clv("v1.2")], &table, &[]);
    let ask = async |customer: &str| app.ok(PREDICT, json!({"customerId": customer})).await;
    assert_eq!(ask("CUST-1").await["metadata"]["warnings"], json!(["stored_features_loading"]));

    let mut keeper = FeatureTableKeeper::new(StoreFeed::new(kept.store.clone()), table.clone());
    let all = Absorbed { stored: 3, removed: 0, refused: 0 };
    assert_eq!(keeper.catch_up().await.expect("read"), all);
    let answer = ask("CUST-1").await;
    assert_eq!(
        (&answer["metadata"]["source"], &answer["prediction"]["clv_value_usd"]),
        (&json!("model"), &json!(15.06))
    );
    assert_eq!(answer["metadata"]["features_as_of"], "2026-11-21T07:00:00Z");
    assert_eq!(answer["metadata"]["features_age_seconds"], 3 * 3600);

    // One has other features, one has none any more, one was erased by another replica.
    kept.save("CUST-1", Some(&row(0.0, 50.0))).await;
    kept.save("CUST-2", None).await;
    assert!(kept.store.erase_customers(&[key("CUST-3")]).await.expect("erased") > 0);
    let changed = Absorbed { stored: 1, removed: 2, refused: 0 };
    assert_eq!(keeper.catch_up().await.expect("read"), changed);
    assert_eq!(ask("CUST-1").await["prediction"]["clv_tier"], "High_Value");
    for customer in ["CUST-2", "CUST-3"] {
        assert_eq!(ask(customer).await["metadata"]["warnings"], json!(["no_stored_features"]), "{customer}");
    }
    // Back again, under the same number.
    kept.save("CUST-2", Some(&row(30.0, 10.0))).await;
    assert_eq!(keeper.catch_up().await.expect("read").stored, 1);
    assert_eq!(ask("CUST-2").await["prediction"]["clv_value_usd"], 15.06);
    // Of another catalogue: nothing to answer from until it is made anew.
    kept.save_bytes("CUST-2", Some(vec![7; 24].into())).await;
    assert_eq!(keeper.catch_up().await.expect("read").removed, 1);
    assert_eq!(table.customers(), 1);

    // Another replica, or this one after a restart, comes to the same table.
    let other = FeatureTable::new(Duration::from_hours(36));
    let mut starting = FeatureTableKeeper::new(StoreFeed::new(kept.store.clone()), other.clone());
    assert_eq!(starting.catch_up().await.expect("read").stored, 1);
    for customer in ["CUST-1", "CUST-2", "CUST-3"] {
        // Missing values are no numbers, which equal nothing.
        let bits = |table: &FeatureTable| table.find(&key(customer)).map(|found| found.values.map(f64::to_bits));
        assert_eq!(bits(&other), bits(&table), "{customer}");
    }
    kept.store.close().await;
    assert!(keeper.catch_up().await.is_err(), "closed");
    assert_eq!(ask("CUST-1").await["metadata"]["source"], "cache", "answered all the same");
}
