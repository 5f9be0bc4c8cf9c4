//! Every question has an answer in time: outages, stuck runs, equal questions, and what the ladder says about itself.
//! On ONNX Runtime: `moody.onnx` answers well, not with a number, with an error or late, as its second column says.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use scoreline::monitoring::Monitoring;
use scoreline::scoring::baseline::KnownLabels;
use scoreline::scoring::explanation::ExplainSettings;
use scoreline::scoring::feature_table::FeatureTable;
use scoreline::scoring::self_probe::SelfProbe;
use scoreline::scoring::{Ask, FallbackReason, Prefer, Scored, Scorer, ScorerSettings, golden};
use scoreline_domain::privacy::IdHasher;
use scoreline_domain::resilience::breaker::{FAILURES_IN_A_ROW, LEAST_CALLS, Phase};
use scoreline_domain::time::{ManualClock, Stopwatch};
use scoreline_domain::{CustomerKey, ModelName, Source};
use scoreline_engine::inference::bundle::{LoadSettings, sha256_hex};
use scoreline_engine::inference::engine::Engine;
use scoreline_engine::inference::guard::ModelGuard;
use scoreline_engine::inference::registry::{Patience, Registry, RegistrySettings};
use tempfile::TempDir;

use super::support::TestBundle;
use super::support::test_app::privacy;
use crate::support::onnx_runtime::{fixture, search};

const WELL: f64 = 0.0;
const NOT_A_NUMBER: f64 = 1.0;
const ERROR: f64 = 2.0;
/// A loop of about a microsecond a step.
const SLOW: f64 = 200_000.0;
const ENDLESS: f64 = 1e18;

/// Long enough for a slow model on a busy machine.
const PATIENT: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

/// A scorer over one moody model behind two threads.
struct Subject {
    scorer: Scorer,
    registry: Arc<Registry>,
    hasher: IdHasher,
    _models: TempDir,
}

impl Subject {
    fn moody() -> Self {
        Self::with_deadline(DEADLINE)
    }

    fn with_deadline(deadline: Duration) -> Self {
        let models = tempfile::tempdir().expect("temporary folder");
        let folder = models.path().join("clv/v1");
        fs::create_dir_all(&folder).expect("folder");
        let model = fixture("moody.onnx");
        fs::write(folder.join("bundle.toml"), MANIFEST.replace("{sha256}", &sha256_hex(&model))).expect("manifest");
        fs::write(folder.join("model.onnx"), model).expect("model");
        fs::write(folder.join("golden.jsonl"), GOLDEN).expect("golden rows");
        Self::over(models, deadline)
    }

    fn over(models: TempDir, deadline: Duration) -> Self {
        let load = LoadSettings { runtime: search(), onnx_threads: 2, onnx_queue: 64, control_flow: true, tiers: None };
        let settings = RegistrySettings { load, ..RegistrySettings::new(models.path().to_owned()) };
        let registry = Arc::new(Registry::new(settings, golden::verify));
        let events = registry.scan(Patience::Now);
        assert!(!registry.is_empty(), "{events:?}");
        let settings = ScorerSettings {
            clv_model: ModelName::parse("clv").expect("a name"),
            lead_model: ModelName::parse("lead").expect("a name"),
            strict_version: false,
            deadline,
            cache_bytes: 1 << 20,
            cache_ttl: Duration::from_hours(24),
            explain: ExplainSettings { top: 5, budget: Duration::from_mins(1) },
        };
        let clock = Arc::new(ManualClock::at("2026-11-21T10:00:00Z".parse().expect("a time")));
        Self {
            scorer: Scorer::new(
                Arc::clone(&registry),
                clock,
                settings,
                Monitoring::default(),
                FeatureTable::new(Duration::from_hours(36)),
            ),
            registry,
            hasher: IdHasher::new(&privacy("test pepper", &[])),
            _models: models,
        }
    }

    /// What a model in this mood answers about 30 days.
    async fn ask(&self, mood: f64) -> Scored {
        self.ask_with(mood, None, None).await
    }

    async fn ask_with(&self, mood: f64, customer: Option<&str>, deadline: Option<Duration>) -> Scored {
        let features = [("recency_days", Some(30.0.into())), ("avg_handling_time_sec", Some(mood.into()))];
        let customer = customer.map(|id| self.customer(id));
        let ask = Ask { features: Some(&features), customer, deadline, ..Ask::default() };
        let scored = self.scorer.score(ask).await.expect("a question that can be answered");
        let by_model = matches!(scored.source, Source::Model | Source::Cache);
        assert_eq!(by_model, scored.reason.is_none(), "a fallback is labelled with its reason: {scored:?}");
        scored
    }

