//! A second server takes over: behind an address that follows the primary, facts are kept again, and nothing that was
//! acknowledged is lost.

use std::time::Duration;

use scoreline_domain::time::Stopwatch;

use super::cluster::{Cluster, url};
use super::fleet::{Acknowledged, Fleet, call, is_open, outcome, predict, stop, tell};
use super::forwarder::Forwarder;
use crate::worker::served::wait_for;

/// How the first server goes.
#[derive(Clone, Copy, Debug)]
enum Departure {
    /// Its processes end: the system closes their connections.
    Killed,
    /// Its machine goes: nobody is told, and open connections stay silent.
    Vanished,
    /// It is stopped and comes back as a standby, to which the address leads for a while, as a stale name does; connections to it
    /// stay open when the address leads elsewhere.
    Demoted,
}

fn failover(departure: Departure) {
    let test = format!("{departure:?}");
    let Some(primary) = Cluster::begin(&test) else { return };
    primary.sql("CREATE DATABASE replicas TEMPLATE template0");
    let standby = primary.with_standby(&test);
    let forwarder = Forwarder::to(primary.port);
    let fleet = Fleet::on(&url(forwarder.port, "replicas"));
    let servers = [fleet.start(), fleet.start()];
    let telling: Vec<_> = servers.iter().zip(["C-0", "C-1"]).map(|(server, name)| tell(server, name)).collect();
    let asking: Vec<_> = servers.iter().map(predict).collect();
    std::thread::sleep(Duration::from_secs(1));
    let begun = Stopwatch::start();
    match departure {
        Departure::Killed => primary.kill(),
        Departure::Vanished => {
            forwarder.fall_silent();
            primary.kill();
        }
        Departure::Demoted => {
            primary.stop("fast");
            primary.demote();
            primary.start();
        }
    }
    standby.promote();
    if let Departure::Demoted = departure {
        for server in &servers {
            wait_for("the word that nothing can be kept", || !is_open(server));
        }
    }
    forwarder.lead_to(standby.port);
    let (watch, ready) = (Stopwatch::start(), begun.elapsed());
    for (place, server) in servers.iter().enumerate() {
        wait_for("facts to be kept again", || {
            let probe = outcome(&format!("after-{place}"));
            call(&server.listen, "POST", "/v1/outcomes", &probe).is_some_and(|reply| reply.status == 200)
        });
    }
    let again = watch.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    let mut kept = Acknowledged::default();
    let (mut refused, mut gap, mut slowest) = (0, Duration::ZERO, Duration::ZERO);
    for going in telling {
        let told = going.end();
        refused += told.refused;
        gap = gap.max(told.gap);
        slowest = slowest.max(told.longest);
        kept.take(told.kept);
    }
    let predicted: Vec<_> = asking.into_iter().map(super::fleet::Going::end).collect();
    let answers: usize = predicted.iter().map(|predicted| predicted.answers).sum();
    let longest = predicted.iter().map(|predicted| predicted.longest).max().unwrap_or_default();
    eprintln!(
        "{departure:?}: the other server led after {ready:?}, facts were kept again {again:?} later, after {gap:?} without any; \
         {} acknowledged, {refused} refused, the slowest answer {slowest:?}; {answers} predictions, the slowest {longest:?}",
        kept.counts()
    );
    for server in &servers {
        wait_for("the word that all is well", || is_open(server));
        kept.is_known_to(server, &test);
    }
    assert!(!kept.outcomes.is_empty() && answers > 0);
    assert!(again < Duration::from_secs(15), "{departure:?}: {again:?}");
    assert!(slowest < Duration::from_secs(15), "{departure:?}: a fact was answered after {slowest:?}");
    servers.into_iter().for_each(stop);
}

#[test]
fn a_primary_that_is_killed_is_followed_by_its_standby() {
    failover(Departure::Killed);
}

#[test]
fn a_primary_that_vanishes_is_not_waited_for() {
    failover(Departure::Vanished);
}

#[test]
fn a_primary_that_became_a_standby_is_left() {
    failover(Departure::Demoted);
}
