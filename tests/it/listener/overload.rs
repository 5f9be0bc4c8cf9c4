//! Five times what one thread can do, open loop: most of the peak is still answered, in time, and the rest is refused at
//! once.
#![expect(clippy::disallowed_methods, reason = "tests and their load generators spawn tasks and read the clock")]
#![expect(clippy::print_stdout, reason = "a suite prints its figures")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::routing::get as on_get;
use scoreline::http::admission::{Admission, AdmissionSettings, Class, Lag, SAMPLERS, WhenOverloaded};
use scoreline_listener::{Connect, Limits};
use tokio::net::TcpStream;

use super::clients::{Prober, ask, connect, get, post, quantile_ms, router, serve_beside};
use crate::process::{Server, models};

/// What a request costs the thread: a model so heavy that refusing is much cheaper than answering.
const WORK: Duration = Duration::from_millis(4);

struct Scale {
    length: Duration,
    strict: bool,
}

#[test]
fn overload_is_shed() {
    run(&Scale { length: Duration::from_secs(3), strict: false });
}

#[test]
#[ignore = "100 s: cargo test --workspace --test it long_overload -- --ignored --nocapture"]
fn long_overload_is_shed() {
    run(&Scale { length: Duration::from_mins(1), strict: true });
}

/// A handler that keeps its thread busy, behind the door.
fn busy(door: Admission) -> impl Connect {
    let work = async move || {
        let Ok(_permit) = door.enter(Class::Live) else { return StatusCode::SERVICE_UNAVAILABLE };
        let begun = Instant::now();
        while begun.elapsed() < WORK {
            std::hint::spin_loop();
        }
        StatusCode::OK
    };
    router(axum::Router::new().route("/work", on_get(work)))
}

#[derive(Default)]
struct Load {
    accepted: Vec<Duration>,
    refused: Vec<Duration>,
    errors: Vec<String>,
}

#[tokio::main]
async fn run(scale: &Scale) {
    let settings = AdmissionSettings { live: 4096, batches: 1, when_overloaded: WhenOverloaded::Refuse };
    let (door, lag) = (Admission::new(settings), Lag::new());
    let limits = Limits { exempt_loopback: true, requests: u32::MAX, ..Limits::default() };
    let samplers = [(); SAMPLERS].map(|()| lag.clone().sample(door.clone(), std::future::pending()));
    let sampling = async move {
        for sampler in samplers {
            tokio::spawn(sampler);
        }
    };
    let served = serve_beside(1, limits, None, busy(door.clone()), sampling);
    // The governor and liveness are where `serve` has them: on a thread of their own.
    let governing = lag.govern(door.clone(), std::future::pending());
    let alive = router(axum::Router::new().route("/health/live", on_get(async || "live")));
    let admin = serve_beside(1, Limits::default(), None, alive, governing);

    let peak = peak(served.address, scale.length.min(Duration::from_secs(5))).await;
    let quiet = offer(served.address, peak * 0.5, Duration::from_secs(1)).await;
    let prober = Prober::start(admin.address, get("/health/live"));
    let over = offer(served.address, peak * 5.0, scale.length).await;
    let liveness = prober.stop().await;
    let ended = Instant::now();
    let mut calm = 0;
    // Back to normal: a hundred calls in a row at half the peak, none refused.
    while calm < 100 && ended.elapsed() < Duration::from_secs(20) {
        let after = offer(served.address, peak * 0.5, Duration::from_millis(250)).await;
        calm = if after.refused.is_empty() { calm + after.accepted.len() } else { 0 };
    }
    let recovered = ended.elapsed();
    let goodput = over.accepted.len() as f64 / scale.length.as_secs_f64();
    println!(
        "overload: peak {peak:.0}/s; offered {:.0}/s for {:.0} s: {goodput:.0}/s answered ({:.0} % of the peak), p99 {:.0} \
         ms; {} refused, p50 {:.1} ms, p99 {:.0} ms; {} errors; quiet p99 {:.1} ms, {} refused; nobody refused again \
         after {:.1} s; admin liveness p99 {:.1} ms",
        peak * 5.0,
        scale.length.as_secs_f64(),
        goodput / peak * 100.0,
        quantile_ms(&over.accepted, 0.99),
        over.refused.len(),
        quantile_ms(&over.refused, 0.5),
        quantile_ms(&over.refused, 0.99),
        over.errors.len(),
        quantile_ms(&quiet.accepted, 0.99),
        quiet.refused.len(),
        recovered.as_secs_f64(),
        liveness.p99_ms(),
    );
    assert!(over.errors.is_empty(), "{:?}", &over.errors[..over.errors.len().min(5)]);
    assert!(liveness.errors.is_empty(), "{:?}", liveness.errors);
    assert_eq!(door.in_flight(), (0, 0), "every permit came back");
    assert!(!over.refused.is_empty() && calm >= 100);
    let (share, accepted_ms, refused_ms, seconds) =
        if scale.strict { (0.9, 250.0, 50.0, 5.0) } else { (0.5, 1000.0, 1000.0, 15.0) };
    assert!(goodput >= share * peak, "{goodput} of {peak}");
    assert!(quantile_ms(&over.accepted, 0.99) <= accepted_ms);
    assert!(quantile_ms(&over.refused, 0.99) <= refused_ms);
    assert!(recovered.as_secs_f64() <= seconds, "{recovered:?}");
    if scale.strict {
        assert!(liveness.p99_ms() <= 100.0, "{} ms", liveness.p99_ms());
    }
}

