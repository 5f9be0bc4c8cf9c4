//! What is known of a job that runs beside the answers: since when, how the last run ended, when the next one comes.

use std::collections::BTreeMap;

use super::time::Timestamp;

/// The jobs there are: on the way from history to profile, on that of a lead's score to the dialer and to nothing, then on
/// that from a question to whoever waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobName {
    Extract,
    Features,
    Rescore,
    WriteBack,
    Push,
    Expire,
    Predictions,
    Callbacks,
}

impl JobName {
    pub const ALL: [Self; 8] = [
        Self::Extract,
        Self::Features,
        Self::Rescore,
        Self::WriteBack,
        Self::Push,
        Self::Expire,
        Self::Predictions,
        Self::Callbacks,
    ];

    /// The name in paths, metrics and leases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Extract => "extract",
            Self::Features => "features",
            Self::Rescore => "rescore",
            Self::WriteBack => "write_back",
            Self::Push => "push",
            Self::Expire => "expire",
            Self::Predictions => "predictions",
            Self::Callbacks => "callbacks",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.as_str() == name)
    }
}

/// What a run has counted, by name.
pub type JobCounts = BTreeMap<&'static str, u64>;

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct JobStatus {
    /// Set while a run is under way.
    pub running_since: Option<Timestamp>,
    pub last: Option<LastRun>,
    /// End of the last run of this process that did its work.
    pub last_success: Option<Timestamp>,
    /// Runs that failed since the last one that did not.
    pub failures: u32,
    /// When the timer starts the next run; absent while one is under way.
    pub next_at: Option<Timestamp>,
    /// Of the run under way, else of the last one.
    pub counts: JobCounts,
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct LastRun {
    pub started: Timestamp,
    pub ended: Timestamp,
    pub result: RunResult,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunResult {
    Done,
    /// There was nothing to do.
    Idle,
    /// Another replica is at it.
    Elsewhere,
    /// The process was asked to stop.
    Stopped,
    /// With the reason.
    Failed(String),
}

impl RunResult {
    /// The word in metrics and answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Idle => "idle",
            Self::Elsewhere => "elsewhere",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }
}
