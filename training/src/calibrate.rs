//! Split-conformal calibration: how far outcomes of customers who did not fit the model lie from its predictions, by
//! activity group.

use scoreline::domain::Probability;
use scoreline::inference::manifest::{Calibration, CalibrationGroup, CalibrationMethod};

use crate::statistics::round;

/// US dollars added to the prediction when a residual is scaled.
pub const OFFSET_USD: f64 = 5.0;

/// Levels a request may ask for, and the one that is answered by default.
pub const LEVELS: [f64; 4] = [0.5, 0.8, 0.9, 0.95];
pub const LEVEL: f64 = 0.9;

/// At and above this probability of no purchase the interval is one-sided from 0.
pub const ONE_SIDED_RISK: f64 = 0.05;

/// Points of a stored residual distribution.
const GRID: usize = 101;

/// Which feature picks the group, and where the groups start.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    pub feature: String,
    /// Features without which the model answers from another part of itself.
    pub with: Vec<String>,
    pub starts: Vec<f64>,
}

/// A prediction beside its outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    pub value: f64,
    pub spend_usd: f64,
    /// Raw value of the grouping feature; `NaN` is missing.
    pub group_value: f64,
}

/// Calibrates on customers that did not fit the model. `unknown` are the same customers as a caller describes them who
/// does not know the grouping feature; empty when there are no such callers.
pub fn calibrate(rows: &[Scored], unknown: &[Scored], grouping: &Grouping) -> anyhow::Result<Calibration> {
    let groups = grouping.starts.iter().enumerate().map(|(i, from)| {
        let to = grouping.starts.get(i + 1).copied().unwrap_or(f64::INFINITY);
        let members: Vec<_> = rows.iter().filter(|row| (*from..to).contains(&row.group_value)).copied().collect();
        group(*from, &members)
    });
    let groups: Vec<_> = groups.collect::<Result<_, _>>()?;
    let lowest = grouping.starts.first().copied().unwrap_or(0.0);
    Ok(Calibration {
        method: CalibrationMethod::ScaledResidual,
        level: LEVEL,
        levels: LEVELS.to_vec(),
        offset: OFFSET_USD,
        power: 1.0,
        group_by: grouping.feature.clone(),
        group_with: grouping.with.clone(),
        one_sided_risk: ONE_SIDED_RISK,
        pooled: group(lowest, rows)?,
        unknown: if unknown.is_empty() { None } else { Some(group(lowest, unknown)?) },
        groups,
    })
}

fn group(from: f64, rows: &[Scored]) -> anyhow::Result<CalibrationGroup> {
    anyhow::ensure!(!rows.is_empty(), "no calibration customer in the group from {from}");
    let mut residuals: Vec<f64> =
        rows.iter().map(|row| (row.spend_usd - row.value) / (row.value + OFFSET_USD)).collect();
    residuals.sort_unstable_by(f64::total_cmp);
    let two_sided = |level: f64| {
        let tail = (1.0 - level) / 2.0;
        [round(lower_rank(&residuals, tail)), round(upper_rank(&residuals, 1.0 - tail))]
    };
    let zero = rows.iter().filter(|row| row.spend_usd <= 0.0).count() as f64 / rows.len() as f64;
    let grid = (0..GRID).map(|k| {
        let position = (k * (residuals.len() - 1)) as f64 / (GRID - 1) as f64;
        round(residuals[position.round() as usize])
    });
    Ok(CalibrationGroup {
        from,
        n: u32::try_from(rows.len())?,
        upper: LEVELS.iter().map(|level| round(upper_rank(&residuals, *level))).collect(),
        two_sided: LEVELS.iter().map(|level| two_sided(*level)).collect(),
        zero_share: Probability::clamped(round(zero)).unwrap_or_else(never),
        residuals: grid.collect(),
    })
}

/// The element at rank ceil((n + 1) × level): at least `level` of future residuals are at or below it.
pub fn upper_rank(sorted: &[f64], level: f64) -> f64 {
    // Without the nudge a level of 0.9 times 10 rows would round up over a rounding error.
    let rank = ((sorted.len() + 1) as f64 * level - 1e-9).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The element at rank floor((n + 1) × tail): at most `tail` of future residuals are below it.
fn lower_rank(sorted: &[f64], tail: f64) -> f64 {
    let rank = ((sorted.len() + 1) as f64 * tail + 1e-9).floor() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn never() -> Probability {
    unreachable!("a share of a non-empty group is a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(value: f64, spend_usd: f64, group_value: f64) -> Scored {
        Scored { value, spend_usd, group_value }
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
        let rows = [scored(5.0, 0.0, 1.0), scored(5.0, 15.0, 1.0), scored(15.0, 35.0, 2.0), scored(15.0, 15.0, 9.0)];
        let grouping = Grouping { feature: "purchase_count".into(), with: Vec::new(), starts: vec![1.0, 2.0] };
        let found = calibrate(&rows, &rows[..2], &grouping).expect("calibrates");
        assert_eq!(found.pooled.n, 4);
        assert_eq!(found.unknown.map(|unknown| unknown.n), Some(2));
        assert_eq!(found.groups.iter().map(|group| group.n).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(found.groups[0].residuals.first(), Some(&-0.5));
        assert_eq!(found.groups[0].upper, [-0.5, 1.0, 1.0, 1.0]);
        assert_eq!(found.groups[0].zero_share.get(), 0.5);
        assert_eq!(found.groups[1].two_sided, [[0.0, 1.0]; 4]);
        assert_eq!(found.groups[1].residuals.len(), GRID);
        let empty = Grouping { feature: "purchase_count".into(), with: Vec::new(), starts: vec![1.0, 2.0, 100.0] };
        assert!(calibrate(&rows, &[], &empty).is_err());
    }
}
