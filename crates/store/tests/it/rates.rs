//! How fast histories go in and out. Prints; asserts only that everything arrived.

use scoreline_domain::time::Stopwatch;
use scoreline_domain::{CustomerKey, InteractionId};
use scoreline_store::{ScanRequest, Which};

use super::ground::Ground;
use super::rows::{at, batch, interaction, new};

const ROWS: u32 = 1_000_000;

#[tokio::test]
#[ignore = "minutes: cargo test --release -p scoreline-store --test it rates -- --ignored --nocapture --test-threads=1"]
async fn sqlite() {
    let ground = Ground::sqlite();
    for rows in [10_000, 50_000] {
        measure(&ground, "sqlite", rows).await;
    }
}

#[tokio::test]
#[ignore = "minutes: cargo test --release -p scoreline-store --test it rates -- --ignored --nocapture --test-threads=1"]
async fn postgres() {
    let ground = Ground::postgres("rates").await;
    measure(&ground, "postgres", 50_000).await;
    ground.remove().await;
}

/// Interactions in the order of time, of customers in no order, under random ids.
async fn measure(ground: &Ground, name: &str, rows: u32) {
    let store = ground.open().await;
    let mut random = fastrand::Rng::with_seed(u64::from(rows));
    let before = store.counts().await.expect("counted").interactions;
    let mut seconds = 0.0;
    for first in (0..ROWS).step_by(rows as usize) {
        let told: Vec<_> = (first..first + rows)
            .map(|number| {
                let mut told = interaction(number, 0, i64::from(number) * 6);
                told.id = InteractionId(std::array::from_fn(|_| random.u8(..)));
                told.customer = key(random.u32(0..100_000));
                new(told)
            })
            .collect();
        let watch = Stopwatch::start();
        store.record(&batch(&told, None)).await.expect("recorded");
        seconds += watch.elapsed().as_secs_f64();
    }
    eprintln!("{name}: {ROWS} interactions in batches of {rows}: {:.0}/s", f64::from(ROWS) / seconds);

    let mut scan = ScanRequest { which: Which::All, after: None, interactions: 20_000, since: None };
    let (watch, mut seen) = (Stopwatch::start(), 0);
    loop {
        let page = store.scan(&scan).await.expect("scanned");
        seen += page.histories.iter().map(|history| history.interactions.len()).sum::<usize>();
        scan.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    eprintln!("{name}: scan of {seen} interactions: {:.0}/s", seen as f64 / watch.elapsed().as_secs_f64());
    assert_eq!(seen as u64, before + u64::from(ROWS));

    let watch = Stopwatch::start();
    let sums = store.queue_sums(at(i64::from(ROWS) * 10), at(-1_000_000_000)).await.expect("summed");
    eprintln!("{name}: sums of {} scored interactions: {:.2} s", sums[0].scored, watch.elapsed().as_secs_f64());
    store.close().await;
}

/// Hashes have no order.
fn key(number: u32) -> CustomerKey {
    let mut random = fastrand::Rng::with_seed(u64::from(number));
    CustomerKey::from_digest(std::array::from_fn(|_| random.u8(..)))
}
