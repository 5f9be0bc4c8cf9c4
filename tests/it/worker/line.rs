//! A whole line of jobs over a simulated platform and a store of its own.

use std::sync::Arc;
use std::time::Duration;

use scoreline::monitoring::Monitoring;
use scoreline::scoring::explanation::ExplainSettings;
use scoreline::scoring::feature_table::FeatureTable;
use scoreline::scoring::{Scorer, ScorerSettings, golden};
use scoreline::sinks::{FileSink, ProfilePlace, ProfileSink};
use scoreline::worker::deliver::Deliver;
use scoreline::worker::extract::{Begin, Extracted, Extraction};
use scoreline::worker::features::{FeaturePass, FoldedPass, Whose};
use scoreline::worker::rescore::{Rescore, Rescored};
use scoreline::worker::write_back::{WriteBack, WrittenBack};
use scoreline::worker::{ExtractSettings, Leases};
use scoreline_domain::time::{Clock, Timestamp};
use scoreline_domain::{CustomerKey, LabelId, ModelName};
use scoreline_engine::inference::registry::{Patience, Registry, RegistrySettings};
use scoreline_genesys::Genesys;
use scoreline_store::{History, ScanRequest, Store, StoredInteraction, Which};

use crate::desk::Desk;
use crate::support::TestBundle;

/// What one process of the line holds.
pub struct Line {
    pub extraction: Extraction,
    pub features: FeaturePass,
    pub rescore: Rescore,
    pub write_back: WriteBack,
    models: tempfile::TempDir,
}

impl Line {
    /// A line that writes profiles on the desk's platform, under its clock.
    pub fn new(desk: &Desk, store: &Store, holder: &str) -> Self {
        let platform = desk.client();
        let sink = ProfilePlace::Platform(ProfileSink::new(&platform, desk.settings.api));
        Self::writing_to(desk, store, holder, &platform, sink)
    }

    pub fn writing_to(desk: &Desk, store: &Store, holder: &str, platform: &Genesys, sink: ProfilePlace) -> Self {
        let models = tempfile::tempdir().expect("a folder");
        TestBundle::clv("v1.2").write(models.path());
        let clock: Arc<dyn Clock> = Arc::new(desk.simulator.clock());
        let leases = Leases::new(store.clone(), holder, clock.clone());
        let settings = ExtractSettings {
            every: Duration::from_hours(4),
            jitter: Duration::ZERO,
            look_back_days: desk.simulator.settings().days,
        };
        let target = match &sink {
            ProfilePlace::Platform(_) => ProfileSink::target_of(desk.settings.api),
            ProfilePlace::File(_) => FileSink::TARGET,
        };
        let write_back = Deliver::new(sink, leases.clone(), 100, Duration::from_hours(24));
        Self {
            extraction: Extraction { source: platform.history(), leases: leases.clone(), settings },
            features: FeaturePass::new(leases.clone()),
            rescore: Rescore { scorer: scorer(models.path(), clock), leases: leases.clone(), target: Some(target) },
            write_back: WriteBack(Arc::new(write_back)),
            models,
        }
    }

    pub async fn extract(&self) -> Extracted {
        self.extraction.run(Begin::Onwards, |_| ()).await.expect("extracted").expect("nobody else does")
    }

    pub async fn fold(&self) -> FoldedPass {
        self.features.run(Whose::Due, |_| ()).await.expect("folded").expect("nobody else does")
    }

    pub async fn score(&self) -> Rescored {
        self.rescore.run(|_| ()).await.expect("scored").expect("nobody else does")
    }

    pub async fn write(&self) -> WrittenBack {
        self.write_back.run(|_| ()).await.expect("written").expect("nobody else does")
    }

    /// All four, one after the other.
    pub async fn run(&self) -> (Extracted, FoldedPass, Rescored, WrittenBack) {
        (self.extract().await, self.fold().await, self.score().await, self.write().await)
    }

    /// Another version of the model, which says something else.
    pub fn change_model(&self) {
        TestBundle::clv("v1.3").with_log_mean(4.0).write(self.models.path());
        self.rescore.scorer.registry().scan(Patience::Now);
    }
}

pub fn scorer(models: &std::path::Path, clock: Arc<dyn Clock>) -> Scorer {
    let registry = Arc::new(Registry::new(RegistrySettings::new(models.to_owned()), golden::verify));
    registry.scan(Patience::Now);
    let settings = ScorerSettings {
        clv_model: ModelName::parse("clv").expect("a name"),
        lead_model: ModelName::parse("lead").expect("a name"),
        strict_version: false,
        deadline: Duration::from_secs(1),
        cache_bytes: 1 << 20,
        cache_ttl: Duration::from_hours(24),
        explain: ExplainSettings { top: 5, budget: Duration::from_millis(20) },
    };
    let table = FeatureTable::new(Duration::from_hours(36));
    Scorer::new(registry, clock, settings, Monitoring::default(), table)
}

/// Everything that is known of every customer.
pub async fn histories(store: &Store) -> Vec<History> {
    let mut scan = ScanRequest { which: Which::All, after: None, interactions: 20_000, since: None };
    let mut all = Vec::new();
    loop {
        let page = store.scan(&scan).await.expect("scanned");
        all.extend(page.histories);
        scan.after = page.next;
        if scan.after.is_none() {
            return all;
        }
    }
}

/// What is kept of interactions that ended by a time, with names instead of numbers: the same for two stores that were told
/// the same in another order.
pub async fn dump(store: &Store, until: Timestamp) -> Vec<(CustomerKey, Vec<String>)> {
    let labels = store.labels().await.expect("read");
    let name = |label: &LabelId| labels[label].to_string();
    let line = |history: &History, kept: &StoredInteraction| {
        let mut topics: Vec<_> = history.topics(kept).iter().map(name).collect();
        topics.sort_unstable();
        let queue = kept.queue.as_ref().map(name);
        let StoredInteraction { start_ms, end_ms, channel, handle_ms, sentiment, .. } = kept;
        format!("{start_ms} {end_ms} {channel} {handle_ms:?} {sentiment:?} {queue:?} {topics:?}")
    };
    let histories = histories(store).await;
    let mut all: Vec<_> = histories
        .iter()
        .map(|history| {
            let kept = history.interactions.iter().filter(|kept| kept.end_ms <= until.as_millisecond());
            let mut lines: Vec<_> = kept.map(|kept| line(history, kept)).collect();
            lines.sort_unstable();
            (history.customer, lines)
        })
        .filter(|(_, lines)| !lines.is_empty())
        .collect();
    all.sort_unstable();
    all
}
