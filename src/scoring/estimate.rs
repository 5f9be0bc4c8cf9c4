//! From a model's raw outputs to a score: value, interval, risk, confidence and tier. Pure functions of one snapshot.
//!
//! The outputs are read by the meaning that the bundle gives them, each with an optional last step and a rising
//! recalibration curve.
//!
//! * Interval: split conformal, Mondrian by activity group (Romano, Patterson & Candes 2019; Bostrom, Johansson &
//!   Lofstrom 2021). The bundle holds a few numbers for each group and level, from customers the model had not seen.
//!   `distribution` leaves (1 - level) / 2 + extra / (value + offset) of the model's own distribution above the upper
//!   bound. The extra is what the group's outcomes allow; a miss costs least where a customer's dollars are few.
//!   `scaled_residual` is for a plain point model. The lower bound is 0 where no purchase is likely enough.
//!   Wider levels hold narrower ones: bundles that break this are refused.
//! * Tier probability: of a spend within the assigned tier under the predictive distribution, which is the model's own
//!   hurdle log-normal where it gives one, and the calibration residuals otherwise; recalibrated where the bundle says how.
//! * Confidence: probability that the customer spends more than a random calibration customer of the tier below (lowest
//!   tier: less than one of the tier above), given that the two differ. Most of both spend nothing, and between equals
//!   there is no order to be wrong about: so Harrell's concordance counts pairs (Harrell et al. 1982). What an imputed
//!   or unseen feature takes away of the order draws it towards one half.
//! * Tier: by value; a customer whose tier is known keeps it inside the dead band of a limit. The band's edges are
//!   where the odds of ending past the limit are 1.5 times, or a 1.5th of, those of a customer exactly at it. Against
//!   even odds customers would fall but hardly rise, because less than half of those at a limit pass it.

use super::predictive::{HurdleLogNormal, share_below};
use scoreline_domain::{Estimate, Interval, Probability, Tier};
use scoreline_engine::inference::BackendError;
use scoreline_engine::inference::bundle::{ModelSnapshot, Roles, run_rows};
use scoreline_engine::inference::manifest::{Calibration, CalibrationGroup, CalibrationMethod, LogOdds, TierOutcome};

/// Groups with fewer calibration customers than this use the pooled quantiles: the 90 % rank of a small sample is noise.
const SMALLEST_GROUP: u32 = 100;

/// What is asked of a score beside the features.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wish {
    /// A calibrated interval level; the bundle's own when absent or not calibrated.
    pub level: Option<f64>,
    /// The tier the customer has been in.
    pub previous: Option<Tier>,
}

