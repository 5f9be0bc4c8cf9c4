//! Settings: defaults, then a file, then the environment; every problem reported at once.
//!
//! `default.toml` is the reference of all keys. The environment is read here and nowhere else.

mod auth;
mod callbacks;
mod connections;
mod extract;
mod genesys;
mod layers;
mod leads;
mod models;
mod privacy;
mod problem;
mod secret_file;
mod settings;
mod store;
mod tls;
mod tracing;
mod value;
mod variables;
mod widget;
mod write_back;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::AuthSettings;
use crate::leads::LeadSettings;
use crate::monitoring::book::PredictionLimits;
use crate::monitoring::{MonitoringSettings, ReplayLimits, WindowSettings};
use crate::routing::{RoutingSettings, TierRoute};
use crate::scoring::explanation::ExplainSettings;
use crate::sinks::CallbackSettings;
use crate::telemetry::{LogFilter, LogSettings, TraceSettings};
use crate::worker::{ExtractSettings, PushSettings, UpkeepSettings, WriteBackSettings};
use scoreline_domain::privacy::PrivacySettings;
use scoreline_domain::privacy::signature::Verifier;
use scoreline_engine::inference::manifest::{TierLimits, TierThresholds};
use scoreline_genesys::GenesysSettings;
use scoreline_genesys::settings::OutboundSettings;
use scoreline_listener::Limits;
use scoreline_store::StoreSettings;

pub use layers::EffectiveKey;
pub use privacy::pepper_in;
pub use problem::{ConfigProblems, Problem, ValueOrigin};
pub use settings::{InferenceSettings, ModelSettings, ScoringSettings, ServerSettings};
pub use tls::TlsSections;
pub use variables::StrayVariable;
pub use widget::WidgetSection;

use layers::Reader;
use value::Bytes;

/// Every setting, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub server: ServerSettings,
    pub tls: TlsSections,
    pub connections: Limits,
    pub models: ModelSettings,
    pub inference: InferenceSettings,
    pub scoring: ScoringSettings,
    pub routing: RoutingSettings,
    tiers: Option<TierLimits>,
    pub privacy: PrivacySettings,
    pub auth: AuthSettings,
    pub monitoring: MonitoringSettings,
    pub log: LogSettings,
    /// `None`: nothing is followed.
    pub tracing: Option<TraceSettings>,
    /// `None` when no platform is named.
    pub genesys: Option<GenesysSettings>,
    /// Columns of contact lists, which campaigns are exported with even when there is no platform.
    pub outbound: OutboundSettings,
    pub extract: ExtractSettings,
    pub upkeep: UpkeepSettings,
    pub write_back: WriteBackSettings,
    pub leads: LeadSettings,
    /// `None`: senders of events need a token.
    pub event_keys: Option<Verifier>,
    pub push: PushSettings,
    pub store: StoreSettings,
    /// `None`: callbacks are told to nobody.
    pub callbacks: Option<CallbackSettings>,
    /// `None`: there is no agent's page.
    pub widget: Option<WidgetSection>,
}

/// Settings together with where each value came from.
#[derive(Clone, Debug)]
pub struct Effective {
    pub settings: Settings,
    /// In the order of the reference.
    pub entries: Vec<EffectiveKey>,
}

/// The caller of a data action gives up after two seconds; an answer must be on the wire before that.
const DEADLINE_CAP: Duration = Duration::from_millis(1500);
/// A score older than this may not be answered as if it were fresh.
const STALENESS_LIMIT: Duration = Duration::from_hours(24);
/// Outcomes that are remembered, in windows.
const OUTCOMES_PER_WINDOW: usize = 4;

/// Where the settings are, to read them more than once.
#[derive(Clone, Debug, Default)]
pub struct SettingsSource {
    /// The file named on the command line.
    pub file: Option<PathBuf>,
}

impl SettingsSource {
    /// The layers as they are now; the environment is the process's.
    ///
    /// # Errors
    /// Every problem there is, not just the first.
    pub fn read(&self) -> Result<Effective, ConfigProblems> {
        explain(self.file.as_deref(), environment())
    }
}

/// Reads the layers; `file` is the one named on the command line.
///
/// # Errors
/// Every problem there is, not just the first.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigProblems> {
    explain(file, environment).map(|effective| effective.settings)
}

