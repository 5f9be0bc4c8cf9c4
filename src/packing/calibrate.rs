//! Conformal calibration: how far outcomes of customers who did not fit the model lie from its predictions, by activity
//! group; and from the same customers how firmly a tier is held.

use anyhow::Context as _;
use scoreline_domain::Probability;
use scoreline_engine::inference::manifest::{
    Band, Calibration, CalibrationGroup, CalibrationMethod, Hysteresis, LogOdds, TierThresholds,
};

use crate::packing::logit;
use crate::packing::statistics::round;
use crate::scoring::predictive::HurdleLogNormal;

/// US dollars added to the prediction in the scale.
pub(crate) const OFFSET_USD: f64 = 1.0;

/// Levels a request may ask for, and the one that is answered by default.
pub(crate) const LEVELS: [f64; 4] = [0.5, 0.8, 0.9, 0.95];
pub const LEVEL: f64 = 0.9;

/// At and above this probability of no purchase the interval is one-sided from 0.
pub(crate) const ONE_SIDED_RISK: f64 = 0.05;

/// Odds by which a customer must be likelier past a limit than one exactly at it, before the tier changes.
const ODDS_TO_MOVE: f64 = 1.5;

/// Points of a stored residual distribution.
const GRID: usize = 101;

/// More of the tail than there is: the value itself is the upper bound.
const EVERYTHING: f64 = 1000.0;

/// Which feature picks the group, and where the groups start.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    pub feature: String,
    /// Features without which the model answers from another part of itself.
    pub with: Vec<String>,
    pub starts: Vec<f64>,
    /// Of each group, the prediction in US dollars it starts at, where several start at the same place; 0 where none is
    /// given.
    pub value_starts: Vec<f64>,
    /// Of each group, which share of the misses that a level allows it is calibrated to; 1 where none is given.
    pub miss_factors: Vec<f64>,
    /// Whether a group without customers is left out. It is an error otherwise.
    pub may_be_empty: bool,
}

impl Grouping {
    /// Groups by a feature: where each starts, from which prediction, and its share of the allowed misses.
    pub fn of(feature: &str, groups: &[(f64, f64, f64)]) -> Self {
        Self {
            feature: feature.to_owned(),
            with: Vec::new(),
            starts: groups.iter().map(|(start, _, _)| *start).collect(),
            value_starts: groups.iter().map(|(_, value, _)| *value).collect(),
            miss_factors: groups.iter().map(|(_, _, factor)| *factor).collect(),
            may_be_empty: false,
        }
    }

    /// The groups of a calibration, as far as other customers are in them.
    pub(crate) fn again(calibration: &Calibration) -> Self {
        Self {
            feature: calibration.group_by.clone(),
            with: calibration.group_with.clone(),
            starts: calibration.groups.iter().map(|group| group.from).collect(),
            value_starts: calibration.groups.iter().map(|group| group.value_from).collect(),
            miss_factors: calibration.groups.iter().map(|group| group.miss_factor).collect(),
            may_be_empty: true,
        }
    }

    fn value_start(&self, group: usize) -> f64 {
        self.value_starts.get(group).copied().unwrap_or(0.0)
    }

    /// The values of the feature and of the prediction that a group holds.
    fn holds(&self, group: usize) -> impl Fn(f64, f64) -> bool {
        let (from, value_from) = (self.starts[group], self.value_start(group));
        let next = (group + 1 < self.starts.len()).then(|| (self.starts[group + 1], self.value_start(group + 1)));
        let to = self.starts.iter().copied().find(|start| *start > from).unwrap_or(f64::INFINITY);
        let value_to = next.filter(|(start, _)| *start == from).map_or(f64::INFINITY, |(_, value)| value);
        let is_first = group == 0 || self.starts[group - 1] < from;
        move |at: f64, value: f64| (from..to).contains(&at) && value < value_to && (is_first || value >= value_from)
    }
}

/// A prediction beside its outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    pub value: f64,
    pub risk: Option<f64>,
    /// Mean and standard deviation of ln(spend) given any.
    pub shape: Option<(f64, f64)>,
    pub spend_usd: f64,
    /// Raw value of the grouping feature; `NaN` is missing.
    pub group_value: f64,
}

impl Scored {
    fn hurdle(&self) -> Option<HurdleLogNormal> {
        let (mean, sigma) = self.shape?;
        Some(HurdleLogNormal { zero: self.risk?, mean, sigma })
    }

