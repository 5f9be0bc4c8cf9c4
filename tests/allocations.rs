//! Scoring allocates nothing: the pipeline from named features to the answer, and the models in it.
//!
//! A test binary of its own, because its counting allocator stands in for the global one.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{fs, hint};

use allocation_counter::{AllocationInfo, measure};
use scoreline::monitoring::Monitoring;
use scoreline::scoring::explanation::ExplainSettings;
use scoreline::scoring::feature_table::{FeatureTable, StoredFeatures, TableChange};
use scoreline::scoring::{Ask, Scorer, ScorerSettings, golden};
use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::time::{ManualClock, Timestamp};
use scoreline_domain::{CustomerKey, ModelName, Source};
use scoreline_engine::features::Value;
use scoreline_engine::inference::bundle::sha256_hex;
use scoreline_engine::inference::registry::{Patience, Registry, RegistrySettings};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What a new customer may cost: the score that both caches share, and what moka keeps of two entries. It was 16 to 19.
const MOST_FOR_A_NEW_CUSTOMER: u64 = 24;
/// The last lead of a block of twenty takes the block into the places that leads are told.
const MOST_FOR_A_BLOCK: u64 = 4;

type Features = Vec<(String, Option<serde_json::Value>)>;

struct Subject {
    scorer: Scorer,
    is_lead: bool,
    /// Named values of one customer, as the bundle's golden rows give them.
    rows: Vec<Features>,
}

impl Subject {
    fn new(models: &Path, model: &str, is_lead: bool, rows: Vec<Features>) -> Self {
        let settings = RegistrySettings::new(models.to_owned());
        let registry = Arc::new(Registry::new(settings, golden::verify));
        registry.scan(Patience::Now);
        let name = |name| ModelName::parse(name).expect("a name");
        assert!(registry.serving(&name(model)).is_some(), "{model}: {:?}", registry.status());
        let clock = Arc::new(ManualClock::at("2026-11-21T10:00:00Z".parse().expect("a time")));
        let settings = ScorerSettings {
            clv_model: name(if is_lead { "clv" } else { model }),
            lead_model: name("lead"),
            strict_version: false,
            deadline: Duration::from_millis(500),
            cache_bytes: 1 << 20,
            cache_ttl: Duration::from_hours(24),
            explain: ExplainSettings { top: 5, budget: Duration::from_mins(1) },
        };
        let monitoring = Monitoring::default();
        monitoring.drift().follow(&registry.all_serving(), "2026-11-21T10:00:00Z".parse().expect("a time"));
        let table = FeatureTable::new(Duration::from_hours(36));
        let scorer = Scorer::new(registry, clock, settings, monitoring, table);
        Self { scorer, is_lead, rows }
    }

    /// A bundle that is shipped, with the first of its golden rows.
    fn shipped(model: &str, version: &str) -> Self {
        let models = Path::new(ROOT).join("models");
        let golden = fs::read_to_string(models.join(model).join(version).join("golden.jsonl")).expect("golden rows");
        let row = |line: &str| -> Features {
            let golden: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let features = golden["request"]["features"].as_object().expect("features");
            features.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect()
        };
        Self::new(&models, model, model == "lead", golden.lines().take(20).map(row).collect())
    }

    /// Allocations of one answer and where it came from; the features are named and parsed before.
    fn cost(&self, row: &Features, customer: Option<CustomerKey>) -> (AllocationInfo, Source) {
        let features: Vec<(&str, Option<Value<'_>>)> = row
            .iter()
            .map(|(name, value)| {
                let value = value.as_ref().and_then(|value| match value {
                    serde_json::Value::Number(number) => number.as_f64().map(Value::Number),
                    serde_json::Value::String(text) => Some(Value::Text(text)),
                    serde_json::Value::Null
                    | serde_json::Value::Bool(_)
                    | serde_json::Value::Array(_)
                    | serde_json::Value::Object(_) => None,
                });
                (name.as_str(), value)
            })
            .collect();
        self.measured(Ask { customer, features: Some(&features), ..Ask::default() })
    }

    fn measured(&self, ask: Ask<'_>) -> (AllocationInfo, Source) {
        let mut source = None;
        let info = measure(|| {
            source = Some(if self.is_lead {
                hint::black_box(ready(self.scorer.score_lead(ask)).expect("an answer")).source
            } else {
                hint::black_box(ready(self.scorer.score(ask)).expect("an answer")).source
            });
        });
        (info, source.expect("measured"))
    }
}

/// By id: the same rows, stored, cost what they cost when they are named.
#[track_caller]
fn check_by_id(subject: &Subject) {
    let table = subject.scorer.table();
    let by_id = |customer| subject.measured(Ask { customer: Some(customer), ..Ask::default() });
    // Whatever is made once for a thread.
    by_id(customer(0));
    let mut modelled = 0;
    for (number, row) in (1..).zip(&subject.rows) {
        let mut values = [f64::NAN; CATALOGUE.len()];
        for (slot, feature) in values.iter_mut().zip(CATALOGUE) {
            let given = row.iter().find(|(name, _)| name == feature.name).and_then(|(_, value)| value.as_ref());
            *slot = given.and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN);
        }
        let features = StoredFeatures { as_of: Timestamp::UNIX_EPOCH, exact_until: None, values };
        let customer = customer(number);
        table.absorb([TableChange::Stored { number: number.into(), customer, features }]);
        let (info, source) = by_id(customer);
        if source != Source::Model {
            continue;
        }
        modelled += 1;
        assert!(info.count_total <= MOST_FOR_A_NEW_CUSTOMER, "row {number}, a new customer: {info:?}");
        let (info, source) = by_id(customer);
        assert_eq!((info.count_total, source), (0, Source::Cache), "row {number}, again");
    }
    assert!(modelled >= 8, "{modelled} rows");
}

