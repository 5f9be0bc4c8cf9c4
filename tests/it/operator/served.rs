//! The page of a real server: through an outage of the platform, live over a socket, and out of the way when the process stops.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use scoreline_domain::time::Stopwatch;
use scoreline_simulator::FaultPlan;

use crate::leads::served::{environment, opened, platform, serve};
use crate::process::{Server, ask, get, models, post};
use crate::worker::served::wait_for;

const OUTAGE: &str = "[[fault]]\npath = \"/api/**\"\nkind = \"status\"\nstatus = 503\n";

/// One who watches, by hand.
struct Watching {
    stream: TcpStream,
    seen: String,
}

impl Watching {
    fn open(server: &Server) -> Self {
        let mut stream = TcpStream::connect(&server.admin).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let head = format!("GET /operator/live HTTP/1.1\r\nhost: {}\r\n\r\n", server.admin);
        stream.write_all(head.as_bytes()).expect("sent");
        Self { stream, seen: String::new() }
    }

    /// Reads on until this was sent; false when the stream ends before.
    fn reads(&mut self, expected: &str) -> bool {
        let mut piece = [0; 16 * 1024];
        while !self.seen.contains(expected) {
            let read = self.stream.read(&mut piece).expect("within half a minute");
            if read == 0 {
                return false;
            }
            self.seen += &String::from_utf8_lossy(&piece[..read]);
        }
        self.seen.clear();
        true
    }
}

fn act(server: &Server, form: &str) -> String {
    let head = format!(
        "POST /operator/act HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nx-scoreline-action: confirmed\r\n",
        server.admin
    );
    ask(&server.admin, &format!("{head}content-length: {}\r\n\r\n{form}", form.len()))
}

#[test]
fn an_outage_of_the_platform_comes_and_goes_on_the_page() {
    let platform = platform(&["L1".to_owned()]);
    platform.set_faults(FaultPlan::parse(OUTAGE).expect("a plan"));
    let (folder, models) = (tempfile::tempdir().expect("a folder"), models());
    let audit = folder.path().join("audit.ndjson");
    let mut environment = environment(&platform, folder.path());
    environment.push(("SCORELINE__LOG__AUDIT_PATH", audit.display().to_string()));
    let mut server = serve(models.path(), &environment);
    opened(&mut server);
    let page = |server: &Server| {
        ask(&server.admin, &format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", server.admin))
    };
    wait_for("the failure", || page(&server).contains("Job extract failed"));
    let shown = page(&server);
    assert!(shown.contains("Needs a look.</b>") && shown.contains("operate.md#a-job-fails"), "{shown}");
    assert!(shown.contains("failed 1 ×") || shown.contains("failed 2 ×"), "{shown}");

    let mut watching = Watching::open(&server);
    assert!(watching.reads("retry: 2000"));
    assert!(watching.reads("Job extract failed"));
    platform.set_faults(FaultPlan::default());
    let asked = act(&server, "action=run&job=extract");
    assert!(asked.starts_with("HTTP/1.1 200") && asked.contains("Job extract was asked for."), "{asked}");
    assert!(watching.reads("Ready.</b>"), "it ends without having been asked for again");
    // What goes through is seen by those who watch.
    assert!(
        post(&server.listen, "/v1/predict/clv", r#"{"features":{"recency_days":30,"frequency_count":10}}"#)
            .contains("success")
    );
    assert!(watching.reads("of the last hour's 1 answers"));
    let audited = std::fs::read_to_string(&audit).expect("audit lines");
    assert!(audited.contains("\"action\":\"job.run\"") && audited.contains("\"who\":\"local\""), "{audited}");

    // Nobody waits for those who watch, read or not.
    let unread: Vec<_> = (0..20).map(|_| Watching::open(&server)).collect();
    std::thread::sleep(Duration::from_secs(2));
    assert!(get(&server.admin, "/health/live").starts_with("HTTP/1.1 200"));
    let watch = Stopwatch::start();
    server.signal("TERM");
    assert!(!watching.reads("never sent"), "the stream ends");
    let ended = watch.elapsed();
    assert_eq!(server.wait(), 0);
    eprintln!("a stream ended {ended:?} after the signal, the process with 21 of them {:?} after it", watch.elapsed());
    assert!(watch.elapsed() < Duration::from_secs(10), "{:?}", watch.elapsed());
    drop(unread);
}
