//! A server on threads of its own, and clients with figures.
#![expect(clippy::disallowed_methods, reason = "tests and their load generators spawn tasks and read the clock")]

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::Request;
use hyper::service::{Service as _, service_fn};
use hyper_util::service::TowerToHyperService;
use scoreline_listener::{Connect, Drain, Limits, Listener, OpenConnections, Peer, RequestBody, TlsConfigs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A listener on a runtime of its own; drained and joined when dropped.
pub struct Served {
    pub address: SocketAddr,
    pub drain: Drain,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub fn serve<C: Connect>(threads: usize, limits: Limits, tls: Option<TlsConfigs>, connect: C) -> Served {
    let drain = Drain::new();
    let draining = drain.clone();
    let (bound, at) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(threads).event_interval(16).enable_all().build().expect("a runtime");
        let served = runtime.spawn(async move {
            let socket = scoreline_listener::open("127.0.0.1:0".parse().expect("an address")).expect("a free port");
            bound.send(socket.local_addr().expect("bound")).expect("the test waits");
            let serving = Listener { name: "test", limits, tls, drain: draining, open: OpenConnections::default() };
            serving.serve(socket, connect, |connection| drop(tokio::spawn(connection))).await;
        });
        runtime.block_on(served).expect("serving does not panic");
    });
    Served { address: at.recv().expect("the server starts"), drain, thread: Some(thread) }
}

/// Serves every connection with a router; requests carry what is known of the peer as extensions.
pub fn router(router: Router) -> impl Connect {
    let service = TowerToHyperService::new(router);
    move |peer: &Peer| {
        let service = service.clone();
        let peer = peer.clone();
        service_fn(move |mut request: Request<RequestBody>| {
            peer.describe(request.extensions_mut());
            service.call(request)
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.drain.close();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("the server ends");
        }
    }
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn is_last(&self) -> bool {
        self.head.to_lowercase().contains("connection: close")
    }
}

/// One request on an open connection.
pub async fn ask(stream: &mut TcpStream, request: &[u8]) -> Result<Answer> {
    stream.write_all(request).await?;
    let mut read = Vec::with_capacity(2048);
    let head_end = loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, format!("closed after {} bytes", read.len())));
        }
        if let Some(position) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break position + 4;
        }
    };
    let head = String::from_utf8_lossy(&read[..head_end]).into_owned();
    let length = head
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next().and_then(|length| length.parse::<usize>().ok()));
    let mut body = read.split_off(head_end);
    while body.len() < length.unwrap_or(0) {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(Answer { status, head, body })
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes()
}

pub fn post(path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("the server accepts");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Ready when the other end has closed, with what it sent before.
pub async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return rest,
            Ok(read) => rest.extend_from_slice(&buffer[..read]),
        }
    }
}

/// A client that means well: one request after the other, every few milliseconds, on a kept-alive connection.
pub struct Prober {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Probed>,
}

#[derive(Default)]
pub struct Probed {
    latencies: Vec<Duration>,
    pub errors: Vec<String>,
}

impl Prober {
    pub fn start(address: SocketAddr, request: Vec<u8>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut probed = Probed::default();
            let mut stream = None;
            while !stopped.load(Ordering::Relaxed) {
                let open = match stream.take() {
                    Some(open) => open,
                    None => connect(address).await,
                };
                let mut open = open;
                let begun = Instant::now();
                match tokio::time::timeout(Duration::from_secs(5), ask(&mut open, &request)).await {
                    Ok(Ok(answer)) if answer.status == 200 => {
                        probed.latencies.push(begun.elapsed());
                        stream = (!answer.is_last()).then_some(open);
                    }
                    Ok(Ok(answer)) => probed.errors.push(answer.head),
                    Ok(Err(err)) => probed.errors.push(err.to_string()),
                    Err(_) => probed.errors.push("no answer within 5 s".to_owned()),
                }
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
            probed
        });
        Self { stop, task }
    }

    pub async fn stop(self) -> Probed {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the prober does not panic")
    }

    pub async fn run_for(address: SocketAddr, request: Vec<u8>, length: Duration) -> Probed {
        let prober = Self::start(address, request);
        tokio::time::sleep(length).await;
        prober.stop().await
    }
}

impl Probed {
    pub fn p99_ms(&self) -> f64 {
        quantile_ms(&self.latencies, 0.99)
    }

    pub fn count(&self) -> usize {
        self.latencies.len()
    }
}

pub fn quantile_ms(latencies: &[Duration], quantile: f64) -> f64 {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    let index = ((sorted.len() as f64 - 1.0) * quantile).round().max(0.0) as usize;
    sorted.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

/// A counter or gauge of a running server; 0 when it was never touched.
pub fn metric(admin: &str, name: &str) -> f64 {
    let text = crate::process::get(admin, "/metrics");
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().expect("a number"))
}

/// Open files of a process.
pub fn open_files(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).expect("a running process").count()
}
