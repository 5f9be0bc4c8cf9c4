//! What authentication does beside requests: takes a changed credentials file, fetches issuers' keys, wipes old tokens.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Authenticator;
use super::issuer::Issuer;
use scoreline_domain::time::Rounds;

/// Work to be run to its end by whoever owns the process.
pub type BackgroundTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How often the file and the keys' ages are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until it is dropped. Fetches are handed to `spawn`, so that an issuer that hangs holds up nothing; `reloaded`
/// hears whether a changed file was taken.
pub async fn keep(
    authenticator: Arc<Authenticator>,
    spawn: impl Fn(BackgroundTask) + Send,
    reloaded: impl Fn(bool) + Send,
) {
    let mut rounds = Rounds::every(LOOK);
    while rounds.next(std::future::pending()).await {
        let looking = Arc::clone(&authenticator);
        match tokio::task::spawn_blocking(move || looking.look()).await {
            Ok(Some(taken)) => reloaded(taken),
            Ok(None) => {}
            Err(_) => tracing::error!("credentials could not be looked at: a panic; the ones before stay"),
        }
        for task in authenticator.due() {
            spawn(task);
        }
    }
}

impl Authenticator {
    /// Fetches the keys of all issuers once and waits for them, at most `patience`: so that the first requests after a
    /// start find keys. What is not there by then goes on in `keep`.
    pub async fn fetch_keys(self: &Arc<Self>, patience: Duration, spawn: impl Fn(BackgroundTask)) {
        let (done, mut waiting) = tokio::sync::mpsc::channel::<()>(1);
        for task in self.due() {
            let done = done.clone();
            spawn(Box::pin(async move {
                task.await;
                drop(done);
            }));
        }
        drop(done);
        // Ends when the last task has dropped its sender.
        let _ = tokio::time::timeout(patience, waiting.recv()).await;
    }

    /// Takes a changed credentials file and wipes old tokens; reads the disk. What cannot be used is logged once, and
    /// what was there before stays. Says whether a change was taken; `None` without one.
    pub fn look(&self) -> Option<bool> {
        let loaded = self.load_if_changed();
        match &loaded {
            Some(Ok(counts)) => tracing::info!(
                keys = counts.keys,
                clients = counts.clients,
                certificates = counts.certificates,
                issuers = counts.issuers,
                "credentials reloaded"
            ),
            Some(Err(err)) => {
                let reason = std::error::Error::source(err).map(ToString::to_string);
                tracing::error!(error = %err, reason, "changed credentials cannot be used: those before stay in use");
            }
            None => {}
        }
        self.tidy();
        loaded.map(|loaded| loaded.is_ok())
    }

    /// The fetches to be made now.
    fn due(self: &Arc<Self>) -> Vec<BackgroundTask> {
        let now = self.clock.monotonic();
        let book = self.book.load();
        let due = book.issuers.iter().filter(|issuer| issuer.begin_if_due(now));
        due.map(|issuer| -> BackgroundTask { Box::pin(Arc::clone(self).fetch(Arc::clone(issuer))) }).collect()
    }

    async fn fetch(self: Arc<Self>, issuer: Arc<Issuer>) {
        let name = issuer.name().to_owned();
        let outcome = match issuer.fetch(&self.clock).await {
            Ok(changed) => {
                if changed {
                    self.forget();
                    let keys = issuer.keys(self.clock.monotonic()).map(|(_, keys)| keys);
                    tracing::info!(issuer = name, keys, "issuer's keys are new");
                }
                "fetched"
            }
            Err(fault) => {
                let age_s = issuer.keys(self.clock.monotonic()).map(|(age, _)| age.as_secs());
                let reason = std::error::Error::source(&fault).map(ToString::to_string);
                tracing::warn!(
                    issuer = name,
                    error = %fault,
                    reason,
                    age_s,
                    "issuer's keys could not be refreshed: the last good ones stay in use for up to 24 hours"
                );
                "failed"
            }
        };
        metrics::counter!("scoreline_auth_key_fetches_total", "issuer" => name, "outcome" => outcome).increment(1);
    }
}
