//! The real router over a temporary models folder and a clock that tests move by hand. No ports, no sleeps.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use scoreline::auth::{AuthSettings, Authenticator};
use scoreline::conversations::ConversationBook;
use scoreline::http::admission::{Admission, AdmissionSettings, WhenOverloaded};
use scoreline::http::{
    Endpoints, EventKeys, HttpSettings, HttpState, OperatorDesk, Readiness, SharedState, WidgetAccess, WidgetDesk,
    WidgetSettings,
};
use scoreline::leads::{LeadDesk, LeadDeskParts, LeadSettings, PauseBoard};
use scoreline::monitoring::{Monitoring, MonitoringSettings};
use scoreline::routing::{RoutingSettings, TierPolicy, TierRoute};
use scoreline::scoring::explanation::ExplainSettings;
use scoreline::scoring::feature_table::FeatureTable;
use scoreline::scoring::{Scorer, ScorerSettings, golden};
use scoreline_domain::privacy::erasure::EraseError;
use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::privacy::{Erasable, Eraser, IdHasher, LinkSigner, PrivacySettings, Tombstones};
use scoreline_domain::time::{Clock as _, ManualClock};
use scoreline_domain::trace::Tracer;
use scoreline_domain::{CustomerKey, ModelName};
use scoreline_engine::inference::registry::{CandidateSettings, Patience, Registry, RegistrySettings};
use scoreline_store::{Store, StoreSettings};
use secrecy::SecretString;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tower::ServiceExt;

use super::TestBundle;
use super::contract::Contract;

pub struct TestApp {
    pub clock: Arc<ManualClock>,
    pub registry: Arc<Registry>,
    pub readiness: Readiness,
    pub monitoring: Monitoring,
    pub scorer: Scorer,
    pub eraser: Eraser,
    /// Only of an app with an agent's page.
    pub conversations: Option<ConversationBook>,
    pub models: TempDir,
    /// Only of an app that asks who calls.
    pub auth: Option<Arc<Authenticator>>,
    pub public: Endpoints,
    pub admin: Endpoints,
}

/// A reply, read whole.
pub struct Reply {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("{err}: {}", self.text))
    }
}

/// What one test or another chooses of an app.
struct Pieces<'a> {
    admission: AdmissionSettings,
    monitoring: Monitoring,
    privacy: PrivacySettings,
    auth: Option<&'a AuthSettings>,
    candidates: &'a [(&'a str, CandidateSettings)],
    table: Option<FeatureTable>,
    kept: Option<&'a Kept>,
    /// The bundles of `models/` beside those of the test.
    shipped: bool,
    leads: LeadPieces,
    widget: Option<WidgetPieces>,
}

/// The agent's page of a test.
#[derive(Clone)]
pub struct WidgetPieces {
    pub settings: WidgetSettings,
    /// What links are signed with, the newest first.
    pub keys: Vec<SecretString>,
    /// Where conversations of other replicas are.
    pub store: Arc<OnceLock<Store>>,
}

impl Default for WidgetPieces {
    fn default() -> Self {
        let settings = WidgetSettings {
            url: "https://score.example.com".to_owned(),
            access: WidgetAccess::Signed,
            framed_by: "https://apps.mypurecloud.de https://*.mypurecloud.de".to_owned(),
            open_in_tab: false,
        };
        Self { settings, keys: Vec::new(), store: Arc::default() }
    }
}

/// Where scores of leads are kept and go, and what events are signed with.
#[derive(Clone, Default)]
pub struct LeadPieces {
    pub store: Arc<OnceLock<Store>>,
    pub targets: Vec<String>,
    pub keys: EventKeys,
}

impl Default for Pieces<'_> {
    fn default() -> Self {
        Self {
            admission: AdmissionSettings { live: 4096, batches: 4, when_overloaded: WhenOverloaded::Fallback },
            monitoring: Monitoring::default(),
            privacy: privacy("test pepper", &[]),
            auth: None,
            candidates: &[],
            table: None,
            kept: None,
            shipped: false,
            leads: LeadPieces::default(),
            widget: None,
        }
    }
}

impl TestApp {
    /// An app that serves the standard test bundle as `clv` v1.2.
    pub fn new() -> Self {
        Self::with(&[TestBundle::clv("v1.2")], |_| {})
    }

    /// An app that serves the bundles of `models/`, with the customers of a table.
    pub fn shipped(table: &FeatureTable) -> Self {
        Self::build(&[], |_| {}, Pieces { shipped: true, table: Some(table.clone()), ..Pieces::default() })
    }

