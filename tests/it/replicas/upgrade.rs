//! A rolling upgrade: replicas of two programs on one database, which the newer one has brought forward.
//!
//! The newer program's part is done by its migrations alone, run as it would run them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use scoreline_store::StorePlace;
use secrecy::ExposeSecret as _;
use sqlx::Connection as _;
use sqlx::migrate::Migrator;

use super::fleet::{Acknowledged, Fleet, call, is_open, outcome, predict, stop, tell};
use crate::ground::Ground;
use crate::process::{Server, get, scoreline};
use crate::worker::served::wait_for;

/// The lock of those who write.
const WRITERS: i64 = i64::from_be_bytes(*b"scorelin");

/// Tables that this program writes to.
const TABLES: [&str; 12] = [
    "counters",
    "customers",
    "features",
    "lead_log",
    "leads",
    "outcomes",
    "pepper_layers",
    "positions",
    "predictions",
    "promotions",
    "tombstones",
    "wishes",
];

/// What a next release may do beside replicas of this one: columns with a default, tables, indexes.
fn additive() -> String {
    let columns = TABLES.map(|table| format!("ALTER TABLE {table} ADD COLUMN added BIGINT NOT NULL DEFAULT 7;"));
    format!(
        "{} CREATE TABLE added (num BIGINT PRIMARY KEY NOT NULL); CREATE INDEX added_outcomes ON outcomes (added);",
        columns.join(" ")
    )
}

/// What it may only do when all of them have stopped.
const BREAKING: &str =
    "UPDATE oldest_program SET schema_version = 9999; ALTER TABLE outcomes RENAME COLUMN mature TO ripe;";

/// The migrations of this program up to a version, and those of the next.
fn migrate(url: &str, up_to: i64, next: &[(i64, &str)]) {
    let folder = tempfile::tempdir().expect("a folder");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/store/src/migrations/postgres");
    for file in fs::read_dir(own).expect("a folder") {
        let file = file.expect("an entry");
        let name = file.file_name().into_string().expect("text");
        let version: i64 = name.split('_').next().and_then(|version| version.parse().ok()).expect("a version");
        if version <= up_to {
            fs::copy(file.path(), folder.path().join(name)).expect("copied");
        }
    }
    for (version, sql) in next {
        fs::write(folder.path().join(format!("{version}_next.sql")), sql).expect("written");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = sqlx::PgConnection::connect(url).await.expect("reached");
        // As the program does it: those who write do so before or after it.
        let lock = sqlx::query("SELECT pg_advisory_lock($1)").bind(WRITERS);
        lock.execute(&mut connection).await.expect("locked");
        let migrator = Migrator::new(folder.path()).await.expect("migrations");
        migrator.run_direct(None, &mut connection, false).await.expect("brought forward");
        connection.close().await.expect("closed");
    });
}

fn is_kept(server: &Server, customer: &str) -> bool {
    call(&server.listen, "POST", "/v1/outcomes", &outcome(customer)).is_some_and(|reply| reply.status == 200)
}

