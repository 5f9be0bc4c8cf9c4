//! The store that a command works with, and how a signal ends the work.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use crate::config::Settings;
use crate::lifecycle::Signals;
use scoreline_domain::privacy::{IdHasher, Tombstones};
use scoreline_domain::time::SystemClock;
use scoreline_store::{Place, Store};

/// Opens the store to write, with what hashes its customers' identifiers.
pub async fn open(settings: &Settings, tombstones: Tombstones) -> anyhow::Result<Store> {
    Store::open(&settings.store, tombstones).await.with_context(|| key(settings))
}

/// Opens the store to read from, beside a server that uses it.
pub async fn open_to_read(settings: &Settings) -> anyhow::Result<Store> {
    Store::open_to_read(&settings.store).await.with_context(|| key(settings))
}

/// Who was erased, and what identifiers are hashed with.
pub fn hasher(settings: &Settings) -> anyhow::Result<(IdHasher, Tombstones)> {
    let tombstones = match &settings.privacy.tombstones {
        Some(path) => Tombstones::open(path).context("`privacy.tombstones_path`")?,
        None => Tombstones::default(),
    };
    Ok((IdHasher::watching(&settings.privacy, tombstones.clone(), Arc::new(SystemClock)), tombstones))
}

/// Runs a command's work until it is done or a signal comes.
pub fn run_until_signal<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("runtime cannot start")?.block_on(async {
        let mut signals = Signals::listen();
        tokio::select! {
            ended = work => ended,
            signal = signals.next() => Err(anyhow!("interrupted by {signal}")),
        }
    })
}

/// The key that says where the store is.
fn key(settings: &Settings) -> &'static str {
    match &settings.store.place {
        Place::Sqlite(_) => "`store.path`",
        Place::Postgres(_) => "`store.url`",
    }
}
