//! Feature work per item: checking and preparing a request's features, folding purchases and interactions.
//!
//! `cargo bench --profile dist --bench features`

#![expect(unreachable_pub, reason = "nothing is outside of a bench")]
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "support/paired.rs"]
mod paired;
#[path = "support/run.rs"]
mod run;

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jiff::civil::date;
use jiff::{Timestamp, ToSpan};
use scoreline::monitoring::counts::Counts;
use scoreline_domain::time::Stopwatch;
use scoreline_domain::{Channel, InteractionRow, LabelId, Purchase, Sentiment};
use scoreline_engine::features::CustomerFold;
use scoreline_engine::features::drift::{DriftBins, quantile_edges};
use scoreline_engine::features::interactions::{InteractionHistory, QueueSentiment};
use scoreline_engine::features::purchases::PurchaseHistory;
use scoreline_engine::inference::bundle::{LoadSettings, ModelSnapshot};

const DOCUMENTED: [(&str, Option<f64>); 5] = [
    ("recency_days", Some(12.0)),
    ("frequency_count", Some(48.0)),
    ("avg_handling_time_sec", Some(245.0)),
    ("sentiment_score_avg", Some(0.65)),
    ("topic_diversity", Some(7.0)),
];
const INTERACTIONS: i64 = 10_000;
const PURCHASES: i64 = 10_000;

fn schema(criterion: &mut Criterion) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/clv/v1.2"));
    let snapshot = ModelSnapshot::load(folder, &LoadSettings::default()).expect("the shipped model loads");
    let schema = snapshot.schema();
    let mut row = vec![0.0; schema.columns()];
    let mut group = criterion.benchmark_group("features");
    group.bench_function("read_documented_request", |bencher| {
        bencher.iter(|| schema.read(black_box(DOCUMENTED)).expect("valid"));
    });
    let given = schema.read(DOCUMENTED).expect("valid");
    group.bench_function("prepare_row", |bencher| bencher.iter(|| schema.prepare(black_box(&given.raw), &mut row)));
    group.finish();

    // What a scored row costs beside its score: one cell counted per feature of the documented request, and the score's.
    let values: Vec<f64> = (0..1000).map(f64::from).collect();
    let bins = DriftBins::of(quantile_edges(&values), &values).expect("values");
    let counts = Counts::new((0..DOCUMENTED.len()).map(|position| (position, &bins)), Some(&bins));
    let rows: Vec<[f64; 5]> =
        (0..1024).map(|row| [7, 11, 13, 17, 19].map(|step| f64::from(row * step % 1000))).collect();
    let mut group = criterion.benchmark_group("monitoring");
    group.throughput(Throughput::Elements(rows.len() as u64));
    group.bench_function("count_1024_rows", |bencher| {
        bencher.iter(|| rows.iter().for_each(|row| counts.add(black_box(row), black_box(row[0]), None)));
    });
    group.finish();
}

fn fold(criterion: &mut Criterion) {
    let as_of: Timestamp = "2026-11-21T00:00:00Z".parse().expect("a time");
    let interactions = interactions(as_of);
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(INTERACTIONS as u64));
    group.bench_function("interactions", |bencher| {
        bencher.iter_batched(
            || InteractionHistory::as_of(as_of),
            |mut history| {
                for interaction in &interactions {
                    history.add(interaction).expect("possible");
                }
                history
            },
            BatchSize::SmallInput,
        );
    });
    let purchases: Vec<Purchase> = (0..PURCHASES)
        .map(|i| Purchase {
            date: date(2024, 1, 1) + (i / 20).days(),
            amount_usd: 20.0 + (i % 37) as f64,
            items: Some(1.0 + (i % 3) as f64),
        })
        .collect();
    group.throughput(Throughput::Elements(PURCHASES as u64));
    group.bench_function("purchases", |bencher| {
        bencher.iter(|| {
            let mut history = PurchaseHistory::as_of(date(2026, 11, 21));
            for purchase in &purchases {
                history.add(purchase).expect("in order");
            }
            history
        });
    });
    group.finish();
    if run::is_smoke() {
        return;
    }
    print_rates(as_of, &interactions);
    let long = |length: usize| {
        let mut history = InteractionHistory::as_of(as_of);
        for interaction in interactions.iter().cycle().take(length) {
            history.add(interaction).expect("possible");
        }
        black_box(history);
    };
    let [low, ratio, high] = paired::paired(15, || (0..10).for_each(|_| long(10_000)), || long(100_000));
    println!(
        "one history of 100,000 over ten of 10,000 (1.00 = cost does not grow with length): {ratio:.2} ({low:.2} .. {high:.2})"
    );
}

/// Interactions a second on one core: folded alone, and with the features of each customer of fifty. The best of nine runs.
fn print_rates(as_of: Timestamp, interactions: &[InteractionRow<'_>]) {
    let rate = |what: &str, run: &dyn Fn()| {
        let seconds = (0..9).map(|_| {
            let watch = Stopwatch::start();
            run();
            watch.elapsed().as_secs_f64()
        });
        let best = seconds.fold(f64::INFINITY, f64::min);
        println!("{what}: {:.1} M interactions/s", 100.0 * INTERACTIONS as f64 / best / 1e6);
    };
    rate("folded", &|| {
        for _ in 0..100 {
            let mut history = InteractionHistory::as_of(as_of);
            for interaction in interactions {
                history.add(interaction).expect("possible");
            }
            black_box(&history);
        }
    });
    let queues = QueueSentiment::default();
    rate("folded and made into the features of customers with 50 each", &|| {
        let mut fold = CustomerFold::as_of(as_of);
        for customer in (0..100).flat_map(|_| interactions.chunks(50)) {
            fold.clear();
            for interaction in customer {
                fold.interaction(interaction).expect("possible");
            }
            black_box(fold.vector(&queues));
        }
    });
}

fn interactions(as_of: Timestamp) -> Vec<InteractionRow<'static>> {
    const TOPICS: [&[LabelId]; 3] = [&[LabelId(3)], &[LabelId(1), LabelId(7)], &[]];
    (0..INTERACTIONS)
        .map(|i| {
            let start = as_of - ((300 - i / 40) * 24).hours() - (i % 40).minutes();
            InteractionRow {
                id: None,
                start_ms: start.as_millisecond(),
                end_ms: Some((start + 5.minutes()).as_millisecond()),
                channel: Channel::ALL[i as usize % 4],
                handle_ms: Some(200_000 + (i % 100) as u32),
                sentiment: Sentiment::new((i % 21) as f64 / 10.0 - 1.0).filter(|_| i % 3 != 0),
                topics: TOPICS[i as usize % 3],
                queue: Some(LabelId((i % 5) as u32)),
            }
        })
        .collect()
}

criterion_group!(benches, schema, fold);
criterion_main!(benches);
