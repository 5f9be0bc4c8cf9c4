//! A database in trouble under load: restarted, frozen, slow, full. Predictions are the model's, facts are kept or refused, and
//! all goes on without a restart.

use std::time::Duration;

use scoreline_domain::time::Stopwatch;

use super::cluster::{Cluster, execute, url};
use super::fleet::{Acknowledged, Fleet, Predicted, call, is_open, outcome, predict, stop, tell};
use super::forwarder::Forwarder;
use crate::process::Server;
use crate::small_disk::SmallDisk;
use crate::worker::served::wait_for;

/// Longest that a fact may wait for its answer, and that predictions may take on a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
const PREDICTED_WITHIN: Duration = Duration::from_secs(2);
/// What a frozen database is left so.
const FREEZE: Duration = Duration::from_secs(12);

/// A database behind an address, two replicas on it, and what they have acknowledged.
struct Scene {
    cluster: Cluster,
    forwarder: Forwarder,
    servers: [Server; 2],
    kept: Acknowledged,
}

impl Scene {
    fn on(cluster: Cluster, database: &str) -> Self {
        let forwarder = Forwarder::to(cluster.port);
        let fleet = Fleet::on(&url(forwarder.port, database));
        Self { cluster, forwarder, servers: [fleet.start(), fleet.start()], kept: Acknowledged::default() }
    }

    /// Lets something happen under load, and holds that it does no more than it may. Returns how many facts were refused.
    fn under_load(&mut self, what: &str, happen: impl FnOnce(&Self)) -> usize {
        let telling: Vec<_> =
            self.servers.iter().enumerate().map(|(place, server)| tell(server, &format!("{what}-{place}"))).collect();
        let asking: Vec<_> = self.servers.iter().map(predict).collect();
        std::thread::sleep(Duration::from_millis(500));
        happen(&*self);
        let watch = Stopwatch::start();
        for (place, server) in self.servers.iter().enumerate() {
            let probe = outcome(&format!("{what}-{place}-after"));
            wait_for("facts to be kept again", || {
                call(&server.listen, "POST", "/v1/outcomes", &probe).is_some_and(|reply| reply.status == 200)
            });
        }
        let again = watch.elapsed();
        let (mut refused, mut gap, mut slowest) = (0, Duration::ZERO, Duration::ZERO);
        for going in telling {
            let told = going.end();
            refused += told.refused;
            gap = gap.max(told.gap);
            slowest = slowest.max(told.longest);
            self.kept.take(told.kept);
        }
        let predicted: Vec<Predicted> = asking.into_iter().map(super::fleet::Going::end).collect();
        let answers: usize = predicted.iter().map(|predicted| predicted.answers).sum();
        let longest = predicted.iter().map(|predicted| predicted.longest).max().unwrap_or_default();
        eprintln!(
            "{what}: {answers} predictions of the model, the slowest {longest:?}; {} acknowledged so far, {refused} refused, \
             the slowest answer {slowest:?}; nothing was kept for {gap:?}, and again {again:?} after it was over",
            self.kept.counts()
        );
        assert!(answers > 0 && longest < PREDICTED_WITHIN, "{what}: {answers}, {longest:?}");
        assert!(slowest < ANSWERED_WITHIN, "{what}: a fact was answered after {slowest:?}");
        for server in &self.servers {
            wait_for("the word that all is well", || is_open(server));
            self.kept.is_known_to(server, what);
        }
        refused
    }

    fn end(self) {
        self.servers.into_iter().for_each(stop);
    }
}

fn trouble(test: &str, rounds: usize, freeze: Duration) {
    let Some(cluster) = Cluster::begin(test) else { return };
    cluster.sql("CREATE DATABASE replicas TEMPLATE template0");
    let mut scene = Scene::on(cluster, "replicas");
    for _ in 0..rounds {
        scene.under_load("restarted", |scene| {
            scene.cluster.stop("immediate");
            std::thread::sleep(Duration::from_millis(500));
            scene.cluster.start();
        });
        let refused = scene.under_load("frozen", |scene| {
            scene.cluster.signal("STOP");
            std::thread::sleep(freeze);
            scene.cluster.signal("CONT");
        });
        assert!(refused > 0, "nobody waits for a frozen database for ever");
        scene.under_load("slow", |scene| {
            scene.forwarder.delay(Duration::from_millis(40));
            std::thread::sleep(Duration::from_secs(3));
            scene.forwarder.delay(Duration::ZERO);
        });
    }
    scene.end();
}

#[test]
fn a_database_that_is_restarted_frozen_or_slow_costs_no_prediction_and_nothing_acknowledged() {
    trouble("a_database_that_is_restarted_frozen_or_slow_costs_no_prediction_and_nothing_acknowledged", 1, FREEZE);
}

#[test]
#[ignore = "minutes: cargo test --test it replicas::trouble::long -- --ignored --nocapture"]
fn long_trouble_again_and_again() {
    trouble("long_trouble_again_and_again", 5, Duration::from_secs(40));
}

#[test]
fn a_database_without_room_refuses_facts_and_heals() {
    let test = "a_database_without_room_refuses_facts_and_heals";
    let Some(cluster) = Cluster::begin(test) else { return };
    let Some(disk) = SmallDisk::of("40m", test) else { return };
    let place = disk.path().join("data");
    std::fs::create_dir(&place).expect("made");
    Cluster::own(disk.path());
    Cluster::own(&place);
    cluster.sql(&format!("CREATE TABLESPACE small LOCATION '{}'", place.display()));
    cluster.sql("CREATE DATABASE replicas TEMPLATE template0 TABLESPACE small");
    let mut scene = Scene::on(cluster, "replicas");
    for round in 0..2 {
        let refused = scene.under_load(&format!("full-{round}"), |scene| {
            disk.fill();
            // Pages that are there may have room for some.
            let mut number = 0;
            wait_for("the end of what is left", || {
                number += 1;
                let rows: Vec<String> = (0..300).map(|row| outcome(&format!("fill-{round}-{number}-{row}"))).collect();
                let reply = call(&scene.servers[0].listen, "POST", "/v1/outcomes", &rows.join("\n"));
                reply.is_some_and(|reply| reply.status == 503)
            });
            for server in &scene.servers {
                wait_for("the word of it", || !is_open(server));
            }
            std::thread::sleep(Duration::from_secs(1));
            disk.empty();
        });
        assert!(refused > 0, "a full database keeps nothing");
        // What vacuum would give back in its time.
        execute(&scene.cluster.url("replicas"), "VACUUM");
    }
    scene.end();
}
