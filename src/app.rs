//! The composition root: configuration becomes services, services become a router. The only file that sees every module.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use crate::config::{self, Settings};
use crate::domain::time::{Clock as _, SystemClock};
use crate::http::listener::{self, ConnectionTask, ListenerSettings};
use crate::http::{self, HttpSettings, HttpState, Public, Readiness, Shared};
use crate::inference::bundle::LoadSettings;
use crate::inference::registry::{Event, Patience, Registry, RegistrySettings};
use crate::inference::runtime_search::RuntimeSearch;
use crate::lifecycle::{Lifecycle, Stop};
use crate::monitoring::Monitoring;
use crate::privacy::IdHasher;
use crate::routing::TierPolicy;
use crate::scoring::{Scorer, ScorerSettings, golden};
use crate::telemetry::MetricsHandle;

/// Longest time a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the models folder is looked at.
const MODELS_POLL: Duration = Duration::from_secs(1);
/// How often drift windows are looked at, and newly serving models begin to be watched.
const DRIFT_POLL: Duration = Duration::from_secs(1);

/// Loads the models, serves until a signal, drains, returns.
///
/// # Errors
/// When a listener can not be opened, a part of the server dies, or requests had to be cut at the drain timeout.
pub async fn serve(settings: Settings, metrics: MetricsHandle) -> anyhow::Result<()> {
    let lifecycle = Lifecycle::new();
    let registry = registry(&settings);
    report(&scan(&registry, Patience::Now).await?);
    if registry.is_empty() {
        tracing::warn!(dir = %settings.models.dir.display(), "no model is loaded: not ready until one is dropped in");
    }
    let state = state(&settings, Arc::clone(&registry), metrics.clone());
    let readiness = state.readiness.clone();
    let monitoring = state.monitoring.clone();
    let candidates = state.scorer.clone();
    let state = Shared::new(state);

    let public = open(settings.server.listen, "server.listen").await?;
    let admin = open(settings.server.admin_listen, "server.admin_listen").await?;
    tracing::info!(
        listen = %public.local_addr()?,
        admin_listen = %admin.local_addr()?,
        models = registry.serving_names(),
        "serving"
    );

    let stop = lifecycle.stop();
    let limits = ListenerSettings { header_read_timeout: settings.server.header_read_timeout };
    let connections = stop.clone();
    let spawn = move |connection: ConnectionTask| connections.track(connection);
    let serving = listener::serve(public, Public::new(state.clone()), limits, stop.soft().clone(), spawn.clone());
    stop.supervise("public listener", serving);
    let service = TowerToHyperService::new(http::admin(state));
    stop.supervise("admin listener", listener::serve(admin, service, limits, stop.soft().clone(), spawn));
    stop.supervise("drift monitor", judge(Arc::clone(&registry), monitoring.clone(), stop.clone()));
    let comparing = stop.clone();
    stop.supervise("candidates", async move { candidates.compare(comparing.requested()).await });
    stop.supervise("models watcher", watch(registry, stop.clone()));
    let folding = stop.clone();
    stop.supervise("metrics upkeep", async move { metrics.upkeep(folding.requested()).await });
    let draining = stop.clone();
    stop.supervise("readiness", async move {
        draining.requested().await;
        readiness.drain();
    });
    let ended = lifecycle.run(settings.server.drain_timeout).await;
    monitoring.close();
    ended.context("the server did not stop cleanly")
}

/// The registry as configured, still empty.
pub fn registry(settings: &Settings) -> Arc<Registry> {
    let settings = RegistrySettings {
        dir: settings.models.dir.clone(),
        pins: settings.models.pins.clone(),
        candidates: settings.models.candidates.clone(),
        load: load_settings(settings),
    };
    Arc::new(Registry::new(settings, golden::verify))
}

/// What loading a bundle may use.
pub fn load_settings(settings: &Settings) -> LoadSettings {
    LoadSettings {
        runtime: RuntimeSearch::new(settings.inference.onnxruntime_path.clone(), config::variable),
        onnx_threads: settings.inference.onnx_threads,
        onnx_queue: settings.inference.onnx_queue,
        tiers: settings.routing_thresholds(),
    }
}

fn state(settings: &Settings, registry: Arc<Registry>, metrics: MetricsHandle) -> HttpState {
    let scorer = ScorerSettings {
        clv_model: settings.models.clv_model.clone(),
        lead_model: settings.models.lead_model.clone(),
        strict_version: settings.models.strict_version,
        deadline: settings.scoring.deadline,
        cache_bytes: settings.scoring.cache_size,
        cache_ttl: settings.scoring.cache_ttl,
        explain: settings.scoring.explain,
    };
    if settings.privacy.pepper.is_none() {
        tracing::warn!("`privacy.pepper` is not set: customer keys are random and differ after a restart");
    }
    let monitoring = Monitoring::start(&settings.monitoring);
    monitoring.drift().follow(&registry.all_serving(), SystemClock.now());
    HttpState {
        scorer: Scorer::new(registry, Arc::new(SystemClock), scorer, monitoring.clone()),
        hasher: IdHasher::new(&settings.privacy),
        policy: Arc::new(TierPolicy::new(settings.routing.clone())),
        monitoring,
        settings: HttpSettings {
            body_limit: settings.server.body_limit,
            batch_body_limit: settings.server.batch_body_limit,
            batch_rows: settings.server.batch_rows,
            body_timeout: BODY_TIMEOUT,
        },
        readiness: Readiness::default(),
        metrics: Arc::new(move || metrics.render()),
    }
}

async fn open(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("`{key}` = `{address}` can not be opened"))
}

/// Looks at the models folder once a second. Polling is the authority: it works on every file system.
async fn watch(registry: Arc<Registry>, stop: Stop) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(MODELS_POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => report(&scan(&registry, Patience::WhenStable).await?),
            () = stop.requested() => return Ok(()),
        }
    }
}

/// Keeps the drift monitor on what serves, and closes its windows.
async fn judge(registry: Arc<Registry>, monitoring: Monitoring, stop: Stop) {
    let mut ticks = tokio::time::interval(DRIFT_POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let now = SystemClock.now();
                monitoring.drift().follow(&registry.all_serving(), now);
                monitoring.drift().judge(now);
            }
            () = stop.requested() => return,
        }
    }
}

/// Disk and model loads stay off the threads that answer requests.
async fn scan(registry: &Arc<Registry>, patience: Patience) -> anyhow::Result<Vec<Event>> {
    let registry = Arc::clone(registry);
    tokio::task::spawn_blocking(move || registry.scan(patience)).await.context("a model load panicked")
}

fn report(events: &[Event]) {
    for event in events {
        match event {
            Event::Published { model, version, digest } => {
                metrics::counter!("scoreline_model_loads_total", "outcome" => "published").increment(1);
                tracing::info!(%model, %version, digest, "model serves");
            }
            Event::Trial { model, version, digest, mode } => {
                metrics::counter!("scoreline_model_loads_total", "outcome" => "candidate").increment(1);
                tracing::info!(%model, %version, digest, mode, "model is tried beside the serving one");
            }
            Event::Refused { model, version, code, reason } => {
                metrics::counter!("scoreline_model_loads_total", "outcome" => *code).increment(1);
                tracing::error!(%model, %version, code, reason, "model refused; what served before keeps serving");
            }
        }
    }
}
