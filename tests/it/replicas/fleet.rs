//! Servers that share one database, those who tell them facts, and what they have acknowledged.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use scoreline_domain::time::{Clock as _, Stopwatch, SystemClock};
use serde_json::json;

use crate::process::{Server, get, models};
use crate::support::TestBundle;
use crate::worker::served::{body, wait_for};

/// Longest that anybody waits for an answer.
const PATIENCE: Duration = Duration::from_mins(2);
const QUESTION: &str = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;

/// What all replicas are started with.
pub struct Fleet {
    pub models: tempfile::TempDir,
    url: String,
}

/// An answer of HTTP.
pub struct Reply {
    pub status: u16,
    pub text: String,
}

/// What was answered as kept.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    pub outcomes: Vec<String>,
    pub erased: Vec<String>,
    pub leads: Vec<(String, u64)>,
}

/// What became of facts that were told for a while.
#[derive(Debug, Default)]
pub struct Told {
    pub kept: Acknowledged,
    /// 503 with `Retry-After`.
    pub refused: usize,
    /// The longest that an answer took.
    pub longest: Duration,
    /// The longest without any acknowledgement, from the start on.
    pub gap: Duration,
}

/// What became of predictions that were asked for for a while.
#[derive(Debug, Default)]
pub struct Predicted {
    pub answers: usize,
    pub longest: Duration,
}

/// A thread that goes on until it is told to end, or its server was said to be killed.
pub struct Going<T> {
    stop: Arc<AtomicBool>,
    work: JoinHandle<T>,
}

impl<T> Going<T> {
    /// Says that from now on no answer is no fault.
    pub fn release(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub fn end(self) -> T {
        self.release();
        self.work.join().expect("no panic")
    }
}

impl Fleet {
    pub fn on(url: &str) -> Self {
        let models = models();
        let bands =
            "high = 40.0\nhysteresis = { medium = { fall = 0.8, rise = 1.25 }, high = { fall = 0.7, rise = 1.5 } }";
        TestBundle::clv("v1.2").edit("high = 40.0", bands).write(models.path());
        TestBundle::clv("v1.1").with_log_mean(3.3).write(models.path());
        TestBundle::lead("v1.0").write(models.path());
        Self { models, url: url.to_owned() }
    }

    pub fn environment(&self) -> Vec<(&str, &str)> {
        vec![
            ("SCORELINE__PRIVACY__PEPPER", "a pepper that lasts"),
            ("SCORELINE__STORE__PATH", ""),
            ("SCORELINE__STORE__URL", &self.url),
        ]
    }

    /// A replica whose store is open.
    pub fn start(&self) -> Server {
        self.start_with(&[])
    }

