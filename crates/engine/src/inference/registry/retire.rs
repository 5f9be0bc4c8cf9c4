//! Where replaced snapshots end: on a thread of their own, once no request holds them any more.
//!
//! The thread keeps the last handle, so that a large model is never freed on a thread that answers requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::inference::bundle::ModelSnapshot;
use scoreline_domain::time::Stopwatch;

/// How often retired snapshots are looked at, while there are any.
const LOOK: Duration = Duration::from_millis(50);
/// A request ends long before this; who still holds a snapshot then is told of once.
const DRAIN: Duration = Duration::from_secs(30);
/// Nothing is retired for that long: the thread waits again.
const IDLE: Duration = Duration::from_hours(1);

/// Takes replaced snapshots.
#[derive(Default)]
pub(super) struct Retired {
    /// The thread's mailbox; it starts with the first retirement and ends with the registry.
    send: Mutex<Option<mpsc::Sender<Arc<ModelSnapshot>>>>,
    waiting: Arc<AtomicUsize>,
}

impl Retired {
    /// Retires a snapshot that nothing new will be asked of.
    pub(super) fn take(&self, snapshot: Arc<ModelSnapshot>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut send = self.send.lock().unwrap_or_else(PoisonError::into_inner);
        if send.is_none() {
            let (sender, receiver) = mpsc::channel();
            let waiting = Arc::clone(&self.waiting);
            let thread = std::thread::Builder::new().name("model-reaper".to_owned());
            if thread.spawn(move || reap(&receiver, &waiting)).is_ok() {
                *send = Some(sender);
            }
        }
        // Without a thread it ends here, which is the thread that loads models.
        if send.as_ref().is_none_or(|send| send.send(snapshot).is_err()) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Snapshots that are replaced and not freed yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

struct Held {
    snapshot: Arc<ModelSnapshot>,
    since: Stopwatch,
    told: bool,
}

fn reap(receiver: &mpsc::Receiver<Arc<ModelSnapshot>>, waiting: &AtomicUsize) {
    let mut held: Vec<Held> = Vec::new();
    loop {
        match receiver.recv_timeout(if held.is_empty() { IDLE } else { LOOK }) {
            Ok(snapshot) => held.push(Held { snapshot, since: Stopwatch::start(), told: false }),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        held.retain_mut(|Held { snapshot, since, told }| {
            let in_use = Arc::strong_count(snapshot) > 1;
            if in_use && !*told && since.elapsed() > DRAIN {
                *told = true;
                let (model, version) = (snapshot.name(), snapshot.version());
                tracing::warn!(%model, %version, "a replaced model is still in use and stays loaded until it is not");
            }
            if !in_use {
                waiting.fetch_sub(1, Ordering::Relaxed);
            }
            in_use
        });
    }
}