    pub fn with(bundles: &[TestBundle], change: impl FnOnce(&mut ScorerSettings)) -> Self {
        Self::build(bundles, change, Pieces::default())
    }

    pub fn watched(bundles: &[TestBundle], change: impl FnOnce(&mut ScorerSettings), monitoring: Monitoring) -> Self {
        Self::build(bundles, change, Pieces { monitoring, ..Pieces::default() })
    }

    /// An app that answers questions without features from a table.
    pub fn with_table(bundles: &[TestBundle], table: &FeatureTable, candidates: &[(&str, CandidateSettings)]) -> Self {
        Self::build(bundles, |_| {}, Pieces { candidates, table: Some(table.clone()), ..Pieces::default() })
    }

    /// An app with these versions on trial, by model.
    pub fn trying(bundles: &[TestBundle], candidates: &[(&str, CandidateSettings)]) -> Self {
        Self::build(bundles, |_| {}, Pieces { candidates, ..Pieces::default() })
    }

    /// As `trying`, with somebody who watches and the customers of a table.
    pub fn trying_watched(
        bundles: &[TestBundle],
        candidates: &[(&str, CandidateSettings)],
        monitoring: Monitoring,
        table: &FeatureTable,
    ) -> Self {
        Self::build(bundles, |_| {}, Pieces { candidates, monitoring, table: Some(table.clone()), ..Pieces::default() })
    }

    /// An app that asks who calls.
    pub fn guarded(auth: &AuthSettings) -> Self {
        Self::build(&[TestBundle::clv("v1.2")], |_| {}, Pieces { auth: Some(auth), ..Pieces::default() })
    }

    /// An app that keeps scores of leads, of a test bundle of theirs.
    pub fn of_leads(leads: &LeadPieces, auth: Option<&AuthSettings>) -> Self {
        let pieces = Pieces { leads: leads.clone(), auth, ..Pieces::default() };
        Self::build(&[TestBundle::clv("v1.2"), TestBundle::lead("v1.0")], |_| {}, pieces)
    }

    /// An app with an agent's page, that serves the bundles of `models/`.
    pub fn paged(table: &FeatureTable, widget: &WidgetPieces) -> Self {
        let (table, widget) = (Some(table.clone()), Some(widget.clone()));
        Self::build(&[], |_| {}, Pieces { shipped: true, table, widget, ..Pieces::default() })
    }

    /// An app with an agent's page, over bundles of the test.
    pub fn paged_with(bundles: &[TestBundle], widget: &WidgetPieces) -> Self {
        Self::build(bundles, |_| {}, Pieces { widget: Some(widget.clone()), ..Pieces::default() })
    }

    /// An app without a store, under these peppers.
    pub fn private(privacy: &PrivacySettings) -> Self {
        Self::build(&[TestBundle::clv("v1.2")], |_| {}, Pieces { privacy: privacy.clone(), ..Pieces::default() })
    }

    /// An app that keeps outcomes and erases in a store.
    pub fn keeping(
        bundles: &[TestBundle],
        change: impl FnOnce(&mut ScorerSettings),
        privacy: &PrivacySettings,
        kept: &Kept,
    ) -> Self {
        let monitoring = kept.monitoring.clone();
        let privacy = privacy.clone();
        Self::build(bundles, change, Pieces { monitoring, privacy, kept: Some(kept), ..Pieces::default() })
    }

    /// An app that has no room for live calls.
    pub fn without_room(bundles: &[TestBundle], when_overloaded: WhenOverloaded) -> Self {
        let admission = AdmissionSettings { live: 0, batches: 4, when_overloaded };
        Self::build(bundles, |_| {}, Pieces { admission, ..Pieces::default() })
    }

