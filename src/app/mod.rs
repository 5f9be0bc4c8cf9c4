//! The composition root: configuration becomes services, services become a router. The only file that sees every module.

pub mod checkup;
pub mod examine;
mod follow;
pub mod jobs;
pub mod local;
mod open_files;
pub mod pace;
mod pepper;
mod reload;
pub mod stored;

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::auth::{self, Authenticator};
use crate::config::{self, Effective, Settings, SettingsSource};
use crate::conversations::ConversationBook;
use crate::http::admission::Admission;
use crate::http::{
    Documents, Endpoints, EventKeys, HttpSettings, HttpState, OperatorDesk, Readiness, SharedState, WidgetDesk,
    keep_live,
};
use crate::lifecycle::{Hangups, Lifecycle, Signals, Stop};
use crate::monitoring::{Ledger, Monitoring};
use crate::routing::TierPolicy;
use crate::scoring::feature_table::FeatureTable;
use crate::scoring::self_probe::SelfProbe;
use crate::scoring::{Scorer, ScorerSettings, gate, golden};
use crate::sinks::Callbacks;
use crate::telemetry::{AuditFile, MetricsHandle, Traces};
use scoreline_domain::privacy::audit::{self, Actor, AuditAction, AuditOutcome};
use scoreline_domain::privacy::{Erasable, Eraser, IdHasher, LinkSigner, PrivacySettings, Tombstones};
use scoreline_domain::time::{Clock as _, Rounds, SystemClock};
use scoreline_domain::trace::{Tracer, WorkEnd};
use scoreline_engine::inference::bundle::LoadSettings;
use scoreline_engine::inference::registry::{FolderWatch, Patience, Registry, RegistrySettings};
use scoreline_engine::inference::runtime_search::RuntimeSearch;
use scoreline_listener::tls::{Reloading, TlsListener, TlsSettings};
use scoreline_listener::{ConnectionTask, Drain, Limits, Listener, OpenConnections, TlsConfigs};
use scoreline_store::{Store, StorePlace};

use jobs::{JobParts, Pipeline};
use open_files::ConnectionShares;
use reload::Reload;
use stored::Opening;

/// Longest time a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Threads that a start needs beside those that answer requests: of the admin listener, of the store's connections, and
/// some for work on files.
const THREADS_BESIDE: usize = 8;
/// How often the models folder is looked at.
const MODELS_POLL: Duration = Duration::from_secs(1);
/// A bundle's files must stand still for that long: more than a hiccup of a copy, less than a poll.
const MODELS_SETTLE: Duration = Duration::from_millis(800);
/// A copy makes many file events; one look is enough for those of this time.
const WAKE_PAUSE: Duration = Duration::from_millis(200);
/// How often drift windows are looked at, and newly serving models begin to be watched.
const DRIFT_POLL: Duration = Duration::from_secs(1);
/// How often what goes through the server is sampled, for people who look at it.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How long a start waits for issuers' keys before it serves without them.
const KEYS_PATIENCE: Duration = Duration::from_secs(2);

/// What a server is started with.
pub struct ServerStart {
    pub source: SettingsSource,
    pub effective: Effective,
    /// Where audit lines go, when they have a file.
    pub audit: Option<AuditFile>,
    pub metrics: MetricsHandle,
}

