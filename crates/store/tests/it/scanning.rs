//! Pages of histories, and what the queues' means are computed from.

use scoreline_domain::Interaction;
use scoreline_store::{QueueTotal, ScanRequest, Which};

use super::ground::Ground;
use super::on_both;
use super::rows::{at, interaction, record, scan, sentiment};

on_both!(every_history_comes_once_in_order_whatever_the_page, queues_are_summed_up_to_a_time_and_read_in_order);

async fn every_history_comes_once_in_order_whatever_the_page(ground: &Ground) {
    let store = ground.open().await;
    // Customers of 0 to 6 interactions, more than one group of them, told latest first.
    let all = (0..1500_u32).rev().map(|number| interaction(number, number % 600 % 257, 10_000 - i64::from(number)));
    let all: Vec<_> = all.collect();
    for some in all.chunks(701) {
        record(&store, some.to_vec()).await;
    }
    let whole = scan(&store, Which::All, 1_000_000).await;
    assert_eq!(whole.len(), 257);
    assert_eq!(whole.iter().map(|history| history.interactions.len()).sum::<usize>(), 1500);
    for history in &whole {
        assert!(history.interactions.is_sorted_by_key(|one| one.start_ms), "{history:?}");
    }
    for page in [1, 40, 700] {
        assert_eq!(scan(&store, Which::All, page).await, whole, "pages of {page}");
        assert_eq!(scan(&store, Which::Due { as_of: at(0), filled: true }, page).await, whole, "pages of {page}");
    }
    let since = ScanRequest { which: Which::All, after: None, interactions: 10_000, since: Some(at(10_000 - 10)) };
    let page = store.scan(&since).await.expect("scanned");
    let starts: Vec<_> = page.histories.iter().flat_map(|history| &history.interactions).collect();
    assert_eq!(starts.len(), 10, "{starts:?}");
    store.close().await;
}

async fn queues_are_summed_up_to_a_time_and_read_in_order(ground: &Ground) {
    let store = ground.open().await;
    let scored = |number, start, queue: Option<&str>, score| Interaction {
        queue: queue.map(Into::into),
        sentiment: score,
        ..interaction(number, number, start)
    };
    record(
        &store,
        [
            scored(1, 0, Some("support"), sentiment(0.5)),
            scored(2, 100, Some("sales"), sentiment(-0.25)),
            scored(3, 100, Some("support"), sentiment(-1.0)),
            scored(4, 200, Some("support"), None),
            scored(5, 200, None, sentiment(1.0)),
            scored(6, 900, Some("support"), sentiment(0.125)),
        ],
    )
    .await;
    let labels = store.labels().await.expect("read");
    let sums = async |as_of, since| -> Vec<(String, u64, i64)> {
        let sums = store.queue_sums(at(as_of), at(since)).await.expect("summed");
        let each = |sum: &QueueTotal| (labels[&sum.queue].to_string(), sum.scored, sum.sum_millionths);
        let mut sums: Vec<_> = sums.iter().map(each).collect();
        sums.sort_unstable();
        sums
    };
    assert_eq!(sums(299, -1).await, []);
    assert_eq!(sums(300, -1).await, [("support".to_owned(), 1, 500_000)]);
    assert_eq!(sums(1199, -1).await, [("sales".to_owned(), 1, -250_000), ("support".to_owned(), 2, -500_000)]);
    assert_eq!(sums(1200, -1).await[1], ("support".to_owned(), 3, -375_000));
    // What began at the beginning of the window or before is not in it.
    assert_eq!(sums(1200, 0).await[1], ("support".to_owned(), 2, -875_000));
    assert_eq!(sums(1200, 100).await, [("support".to_owned(), 1, 125_000)]);

    for least in [1, 2, 100] {
        let (mut after, mut ends) = (None, Vec::new());
        loop {
            let page = store.scored_interactions(after, least).await.expect("read");
            let Some(last) = page.last() else { break };
            after = Some(last.end);
            ends.extend(page.iter().map(|one| one.end));
        }
        assert_eq!(ends, [300, 400, 400, 1200].map(at), "pages of {least}");
    }
    store.close().await;
}
