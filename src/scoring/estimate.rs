//! From a model's raw outputs to a score: value, interval, risk, confidence and tier. Pure functions of one snapshot.
//!
//! * Interval: split conformal on scaled residuals, Mondrian by activity group (Romano, Patterson & Candes 2019;
//!   Bostrom, Johansson & Lofstrom 2021). One-sided from 0 where no purchase is likely enough.
//! * Confidence: probability of the assigned tier under the predictive distribution, which is the model's own hurdle
//!   log-normal where it gives one, and the calibration residuals otherwise.

use crate::domain::{Estimate, Interval, Probability, Tier};
use crate::inference::BackendError;
use crate::inference::bundle::{ModelSnapshot, run_rows};
use crate::inference::manifest::{Calibration, CalibrationGroup};

/// Groups with fewer calibration customers than this use the pooled quantiles: the 90 % rank of a small sample is noise.
const SMALLEST_GROUP: u32 = 100;

/// The model gave something that is not a score.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("model output `{output}` is not a finite number")]
pub struct NotANumber {
    output: &'static str,
}

/// Scores raw rows (`rows × schema.len()`, row-major, `NaN` = missing) to completion on this thread.
///
/// # Errors
/// The outer error when the model could not run at all, the inner one for a row whose outputs are not numbers.
pub fn estimate_rows(snapshot: &ModelSnapshot, raw: &[f64]) -> Result<Vec<Result<Estimate, NotANumber>>, BackendError> {
    let outputs = run_rows(snapshot, raw)?;
    let rows = raw.chunks_exact(snapshot.schema().len());
    Ok(rows
        .zip(outputs.chunks_exact(snapshot.engine().outputs().len()))
        .map(|(raw, outputs)| estimate(snapshot, raw, outputs))
        .collect())
}

/// Turns one row's outputs into a score. `raw` is the customer's row before imputation, `outputs` what the model said.
pub fn estimate(snapshot: &ModelSnapshot, raw: &[f64], outputs: &[f64]) -> Result<Estimate, NotANumber> {
    let roles = snapshot.roles();
    let finite = |value: f64, output| if value.is_finite() { Ok(value) } else { Err(NotANumber { output }) };
    // Least-squares trees can dip below zero; nobody spends a negative amount.
    let value = finite(roles.value.of(outputs), "value")?.max(0.0);
    let calibration = snapshot.manifest().interval.as_ref();
    let group = calibration.map(|calibration| group_of(calibration, snapshot.group_value(raw)));
    let risk = match &roles.risk {
        Some(column) => Probability::clamped(finite(column.of(outputs), "risk")?),
        None => group.map(|group| group.zero_share),
    };
    let interval = match (calibration, group) {
        (Some(calibration), Some(group)) => conformal(calibration, group, value, risk),
        _ => match (&roles.low, &roles.high) {
            (Some(low), Some(high)) => {
                Interval::around(value, finite(low.of(outputs), "low")?, finite(high.of(outputs), "high")?)
            }
            _ => None,
        },
    };
    let tier = snapshot.tier_of(value);
    let range = snapshot.tier_range(tier);
    let confidence = match (&roles.log_mean, &roles.log_sigma, risk) {
        (Some(mean), Some(sigma), Some(risk)) => {
            let hurdle = HurdleLogNormal {
                zero: risk.get(),
                mean: finite(mean.of(outputs), "log_mean")?,
                sigma: finite(sigma.of(outputs), "log_sigma")?,
            };
            Probability::clamped(hurdle.below(range.1) - hurdle.below(range.0))
        }
        _ => calibration.zip(group).and_then(|(calibration, group)| {
            let residual = |limit: f64| (limit - value) / (value + calibration.offset);
            let share =
                share_below(&group.residuals, residual(range.1))? - share_below(&group.residuals, residual(range.0))?;
            Probability::clamped(share)
        }),
    };
    Ok(Estimate { value, interval, risk, confidence, tier })
}

/// The group that holds `value`: the row for unknown values when it is not a number, the pooled row when it is below the
/// first group or its group too small.
fn group_of(calibration: &Calibration, value: f64) -> &CalibrationGroup {
    let group = if value.is_nan() {
        calibration.unknown.as_ref()
    } else {
        let count = calibration.groups.partition_point(|group| group.from <= value);
        count.checked_sub(1).map(|last| &calibration.groups[last])
    };
    group.filter(|group| group.n >= SMALLEST_GROUP).unwrap_or(&calibration.pooled)
}

/// `residual = (y - f) / (f + offset)`, so a bound is `f + residual * (f + offset)`.
fn conformal(
    calibration: &Calibration,
    group: &CalibrationGroup,
    value: f64,
    risk: Option<Probability>,
) -> Option<Interval> {
    let scale = value + calibration.offset;
    if risk.is_none_or(|risk| risk.get() >= calibration.one_sided_risk) {
        Interval::around(value, 0.0, value + group.upper * scale)
    } else {
        let [low, high] = group.two_sided;
        Interval::around(value, value + low * scale, value + high * scale)
    }
}

/// Spend is 0 with probability `zero`, else log-normal.
struct HurdleLogNormal {
    zero: f64,
    mean: f64,
    sigma: f64,
}

impl HurdleLogNormal {
    /// P(spend < `limit`).
    fn below(&self, limit: f64) -> f64 {
        if limit <= 0.0 {
            0.0
        } else if limit == f64::INFINITY {
            1.0
        } else {
            self.zero + (1.0 - self.zero) * normal_cdf((limit.ln() - self.mean) / self.sigma.max(1e-9))
        }
    }
}

fn normal_cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