/// Loads the models, serves until a signal, drains, returns.
///
/// # Errors
/// When a listener cannot be opened, a part of the server dies, or requests had to be cut at the drain timeout.
pub async fn serve(start: ServerStart) -> anyhow::Result<()> {
    let ServerStart { source, effective, audit, metrics } = start;
    let lifecycle = Lifecycle::new();
    let signals = Signals::listen();
    let hangups = Hangups::listen();
    let settings = effective.settings.clone();
    let shares = ConnectionShares::claim(settings.connections.connections);
    let (opening, privacy) = stored::start(&settings).await?;
    let monitoring = Monitoring::start(&settings.monitoring).with_control_share(settings.routing.control_share);
    let registry = registry(&settings);
    let traces = Traces::start(settings.tracing.as_ref())?;
    let tracer = traces.tracer();
    let pipeline = Pipeline::of(&settings, tracer.clone());
    load(&registry, &settings, &pipeline, &opening, &monitoring).await?;
    let authenticator = Authenticator::open(&settings.auth, Arc::new(SystemClock))?;
    if let Some(authenticator) = &authenticator {
        watch_credentials(authenticator, &tracer, &lifecycle.stop()).await;
    }
    let operator = OperatorDesk::new(address(&settings), lifecycle.stop());
    // A store that could not be opened may stay away for hours: whoever brings features is answered without it.
    let ready_wait = if matches!(opening, Opening::Open(_)) { settings.server.ready_wait } else { Duration::ZERO };
    let (monitored, shown, rendered) = (monitoring.clone(), operator.clone(), metrics.clone());
    let parts = StateParts { monitoring: monitored, operator: shown, metrics: rendered, ready_wait, tracer };
    let state = state(&settings, &privacy, Arc::clone(&registry), authenticator, parts, &pipeline);
    tell_if_late(state.scorer.table().clone(), ready_wait, &lifecycle.stop());
    let (scorer, eraser) = (state.scorer.clone(), state.eraser.clone());
    if let Opening::Open(opened) = &opening {
        pipeline.take_in(opened, &eraser, &monitoring, &state.hasher);
    }
    let platform = jobs::platform(&settings, &privacy, state.hasher.clone())?;
    if let Some(platform) = platform.clone() {
        // The only one.
        drop(operator.platform.set(platform));
    }
    let callbacks = callbacks(&settings)?;
    let reload = Reload { source, started: effective, audit, platform: platform.clone(), callbacks: callbacks.clone() };
    let (tell, opened) = oneshot::channel();
    let parts = JobParts {
        settings: settings.clone(),
        scorer: scorer.clone(),
        hasher: state.hasher.clone(),
        eraser: eraser.clone(),
        monitoring: monitoring.clone(),
        platform,
        callbacks,
        conversations: state.widget.as_ref().map(|widget| widget.book.clone()),
        opened: tell,
    };
    let readiness = state.readiness.clone();
    let state = SharedState::new(state);

    let stop = lifecycle.stop();
    let (tls, admin_tls) = (tls(settings.tls.public, &stop)?, tls(settings.tls.admin, &stop)?);
    let public = open(settings.server.listen, "server.listen")?;
    let admin = open(settings.server.admin_listen, "server.admin_listen")?;
    tracing::info!(
        listen = %public.local_addr()?,
        admin_listen = %admin.local_addr()?,
        models = registry.serving_names(),
        "serving"
    );

    let drain = Drain::new();
    let admin_drain = Drain::new();
    serve_admin(admin, admin_tls, state.clone(), shares.admin, admin_drain.clone(), &stop)?;
    if let StorePlace::Sqlite(path) = &settings.store.place {
        let commands = local::serve(path.clone(), pipeline.desk().store, Endpoints::local(state.clone()), stop.clone());
        stop.supervise("commands", commands);
    }
    let limits = Limits { connections: shares.public, ..settings.connections };
    serve_public(public, tls, state, limits, drain.clone(), admin_drain, &stop);
    stop.supervise("reload", reload.run(hangups, stop.clone()));
    stop.supervise("self-probe", probe(SelfProbe::new(scorer.clone()), settings.scoring.self_probe, stop.clone()));
    look_after_models(settings.models.dir, scorer, registry, &monitoring, &stop);
    stop.supervise("jobs", pipeline.run(parts, opening, stop.clone()));
    let folding = stop.clone();
    stop.supervise("metrics upkeep", async move { metrics.upkeep(folding.requested()).await });
    stop.supervise("drain", leave(drain, readiness, settings.server.drain_delay, stop.clone()));
    let drain_time = settings.server.drain_delay + settings.server.drain_timeout;
    let keeping = keep_ledger(monitoring.ledger().cloned(), opened, eraser.tombstones().clone());
    let ending = async {
        let ended = lifecycle.run(signals, drain_time).await;
        close_ledger(&monitoring).await;
        ended
    };
    let (ended, store) = tokio::join!(ending, keeping);
    // After the last request, whose trace is among them.
    traces.close().await;
    if let Some(store) = store {
        store.close().await;
    }
    ended.context("the server did not stop cleanly")
}

