//! Requests to a server: as fast as it answers, or paced. A paced request's time counts from when it was due, so that
//! a server that stalls cannot hide it by slowing the sender down.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use scoreline_domain::time::Stopwatch;

/// Customers that come again and again, so that caches are hit and turned over.
const CUSTOMERS: u64 = 40_000;
/// Width of a latency bucket: 2 %.
const STEP: f64 = 1.02;
const BUCKETS: usize = 1200;

/// What was asked and answered.
pub struct Tally {
    pub answers: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    seconds: f64,
    buckets: Vec<u64>,
}

impl Tally {
    fn new() -> Self {
        Self { answers: 0, errors: 0, first_error: None, seconds: 0.0, buckets: vec![0; BUCKETS] }
    }

    fn record(&mut self, answer: Result<(), String>, took: Duration) {
        match answer {
            Ok(()) => self.answers += 1,
            Err(problem) => {
                self.errors += 1;
                self.first_error.get_or_insert(problem);
            }
        }
        let micros = (took.as_secs_f64() * 1e6).max(1.0);
        self.buckets[((micros.ln() / STEP.ln()) as usize).min(BUCKETS - 1)] += 1;
    }

    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.seconds = self.seconds.max(other.seconds);
        self.buckets.iter_mut().zip(other.buckets).for_each(|(mine, more)| *mine += more);
    }

    pub fn per_second(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    /// Upper edge of the bucket in which this share of the requests ends, microseconds.
    pub fn quantile(&self, share: f64) -> u64 {
        let all: u64 = self.buckets.iter().sum();
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen as f64 >= all as f64 * share
        });
        STEP.powf(found.map_or(0, |bucket| bucket + 1) as f64) as u64
    }
}

/// A paced load that runs until it is told to stop.
pub struct Load {
    senders: Vec<(Arc<Mutex<Tally>>, JoinHandle<()>)>,
}

impl Load {
    /// Every connection asks again as soon as it is answered.
    pub fn closed(address: &str, connections: usize, length: Duration) -> Tally {
        let stop = Arc::new(AtomicBool::new(false));
        let load = Self::start(address, connections, None, &stop);
        std::thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
        Tally { seconds: length.as_secs_f64(), ..load.join() }
    }

    /// `rate` requests a second over all connections.
    pub fn paced(address: &str, connections: usize, rate: f64, stop: &Arc<AtomicBool>) -> Self {
        Self::start(address, connections, Some(Duration::from_secs_f64(connections as f64 / rate)), stop)
    }

    fn start(address: &str, connections: usize, every: Option<Duration>, stop: &Arc<AtomicBool>) -> Self {
        let senders = (0..connections as u64).map(|sender| {
            let tally = Arc::new(Mutex::new(Tally::new()));
            let (mine, address, stop) = (Arc::clone(&tally), address.to_owned(), Arc::clone(stop));
            (tally, std::thread::spawn(move || send(&address, sender, every, &mine, &stop)))
        });
        Self { senders: senders.collect() }
    }

    /// What was counted until now; counting begins anew.
    pub fn take(&self) -> Tally {
        let mut total = Tally::new();
        for (tally, _) in &self.senders {
            total.add(std::mem::replace(&mut tally.lock().expect("never held across a panic"), Tally::new()));
        }
        total
    }

    pub fn join(mut self) -> Tally {
        let senders = std::mem::take(&mut self.senders);
        let mut total = Tally::new();
        for (tally, sender) in senders {
            sender.join().expect("a sender never panics");
            total.add(std::mem::replace(&mut tally.lock().expect("never held across a panic"), Tally::new()));
        }
        total
    }
}

fn send(address: &str, sender: u64, every: Option<Duration>, tally: &Mutex<Tally>, stop: &AtomicBool) {
    let mut connection = None;
    let watch = Stopwatch::start();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let due = every.map_or_else(|| watch.elapsed(), |every| every.mul_f64(number as f64));
        std::thread::sleep(due.saturating_sub(watch.elapsed()));
        let answer = ask(&mut connection, address, &request(sender, number));
        if answer.is_err() {
            connection = None;
        }
        tally.lock().expect("never held across a panic").record(answer, watch.elapsed().saturating_sub(due));
        number += 1;
    }
}

/// Customers with and without a score, routing, leads.
fn request(sender: u64, number: u64) -> String {
    let customer = (number.wrapping_mul(7919) + sender * 104_729) % CUSTOMERS;
    let (path, body) = match number % 5 {
        0 => ("/v1/route/tier", format!(r#"{{"customerId": "C-{customer}", "acquisition_channel": "referral"}}"#)),
        1 => (
            "/v1/predict/lead",
            format!(
                r#"{{"leadId": "L-{customer}", "features": {{"age": {}, "contact": "cellular"}}}}"#,
                20 + customer % 60
            ),
        ),
        2 => (
            "/v1/predict/clv",
            format!(r#"{{"features": {{"recency_days": {}, "frequency_count": 10}}}}"#, number % 365),
        ),
        _ => (
            "/v1/predict/clv",
            format!(
                r#"{{"customerId": "C-{customer}", "features": {{"recency_days": {}, "frequency_count": 10}}}}"#,
                customer % 365
            ),
        ),
    };
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn ask(connection: &mut Option<TcpStream>, address: &str, request: &str) -> Result<(), String> {
    let failed = |what: &str, err: std::io::Error| format!("{what}: {err}");
    if connection.is_none() {
        let stream = TcpStream::connect(address).map_err(|err| failed("connecting", err))?;
        stream.set_nodelay(true).map_err(|err| failed("connecting", err))?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|err| failed("connecting", err))?;
        *connection = Some(stream);
    }
    let Some(stream) = connection else { return Err("no connection".to_owned()) };
    stream.write_all(request.as_bytes()).map_err(|err| failed("sending", err))?;
    let mut buffer = [0; 8192];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).map_err(|err| failed("reading", err))?;
        if read == 0 {
            return Err("the connection was closed before the answer".to_owned());
        }
        filled += read;
        let text = String::from_utf8_lossy(&buffer[..filled]);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() < length.ok_or_else(|| format!("an answer without a length: {head}"))? {
            continue;
        }
        if head.lines().any(|line| line == "connection: close") {
            // It has answered as many requests as a connection may.
            *connection = None;
        }
        return if head.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(text.into_owned()) };
    }
}

#[test]
fn quantiles_are_within_a_bucket() {
    let mut tally = Tally::new();
    (1..=1000).for_each(|micros| tally.record(Ok(()), Duration::from_micros(micros)));
    let median = tally.quantile(0.5) as f64;
    assert!((median / 500.0 - 1.0).abs() < 0.03, "{median}");
    assert!(tally.quantile(0.99) >= 985 && tally.quantile(1.0) <= 1020);
}
