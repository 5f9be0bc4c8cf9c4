//! What readers of the table may rely on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;
use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::privacy::{CustomerKeys, Eraser};
use scoreline_domain::time::Stopwatch;

const HOUR: i64 = 3600;

fn table() -> FeatureTable {
    FeatureTable::new(Duration::from_hours(36))
}

/// Customers are spread over all shards, several to one.
fn customer(number: u32) -> CustomerKey {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    CustomerKey::from_digest(digest)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("within the calendar")
}

/// Features that all say the same number, which their time says too.
fn tagged(number: i64) -> StoredFeatures {
    StoredFeatures { as_of: at(number), exact_until: None, values: [number as f64 / 3.0; CATALOGUE.len()] }
}

fn store(number: u32, tag: i64) -> TableChange {
    TableChange::Stored { number: number.into(), customer: customer(number), features: tagged(tag) }
}

fn remove(number: u32) -> TableChange {
    TableChange::Gone { number: number.into() }
}

#[test]
fn the_last_change_of_a_customer_holds_and_others_are_left_alone() {
    let table = table();
    let absorbed = table.absorb([store(1, 10), store(2, 20), store(1, 11), remove(3)]);
    assert_eq!(absorbed, Absorbed { stored: 2, removed: 0, refused: 0 });
    assert_eq!(table.find(&customer(1)), Some(tagged(11)));
    assert_eq!(table.absorb([store(3, 30), remove(1), remove(4)]), Absorbed { stored: 1, removed: 1, refused: 0 });
    assert_eq!((table.find(&customer(1)), table.find(&customer(2))), (None, Some(tagged(20))));
    assert_eq!((table.customers(), table.oldest()), (2, Some(at(20))));
    // Gone and back, and back and gone, in one batch.
    let absorbed = table.absorb([remove(2), store(2, 21), store(3, 31), remove(3)]);
    assert_eq!(absorbed, Absorbed { stored: 1, removed: 1, refused: 0 });
    assert_eq!((table.find(&customer(2)), table.find(&customer(3))), (Some(tagged(21)), None));
}

#[test]
fn features_are_stale_when_they_are_old_and_time_may_have_changed_them() {
    let exact_until = |until| StoredFeatures { exact_until: until, ..tagged(0) };
    let table = table();
    let features = exact_until(Some(at(24 * HOUR)));
    assert!(!table.is_stale(&features, at(36 * HOUR)));
    assert!(table.is_stale(&features, at(36 * HOUR + 1)));
    assert!(!table.is_stale(&exact_until(Some(at(40 * HOUR))), at(39 * HOUR)), "still exact");
    assert!(!table.is_stale(&exact_until(None), at(10_000 * HOUR)), "nothing to change with time");
}

#[test]
fn an_erased_customer_is_gone_and_does_not_come_back() {
    let (table, tombstones) = (table(), Tombstones::default());
    table.refuse(tombstones.clone());
    table.absorb([store(1, 10), store(2, 20)]);
    let eraser = Eraser::new(tombstones.clone(), vec![Arc::new(table.clone())]);
    let keys = CustomerKeys { current: customer(1), previous: Vec::new() };
    let erased = eraser.erase(&keys).expect("erased");
    assert_eq!(erased, [("feature_table", 1)]);
    assert_eq!((table.find(&customer(1)), table.customers()), (None, 1));
    assert_eq!(table.absorb([store(1, 11), store(2, 21)]), Absorbed { stored: 1, removed: 0, refused: 1 });
    assert_eq!((table.find(&customer(1)), table.find(&customer(2))), (None, Some(tagged(21))));
    // Known to be erased only now, as after a change of pepper.
    tombstones.carry_over(customer(2));
    assert_eq!(table.find(&customer(2)), None);
}

