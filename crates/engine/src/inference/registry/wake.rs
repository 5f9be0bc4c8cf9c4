//! A wake-up when something happens in the models folder. Only a hint: looking once a second is what counts, because
//! file events are lost on network file systems and when a folder is exchanged.

use std::path::Path;
use std::sync::Arc;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Watches while it lives.
pub struct FolderWatch {
    woken: Arc<Notify>,
    _watcher: Option<RecommendedWatcher>,
}

impl FolderWatch {
    /// Begins to watch a folder and what is below it. Where that is not possible, nothing ever wakes.
    pub fn watch(dir: &Path) -> Self {
        let woken = Arc::new(Notify::new());
        let bell = Arc::clone(&woken);
        let ring = move |event: notify::Result<Event>| {
            // Our own reading is an event too.
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                bell.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(ring)
            .and_then(|mut watcher| watcher.watch(dir, RecursiveMode::Recursive).map(|()| watcher));
        let watcher = watcher
            .inspect_err(|err| tracing::debug!(dir = %dir.display(), %err, "no file events: models are polled only"))
            .ok();
        Self { woken, _watcher: watcher }
    }

    /// Waits for the next event. One that happened since the last call counts.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }
}