/// As `load`, keeping where each value came from.
///
/// # Errors
/// Every problem there is, not just the first.
pub fn explain(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Effective, ConfigProblems> {
    let mut read = Reader::new(file, environment);
    // In the order of the reference: problems and `config show` follow it.
    let server = server(&mut read);
    let tls = tls::read(&mut read, &server);
    let models = models::read(&mut read);
    let connections = connections::limits(&mut read, server.header_read_timeout);
    let inference = inference(&mut read);
    let scoring = scoring(&mut read);
    let (routing, tiers) = routing(&mut read);
    let privacy = privacy::read(&mut read);
    let auth = auth::section(&mut read);
    let monitoring = monitoring(&mut read);
    let log = log(&mut read);
    let tracing = tracing::read(&mut read);
    let outbound = genesys::outbound(&mut read);
    let genesys = genesys::read(&mut read, outbound.clone());
    let extract = extract::extract(&mut read);
    let upkeep = extract::upkeep(&mut read);
    let write_back = write_back::read(&mut read, genesys.is_some());
    let callbacks = callbacks::read(&mut read);
    let leads = leads::leads(&mut read);
    let event_keys = leads::events(&mut read, server.batch_body_limit);
    let push = leads::push(&mut read, genesys.as_ref());
    let widget = widget::read(&mut read, genesys.as_ref());
    let store = store::section(&mut read, privacy.pepper.is_some());
    let settings = Settings {
        server,
        tls,
        connections,
        models,
        inference,
        scoring,
        routing,
        tiers,
        privacy,
        auth,
        monitoring,
        log,
        tracing,
        genesys,
        outbound,
        extract,
        upkeep,
        write_back,
        leads,
        event_keys,
        push,
        store,
        callbacks,
        widget,
    };
    read.finish().map(|entries| Effective { settings, entries })
}

/// The process's environment variables, for `load`. In a value that is not Unicode, what cannot be read stands as
/// `char::REPLACEMENT_CHARACTER`; a name that is not Unicode cannot be meant for scoreline.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}

/// Variables of the process that look like settings and are none. `load` refuses those that differ from a setting's by
/// underscores, case or a letter.
pub fn stray_variables() -> Vec<StrayVariable> {
    layers::strays(environment())
}

impl Settings {
    /// The tier limits that replace those of every customer value bundle, when they are set.
    pub fn tier_limits(&self) -> Option<TierLimits> {
        self.tiers
    }
}

/// One variable of the process's environment, for what is found rather than set: Python environments, `PATH`.
#[expect(clippy::disallowed_methods, reason = "the one module that reads the environment")]
pub fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

impl Effective {
    /// The settings as TOML, secrets masked; with `sources`, each line says where its value came from.
    pub fn to_toml(&self, sources: bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for EffectiveKey { key, value, origin } in &self.entries {
            // A model's name may hold a dot of its own, so its key is quoted.
            let free = models::FREE_TABLES.iter().find_map(|table| {
                let model = key.strip_prefix(table)?.strip_prefix('.')?;
                Some((*table, value::quoted(model)))
            });
            let (above, name) = match &free {
                Some((table, model)) => (*table, model.as_str()),
                None => key.rsplit_once('.').unwrap_or(("", key)),
            };
            if above != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{above}]");
                section = above;
            }
            let _ = match value {
                Some(value) if sources => writeln!(text, "{name} = {value}  # {origin}"),
                Some(value) => writeln!(text, "{name} = {value}"),
                None => writeln!(text, "# {name} is not set"),
            };
        }
        text
    }
}