#[test]
fn readers_never_see_half_a_change_and_never_wait() {
    const CUSTOMERS: u32 = 2_000;
    let (table, stop) = (table(), AtomicBool::new(false));
    table.absorb((0..CUSTOMERS).map(|number| store(number, 1)));
    let reads = thread::scope(|scope| {
        let readers: Vec<_> = (0..2_u32)
            .map(|reader| {
                let (table, stop) = (&table, &stop);
                scope.spawn(move || {
                    let mut seen = BTreeMap::new();
                    let mut reads = 0_u64;
                    let mut number = reader;
                    while !stop.load(Ordering::Relaxed) {
                        number = (number + 7) % CUSTOMERS;
                        let found = table.find(&customer(number)).expect("always there");
                        assert_eq!(found, tagged(found.as_of.as_second()), "one time, one row");
                        let last = seen.insert(number, found.as_of);
                        assert!(last <= Some(found.as_of), "never back to what was replaced");
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for tag in 2..60 {
            table.absorb((0..CUSTOMERS).map(|number| store(number, tag)));
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().expect("no reader failed")).sum::<u64>()
    });
    assert!(reads > 0);
    let writing = table.write();
    assert_eq!(table.find(&customer(5)), Some(tagged(59)), "while somebody writes");
    drop(writing);
}

/// A customer as the catalogue's features usually are, with purchases or without.
fn usual(number: u32, buys: bool) -> StoredFeatures {
    let share = |of: u32| f64::from(number % of) / f64::from(of);
    let value = |(position, name): (usize, &str)| match name {
        "sentiment_score_avg" | "sentiment_trend_slope" => share(997) - 0.3,
        "avg_handling_time_sec" => 240.0 + share(613) * 100.0,
        _ if name.starts_with("channel_preference") => share(7),
        _ if position < 11 => f64::from(number % 50),
        _ if !buys => f64::NAN,
        "monetary_avg" | "purchase_gap_mean_days" | "purchases_decayed_30d" => 17.0 + share(389),
        _ if name.ends_with("_usd") => f64::from(number % 100_000) / 100.0,
        _ => f64::from(number % 300),
    };
    let mut values = [0.0; CATALOGUE.len()];
    for (slot, named) in values.iter_mut().zip(CATALOGUE.iter().map(|feature| feature.name).enumerate()) {
        *slot = value(named);
    }
    StoredFeatures { as_of: at(1_795_255_200), exact_until: Some(at(1_795_280_000)), values }
}

#[test]
fn a_customer_takes_about_two_hundred_bytes_at_most() {
    const CUSTOMERS: u32 = 100_000;
    for (who, buys, most) in [("interactions", false, 150), ("interactions and purchases", true, 215)] {
        let table = table();
        let empty = table.bytes();
        for batch in 0..10 {
            let numbers = (0..CUSTOMERS / 10).map(|number| batch * CUSTOMERS / 10 + number);
            let change = |number: u32| TableChange::Stored {
                number: number.into(),
                customer: customer(number),
                features: usual(number, buys),
            };
            table.absorb(numbers.map(change));
        }
        assert_eq!(table.customers(), CUSTOMERS as usize);
        let each = (table.bytes() - empty) / CUSTOMERS as usize;
        println!("{CUSTOMERS} customers with {who}: {each} bytes each, {empty} bytes for the table itself");
        assert!(each <= most, "{each} bytes with {who}");
    }
}

#[derive(Clone, Debug)]
enum TableStep {
    Store(u32, i64),
    Remove(u32),
    Erase(u32),
}

fn steps() -> impl Strategy<Value = Vec<Vec<TableStep>>> {
    let step = prop_oneof![
        4 => (0..12_u32, 0..1000_i64).prop_map(|(number, tag)| TableStep::Store(number, tag)),
        2 => (0..12_u32).prop_map(TableStep::Remove),
        1 => (0..12_u32).prop_map(TableStep::Erase),
    ];
    prop::collection::vec(prop::collection::vec(step, 0..10), 0..8)
}

proptest! {
    /// Whatever the batches, the table is what a map would be after the same changes one by one.
    #[test]
    fn the_table_is_the_sum_of_its_changes(batches in steps()) {
        let (table, mut model) = (table(), BTreeMap::new());
        for batch in batches {
            let mut changes = Vec::new();
            for step in batch {
                match step {
                    TableStep::Store(number, tag) => {
                        model.insert(number, tagged(tag));
                        changes.push(store(number, tag));
                    }
                    TableStep::Remove(number) => {
                        model.remove(&number);
                        changes.push(remove(number));
                    }
                    TableStep::Erase(number) => {
                        table.absorb(changes.drain(..));
                        let erased = table.erase(&[customer(number)]).expect("erased");
                        prop_assert_eq!(erased, u64::from(model.remove(&number).is_some()));
                    }
                }
            }
            table.absorb(changes);
        }
        for number in 0..12 {
            prop_assert_eq!(table.find(&customer(number)), model.get(&number).copied());
        }
        prop_assert_eq!(table.customers(), model.len());
        prop_assert_eq!(table.oldest(), model.values().map(|features| features.as_of).min());
    }
}

/// Bytes of this process from the kernel: `VmRSS` is now, `VmHWM` the most there was.
fn process_bytes(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("there");
    let kilobytes: usize = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

#[derive(Clone, Copy)]
struct MadeUp {
    customers: u32,
}

impl MadeUp {
    const PAGE: u32 = 10_000;

    /// As a feed gives them: every second customer buys.
    fn batches(self, table: &FeatureTable) -> Duration {
        let watch = Stopwatch::start();
        let mut batch = TableBatch::default();
        for page in 0..self.customers.div_ceil(Self::PAGE) {
            let numbers = page * Self::PAGE..self.customers.min((page + 1) * Self::PAGE);
            batch.extend(numbers.map(|number| TableChange::Stored {
                number: number.into(),
                customer: customer(number),
                features: usual(number, number % 2 == 0),
            }));
            if batch.len() >= table.most_at_once() {
                table.take_in(std::mem::take(&mut batch));
            }
        }
        table.take_in(batch);
        watch.elapsed()
    }
}

/// Ten million customers, or `SCORELINE_BIG_CUSTOMERS`: memory, time to load, time to find one, and again while all change.
#[test]
#[ignore = "takes 2 GB: cargo test --release --workspace --lib ten_million -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "the size of a run by hand")]
fn ten_million() {
    let customers = std::env::var("SCORELINE_BIG_CUSTOMERS").map_or(10_000_000, |text| text.parse().expect("a number"));
    let made_up = MadeUp { customers };
    let (table, before) = (table(), process_bytes("VmRSS"));
    let took = made_up.batches(&table);
    assert_eq!(table.customers(), customers as usize);
    let (resident, peak) = (process_bytes("VmRSS") - before, process_bytes("VmHWM") - before);
    let each = resident / customers as usize;
    println!(
        "{customers} customers: loaded in {:.1} s, {:.2} million/s; {} bytes counted, {each} bytes resident each, peak {:.2} x",
        took.as_secs_f64(),
        f64::from(customers) / took.as_secs_f64() / 1e6,
        table.bytes() / customers as usize,
        peak as f64 / resident as f64,
    );
    let find = |rounds: u32| {
        let mut nanos: Vec<u64> = (0..rounds)
            .map(|round| {
                let asked = customer(round.wrapping_mul(2_654_435_761) % customers);
                let watch = Stopwatch::start();
                assert!(table.find(&asked).is_some());
                watch.elapsed().as_nanos() as u64
            })
            .collect();
        nanos.sort_unstable();
        [nanos.len() / 2, nanos.len() * 99 / 100, nanos.len() * 999 / 1000].map(|at| nanos[at])
    };
    println!("finding one: p50, p99, p99.9 {:?} ns", find(1_000_000));
    thread::scope(|scope| {
        let reader = scope.spawn(|| find(1_000_000));
        println!("all changed in {:.1} s", made_up.batches(&table).as_secs_f64());
        println!("finding one meanwhile: {:?} ns", reader.join().expect("no panic"));
    });
    let (after, most) = (process_bytes("VmRSS") - before, process_bytes("VmHWM") - before);
    println!("then {} bytes resident each, peak {:.2} x", after / customers as usize, most as f64 / resident as f64);
    assert!(each <= 200, "{each} bytes resident each");
    assert!(peak as f64 <= 1.3 * resident as f64, "peak");
}