    fn is_one_sided(&self) -> bool {
        self.risk.is_none_or(|risk| risk >= ONE_SIDED_RISK)
    }
}

/// Calibrates on customers that did not fit the model. `unknown` are the same customers as a caller describes them who
/// does not know the grouping feature; empty when there are no such callers.
pub fn calibrate(rows: &[Scored], unknown: &[Scored], grouping: &Grouping) -> anyhow::Result<Calibration> {
    let method = if rows.iter().chain(unknown).all(|row| row.hurdle().is_some()) {
        CalibrationMethod::Distribution
    } else {
        CalibrationMethod::ScaledResidual
    };
    let groups = grouping.starts.iter().enumerate().map(|(i, from)| {
        let holds = grouping.holds(i);
        let members: Vec<_> = rows.iter().filter(|row| holds(row.group_value, row.value)).copied().collect();
        (i, *from, members)
    });
    let groups = groups.filter(|(_, _, members)| !(grouping.may_be_empty && members.is_empty()));
    let groups = groups.map(|(i, from, members)| {
        let group = group(method, from, grouping.miss_factors.get(i).copied().unwrap_or(1.0), &members)?;
        Ok::<_, anyhow::Error>(CalibrationGroup { value_from: grouping.value_start(i), ..group })
    });
    let groups: Vec<_> = groups.collect::<Result<_, _>>()?;
    let lowest = grouping.starts.first().copied().unwrap_or(0.0);
    Ok(Calibration {
        method,
        level: LEVEL,
        levels: LEVELS.to_vec(),
        offset: OFFSET_USD,
        power: 1.0,
        group_by: grouping.feature.clone(),
        group_with: grouping.with.clone(),
        one_sided_risk: ONE_SIDED_RISK,
        pooled: group(method, lowest, 1.0, rows)?,
        unknown: if unknown.is_empty() { None } else { Some(group(method, lowest, 1.0, unknown)?) },
        groups,
    })
}

fn group(method: CalibrationMethod, from: f64, miss_factor: f64, rows: &[Scored]) -> anyhow::Result<CalibrationGroup> {
    anyhow::ensure!(!rows.is_empty(), "no calibration customer in the group from {from}");
    let zero = rows.iter().filter(|row| row.spend_usd <= 0.0).count() as f64 / rows.len() as f64;
    let mut group = CalibrationGroup {
        from,
        value_from: 0.0,
        n: u32::try_from(rows.len())?,
        miss_factor,
        upper: Vec::new(),
        two_sided: Vec::new(),
        extra: Vec::new(),
        zero_share: Probability::clamped(round(zero)).context("a share of a non-empty group is a number")?,
        residuals: Vec::new(),
    };
    match method {
        CalibrationMethod::Distribution => group.extra = extra(rows, miss_factor),
        CalibrationMethod::ScaledResidual => {
            let mut residuals: Vec<f64> =
                rows.iter().map(|row| (row.spend_usd - row.value) / (row.value + OFFSET_USD)).collect();
            residuals.sort_unstable_by(f64::total_cmp);
            for level in LEVELS {
                let misses = miss_factor * (1.0 - level);
                // A value that is not reached is inside: the one-sided interval starts at 0.
                group.upper.push(round(upper_rank(&residuals, 1.0 - misses).max(0.0)));
                let low = lower_rank(&residuals, misses / 2.0);
                let high = upper_rank(&residuals, 1.0 - misses / 2.0);
                group.two_sided.push([round(low), round(high)]);
            }
            group.residuals = (0..GRID)
                .map(|k| {
                    let position = (k * (residuals.len() - 1)) as f64 / (GRID - 1) as f64;
                    round(residuals[position.round() as usize])
                })
                .collect();
            // Equal neighbours say nothing that one of them does not.
            group.residuals.dedup();
        }
    }
    Ok(group)
}

