//! Swaps in numbers: under load, by many writers, from files that arrive in pieces. Each suite runs short always and long on
//! demand, and prints its figures.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use scoreline::scoring::{Ask, golden};
use scoreline_domain::{ModelName, Tier};
use scoreline_engine::features::Value;
use scoreline_engine::inference::bundle::BundleFiles;
use scoreline_engine::inference::registry::{Patience, Registry, RegistryEvent, RegistrySettings};

use crate::support::{TestApp, TestBundle};

fn clv() -> ModelName {
    ModelName::parse("clv").expect("a name")
}

#[expect(clippy::print_stdout, reason = "a suite prints its figures")]
fn figures(line: &str) {
    println!("{line}");
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "tests time what they do")]
    Instant::now()
}

/// A small generator of its own for every thread: xorshift.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What one version answers to the one question of the storm.
#[derive(Clone, Debug, PartialEq)]
struct Whole {
    version: String,
    digest: String,
    value: f64,
    low: f64,
    high: f64,
    tier: Tier,
}

const QUESTION: [(&str, Option<Value<'static>>); 2] =
    [("recency_days", Some(Value::Number(30.0))), ("frequency_count", Some(Value::Number(10.0)))];

async fn ask(app: &TestApp) -> Whole {
    let scored = app.scorer.score(Ask { features: Some(&QUESTION), ..Ask::default() }).await.expect("answered");
    assert!(scored.reason.is_none(), "a fallback: {:?}", scored.reason);
    let interval = scored.estimate.interval.expect("calibrated");
    Whole {
        version: scored.version.to_string(),
        digest: scored.snapshot.digest().to_string(),
        value: scored.estimate.value,
        low: interval.low(),
        high: interval.high(),
        tier: scored.estimate.tier,
    }
}

fn p99(latencies: &mut [u64]) -> u64 {
    latencies.sort_unstable();
    latencies.get(latencies.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(0)
}

/// Swaps between two versions while two tasks ask without pause.
fn swap_storm(swaps: u32) {
    let bundles = [TestBundle::clv("v1.1"), TestBundle::clv("v1.2").with_log_mean(4.0)];
    let app = Arc::new(TestApp::with(&bundles, |_| {}));
    app.registry.scan(Patience::WhenStable);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut wholes = Vec::new();
    for version in ["v1.1", "v1.2"] {
        app.registry.promote("clv", version).expect("promoted");
        wholes.push(runtime.block_on(ask(&app)));
    }
    let wholes = Arc::new(wholes);
    let load = |until: Arc<AtomicBool>| {
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let (app, wholes, until) = (Arc::clone(&app), Arc::clone(&wholes), Arc::clone(&until));
                runtime.handle().clone().spawn(async move {
                    let (mut seen, mut latencies) = (BTreeMap::<String, u64>::new(), Vec::new());
                    while !until.load(Ordering::Relaxed) {
                        let since = now();
                        let whole = ask(&app).await;
                        latencies.push(u64::try_from(since.elapsed().as_nanos()).expect("short"));
                        assert!(wholes.contains(&whole), "mixed: {whole:?} is neither of {wholes:?}");
                        *seen.entry(whole.version).or_default() += 1;
                        tokio::task::yield_now().await;
                    }
                    (seen, latencies)
                })
            })
            .collect();
        move || -> (BTreeMap<String, u64>, Vec<u64>) {
            until.store(true, Ordering::Relaxed);
            let mut all = (BTreeMap::new(), Vec::new());
            for task in tasks {
                let (seen, latencies) = futures_join(task);
                for (version, count) in seen {
                    *all.0.entry(version).or_default() += count;
                }
                all.1.extend(latencies);
            }
            all
        }
    };
    let quiet = load(Arc::default());
    std::thread::sleep(Duration::from_millis(300));
    let (_, mut quiet) = quiet();
    let stormy = load(Arc::default());
    let since = now();
    for round in 0..swaps {
        let version = if round % 2 == 0 { "v1.1" } else { "v1.2" };
        app.registry.promote("clv", version).expect("promoted");
    }
    let took = since.elapsed();
    let (seen, mut stormy) = stormy();
    let answers = stormy.len();
    assert_eq!(seen.values().sum::<u64>() as usize, answers);
    assert_eq!(seen.len(), 2, "both versions answered: {seen:?}");
    let (quiet, stormy) = (p99(&mut quiet) as f64 / 1e3, p99(&mut stormy) as f64 / 1e3);
    figures(&format!(
        "{swaps} swaps in {:.1} s under load: {answers} answers, 0 failed, 0 mixed; p99 {stormy:.0} us in the storm, \
         {quiet:.0} us in quiet; each version answered {seen:?}",
        took.as_secs_f64()
    ));
    let since = now();
    while app.registry.retiring() > 0 {
        assert!(since.elapsed() < Duration::from_secs(10), "{} snapshots are never freed", app.registry.retiring());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn futures_join<T: Send + 'static>(task: tokio::task::JoinHandle<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(task).expect("nothing panicked")
}

#[test]
fn swaps_under_load_mix_nothing() {
    swap_storm(100);
}

#[test]
#[ignore = "about a minute: cargo test --release --test it -- --ignored --exact model_storm::ten_thousand_swaps_under_load_mix_nothing --nocapture"]
fn ten_thousand_swaps_under_load_mix_nothing() {
    swap_storm(10_000);
}

/// Many writers drop, delete and replace versions of one model while the registry looks on.
fn writers(count: u64, rounds: u64) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let dir = folder.path().join("models");
    fs::create_dir(&dir).expect("created");
    let registry = Arc::new(Registry::new(RegistrySettings::new(dir.clone()), golden::verify));
    let done = Arc::new(AtomicBool::new(false));
    let (looks, published) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let watcher = {
        let (registry, done) = (Arc::clone(&registry), Arc::clone(&done));
        let (looks, published) = (Arc::clone(&looks), Arc::clone(&published));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let events = registry.scan(Patience::WhenStable);
                looks.fetch_add(1, Ordering::Relaxed);
                let new = events.iter().filter(|event| matches!(event, RegistryEvent::Published { .. })).count();
                published.fetch_add(new as u64, Ordering::Relaxed);
            }
        })
    };
    let threads: Vec<_> = (0..count)
        .map(|writer| {
            let (dir, staging) = (dir.clone(), folder.path().join(format!("staging-{writer}")));
            std::thread::spawn(move || {
                let mut draw = Draw(0x9e37_79b9 + writer);
                let version = format!("v1.{writer}");
                let place = dir.join("clv").join(&version);
                for round in 0..rounds {
                    let bundle = TestBundle::clv(&version).with_log_mean(2.0 + (round % 7) as f64 / 4.0);
                    match draw.below(4) {
                        0 => drop(fs::remove_dir_all(&place)),
                        1 => bundle.write(&dir),
                        2 => drop(fs::write(place.join("model.json"), "{ half a mod")),
                        _ => {
                            bundle.write(&staging);
                            let _ = fs::remove_dir_all(&place);
                            fs::create_dir_all(dir.join("clv")).expect("created");
                            fs::rename(staging.join("clv").join(&version), &place).expect("moved");
                        }
                    }
                }
                TestBundle::clv(&version).write(&dir);
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a writer");
    }
    done.store(true, Ordering::Relaxed);
    watcher.join().expect("the registry never panics");
    registry.scan(Patience::WhenStable);
    registry.scan(Patience::WhenStable);
    let newest = format!("v1.{}", count - 1);
    let serving = registry.serving(&clv()).expect("serves");
    assert_eq!(serving.version().as_str(), newest, "the last complete one");
    let complete = BundleFiles::read(&dir.join("clv").join(&newest)).expect("a bundle").digest;
    assert_eq!(*serving.digest(), complete);
    let refused = registry.status().iter().filter(|version| version.state.refusal().is_some()).count();
    assert_eq!(refused, 0, "every version is complete in the end: {:?}", registry.status());
    figures(&format!(
        "{count} writers x {rounds} drops, deletions and replacements: {} looks, {} publications, 0 crashes, the last complete \
         version serves",
        looks.load(Ordering::Relaxed),
        published.load(Ordering::Relaxed)
    ));
}

#[test]
fn writers_in_one_folder_end_with_the_last_complete_version() {
    writers(8, 24);
}

#[test]
#[ignore = "about a minute: cargo test --release --test it -- --ignored --exact model_storm::thirty_two_writers_end_with_the_last_complete_version --nocapture"]
fn thirty_two_writers_end_with_the_last_complete_version() {
    writers(32, 1024);
}

/// Files that arrive in pieces of 64 KiB with pauses, some of them never whole: nothing but whole bundles is ever loaded.
fn slow_writes(count: u64) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (dir, staging) = (folder.path().join("models"), folder.path().join("staging"));
    fs::create_dir(&dir).expect("created");
    let settings = RegistrySettings { settle: Duration::from_millis(4), ..RegistrySettings::new(dir.clone()) };
    let registry = Registry::new(settings, golden::verify);
    let mut draw = Draw(0x2545_f491);
    let (mut whole, mut abandoned, mut loads) = (BTreeSet::new(), 0, 0);
    let look = |whole: &BTreeSet<String>, loads: &mut u64| {
        for event in registry.scan(Patience::WhenStable) {
            if let RegistryEvent::Published { digest, version, .. } = event {
                assert!(whole.contains(&digest), "a part of {version} was loaded");
                *loads += 1;
            }
        }
    };
    for round in 0..count {
        let mut bundle = TestBundle::clv(&format!("v1.{round}")).with_log_mean(2.0 + (round % 50) as f64 / 25.0);
        bundle.model.push_str(&" ".repeat(160 * 1024));
        bundle.write(&staging);
        let made = staging.join("clv").join(&bundle.version);
        let place = dir.join("clv").join(&bundle.version);
        fs::create_dir_all(&place).expect("created");
        let mut files = ["bundle.toml", "model.json", "golden.jsonl"];
        let stops = draw.below(4) == 0;
        // One that is never whole ends in the middle of its manifest or its model: it does without golden rows.
        files.rotate_left(if stops { 1 + draw.below(2) } else { draw.below(3) } as usize);
        if stops {
            abandoned += 1;
        } else {
            whole.insert(BundleFiles::read(&made).expect("a bundle").digest.to_string());
        }
        for (at, file) in files.iter().enumerate() {
            let bytes = fs::read(made.join(file)).expect("made");
            let mut written = 0;
            while written < bytes.len() {
                written = (written + 64 * 1024).min(bytes.len());
                if stops && at == 2 {
                    fs::write(place.join(file), &bytes[..bytes.len() / 2]).expect("written");
                    break;
                }
                fs::write(place.join(file), &bytes[..written]).expect("written");
                std::thread::sleep(Duration::from_micros(draw.below(3000)));
                look(&whole, &mut loads);
            }
        }
        for _ in 0..2 {
            look(&whole, &mut loads);
            std::thread::sleep(Duration::from_millis(5));
        }
        look(&whole, &mut loads);
        if round > 4 {
            let _ = fs::remove_dir_all(dir.join("clv").join(format!("v1.{}", round - 5)));
        }
        fs::remove_dir_all(&staging).expect("removed");
    }
    assert!(loads > 0 && whole.len() as u64 + abandoned == count);
    figures(&format!(
        "{count} slow writes in pieces, {abandoned} of them abandoned: {loads} loads, 0 of parts; {} bundles were whole",
        whole.len()
    ));
}

#[test]
fn files_that_arrive_in_pieces_are_loaded_whole_or_not_at_all() {
    slow_writes(24);
}

#[test]
#[ignore = "about a minute: cargo test --release --test it -- --ignored --exact model_storm::a_thousand_slow_writes_load_no_parts --nocapture"]
fn a_thousand_slow_writes_load_no_parts() {
    slow_writes(1000);
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// Swaps a model of a megabyte to and fro and looks at this process's memory.
fn memory_of(swaps: u32) {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (version, log_mean) in [("v1.1", 3.0), ("v1.2", 4.0)] {
        let mut bundle = TestBundle::clv(version).with_log_mean(log_mean);
        bundle.model.push_str(&" ".repeat(1 << 20));
        bundle.write(folder.path());
    }
    let registry = Registry::new(RegistrySettings::new(folder.path().to_owned()), golden::verify);
    registry.scan(Patience::Now);
    registry.scan(Patience::WhenStable);
    let swap = |round: u32| {
        let version = if round.is_multiple_of(2) { "v1.1" } else { "v1.2" };
        drop(registry.promote("clv", version).expect("promoted"));
    };
    (0..20).for_each(swap);
    let before = resident();
    (0..swaps).for_each(swap);
    let grown = resident().saturating_sub(before);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    figures(&format!(
        "{swaps} swaps of 1 MiB models: resident {:.1} MiB, grown by {:.2} MiB",
        mib(before + grown),
        mib(grown)
    ));
    assert!(grown <= 20 << 20, "{grown} bytes");
}

/// In a process of its own: the other tests of this one take memory too.
#[test]
fn memory_is_flat_over_swaps() {
    let child = Command::new(std::env::current_exe().expect("test binary"))
        .args(["--exact", "model_storm::memory_over_a_hundred_swaps", "--ignored", "--nocapture"])
        .output()
        .expect("child");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    println!("{}", said.lines().find(|line| line.contains("grown by")).expect("its figures"));
}

#[test]
#[ignore = "the other half of a test that needs a process of its own"]
fn memory_over_a_hundred_swaps() {
    memory_of(100);
}

#[test]
#[ignore = "half a minute: cargo test --release --test it -- --ignored --exact model_storm::memory_is_flat_over_a_thousand_swaps --nocapture"]
fn memory_is_flat_over_a_thousand_swaps() {
    memory_of(1000);
}

/// The shipped models pass every stage, the child process included.
#[test]
fn the_shipped_models_pass_every_stage() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let probe = Some(env!("CARGO_BIN_EXE_scoreline").into());
    let registry = Registry::new(RegistrySettings { probe, ..RegistrySettings::new(dir) }, golden::verify);
    registry.scan(Patience::WhenStable);
    registry.scan(Patience::WhenStable);
    let refused: Vec<_> = registry.status().into_iter().filter(|version| version.state.refusal().is_some()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(registry.serving_names(), "clv, clv-purchases, lead");
}