#[test]
fn replicas_of_the_release_before_go_on_beside_the_next_and_start_beside_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = runtime.block_on(Ground::postgres("rolling"));
    let StorePlace::Postgres(url) = &ground.settings.place else { unreachable!("asked for above") };
    let url = url.expose_secret();
    let fleet = Fleet::on(url);
    let mut kept = Acknowledged::default();
    let running = fleet.start();
    let (telling, asking) = (tell(&running, "C"), predict(&running));
    std::thread::sleep(Duration::from_millis(500));
    migrate(url, i64::MAX, &[(9998, &additive())]);
    std::thread::sleep(Duration::from_millis(500));
    // As when it is moved to another machine in the middle of the upgrade.
    let mut restarted = fleet.start();
    let told = telling.end();
    assert_eq!(told.refused, 0, "nobody notices");
    kept.take(told.kept);
    assert!(asking.end().answers > 0 && !kept.leads.is_empty());
    for server in [&running, &restarted] {
        kept.is_known_to(server, "after an addition");
    }
    eprintln!("beside an addition: {} acknowledged, 0 refused, {:?} without any at most", kept.counts(), told.gap);

    // What does more than that stops them, and says so.
    migrate(url, i64::MAX, &[(9998, &additive()), (9999, BREAKING)]);
    for server in [&running, &restarted] {
        assert!(!is_kept(server, "C-LATE"), "at once");
        wait_for("the word of it", || !is_open(server));
    }
    assert!(predict(&running).end().answers <= 1);
    restarted.event("the store does not do its work: nothing of customers is kept or found anew");
    stop(restarted);
    let mut late = Server::start_with(fleet.models.path(), &fleet.environment());
    if !late.begun.contains("tried again until it can be used") {
        let said = late.event("tried again until it can be used; predictions are answered");
        assert!(said["reason"].as_str().is_some_and(|reason| reason.contains("run the newer program")), "{said}");
    }
    assert!(get(&late.admin, "/metrics").contains("scoreline_store_open 0"));
    let doctor = scoreline(&["doctor"], fleet.models.path()).envs(fleet.environment()).output().expect("runs");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("fix: run the newer program"), "{said}");
    for server in [late, running] {
        stop(server);
    }
    runtime.block_on(ground.remove());
}

#[test]
fn a_replica_brings_the_schema_forward_beside_those_that_write() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = runtime.block_on(Ground::postgres("forward"));
    let StorePlace::Postgres(url) = &ground.settings.place else { unreachable!("asked for above") };
    let url = url.expose_secret();
    // As it was before the last version: with somebody who holds the lock of those who write.
    migrate(url, 11, &[]);
    let mut writing = runtime.block_on(sqlx::PgConnection::connect(url)).expect("reached");
    let mut tx = runtime.block_on(writing.begin()).expect("begun");
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITERS).execute(&mut *tx);
    runtime.block_on(lock).expect("locked");
    let fleet = Fleet::on(url);
    let server = Server::start_with(fleet.models.path(), &fleet.environment());
    assert!(get(&server.admin, "/metrics").contains("scoreline_store_open 0"), "it waits for its turn");
    let insert =
        sqlx::query("INSERT INTO counters (name, value) VALUES ('of the release before', 1)").execute(&mut *tx);
    runtime.block_on(insert).expect("written");
    runtime.block_on(tx.commit()).expect("committed");
    wait_for("the store", || is_open(&server));
    assert!(is_kept(&server, "C-1"));
    runtime.block_on(writing.close()).expect("closed");
    stop(server);
    runtime.block_on(ground.remove());
}

/// The program of a release beside this one, which has brought the schema forward.
#[test]
#[ignore = "needs the program of a release: SCORELINE_OLD=… cargo test --workspace --test it replicas::upgrade::from -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "it is told the program this way")]
fn from_the_program_of_a_release() {
    let old = std::env::var("SCORELINE_OLD").expect("SCORELINE_OLD names the program of a release");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = runtime.block_on(Ground::postgres("from_a_release"));
    let StorePlace::Postgres(url) = &ground.settings.place else { unreachable!("asked for above") };
    let fleet = Fleet::on(url.expose_secret());
    let start_old = || {
        let mut command = std::process::Command::new(&old);
        command.arg("serve").env("SCORELINE__MODELS__DIR", fleet.models.path());
        Server::run(command, &fleet.environment())
    };
    let before = start_old();
    wait_for("the store", || is_open(&before));
    let telling = tell(&before, "OLD");
    let after = fleet.start();
    let more = tell(&after, "NEW");
    std::thread::sleep(Duration::from_secs(3));
    let mut kept = Acknowledged::default();
    for told in [telling.end(), more.end()] {
        eprintln!("{} acknowledged, {} refused, {:?} without any at most", told.kept.counts(), told.refused, told.gap);
        kept.take(told.kept);
    }
    for server in [&before, &after] {
        kept.is_known_to(server, "beside each other");
    }
    let again = start_old();
    wait_for("the program that was there before to start again", || is_open(&again));
    kept.is_known_to(&again, "started again");
    for server in [before, after, again] {
        stop(server);
    }
    runtime.block_on(ground.remove());
}
