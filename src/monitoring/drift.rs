//! Drift of what is asked and of what is answered, per serving model: counted by every scored row, judged window by
//! window against the reference in the bundle.
//!
//! A row is counted when the model runs for it. Answers from the cache repeat a row that is counted already, and
//! baselines are for customers the training never saw: neither counts. A model that is swapped starts anew.
//!
//! A bundle freezes where its training rows lay: for every feature and for the score, bin edges and the share of the
//! rows in each bin. Zero and missing values have bins of their own, because plain quantile bins collapse on a feature
//! that is mostly zero. Features are of the fit rows. The score is of the calibration rows, because a model's answers
//! to rows it was fitted on are not what it says about others.
//!
//! A row of which less is known is compared with the reference of its own set: what its set does not read is not counted,
//! and its score counts in the tenth of its set that it is in.
//!
//! Rows are counted on their own thread's counters. A window closes by time or by rows. An alarm needs two windows in a
//! row above the limit of `psi`, and two below it clear it. A bundle without a reference is served and not watched.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::counts::{CountedSet, Counts};
use super::gauges;
use super::psi::{Psi, psi};
use super::window::{Alarm, AlarmChange, WindowSettings};
use scoreline_domain::time::{Timestamp, seconds_between};
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_engine::features::drift::DriftBins;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::BundleDigest;

/// All models that are watched. Counting is wait-free; following and judging are for one task.
pub struct DriftMonitor {
    followed: ArcSwap<Vec<Arc<Followed>>>,
    windows: WindowSettings,
}

/// What a column of a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Feature(String),
    Score,
}

/// An alarm that a window raised or cleared.
#[derive(Clone, Debug, PartialEq)]
pub struct DriftEvent {
    pub model: ModelName,
    pub version: ModelVersion,
    pub subject: Subject,
    pub change: AlarmChange,
    pub psi: Psi,
}

/// Where one model stands, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct DriftStatus {
    pub model: ModelName,
    pub version: ModelVersion,
    /// When the open window began, and its rows so far.
    pub opened_at: Timestamp,
    pub open_rows: u64,
    /// The last complete window; `None` before the first.
    pub closed: Option<ClosedWindow>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClosedWindow {
    pub from: Timestamp,
    pub to: Timestamp,
    pub rows: u64,
    pub columns: Vec<ColumnStatus>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnStatus {
    pub subject: Subject,
    pub psi: Psi,
    /// What the cell holds that moved the index most, and its share at training.
    pub worst: String,
    pub worst_trained: f64,
    /// Share of the rows without a value, and that at training.
    pub missing: f64,
    pub missing_trained: f64,
    pub alarm: bool,
}

/// One serving snapshot with a reference.
struct Followed {
    model: ModelName,
    version: ModelVersion,
    digest: BundleDigest,
    columns: Vec<Column>,
    counts: Counts,
    /// Locked by the task that judges and by whoever shows the status, never by a request.
    state: Mutex<DriftState>,
}

struct Column {
    subject: Subject,
    bins: DriftBins,
    shares: Vec<f64>,
    trained: u64,
}

struct DriftState {
    opened_at: Timestamp,
    /// Counts when the open window began.
    base: Vec<Vec<u64>>,
    alarms: Vec<Alarm>,
    closed: Option<ClosedWindow>,
}

impl DriftMonitor {
    pub fn new(windows: WindowSettings) -> Self {
        Self { followed: ArcSwap::default(), windows }
    }

    /// Counts one row that the model scored: raw values in schema order, and the predicted value or probability. A
    /// model without a reference, or one that is not followed (yet), is not counted.
    pub fn count(&self, snapshot: &ModelSnapshot, raw: &[f64], score: f64) {
        let followed = self.followed.load();
        if let Some(followed) = followed.iter().find(|followed| followed.digest == *snapshot.digest()) {
            followed.counts.add(raw, score, snapshot.information(raw));
        }
    }

    /// Watches exactly these snapshots from `now` on. What is already watched goes on.
    pub fn follow(&self, serving: &[Arc<ModelSnapshot>], now: Timestamp) {
        let before = self.followed.load_full();
        let wanted = |followed: &Arc<Followed>| serving.iter().any(|snapshot| *snapshot.digest() == followed.digest);
        let is_new = |snapshot: &&Arc<ModelSnapshot>| before.iter().all(|kept| kept.digest != *snapshot.digest());
        let mut next: Vec<_> = before.iter().filter(|followed| wanted(followed)).cloned().collect();
        let new: Vec<_> =
            serving.iter().filter(is_new).filter_map(|snapshot| Followed::new(snapshot, now)).map(Arc::new).collect();
        if new.is_empty() && next.len() == before.len() {
            return;
        }
        for gone in before.iter().filter(|followed| !wanted(followed)) {
            gone.forget();
        }
        for begun in &new {
            begun.forget();
        }
        next.extend(new);
        self.followed.store(Arc::new(next));
    }

    /// Closes the windows that are complete, sets their gauges and says which alarms changed, also in the log.
    pub fn judge(&self, now: Timestamp) -> Vec<DriftEvent> {
        self.followed.load().iter().flat_map(|followed| followed.judge(self.windows, now)).collect()
    }

    /// When windows end.
    pub fn windows(&self) -> WindowSettings {
        self.windows
    }

    /// Where every watched model stands.
    pub fn status(&self) -> Vec<DriftStatus> {
        self.followed.load().iter().map(|followed| followed.status()).collect()
    }
}

impl Subject {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Feature(name) => name,
            Self::Score => "score",
        }
    }
}