/// Share of a sorted sample below `limit`, linear between neighbouring points. `None` without a sample.
fn share_below(sorted: &[f64], limit: f64) -> Option<f64> {
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    if limit <= first {
        return Some(0.0);
    }
    if limit > last {
        return Some(1.0);
    }
    let upper = sorted.partition_point(|&residual| residual < limit);
    let (below, above) = (sorted[upper - 1], sorted[upper]);
    let part = (limit - below) / (above - below);
    Some(((upper - 1) as f64 + part) / (sorted.len() - 1) as f64)
}

/// A baseline as a score: its tier follows from its value, its confidence is at most one half.
pub fn from_baseline(snapshot: &ModelSnapshot, baseline: &crate::inference::manifest::Baseline) -> Estimate {
    let tier = snapshot.tier_of(baseline.value);
    let share = baseline.tier_share[Tier::ALL.iter().position(|t| *t == tier).unwrap_or_default()];
    Estimate {
        value: baseline.value,
        interval: Interval::around(baseline.value, baseline.low, baseline.high),
        risk: Some(baseline.risk),
        confidence: Probability::clamped(share.get().min(0.5)),
        tier,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(from: f64, n: u32, upper: f64) -> CalibrationGroup {
        CalibrationGroup {
            from,
            n,
            upper,
            two_sided: [-0.8, upper],
            zero_share: Probability::clamped(0.5).expect("a number"),
            residuals: vec![-1.0, 0.0, 1.0],
        }
    }

    fn calibration() -> Calibration {
        Calibration {
            method: crate::inference::manifest::CalibrationMethod::ScaledResidual,
            level: 0.9,
            offset: 5.0,
            group_by: "purchase_count".into(),
            group_with: Vec::new(),
            one_sided_risk: 0.05,
            pooled: group(f64::MIN, 1000, 2.0),
            unknown: None,
            groups: vec![group(1.0, 500, 1.0), group(2.0, 50, 9.0), group(4.0, 100, 3.0)],
        }
    }

    #[test]
    fn the_group_is_the_one_that_starts_at_or_below_the_value() {
        let calibration = calibration();
        let upper = |value| group_of(&calibration, value).upper;
        assert_eq!(upper(1.0), 1.0);
        assert_eq!(upper(2.5), 2.0, "fewer than 100 customers: pooled");
        assert_eq!(upper(40.0), 3.0);
        assert_eq!(upper(0.0), 2.0, "below the first group: pooled");
        assert_eq!(upper(f64::NAN), 2.0, "unknown and no row for it: pooled");
        let known = Calibration { unknown: Some(group(0.0, 500, 4.0)), ..calibration.clone() };
        assert_eq!(group_of(&known, f64::NAN).upper, 4.0);
        let small = Calibration { unknown: Some(group(0.0, 50, 4.0)), ..calibration.clone() };
        assert_eq!(group_of(&small, f64::NAN).upper, 2.0, "fewer than 100 customers: pooled");
    }

    #[test]
    fn bounds_are_one_sided_where_no_purchase_is_likely() {
        let calibration = calibration();
        let interval = |risk| {
            let bounds = conformal(&calibration, &calibration.groups[0], 15.0, Probability::clamped(risk));
            bounds.map(|bounds| (bounds.low(), bounds.high()))
        };
        assert_eq!(interval(0.05), Some((0.0, 35.0)), "15 + 1.0 * (15 + 5)");
        assert_eq!(interval(0.01), Some((0.0, 35.0)), "15 - 0.8 * 20 is below zero");
        let tight = CalibrationGroup { two_sided: [-0.5, 0.5], ..group(1.0, 500, 1.0) };
        let bounds = conformal(&calibration, &tight, 15.0, Probability::clamped(0.01)).expect("finite");
        assert_eq!((bounds.low(), bounds.high()), (5.0, 25.0));
    }

    #[test]
    fn the_hurdle_distribution_matches_hand_computed_points() {
        let hurdle = HurdleLogNormal { zero: 0.7, mean: 3.0, sigma: 1.0 };
        assert_eq!(hurdle.below(0.0), 0.0);
        assert!((hurdle.below(3.0_f64.exp()) - 0.85).abs() < 1e-12, "half of the buyers are below the median");
        assert!((hurdle.below(4.96_f64.exp()) - (0.7 + 0.3 * 0.975_002_104_851_779)).abs() < 1e-9);
        assert_eq!(hurdle.below(f64::INFINITY), 1.0);
    }

    proptest! {
        #[test]
        fn shares_are_monotone_and_within_bounds(mut sample in prop::collection::vec(-5.0..5.0f64, 2..40), a in -6.0..6.0f64, b in -6.0..6.0f64) {
            sample.sort_by(f64::total_cmp);
            sample.dedup();
            prop_assume!(sample.len() >= 2);
            let (low, high) = (a.min(b), a.max(b));
            let (below_low, below_high) = (share_below(&sample, low).expect("sample"), share_below(&sample, high).expect("sample"));
            prop_assert!((0.0..=1.0).contains(&below_low) && below_low <= below_high && below_high <= 1.0);
        }

        #[test]
        fn intervals_hold_their_value(value in 0.0..1e6f64, risk in 0.0..1.0f64, upper in -1.0..10.0f64, low in -1.0..0.5f64) {
            let calibration = calibration();
            let group = CalibrationGroup { upper, two_sided: [low, upper.max(low)], ..group(1.0, 500, upper) };
            let interval = conformal(&calibration, &group, value, Probability::clamped(risk)).expect("finite");
            prop_assert!(0.0 <= interval.low() && interval.low() <= value && value <= interval.high());
        }
    }
}