    fn customer(&self, id: &str) -> CustomerKey {
        self.hasher.key(id)
    }

    /// Runs the model has begun.
    fn runs(&self) -> u64 {
        let snapshot = self.snapshot();
        let Engine::Pooled(pooled) = snapshot.engine() else { panic!("the model has threads of its own") };
        pooled.pool().runs()
    }

    fn phase(&self) -> Phase {
        self.snapshot().engine().phase()
    }

    fn snapshot(&self) -> Arc<scoreline_engine::inference::ModelSnapshot> {
        self.registry.serving(&ModelName::parse("clv").expect("a name")).expect("it serves")
    }

    /// Lets every call fail until the breaker opens; how many it took.
    async fn break_it(&self, mood: f64) -> u64 {
        let before = self.runs();
        while self.phase() == Phase::Closed {
            assert_ne!(self.ask(mood).await.source, Source::Model);
        }
        self.runs() - before
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outage_is_left_alone_but_for_one_probe_a_wait_and_ends_with_the_fault() {
    let subject = Subject::moody();
    assert_eq!(subject.ask(WELL).await.source, Source::Model);
    let watch = Stopwatch::start();
    let calls = subject.break_it(ERROR).await;
    let opened_after = watch.elapsed();
    assert!(calls <= u64::from(LEAST_CALLS) && opened_after < SECOND, "{calls} calls, {opened_after:?}");

    // The fault lasts for the first probe and most of the wait after it: 1 s and 2 s, less a quarter at most.
    let (open, before, mut asked) = (Stopwatch::start(), subject.runs(), 0_u64);
    while open.elapsed() < Duration::from_millis(1300) {
        let scored = subject.ask(ERROR).await;
        assert_eq!(scored.source, Source::Fallback);
        assert!(matches!(scored.reason, Some(FallbackReason::BreakerOpen | FallbackReason::ModelError)), "{scored:?}");
        asked += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reached = subject.runs() - before;
    assert_eq!(reached, 1, "the probe and nothing else of {asked} calls");

    let repaired = Stopwatch::start();
    while subject.ask(WELL).await.source != Source::Model {
        assert!(repaired.elapsed() < 2 * 2 * SECOND, "closes within two waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "outage: opened after {calls} calls and {:.1} ms; while open {reached} of {asked} calls reached the fault, the \
         probe; closed {:.0} ms after the repair",
        opened_after.as_secs_f64() * 1e3,
        repaired.elapsed_ms()
    );
    assert_eq!(subject.phase(), Phase::Closed);
}

#[tokio::test]
async fn a_model_that_gives_no_numbers_and_one_that_never_answers_open_it_too() {
    for (mood, reason) in [(NOT_A_NUMBER, FallbackReason::ModelError), (ENDLESS, FallbackReason::Deadline)] {
        let subject = Subject::moody();
        let scored = subject.ask(mood).await;
        assert_eq!((scored.source, scored.reason), (Source::Fallback, Some(reason)));
        // One of them may have missed its deadline for want of a processor, which does not count.
        assert!(subject.break_it(mood).await + 1 >= u64::from(FAILURES_IN_A_ROW));
        let watch = Stopwatch::start();
        assert_eq!(subject.ask(mood).await.reason, Some(FallbackReason::BreakerOpen));
        assert!(watch.elapsed() < DEADLINE, "an open breaker keeps nobody waiting");
    }
}

#[tokio::test]
async fn a_caller_in_a_hurry_is_answered_in_time_and_takes_the_model_from_nobody() {
    let subject = Subject::moody();
    subject.ask(WELL).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..2 * LEAST_CALLS {
        let watch = Stopwatch::start();
        let scored = subject.ask_with(ENDLESS, None, Some(Duration::from_millis(1))).await;
        slowest = slowest.max(watch.elapsed());
        assert_eq!((scored.source, scored.reason), (Source::Fallback, Some(FallbackReason::Deadline)));
    }
    println!("deadline of 1 ms, model without end: the slowest of {} answers took {slowest:?}", 2 * LEAST_CALLS);
    assert!(slowest < DEADLINE, "{slowest:?}");
    assert_eq!(subject.phase(), Phase::Closed);
    assert_eq!(subject.ask(WELL).await.source, Source::Model, "stopped runs have freed their handles");
    // The settings hold for whoever asks for more.
    let watch = Stopwatch::start();
    assert_eq!(
        subject.ask_with(ENDLESS, None, Some(Duration::from_mins(1))).await.reason,
        Some(FallbackReason::Deadline)
    );
    assert!(watch.elapsed() < DEADLINE + SECOND);
}

#[tokio::test]
async fn without_time_no_model_is_asked() {
    let subject = Subject::moody();
    let before = subject.runs();
    assert_eq!(subject.ask_with(WELL, None, Some(Duration::ZERO)).await.reason, Some(FallbackReason::Deadline));
    assert_eq!(subject.runs(), before);

    let models = tempfile::tempdir().expect("temporary folder");
    TestBundle::clv("v1.2").write(models.path());
    let inline = Subject::over(models, DEADLINE);
    let features = [("recency_days", Some(30.0.into())), ("frequency_count", Some(10.0.into()))];
    let ask = Ask { features: Some(&features), deadline: Some(Duration::ZERO), ..Ask::default() };
    let known = KnownLabels { channel: Some("referral"), segment: None };
    let scored = inline.scorer.score(Ask { known, ..ask }).await.expect("an answer");
    assert_eq!(
        (scored.source, scored.reason, scored.estimate.value),
        (Source::Fallback, Some(FallbackReason::Deadline), 30.0)
    );
    let hurried = Ask { deadline: Some(Duration::from_nanos(1)), ..ask };
    assert_eq!(inline.scorer.score(hurried).await.expect("an answer").source, Source::Model, "inline never waits");
}

#[tokio::test]
async fn equal_questions_at_the_same_time_run_the_model_once() {
    let subject = Subject::with_deadline(PATIENT);
    let before = subject.runs();
    let ask = || subject.ask_with(SLOW, Some("ada"), None);
    let (first, second, third, other) = tokio::join!(ask(), ask(), ask(), subject.ask_with(SLOW, Some("eve"), None));
    assert_eq!(first.source, Source::Model);
    assert_eq!(other.source, Source::Model, "another customer is another question");
    for follower in [second, third] {
        assert_eq!((follower.source, follower.estimate.value), (Source::Cache, first.estimate.value));
    }
    assert_eq!(subject.runs() - before, 2);
}

#[tokio::test]
async fn who_waits_for_an_equal_question_neither_fails_nor_leaves_with_it() {
    let subject = Subject::with_deadline(PATIENT);
    let before = subject.runs();
    // The first leaves.
    let leaving = tokio::time::timeout(Duration::from_millis(40), subject.ask_with(SLOW, Some("ada"), None));
    let (left, follower) = tokio::join!(leaving, async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        subject.ask_with(SLOW, Some("ada"), None).await
    });
    assert!(left.is_err());
    assert_eq!(follower.source, Source::Model);
    assert_eq!(subject.runs() - before, 2);

    // The first fails: the second finds out for itself.
    let hasty = subject.ask_with(SLOW, Some("bob"), Some(Duration::from_millis(40)));
    let (failed, follower) = tokio::join!(hasty, subject.ask_with(SLOW, Some("bob"), None));
    assert_eq!(failed.reason, Some(FallbackReason::Deadline));
    assert_eq!(follower.source, Source::Model);

    // The second has less time than the first.
    let watch = Stopwatch::start();
    let timed = async |deadline| {
        let scored = subject.ask_with(SLOW, Some("eve"), deadline).await;
        (scored, watch.elapsed())
    };
    let ((first, slow), (follower, fast)) = tokio::join!(timed(None), timed(Some(Duration::from_millis(20))));
    assert_eq!(first.source, Source::Model);
    assert_eq!(follower.reason, Some(FallbackReason::Deadline));
    assert!(fast < slow, "{fast:?} and {slow:?}");
}

#[tokio::test]
async fn no_fallback_is_kept_as_a_score() {
    let subject = Subject::moody();
    for mood in [ERROR, NOT_A_NUMBER] {
        for _ in 0..2 {
            let scored = subject.ask_with(mood, Some("ada"), None).await;
            assert_eq!((scored.source, scored.reason), (Source::Fallback, Some(FallbackReason::ModelError)));
        }
    }
    let last = || {
        let ask = Ask { customer: Some(subject.customer("ada")), prefer: Prefer::LastScore, ..Ask::default() };
        subject.scorer.score(ask)
    };
    assert_eq!(last().await.expect("an answer").source, Source::ColdStart, "there is no last score");
    assert_eq!(subject.ask_with(WELL, Some("ada"), None).await.source, Source::Model);
    assert_eq!(last().await.expect("an answer").source, Source::Cache);

    // From now on the last score stands in, and says so; it does not become the answer to what failed.
    for _ in 0..2 {
        let scored = subject.ask_with(NOT_A_NUMBER, Some("ada"), None).await;
        assert!(scored.source == Source::StaleCache && scored.reason.is_some(), "{scored:?}");
    }
    subject.break_it(ERROR).await;
    let scored = subject.ask_with(ERROR, Some("ada"), None).await;
    assert_eq!((scored.source, scored.reason), (Source::StaleCache, Some(FallbackReason::BreakerOpen)));
}

#[tokio::test]
async fn the_self_probe_sees_the_model_and_every_step_of_its_ladder_and_heals_the_breaker() {
    let subject = Subject::moody();
    let mut probe = SelfProbe::new(subject.scorer.clone());
    let sound = |findings: Vec<scoreline::scoring::self_probe::Finding>| -> Vec<(&str, bool)> {
        findings.into_iter().map(|finding| (finding.path, finding.problem.is_none())).collect()
    };
    let well = [("model", true), ("neutral", true), ("channel", true), ("segment", true)];
    assert_eq!(sound(probe.round().await), well);
    assert_eq!(subject.scorer.cache().entries(), 0);

    subject.break_it(ERROR).await;
    let runs = subject.runs();
    assert_eq!(sound(probe.round().await), [("model", false), well[1], well[2], well[3]]);
    assert_eq!(subject.runs(), runs, "nobody reaches a model behind an open breaker");
    tokio::time::sleep(SECOND).await;
    assert_eq!(sound(probe.round().await), well, "a probe was due");
    assert_eq!(subject.phase(), Phase::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures: cargo test --test it always_answer::a_fallback_is_not_slower -- --ignored --nocapture"]
async fn a_fallback_is_not_slower_than_the_model() {
    const CALLS: usize = 20_000;
    async fn p99(subject: &Subject, mood: f64, source: Source) -> f64 {
        let mut took = Vec::with_capacity(CALLS);
        while took.len() < CALLS {
            let watch = Stopwatch::start();
            let scored = subject.ask(mood).await;
            let elapsed = watch.elapsed().as_secs_f64() * 1e6;
            if scored.source == source {
                took.push(elapsed);
            }
        }
        took.sort_by(f64::total_cmp);
        took[CALLS * 99 / 100]
    }
    let subject = Subject::moody();
    let model = p99(&subject, WELL, Source::Model).await;
    subject.break_it(ERROR).await;
    let fallback = p99(&subject, ERROR, Source::Fallback).await;
    println!(
        "p99 of {CALLS} answers: {model:.1} us by the model, {fallback:.1} us by the ladder behind an open breaker"
    );
    assert!(fallback <= model);

    let snapshot = subject.snapshot();
    let guard = ModelGuard::new(snapshot.name().clone(), snapshot.version().clone());
    let watch = Stopwatch::start();
    for _ in 0..1_000_000 {
        guard.admit().expect("closed").succeeded();
    }
    println!("a closed breaker costs a run that succeeds {:.0} ns in this build", watch.elapsed_ms());
}

const GOLDEN: &str = r#"{"request": {"features": {"recency_days": 30, "avg_handling_time_sec": 0}}, "expect": {"clv_value_usd": 30}}
"#;

const MANIFEST: &str = r#"
bundle_version = 1
name = "clv"
version = "v1"
task = "clv"
backend = "onnx"
file = "model.onnx"
sha256 = "{sha256}"
trained_at = "2026-01-01T00:00:00Z"
horizon_days = 273
standardize = false

[outputs]
value = "value"

[tiers]
medium = 10.0
high = 40.0

[neutral]
value = 20.0
low = 0.0
high = 80.0
risk = 0.6
tier_share = [0.6, 0.3, 0.1]

[baselines.channel.referral]
value = 30.0
low = 0.0
high = 120.0
risk = 0.5
tier_share = [0.5, 0.3, 0.2]
n = 200
weight = 0.8

[baselines.segment.loyal]
value = 60.0
low = 0.0
high = 200.0
risk = 0.2
tier_share = [0.2, 0.3, 0.5]
n = 100
weight = 0.7

[[features]]
name = "recency_days"
unit = "days"
required = true
min = 0.0
max = 365.0
mean = 30.0
std = 30.0

[[features]]
name = "avg_handling_time_sec"
unit = "seconds"
required = true
min = 0.0
max = 1.0
mean = 0.0
std = 1.0
"#;
