//! What replicas tell each other through the store: who was erased, which versions were promoted, where leads stand, and which
//! tier a customer was in last.
//! Looked at every second; nobody who asks for a prediction waits for it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::lifecycle::Stop;
use crate::scoring::Scorer;
use scoreline_domain::privacy::erasure::EraseError;
use scoreline_domain::privacy::{Erasable, Eraser};
use scoreline_domain::text::with_causes;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, ModelName, ModelVersion, Promotions, RollingPlaces};
use scoreline_engine::inference::registry::{PromotionKeeper, Registry};
use scoreline_store::{Store, StoreError};

/// How often the store is looked at.
const POLL: Duration = Duration::from_secs(1);
/// Last tiers that are read at a time.
const TIERS: usize = 10_000;
/// Whether the store is open and does its work.
pub(super) const STORE_OPEN: &str = "scoreline_store_open";

/// The store for those who block: open sooner or later. Made inside the runtime that the store is opened in.
#[derive(Clone)]
pub(super) struct StoreDesk {
    pub(super) store: Arc<OnceLock<Store>>,
    runtime: Handle,
    /// Whether what is kept outlasts the process.
    lasts: bool,
}

impl StoreDesk {
    pub(super) fn new(lasts: bool) -> Self {
        Self { store: Arc::default(), runtime: Handle::current(), lasts }
    }

    /// Not to be called by a task of the runtime: it would wait for itself.
    fn wait_for<T>(&self, work: impl AsyncFnOnce(&Store) -> Result<T, StoreError>) -> Result<T, EraseError> {
        let store = self.store.get().ok_or_else(|| {
            EraseError("the store (`store.path` or `store.url`) is not open; the log says what it waits for".to_owned())
        })?;
        self.runtime.block_on(work(store)).map_err(EraseError::from)
    }
}

impl Erasable for StoreDesk {
    fn name(&self) -> &'static str {
        "store"
    }

    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError> {
        self.wait_for(async |store| store.erase_customers(customers).await)
    }

    fn lasts(&self) -> bool {
        self.lasts
    }
}

impl PromotionKeeper for StoreDesk {
    fn keep(
        &self,
        model: &ModelName,
        version: Option<&ModelVersion>,
        before: &[ModelVersion],
    ) -> Result<Promotions, String> {
        self.wait_for(async |store| store.promote(model, version, before).await).map_err(|err| err.to_string())
    }
}

/// Looks at the store every second until the process stops, and says when it stops doing its work and when it does it
/// again.
pub(super) async fn watch(store: Store, stop: Stop) {
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: Option<String> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.requested() => return,
        }
        store.check().await;
        let trouble = store.trouble();
        metrics::gauge!(STORE_OPEN).set(if trouble.is_none() { 1.0 } else { 0.0 });
        match (&trouble, &told) {
            (Some(reason), None) => {
                tracing::error!(reason, "the store does not do its work: nothing of customers is kept or found anew");
            }
            (Some(reason), Some(before)) if reason != before => {
                tracing::debug!(reason, "the store does not do its work for another reason");
            }
            (None, Some(_)) => tracing::info!("the store does its work again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        told = trouble;
    }
}

/// Follows the store until the process stops.
pub(super) struct Follower {
    pub(super) store: Store,
    pub(super) eraser: Eraser,
    pub(super) registry: Arc<Registry>,
    /// The last tombstone that is known.
    pub(super) erased_seq: i64,
    /// Whose leads and last tiers are kept.
    pub(super) scorer: Scorer,
    /// The last tier that is known.
    pub(super) tiers_seq: i64,
}

/// Keeps the leads that were scored since the last time, and goes on from where leads stand with those of others.
///
/// # Errors
/// When the store does not answer; the leads are kept the next time.
pub(super) async fn keep_places(store: &Store, scorer: &Scorer) -> Result<(), StoreError> {
    for unkept in scorer.take_unkept_leads() {
        let version = unkept.version.as_bytes();
        let moved = if unkept.leads.is_empty() {
            store.lead_places(version).await
        } else {
            let take = |places: &mut RollingPlaces| places.take(&unkept.leads);
            store.move_lead_places(version, scorer.now(), take).await.map(Some)
        };
        match moved {
            Ok(Some(places)) => scorer.follow_places(unkept.version, places),
            Ok(None) => {}
            Err(err) => {
                scorer.give_back_unkept_leads(unkept);
                return Err(err);
            }
        }
    }
    Ok(())
}

impl Follower {
    pub(super) async fn run(mut self, stop: Stop) {
        if let Err(err) = self.store.finish_erasures().await {
            tracing::error!(error = %EraseError::from(err), "erasures that were interrupted cannot be finished");
        }
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.requested() => return,
            }
            let looked = self.look().await;
            match (&looked, failing) {
                (Err(err), false) => {
                    tracing::error!(
                        error = with_causes(&**err),
                        "the store cannot be followed; tried again every second"
                    );
                }
                (Ok(()), true) => tracing::info!("erasures and promotions of the store are followed again"),
                (Err(_), true) | (Ok(()), false) => {}
            }
            failing = looked.is_err();
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let eraser = self.eraser.clone();
        spawn_blocking(move || eraser.catch_up()).await.context("an erasure panicked")??;
        let (tombstones, seq) = self.store.tombstones_since(self.erased_seq).await?;
        if !tombstones.is_empty() {
            let eraser = self.eraser.clone();
            spawn_blocking(move || eraser.follow(&tombstones)).await.context("an erasure panicked")?;
            self.erased_seq = seq;
        }
        let promotions = self.store.promotions().await?;
        let registry = Arc::clone(&self.registry);
        let followed = move || {
            registry.follow(promotions);
            registry.unkept_manifests()
        };
        let unkept = spawn_blocking(followed).await.context("a promotion panicked")?;
        for ((model, version), manifest) in unkept {
            self.store.keep_manifest(&model, &version, &manifest).await?;
        }
        keep_places(&self.store, &self.scorer).await?;
        self.share_tiers().await?;
        Ok(())
    }

    /// Tells the tiers that were answered since the last time, and takes down those that others have told.
    async fn share_tiers(&mut self) -> Result<(), StoreError> {
        let tiers = self.scorer.cache().last_tiers().clone();
        let untold = tiers.take_untold();
        if !untold.is_empty() {
            let since = self.scorer.now().checked_sub(tiers.ttl()).unwrap_or(Timestamp::MIN);
            if let Err(err) = self.store.keep_last_tiers(&untold, since).await {
                tiers.give_back(untold);
                return Err(err);
            }
        }
        loop {
            let page = self.store.last_tiers_since(self.tiers_seq, TIERS).await?;
            self.tiers_seq = page.seq;
            tiers.follow(page.tiers);
            if !page.more {
                return Ok(());
            }
        }
    }
}
