//! The load generator: closed loops that show a server's peak, and a paced open loop that shows its latency.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a round of a closed loop gave.
pub struct Round {
    pub per_second: f64,
    /// Latencies, ascending.
    pub micros: Vec<u64>,
}

/// A POST with `headers` (each line with its end) beside those that every request has.
pub fn request(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Where this is in a request, every request has digits of its own: it is about another customer.
pub const EACH: &str = "EACH-00000000";

/// So many customers there are; then they come again.
pub const CUSTOMERS: u32 = 1_000_000;

/// A request, or one of many that are alike but for their digits.
pub struct Template {
    bytes: Vec<u8>,
    digits: Option<std::ops::Range<usize>>,
}

impl Template {
    pub fn new(request: &[u8]) -> Self {
        let found = request.windows(EACH.len()).position(|window| window == EACH.as_bytes());
        let digits = found.map(|at| at + EACH.len() - 8..at + EACH.len());
        Self { bytes: request.to_vec(), digits }
    }

    /// The next of the process.
    pub fn next(&mut self) -> &[u8] {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if let Some(digits) = self.digits.clone() {
            let mut number = NUMBER.fetch_add(1, Ordering::Relaxed) % CUSTOMERS;
            for digit in self.bytes[digits].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        &self.bytes
    }
}

/// Closed loop: every connection sends its next request when it has read the answer to the last.
pub fn closed(address: SocketAddr, request: &[u8], connections: usize, length: Duration) -> Round {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let (stop, mut request) = (Arc::clone(&stop), Template::new(request));
                tokio::spawn(async move {
                    let mut connection = Connection::open(address).await;
                    let mut micros = Vec::with_capacity(1 << 14);
                    // Once at least: where connecting takes as long as a short round, a rate of zero would be no rate.
                    loop {
                        let request = request.next();
                        let asked = Instant::now();
                        connection.ask(request).await;
                        micros.push(asked.elapsed().as_micros() as u64);
                        if stop.load(Ordering::Relaxed) {
                            return micros;
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(length).await;
        stop.store(true, Ordering::Relaxed);
        let mut micros = Vec::new();
        for task in tasks {
            micros.extend(task.await.expect("a connection never panics"));
        }
        micros.sort_unstable();
        Round { per_second: micros.len() as f64 / start.elapsed().as_secs_f64(), micros }
    })
}

/// The body of one answer.
pub fn ask_once(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { Connection::open(address).await.ask(request).await.to_vec() })
}

/// Where the body of a complete answer begins and ends; anything but 200 ends the bench.
pub fn body_of(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..head]).expect("an ASCII head");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|length| length.parse::<usize>().ok())
        .expect("answers have a length");
    let end = head + 4 + length;
    (bytes.len() >= end).then_some((head + 4, end))
}

fn says_close(head: &[u8]) -> bool {
    const CLOSE: &[u8] = b"\r\nconnection: close\r\n";
    head.windows(CLOSE.len()).any(|window| window == CLOSE)
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The last answer said that it was the connection's last.
    closing: bool,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        Self { address, stream: connect(address).await, buffer: vec![0; 16 * 1024], closing: false }
    }

    /// Sends one request and reads its answer whole.
    async fn ask(&mut self, request: &[u8]) -> &[u8] {
        if self.closing {
            self.stream = connect(self.address).await;
        }
        self.stream.write_all(request).await.expect("the server reads");
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            filled += read;
            if let Some((start, end)) = body_of(&self.buffer[..filled]) {
                self.closing = says_close(&self.buffer[..start]);
                return &self.buffer[start..end];
            }
        }
    }
}
