//! A whole contact centre: a hundred thousand customers with five million interactions, fetched, folded, scored and written
//! back by the real program, on either database. Prints what it took.
//!
//! `SCORELINE_BIG_CUSTOMERS` makes it smaller, `SCORELINE_BIG_LIMIT` is the platform's limit of requests a minute.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use scoreline::config::variable;
use scoreline_domain::time::Stopwatch;
use scoreline_simulator::{Simulator, SimulatorSettings};
use scoreline_store::StorePlace;

use super::killed::command;
use crate::ground::Ground;

const CUSTOMERS: u32 = 100_000;
/// Requests a minute, as many as the settings allow: with the platform's 300 it would be a matter of the limit alone.
const LIMIT: u32 = 100_000;
const REAL_LIMIT: f64 = 300.0;

/// What one command took.
struct Took {
    seconds: f64,
    /// Most memory it had, in MiB.
    memory: f64,
    said: String,
}

fn number(name: &str, otherwise: u32) -> u32 {
    let given = variable(name).and_then(|text| text.into_string().ok());
    given.map_or(otherwise, |text| text.parse().expect("a whole number"))
}

fn run(arguments: &[&str], platform: &Simulator, folder: &Path, url: Option<&str>, limit: u32) -> Took {
    let watch = Stopwatch::start();
    let mut command = command(arguments, platform, folder, url);
    let mut child = command
        .env("SCORELINE__MODELS__DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/models"))
        .env("SCORELINE__GENESYS__REQUESTS_PER_MINUTE", limit.to_string())
        .env("SCORELINE__GENESYS__JOB_PAGE_SIZE", "1000")
        .env("SCORELINE__GENESYS__JOB_WINDOW_DAYS", "31")
        .env("SCORELINE__GENESYS__QUERY_PAGE_SIZE", "100")
        .env("SCORELINE__EXTRACT__LOOK_BACK_DAYS", "365")
        .env("SCORELINE__WRITE_BACK__SINK", "profile")
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut memory: f64 = 0.0;
    while child.try_wait().expect("waited").is_none() {
        memory = memory.max(peak(child.id()));
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().expect("ended");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    Took { seconds: watch.elapsed().as_secs_f64(), memory, said }
}

/// `VmHWM` of a process, in MiB; 0 once it is gone.
fn peak(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn from_end_to_end(database: &str, folder: &Path, url: Option<&str>) {
    let (customers, limit) = (number("SCORELINE_BIG_CUSTOMERS", CUSTOMERS), number("SCORELINE_BIG_LIMIT", LIMIT));
    let mut settings = SimulatorSettings {
        customers,
        interactions_per_customer: 50.0,
        days: 365,
        threads: 2,
        ..SimulatorSettings::default()
    };
    settings.limits.requests = limit;
    let platform = Simulator::start(settings).expect("a simulator");

    let extracted = run(&["extract", "--once"], &platform, folder, url, limit);
    let (fetching, refused) = platform.requests();
    let rescored = run(&["rescore"], &platform, folder, url, limit);
    let (all, refused_in_all) = platform.requests();
    let again = run(&["extract", "--once"], &platform, folder, url, limit);
    let (with_again, _) = platform.requests();
    let nothing = run(&["rescore"], &platform, folder, url, limit);

    eprintln!("{database}: {customers} customers, limit {limit} requests a minute");
    eprintln!("  fetched in {:.1} s, {:.0} MiB: {}", extracted.seconds, extracted.memory, extracted.said.trim());
    let at_the_limit = fetching as f64 / REAL_LIMIT;
    eprintln!("  {fetching} requests ({refused} refused): {at_the_limit:.0} minutes at {REAL_LIMIT} a minute");
    eprintln!(
        "  features, scores, profiles in {:.1} s, {:.0} MiB:\n{}",
        rescored.seconds, rescored.memory, rescored.said
    );
    let writing = all - fetching;
    eprintln!("  {writing} requests to write ({} refused)", refused_in_all - refused);
    eprintln!("  busiest window: {} of {limit} allowed", platform.busiest_window());
    eprintln!("  fetched again in {:.1} s with {} requests: {}", again.seconds, with_again - all, again.said.trim());
    eprintln!("  and rescored in {:.1} s, {:.0} MiB:\n{}", nothing.seconds, nothing.memory, nothing.said);
    if url.is_none() {
        let size = std::fs::metadata(folder.join("scoreline.db")).expect("there").len();
        eprintln!("  store: {:.0} MiB", size as f64 / f64::from(1 << 20));
    }
    assert!(platform.busiest_window() <= limit as usize);
    assert!(platform.profiles().len() as u32 > customers / 2, "{}", platform.profiles().len());
}

#[test]
#[ignore = "half an hour, in release: cargo test --release --test it worker::hundred_thousand -- --ignored --nocapture"]
fn through_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    from_end_to_end("SQLite", folder.path(), None);
}

#[test]
#[ignore = "half an hour, in release: cargo test --release --test it worker::hundred_thousand -- --ignored --nocapture"]
fn through_postgresql() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = runtime.block_on(Ground::postgres("hundred_thousand"));
    let StorePlace::Postgres(url) = &ground.settings.place else { unreachable!("asked for PostgreSQL") };
    let folder = tempfile::tempdir().expect("a folder");
    from_end_to_end("PostgreSQL", folder.path(), Some(secrecy::ExposeSecret::expose_secret(url)));
    runtime.block_on(ground.remove());
}
