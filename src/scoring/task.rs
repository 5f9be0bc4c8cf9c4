//! What the ladder needs to know of a task: how outputs become a score, and what stands in for one.

use smallvec::SmallVec;

use super::baseline::{self, FoundBaseline, KnownLabels};
use super::estimate::{UnusableOutput, Wish, estimate, from_baseline, probability};
use super::{BaselineUsed, NEUTRAL, Warning};
use scoreline_domain::{Estimate, LeadScore, Probability, Tier};
use scoreline_engine::inference::bundle::run_rows;
use scoreline_engine::inference::manifest::Task;
use scoreline_engine::inference::{BackendError, ModelSnapshot};

/// A score of one task. The snapshot handed to it is always one of this task.
pub trait Score: Copy + Send + Sync {
    const TASK: Task;
    /// What its explanations count in.
    const UNIT: ScoreUnit;

    /// Turns one row's outputs into a score.
    ///
    /// # Errors
    /// Names the output that is not a finite number.
    fn of_outputs(snapshot: &ModelSnapshot, raw: &[f64], outputs: &[f64], wish: Wish) -> Result<Self, UnusableOutput>;

    /// What stands in for the score, with where it came from: for somebody without history, or after a failure.
    fn stand_in(snapshot: &ModelSnapshot, known: KnownLabels<'_>, why: StandIn) -> (Self, BaselineUsed);

    /// What stands in where no model is loaded: the answer that gives nobody precedence.
    const OF_NOBODY: Self;

    /// Names that a stand-in was looked up by and that no table has.
    fn unknown_names(snapshot: &ModelSnapshot, known: KnownLabels<'_>) -> SmallVec<[Warning; 2]>;

    /// What an output as the bundle serves it is in `UNIT`.
    fn in_unit(served: f64) -> f64;

    /// The score itself in `UNIT`.
    fn amount(&self) -> f64;

    /// The tier it puts its customer in, for tasks that have tiers.
    fn tier(&self) -> Option<Tier>;

    fn into_outcome(self) -> TaskScore;

    /// The score again; `None` when a model of this name has answered another task.
    fn from_outcome(outcome: TaskScore) -> Option<Self>;
}

/// A score of any task, as caches and files hold it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TaskScore {
    Clv(Estimate),
    Lead(LeadScore),
}

impl TaskScore {
    /// What drift is counted by, and the estimate that outcomes are held against.
    pub(super) fn watched(&self) -> (f64, Option<&Estimate>) {
        match self {
            Self::Clv(estimate) => (estimate.value, Some(estimate)),
            Self::Lead(lead) => (lead.probability.get(), None),
        }
    }
}

/// What a score's explanation counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreUnit {
    /// US dollars.
    Usd,
    /// Percent of a probability.
    Points,
}

/// Why a baseline answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {
    ColdStart,
    Failure,
}

/// Scores raw rows (`rows × schema.len()`, row-major, `NaN` = missing) by the model's own task, to completion on this
/// thread.
///
/// # Errors
/// The outer error when the model could not run at all, the inner one for a row whose outputs are not numbers.
pub fn outcome_rows(
    snapshot: &ModelSnapshot,
    raw: &[f64],
    wish: Wish,
) -> Result<Vec<Result<TaskScore, UnusableOutput>>, BackendError> {
    let outputs = run_rows(snapshot, raw)?;
    let rows = raw.chunks_exact(snapshot.schema().len()).zip(outputs.chunks_exact(snapshot.engine().outputs().len()));
    let outcome = |(raw, outputs)| match snapshot.task() {
        Task::Clv => Estimate::of_outputs(snapshot, raw, outputs, wish).map(TaskScore::Clv),
        Task::Lead => LeadScore::of_outputs(snapshot, raw, outputs, wish).map(TaskScore::Lead),
    };
    Ok(rows.map(outcome).collect())
}

/// What a model of any task answers for somebody without history, with what there is to say about it.
pub fn cold_start(snapshot: &ModelSnapshot, known: KnownLabels<'_>) -> (TaskScore, SmallVec<[Warning; 2]>) {
    fn of<E: Score>(snapshot: &ModelSnapshot, known: KnownLabels<'_>) -> (TaskScore, SmallVec<[Warning; 2]>) {
        let (score, _) = E::stand_in(snapshot, known, StandIn::ColdStart);
        (score.into_outcome(), E::unknown_names(snapshot, known))
    }
    match snapshot.task() {
        Task::Clv => of::<Estimate>(snapshot, known),
        Task::Lead => of::<LeadScore>(snapshot, known),
    }
}