/// Starts what looks at models and at what goes through them.
fn look_after_models(dir: PathBuf, scorer: Scorer, registry: Arc<Registry>, monitoring: &Monitoring, stop: &Stop) {
    stop.supervise("traffic", sample(Arc::clone(&registry), monitoring.clone(), stop.clone()));
    stop.supervise("drift monitor", judge(Arc::clone(&registry), monitoring.clone(), stop.clone()));
    let comparing = stop.clone();
    stop.supervise("candidates", async move { scorer.compare(comparing.requested()).await });
    stop.supervise("models watcher", watch(registry, dir, stop.clone()));
}

/// Says that the process leaves once it is asked to stop, and accepts nothing new a while later.
async fn leave(drain: Drain, readiness: Readiness, delay: Duration, stop: Stop) {
    stop.requested().await;
    readiness.drain();
    drain.leave();
    tokio::time::sleep(delay).await;
    drain.close();
}

/// Keeps outcomes from the moment the store is open until the ledger is closed; the store, to be closed then.
async fn keep_ledger(
    ledger: Option<Ledger>,
    opened: oneshot::Receiver<Store>,
    tombstones: Tombstones,
) -> Option<Store> {
    let store = opened.await.ok()?;
    if let Some(ledger) = ledger {
        ledger.keep(store.clone(), tombstones).await;
    }
    Some(store)
}

/// Reads the credentials, certificates and keys that the settings name, as a start would, and says which there are.
///
/// # Errors
/// What a start would end with.
pub fn read_files(settings: &Settings) -> anyhow::Result<Vec<&'static str>> {
    let mut read = Vec::new();
    if Authenticator::open(&settings.auth, Arc::new(SystemClock))?.is_some() {
        read.push("auth.credentials_file");
    }
    for (section, tls) in [("server.tls", &settings.tls.public), ("server.admin_tls", &settings.tls.admin)] {
        if let Some(tls) = tls {
            Reloading::start(tls.clone(), Arc::new(SystemClock))?;
            read.push(section);
        }
    }
    Ok(read)
}

/// What callbacks are told with, where they may be.
fn callbacks(settings: &Settings) -> anyhow::Result<Option<Callbacks>> {
    let callbacks = settings.callbacks.clone().map(|callbacks| Callbacks::new(callbacks, Arc::new(SystemClock)));
    callbacks.transpose().context("`[write_back.callbacks]`: no client can be made")
}

/// Loads the models that are there, as far as is known which are wanted.
async fn load(
    registry: &Arc<Registry>,
    settings: &Settings,
    pipeline: &Pipeline,
    opening: &Opening,
    monitoring: &Monitoring,
) -> anyhow::Result<()> {
    let journal = monitoring.journal().clone();
    registry.tell_also(move |event| journal.happened(SystemClock.now(), event));
    registry.keep_promotions(pipeline.desk());
    if let Opening::Open(opened) = opening {
        registry.follow(opened.promotions.clone());
    } else {
        tracing::warn!("promoted versions are not known until the store is open: pins and the newest versions serve");
    }
    scan(registry, Patience::Now).await?;
    if registry.is_empty() {
        tracing::warn!(dir = %settings.models.dir.display(), "no model is loaded: not ready until one is dropped in");
    }
    Ok(())
}

/// The registry as configured, still empty.
pub fn registry(settings: &Settings) -> Arc<Registry> {
    let settings = RegistrySettings {
        pins: settings.models.pins.clone(),
        candidates: settings.models.candidates.clone(),
        load: load_settings(settings),
        probe: std::env::current_exe().ok(),
        settle: MODELS_SETTLE,
        departure: Some(gate::departure),
        ..RegistrySettings::new(settings.models.dir.clone())
    };
    Arc::new(Registry::new(settings, golden::verify))
}

/// What loading a bundle may use.
pub fn load_settings(settings: &Settings) -> LoadSettings {
    LoadSettings {
        runtime: RuntimeSearch::new(settings.inference.onnxruntime_path.clone(), config::variable),
        onnx_threads: settings.inference.onnx_threads,
        onnx_queue: settings.inference.onnx_queue,
        control_flow: false,
        tiers: settings.tier_limits(),
    }
}

