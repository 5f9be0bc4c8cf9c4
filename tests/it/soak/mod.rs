//! The real program under load for a long time, with a model swap every few seconds: what it holds must not grow.
//!
//! Memory, open files and threads are read from `/proc`; the load is paced at 70 % of what the machine gives at the
//! start. The short run is part of every test run; the long one prints the figures that are promised.

mod cache;
mod load;
mod process;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scoreline_domain::time::Stopwatch;

use crate::support::TestBundle;
use load::{Load, Tally};
use process::{Held, Program};

/// Share of the peak that the load is paced at.
const LOAD: f64 = 0.7;
const CONNECTIONS: usize = 4;
/// Budget of both score caches. Small, so that they are full long before the second half.
const CACHE: &str = "4MiB";
const CACHE_BYTES: f64 = (4 << 20) as f64;
/// What `scoring::cache` reckons for an entry.
const ENTRY_BYTES: f64 = 600.0;
/// Promised for a soak of half an hour: MB a minute in its second half.
const STEEPEST: f64 = 0.2;
/// Below this many seconds the slope is what an allocator does in a moment, and only the growth is judged.
const SLOPE_FROM: u64 = 600;
const MOST_GROWTH_MB: f64 = 8.0;
const PUBLISHED: &str = "scoreline_model_loads_total{outcome=\"published\"}";
/// How long a drop may take until it serves, beside a busy machine.
const FIRST_SWAP: Duration = Duration::from_secs(30);

struct Plan {
    seconds: u64,
    swap_every: u64,
}

#[test]
fn a_loaded_server_holds_no_more_after_swaps() {
    soak(&Plan { seconds: 8, swap_every: 2 });
}

#[test]
#[ignore = "a minute; half an hour: SCORELINE_SOAK_SECONDS=1800 SCORELINE_SOAK_BINARY=target/release/scoreline cargo test --workspace --test it soak::the_second_half -- --ignored --nocapture"]
fn the_second_half_of_a_soak_is_flat() {
    let seconds = variable("SCORELINE_SOAK_SECONDS").and_then(|text| text.parse().ok()).unwrap_or(60);
    soak(&Plan { seconds, swap_every: 10 });
}

