//! The configuration in force, exchanged when the files change. A set that is not good is refused with its reason, and
//! the one before keeps serving.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::error::TlsError;
use super::files::{Look, TlsFiles};
use super::material::Loaded;
use super::settings::TlsSettings;
use scoreline_domain::time::{Clock, Rounds};

/// How often the files are looked at. A change is taken at the second look that finds it, so within two of these.
const POLL: Duration = Duration::from_secs(1);

/// The current configuration of one listener, and what keeps it current.
pub struct Reloading {
    settings: TlsSettings,
    clock: Arc<dyn Clock>,
    current: ArcSwap<Loaded>,
    /// Locked by one look at a time, never by a handshake.
    progress: Mutex<Progress>,
}

/// What one look at the files came to.
#[derive(Debug)]
pub enum Checked {
    Unchanged,
    /// Something is being written: the next look decides.
    Settling,
    Reloaded,
    /// The configuration before stays.
    Refused(TlsError),
}

/// A look at the files panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("looking at the TLS files panicked")]
pub struct CheckPanicked;

struct Progress {
    /// The look before.
    seen: Look,
    /// The look at what was last decided on; `None` when it has to be decided again.
    decided: Option<Look>,
    /// Of the contents in force.
    digest: [u8; 32],
    /// Why the set on disk is refused, to say it once.
    refused: Option<String>,
}

impl Reloading {
    /// Loads the files for the first time.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn start(settings: TlsSettings, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let look = Look::at(&settings);
        let files = TlsFiles::read(&settings)?;
        let loaded = Loaded::new(&settings, &files, &clock)?;
        let now = clock.now();
        loaded.warn(&settings, now);
        gauges(&settings, &loaded, now);
        // When a file changed while it was read, the look at it differs from the next one, and it is read again.
        let progress = Progress { seen: look.clone(), decided: Some(look), digest: files.digest(), refused: None };
        Ok(Self { settings, clock, current: ArcSwap::from_pointee(loaded), progress: Mutex::new(progress) })
    }

    /// When the served chain expires, and when the first revocation list is past its next update.
    pub fn expiries(&self) -> (Timestamp, Option<Timestamp>) {
        let loaded = self.current.load();
        (loaded.certificate_expires, loaded.lists_expire)
    }

    /// What the next handshake should use.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// `current`, for whoever accepts connections.
    pub fn configs(self: &Arc<Self>) -> Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync> {
        let reloading = Arc::clone(self);
        Arc::new(move || reloading.current())
    }

    /// Looks at the files every second until `stop`.
    ///
    /// # Errors
    /// When a look panicked.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) -> Result<(), CheckPanicked> {
        let mut rounds = Rounds::every(POLL);
        while rounds.next(stop.cancelled()).await {
            let looking = Arc::clone(&self);
            // Disks can hang; handshakes must not wait for them.
            tokio::task::spawn_blocking(move || looking.check()).await.map_err(|_| CheckPanicked)?;
        }
        Ok(())
    }

    /// Looks at the files once, and exchanges the configuration when they have changed, are still, and are good.
    pub fn check(&self) -> Checked {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = self.decide(&mut progress);
        let listener = self.settings.listener.name();
        let count = |outcome: &'static str| {
            metrics::counter!("scoreline_tls_reloads_total", "listener" => listener, "outcome" => outcome).increment(1);
        };
        match &checked {
            Checked::Unchanged | Checked::Settling => {}
            Checked::Reloaded => {
                progress.refused = None;
                count("reloaded");
                let expires_at = self.current.load().certificate_expires;
                tracing::info!(listener, certificate_expires_at = %expires_at, "TLS files reloaded");
            }
            Checked::Refused(err) => {
                let reason = err.with_causes();
                if progress.refused.as_ref() != Some(&reason) {
                    count("refused");
                    tracing::error!(listener, reason, "TLS files refused; what served before keeps serving");
                    progress.refused = Some(reason);
                }
            }
        }
        gauges(&self.settings, &self.current.load(), self.clock.now());
        checked
    }

    fn decide(&self, progress: &mut Progress) -> Checked {
        let look = Look::at(&self.settings);
        if look != progress.seen {
            progress.seen = look;
            return Checked::Settling;
        }
        if progress.decided.as_ref() == Some(&look) {
            return Checked::Unchanged;
        }
        let read = TlsFiles::read(&self.settings);
        if Look::at(&self.settings) != look {
            return Checked::Settling;
        }
        progress.decided = Some(look);
        let taken = read.and_then(|files| {
            let digest = files.digest();
            if digest == progress.digest {
                return Ok(None);
            }
            Ok(Some((digest, Loaded::new(&self.settings, &files, &self.clock)?)))
        });
        match taken {
            Ok(None) => {
                if progress.refused.take().is_some() {
                    tracing::info!(listener = self.settings.listener.name(), "TLS files are again the ones in force");
                }
                Checked::Unchanged
            }
            Ok(Some((digest, loaded))) => {
                loaded.warn(&self.settings, self.clock.now());
                progress.digest = digest;
                self.current.store(Arc::new(loaded));
                Checked::Reloaded
            }
            Err(err) => {
                if err.may_pass() {
                    progress.decided = None;
                }
                Checked::Refused(err)
            }
        }
    }
}

/// Seconds until an expiry, negative after it.
fn gauges(settings: &TlsSettings, loaded: &Loaded, now: Timestamp) {
    let listener = settings.listener.name();
    let left = |expires: Timestamp| (expires.as_second() - now.as_second()) as f64;
    metrics::gauge!("scoreline_tls_certificate_expiry_seconds", "listener" => listener)
        .set(left(loaded.certificate_expires));
    if let Some(expires) = loaded.lists_expire {
        metrics::gauge!("scoreline_tls_revocation_list_expiry_seconds", "listener" => listener).set(left(expires));
    }
}