/// For each level the number with which the rule of `CalibrationMethod::Distribution` covers the group: the largest
/// one with which customers to the rank ceil((n + 1) × (1 - misses)) are inside.
fn extra(rows: &[Scored], miss_factor: f64) -> Vec<f64> {
    let mut found: Vec<f64> = Vec::with_capacity(LEVELS.len());
    for level in LEVELS {
        let allowed = (1.0 - level) / 2.0;
        // The `extra` at which a customer's outcome is exactly at the bound, negated so that larger means further out.
        let mut scores: Vec<f64> = rows
            .iter()
            .map(|row| {
                let Some(hurdle) = row.hurdle() else { return f64::NEG_INFINITY };
                let scale = row.value + OFFSET_USD;
                let below = hurdle.at(row.spend_usd);
                if row.spend_usd > row.value {
                    (allowed - (1.0 - below)) * scale
                } else if row.spend_usd < row.value && !row.is_one_sided() {
                    (allowed - below) * scale
                } else {
                    f64::NEG_INFINITY
                }
            })
            .collect();
        scores.sort_unstable_by(f64::total_cmp);
        let least = -upper_rank(&scores, 1.0 - miss_factor * (1.0 - level));
        // Never narrower than the level before.
        let wider = found.last().copied().unwrap_or(EVERYTHING);
        // Rounded down: the bound must not fall short of the customer it was made from.
        found.push((least.min(wider) * 1e6).floor() / 1e6);
    }
    found
}