fn server(read: &mut Reader) -> ServerSettings {
    let listen: SocketAddr = read.get("server.listen");
    let admin_listen: SocketAddr = read.get("server.admin_listen");
    let size = |read: &mut Reader, key| {
        let allowed = "a size from `1KiB` to `1GiB`, such as `64KiB`";
        read.get_if(key, allowed, |size: &Bytes| (1 << 10..=1 << 30).contains(&size.0)).0 as usize
    };
    let body_limit = size(read, "server.body_limit");
    let batch_body_limit = size(read, "server.batch_body_limit");
    let batch_rows = whole(read, "server.batch_rows", 1, 100_000);
    let batch_deadline = duration(read, "server.batch_deadline", "from `100ms` to `10m`", 100, 600_000);
    let header_read_timeout = duration(read, "server.header_read_timeout", "from `100ms` to `5m`", 100, 300_000);
    let ready_wait = duration(read, "server.ready_wait", "from `0s` to `1h`", 0, 3_600_000);
    let drain_delay = duration(read, "server.drain_delay", "from `0s` to `10m`", 0, 600_000);
    let drain_timeout = duration(read, "server.drain_timeout", "from `0s` to `1h`", 0, 3_600_000);
    let threads = whole(read, "server.threads", 0, 1024);
    let admission = connections::admission(read);
    let allow_public_without_auth: bool = read.get("server.allow_public_without_auth");

    if batch_body_limit < body_limit {
        // Told at the key that somebody wrote.
        let (key, message) = match read.origin_of("server.batch_body_limit") {
            ValueOrigin::Default | ValueOrigin::NotSet => {
                ("server.body_limit", "must not be larger than `server.batch_body_limit`")
            }
            ValueOrigin::File(_) | ValueOrigin::Environment(_) => {
                ("server.batch_body_limit", "must not be smaller than `server.body_limit`")
            }
        };
        read.problem(key, format!("{message}: {} and {}", Bytes(body_limit as u64), Bytes(batch_body_limit as u64)));
    }
    if listen == admin_listen && listen.port() != 0 {
        read.problem("server.admin_listen", format!("must differ from `server.listen`, both are `{listen}`"));
    }
    for (key, address) in [("server.listen", listen), ("server.admin_listen", admin_listen)] {
        let open = !allow_public_without_auth && !auth::is_on(read);
        if !address.ip().is_loopback() && open {
            read.problem(key, auth::needed(address));
        }
    }
    ServerSettings {
        listen,
        admin_listen,
        body_limit,
        batch_body_limit,
        batch_rows,
        batch_deadline,
        header_read_timeout,
        ready_wait,
        drain_delay,
        drain_timeout,
        threads: (threads > 0).then_some(threads),
        admission,
        allow_public_without_auth,
    }
}

fn inference(read: &mut Reader) -> InferenceSettings {
    InferenceSettings {
        onnxruntime_path: read.optional("inference.onnxruntime_path"),
        onnx_threads: whole(read, "inference.onnx_threads", 1, 256),
        onnx_queue: whole(read, "inference.onnx_queue", 1, 1_000_000),
    }
}

fn scoring(read: &mut Reader) -> ScoringSettings {
    let cap = DEADLINE_CAP.as_millis() as u64;
    let limit = STALENESS_LIMIT.as_millis() as u64;
    let deadline =
        duration(read, "scoring.deadline", "from `1ms` to `1500ms`, because callers give up after `2s`", 1, cap);
    let cache_ttl =
        duration(read, "scoring.cache_ttl", "from `1s` to `24h`, because an older score is stale", 1_000, limit);
    let cache_size =
        read.get_if("scoring.cache_size", "a size up to `64GiB`, such as `64MiB`", |size: &Bytes| size.0 <= 64 << 30).0;
    let top = whole(read, "scoring.explain_top", 1, 1024);
    let budget =
        duration(read, "scoring.explain_budget", "from `1ms` to `1500ms`, beside the answer's own time", 1, cap);
    let self_probe = duration(read, "scoring.self_probe", "from `1s` to `1h`", 1_000, 3_600_000);
    let features_stale_after =
        duration(read, "scoring.features_stale_after", "from `1h` to `8760h`", 3_600_000, 8760 * 3_600_000);
    let explain = ExplainSettings { top, budget };
    ScoringSettings { deadline, cache_ttl, cache_size, explain, self_probe, features_stale_after }
}

fn routing(read: &mut Reader) -> (RoutingSettings, Option<TierLimits>) {
    let low_confidence_below =
        read.get_if("routing.low_confidence_below", "a number from 0 to 1", |share: &f64| (0.0..=1.0).contains(share));
    let control_share =
        read.get_if("routing.control_share", "a share of the customers from 0 to 0.5", |share: &f64| {
            (0.0..=0.5).contains(share)
        });
    let tiers = tier_limits(read);
    let mut tier = |name: &str| TierRoute {
        skill_id: read.get(&format!("routing.{name}.skill_id")),
        priority: read.get(&format!("routing.{name}.priority")),
        queue: read.optional(&format!("routing.{name}.queue")),
    };
    let high = tier("high_value");
    let medium = tier("medium_value");
    let low = tier("low_value");
    (RoutingSettings { high, medium, low, low_confidence_below, control_share }, tiers)
}