/// The model gave something that is not a score.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UnusableOutput {
    #[error("model output `{output}` is not a finite number")]
    NotANumber { output: &'static str },
    #[error("model output `{output}` is read as a probability and is {value}")]
    NotAProbability { output: &'static str, value: f64 },
    #[error("model output `{output}` is {value:e} US dollars")]
    NotAnAmount { output: &'static str, value: f64 },
}

/// The smallest spend, US dollars.
const CENT: f64 = 0.005;

/// Ranks at which a model that gives only a value is compared with buyers of another tier.
const RANKS: [f64; 8] = [0.0625, 0.1875, 0.3125, 0.4375, 0.5625, 0.6875, 0.8125, 0.9375];

/// More US dollars than anybody spends or owes.
const MOST_USD: f64 = 1e12;

/// An output that is read as a probability.
///
/// # Errors
/// When it is none: a model that gives something else there is not the one it is taken for.
pub(super) fn probability(output: &'static str, value: f64) -> Result<Probability, UnusableOutput> {
    let problem = || {
        if value.is_finite() {
            UnusableOutput::NotAProbability { output, value }
        } else {
            UnusableOutput::NotANumber { output }
        }
    };
    Probability::read(value).ok_or_else(problem)
}

/// Scores raw rows (`rows × schema.len()`, row-major, `NaN` = missing) to completion on this thread.
///
/// # Errors
/// The outer error when the model could not run at all, the inner one for a row whose outputs are not numbers.
pub fn estimate_rows(
    snapshot: &ModelSnapshot,
    raw: &[f64],
    wish: Wish,
) -> Result<Vec<Result<Estimate, UnusableOutput>>, BackendError> {
    let outputs = run_rows(snapshot, raw)?;
    let rows = raw.chunks_exact(snapshot.schema().len());
    Ok(rows
        .zip(outputs.chunks_exact(snapshot.engine().outputs().len()))
        .map(|(raw, outputs)| estimate(snapshot, raw, outputs, wish))
        .collect())
}

/// What a model says about the whole range of each customer's spend; `None` where it gives no distribution.
///
/// # Errors
/// When the model could not run.
pub fn distribution_rows(snapshot: &ModelSnapshot, raw: &[f64]) -> Result<Vec<Option<HurdleLogNormal>>, BackendError> {
    let outputs = run_rows(snapshot, raw)?;
    let rows = outputs.chunks_exact(snapshot.engine().outputs().len());
    Ok(rows.map(|outputs| Said::read(snapshot.roles(), outputs).ok()?.distribution).collect())
}

/// Turns one row's outputs into a score. `raw` is the customer's row before imputation, `outputs` what the model said.
pub fn estimate(
    snapshot: &ModelSnapshot,
    raw: &[f64],
    outputs: &[f64],
    wish: Wish,
) -> Result<Estimate, UnusableOutput> {
    let said = Said::read(snapshot.roles(), outputs)?;
    let standard = snapshot.standard(raw);
    let calibration = standard.interval;
    let group = calibration.map(|calibration| group_of(calibration, standard.group_value, said.value));
    let risk = said.risk.or_else(|| group.map(|group| group.zero_share));
    let interval = match (calibration, group) {
        (Some(calibration), Some(group)) => {
            let position = wish.level.and_then(|level| calibration.position(level));
            let position = position.or_else(|| calibration.position(calibration.level)).unwrap_or_default();
            said.interval(calibration, group, position, risk)
        }
        _ => said.bounds.and_then(|(low, high)| Interval::around(said.value, low, high)),
    };
    let tier = standard.tier_from(said.value, wish.previous);
    let (from, to) = standard.limits.range(tier);
    let tiers = standard.tiers;
    let (below_medium, below_high) = tiers.map(|tiers| (tiers.below_medium, tiers.below_high)).unwrap_or_default();
    let below = |limit: f64, odds: Option<LogOdds>| {
        let share = said.below(limit, calibration, group)?;
        Some(odds.map_or(share, |odds| odds.at(share)))
    };
    let (lower, upper) = match tier {
        Tier::Low => (None, below_medium),
        Tier::Medium => (below_medium, below_high),
        Tier::High => (below_high, None),
    };
    let tier_probability =
        below(to, upper).zip(below(from, lower)).and_then(|(to, from)| Probability::clamped(to - from));
    let order = standard.outcomes.and_then(|outcomes| said.order(outcomes, tier, calibration, group, risk));
    let confidence = match order {
        Some(order) => Probability::clamped(0.5 + (order - 0.5) * standard.certainty),
        None => tier_probability,
    };
    Ok(Estimate { value: said.value, interval, risk, confidence, tier_probability, tier })
}

/// A model's outputs by meaning, checked.
struct Said {
    value: f64,
    risk: Option<Probability>,
    bounds: Option<(f64, f64)>,
    distribution: Option<HurdleLogNormal>,
}

impl Said {
    fn read(roles: &Roles, outputs: &[f64]) -> Result<Self, UnusableOutput> {
        let finite = |column: &scoreline_engine::inference::bundle::OutputColumn, output| {
            let value = column.of(outputs);
            if value.is_finite() { Ok(value) } else { Err(UnusableOutput::NotANumber { output }) }
        };
        let optional = |column: &Option<scoreline_engine::inference::bundle::OutputColumn>, output| {
            column.as_ref().map(|column| finite(column, output)).transpose()
        };
        // Least-squares trees can dip below zero; nobody spends a negative amount.
        let value = finite(&roles.value, "value")?;
        if value.abs() > MOST_USD {
            return Err(UnusableOutput::NotAnAmount { output: "value", value });
        }
        let value = value.max(0.0);
        let risk = optional(&roles.risk, "risk")?.map(|risk| probability("risk", risk)).transpose()?;
        let bounds = optional(&roles.low, "low")?.zip(optional(&roles.high, "high")?);
        let shape = optional(&roles.log_mean, "log_mean")?.zip(optional(&roles.log_sigma, "log_sigma")?);
        let distribution =
            shape.zip(risk).map(|((mean, sigma), risk)| HurdleLogNormal { zero: risk.get(), mean, sigma });
        Ok(Self { value, risk, bounds, distribution })
    }

    /// P(spend < `limit`), before recalibration.
    fn below(&self, limit: f64, calibration: Option<&Calibration>, group: Option<&CalibrationGroup>) -> Option<f64> {
        match (&self.distribution, calibration, group) {
            (Some(hurdle), _, _) => Some(hurdle.below(limit)),
            (None, Some(calibration), Some(group)) => {
                share_below(&group.residuals, (limit - self.value) / calibration.scale(self.value))
            }
            _ => None,
        }
    }

    /// P(spends more than a customer of the tier below, or in the lowest less than one of the tier above | they differ).
    fn order(
        &self,
        outcomes: &[TierOutcome; 3],
        tier: Tier,
        calibration: Option<&Calibration>,
        group: Option<&CalibrationGroup>,
        risk: Option<Probability>,
    ) -> Option<f64> {
        let (rival, is_above) = match tier {
            Tier::Low => (&outcomes[1], true),
            Tier::Medium => (&outcomes[0], false),
            Tier::High => (&outcomes[1], false),
        };
        if rival.share <= 0.0 {
            return None;
        }
        let rival = HurdleLogNormal { zero: rival.zero, mean: rival.log_mean, sigma: rival.log_sigma };
        let (less, more) = if let Some(hurdle) = &self.distribution {
            hurdle.against(&rival)
        } else {
            let below = |limit| self.below(limit, calibration, group);
            let zero = risk.map_or_else(|| below(CENT), |risk| Some(risk.get()))?;
            let mut less = 0.0;
            for share in RANKS {
                less += below(rival.of_buyers(share))? / RANKS.len() as f64;
            }
            let less = (1.0 - rival.zero) * less.max(zero);
            (less, 1.0 - less - zero * rival.zero)
        };
        let [right, wrong] = if is_above { [less, more] } else { [more, less] };
        (right + wrong > 0.0).then(|| right / (right + wrong))
    }

    fn interval(
        &self,
        calibration: &Calibration,
        group: &CalibrationGroup,
        position: usize,
        risk: Option<Probability>,
    ) -> Option<Interval> {
        let one_sided = risk.is_none_or(|risk| risk.get() >= calibration.one_sided_risk);
        let scale = calibration.scale(self.value);
        let (low, high) = match calibration.method {
            CalibrationMethod::ScaledResidual if one_sided => (0.0, self.value + group.upper[position] * scale),
            CalibrationMethod::ScaledResidual => {
                let [low, high] = group.two_sided[position];
                (self.value + low * scale, self.value + high * scale)
            }
            CalibrationMethod::Distribution => {
                let hurdle = self.distribution?;
                let allowed = (1.0 - calibration.levels[position]) / 2.0;
                let tail = (allowed + group.extra[position] / scale).clamp(1e-9, 1.0);
                // More of the tail than there is below the value: the value is the lower bound, too.
                let low = if tail >= 1.0 { self.value } else { hurdle.quantile(tail) };
                (if one_sided { 0.0 } else { low }, hurdle.exceeded_with(tail))
            }
        };
        Interval::around(self.value, low, high)
    }
}

/// The customer's group; the pooled row when too few customers are behind it.
fn group_of(calibration: &Calibration, group_value: f64, value: f64) -> &CalibrationGroup {
    let group = calibration.group(group_value, value);
    if group.n >= SMALLEST_GROUP { group } else { &calibration.pooled }
}

/// A baseline as a score: its tier follows from its value, its confidence is at most one half.
pub fn from_baseline(snapshot: &ModelSnapshot, baseline: &scoreline_engine::inference::manifest::Baseline) -> Estimate {
    let tier = snapshot.tiers().tier(baseline.value);
    let share = baseline.tier_share[Tier::ALL.iter().position(|t| *t == tier).unwrap_or_default()];
    Estimate {
        value: baseline.value,
        interval: Interval::around(baseline.value, baseline.low, baseline.high),
        risk: Some(baseline.risk),
        confidence: Probability::clamped(share.get().min(0.5)),
        tier_probability: Some(share),
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
            value_from: 0.0,
            n,
            upper: vec![upper / 2.0, upper],
            two_sided: vec![[-0.4, upper / 2.0], [-0.8, upper]],
            extra: vec![upper, upper / 2.0],
            miss_factor: 1.0,
            zero_share: Probability::clamped(0.5).expect("a number"),
            residuals: vec![-1.0, 0.0, 1.0],
        }
    }

    fn calibration() -> Calibration {
        Calibration {
            method: CalibrationMethod::ScaledResidual,
            level: 0.9,
            levels: vec![0.5, 0.9],
            offset: 5.0,
            power: 1.0,
            group_by: "purchase_count".into(),
            group_with: Vec::new(),
            one_sided_risk: 0.05,
            pooled: group(f64::MIN, 1000, 2.0),
            unknown: None,
            groups: vec![group(1.0, 500, 1.0), group(2.0, 50, 9.0), group(4.0, 100, 3.0)],
        }
    }

    fn said(value: f64, risk: f64) -> Said {
        let risk = Probability::clamped(risk);
        let distribution = Some(HurdleLogNormal { zero: risk.map_or(0.0, Probability::get), mean: 3.0, sigma: 1.0 });
        Said { value, risk, bounds: None, distribution }
    }

    #[test]
    fn the_group_is_the_one_that_starts_at_or_below_the_value() {
        let calibration = calibration();
        let upper = |value| group_of(&calibration, value, 10.0).upper[1];
        assert_eq!(upper(1.0), 1.0);
        assert_eq!(upper(2.5), 2.0, "fewer than 100 customers: pooled");
        assert_eq!(upper(40.0), 3.0);
        assert_eq!(upper(0.0), 2.0, "below the first group: pooled");
        assert_eq!(upper(f64::NAN), 2.0, "unknown and no row for it: pooled");
        let known = Calibration { unknown: Some(group(0.0, 500, 4.0)), ..calibration.clone() };
        assert_eq!(group_of(&known, f64::NAN, 10.0).upper[1], 4.0);
        let small = Calibration { unknown: Some(group(0.0, 50, 4.0)), ..calibration.clone() };
        assert_eq!(group_of(&small, f64::NAN, 10.0).upper[1], 2.0, "fewer than 100 customers: pooled");
    }

    #[test]
    fn groups_of_one_activity_are_told_apart_by_the_prediction() {
        let at = |from, value_from, upper| CalibrationGroup { value_from, ..group(from, 500, upper) };
        let groups = vec![at(1.0, 0.0, 1.0), at(1.0, 8.0, 2.0), at(1.0, 20.0, 3.0), at(2.0, 0.0, 4.0)];
        let calibration = Calibration { groups, ..calibration() };
        let upper = |count, value| group_of(&calibration, count, value).upper[1];
        assert_eq!([0.0, 7.9, 8.0, 19.0, 20.0, 900.0].map(|value| upper(1.0, value)), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!([0.0, 8.0, 20.0].map(|value| upper(2.0, value)), [4.0; 3]);
    }

    #[test]
    fn bounds_are_one_sided_where_no_purchase_is_likely() {
        let calibration = calibration();
        let interval = |group: &CalibrationGroup, risk| {
            let said = said(15.0, risk);
            let bounds = said.interval(&calibration, group, 1, said.risk).expect("finite");
            (bounds.low(), bounds.high())
        };
        assert_eq!(interval(&calibration.groups[0], 0.05), (0.0, 35.0), "15 + 1.0 * (15 + 5)");
        assert_eq!(interval(&calibration.groups[0], 0.01), (0.0, 35.0), "15 - 0.8 * 20 is below zero");
        let tight = CalibrationGroup { two_sided: vec![[-0.2, 0.2], [-0.5, 0.5]], ..group(1.0, 500, 1.0) };
        assert_eq!(interval(&tight, 0.01), (5.0, 25.0));
    }

    #[test]
    fn a_power_below_one_narrows_large_predictions() {
        let calibration = Calibration { power: 0.5, ..calibration() };
        let said = said(95.0, 0.5);
        let bounds = said.interval(&calibration, &calibration.groups[0], 1, said.risk).expect("finite");
        assert_eq!(bounds.high(), 105.0, "95 + 1.0 * (95 + 5)^0.5");
    }

    #[test]
    fn the_distribution_method_gives_more_away_where_dollars_are_few() {
        let calibration = Calibration { method: CalibrationMethod::Distribution, ..calibration() };
        let group = CalibrationGroup { extra: vec![3.0, 1.0], ..group(1.0, 500, 1.0) };
        let said = |value| Said { value, ..said(value, 0.7) };
        let high = |value, position| {
            let said = said(value);
            said.interval(&calibration, &group, position, said.risk).expect("finite").high()
        };
        // 0.25 + 3 / (5 + 5) = 0.55 is more than all buyers: the value itself.
        assert_eq!(high(5.0, 0), 5.0);
        // 0.05 + 1 / (5 + 5) = 0.15 is half of the buyers: their median, e^3.
        assert!((high(5.0, 1) - 3.0_f64.exp()).abs() < 1e-9);
        // The same extra costs a large prediction less: 0.05 + 1 / 20 = 0.1, a third of the buyers.
        let third = (3.0 + 0.430_727_299_295_457_4_f64).exp();
        assert!((high(15.0, 1) - third).abs() < 1e-9, "{} is not {third}", high(15.0, 1));
        // All of the tail on either side: nothing but the value.
        let certain = Said { risk: Probability::clamped(0.01), ..said(5.0) };
        let all = CalibrationGroup { extra: vec![1000.0, 1000.0], ..group.clone() };
        let bounds = certain.interval(&calibration, &all, 1, certain.risk).expect("finite");
        assert_eq!((bounds.low(), bounds.high()), (5.0, 5.0));
        let plain = Said { distribution: None, ..said(5.0) };
        assert!(plain.interval(&calibration, &group, 1, None).is_none());
    }

    proptest! {
        #[test]
        fn intervals_hold_their_value_and_widen_with_the_level(
            value in 0.0..1e6f64,
            risk in 0.0..1.0f64,
            upper in 0.0..10.0f64,
            distribution in any::<bool>(),
        ) {
            let method =
                if distribution { CalibrationMethod::Distribution } else { CalibrationMethod::ScaledResidual };
            let calibration = Calibration { method, ..calibration() };
            let group = group(1.0, 500, upper);
            let said = said(value, risk);
            let at = |position| said.interval(&calibration, &group, position, said.risk).expect("finite");
            let inner = at(0);
            let outer = at(1);
            prop_assert!(0.0 <= inner.low() && inner.low() <= value && value <= inner.high());
            prop_assert!(outer.low() <= inner.low() && inner.high() <= outer.high());
        }
    }
}