    pub fn start_with(&self, more: &[(&str, &str)]) -> Server {
        let server = Server::start_with(self.models.path(), &[&self.environment()[..], more].concat());
        wait_for("the store", || is_open(&server));
        server
    }
}

pub fn is_open(server: &Server) -> bool {
    get(&server.admin, "/metrics").lines().any(|line| line == "scoreline_store_open 1")
}

pub fn stop(server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

/// One request; `None` when the server is gone before it has answered.
pub fn call(address: &str, method: &str, path: &str, body: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Reply { status, text })
}

pub fn outcome(customer: &str) -> String {
    json!({
        "customerId": customer, "actual_spend_usd": 12.5, "observed_at": "2026-03-01T00:00:00Z",
        "prediction": {"clv_value_usd": 20.0, "confidence_interval_low": 0.0, "confidence_interval_high": 50.0,
            "interval_level": 0.9, "model_version": "v1.2", "scored_at": "2026-01-01T00:00:00Z", "horizon_days": 30},
    })
    .to_string()
}

pub fn lead_event(lead: &str, score: u64) -> String {
    json!({"leadId": lead, "timestamp": format!("{:.3}", SystemClock.now()), "new_score": score}).to_string()
}

/// Whether a fact was acknowledged; a refusal has to say when to come again.
fn is_kept(reply: &Reply, what: &str) -> bool {
    match reply.status {
        200 | 202 => true,
        503 => {
            assert!(reply.text.to_lowercase().contains("\r\nretry-after: "), "{what}: {}", reply.text);
            false
        }
        _ => panic!("{what}: {}", reply.text),
    }
}

/// Tells outcomes, erasures and events of leads, each customer's once, until it is told to end. What is refused is told again.
pub fn tell(server: &Server, name: &str) -> Going<Told> {
    let (address, name) = (server.listen.clone(), name.to_owned());
    going(move |stop| {
        let mut told = Told::default();
        let mut since = Stopwatch::start();
        let mut number = 0;
        while !stop.load(Ordering::SeqCst) {
            let id = format!("{name}-{number}");
            let watch = Stopwatch::start();
            let score = number % 100 + 1;
            let (reply, what) = match number % 3 {
                2 => (call(&address, "POST", "/v1/events/lead-score", &lead_event(&id, score)), "an event"),
                _ => (call(&address, "POST", "/v1/outcomes", &outcome(&id)), "an outcome"),
            };
            let Some(reply) = reply else {
                assert!(stop.load(Ordering::SeqCst), "{name}: {what} was not answered");
                break;
            };
            told.longest = told.longest.max(watch.elapsed());
            if !is_kept(&reply, what) {
                told.refused += 1;
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            told.gap = told.gap.max(since.elapsed());
            since = Stopwatch::start();
            match number % 3 {
                0 => told.kept.outcomes.push(id),
                1 => {
                    let Some(reply) = call(&address, "DELETE", &format!("/v1/customers/{id}"), "") else {
                        assert!(stop.load(Ordering::SeqCst), "{name}: an erasure was not answered");
                        break;
                    };
                    if is_kept(&reply, "an erasure") {
                        told.kept.erased.push(id);
                    } else {
                        // Not promised; it may be kept all the same.
                        told.refused += 1;
                    }
                }
                _ => told.kept.leads.push((id, score)),
            }
            number += 1;
        }
        told.gap = told.gap.max(since.elapsed());
        told
    })
}

/// Asks for predictions until it is told to end: each has to be the model's.
pub fn predict(server: &Server) -> Going<Predicted> {
    let address = server.listen.clone();
    going(move |stop| {
        let mut predicted = Predicted::default();
        while !stop.load(Ordering::SeqCst) {
            let watch = Stopwatch::start();
            let Some(reply) = call(&address, "POST", "/v1/predict/clv", QUESTION) else {
                assert!(stop.load(Ordering::SeqCst), "a prediction was not answered");
                break;
            };
            assert!(reply.status == 200 && reply.text.contains("\"source\":\"model\""), "{}", reply.text);
            predicted.longest = predicted.longest.max(watch.elapsed());
            predicted.answers += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        predicted
    })
}

fn going<T: Send + 'static>(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Going<T> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    Going { stop, work: std::thread::spawn(move || work(&told)) }
}

impl Acknowledged {
    pub fn take(&mut self, more: Self) {
        self.outcomes.extend(more.outcomes);
        self.erased.extend(more.erased);
        self.leads.extend(more.leads);
    }

    /// Some that were acknowledged early, and the last ones.
    pub fn sample(&self, most: usize, random: &mut fastrand::Rng) -> Self {
        fn some<T: Clone>(all: &[T], most: usize, random: &mut fastrand::Rng) -> Vec<T> {
            let last = all.len().saturating_sub(most);
            let early = (0..most.min(last)).map(|_| all[random.usize(..last)].clone());
            all[last..].iter().cloned().chain(early).collect()
        }
        Self {
            outcomes: some(&self.outcomes, most, random),
            erased: some(&self.erased, most, random),
            leads: some(&self.leads, most, random),
        }
    }

    /// All of it is known to this server.
    pub fn is_known_to(&self, server: &Server, what: &str) {
        for (customers, sign) in [(&self.outcomes, "\"result\":\"duplicate\""), (&self.erased, "\"customer_erased\"")] {
            for some in customers.chunks(100) {
                let rows: Vec<String> = some.iter().map(|customer| outcome(customer)).collect();
                let mut reply = None;
                // A replica that was told of trouble a moment ago may refuse once more.
                wait_for("an answer", || {
                    reply = call(&server.listen, "POST", "/v1/outcomes", &rows.join("\n"));
                    reply.as_ref().is_some_and(|reply| reply.status == 200)
                });
                let text = reply.expect("waited for").text;
                let known = text.matches(sign).count();
                assert_eq!(known, some.len(), "{what}: lost of {some:?}: {text}");
            }
        }
        for (lead, score) in &self.leads {
            let reply = get(&server.listen, &format!("/v1/leads/{lead}/score"));
            assert!(reply.starts_with("HTTP/1.1 200"), "{what}: {lead}: {reply}");
            assert_eq!(body(&reply)["lead"]["stored_score"], *score, "{what}: {lead}: {reply}");
        }
    }

    pub fn counts(&self) -> String {
        let Self { outcomes, erased, leads } = self;
        format!("{} outcomes, {} erasures, {} events", outcomes.len(), erased.len(), leads.len())
    }
}

/// A random source whose seed is printed, or given as `SCORELINE_TEST_SEED`.
#[expect(clippy::disallowed_methods, reason = "tests are told their seed this way")]
pub fn random() -> fastrand::Rng {
    let given = std::env::var("SCORELINE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SCORELINE_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
