//! The shipped models behind the real service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use scoreline::auth::Authenticator;
use scoreline::http::admission::{Admission, AdmissionSettings, WhenOverloaded};
use scoreline::http::{Endpoints, EventKeys, HttpSettings, HttpState, Readiness, SharedState};
use scoreline::leads::{LeadDesk, LeadDeskParts, LeadSettings, PauseBoard};
use scoreline::monitoring::Monitoring;
use scoreline::routing::{RoutingSettings, TierPolicy, TierRoute};
use scoreline::scoring::explanation::ExplainSettings;
use scoreline::scoring::feature_table::{FeatureTable, StoredFeatures, TableChange};
use scoreline::scoring::{Scorer, ScorerSettings, golden};
use scoreline_domain::ModelName;
use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::privacy::{Eraser, IdHasher, PrivacySettings};
use scoreline_domain::time::{Clock as _, SystemClock};
use scoreline_domain::trace::Tracer;
use scoreline_engine::inference::registry::{Patience, Registry, RegistrySettings};

/// The documented request, about 200 bytes.
pub const DOCUMENTED: &str = r#"{"features":{"recency_days":12,"frequency_count":48,"avg_handling_time_sec":245,"sentiment_score_avg":0.65,"topic_diversity":7},"model_version":"v1.2","request_id":"req-998877"}"#;

/// The same with a customer, so that the second one is a cache hit.
pub const OF_CUSTOMER: &str = r#"{"customerId":"CUST-12345","features":{"recency_days":12,"frequency_count":48,"avg_handling_time_sec":245,"sentiment_score_avg":0.65,"topic_diversity":7},"model_version":"v1.2","request_id":"req-998877"}"#;

/// By customer id alone, of one whose stored features are the documented ones.
pub const BY_ID: &str = r#"{"customerId":"CUST-BOOK","request_id":"req-998877"}"#;

/// The documented question about another customer each time.
pub const OF_NEW: &str = r#"{"customerId":"EACH-00000000","features":{"recency_days":12,"frequency_count":48,"avg_handling_time_sec":245,"sentiment_score_avg":0.65,"topic_diversity":7},"model_version":"v1.2","request_id":"req-998877"}"#;

/// By the id alone of another customer each time, whose features are stored.
pub const BY_NEW_ID: &str = r#"{"customerId":"EACH-00000000","request_id":"req-998877"}"#;

/// Routing by customer id alone.
pub const ROUTE: &str = r#"{"customerId":"CUST-12345","request_id":"req-998877"}"#;

pub fn models_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models"))
}

pub fn registry() -> Arc<Registry> {
    let settings = RegistrySettings::new(models_dir().to_owned());
    let registry = Arc::new(Registry::new(settings, golden::verify));
    registry.scan(Patience::Now);
    assert!(!registry.is_empty(), "the shipped models load");
    registry
}

/// The public service as `serve` builds it, over the shipped models, metrics on. Without `auth` nobody is asked who they
/// are; by default nothing is followed. Features are stored of so many `customers`.
pub fn scoreline(auth: Option<Arc<Authenticator>>, tracer: Tracer, customers: u32) -> Endpoints {
    let metrics = scoreline::telemetry::install_metrics().expect("the only recorder of this process");
    let settings = ScorerSettings {
        clv_model: ModelName::parse("clv").expect("a name"),
        lead_model: ModelName::parse("lead").expect("a name"),
        strict_version: false,
        deadline: Duration::from_millis(500),
        cache_bytes: 64 << 20,
        cache_ttl: Duration::from_hours(24),
        explain: ExplainSettings { top: 5, budget: Duration::from_millis(20) },
    };
    let route = |skill: &str, priority| TierRoute { skill_id: skill.into(), priority, queue: None };
    let (registry, monitoring) = (registry(), Monitoring::default());
    // As `serve` does: every row is counted for drift.
    monitoring.drift().follow(&registry.all_serving(), SystemClock.now());
    let hasher = IdHasher::new(&PrivacySettings::default());
    let table = table(&hasher, customers);
    Endpoints::public(SharedState::new(HttpState {
        scorer: Scorer::new(registry, Arc::new(SystemClock), settings, monitoring.clone(), table),
        hasher,
        eraser: Eraser::default(),
        policy: Arc::new(TierPolicy::new(RoutingSettings {
            high: route("SKILL_PREMIUM_SUPPORT", 10),
            medium: route("SKILL_STANDARD_SUPPORT", 5),
            low: route("SKILL_GENERAL_SUPPORT", 0),
            low_confidence_below: 0.7,
            control_share: 0.0,
        })),
        monitoring,
        auth,
        settings: HttpSettings {
            body_limit: 64 << 10,
            batch_body_limit: 4 << 20,
            batch_rows: 1000,
            batch_deadline: Duration::from_secs(30),
            body_timeout: Duration::from_secs(5),
        },
        admission: Admission::new(AdmissionSettings {
            live: 4096,
            batches: 4,
            when_overloaded: WhenOverloaded::Fallback,
        }),
        readiness: Readiness::default(),
        jobs: scoreline::http::Jobs::default(),
        write_back: scoreline::http::WriteBackDesk::default(),
        leads: LeadDesk::new(LeadDeskParts {
            store: Arc::default(),
            targets: Vec::new(),
            settings: LeadSettings::default(),
            keeps_reasons: false,
            pauses: PauseBoard::default(),
            sealer: Sealer::new(&PrivacySettings::default()),
            clock: Arc::new(SystemClock),
            nudge: Arc::new(|| ()),
        }),
        operator: scoreline::http::OperatorDesk::default(),
        event_keys: EventKeys::default(),
        widget: None,
        documents: scoreline::http::Documents::default(),
        metrics,
        tracer,
    }))
}

/// A table of customers by number, and of the one that is asked for again and again; all have the documented features.
fn table(hasher: &IdHasher, customers: u32) -> FeatureTable {
    let values = CATALOGUE.iter().map(|feature| match feature.name {
        "recency_days" => 12.0,
        "frequency_count" => 48.0,
        "avg_handling_time_sec" => 245.0,
        "sentiment_score_avg" => 0.65,
        "topic_diversity" => 7.0,
        _ => f64::NAN,
    });
    let values: Vec<f64> = values.collect();
    let values = values.try_into().expect("one for each feature");
    let features = StoredFeatures { as_of: SystemClock.now(), exact_until: None, values };
    let table = FeatureTable::new(Duration::from_hours(36));
    let ids = std::iter::once("CUST-BOOK".to_owned()).chain((0..customers).map(|number| format!("EACH-{number:08}")));
    let stored = (0..).zip(ids).map(|(number, id)| TableChange::Stored { number, customer: hasher.key(&id), features });
    table.absorb(stored);
    table
}
