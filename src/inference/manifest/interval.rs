//! `[interval]`: what the server needs to put a prediction interval around a value.

use serde::{Deserialize, Serialize};

use crate::domain::Probability;

/// Split-conformal calibration, Mondrian by activity group: quantiles of a score that says how far an outcome lies from
/// its prediction, over customers that were not used for fitting (Romano, Patterson & Candes 2019; Bostrom et al. 2021).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    pub method: CalibrationMethod,
    /// The level that is answered unless a request asks for another, e.g. 0.9; one of `levels`.
    pub level: f64,
    /// All calibrated levels, ascending.
    pub levels: Vec<f64>,
    /// US dollars added to the prediction in the scale of a residual, so that small predictions keep a width.
    #[serde(default)]
    pub offset: f64,
    /// The scale of a residual is `(f + offset)^power`.
    #[serde(default = "default_power")]
    pub power: f64,
    /// The feature whose value picks the group; a customer without it falls in the `unknown` row.
    pub group_by: String,
    /// Features that must be given too, or the customer falls in the `unknown` row: without them the model answers
    /// from another part of itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_with: Vec<String>,
    /// At and above this probability of no purchase the lower bound is 0 and the upper bound one-sided.
    #[serde(default = "default_one_sided_risk")]
    pub one_sided_risk: f64,
    /// Over all calibration customers; used when a group has fewer than 100 of them.
    pub pooled: CalibrationGroup,
    /// Customers whose `group_by` feature is not given, calibrated on what the model says without it; `pooled` where
    /// this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<CalibrationGroup>,
    /// Ascending by `from`.
    pub groups: Vec<CalibrationGroup>,
}

fn default_power() -> f64 {
    1.0
}

fn default_one_sided_risk() -> f64 {
    0.05
}

/// What the score of a customer with outcome `y` and prediction `f` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// `(y - f) / (f + offset)^power`: for any model that gives a value.
    ScaledResidual,
    /// `F(y)`, the model's own predictive distribution at the outcome: for a model with `risk`, `log_mean` and
    /// `log_sigma` (Chernozhukov, Wuthrich & Zhu 2021).
    Distribution,
}

/// One group's score quantiles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationGroup {
    /// The group starts at this value of `group_by` and ends below the next group's.
    pub from: f64,
    /// Calibration customers in the group.
    pub n: u32,
    /// For each level the score at rank ceil((n + 1) × level): the one-sided upper bound.
    pub upper: Vec<f64>,
    /// For each level the scores at the two-sided ranks, (1 - level) / 2 on either side.
    pub two_sided: Vec<[f64; 2]>,
    /// Share of the group without any purchase.
    pub zero_share: Probability,
    /// Scaled residuals at equally spaced ranks, ascending: the group's predictive distribution for models that give
    /// only a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residuals: Vec<f64>,
}

impl Calibration {
    /// Where a level stands in `levels`, if it was calibrated.
    pub fn position(&self, level: f64) -> Option<usize> {
        self.levels.iter().position(|calibrated| (calibrated - level).abs() < 1e-9)
    }

    /// The scale of a residual around the prediction `value`, US dollars for a power of 1.
    pub fn scale(&self, value: f64) -> f64 {
        let base = value + self.offset;
        if self.power == 1.0 { base } else { base.powf(self.power) }
    }

    /// # Errors
    /// The key and what is wrong with it.
    pub(in crate::inference) fn check(&self) -> Result<(), (&'static str, String)> {
        let within = |level: &f64| (0.0..1.0).contains(level) && *level > 0.0;
        if self.levels.is_empty() || !self.levels.iter().all(within) || !self.levels.is_sorted_by(|a, b| a < b) {
            return Err(("interval.levels", "must be ascending, between 0 and 1 and not empty".into()));
        }
        if self.position(self.level).is_none() {
            return Err(("interval.level", format!("must be one of `interval.levels`, got `{}`", self.level)));
        }
        if self.method == CalibrationMethod::ScaledResidual && !(self.offset.is_finite() && self.offset > 0.0) {
            return Err(("interval.offset", format!("must be > 0, got `{}`", self.offset)));
        }
        if !(self.power.is_finite() && self.power > 0.0) {
            return Err(("interval.power", format!("must be > 0, got `{}`", self.power)));
        }
        if !self.groups.is_sorted_by(|a, b| a.from < b.from) {
            return Err(("interval.groups", "must be ascending by `from`, without repeats".into()));
        }
        for group in self.groups.iter().chain([&self.pooled]).chain(&self.unknown) {
            if group.upper.len() != self.levels.len() || group.two_sided.len() != self.levels.len() {
                let problem = format!("group from {} must have one `upper` and `two_sided` for each level", group.from);
                return Err(("interval.groups", problem));
            }
            let finite = group.upper.iter().chain(group.two_sided.iter().flatten()).all(|score| score.is_finite());
            // A wider level must not be a narrower interval.
            let nested = group.upper.is_sorted()
                && group.two_sided.is_sorted_by(|inner, outer| outer[0] <= inner[0] && inner[1] <= outer[1]);
            let ordered = group.two_sided.iter().all(|[low, high]| low <= high);
            if !finite || !nested || !ordered || !group.residuals.is_sorted() {
                return Err(("interval.groups", format!("group from {} has quantiles out of order", group.from)));
            }
        }
        Ok(())
    }
}