/// Closed loop, two clients: answers per second.
async fn peak(address: SocketAddr, length: Duration) -> f64 {
    let begun = Instant::now();
    let clients: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn(async move {
                let mut stream = connect(address).await;
                let mut answers = 0;
                while begun.elapsed() < length {
                    answers += usize::from(ask(&mut stream, &get("/work")).await.expect("an answer").status == 200);
                }
                answers
            })
        })
        .collect();
    let mut answers = 0;
    for client in clients {
        answers += client.await.expect("no panic");
    }
    answers as f64 / begun.elapsed().as_secs_f64()
}

/// Open loop: a call every so often, whatever became of those before. Times count from when a call was due.
async fn offer(address: SocketAddr, per_second: f64, length: Duration) -> Load {
    let load = Arc::new(Mutex::new(Load::default()));
    let free: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let begun = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for call in 0.. {
        let due = begun + Duration::from_secs_f64(f64::from(call) / per_second);
        if due - begun >= length {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let (load, free) = (Arc::clone(&load), Arc::clone(&free));
        calls.spawn(async move {
            let kept = free.lock().expect("lock").pop();
            let mut stream = match kept {
                Some(stream) => stream,
                None => match TcpStream::connect(address).await {
                    Ok(stream) => stream,
                    Err(err) => return load.lock().expect("lock").errors.push(err.to_string()),
                },
            };
            let answer = ask(&mut stream, &get("/work")).await;
            let took = due.elapsed();
            let mut load = load.lock().expect("lock");
            match answer {
                Ok(answer) if answer.status == 200 => load.accepted.push(took),
                Ok(answer) if answer.status == 503 => load.refused.push(took),
                Ok(answer) => load.errors.push(answer.head),
                Err(err) => load.errors.push(err.to_string()),
            }
            free.lock().expect("lock").push(stream);
        });
    }
    while calls.join_next().await.is_some() {}
    let mut load = load.lock().expect("lock");
    std::mem::take(&mut *load)
}

/// The whole process stands still again and again, as it does on a machine with too much to do, while a few callers ask
/// one call after the other: all of them wait, none is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_stands_still_is_no_overload() {
    let models = models();
    let server = Server::start_with(models.path(), &[]);
    let address: SocketAddr = server.listen.parse().expect("an address");
    let request = Arc::new(post("/v1/predict/clv", r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#));
    let until = Instant::now() + Duration::from_secs(4);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let request = Arc::clone(&request);
            tokio::spawn(async move {
                let (mut answered, mut stood, mut stream) = (0, 0, connect(address).await);
                while Instant::now() < until {
                    let begun = Instant::now();
                    let answer = ask(&mut stream, &request).await.expect("an answer");
                    assert_eq!(answer.status, 200, "after {answered}: {}", String::from_utf8_lossy(&answer.body));
                    answered += 1;
                    stood += usize::from(begun.elapsed() > Duration::from_millis(30));
                    if answer.is_last() {
                        stream = connect(address).await;
                    }
                }
                (answered, stood)
            })
        })
        .collect();
    for pause in (20..90).step_by(10).cycle().map(Duration::from_millis) {
        if Instant::now() > until {
            break;
        }
        server.signal("STOP");
        tokio::time::sleep(pause).await;
        server.signal("CONT");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    for caller in callers {
        let (answered, stood) = caller.await.expect("nobody is refused");
        assert!(answered > 20 && stood > 5, "{answered} answered, {stood} of them late");
    }
}