    fn build(bundles: &[TestBundle], change: impl FnOnce(&mut ScorerSettings), pieces: Pieces<'_>) -> Self {
        let Pieces { admission, monitoring, privacy, auth, candidates, table, kept, shipped, leads, widget } = pieces;
        let candidates = candidates.iter().cloned();
        let models = tempfile::tempdir().expect("temporary folder");
        for bundle in bundles {
            bundle.write(models.path());
        }
        if shipped {
            copy_shipped(models.path());
        }
        let settings = RegistrySettings {
            candidates: candidates.map(|(model, it)| (ModelName::parse(model).expect("a name"), it)).collect(),
            ..RegistrySettings::new(models.path().to_owned())
        };
        let registry = Arc::new(Registry::new(settings, golden::verify));
        let clock = Arc::new(ManualClock::at("2026-11-21T10:00:00Z".parse().expect("a time")));
        let (journal, dated) = (monitoring.journal().clone(), clock.clone());
        registry.tell_also(move |event| journal.happened(dated.now(), event));
        registry.scan(Patience::Now);
        // What is sent to those who watch ends with what there is: there is no socket.
        let operator = OperatorDesk::default();
        operator.stop.request();
        let mut scorer = ScorerSettings {
            clv_model: ModelName::parse("clv").expect("a name"),
            lead_model: ModelName::parse("lead").expect("a name"),
            strict_version: false,
            deadline: Duration::from_millis(500),
            cache_bytes: 1 << 20,
            cache_ttl: Duration::from_hours(24),
            explain: ExplainSettings { top: 5, budget: Duration::from_mins(1) },
        };
        change(&mut scorer);
        let readiness = Readiness::default();
        let metrics = scoreline::telemetry::install_metrics().expect("the only recorder of this process");
        let auth = auth.and_then(|auth| Authenticator::open(auth, clock.clone()).expect("valid credentials"));
        let table = table.unwrap_or_else(|| FeatureTable::new(Duration::from_hours(36)));
        let scorer = Scorer::new(Arc::clone(&registry), clock.clone(), scorer, monitoring.clone(), table);
        let tombstones = kept.map(|kept| kept.tombstones.clone()).unwrap_or_default();
        let widget = widget.map(|WidgetPieces { settings, keys, store }| {
            let signer = LinkSigner::new(&keys, &privacy, Duration::from_hours(4));
            WidgetDesk::new(settings, signer, ConversationBook::new(tombstones.clone(), store, clock.clone()))
        });
        let eraser = eraser(tombstones, kept, &scorer, &monitoring, widget.as_ref());
        let event_keys = leads.keys;
        let leads = LeadDesk::new(LeadDeskParts {
            store: leads.store,
            targets: leads.targets,
            settings: LeadSettings::default(),
            keeps_reasons: false,
            pauses: PauseBoard::default(),
            sealer: Sealer::new(&privacy),
            clock: clock.clone(),
            nudge: Arc::new(|| ()),
        });
        let conversations = widget.as_ref().map(|widget| widget.book.clone());
        let state = SharedState::new(HttpState {
            scorer: scorer.clone(),
            hasher: IdHasher::watching(&privacy, eraser.tombstones().clone(), clock.clone()),
            eraser: eraser.clone(),
            policy: Arc::new(TierPolicy::new(routing())),
            auth: auth.clone(),
            monitoring: monitoring.clone(),
            settings: HttpSettings {
                body_limit: 64 * 1024,
                batch_body_limit: 256 * 1024,
                batch_rows: 100,
                batch_deadline: Duration::from_secs(30),
                body_timeout: Duration::from_secs(5),
            },
            admission: Admission::new(admission),
            readiness: readiness.clone(),
            jobs: scoreline::http::Jobs::default(),
            write_back: scoreline::http::WriteBackDesk::default(),
            leads,
            event_keys,
            operator: operator.clone(),
            widget,
            documents: scoreline::http::Documents::default(),
            metrics,
            // Callers' traces are followed, and go nowhere.
            tracer: Tracer::new(0.0, |_| ()),
        });
        let public = Endpoints::public(state.clone());
        let admin = Endpoints::admin(state);
        Self { clock, registry, readiness, monitoring, scorer, eraser, conversations, models, auth, public, admin }
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Reply {
        let request = Request::post(path).header("content-type", "application/json").body(body.into());
        self.send(request.expect("a request")).await
    }

    /// Posts JSON and expects HTTP 200.
    pub async fn ok(&self, path: &str, body: Value) -> Value {
        self.ok_text(path, &body.to_string()).await
    }

    /// Posts a body that need not be JSON and expects HTTP 200.
    pub async fn ok_text(&self, path: &str, body: &str) -> Value {
        let reply = self.post(path, body.to_owned()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    pub async fn admin(&self, path: &str) -> Reply {
        self.send_admin(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    pub async fn send_admin(&self, request: Request<Body>) -> Reply {
        call(&self.admin, &ADMIN, request).await.into()
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Request::delete(path).body(Body::empty()).expect("a request")).await
    }

    /// Posts to the admin listener.
    pub async fn admin_post(&self, path: &str) -> Reply {
        self.send_admin(Request::post(path).body(Body::empty()).expect("a request")).await
    }

    /// As `send`, for replies that need not be text.
    pub async fn send_raw(&self, request: Request<Body>) -> RawReply {
        call(&self.public, &PUBLIC, request).await
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        self.send_raw(request).await.into()
    }
}

/// Copies the bundles of `models/` into another models folder.
pub fn copy_shipped(models: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/.");
    let copied = std::process::Command::new("cp").arg("-r").arg(here).arg(models).status();
    assert!(copied.expect("cp runs").success());
}

/// What each listener says of itself. It is the same for all apps, but for what their models take.
static PUBLIC: OnceLock<Contract> = OnceLock::new();
static ADMIN: OnceLock<Contract> = OnceLock::new();

/// A reply that need not be text.
pub struct RawReply {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub body: Vec<u8>,
}

/// The reply to a request, which the document of the listener knows.
async fn call(endpoints: &Endpoints, contract: &OnceLock<Contract>, request: Request<Body>) -> RawReply {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if contract.get().is_none() {
        let document = Request::get("/openapi.json").body(Body::empty()).expect("a request");
        let document = read(endpoints, document).await.body;
        let document = Contract::new(serde_json::from_slice(&document).expect("JSON"));
        contract.get_or_init(|| document);
    }
    let RawReply { status, headers, body } = read(endpoints, request).await;
    let text = String::from_utf8_lossy(&body);
    contract.get().expect("just made").check(&method, &path, status, &headers, &text);
    RawReply { status, headers, body }
}

async fn read(endpoints: &Endpoints, request: Request<Body>) -> RawReply {
    let response = endpoints.router().clone().oneshot(request).await.expect("every request is answered");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("the body is in memory").to_bytes().to_vec();
    RawReply { status: parts.status, headers: parts.headers, body }
}

impl From<RawReply> for Reply {
    fn from(RawReply { status, headers, body }: RawReply) -> Self {
        Self { status, headers, text: String::from_utf8(body).expect("UTF-8") }
    }
}

/// Keys under this pepper, and under those before it for ever.
pub fn privacy(pepper: &str, previous: &[&str]) -> PrivacySettings {
    let secret = |text: &str| SecretString::from(text.to_owned());
    let previous = previous.iter().map(|text| secret(text)).collect();
    PrivacySettings { pepper: Some(secret(pepper)), previous, ..PrivacySettings::default() }
}

/// As `serve` puts it together.
fn eraser(
    tombstones: Tombstones,
    kept: Option<&Kept>,
    scorer: &Scorer,
    monitoring: &Monitoring,
    widget: Option<&WidgetDesk>,
) -> Eraser {
    scorer.cache().refuse(tombstones.clone());
    scorer.table().refuse(tombstones.clone());
    let mut places: Vec<Arc<dyn Erasable>> = vec![Arc::new(scorer.cache().clone()), Arc::new(scorer.table().clone())];
    if let Some(ledger) = monitoring.ledger() {
        places.push(Arc::new(ledger.clone()));
    }
    if let Some(widget) = widget {
        places.push(Arc::new(widget.book.clone()));
    }
    if let Some(kept) = kept {
        places.push(Arc::new(kept.clone()));
    }
    Eraser::new(tombstones, places)
}

/// A store in a folder, as `serve` opens it, and outcomes kept in it. Made inside the runtime that it is used in.
#[derive(Clone)]
pub struct Kept {
    pub store: Store,
    pub monitoring: Monitoring,
    tombstones: Tombstones,
    runtime: Handle,
}

impl Kept {
    #[expect(clippy::disallowed_methods, reason = "a test has no process that would stop its tasks")]
    pub async fn open(folder: &Path, settings: &MonitoringSettings) -> Self {
        let store = Store::open(&StoreSettings::sqlite(folder.join("scoreline.db"))).await.expect("opens");
        let tombstones = Tombstones::default();
        tombstones.add(&store.tombstones_since(-1).await.expect("read").0);
        let monitoring = Monitoring::start(settings);
        let ledger = monitoring.ledger().expect("kept").clone();
        ledger.open();
        drop(tokio::spawn(ledger.keep(store.clone(), tombstones.clone())));
        Self { store, monitoring, tombstones, runtime: Handle::current() }
    }

    pub async fn close(&self) {
        self.monitoring.ledger().expect("kept").close().await;
        self.store.close().await;
    }
}

impl Erasable for Kept {
    fn name(&self) -> &'static str {
        "store"
    }

    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError> {
        self.runtime.block_on(self.store.erase_customers(customers)).map_err(EraseError::from)
    }

    fn lasts(&self) -> bool {
        true
    }
}

fn routing() -> RoutingSettings {
    let route = |skill: &str, priority| TierRoute { skill_id: skill.into(), priority, queue: None };
    RoutingSettings {
        high: route("SKILL_PREMIUM_SUPPORT", 10),
        medium: route("SKILL_PRIORITY_SUPPORT", 5),
        low: route("SKILL_GENERAL_SUPPORT", 0),
        low_confidence_below: 0.7,
        control_share: 0.0,
    }
}
