//! The score cache under the pattern that made an earlier moka grow without end: few keys written again and again
//! beside many new ones, from all cores.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use scoreline::scoring::cache::{CachedScore, Question, ScoreCache};
use scoreline::scoring::estimate::Wish;
use scoreline::scoring::task::TaskScore;
use scoreline_domain::privacy::erasure::Erasable as _;
use scoreline_domain::time::{Stopwatch, Timestamp};
use scoreline_domain::{CustomerKey, Estimate, ModelName, ModelVersion, Tier};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::LoadSettings;

use crate::support::TestBundle;

const CAPACITY: u64 = 8 << 20;
const WRITERS: u64 = 4;
const REUSED: u64 = 64;
const MOST: f64 = 1.1;
/// Writes that turn the cache over.
const ENOUGH: u64 = 3 * CAPACITY / 800;
/// How long a busy machine may take for them.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn the_cache_keeps_its_budget_under_key_reuse() {
    pressure(Duration::from_secs(2));
}

#[test]
#[ignore = "half a minute: cargo test --workspace --test it soak::cache -- --ignored --nocapture"]
fn the_cache_keeps_its_budget_for_half_a_minute() {
    pressure(Duration::from_secs(30));
}

#[expect(clippy::print_stdout, reason = "a suite prints its figures")]
fn pressure(length: Duration) {
    let models = tempfile::tempdir().expect("temporary folder");
    TestBundle::clv("v1.2").write(models.path());
    let snapshot = ModelSnapshot::load(&models.path().join("clv/v1.2"), &LoadSettings::default()).expect("loads");
    let cache = ScoreCache::new(CAPACITY, Duration::from_hours(24));
    let stop = AtomicBool::new(false);
    let writes = AtomicU64::new(0);
    let (mut fullest, mut entries) = (0, 0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (cache, snapshot, stop, writes) = (&cache, &snapshot, &stop, &writes);
            scope.spawn(move || write(cache, snapshot, writer, stop, writes));
        }
        let watch = Stopwatch::start();
        let is_enough = || writes.load(Ordering::Relaxed) > ENOUGH;
        while watch.elapsed() < length || !is_enough() && watch.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
            fullest = fullest.max(cache.weighted_bytes());
            entries = entries.max(cache.entries());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (share, writes) = (fullest as f64 / CAPACITY as f64, writes.into_inner());
    println!("{writes} writes in {length:?}: at most {fullest} of {CAPACITY} bytes ({share:.3} x), {entries} entries");
    assert!(writes > ENOUGH, "{writes} writes turn the cache over");
    assert!(share > 0.5, "the cache fills: {share:.3}");
    assert!(share <= MOST, "the cache holds {share:.3} x its budget");
}

/// Somebody's score, and the model it is of.
fn score(snapshot: &ModelSnapshot) -> (ModelName, CachedScore) {
    let (model, version) = (ModelName::parse("clv").expect("a name"), ModelVersion::parse("v1.2").expect("a version"));
    let now = now();
    let wish = Wish { level: None, previous: None };
    let estimate =
        Estimate { value: 1.0, interval: None, risk: None, confidence: None, tier_probability: None, tier: Tier::Low };
    let score = CachedScore {
        outcome: TaskScore::Clv(estimate),
        scored_at: now,
        version,
        interval_level: None,
        features_as_of: None,
        question: Question::new(snapshot, &[0.0; 16], wish),
    };
    (model, score)
}

/// Two in three writes go to the reused keys, with a read before each.
fn write(cache: &ScoreCache, snapshot: &ModelSnapshot, writer: u64, stop: &AtomicBool, writes: &AtomicU64) {
    let (model, score) = score(snapshot);
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let id = if number.is_multiple_of(3) { number * WRITERS + writer + REUSED } else { number % REUSED };
        let customer = customer(id);
        let _ = cache.last(&model, customer, now());
        cache.put(&model, customer, score.clone());
        writes.fetch_add(1, Ordering::Relaxed);
    }
}

fn customer(number: u64) -> CustomerKey {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_le_bytes());
    CustomerKey::from_digest(digest)
}

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().expect("a time")
}

#[test]
fn a_full_cache_keeps_who_was_scored_last() {
    let models = tempfile::tempdir().expect("temporary folder");
    TestBundle::clv("v1.2").write(models.path());
    let snapshot = ModelSnapshot::load(&models.path().join("clv/v1.2"), &LoadSettings::default()).expect("loads");
    let cache = ScoreCache::new(64 << 10, Duration::from_hours(24));
    let (model, score) = score(&snapshot);
    let known = |number| cache.last(&model, customer(number), now()).is_some();
    // An erasure of nobody, so that nothing waits to be tidied.
    let settled = || assert_eq!(cache.erase(&[]).ok(), Some(0));
    let mut full = 0;
    while full == cache.entries() {
        cache.put(&model, customer(full), score.clone());
        settled();
        full += 1;
    }
    // Everybody who is known is asked for often.
    for number in (1..full).chain(1..full).chain(1..full) {
        assert!(known(number), "{number} of {full}");
        settled();
    }
    cache.put(&model, customer(full), score);
    settled();
    assert!(known(full), "who is new is kept");
    assert!(!known(1), "who was asked for longest ago is not");
}
