//! A real process that fetches history is killed again and again, and what it leaves is what an undisturbed one does.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use scoreline_domain::time::{Clock as _, Stopwatch, SystemClock, Timestamp};
use scoreline_simulator::{Party, Simulator, SimulatorSettings};
use scoreline_store::{Store, StoreSettings};

use super::line::dump;
use crate::ground::Ground;
use crate::leads::served::platform_environment;
use crate::process::scoreline;

const PEPPER: &str = "a pepper that lasts for this test";

/// A platform under the real clock, with small pages so that there are many places to be killed at.
fn platform() -> Simulator {
    let mut settings =
        SimulatorSettings { customers: 150, interactions_per_customer: 60.0, days: 21, ..SimulatorSettings::default() };
    settings.limits.requests = 100_000;
    Simulator::start(settings).expect("a simulator")
}

/// `scoreline` with the platform and a store in `folder`, or at `url`.
pub fn command(arguments: &[&str], platform: &Simulator, folder: &Path, url: Option<&str>) -> Command {
    let models = folder.join("models");
    std::fs::create_dir_all(&models).expect("a folder");
    let mut command = scoreline(arguments, &models);
    command
        .envs(platform_environment(platform, folder))
        .env("SCORELINE__GENESYS__JOB_PAGE_SIZE", "40")
        .env("SCORELINE__GENESYS__JOB_WINDOW_DAYS", "31")
        .env("SCORELINE__GENESYS__QUERY_PAGE_SIZE", "20")
        .env("SCORELINE__EXTRACT__LOOK_BACK_DAYS", "21")
        .env("SCORELINE__PRIVACY__PEPPER", PEPPER)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    match url {
        Some(url) => command.env("SCORELINE__STORE__URL", url).env_remove("SCORELINE__STORE__PATH"),
        None => command.env("SCORELINE__STORE__PATH", folder.join("scoreline.db")),
    };
    command
}

/// Runs until it ends by itself, killed after each of these pauses. How often it was killed before its end.
fn extract(platform: &Simulator, folder: &Path, url: Option<&str>, kills: impl Iterator<Item = Duration>) -> u32 {
    let mut killed = 0;
    for pause in kills {
        let mut child = command(&["extract", "--once"], platform, folder, url).spawn().expect("starts");
        let watch = Stopwatch::start();
        while watch.elapsed() < pause {
            if child.try_wait().expect("waited").is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let ended = child.try_wait().expect("waited").is_some();
        // SIGKILL.
        let _ = child.kill();
        let _ = child.wait();
        if ended {
            break;
        }
        killed += 1;
    }
    let last = command(&["extract", "--once"], platform, folder, url).output().expect("runs");
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    killed
}

/// What a store holds of what had ended, and been analysed, well before the test began.
fn kept(settings: &StoreSettings, until: Timestamp) -> Vec<(scoreline_domain::CustomerKey, Vec<String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Store::open(settings).await.expect("whole after every kill");
        let dump = dump(&store, until).await;
        store.close().await;
        dump
    })
}

fn disturbed_is_undisturbed(kills: usize) {
    let platform = platform();
    let until = SystemClock.now().checked_sub(Duration::from_hours(2)).expect("in the calendar");
    let (calm, wild) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let watch = Stopwatch::start();
    extract(&platform, calm.path(), None, std::iter::empty());
    let whole = watch.elapsed();
    let settings = |folder: &tempfile::TempDir| StoreSettings::sqlite(folder.path().join("scoreline.db"));
    let expected = kept(&settings(&calm), until);
    let truth = platform.truth();
    let closed = truth.closed().filter(|one| matches!(one.party, Party::Contact { .. }));
    let truth = closed.filter(|one| one.end.is_some_and(|end| end <= until)).count();
    assert_eq!(expected.iter().map(|(_, lines)| lines.len()).sum::<usize>(), truth);

    let mut random = fastrand::Rng::with_seed(17);
    let pauses = (0..kills).map(|_| whole.mul_f64(random.f64() * 0.5));
    let mut killed = extract(&platform, wild.path(), None, pauses);
    let mut rounds = 1;
    while killed < kills as u32 {
        // It got to its end: from the beginning, in a store of its own.
        assert_eq!(kept(&settings(&wild), until), expected, "after {killed} kills");
        for ending in ["", "-wal", "-shm", ".lock"] {
            let _ = std::fs::remove_file(wild.path().join(format!("scoreline.db{ending}")));
        }
        let pauses = (killed..kills as u32).map(|_| whole.mul_f64(random.f64() * 0.5));
        killed += extract(&platform, wild.path(), None, pauses);
        rounds += 1;
    }
    assert_eq!(kept(&settings(&wild), until), expected, "after {killed} kills");
    let customers = expected.len();
    eprintln!(
        "{killed} kills in {rounds} extractions of {whole:?}: {truth} interactions of {customers} customers, the same"
    );
}

#[test]
fn kills_leave_what_an_undisturbed_extraction_does() {
    disturbed_is_undisturbed(4);
}

#[test]
#[ignore = "a minute or two: cargo test --workspace --test it worker::killed -- --ignored"]
fn twenty_kills_leave_what_an_undisturbed_extraction_does() {
    disturbed_is_undisturbed(20);
}

#[test]
#[ignore = "minutes: cargo test --workspace --test it worker::killed -- --ignored"]
fn two_hundred_kills_leave_what_an_undisturbed_extraction_does() {
    disturbed_is_undisturbed(200);
}

#[test]
#[ignore = "the lease of a killed process is waited for: cargo test --workspace --test it worker::killed -- --ignored"]
fn kills_are_survived_on_postgresql_too() {
    let platform = platform();
    let until = SystemClock.now().checked_sub(Duration::from_hours(2)).expect("in the calendar");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = runtime.block_on(Ground::postgres("killed"));
    let url = match &ground.settings.place {
        scoreline_store::StorePlace::Postgres(url) => secrecy::ExposeSecret::expose_secret(url).to_owned(),
        scoreline_store::StorePlace::Sqlite(_) | scoreline_store::StorePlace::Memory => {
            unreachable!("asked for PostgreSQL")
        }
    };
    let (calm, wild) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    extract(&platform, calm.path(), None, std::iter::empty());
    let expected = kept(&StoreSettings::sqlite(calm.path().join("scoreline.db")), until);
    // The lease of a killed process runs out after half a minute, and the next one waits for it.
    let killed = extract(&platform, wild.path(), Some(&url), [Duration::from_millis(600)].into_iter());
    assert_eq!(kept(&ground.settings, until), expected);
    eprintln!("{killed} kill on PostgreSQL, the same");
    runtime.block_on(ground.remove());
}