#[expect(clippy::disallowed_methods, reason = "a suite is sized from outside")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::print_stdout, reason = "a suite prints its figures")]
fn soak(plan: &Plan) {
    let models = tempfile::tempdir().expect("temporary folder");
    drop_in(models.path(), 0);
    TestBundle::lead("v1.0").write(models.path());
    let binary = variable("SCORELINE_SOAK_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_scoreline").to_owned());
    let program = Program::start(&binary, models.path(), CACHE);

    let peak = Load::closed(&program.listen, CONNECTIONS, Duration::from_secs(2));
    assert_eq!(peak.errors, 0, "answers before the soak: {:?}", peak.first_error);
    let rate = peak.per_second() * LOAD;
    // The first swap of a process takes some MB for good: it is not what a soak looks for.
    let before = program.metric(PUBLISHED);
    drop_in(models.path(), 1);
    let watch = Stopwatch::start();
    while program.metric(PUBLISHED) <= before {
        assert!(watch.elapsed() < FIRST_SWAP, "the first swap was not seen");
        std::thread::sleep(Duration::from_millis(100));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let load = Load::paced(&program.listen, CONNECTIONS, rate, &stop);

    let watch = Stopwatch::start();
    let mut samples: Vec<(f64, Held)> = Vec::new();
    let (mut swaps, mut fullest) = (0, 0.0_f64);
    let mut halves: Vec<Tally> = Vec::new();
    for second in 1..=plan.seconds {
        let due = Duration::from_secs(second);
        std::thread::sleep(due.saturating_sub(watch.elapsed()));
        samples.push((watch.elapsed().as_secs_f64(), program.held()));
        fullest = fullest.max(program.metric("scoreline_cache_entries"));
        if second % plan.swap_every == 0 && second < plan.seconds {
            swaps += 1;
            drop_in(models.path(), swaps + 1);
        }
        if second == plan.seconds / 2 {
            halves.push(load.take());
        }
    }
    stop.store(true, Ordering::Relaxed);
    halves.push(load.join());

    // Without the warm-up's.
    let published = program.metric(PUBLISHED) - 1.0;
    let second_half = &samples[samples.len() / 2..];
    let slope = slope_per_minute(second_half);
    let held = |at: &(f64, Held)| at.1;
    let (first, middle, last) = (held(&samples[0]), held(&second_half[0]), held(&samples[samples.len() - 1]));
    let fullest_share = fullest * ENTRY_BYTES / CACHE_BYTES;
    println!(
        "soak of {} s at {rate:.0} requests/s (70 % of {:.0}), a swap every {} s",
        plan.seconds,
        peak.per_second(),
        plan.swap_every
    );
    println!("| | start | middle | end |\n|---|---|---|---|");
    println!("| resident MB | {:.1} | {:.1} | {:.1} |", first.resident_mb, middle.resident_mb, last.resident_mb);
    println!("| open files | {} | {} | {} |", first.files, middle.files, last.files);
    println!("| threads | {} | {} | {} |", first.threads, middle.threads, last.threads);
    for (name, tally) in ["first", "second"].iter().zip(&halves) {
        println!(
            "{name} half: {} answers, {} errors, p50 {} us, p99 {} us, p99.9 {} us",
            tally.answers,
            tally.errors,
            tally.quantile(0.5),
            tally.quantile(0.99),
            tally.quantile(0.999)
        );
    }
    println!(
        "second-half slope {slope:+.3} MB/min; {swaps} swaps, {published} published; caches at most {:.0} % full",
        fullest_share * 100.0
    );

    for tally in &halves {
        assert_eq!(tally.errors, 0, "{:?}", tally.first_error);
        assert!(tally.answers > 0, "the load ran");
    }
    // The first is the load at the start; the last drop may still be on its way.
    assert!(published >= f64::from(swaps) * 0.5 && published >= 2.0, "{published} of {swaps} swaps were seen");
    assert!(fullest_share <= 1.1, "the caches hold {fullest_share:.2} of their budget");
    assert!(last.files <= middle.files + 2, "open files grow: {} to {}", middle.files, last.files);
    assert!(last.threads <= middle.threads + 1, "threads grow: {} to {}", middle.threads, last.threads);
    if plan.seconds >= SLOPE_FROM {
        assert!(slope <= STEEPEST, "resident memory grows by {slope:.3} MB a minute");
    } else {
        let growth = last.resident_mb - middle.resident_mb;
        assert!(growth <= MOST_GROWTH_MB, "resident memory grew by {growth:.1} MB in the second half");
    }
    program.stop();
}

/// Alternates the model in place, as somebody who copies a new file over the old one.
fn drop_in(models: &Path, number: u32) {
    TestBundle::clv("v1.2").with_log_mean(if number.is_multiple_of(2) { 3.0 } else { 3.3 }).write(models);
}

/// Least-squares slope of resident memory, MB a minute.
fn slope_per_minute(samples: &[(f64, Held)]) -> f64 {
    let count = samples.len() as f64;
    let mean_at = samples.iter().map(|(at, _)| at).sum::<f64>() / count;
    let mean_mb = samples.iter().map(|(_, held)| held.resident_mb).sum::<f64>() / count;
    let (mut both, mut alone) = (0.0, 0.0);
    for (at, held) in samples {
        both += (at - mean_at) * (held.resident_mb - mean_mb);
        alone += (at - mean_at).powi(2);
    }
    if alone > 0.0 { both / alone * 60.0 } else { 0.0 }
}

#[test]
fn a_slope_is_found() {
    let rising = (0..100)
        .map(|second| (f64::from(second), Held { resident_mb: 50.0 + f64::from(second) / 60.0, files: 9, threads: 4 }));
    assert!((slope_per_minute(&rising.collect::<Vec<_>>()) - 1.0).abs() < 1e-9);
}
