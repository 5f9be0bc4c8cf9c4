//! Callers by the thousand: at a pace, one call after the other, or more than can be answered; what each was given, and
//! what keeps the machine from answering.
#![expect(clippy::disallowed_methods, reason = "tests and their load generators spawn tasks and read the clock")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::clients::{Answer, ask, connect, post, quantile_ms};
use crate::process::Server;
use crate::support::TestBundle;
use crate::support::onnx_file::forest;

/// The kind of an answer that is the model's own.
pub const MODEL: &str = "model";
/// A call that nobody was free to make for so long is not made.
const PATIENCE: Duration = Duration::from_millis(100);

/// When calls are made.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each connection asks again as soon as it is answered.
    Closed,
    /// So many a second over all connections; late ones as soon as a connection is free.
    PerSecond(f64),
    /// So many a second over all connections; those that no connection is free for are not made.
    Open(f64),
}

/// What calls were given: how long each took, by the kind of its answer.
#[derive(Default, Debug)]
pub struct Given {
    pub kinds: BTreeMap<String, Vec<Duration>>,
    /// Calls that no connection was free for.
    pub unmade: u32,
    /// From the first call to the last answer.
    pub length: Duration,
}

impl Given {
    pub fn count(&self, kind: &str) -> usize {
        self.kinds.get(kind).map_or(0, Vec::len)
    }

    pub fn total(&self) -> usize {
        self.kinds.values().map(Vec::len).sum()
    }

    /// Answers of the model a second.
    pub fn goodput(&self) -> f64 {
        self.count(MODEL) as f64 / self.length.as_secs_f64()
    }

    pub fn quantile_ms(&self, kind: &str, quantile: f64) -> f64 {
        self.kinds.get(kind).map_or(f64::NAN, |took| quantile_ms(took, quantile))
    }

    /// Everything that is not the model's answer, counted.
    pub fn others(&self) -> Vec<(&str, usize)> {
        let others = self.kinds.iter().filter(|(kind, _)| *kind != MODEL);
        others.map(|(kind, took)| (kind.as_str(), took.len())).collect()
    }

    fn add(&mut self, other: Self) {
        self.unmade += other.unmade;
        for (kind, took) in other.kinds {
            self.kinds.entry(kind).or_default().extend(took);
        }
    }
}

/// Makes calls over so many connections for this long, of these requests in turn.
pub async fn call(address: &str, requests: &Arc<[Vec<u8>]>, connections: usize, pace: Pace, length: Duration) -> Given {
    let address: SocketAddr = address.parse().expect("an address");
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        streams.push(connect(address).await);
    }
    let plan = Arc::new(Plan { address, requests: Arc::clone(requests), pace, length, begun: Instant::now() });
    let next = Arc::new(AtomicU32::new(0));
    let start = |stream| tokio::spawn(Arc::clone(&plan).call(stream, Arc::clone(&next)));
    let callers: Vec<_> = streams.into_iter().map(start).collect();
    let mut given = Given::default();
    for caller in callers {
        given.add(caller.await.expect("no panic"));
    }
    Given { length: plan.begun.elapsed(), ..given }
}

struct Plan {
    address: SocketAddr,
    requests: Arc<[Vec<u8>]>,
    pace: Pace,
    length: Duration,
    begun: Instant,
}

impl Plan {
    /// One connection's calls; `next` is the number of the next call of all.
    async fn call(self: Arc<Self>, mut stream: TcpStream, next: Arc<AtomicU32>) -> Given {
        let mut given = Given::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let due = match self.pace {
                Pace::Closed => Instant::now(),
                Pace::PerSecond(rate) | Pace::Open(rate) => {
                    self.begun + Duration::from_secs_f64(f64::from(number) / rate)
                }
            };
            if due - self.begun >= self.length {
                return given;
            }
            tokio::time::sleep_until(due.into()).await;
            if matches!(self.pace, Pace::Open(_)) && due.elapsed() > PATIENCE {
                given.unmade += 1;
                continue;
            }
            let asked = Instant::now();
            let answer = ask(&mut stream, &self.requests[number as usize % self.requests.len()]).await;
            let kind = answer.as_ref().map_or_else(ToString::to_string, kind);
            given.kinds.entry(kind).or_default().push(asked.elapsed());
            if answer.is_ok_and(|answer| !answer.is_last()) {
                continue;
            }
            stream = connect(self.address).await;
        }
    }
}

/// Who answered, and why not the model.
fn kind(answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    let word = |name: &str| Some(body.split_once(&format!("\"{name}\":\""))?.1.split('"').next()?.to_owned());
    match (answer.status, word("source").as_deref(), word("reason").as_deref()) {
        (200, Some("model"), None | Some("ok")) => MODEL.to_owned(),
        (200, Some(source), Some(reason)) => format!("{source} {reason}"),
        (503, ..) if answer.head.contains("\r\nretry-after: 1\r\n") => "503".to_owned(),
        _ => format!("{} {body}", answer.head),
    }
}

/// The documented prediction and its twin for data actions.
pub fn questions() -> Arc<[Vec<u8>]> {
    let features = r#""recency_days": 30, "frequency_count": 10, "sentiment_score_avg": 0.2, "topic_diversity": 4"#;
    let nested = format!(r#"{{"features": {{{features}}}}}"#);
    Arc::new([post("/v1/predict/clv", &nested), post("/v1/genesys/clv", &format!("{{{features}}}"))])
}

/// Many trees, run by this backend.
pub fn trees(trees: u16, backend: &str) -> TempDir {
    let models = tempfile::tempdir().expect("temporary folder");
    TestBundle::clv_onnx("v1.2", backend, forest(trees, 4)).write(models.path());
    models
}

/// A server that many connections of this machine may use.
pub fn open_server(models: &TempDir, environment: &[(&str, &str)]) -> Server {
    // For both ends: the server inherits it.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).expect("up to its own limit");
    let mut all = vec![
        ("SCORELINE__CONNECTIONS__EXEMPT_LOOPBACK", "true"),
        ("SCORELINE__CONNECTIONS__MOST_REQUESTS", "1000000000"),
    ];
    all.extend_from_slice(environment);
    Server::start_with(models.path(), &all)
}

/// Processes that never rest, until dropped.
pub struct Neighbours(Vec<Child>);

impl Neighbours {
    pub fn start(count: usize) -> Self {
        let busy = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell starts");
        Self((0..count).map(busy).collect())
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Takes the processors away from a process again and again, until dropped.
pub struct Stalls {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stalls {
    /// It stands still for each of these times in turn, and goes on for `between` after each.
    pub fn of(server: &Server, stand: &[Duration], between: Duration) -> Self {
        let process = Pid::from_raw(server.child.id().cast_signed()).expect("a process");
        let over = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&over);
        let stand = stand.to_vec();
        let thread = std::thread::spawn(move || {
            for stand in stand.iter().cycle() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                kill_process(process, Signal::STOP).expect("it runs");
                std::thread::sleep(*stand);
                kill_process(process, Signal::CONT).expect("it is there");
                std::thread::sleep(between);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