/// An inline model answers in the first poll.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("an inline model never waits"),
    }
}

fn customer(number: u8) -> CustomerKey {
    CustomerKey::from_digest([number; 32])
}

#[track_caller]
fn check(subject: &Subject) {
    // Whatever is made once for a thread or a process.
    subject.cost(&subject.rows[0], None);
    subject.cost(&subject.rows[0], Some(customer(0)));
    // Golden rows of customers without history are answered from a baseline.
    let modelled = subject.rows.iter().filter(|row| subject.cost(row, None).1 == Source::Model);
    let modelled: Vec<&Features> = modelled.collect();
    assert!(modelled.len() >= 8, "{} rows", modelled.len());
    let mut block_taken = false;
    for (number, row) in (1..).zip(modelled) {
        let (info, source) = subject.cost(row, None);
        assert_eq!(source, Source::Model, "row {number}, nobody known");
        if info.count_total > 0 && subject.is_lead && !block_taken {
            block_taken = true;
            assert!(info.count_total <= MOST_FOR_A_BLOCK, "row {number}, the block's last: {info:?}");
        } else {
            assert_eq!(info.count_total, 0, "row {number}, nobody known");
        }

        let (info, source) = subject.cost(row, Some(customer(number)));
        assert_eq!(source, Source::Model, "row {number}");
        assert!(info.count_total <= MOST_FOR_A_NEW_CUSTOMER, "row {number}, a new customer: {info:?}");

        let (info, source) = subject.cost(row, Some(customer(number)));
        assert_eq!((info.count_total, source), (0, Source::Cache), "row {number}, again");
    }
}

#[test]
fn the_shipped_clv_model_allocates_nothing() {
    check(&Subject::shipped("clv", "v1.2"));
}

#[test]
fn by_id_a_customer_costs_no_more_allocations_than_with_features() {
    check_by_id(&Subject::shipped("clv", "v1.2"));
}

#[test]
fn the_shipped_purchases_model_allocates_nothing() {
    check(&Subject::shipped("clv-purchases", "v1.0"));
}

#[test]
fn the_shipped_lead_model_allocates_nothing() {
    check(&Subject::shipped("lead", "v1.1"));
}

#[test]
fn two_hundred_trees_allocate_nothing() {
    let models = tempfile::tempdir().expect("temporary folder");
    let folder = models.path().join("forest/v1");
    fs::create_dir_all(&folder).expect("a folder");
    let model = fs::read(Path::new(ROOT).join("benches/fixtures/lightgbm_200x31.onnx")).expect("the fixture");
    let feature = |name: char| {
        format!(
            "[[features]]\nname = \"{name}\"\nunit = \"1\"\nmin = -3.0\nmax = 3.0\nmean = 0.0\nstd = 1.0\nimpute = \"none\"\n"
        )
    };
    let manifest = format!(
        "bundle_version = 1\nname = \"forest\"\nversion = \"v1\"\ntask = \"clv\"\nbackend = \"trees\"\nfile = \"model.onnx\"\n\
         sha256 = \"{}\"\ntrained_at = \"2026-01-01T00:00:00Z\"\nhorizon_days = 90\nstandardize = false\n\
         [outputs]\nvalue = \"variable\"\n[tiers]\nmedium = 2.0\nhigh = 5.0\n\
         [neutral]\nvalue = 2.0\nlow = 0.0\nhigh = 8.0\nrisk = 0.6\ntier_share = [0.6, 0.3, 0.1]\n{}",
        sha256_hex(&model),
        ('a'..='h').map(feature).collect::<String>()
    );
    fs::write(folder.join("bundle.toml"), manifest).expect("written");
    fs::write(folder.join("model.onnx"), model).expect("written");
    let row = |number: i32| -> Features {
        ('a'..='h')
            .zip(0..)
            .filter(|(_, at)| (number + at) % 5 != 0)
            .map(|(name, at)| (name.to_string(), Some(f64::from(number * 7 + at * 3).sin().into())))
            .collect()
    };
    check(&Subject::new(models.path(), "forest", false, (0..20).map(row).collect()));
}