/// Says when readiness waits no longer although not all customers are known.
fn tell_if_late(known: FeatureTable, ready_wait: Duration, stop: &Stop) {
    if ready_wait.is_zero() {
        return;
    }
    let stopping = stop.clone();
    stop.track(async move {
        tokio::select! {
            () = stopping.requested() => return,
            () = tokio::time::sleep(ready_wait) => {}
        }
        if !known.is_complete() {
            tracing::warn!(
                customers = known.customers(),
                "ready before the features of all known customers were read: the others are answered as new; \
                 `server.ready_wait` is how long that is waited for, `scoreline_book_complete` tells when it is done"
            );
        }
    });
}

async fn close_ledger(monitoring: &Monitoring) {
    if let Some(ledger) = monitoring.ledger() {
        ledger.close().await;
    }
}

fn state(
    settings: &Settings,
    privacy: &PrivacySettings,
    registry: Arc<Registry>,
    auth: Option<Arc<Authenticator>>,
    parts: StateParts,
    pipeline: &Pipeline,
) -> HttpState {
    let StateParts { monitoring, operator, metrics, ready_wait, tracer } = parts;
    monitoring.drift().follow(&registry.all_serving(), SystemClock.now());
    // Predictions by id are made from what the jobs have kept.
    let table = FeatureTable::new(settings.scoring.features_stale_after);
    let readiness = pipeline.readiness(table.clone(), ready_wait);
    let scorer = Scorer::new(registry, Arc::new(SystemClock), scorer_settings(settings), monitoring.clone(), table);
    let tombstones = Tombstones::unread();
    let widget = widget(settings, privacy, &tombstones, pipeline);
    let eraser = eraser(tombstones, &scorer, &monitoring, widget.as_ref().map(|widget| &widget.book), pipeline);
    let (jobs, write_back) = pipeline.desks();
    let event_keys = EventKeys { verifier: settings.event_keys.clone().map(Arc::new) };
    HttpState {
        scorer,
        hasher: IdHasher::watching(privacy, eraser.tombstones().clone(), Arc::new(SystemClock)),
        eraser,
        policy: Arc::new(TierPolicy::new(settings.routing.clone())),
        monitoring,
        auth,
        settings: HttpSettings {
            body_limit: settings.server.body_limit,
            batch_body_limit: settings.server.batch_body_limit,
            batch_rows: settings.server.batch_rows,
            batch_deadline: settings.server.batch_deadline,
            body_timeout: BODY_TIMEOUT,
        },
        readiness,
        admission: Admission::new(settings.server.admission),
        jobs,
        write_back,
        leads: pipeline.lead_desk(settings, privacy),
        event_keys,
        operator,
        widget,
        documents: Documents::default(),
        metrics,
        tracer,
    }
}

/// What the state is made of that lives beside it.
struct StateParts {
    monitoring: Monitoring,
    operator: OperatorDesk,
    metrics: MetricsHandle,
    tracer: Tracer,
    ready_wait: Duration,
}

/// Where the public listener is reached from this machine.
fn address(settings: &Settings) -> String {
    let scheme = if settings.tls.public.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", settings.server.listen)
}

/// The agent's page, where it has an address.
fn widget(
    settings: &Settings,
    privacy: &PrivacySettings,
    tombstones: &Tombstones,
    pipeline: &Pipeline,
) -> Option<WidgetDesk> {
    let widget = settings.widget.as_ref()?;
    let signer = LinkSigner::new(&widget.keys, privacy, widget.link_ttl);
    let book = ConversationBook::new(tombstones.clone(), pipeline.desk().store, Arc::new(SystemClock));
    Some(WidgetDesk::new(widget.page.clone(), signer, book))
}

fn scorer_settings(settings: &Settings) -> ScorerSettings {
    ScorerSettings {
        clv_model: settings.models.clv_model.clone(),
        lead_model: settings.models.lead_model.clone(),
        strict_version: settings.models.strict_version,
        deadline: settings.scoring.deadline,
        cache_bytes: settings.scoring.cache_size,
        cache_ttl: settings.scoring.cache_ttl,
        explain: settings.scoring.explain,
    }
}

