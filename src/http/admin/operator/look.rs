//! What there is to show at one moment, read where it is kept. The store is asked at most every few seconds and never for
//! long: the page is made without it then.

use std::sync::Arc;
use std::time::Duration;

use super::trouble::{self, Trouble};
use crate::http::operator_desk::{StoredFindings, TargetFindings};
use crate::http::state::{HttpState, StoreTrouble};
use crate::monitoring::WindowSettings;
use crate::monitoring::drift::DriftStatus;
use crate::monitoring::journal::JournalEntry;
use crate::monitoring::traffic_history::TrafficView;
use crate::monitoring::trials::TrialStatus;
use scoreline_domain::time::{Clock as _, SystemClock, Timestamp, seconds_between};
use scoreline_domain::{JobName, JobStatus};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::registry::VersionStatus;
use scoreline_genesys::Genesys;
use scoreline_store::{Store, StoreError, WishState};

/// What was read from the store is shown for so long to those who watch, and kept for so long while nobody does.
pub(super) const STORE_LOOK: Duration = Duration::from_secs(5);
/// Longer is not waited for the store.
const PATIENCE: Duration = Duration::from_secs(2);
/// Failures whose reasons are looked at.
const FAILURES: usize = 100;

/// Everything.
pub(super) struct Findings {
    pub(super) now: Timestamp,
    pub(super) traffic: TrafficView,
    pub(super) connections: usize,
    /// Live calls and batches.
    pub(super) in_flight: (u32, u32),
    pub(super) versions: Vec<VersionStatus>,
    /// What answers questions that name no model.
    pub(super) clv: Option<Arc<ModelSnapshot>>,
    pub(super) drift: Vec<DriftStatus>,
    pub(super) windows: WindowSettings,
    pub(super) trials: Vec<TrialStatus>,
    pub(super) journal: Vec<JournalEntry>,
    pub(super) jobs: Vec<(JobName, JobStatus)>,
    /// Customers whose features are held in memory, and when the oldest of them were computed.
    pub(super) customers: usize,
    pub(super) oldest_features: Option<Timestamp>,
    /// Requests to the platform that counted last, and how many may.
    pub(super) rate: Option<(u32, u32)>,
    pub(super) stored: Arc<StoredFindings>,
    pub(super) store_trouble: Option<StoreTrouble>,
    pub(super) is_draining: bool,
    /// Pauses of targets for leads: name, state, reason.
    pub(super) pauses: Vec<(String, &'static str, String)>,
    /// What is wrong, oldest first.
    pub(super) troubles: Vec<Trouble>,
}

/// Looks at everything; at the store only when the last look is longer ago than `most`.
pub(super) async fn look(app: &HttpState, most: Duration) -> Findings {
    let stored = if let Some(stored) = app.operator.stored(most) {
        stored
    } else {
        let stored = Arc::new(read_stored(app).await);
        app.operator.keep_stored(Arc::clone(&stored));
        stored
    };
    let now = app.scorer.now();
    let registry = app.scorer.registry();
    let pauses = app.leads.targets().iter().filter_map(|target| {
        let pause = app.leads.pauses().of(target).filter(|pause| pause.until > app.leads.now())?;
        Some((target.clone(), pause.state, pause.reason))
    });
    let mut findings = Findings {
        now,
        traffic: app.monitoring.traffic().view(SystemClock.monotonic()),
        connections: app.operator.connections.get(),
        in_flight: app.admission.in_flight(),
        versions: registry.status(),
        clv: registry.serving(app.scorer.default_model()),
        drift: app.monitoring.drift().status(),
        windows: app.monitoring.drift().windows(),
        trials: app.monitoring.trials().status(),
        journal: app.monitoring.journal().entries(),
        jobs: (app.jobs.statuses)(),
        customers: app.scorer.table().customers(),
        oldest_features: app.scorer.table().oldest(),
        rate: app.operator.platform.get().map(Genesys::rate),
        stored,
        store_trouble: app.readiness.store_trouble(),
        is_draining: app.readiness.is_draining(),
        pauses: pauses.collect(),
        troubles: Vec::new(),
    };
    findings.troubles = trouble::of(&findings, &app.operator);
    findings
}

async fn read_stored(app: &HttpState) -> StoredFindings {
    let quality = app.monitoring.ledger().map(|ledger| ledger.status().quality).unwrap_or_default();
    let quality = quality.into_iter().collect();
    let Some(store) = app.write_back.store.get().or_else(|| app.leads.store().ok()) else {
        return StoredFindings { quality, problem: Some("the store is not open"), ..StoredFindings::default() };
    };
    match tokio::time::timeout(PATIENCE, outboxes(app, store)).await {
        Ok(Ok(found)) => StoredFindings { quality, ..found },
        Ok(Err(_)) | Err(_) => {
            StoredFindings { quality, problem: Some("the store gives no answer"), ..StoredFindings::default() }
        }
    }
}

async fn outboxes(app: &HttpState, store: &Store) -> Result<StoredFindings, StoreError> {
    let now = app.leads.now();
    let profiles = app.write_back.target.map(|target| (target.to_owned(), false));
    let leads = app.leads.targets().iter().map(|target| (target.clone(), true));
    let mut targets = Vec::new();
    for (name, is_of_leads) in profiles.into_iter().chain(leads) {
        let counts = store.outbox_counts(&name).await?;
        let oldest = store.oldest_write(&name).await?;
        let mut reasons: Vec<(WishState, Box<str>, usize)> = Vec::new();
        // Only how often each: whose score it is is nobody's business here.
        for failure in store.failed_writes(&name, FAILURES).await? {
            match reasons.iter_mut().find(|(state, reason, _)| *state == failure.state && *reason == failure.reason) {
                Some((_, _, count)) => *count += 1,
                None => reasons.push((failure.state, failure.reason, 1)),
            }
        }
        let oldest_seconds = oldest.map(|oldest| seconds_between(oldest, now));
        targets.push(TargetFindings { name, is_of_leads, counts, oldest_seconds, reasons });
    }
    let leads = store.lead_counts(app.leads.settings().stale_before(now)).await?;
    let leads = (leads != (0, 0) || !app.leads.targets().is_empty()).then_some(leads);
    Ok(StoredFindings { targets, leads, ..StoredFindings::default() })
}