impl Score for Estimate {
    const TASK: Task = Task::Clv;
    const UNIT: ScoreUnit = ScoreUnit::Usd;
    const OF_NOBODY: Self =
        Self { value: 0.0, interval: None, risk: None, confidence: None, tier_probability: None, tier: Tier::Low };

    fn of_outputs(snapshot: &ModelSnapshot, raw: &[f64], outputs: &[f64], wish: Wish) -> Result<Self, UnusableOutput> {
        estimate(snapshot, raw, outputs, wish)
    }

    fn stand_in(snapshot: &ModelSnapshot, known: KnownLabels<'_>, why: StandIn) -> (Self, BaselineUsed) {
        let FoundBaseline { baseline, level, name } = match why {
            StandIn::ColdStart => baseline::cold_start(snapshot, known),
            StandIn::Failure => baseline::fallback(snapshot, known),
        };
        let (customers, weight) = (baseline.n, baseline.weight);
        let as_of = snapshot.manifest().baselines.as_of;
        let used = BaselineUsed { level: level.as_str(), name: name.to_owned(), customers, weight, as_of };
        (from_baseline(snapshot, baseline), used)
    }

    fn unknown_names(snapshot: &ModelSnapshot, known: KnownLabels<'_>) -> SmallVec<[Warning; 2]> {
        Warning::of_names(known, snapshot).collect()
    }

    /// As `estimate` serves it: nobody spends a negative amount.
    fn in_unit(served: f64) -> f64 {
        served.max(0.0)
    }

    fn amount(&self) -> f64 {
        self.value
    }

    fn tier(&self) -> Option<Tier> {
        Some(self.tier)
    }

    fn into_outcome(self) -> TaskScore {
        TaskScore::Clv(self)
    }

    fn from_outcome(outcome: TaskScore) -> Option<Self> {
        match outcome {
            TaskScore::Clv(estimate) => Some(estimate),
            TaskScore::Lead(_) => None,
        }
    }
}

impl Score for LeadScore {
    const TASK: Task = Task::Lead;
    const UNIT: ScoreUnit = ScoreUnit::Points;
    const OF_NOBODY: Self = Self { priority: 1, probability: Probability::ZERO };

    fn of_outputs(snapshot: &ModelSnapshot, _: &[f64], outputs: &[f64], _: Wish) -> Result<Self, UnusableOutput> {
        let said = snapshot.roles().value.of(outputs);
        let probability = probability("probability", said)?;
        let lead = snapshot.manifest().lead.as_ref();
        lead.map(|lead| lead.score(probability)).ok_or(UnusableOutput::NotANumber { output: "probability" })
    }

    /// A lead's source first, whatever the reason; then the base rate. Nobody knows the place of a lead without either,
    /// so it is called after every lead with a score.
    fn stand_in(snapshot: &ModelSnapshot, known: KnownLabels<'_>, _: StandIn) -> (Self, BaselineUsed) {
        let Some(lead) = snapshot.manifest().lead.as_ref() else {
            // A lead snapshot is not built without its table; the lowest place is the harmless answer.
            let used = BaselineUsed { level: NEUTRAL, name: String::new(), customers: 0, weight: 0.0, as_of: None };
            return (Self::OF_NOBODY, used);
        };
        if let Some((name, source)) = known.channel.and_then(|source| lead.sources.get_key_value(source)) {
            let (customers, weight) = (source.n, source.weight);
            let used = BaselineUsed { level: "lead_source", name: name.clone(), customers, weight, as_of: None };
            return (lead.score(source.probability), used);
        }
        let used = BaselineUsed { level: NEUTRAL, name: String::new(), customers: lead.rows, weight: 1.0, as_of: None };
        (Self { probability: lead.base_rate, ..Self::OF_NOBODY }, used)
    }

    fn unknown_names(snapshot: &ModelSnapshot, known: KnownLabels<'_>) -> SmallVec<[Warning; 2]> {
        let sources = snapshot.manifest().lead.as_ref().map(|lead| &lead.sources);
        let is_unknown = |source: &&str| sources.is_some_and(|sources| !sources.contains_key(*source));
        known.channel.filter(is_unknown).map(|_| Warning::UnknownLeadSource).into_iter().collect()
    }

    fn in_unit(served: f64) -> f64 {
        100.0 * served.clamp(0.0, 1.0)
    }

    fn amount(&self) -> f64 {
        100.0 * self.probability.get()
    }

    fn tier(&self) -> Option<Tier> {
        None
    }

    fn into_outcome(self) -> TaskScore {
        TaskScore::Lead(self)
    }

    fn from_outcome(outcome: TaskScore) -> Option<Self> {
        match outcome {
            TaskScore::Lead(score) => Some(score),
            TaskScore::Clv(_) => None,
        }
    }
}