/// Every place that keeps something about customers is named here. The store comes first: what it has laid a tombstone
/// for stays away from the others.
fn eraser(
    tombstones: Tombstones,
    scorer: &Scorer,
    monitoring: &Monitoring,
    conversations: Option<&ConversationBook>,
    pipeline: &Pipeline,
) -> Eraser {
    scorer.cache().refuse(tombstones.clone());
    scorer.table().refuse(tombstones.clone());
    let mut places: Vec<Arc<dyn Erasable>> =
        vec![Arc::new(pipeline.desk()), Arc::new(scorer.cache().clone()), Arc::new(scorer.table().clone())];
    if let Some(ledger) = monitoring.ledger() {
        places.push(Arc::new(ledger.clone()));
    }
    if let Some(conversations) = conversations {
        places.push(Arc::new(conversations.clone()));
    }
    Eraser::new(tombstones, places)
}

/// A changed credentials file was taken, or refused.
fn audit_credentials(taken: bool) {
    let outcome = if taken { AuditOutcome::Done } else { AuditOutcome::Refused };
    audit::record(&Actor::default(), AuditAction::ReloadCredentials, "auth.credentials_file", outcome, "");
}

/// Fetches issuers' keys, then keeps them and the credentials file up to date.
async fn watch_credentials(authenticator: &Arc<Authenticator>, tracer: &Tracer, stop: &Stop) {
    let (fetching, tracer) = (stop.clone(), tracer.clone());
    let spawn = move |fetch: auth::BackgroundTask| {
        let (stop, tracer) = (fetching.clone(), tracer.clone());
        // Nobody waits for keys when the process ends.
        fetching.track(async move {
            tokio::select! {
                _ = tracer.run(|| "issuer keys".into(), fetch, |()| WorkEnd::Done) => {}
                () = stop.requested() => {}
            }
        });
    };
    authenticator.fetch_keys(KEYS_PATIENCE, &spawn).await;
    let (keeping, stop) = (Arc::clone(authenticator), stop.clone());
    stop.clone().supervise("credentials", async move {
        tokio::select! {
            () = auth::keep(keeping, spawn, audit_credentials) => {}
            () = stop.requested() => {}
        }
    });
}

/// The runtime that answers requests.
///
/// # Errors
/// When its threads, and those of the parts that start with it, cannot be started.
pub fn runtime(settings: &Settings) -> std::io::Result<tokio::runtime::Runtime> {
    let of_cores = || thread::available_parallelism().map_or(1, NonZero::get);
    let threads = settings.server.threads.unwrap_or_else(of_cores);
    try_threads(threads + THREADS_BESIDE)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Threads that never rest look for new input after so many turns. Usual turns are microseconds; with long ones, the
    // usual 61 would let requests wait for a tenth of a second before anybody knows of them.
    builder.worker_threads(threads).event_interval(16).thread_name("requests").enable_all().build()
}

/// Has so many threads at the same time for a moment. tokio panics where it gets none, and lets work wait for ever.
fn try_threads(threads: usize) -> std::io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let shut = gate.lock();
        let trial = |_| thread::Builder::new().spawn_scoped(scope, || drop(gate.lock()));
        let trials = (0..threads).map(trial).collect::<std::io::Result<Vec<_>>>();
        drop(shut);
        // Gone for the system, too, before the real ones come.
        trials?.into_iter().for_each(|trial| drop(trial.join()));
        Ok(())
    })
}

fn open(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    scoreline_listener::open(address).with_context(|| format!("`{key}` = `{address}` cannot be opened"))
}

/// What a listener speaks TLS with, kept current; without settings it speaks plain HTTP.
fn tls(settings: Option<TlsSettings>, stop: &Stop) -> anyhow::Result<Option<TlsConfigs>> {
    let Some(settings) = settings else { return Ok(None) };
    let task = match settings.listener {
        TlsListener::Public => "public TLS files",
        TlsListener::Admin => "admin TLS files",
    };
    let reloading = Arc::new(Reloading::start(settings, Arc::new(SystemClock))?);
    let configs = reloading.configs();
    stop.supervise(task, reloading.watch(stop.soft().clone()));
    Ok(Some(configs))
}