/// Limits in dollars or by share, or the bundle's own.
fn tier_limits(read: &mut Reader) -> Option<TierLimits> {
    let amount = |read: &mut Reader, key| {
        read.optional_if(key, "an amount of US dollars above 0, such as `200.0`", |usd: &f64| *usd > 0.0)
    };
    let share = |read: &mut Reader, key| {
        read.optional_if(key, "a share of the customers above 0 and below 1, such as `0.05`", |share: &f64| {
            *share > 0.0 && *share < 1.0
        })
    };
    let dollars = both(read, amount, "routing.medium_usd", "routing.high_usd");
    let shares = both(read, share, "routing.medium_share", "routing.high_share");
    if let Some((medium, high)) = dollars.filter(|(medium, high)| medium >= high) {
        let message = format!("must be above `routing.medium_usd`: `{high}` is not above `{medium}`");
        read.problem("routing.high_usd", message);
    }
    if let Some((medium, high)) = shares.filter(|(medium, high)| medium + high > 1.0) {
        let message =
            format!("and `routing.medium_share` must not be more than 1 together, got `{high}` and `{medium}`");
        read.problem("routing.high_share", message);
    }
    if dollars.is_some() && shares.is_some() {
        read.problem("routing.high_share", "is given beside `routing.high_usd`: limits are in dollars or by share");
    }
    let dollars = dollars.map(|(medium, high)| TierLimits::Dollars(TierThresholds { medium, high }));
    dollars.or(shares.map(|(medium, high)| TierLimits::Shares { high, medium }))
}

/// Two settings of which one says nothing without the other.
fn both(
    read: &mut Reader,
    get: impl Fn(&mut Reader, &'static str) -> Option<f64>,
    first: &'static str,
    second: &'static str,
) -> Option<(f64, f64)> {
    match (get(read, first), get(read, second)) {
        (Some(first), Some(second)) => Some((first, second)),
        (None, None) => None,
        (given, _) => {
            let (key, other) = if given.is_some() { (first, second) } else { (second, first) };
            read.problem(key, format!("needs `{other}` beside it: give both or none"));
            None
        }
    }
}

fn monitoring(read: &mut Reader) -> MonitoringSettings {
    let length = duration(read, "monitoring.window", "from `1m` to `8760h`", 60_000, 8760 * 3_600_000);
    let most_rows = whole(read, "monitoring.window_rows", 100, 1_000_000_000);
    let least_rows = whole(read, "monitoring.min_rows", 100, 1_000_000);
    if least_rows > most_rows {
        let message = format!("must not be above `monitoring.window_rows`: {least_rows} and {most_rows}");
        read.problem("monitoring.min_rows", message);
    }
    let outcomes: bool = read.get("monitoring.outcomes");
    let window = whole(read, "monitoring.outcome_window", 100, 100_000);
    let predictions = whole(read, "monitoring.predictions", 0, 10_000_000);
    let sample_every = duration(read, "monitoring.sample_every", "from `0s` to `8760h`", 0, 8760 * 3_600_000);
    let limits = PredictionLimits {
        predictions,
        // Enough for the windows of several versions, and to know an outcome that is told again.
        outcomes: window * OUTCOMES_PER_WINDOW,
        window,
        sample_every: i64::try_from(sample_every.as_secs()).unwrap_or(i64::MAX),
    };
    let questions = whole(read, "monitoring.replay_questions", 0, 100_000_000) as u64;
    let kept_for = duration(read, "monitoring.replay_kept_for", "from `1h` to `8760h`", 3_600_000, 8760 * 3_600_000);
    MonitoringSettings {
        windows: WindowSettings { length, least_rows: least_rows as u64, most_rows: most_rows as u64 },
        ledger: outcomes.then_some(limits),
        replay: (questions > 0).then_some(ReplayLimits { questions, kept_for }),
    }
}

fn log(read: &mut Reader) -> LogSettings {
    let filter: String = read.get("log.filter");
    let filter = LogFilter::parse(&filter).unwrap_or_else(|err| {
        let allowed = "a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or directives such as \
                       `info,scoreline::http=debug`";
        read.problem("log.filter", format!("must be {allowed}, got `{filter}`: {err}"));
        LogFilter::default()
    });
    LogSettings { filter, format: read.get("log.format"), audit_path: read.optional("log.audit_path") }
}

fn whole(read: &mut Reader, key: &str, least: u32, most: u32) -> usize {
    let allowed = format!("a whole number from {least} to {most}");
    read.get_if(key, &allowed, |number: &u32| (least..=most).contains(number)) as usize
}

fn duration(read: &mut Reader, key: &str, range: &str, least_ms: u64, most_ms: u64) -> Duration {
    let allowed = format!("a duration with a unit, {range}");
    let range = Duration::from_millis(least_ms)..=Duration::from_millis(most_ms);
    read.get_if(key, &allowed, |duration: &Duration| range.contains(duration))
}