impl Followed {
    /// `None` when the bundle carries no reference.
    fn new(snapshot: &ModelSnapshot, now: Timestamp) -> Option<Self> {
        let manifest = snapshot.manifest();
        let reference = manifest.drift.as_ref()?;
        let rules = snapshot.schema().rules().iter().enumerate();
        let features: Vec<_> =
            rules.filter_map(|(position, rule)| Some((position, rule, rule.drift.as_ref()?))).collect();
        let sets = manifest.information.iter().enumerate().map(|(set, information)| CountedSet {
            reads: features.iter().map(|(at, _, _)| snapshot.reads(Some(set), *at)).collect(),
            score_edges: information.score.iter().flat_map(|bins| bins.edges.iter().copied()).collect(),
        });
        let counts = Counts::new(features.iter().map(|(at, _, bins)| (*at, *bins)), reference.score.as_ref())
            .with_sets(sets.collect());
        let column = |subject, bins: &DriftBins, trained: u32| Column {
            subject,
            bins: bins.clone(),
            shares: bins.cell_shares(),
            trained: u64::from(trained),
        };
        let mut columns: Vec<_> = features
            .iter()
            .map(|(_, rule, bins)| column(Subject::Feature(rule.name.clone()), bins, reference.rows))
            .collect();
        columns.extend(reference.score.as_ref().map(|bins| column(Subject::Score, bins, reference.score_rows)));
        if columns.is_empty() {
            return None;
        }
        let state = DriftState {
            opened_at: now,
            base: counts.read(),
            alarms: vec![Alarm::default(); columns.len()],
            closed: None,
        };
        Some(Self {
            model: snapshot.name().clone(),
            version: snapshot.version().clone(),
            digest: *snapshot.digest(),
            columns,
            counts,
            state: Mutex::new(state),
        })
    }

    fn judge(&self, windows: WindowSettings, now: Timestamp) -> Vec<DriftEvent> {
        let mut state = self.lock();
        let counted = self.counts.read();
        let rows = rows_since(&state.base, &counted);
        if !windows.is_complete(seconds_between(state.opened_at, now), rows) {
            return Vec::new();
        }
        let mut events = Vec::new();
        let mut closed = ClosedWindow { from: state.opened_at, to: now, rows, columns: Vec::new() };
        for (number, column) in self.columns.iter().enumerate() {
            let window: Vec<u64> =
                counted[number].iter().zip(&state.base[number]).map(|(now, before)| now - before).collect();
            let psi = psi(&column.shares, column.trained, &window);
            let change = state.alarms[number].step(psi.is_high());
            let status = ColumnStatus {
                subject: column.subject.clone(),
                psi,
                worst: column.bins.cell_name(psi.worst),
                worst_trained: column.shares[psi.worst],
                // The first cell holds missing values.
                missing: window[0] as f64 / rows.max(1) as f64,
                missing_trained: column.shares[0],
                alarm: state.alarms[number].is_raised(),
            };
            gauges::set_drift(&self.model, &status.subject, psi.value, psi.limit, status.alarm);
            if let Some(change) = change {
                self.log(&status, change);
                let (model, version) = (self.model.clone(), self.version.clone());
                events.push(DriftEvent { model, version, subject: column.subject.clone(), change, psi });
            }
            closed.columns.push(status);
        }
        gauges::set_window_rows(&self.model, rows);
        *state = DriftState {
            opened_at: now,
            base: counted,
            closed: Some(closed),
            alarms: std::mem::take(&mut state.alarms),
        };
        events
    }

    /// Gauges of a model that has no complete window: no index, no alarm.
    fn forget(&self) {
        for column in &self.columns {
            gauges::set_drift(&self.model, &column.subject, f64::NAN, f64::NAN, false);
        }
        gauges::set_window_rows(&self.model, 0);
    }

    fn log(&self, column: &ColumnStatus, change: AlarmChange) {
        let ColumnStatus { subject, psi, worst, worst_trained, .. } = column;
        let (model, version, subject) = (&self.model, &self.version, subject.as_str());
        match change {
            AlarmChange::Raised => tracing::warn!(
                %model, %version, column = subject, psi = psi.value, limit = psi.limit, rows = psi.rows,
                most_moved = %worst, share_now = psi.worst_share, share_at_training = worst_trained,
                "drift alarm: this column no longer looks like the training rows; check its source, or retrain"
            ),
            AlarmChange::Cleared => tracing::info!(
                %model, %version, column = subject, psi = psi.value, limit = psi.limit, rows = psi.rows,
                "drift alarm cleared: this column looks like the training rows again"
            ),
        }
    }

    fn status(&self) -> DriftStatus {
        let state = self.lock();
        DriftStatus {
            model: self.model.clone(),
            version: self.version.clone(),
            opened_at: state.opened_at,
            open_rows: rows_since(&state.base, &self.counts.read()),
            closed: state.closed.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, DriftState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row falls in one cell of every column that its set reads; the score is read of all.
fn rows_since(base: &[Vec<u64>], now: &[Vec<u64>]) -> u64 {
    let total = |column: &Vec<u64>| column.iter().sum::<u64>();
    let rows = base.iter().zip(now).map(|(base, now)| total(now).saturating_sub(total(base)));
    rows.max().unwrap_or(0)
}
