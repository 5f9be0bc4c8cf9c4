//! Replicas that are killed at any time: what was acknowledged by one is known to the others and to those that start anew,
//! and nobody who asks the others notices.

use std::time::Duration;

use scoreline_store::StorePlace;
use secrecy::ExposeSecret as _;

use super::fleet::{Acknowledged, Fleet, Predicted, call, predict, random, stop, tell};
use crate::ground::Ground;
use crate::process::{Server, post};
use crate::worker::served::{body, wait_for};

const VERSIONS: [&str; 2] = ["v1.1", "v1.2"];

fn version(server: &Server) -> String {
    let question = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;
    let reply = post(&server.listen, "/v1/predict/clv", question);
    body(&reply)["metadata"]["model_version"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
}

fn kills(rounds: usize) {
    let mut random = random();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = runtime.block_on(Ground::postgres("replicas_killed"));
    let StorePlace::Postgres(url) = &ground.settings.place else { unreachable!("asked for above") };
    let fleet = Fleet::on(url.expose_secret());
    let mut servers = vec![fleet.start(), fleet.start(), fleet.start()];
    wait_for("the models to stand still", || {
        post(&servers[0].admin, "/admin/models/clv/v1.2/promote", "").starts_with("HTTP/1.1 200")
    });
    let mut kept = Acknowledged::default();
    let (mut answers, mut longest, mut refused) = (0, Duration::ZERO, 0);
    for round in 0..rounds {
        let telling: Vec<_> =
            servers.iter().enumerate().map(|(place, server)| tell(server, &format!("C-{round}-{place}"))).collect();
        let asking: Vec<_> = servers.iter().map(predict).collect();
        std::thread::sleep(Duration::from_millis(random.u64(100..600)));
        let promoted = VERSIONS[random.usize(..2)];
        let by = random.usize(..3);
        let path = format!("/admin/models/clv/{promoted}/promote");
        let is_promoted = call(&servers[by].admin, "POST", &path, "").is_some_and(|reply| reply.status == 200);
        std::thread::sleep(Duration::from_millis(random.u64(0..50)));
        let victim = random.usize(..3);
        telling[victim].release();
        asking[victim].release();
        servers[victim].signal("KILL");
        std::thread::sleep(Duration::from_millis(random.u64(100..400)));
        for going in telling {
            let told = going.end();
            refused += told.refused;
            kept.take(told.kept);
        }
        for going in asking {
            let Predicted { answers: more, longest: slowest } = going.end();
            answers += more;
            longest = longest.max(slowest);
        }
        let mut dead = std::mem::replace(&mut servers[victim], fleet.start());
        assert!(!dead.child.wait().expect("ended").success());
        let sample = kept.sample(50, &mut random);
        for (place, server) in servers.iter().enumerate() {
            let is_new = if place == victim { "new" } else { "survived" };
            sample.is_known_to(server, &format!("round {round}, replica {place} ({is_new})"));
            if is_promoted {
                wait_for("the promotion", || version(server) == promoted);
            }
        }
    }
    let all = version(&servers[0]);
    assert!(servers.iter().all(|server| version(server) == all));
    kept.is_known_to(&servers[0], "at the end");
    assert!(!kept.outcomes.is_empty() && answers > 0);
    eprintln!(
        "{rounds} kills of one of three: {} were acknowledged, 0 lost, {refused} refused; {answers} predictions of the \
         model, the slowest {longest:?}",
        kept.counts()
    );
    servers.into_iter().for_each(stop);
    runtime.block_on(ground.remove());
}

#[test]
fn what_one_of_three_acknowledged_outlasts_kills_of_any() {
    kills(3);
}

#[test]
#[ignore = "minutes: cargo test --test it replicas::killed::a_hundred -- --ignored --nocapture"]
fn a_hundred_kills_of_one_of_three_lose_nothing() {
    kills(100);
}
