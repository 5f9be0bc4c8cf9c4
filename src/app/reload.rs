//! SIGHUP: what can be read anew while the server runs is read anew, and what cannot is named. It never ends the process.
//!
//! Credentials, issuers' keys, TLS files and models are looked at every second without it. So a few things are
//! left: the platform's client secret, the secrets of callbacks, the audit file that somebody has moved away, and settings
//! that wait for a restart.

use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::spawn_blocking;

use crate::config::{Effective, EffectiveKey, SettingsSource};
use crate::lifecycle::{Hangups, Stop};
use crate::sinks::Callbacks;
use crate::telemetry::AuditFile;
use scoreline_genesys::Genesys;

/// What a reload works with.
pub(super) struct Reload {
    pub(super) source: SettingsSource,
    /// What the server was started with.
    pub(super) started: Effective,
    pub(super) audit: Option<AuditFile>,
    pub(super) platform: Option<Genesys>,
    pub(super) callbacks: Option<Callbacks>,
}

impl Reload {
    /// Reloads at every SIGHUP until the process stops. A supervised task.
    pub(super) async fn run(mut self, mut hangups: Hangups, stop: Stop) {
        loop {
            tokio::select! {
                () = hangups.next() => self.reload().await,
                () = stop.requested() => return,
            }
        }
    }

    async fn reload(&mut self) {
        tracing::info!(
            "SIGHUP: reading again; credentials, issuers' keys, TLS files and models are looked at every second"
        );
        if let Some(Err(err)) = self.audit.as_ref().map(AuditFile::reopen) {
            tracing::error!(error = %err, "`log.audit_path` cannot be opened anew: lines go to the file before");
        }
        let source = self.source.clone();
        let fresh = match spawn_blocking(move || source.read()).await {
            Ok(Ok(fresh)) => fresh,
            Ok(Err(problems)) => {
                tracing::error!(%problems, "settings cannot be used: those before stay, and a restart would be refused");
                return;
            }
            Err(_) => {
                tracing::error!("settings could not be read again: a panic; those before stay");
                return;
            }
        };
        let changed = changed(&self.started, &fresh);
        if !changed.iter().any(|key| key.starts_with("genesys.")) {
            self.exchange_secret(&fresh).await;
        }
        if let (Some(callbacks), Some(fresh)) = (&self.callbacks, &fresh.settings.callbacks) {
            callbacks.exchange_secrets(fresh.secrets.clone());
        }
        if changed.is_empty() {
            tracing::info!("settings are as at the start");
        } else {
            tracing::warn!(keys = changed.join(", "), "settings have changed: they hold from the next start");
        }
    }

    /// A secret belongs to its client id and login address, so it is taken only where those are as before.
    async fn exchange_secret(&mut self, fresh: &Effective) {
        let (Some(platform), Some(fresh), Some(known)) =
            (&self.platform, &fresh.settings.genesys, &mut self.started.settings.genesys)
        else {
            return;
        };
        if is_same(&fresh.client_secret, &known.client_secret) {
            return;
        }
        platform.exchange_secret(fresh.client_secret.clone()).await;
        known.client_secret = fresh.client_secret.clone();
        tracing::info!("`genesys.client_secret_file` holds another secret: the next login is with it");
    }
}

/// Keys that are in effect otherwise than at the start. Values are compared as they are shown, peppers as they are.
fn changed(started: &Effective, fresh: &Effective) -> Vec<String> {
    let value_in = |entries: &[EffectiveKey], key: &str| {
        entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.value.clone())
    };
    let mut keys: Vec<_> = started.entries.iter().chain(&fresh.entries).map(|entry| entry.key.clone()).collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| value_in(&started.entries, key) != value_in(&fresh.entries, key));
    let (before, after) = (&started.settings.privacy, &fresh.settings.privacy);
    let is_same_pepper = match (&before.pepper, &after.pepper) {
        (Some(before), Some(after)) => is_same(before, after),
        (before, after) => before.is_none() && after.is_none(),
    };
    if !is_same_pepper && !keys.iter().any(|key| key.starts_with("privacy.pepper")) {
        keys.push("privacy.pepper".to_owned());
    }
    keys
}

fn is_same(one: &SecretString, another: &SecretString) -> bool {
    one.expose_secret() == another.expose_secret()
}
