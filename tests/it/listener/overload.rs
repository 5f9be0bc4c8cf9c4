//! More calls than can be answered, from models of realistic cost: most of the peak is still answered, in time, and what
//! is turned away is turned away at once. What can be answered in time is answered, however many connections ask.
#![expect(clippy::print_stdout, reason = "a suite prints its figures")]

use std::time::Duration;

use super::clients::{Prober, get};
use super::load::{Given, MODEL, Neighbours, Pace, call, open_server, questions, trees};
use crate::process::models;

const TREES: u16 = 10_000;
/// Connections of an overload. A call that none is free for is not made, as from a pool of a client.
const CONNECTIONS: usize = 2000;
/// What `scoring.deadline` gives.
const DEADLINE_MS: f64 = 500.0;

struct Scale {
    length: Duration,
    strict: bool,
}

const SHORT: Scale = Scale { length: Duration::from_secs(2), strict: false };
const LONG: Scale = Scale { length: Duration::from_secs(15), strict: true };

#[test]
fn overload_is_shed() {
    run(&SHORT);
}

#[test]
#[ignore = "80 s: cargo test --release --workspace --test it long_overload -- --ignored --nocapture"]
fn long_overload_is_shed() {
    run(&LONG);
}

#[tokio::main]
async fn run(scale: &Scale) {
    overload("trees", "fallback", scale).await;
    overload("onnx", "fallback", scale).await;
    overload("onnx", "refuse", scale).await;
}

async fn overload(backend: &str, when_overloaded: &str, scale: &Scale) {
    let models = trees(TREES, backend);
    let server = open_server(&models, &[("SCORELINE__SERVER__OVERLOAD", when_overloaded)]);
    let predictions = questions()[..1].into();
    let ask = |connections, pace, length| call(&server.listen, &predictions, connections, pace, length);
    ask(8, Pace::Closed, Duration::from_millis(500)).await;
    let peak = ask(8, Pace::Closed, scale.length / 4).await.goodput();
    let prober = Prober::start(server.admin.parse().expect("an address"), get("/health/live"));
    let over = ask(CONNECTIONS, Pace::Open(peak * 5.0), scale.length).await;
    let liveness = prober.stop().await;
    let after = ask(8, Pace::PerSecond(peak * 0.3), scale.length / 4).await;

    let shed = if when_overloaded == "refuse" { "503" } else { "fallback model_overloaded" };
    let share = over.count(shed) as f64 / over.total() as f64;
    let shed_ms = over.quantile_ms(shed, 0.99);
    let accepted_ms = over.quantile_ms(MODEL, 0.99);
    println!(
        "{TREES} trees, {backend}, overload = {when_overloaded:?}: peak {peak:.0}/s; {:.0}/s offered, {:.0}/s made over \
         {CONNECTIONS} connections for {:.0} s: goodput {:.0}/s ({:.0} % of the peak), p50 {:.0} ms, p99 {accepted_ms:.0} ms; \
         {:.1} % {shed}, p50 {:.1} ms, p99 {shed_ms:.0} ms; all others {:?}; admin liveness p99 {:.1} ms; afterwards {:?}",
        peak * 5.0,
        over.total() as f64 / over.length.as_secs_f64(),
        over.length.as_secs_f64(),
        over.goodput(),
        over.goodput() / peak * 100.0,
        over.quantile_ms(MODEL, 0.5),
        share * 100.0,
        over.quantile_ms(shed, 0.5),
        over.others().iter().filter(|(kind, _)| *kind != shed).collect::<Vec<_>>(),
        liveness.p99_ms(),
        after.others(),
    );
    let allowed = [MODEL, shed, "fallback model_deadline"];
    let strange: Vec<_> = over.kinds.keys().filter(|kind| !allowed.contains(&kind.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(liveness.errors.is_empty(), "{:?}", liveness.errors);
    assert!(over.count(MODEL) > 0);
    if backend == "trees" {
        // Nobody waits for an inline model: all wait for a thread, and connections bound how many.
        assert_eq!(over.others(), []);
    }
    if scale.strict {
        assert_eq!(after.others(), [], "nobody is turned away when it is over");
        assert!(over.goodput() >= 0.9 * peak, "{} of {peak}", over.goodput());
        assert!(accepted_ms <= if backend == "trees" { DEADLINE_MS } else { DEADLINE_MS / 2.0 }, "{accepted_ms} ms");
        assert!(shed_ms.is_nan() || shed_ms <= 50.0, "{shed_ms} ms");
        assert!(liveness.p99_ms() <= 100.0, "{} ms", liveness.p99_ms());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_are_no_overload() {
    connections(500, 1, Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "40 s: cargo test --release --workspace --test it two_thousand_connections -- --ignored --nocapture"]
async fn two_thousand_connections_beside_a_busy_process_get_as_much_as_sixty_four() {
    for (few, many) in connections(2000, 3, Duration::from_secs(3)).await {
        assert!(many >= 0.9 * few, "{many:.0}/s of {few:.0}/s");
    }
}

/// Answers a second over 64 connections and over `many`, beside a busy process, round by round; of each model.
async fn connections(many: usize, rounds: u32, length: Duration) -> Vec<(f64, f64)> {
    let mut goodput = Vec::new();
    for (name, models) in [("inline", models()), ("ONNX Runtime", trees(200, "onnx"))] {
        let server = open_server(&models, &[]);
        let _neighbour = Neighbours::start(1);
        let (mut by_few, mut by_many) = (0.0, 0.0);
        for _ in 0..rounds {
            for (connections, sum) in [(64, &mut by_few), (many, &mut by_many)] {
                let given: Given = call(&server.listen, &questions(), connections, Pace::Closed, length).await;
                println!(
                    "{name}, a busy process, {connections} connections: {:.0}/s, p99 {:.0} ms, others {:?}",
                    given.goodput(),
                    given.quantile_ms(MODEL, 0.99),
                    given.others()
                );
                assert_eq!(given.others(), [], "{name}, {connections} connections");
                *sum += given.goodput() / f64::from(rounds);
            }
        }
        println!("{name}: {by_many:.0}/s over {many} connections, {:.0} % of 64", by_many / by_few * 100.0);
        goodput.push((by_few, by_many));
    }
    goodput
}
