//! What becomes of a model after it serves: whether it is still asked about the customers it was trained on (drift),
//! how its answers turned out (outcomes), and how a candidate would answer in its place (comparison; afterwards, by the replay
//! log). And what goes through the server meanwhile, for people who look at it (traffic, journal).
//!
//! The predict path touches this module in one call that counts and offers, and never waits.

pub mod book;
pub mod chi_square;
pub mod comparison;
pub mod counts;
pub mod drift;
pub mod gauges;
pub mod journal;
pub mod ledger;
pub mod outcome;
pub mod psi;
pub mod quality;
pub mod replay_log;
pub mod traffic;
pub mod traffic_history;
pub mod trials;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, Estimate, Probability, Tier};
use scoreline_engine::inference::ModelSnapshot;

pub use drift::DriftMonitor;
pub use journal::Journal;
pub use ledger::Ledger;
pub use replay_log::{ReplayLimits, ReplayLog};
pub use traffic_history::Traffic;
pub use window::WindowSettings;

use book::PredictionLimits;
use outcome::{AssignedTier, LevelInterval, Prediction};
use trials::Trials;

#[derive(Clone, Debug)]
pub struct MonitoringSettings {
    pub windows: WindowSettings,
    /// How much is kept of outcomes; `None`: nothing.
    pub ledger: Option<PredictionLimits>,
    /// How much is kept of questions, to be replayed; `None`: nothing.
    pub replay: Option<ReplayLimits>,
}

/// Everything that is watched. Cheap to clone.
#[derive(Clone)]
pub struct Monitoring {
    drift: Arc<DriftMonitor>,
    trials: Arc<Trials>,
    ledger: Option<Ledger>,
    replay_log: Option<ReplayLog>,
    control_share: f64,
    traffic: Arc<Traffic>,
    journal: Journal,
}

/// One row that a model scored.
#[derive(Clone, Copy)]
pub struct ScoredRow<'a> {
    pub snapshot: &'a ModelSnapshot,
    /// Raw values in schema order, `NaN` for missing.
    pub raw: &'a [f64],
    /// What the model said: a value in US dollars, or a probability.
    pub score: f64,
    /// The whole answer about a customer's value, which outcomes are later held against; absent for other tasks.
    pub estimate: Option<&'a Estimate>,
    /// Level of the estimate's interval.
    pub level: Option<f64>,
    pub customer: Option<CustomerKey>,
    pub at: Timestamp,
}

impl Monitoring {
    pub fn start(settings: &MonitoringSettings) -> Self {
        gauges::describe();
        trials::describe();
        let ledger = settings.ledger.map(Ledger::new);
        Self {
            drift: Arc::new(DriftMonitor::new(settings.windows)),
            trials: Arc::default(),
            ledger,
            replay_log: settings.replay.map(ReplayLog::new),
            control_share: 0.0,
            traffic: Arc::default(),
            journal: Journal::default(),
        }
    }

    /// Knows which customers are routed as if there were no score.
    #[must_use]
    pub fn with_control_share(self, control_share: f64) -> Self {
        Self { control_share, ..self }
    }

    /// Whether a customer is routed as if there were no score.
    pub fn is_control(&self, customer: CustomerKey) -> bool {
        customer.is_in_share(self.control_share)
    }

    pub fn drift(&self) -> &DriftMonitor {
        &self.drift
    }

    /// The candidates and how they compare.
    pub fn trials(&self) -> &Trials {
        &self.trials
    }

    /// The ledger; `None` when outcomes are not kept.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Questions for a replay; `None` when none are kept.
    pub fn replay_log(&self) -> Option<&ReplayLog> {
        self.replay_log.as_ref()
    }

    /// What goes through the server.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// What happened to models, and what people asked for.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Takes in one row that the model ran for: counted for drift, and offered to the ledger when the customer is
    /// known. Never waits.
    pub fn scored(&self, row: ScoredRow<'_>) {
        self.drift.count(row.snapshot, row.raw, row.score);
        let outcome = row.estimate.zip(row.snapshot.manifest().horizon_days);
        if let (Some(ledger), Some(customer), Some((estimate, horizon_days))) = (&self.ledger, row.customer, outcome) {
            ledger.record(customer, row.snapshot.name(), || Prediction {
                control: self.is_control(customer),
                ..row.prediction(estimate, horizon_days)
            });
        }
    }

    /// Sets the gauges that are read off rather than counted.
    pub fn report_gauges(&self) {
        self.trials.report();
        if let Some(ledger) = &self.ledger {
            ledger.report_gauges();
        }
    }
}

/// Without a ledger and a replay log, and following no model.
impl Default for Monitoring {
    fn default() -> Self {
        let windows = WindowSettings { length: Duration::from_hours(24), least_rows: 500, most_rows: 50_000 };
        Self::start(&MonitoringSettings { windows, ledger: None, replay: None })
    }
}

impl ScoredRow<'_> {
    fn prediction(&self, estimate: &Estimate, horizon_days: u32) -> Prediction {
        Prediction {
            version: self.snapshot.version().clone(),
            scored_at: self.at,
            horizon_days,
            value: estimate.value,
            interval: estimate.interval.zip(self.level).map(|(interval, level)| LevelInterval {
                low: interval.low(),
                high: interval.high(),
                level,
            }),
            risk: estimate.risk.map(Probability::get),
            tier: Some(AssignedTier {
                limits: self.snapshot.standard(self.raw).limits,
                ..assigned_tier(self.snapshot, estimate.tier, estimate.tier_probability, estimate.confidence)
            }),
            control: false,
        }
    }
}

/// A tier with the limits of the snapshot that a spend will be judged by, for a customer of whom everything was known.
pub fn assigned_tier(
    snapshot: &ModelSnapshot,
    tier: Tier,
    probability: Option<Probability>,
    confidence: Option<Probability>,
) -> AssignedTier {
    let [probability, confidence] = [probability, confidence].map(|share| share.map(Probability::get));
    AssignedTier { tier, probability, confidence, limits: snapshot.tiers() }
}
