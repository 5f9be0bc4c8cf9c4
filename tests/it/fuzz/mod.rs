//! Every parser against bent inputs: no panic, no hang, no memory that the input's size does not explain, never a 5xx.
//!
//! Inputs are made from seeds by mutation with a fixed seed: a failure comes again. The short run is part of every test
//! run; `fuzz/run` drives the same targets by coverage.

mod mutate;
mod protobuf;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use scoreline_domain::time::Stopwatch;

use targets::{TARGETS, Target};

/// Inputs for each target in every test run, and the time after which it is left at fewer.
const SHORT_INPUTS: u64 = 300;
const SHORT_TIME: Duration = Duration::from_millis(700);
const LONG_INPUTS: u64 = 1_000_000;
/// An input that is not done by then never will be.
const STUCK: Duration = Duration::from_mins(1);
/// Bytes of randomness behind one input.
const ENTROPY: usize = 192;

/// What driving a target came to.
struct Report {
    name: &'static str,
    inputs: u64,
    bytes: u64,
    elapsed: Duration,
    /// Most bytes that one input held.
    held: u64,
    /// Inputs that broke a promise, with what was said. The first one ends the target.
    broken: Option<(Vec<u8>, String)>,
}

#[test]
fn no_input_breaks_a_parser() {
    report(drive_all(SHORT_INPUTS, Some(SHORT_TIME), ""));
}

#[test]
#[ignore = "minutes to hours: SCORELINE_FUZZ_ITERATIONS=1000000 cargo test --workspace --test it fuzz::a_million -- --ignored --nocapture"]
fn a_million_inputs_break_no_parser() {
    let inputs = variable("SCORELINE_FUZZ_ITERATIONS").and_then(|text| text.parse().ok()).unwrap_or(LONG_INPUTS);
    let seconds = variable("SCORELINE_FUZZ_SECONDS").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    report(drive_all(inputs, seconds, &variable("SCORELINE_FUZZ_TARGET").unwrap_or_default()));
}

#[test]
fn a_broken_promise_is_found_and_told() {
    let target = |feed: fn() -> targets::Feed| Target {
        name: "broken on purpose",
        seeds: || vec![b"{\"a\":1}".to_vec()],
        form: targets::Form::Json,
        open: feed,
        memory: (1024, 16),
    };
    let panics = drive(&target(|| Box::new(|input| assert!(input.contains(&b'a'), "no `a`"))), 5000, None);
    assert!(panics.broken.is_some_and(|(input, said)| !input.contains(&b'a') && said.contains("no `a`")));
    let hoards = drive(&target(|| Box::new(|input| drop(vec![1_u8; 4096 + input.len()]))), 10, None);
    assert!(hoards.broken.is_some_and(|(_, said)| said.contains("allowed")));
    let quiet = drive(&target(|| Box::new(|_| ())), 100, None);
    assert!(quiet.broken.is_none() && quiet.inputs == 101);
}

#[expect(clippy::disallowed_methods, reason = "a suite is sized from outside")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Drives every target whose name begins with `only`, one after the other on threads of their own.
fn drive_all(inputs: u64, time: Option<Duration>, only: &str) -> impl Iterator<Item = Report> {
    let chosen: Vec<_> = TARGETS.iter().filter(|target| target.name.starts_with(only)).collect();
    assert!(!chosen.is_empty(), "no target begins with `{only}`");
    chosen.into_iter().map(move |target| watched(target, inputs, time))
}

/// Drives a target on a thread of its own, says every now and then how far it is, and waits no longer than `STUCK` for
/// each input.
#[expect(clippy::print_stdout, reason = "a suite says that it goes on")]
fn watched(target: &'static Target, inputs: u64, time: Option<Duration>) -> Report {
    let current = Arc::new(Mutex::new((0_u64, Vec::new())));
    let (done, result) = mpsc::channel();
    let mine = Arc::clone(&current);
    let thread = std::thread::Builder::new().name(format!("fuzz {}", target.name)).spawn(move || {
        let report = drive_with(target, inputs, time, |number, input| {
            let mut current = mine.lock().expect("never held across a panic");
            current.0 = number;
            current.1.clear();
            current.1.extend_from_slice(input);
        });
        // A watcher that gave up does not listen.
        let _ = done.send(report);
    });
    let thread = thread.expect("a thread");
    let mut seen = None;
    loop {
        match result.recv_timeout(STUCK) {
            Ok(report) => {
                thread.join().expect("it has reported");
                return report;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let current = current.lock().expect("never held across a panic");
                assert!(seen != Some(current.0), "{} hangs on {}", target.name, shown(&current.1));
                seen = Some(current.0);
                println!("{:<20} {:>9} of {inputs}, still at it", target.name, current.0);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                panic!("{}: its seeds or subject cannot be made", target.name)
            }
        }
    }
}

