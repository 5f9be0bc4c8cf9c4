//! The machine stands still, or has something else to do: calls are late then, but they are answered by the model.
#![expect(clippy::print_stdout, reason = "a suite prints its figures")]

use std::time::Duration;

use tempfile::TempDir;

use super::clients::metric;
use super::load::{Given, MODEL, Neighbours, Pace, Stalls, call, open_server, questions, trees};
use crate::process::models;

const CONNECTIONS: usize = 8;
const CALLS_PER_SECOND: f64 = 2000.0;
const QUARTER: Duration = Duration::from_millis(25);

/// A model on the threads of requests, and one with threads of its own.
fn subjects() -> [(&'static str, TempDir); 2] {
    [("inline", models()), ("ONNX Runtime", trees(200, "onnx"))]
}

fn tell(name: &str, given: &Given) {
    println!(
        "{name}: {} answers in {:.0} s, {} by the model, others {:?}; p50 {:.1} ms, p99 {:.0} ms, longest {:.0} ms",
        given.total(),
        given.length.as_secs_f64(),
        given.count(MODEL),
        given.others(),
        given.quantile_ms(MODEL, 0.5),
        given.quantile_ms(MODEL, 0.99),
        given.quantile_ms(MODEL, 1.0),
    );
    assert_eq!(given.others(), [], "{name}: only the model's answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stands_still_again_and_again_answers_by_its_model() {
    for (name, models) in subjects() {
        let server = open_server(&models, &[]);
        // Now and then for longer.
        let stand: Vec<_> = (1..=10).map(|turn| if turn == 10 { Duration::from_millis(90) } else { QUARTER }).collect();
        let stalls = Stalls::of(&server, &stand, QUARTER);
        let length = Duration::from_secs(3);
        let given = call(&server.listen, &questions(), CONNECTIONS, Pace::PerSecond(CALLS_PER_SECOND), length).await;
        drop(stalls);
        tell(name, &given);
        assert!(given.total() > 500 && given.quantile_ms(MODEL, 1.0) > 25.0, "it did stand still");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "2 min: cargo test --release --workspace --test it four_busy_processes -- --ignored --nocapture"]
async fn beside_four_busy_processes_every_answer_is_the_models() {
    let half = Duration::from_secs(30);
    for (name, models) in subjects() {
        let server = open_server(&models, &[]);
        let _neighbours = Neighbours::start(4);
        let pace = Pace::PerSecond(CALLS_PER_SECOND);
        let given = call(&server.listen, &questions(), CONNECTIONS, pace, half).await;
        tell(&format!("{name}, four busy processes"), &given);
        let _stalls = Stalls::of(&server, &[QUARTER], QUARTER);
        let given = call(&server.listen, &questions(), CONNECTIONS, pace, half).await;
        tell(&format!("{name}, four busy processes, stopped for 25 ms at a time"), &given);
    }
}

/// Calls whose time is over get the ladder; the model is not to blame, and whoever comes afterwards gets its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stood_still_past_the_deadline_goes_on_asking_its_model() {
    let models = trees(200, "onnx");
    let threads = [("SCORELINE__INFERENCE__ONNX_THREADS", "8")];
    let server = open_server(&models, &threads);
    let stalls = Stalls::of(&server, &[Duration::from_millis(700)], Duration::from_millis(200));
    let given = call(&server.listen, &questions(), 16, Pace::Closed, Duration::from_secs(4)).await;
    drop(stalls);
    println!("stopped for 700 ms at a time: {} answers by the model, others {:?}", given.count(MODEL), given.others());
    for (kind, took) in given.kinds.iter().filter(|(kind, _)| *kind != MODEL) {
        assert!(["fallback model_deadline", "fallback model_overloaded"].contains(&kind.as_str()), "{kind}");
        let hasty = took.iter().filter(|took| **took < Duration::from_millis(500)).count();
        assert_eq!(hasty, 0, "{kind} before the deadline");
    }
    let opened = metric(&server.admin, "scoreline_breaker_transitions_total{model=\"clv\",to=\"open\"}");
    assert_eq!(opened, 0.0, "the breaker has not opened");
    let after = call(&server.listen, &questions(), 16, Pace::PerSecond(400.0), Duration::from_millis(500)).await;
    assert_eq!(after.others(), []);
}
