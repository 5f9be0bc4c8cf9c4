//! A small HTTP server that keeps what it is sent: whoever is told callbacks, traces and the like.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Instead of a status: no answer.
pub const HANGS: u16 = 0;

/// One request that a receiver was sent.
#[derive(Clone, Debug)]
pub struct Told {
    /// Method and path.
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// Answers with a status for each request, the last one again and again.
pub struct Receiver {
    pub address: String,
    told: Arc<Mutex<Vec<Told>>>,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    /// The next one last.
    statuses: Vec<u16>,
    body: Vec<u8>,
}

impl Receiver {
    pub fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let statuses = statuses.iter().rev().copied().collect();
        let script = Arc::new(Mutex::new(Script { statuses, body: Vec::new() }));
        let (seen, answers) = (Arc::clone(&told), Arc::clone(&script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&answers));
                std::thread::spawn(move || serve(stream, &seen, &script));
            }
        });
        Self { address, told, script }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().expect("not poisoned").clone()
    }

    pub fn answers_from_now_on(&self, status: u16) {
        self.script.lock().expect("not poisoned").statuses = vec![status];
    }

    /// What stands in every answer.
    pub fn answers_with(&self, body: Vec<u8>) {
        self.script.lock().expect("not poisoned").body = body;
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Told>>, script: &Mutex<Script>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        seen.lock().expect("not poisoned").push(Told { line, headers, body });
        let (status, body) = {
            let mut script = script.lock().expect("not poisoned");
            let last = script.statuses.last().copied();
            let status = if script.statuses.len() > 1 { script.statuses.pop() } else { last };
            (status.unwrap_or(200), script.body.clone())
        };
        if status == HANGS {
            std::thread::sleep(Duration::from_mins(1));
            return;
        }
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: {length}\r\n\r\n");
        if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}