fn drive(target: &Target, inputs: u64, time: Option<Duration>) -> Report {
    drive_with(target, inputs, time, |_, _| {})
}

/// Feeds every seed as it is, then bent ones; stops at the first that breaks a promise.
fn drive_with(target: &Target, inputs: u64, time: Option<Duration>, mut announce: impl FnMut(u64, &[u8])) -> Report {
    let seeds = target.corpus();
    let mut feed = (target.open)();
    let mut random = Random(0x5c0_7e11_e5ee_d000 + target.name.len() as u64);
    let mut entropy = [0; ENTROPY];
    let watch = Stopwatch::start();
    let mut report = Report { name: target.name, inputs: 0, bytes: 0, elapsed: Duration::ZERO, held: 0, broken: None };
    for number in 0..seeds.len() as u64 + inputs {
        let bent;
        let input = if let Some(seed) = seeds.get(number as usize) {
            seed
        } else {
            random.fill(&mut entropy);
            bent = mutate::mutate(target.form, &seeds, &entropy);
            &bent
        };
        announce(number, input);
        report.inputs += 1;
        report.bytes += input.len() as u64;
        match catch_unwind(AssertUnwindSafe(|| target.check(&mut feed, input))) {
            Ok(held) => report.held = report.held.max(held),
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                report.broken = Some((input.clone(), said.unwrap_or_default()));
                break;
            }
        }
        if time.is_some_and(|time| watch.elapsed() > time) && number >= seeds.len() as u64 {
            break;
        }
    }
    report.elapsed = watch.elapsed();
    report
}

/// Prints a line for each target when it is done, and fails when one was broken.
#[expect(clippy::print_stdout, reason = "a suite prints its figures")]
fn report(reports: impl Iterator<Item = Report>) {
    println!("{:<20} {:>9} {:>9} {:>10} {:>9} {:>12}", "target", "inputs", "seconds", "inputs/s", "MB", "most held");
    let (mut inputs, mut seconds) = (0, 0.0);
    let mut broken = Vec::new();
    for report in reports {
        let elapsed = report.elapsed.as_secs_f64();
        inputs += report.inputs;
        seconds += elapsed;
        println!(
            "{:<20} {:>9} {:>9.1} {:>10.0} {:>9.1} {:>9} KiB{}",
            report.name,
            report.inputs,
            elapsed,
            report.inputs as f64 / elapsed.max(1e-9),
            report.bytes as f64 / 1e6,
            report.held / 1024,
            if report.broken.is_some() { "  BROKEN" } else { "" }
        );
        broken.extend(
            report.broken.map(|(input, said)| format!("{}: {said}\n{}", report.name, kept(report.name, &input))),
        );
    }
    println!("{:<20} {inputs:>9} {seconds:>9.1} {:>10.0}", "all", inputs as f64 / seconds.max(1e-9));
    assert!(broken.is_empty(), "inputs broke promises:\n{}", broken.join("\n\n"));
}

/// Writes a breaking input where it can be looked at, and says where.
fn kept(name: &str, input: &[u8]) -> String {
    let folder = targets::root().join("target/fuzz");
    let path = folder.join(format!("{name}-{}", &scoreline_engine::inference::bundle::sha256_hex(input)[..12]));
    match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, input)) {
        Ok(()) => format!("  in target/fuzz: {}", shown(input)),
        Err(err) => format!("  not kept ({err}): {}", shown(input)),
    }
}

fn shown(input: &[u8]) -> String {
    format!("{} bytes: {}", input.len(), input[..input.len().min(600)].escape_ascii())
}

/// xorshift64*: good enough to choose by, and the same everywhere.
struct Random(u64);

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for eight in bytes.chunks_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            eight.copy_from_slice(&word[..eight.len()]);
        }
    }
}
