//! Nobody's name is told to a log or a metric, or kept in a position.

use std::io::Write;
use std::sync::{Arc, Mutex};

use scoreline_simulator::{FaultPlan, SimulatorSettings};
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::fmt::MakeWriter;

use super::desk::{Desk, small};
use super::kept::{Kept, Restart, extract};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn logs_errors_and_positions_hold_no_customer() {
    let faults = FaultPlan::preset("rough").expect("a plan");
    let desk = Desk::open(SimulatorSettings { faults, ..small() });
    let lines = Lines::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(lines.clone()).finish();
    let mut kept = Kept::default();
    let extracting = extract(&desk, desk.everything(), &mut kept, Restart::Never);
    let (position, outcome) = extracting.with_subscriber(subscriber).await;
    let logged = String::from_utf8(lines.0.lock().expect("not poisoned").clone()).expect("text");
    assert!(logged.contains("access token renewed"), "something is logged: {} bytes", logged.len());
    let all = format!("{logged} {:?} {outcome:?} {}", kept.failures, serde_json::to_string(&position).expect("JSON"));
    assert!(!all.contains("CANARY"));
    let secret = &desk.simulator.settings().client_secret;
    assert!(!all.contains(secret.as_str()));
    for customer in 0..desk.simulator.settings().customers {
        assert!(!all.contains(&desk.simulator.contact(customer).to_string()));
    }
}
