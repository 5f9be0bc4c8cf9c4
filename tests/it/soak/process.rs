//! One `scoreline serve` process, and what it holds according to `/proc`.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// Log lines that are kept to be shown when something is wrong.
const KEPT_LINES: usize = 20;

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub resident_mb: f64,
    pub files: usize,
    pub threads: usize,
}

pub struct Program {
    child: Child,
    pub listen: String,
    admin: String,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Program {
    /// Starts `binary` on free ports and waits until it serves.
    pub fn start(binary: &str, models: &Path, cache_size: &str) -> Self {
        let mut child = Command::new(binary)
            .arg("serve")
            .env_remove("SCORELINE_CONFIG")
            .env("SCORELINE__MODELS__DIR", models)
            .env("SCORELINE__SERVER__LISTEN", "127.0.0.1:0")
            .env("SCORELINE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")
            .env("SCORELINE__LOG__FORMAT", "json")
            .env("SCORELINE__SCORING__CACHE_SIZE", cache_size)
            .env("SCORELINE__PRIVACY__PEPPER", "a pepper that lasts")
            .env("SCORELINE__STORE__PATH", models.join(".state/scoreline.db"))
            // Reached while the load is warming up: what is measured is whether memory stays.
            .env("SCORELINE__MONITORING__PREDICTIONS", "1000")
            // Remembered predictions are bounded by this number: it must be reached in the first half.
            .env("SCORELINE__MONITORING__PREDICTIONS", "10000")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("`{binary}` does not start: {err}"));
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let serving = loop {
            let line = lines.next().expect("it serves before its log ends").expect("the log is text");
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|err| panic!("{err}: {line}"));
            if event["message"] == "serving" {
                break event;
            }
        };
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&log);
        // A pipe that nobody reads fills up.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut kept = kept.lock().expect("never held across a panic");
                kept.push_back(line);
                if kept.len() > KEPT_LINES {
                    kept.pop_front();
                }
            }
        });
        let address = |key: &str| serving[key].as_str().expect("an address").to_owned();
        Self { child, log, listen: address("listen"), admin: address("admin_listen") }
    }

    pub fn held(&self) -> Held {
        let folder = Path::new("/proc").join(self.child.id().to_string());
        let read = |name: &str| {
            fs::read_to_string(folder.join(name)).unwrap_or_else(|err| panic!("{name}: {err}; {:?}", self.log))
        };
        // Exact, unlike VmRSS, which is counted per thread and folded in now and then.
        let resident_kb = number(&read("smaps_rollup"), "Rss:");
        let files = fs::read_dir(folder.join("fd")).expect("its files").count();
        Held { resident_mb: resident_kb / 1024.0, files, threads: number(&read("status"), "Threads:") as usize }
    }

    /// A metric by its name with labels; 0 when it was never counted.
    pub fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(&self.admin).expect("the admin listener listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a text reply");
        let line = reply.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// Ends it by a signal and expects a clean end.
    pub fn stop(mut self) {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(status.expect("kill runs").success());
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}: {:?}", self.log);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone after `stop`; after a failed check it must not stay behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number behind a name at the beginning of a line.
fn number(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}
