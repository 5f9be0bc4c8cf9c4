//! A server that is measured: where it listens, and its process when the bench started it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::client::body_of;

/// Longest cold start.
const START: Duration = Duration::from_mins(1);
/// Pause between two looks at a server that starts.
const LOOK: Duration = Duration::from_micros(500);

pub struct Peer {
    pub name: String,
    pub address: SocketAddr,
    /// Seconds from its start to its first answer.
    pub cold_start: Option<f64>,
    process: Option<(Child, Instant)>,
}

impl Peer {
    pub fn running(name: &str, address: SocketAddr) -> Self {
        Self { name: name.to_owned(), address, cold_start: None, process: None }
    }

    /// `name=address` of a server that runs.
    pub fn named(text: &str) -> Self {
        let (name, address) = text.split_once('=').expect("name=address");
        Self::running(name, address.parse().expect("an address such as `127.0.0.1:8000`"))
    }

    /// `name=address=command`: the command must stay one process (`exec` in a script).
    pub fn start(text: &str) -> Self {
        let (mut peer, command) = text
            .split_once('=')
            .and_then(|(name, rest)| {
                let (address, command) = rest.split_once('=')?;
                Some((Self::named(&format!("{name}={address}")), command))
            })
            .expect("name=address=command");
        let started = Instant::now();
        let child = Command::new("sh").args(["-c", &format!("exec {command}")]).spawn();
        let child = child.unwrap_or_else(|err| panic!("`{command}` does not start: {err}"));
        // The next one starts when this one has: they share a core.
        peer.process = Some((child, started));
        peer.wait(&super::client::request(super::PATH, "", super::BODY));
        peer
    }

    /// Waits for the first answer.
    pub fn wait(&mut self, request: &[u8]) {
        let limit = Instant::now() + START;
        while !self.answers(request) {
            assert!(Instant::now() < limit, "`{}` does not answer on {}", self.name, self.address);
            std::thread::sleep(LOOK);
        }
        if let (None, Some((_, started))) = (self.cold_start, &self.process) {
            self.cold_start = Some(started.elapsed().as_secs_f64());
        }
    }

    fn answers(&self, request: &[u8]) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address) else { return false };
        if stream.set_read_timeout(Some(START)).is_err() || stream.write_all(request).is_err() {
            return false;
        }
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        while body_of(&bytes).is_none() {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => return false,
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
            }
        }
        true
    }

    /// What its process holds now.
    pub fn resident_mb(&self) -> Option<f64> {
        let (child, _) = self.process.as_ref()?;
        let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.process {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
