//! An open loop that sends on time: requests are due at fixed moments, and an answer's latency counts from when its
//! request was due, whether or not a connection was free. The thread spins, because timers are too coarse for
//! 30,000 requests a second.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::client::{Template, body_of};

/// How long answers are waited for when the last request was sent.
const PATIENCE: Duration = Duration::from_secs(5);

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// When the request that is under way was due.
    due: Duration,
}

/// Sends `rate` requests a second for `length`; latencies in microseconds, in the order of the answers.
pub fn paced(address: SocketAddr, request: &[u8], connections: usize, rate: f64, length: Duration) -> Vec<u64> {
    let mut free: Vec<Connection> = (0..connections).map(|_| Connection::open(address)).collect();
    let mut busy: Vec<Connection> = Vec::with_capacity(connections);
    let due = |number: usize| Duration::from_secs_f64(number as f64 / rate);
    let mut request = Template::new(request);
    let mut micros = Vec::with_capacity((rate * length.as_secs_f64()) as usize + 1);
    let start = Instant::now();
    let mut sent = 0;
    loop {
        let now = start.elapsed();
        while due(sent) <= now.min(length)
            && let Some(mut connection) = free.pop()
        {
            connection.due = due(sent);
            connection.stream.write_all(request.next()).expect("a request fits the socket's buffer");
            busy.push(connection);
            sent += 1;
        }
        let mut at = 0;
        while at < busy.len() {
            if busy[at].is_answered() {
                micros.push(start.elapsed().saturating_sub(busy[at].due).as_micros() as u64);
                free.push(busy.swap_remove(at));
            } else {
                at += 1;
            }
        }
        if due(sent) > length && busy.is_empty() {
            return micros;
        }
        assert!(now < length + PATIENCE, "{} answers are missing", busy.len());
    }
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_nonblocking(true).expect("a TCP socket");
        Self { stream, buffer: vec![0; 16 * 1024], filled: 0, due: Duration::ZERO }
    }

    fn is_answered(&mut self) -> bool {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => panic!("the server closed the connection"),
            Ok(read) => self.filled += read,
            Err(err) if err.kind() == ErrorKind::WouldBlock => return false,
            Err(err) => panic!("the server does not answer: {err}"),
        }
        let whole = body_of(&self.buffer[..self.filled]).is_some();
        if whole {
            self.filled = 0;
        }
        whole
    }
}
