//! What a report shows, as plain data: filled by whoever trained, drawn by the rest of this module.

use scoreline_engine::inference::manifest::Luck;

use crate::packing::html::svg::Unit;
use crate::packing::leaks::LeakReport;

/// A whole report. What is empty or `None` is left out.
#[derive(Clone, Debug, Default)]
pub struct ReportData {
    /// Model and version, e.g. `clv v1.2`.
    pub title: String,
    /// One sentence below it.
    pub description: String,
    /// What the numbers are not, e.g. which part of the data is simulated.
    pub caution: String,
    /// Label and value: command, data, seed, rows, dates.
    pub facts: Vec<(String, String)>,
    pub headline: Vec<Figure>,
    /// The version that this one would take over from.
    pub before: Option<Predecessor>,
    pub gain: Option<Gain>,
    pub deciles: Vec<Decile>,
    /// One for each level.
    pub coverage: Vec<Coverage>,
    /// Risk, confidence, or the probability of a lead.
    pub reliability: Vec<Reliability>,
    pub importance: Option<Importance>,
    pub histograms: Vec<Histogram>,
    /// A figure over blocks of time.
    pub over_time: Vec<OverTime>,
    pub tiers: Option<Confusion>,
    /// Baselines, models compared with, and whatever else is best read as a table.
    pub tables: Vec<Table>,
    pub drift: Vec<Drift>,
    pub leaks: Option<LeakReport>,
}

/// A measured figure and the goal it is held against.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: Unit,
    pub goal: Option<Goal>,
    /// What a perfect model shows on the same rows.
    pub luck: Option<Luck>,
}

/// Another version of the model, with the figures that both have.
#[derive(Clone, Debug, PartialEq)]
pub struct Predecessor {
    /// Model and version.
    pub name: String,
    pub figures: Vec<ComparedFigure>,
}

/// A figure of this version and of the one before.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedFigure {
    pub figure: Figure,
    pub before: f64,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    Between(f64, f64),
}

/// Share of everything that comes with the best part of the customers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gain {
    /// What is cumulated, e.g. `spend` or `sales`.
    pub of: String,
    /// Share of customers, best first, and the share of the outcome they bring; from (0, 0) to (1, 1).
    pub model: Vec<[f64; 2]>,
    /// The same in the order of the outcomes themselves.
    pub perfect: Vec<[f64; 2]>,
}

/// A tenth of the customers by prediction, the lowest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decile {
    pub n: usize,
    pub predicted: f64,
    pub actual: f64,
    /// Where the actual mean may lie (90 % of bootstrap samples).
    pub low: f64,
    pub high: f64,
}

/// How often intervals of one level held their outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Coverage {
    pub level: f64,
    pub groups: Vec<Covered>,
    /// Where the whole should lie, and the least of every group, where goals are set.
    pub band: Option<[f64; 2]>,
    pub least: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Covered {
    pub label: String,
    pub n: usize,
    pub inside: usize,
}

/// Probabilities against what happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Reliability {
    pub title: String,
    /// What the probability is of, e.g. `no purchase`.
    pub event: String,
    pub bins: Vec<ReliabilityBin>,
    /// Expected calibration error.
    pub error: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReliabilityBin {
    pub n: usize,
    /// Mean probability.
    pub said: f64,
    pub happened: usize,
}

/// How far features move what a model answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// What is on the axis.
    pub axis: String,
    pub unit: Unit,
    /// How many were looked at.
    pub rows: usize,
    /// The mean absolute contribution of each, the largest first.
    pub features: Vec<(String, f64)>,
}

/// Shares of rows between edges.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub title: String,
    /// What is on the horizontal axis.
    pub axis: String,
    pub unit: Unit,
    /// One more than there are shares.
    pub edges: Vec<f64>,
    pub shares: Vec<f64>,
    /// Share above the last edge.
    pub above: f64,
    pub note: String,
}

/// A figure of each block of time, the oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct OverTime {
    pub title: String,
    pub axis: String,
    pub unit: Unit,
    pub blocks: Vec<String>,
    /// A line each: name and a value for each block, `NaN` where there is none.
    pub lines: Vec<(String, Vec<f64>)>,
    pub note: String,
}

/// Rows: what was assigned. Columns: what was realised.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    pub names: Vec<String>,
    pub counts: Vec<Vec<usize>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub title: String,
    pub note: String,
    pub header: Vec<String>,
    /// The first cell is the row's name.
    pub rows: Vec<Vec<String>>,
}

/// The reference distribution a feature is later compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    pub feature: String,
    pub unit: String,
    /// Upper edges of all bins but the last.
    pub edges: Vec<f64>,
    /// One more than there are edges.
    pub shares: Vec<f64>,
    /// Share of rows without a value.
    pub missing: f64,
}

impl Goal {
    pub(crate) fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::Between(low, high) => (low..=high).contains(&value),
        }
    }
}

impl ComparedFigure {
    /// Whether this version is nearer to the goal than the one before; `None` without a goal, and when both are as near.
    pub(crate) fn is_better(&self) -> Option<bool> {
        let distance = |value: f64| match self.figure.goal? {
            Goal::AtLeast(_) => Some(-value),
            Goal::AtMost(_) => Some(value),
            Goal::Between(low, high) => Some((value - f64::midpoint(low, high)).abs()),
        };
        let (now, before) = (distance(self.figure.value)?, distance(self.before)?);
        (now != before).then_some(now < before)
    }
}

impl Confusion {
    pub fn total(&self) -> usize {
        self.counts.iter().flatten().sum()
    }
}
