//! `[interval]`: what the server needs to put a prediction interval around a value.

use serde::{Deserialize, Serialize};

use scoreline_domain::Probability;

/// Conformal calibration, Mondrian by activity group: how far outcomes lie from predictions, over customers whose
/// prediction comes from a model that was not fitted on them (Romano, Patterson & Candes 2019; Bostrom et al. 2021).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    pub method: CalibrationMethod,
    /// The level that is answered unless a request asks for another, e.g. 0.9; one of `levels`.
    pub level: f64,
    /// All calibrated levels, ascending.
    pub levels: Vec<f64>,
    /// US dollars added to the prediction in the scale, so that small predictions keep a width.
    pub offset: f64,
    /// The scale around the prediction f is `(f + offset)^power`.
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
    /// Ascending by `from`, then by `value_from`.
    pub groups: Vec<CalibrationGroup>,
}

fn default_power() -> f64 {
    1.0
}

fn default_one_sided_risk() -> f64 {
    0.05
}

/// How a group's numbers become bounds around the prediction `f` of a customer whose outcome is `y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// Quantiles of `(y - f) / (f + offset)^power`: for any model that gives a value.
    ScaledResidual,
    /// The model's own predictive distribution F, for a model with `risk`, `log_mean` and `log_sigma`: the upper bound
    /// leaves a share of `(1 - level) / 2 + extra / (f + offset)^power` above it. The interval score is in dollars
    /// and coverage counts customers, so that what may be missed is missed where dollars are few (distributional
    /// conformal prediction, Chernozhukov, Wuthrich & Zhu 2021, with a level that depends on the prediction).
    Distribution,
}

/// One group's calibration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationGroup {
    /// The group starts at this value of `group_by` and ends below the next group's.
    pub from: f64,
    /// Of several groups that start at the same place, this one is for predictions from so many US dollars on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value_from: f64,
    /// Calibration customers in the group.
    pub n: u32,
    /// The group is calibrated to miss this share of what the level allows: 0.6 at level 0.9 covers 94 %.
    #[serde(default = "default_miss_factor", skip_serializing_if = "is_default_miss_factor")]
    pub miss_factor: f64,
    /// Of `scaled_residual`: for each level the residual that is the one-sided upper bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upper: Vec<f64>,
    /// Of `scaled_residual`: for each level the residuals with half of the allowed misses on either side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub two_sided: Vec<[f64; 2]>,
    /// Of `distribution`: for each level the extra share above the upper bound, times the scale.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<f64>,
    /// Share of the group without any purchase.
    pub zero_share: Probability,
    /// Scaled residuals at equally spaced ranks, ascending: the group's predictive distribution for models that give
    /// only a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residuals: Vec<f64>,
}

fn default_miss_factor() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_default_miss_factor(factor: &f64) -> bool {
    *factor == 1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(from: &f64) -> bool {
    *from == 0.0
}

impl Calibration {
    /// The group of a customer whose `group_by` feature is `group_value` and whose prediction is `value`: the row for
    /// unknown values when the first is not a number, the pooled row when it is below the first group.
    pub fn group(&self, group_value: f64, value: f64) -> &CalibrationGroup {
        if group_value.is_nan() {
            return self.unknown.as_ref().unwrap_or(&self.pooled);
        }
        let count = self.groups.partition_point(|group| group.from <= group_value);
        let Some(last) = count.checked_sub(1).map(|last| self.groups[last].from) else { return &self.pooled };
        let alike = self.groups[..count].iter().rev().take_while(|group| group.from == last);
        let at_or_below = alike.clone().find(|group| group.value_from <= value);
        at_or_below.or_else(|| alike.last()).unwrap_or(&self.pooled)
    }

    /// Where a level stands in `levels`, if it was calibrated.
    pub fn position(&self, level: f64) -> Option<usize> {
        self.levels.iter().position(|calibrated| (calibrated - level).abs() < 1e-9)
    }

    /// The scale around the prediction `value`, US dollars for a power of 1.
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
        if !(self.offset.is_finite() && self.offset > 0.0) {
            return Err(("interval.offset", format!("must be > 0, got `{}`", self.offset)));
        }
        if !(self.power.is_finite() && self.power > 0.0) {
            return Err(("interval.power", format!("must be > 0, got `{}`", self.power)));
        }
        if !self.groups.is_sorted_by(|a, b| (a.from, a.value_from) < (b.from, b.value_from)) {
            return Err(("interval.groups", "must be ascending by `from`, then `value_from`, without repeats".into()));
        }
        let groups = self.groups.iter().chain([&self.pooled]).chain(&self.unknown);
        groups.into_iter().try_for_each(|group| {
            let problem = group.problem(self.method, self.levels.len());
            problem.map_or(Ok(()), |problem| Err(("interval.groups", format!("group from {} {problem}", group.from))))
        })
    }
}

impl CalibrationGroup {
    /// A wider level must not be a narrower interval.
    fn problem(&self, method: CalibrationMethod, levels: usize) -> Option<String> {
        let (lengths, names) = match method {
            CalibrationMethod::ScaledResidual => (vec![self.upper.len(), self.two_sided.len()], "`upper`, `two_sided`"),
            CalibrationMethod::Distribution => (vec![self.extra.len()], "`extra`"),
        };
        if lengths.iter().any(|length| *length != levels) {
            return Some(format!("must have one entry of {names} for each level"));
        }
        let numbers = self.upper.iter().chain(self.two_sided.iter().flatten()).chain(&self.extra);
        let nested = self.upper.is_sorted()
            && self.two_sided.is_sorted_by(|inner, outer| outer[0] <= inner[0] && inner[1] <= outer[1])
            && self.extra.is_sorted_by(|inner, outer| outer <= inner);
        let ordered = self.two_sided.iter().all(|[low, high]| low <= high) && self.residuals.is_sorted();
        let finite = numbers.into_iter().all(|number| number.is_finite());
        (!(finite && nested && ordered)).then(|| "has numbers out of order".to_owned())
    }
}