fn serve_public(
    socket: TcpListener,
    tls: Option<TlsConfigs>,
    state: SharedState,
    limits: Limits,
    drain: Drain,
    admin_drain: Drain,
    stop: &Stop,
) {
    let connections = stop.clone();
    stop.supervise("public listener", async move {
        let listener = Listener { name: "public", limits, tls, drain, open: state.operator.connections.clone() };
        let endpoints = Endpoints::public(state);
        let spawn = move |connection: ConnectionTask| connections.track(connection);
        listener.serve(socket, endpoints, spawn).await;
        // Who asks how we are is answered until the last request is.
        admin_drain.close();
    });
}

/// Health and metrics have a thread of their own: they answer when the threads of requests are stuck.
fn serve_admin(
    socket: TcpListener,
    tls: Option<TlsConfigs>,
    state: SharedState,
    most: usize,
    drain: Drain,
    stop: &Stop,
) -> anyhow::Result<()> {
    let connections = stop.clone();
    // Out of this runtime and into the other.
    let socket = socket.into_std()?;
    let work = move || async move {
        let socket = TcpListener::from_std(socket)?;
        let limits = Limits { connections: most, exempt_loopback: true, ..Limits::default() };
        let listener = Listener { name: "admin", limits, tls, drain, open: OpenConnections::default() };
        let spawn = move |connection: ConnectionTask| connections.track(connection);
        tokio::join!(listener.serve(socket, Endpoints::admin(state.clone()), spawn), keep_live(state));
        Ok::<(), std::io::Error>(())
    };
    stop.supervise_apart("admin listener", work).context("the admin thread cannot be started")
}

/// Looks at the models folder once a second. Polling is the authority: it works on every file system. A file event only
/// makes the first look come earlier.
async fn watch(registry: Arc<Registry>, dir: PathBuf, stop: Stop) -> anyhow::Result<()> {
    let wake = FolderWatch::watch(&dir);
    let mut ticks = tokio::time::interval(MODELS_POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = wake.woken() => {
                tokio::time::sleep(WAKE_PAUSE).await;
                ticks.reset();
            }
            () = stop.requested() => return Ok(()),
        }
        scan(&registry, Patience::WhenStable).await?;
    }
}

/// Samples what goes through the server once a second, and how late that is.
async fn sample(registry: Arc<Registry>, monitoring: Monitoring, stop: Stop) {
    let mut rounds = Rounds::every(SAMPLE_EVERY);
    let mut last = SystemClock.monotonic();
    while rounds.next(stop.requested()).await {
        let now = SystemClock.monotonic();
        let lag = now.saturating_sub(last).saturating_sub(SAMPLE_EVERY);
        last = now;
        let loaded: Vec<_> = registry.status().iter().filter_map(|it| Some(*it.snapshot.as_ref()?.digest())).collect();
        monitoring.traffic().sample(SystemClock.now(), now, lag, &loaded);
    }
}

/// Keeps the drift monitor on what serves, and closes its windows.
async fn judge(registry: Arc<Registry>, monitoring: Monitoring, stop: Stop) {
    let mut rounds = Rounds::every(DRIFT_POLL);
    while rounds.next(stop.requested()).await {
        let now = SystemClock.now();
        monitoring.drift().follow(&registry.all_serving(), now);
        monitoring.drift().judge(now);
    }
}

/// Tries the serving models and their fallbacks out, again and again.
async fn probe(mut probe: SelfProbe, period: Duration, stop: Stop) {
    let mut rounds = Rounds::every(period);
    while rounds.next(stop.requested()).await {
        probe.round().await;
    }
}

/// Disk and model loads stay off the threads that answer requests.
async fn scan(registry: &Arc<Registry>, patience: Patience) -> anyhow::Result<()> {
    let registry = Arc::clone(registry);
    let looked = tokio::task::spawn_blocking(move || drop(registry.scan(patience))).await;
    looked.context("looking at the models folder panicked")
}
