//! Erasure leaves nothing of a customer.

use std::collections::HashSet;
use std::fs;

use scoreline_domain::privacy::Tombstone;
use scoreline_domain::{ExtractedInteraction, SealedId};
use scoreline_store::{Computed, FeatureRow, NewPurchase, PurchaseId, Store, Which};

use super::ground::Ground;
use super::on_both;
use super::rows::{at, batch, interaction, key, record, scan};

on_both!(everything_about_a_customer_goes_and_everybody_else_stays);

const SEALED: &[u8] = b"a sealed contact that nobody else has";

async fn fill(store: &Store) {
    record(store, (10..200).map(|number| interaction(number, number % 7 + 2, i64::from(number)))).await;
    let mut mine: Vec<_> = (1000..1100_u32).map(|number| interaction(number, 1, i64::from(number))).collect();
    mine[3].topics.push("returns".into());
    let mine: Vec<_> = mine
        .into_iter()
        .map(|interaction| ExtractedInteraction { interaction, contact: Some(SealedId(SEALED.into())) })
        .collect();
    store.record(&batch(&mine, None)).await.expect("recorded");
    let day = jiff::civil::date(2026, 3, 1);
    let purchase = NewPurchase { customer: key(1), id: PurchaseId::named("1"), day, amount_usd: 1.0, items: 1.0 };
    store.record_purchases(&[purchase], None).await.expect("recorded");
    let computed: Vec<_> = scan(store, Which::All, 10_000)
        .await
        .iter()
        .map(|history| Computed {
            number: history.number,
            mark: history.mark,
            features: Some(FeatureRow {
                as_of: at(0),
                vector: history.customer.as_bytes()[..6].into(),
                next_change_at: None,
                fills_from_queue: false,
            }),
        })
        .collect();
    store.save_features(&computed, None).await.expect("saved");
}

async fn everything_about_a_customer_goes_and_everybody_else_stays(ground: &Ground) {
    let store = ground.open().await;
    fill(&store).await;
    let before = store.counts().await.expect("counted");
    let erased = store.erase_customers(&[key(1), key(77)]).await.expect("erased");
    // A hundred interactions, a purchase, features and the customer.
    assert_eq!(erased, 103);
    let after = store.counts().await.expect("counted");
    assert_eq!(before.interactions - after.interactions, 100);
    assert_eq!((after.customers, after.purchases, after.features), (7, 0, 7));
    assert_eq!(store.history(&key(1)).await.expect("read"), None);
    assert_eq!(store.erase_customers(&[key(1)]).await.expect("erased"), 0);
    // Replicas read who was erased, once.
    let (tombstones, seq) = store.tombstones_since(-1).await.expect("read");
    let expected: HashSet<_> = [key(1), key(77)].iter().map(Tombstone::of).collect();
    assert_eq!((tombstones.into_iter().collect::<HashSet<_>>(), seq), (expected, 2));
    store.erase_customers(&[key(5)]).await.expect("erased");
    let (tombstones, _) = store.tombstones_since(seq).await.expect("read");
    assert_eq!(tombstones, [Tombstone::of(&key(5))]);
    store.close().await;
}

/// In the file and in its log, while the store is open.
#[tokio::test]
async fn no_byte_of_an_erased_customer_is_left_in_the_files() {
    let ground = Ground::sqlite();
    let store = ground.open().await;
    fill(&store).await;
    assert!(found(&ground, key(1).as_bytes()) && found(&ground, SEALED), "it is there before");
    store.erase_customers(&[key(1)]).await.expect("erased");
    assert!(!found(&ground, key(1).as_bytes()), "key");
    assert!(!found(&ground, SEALED), "contact");
    for number in 1000..1100 {
        assert!(!found(&ground, &super::rows::id(number).0), "interaction {number}");
    }
    assert!(found(&ground, key(2).as_bytes()), "somebody else");
    store.close().await;
}

fn found(ground: &Ground, bytes: &[u8]) -> bool {
    let folder = ground.path().parent().expect("a folder").to_owned();
    fs::read_dir(folder).expect("a folder").any(|entry| {
        let content = fs::read(entry.expect("an entry").path()).expect("a file");
        memchr::memmem::find(&content, bytes).is_some()
    })
}