/// The element at rank ceil((n + 1) × level): at least `level` of future scores are at or below it.
pub(crate) fn upper_rank(sorted: &[f64], level: f64) -> f64 {
    // Without the nudge a level of 0.9 times 10 rows would round up over a rounding error.
    let rank = ((sorted.len() + 1) as f64 * level - 1e-9).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The element at rank floor((n + 1) × tail): at most `tail` of future scores are below it.
fn lower_rank(sorted: &[f64], tail: f64) -> f64 {
    let rank = ((sorted.len() + 1) as f64 * tail + 1e-9).floor() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// How firmly a tier is held: a customer rises where the odds of ending above the limit are 1.5 times those of a customer
/// exactly at it, and falls where they are 1.5 times smaller. `None` where the outcomes do not say.
///
/// The odds are set against those at the limit, not against even ones: a limit on the expected value is passed by less
/// than half of the customers who stand on it, so that "likelier than not" would let customers fall but hardly rise.
pub(crate) fn hysteresis(rows: &[Scored], limits: TierThresholds) -> Option<Hysteresis> {
    let logs: Vec<f64> = rows.iter().map(|row| row.value.max(1e-3).ln()).collect();
    let band = |limit: f64| {
        let above: Vec<bool> = rows.iter().map(|row| row.spend_usd >= limit).collect();
        let line = logit::fit(&logs, &above)?;
        let factor = ODDS_TO_MOVE.powf(1.0 / line.slope);
        Some(Band { fall: round(1.0 / factor), rise: round(factor) })
    };
    Some(Hysteresis { medium: band(limits.medium)?, high: band(limits.high)? })
}

/// Recalibrates P(spend < limit) on the log-odds scale. `None` where the outcomes do not determine how.
pub(crate) fn recalibration(rows: &[Scored], calibration: &Calibration, limit: f64) -> Option<LogOdds> {
    let below = rows.iter().map(|row| below(row, calibration, limit)).collect::<Option<Vec<f64>>>()?;
    let uncertain = below.iter().zip(rows).filter(|(share, _)| (1e-9..1.0 - 1e-9).contains(*share));
    let (odds, happened): (Vec<f64>, Vec<bool>) =
        uncertain.map(|(share, row)| ((share / (1.0 - share)).ln(), row.spend_usd < limit)).unzip();
    if odds.is_empty() {
        return None;
    }
    let line = logit::fit(&odds, &happened)?;
    Some(LogOdds { intercept: round(line.intercept), slope: round(line.slope) })
}

/// P(spend < limit) as the server computes it from a bundle with this calibration.
fn below(row: &Scored, calibration: &Calibration, limit: f64) -> Option<f64> {
    if let Some(hurdle) = row.hurdle() {
        return Some(hurdle.below(limit));
    }
    let group = calibration.group(row.group_value, row.value);
    crate::scoring::predictive::share_below(&group.residuals, (limit - row.value) / calibration.scale(row.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(value: f64, spend_usd: f64, group_value: f64) -> Scored {
        Scored { value, risk: None, shape: None, spend_usd, group_value }
    }

    fn grouping(starts: &[f64]) -> Grouping {
        Grouping {
            feature: "purchase_count".into(),
            with: Vec::new(),
            starts: starts.to_vec(),
            value_starts: Vec::new(),
            miss_factors: Vec::new(),
            may_be_empty: false,
        }
    }

    #[test]
    fn ranks_are_those_of_split_conformal_prediction() {
        let sorted: Vec<f64> = (1..=99).map(f64::from).collect();
        assert_eq!(upper_rank(&sorted, 0.9), 90.0);
        assert_eq!(lower_rank(&sorted, 0.05), 5.0);
        assert_eq!(upper_rank(&sorted, 0.95), 95.0);
        assert_eq!(upper_rank(&[1.0, 2.0], 0.9), 2.0, "too few rows: the largest");
        assert_eq!(lower_rank(&[1.0, 2.0], 0.05), 1.0);
    }

    #[test]
    fn residuals_are_scaled_and_grouped() {
        let rows = [scored(4.0, 0.0, 1.0), scored(4.0, 9.0, 1.0), scored(14.0, 29.0, 2.0), scored(14.0, 14.0, 9.0)];
        let found = calibrate(&rows, &rows[..2], &grouping(&[1.0, 2.0])).expect("calibrates");
        assert_eq!(found.method, CalibrationMethod::ScaledResidual);
        assert_eq!(found.pooled.n, 4);
        assert_eq!(found.unknown.map(|unknown| unknown.n), Some(2));
        assert_eq!(found.groups.iter().map(|group| group.n).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(found.groups[0].residuals, [-0.8, 1.0]);
        assert_eq!(found.groups[0].upper, [1.0, 1.0, 1.0, 1.0]);
        assert_eq!(found.groups[0].zero_share.get(), 0.5);
        assert_eq!(found.groups[1].two_sided, [[0.0, 1.0]; 4]);
        let nobody = grouping(&[1.0, 2.0, 100.0]);
        assert!(calibrate(&rows, &[], &nobody).is_err());
        let again = calibrate(&rows, &[], &Grouping { may_be_empty: true, ..nobody }).expect("calibrates");
        assert_eq!(again.groups.iter().map(|group| group.from).collect::<Vec<_>>(), [1.0, 2.0]);
    }

    /// Customers whose outcome is drawn from exactly the distribution that is said of them.
    fn honest(n: u32) -> Vec<Scored> {
        let uniform = |i: u32, salt: u64| crate::packing::split::mix(u64::from(i) ^ salt) as f64 / u64::MAX as f64;
        (0..n)
            .map(|i| {
                let hurdle =
                    HurdleLogNormal { zero: 0.3 + 0.5 * uniform(i, 1), mean: 2.0 + 2.0 * uniform(i, 2), sigma: 1.0 };
                let value = (1.0 - hurdle.zero) * (hurdle.mean + 0.5).exp();
                Scored {
                    value,
                    risk: Some(hurdle.zero),
                    shape: Some((hurdle.mean, hurdle.sigma)),
                    spend_usd: hurdle.quantile(uniform(i, 3)),
                    group_value: 1.0 + f64::from(i % 3),
                }
            })
            .collect()
    }

    #[test]
    fn the_distribution_method_covers_each_group_as_asked() {
        let rows = honest(6000);
        let grouping = Grouping { miss_factors: vec![1.0, 0.5], ..grouping(&[1.0, 3.0]) };
        let found = calibrate(&rows, &[], &grouping).expect("calibrates");
        assert_eq!(found.method, CalibrationMethod::Distribution);
        for (group, wanted) in found.groups.iter().zip([0.9, 0.95]) {
            let members = rows.iter().filter(|row| (row.group_value >= 3.0) == (group.from >= 3.0));
            let inside = members.clone().filter(|row| {
                let tail = (0.05 + group.extra[2] / (row.value + OFFSET_USD)).clamp(1e-9, 1.0);
                let high = row.hurdle().expect("a distribution").exceeded_with(tail).max(row.value);
                row.spend_usd <= high
            });
            let share = inside.count() as f64 / members.count() as f64;
            // Not less; more where a level may not be narrower than the one before.
            assert!((wanted - 0.002..wanted + 0.02).contains(&share), "{share} of the group from {}", group.from);
        }
    }

    #[test]
    fn honest_probabilities_need_no_recalibration() {
        let rows = honest(20_000);
        let calibration = calibrate(&rows, &[], &grouping(&[1.0])).expect("calibrates");
        let odds = recalibration(&rows, &calibration, 20.0).expect("determined");
        assert!(odds.intercept.abs() < 0.1 && (odds.slope - 1.0).abs() < 0.06, "{odds:?}");
        let band = hysteresis(&rows, TierThresholds { medium: 5.0, high: 20.0 }).expect("determined");
        for band in [band.medium, band.high] {
            assert!(band.fall < 1.0 && band.rise > 1.0 && (band.fall * band.rise - 1.0).abs() < 1e-6, "{band:?}");
        }
    }
}
