//! From test rows with their answers to what a report draws.

use std::time::Duration;

use fastrand::Rng;
use scoreline_domain::{Estimate, LeadScore, Tier};
use scoreline_engine::features::drift::DriftBins;
use scoreline_engine::inference::bundle::{ModelSnapshot, ReadCustomer};
use scoreline_engine::inference::explain::Budget;
use scoreline_engine::inference::manifest::Task;

use crate::packing::html::data::{
    Confusion, Coverage, Covered, Decile, Drift, Gain, Histogram, Importance, Reliability, ReliabilityBin,
};
use crate::packing::html::svg::{Unit, nice_end};
use crate::packing::metrics;
use crate::scoring::explanation::{Detail, explain};
use crate::scoring::task::Score as _;

/// Points of a gain curve.
const GAIN_POINTS: usize = 100;

/// Bootstrap samples of a decile's mean; the seed is fixed, so that a run repeats byte by byte.
const BOOTSTRAP: usize = 400;
const BOOTSTRAP_SEED: u64 = 0x6465_6369_6c65;

/// Rows that importance is measured on.
const IMPORTANCE_ROWS: usize = 500;
/// What explaining one of them may take.
const EXPLAINED_WITHIN: Duration = Duration::from_millis(100);

const BINS: usize = 10;
const HISTOGRAM_BINS: usize = 24;

/// A test row and what the bundle said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tested {
    pub actual: f64,
    pub value: f64,
    /// For each level of the calibration, in its order; empty without one.
    pub intervals: Vec<(f64, f64)>,
    pub risk: Option<f64>,
    pub confidence: Option<f64>,
    pub tier: Tier,
    pub realised: Tier,
    /// Its calibration group, e.g. `purchase_count 2-3`.
    pub group: String,
}

/// The mean distance that each group of features moves answers, over rows of raw values that are spread evenly; `None`
/// of a model that is not explained in time.
pub fn importance(snapshot: &ModelSnapshot, raw: &[f64]) -> anyhow::Result<Option<Importance>> {
    let schema = snapshot.schema();
    let rows: Vec<&[f64]> = raw.chunks_exact(schema.len()).collect();
    let (axis, unit, in_unit): (_, _, fn(f64) -> f64) = match snapshot.task() {
        Task::Clv => ("US dollars of the value", Unit::Usd, Estimate::in_unit),
        Task::Lead => ("percentage points of the probability", Unit::Number, LeadScore::in_unit),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut sums = vec![0.0; schema.group_names().len()];
    let mut explained = 0_usize;
    for row in rows.iter().step_by(rows.len().div_ceil(IMPORTANCE_ROWS).max(1)) {
        // A baseline has no contributions.
        let Ok(ReadCustomer::Known(given)) = snapshot.read_row(row) else { continue };
        let budget = Budget::of(EXPLAINED_WITHIN);
        let told =
            runtime.block_on(explain(snapshot, &given.raw, &snapshot.roles().value, in_unit, Detail::Groups, budget));
        let Ok(told) = told else { return Ok(None) };
        told.groups.iter().for_each(|one| sums[one.group] += one.leading.amount.abs());
        explained += 1;
    }
    if explained == 0 {
        return Ok(None);
    }
    let means = schema.group_names().iter().zip(sums).map(|(name, sum)| (name.to_string(), sum / explained as f64));
    let mut features: Vec<_> = means.collect();
    // Stable: groups that move as much stay in the order of the schema.
    features.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    Ok(Some(Importance { axis: axis.to_owned(), unit, rows: explained, features }))
}

/// Cumulated share of `actual` in the order of `predicted`, best first.
pub fn gain(of: &str, actual: &[f64], predicted: &[f64]) -> Gain {
    Gain { of: of.to_owned(), model: cumulated(actual, predicted), perfect: cumulated(actual, actual) }
}

fn cumulated(actual: &[f64], by: &[f64]) -> Vec<[f64; 2]> {
    let mut order: Vec<usize> = (0..actual.len()).collect();
    order.sort_by(|a, b| by[*b].total_cmp(&by[*a]));
    let total = actual.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut sum = 0.0;
    let mut sums = vec![0.0];
    sums.extend(order.iter().map(|row| {
        sum += actual[*row];
        sum
    }));
    let n = actual.len();
    let points = GAIN_POINTS.min(n);
    (0..=points).map(|k| k * n / points).map(|at| [at as f64 / n as f64, sums[at] / total]).collect()
}

/// Tenths by prediction, the lowest first, with bootstrap bars of the actual mean.
pub(crate) fn deciles(actual: &[f64], predicted: &[f64]) -> Vec<Decile> {
    let mut random = Rng::with_seed(BOOTSTRAP_SEED);
    let deciles = bins(predicted).into_iter().map(|rows| {
        let mean = |of: &[f64]| rows.iter().map(|row| of[*row]).sum::<f64>() / rows.len() as f64;
        let mut means: Vec<f64> = (0..BOOTSTRAP)
            .map(|_| {
                let draw = (0..rows.len()).map(|_| actual[rows[random.usize(..rows.len())]]);
                draw.sum::<f64>() / rows.len() as f64
            })
            .collect();
        means.sort_unstable_by(f64::total_cmp);
        let quantile = |q: f64| means[((means.len() - 1) as f64 * q).round() as usize];
        Decile {
            n: rows.len(),
            predicted: mean(predicted),
            actual: mean(actual),
            low: quantile(0.05),
            high: quantile(0.95),
        }
    });
    deciles.collect()
}

/// Probabilities in ten bins of equal mass.
pub(crate) fn reliability(title: &str, event: &str, happened: &[bool], probability: &[f64]) -> Reliability {
    let bins = bins(probability).into_iter().map(|rows| ReliabilityBin {
        n: rows.len(),
        said: rows.iter().map(|row| probability[*row]).sum::<f64>() / rows.len() as f64,
        happened: rows.iter().filter(|row| happened[**row]).count(),
    });
    Reliability {
        title: title.to_owned(),
        event: event.to_owned(),
        bins: bins.collect(),
        error: metrics::calibration_error(happened, probability),
    }
}

/// Everybody, the best tenth by prediction, then each group in order of its name.
pub(crate) fn coverage(rows: &[Tested], level: usize, of: f64) -> Coverage {
    let covered = |label: &str, members: &mut dyn Iterator<Item = &Tested>| {
        let mut n = 0;
        let mut inside = 0;
        for row in members {
            let (low, high) = row.intervals[level];
            n += 1;
            inside += usize::from(low <= row.actual && row.actual <= high);
        }
        Covered { label: label.to_owned(), n, inside }
    };
    let values: Vec<f64> = rows.iter().map(|row| row.value).collect();
    let best = metrics::top_decile(&values);
    let mut groups = vec![
        covered("all customers", &mut rows.iter()),
        covered("best tenth by prediction", &mut best.iter().map(|row| &rows[*row])),
    ];
    let mut names: Vec<&str> = rows.iter().map(|row| row.group.as_str()).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    groups.extend(names.into_iter().map(|name| covered(name, &mut rows.iter().filter(|row| row.group == name))));
    Coverage { level: of, groups, band: None, least: None }
}

/// Values from 0 to their 98 % point in equal bins; the rest is above.
pub(crate) fn histogram(title: &str, axis: &str, unit: Unit, values: &[f64]) -> Histogram {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let end = nice_end(sorted.get(sorted.len() * 98 / 100).copied().unwrap_or(1.0), HISTOGRAM_BINS);
    let edges: Vec<f64> = (0..=HISTOGRAM_BINS).map(|k| end * k as f64 / HISTOGRAM_BINS as f64).collect();
    let n = values.len().max(1) as f64;
    let up_to = |edge: f64| sorted.partition_point(|value| *value <= edge) as f64 / n;
    let shares = edges.windows(2).enumerate();
    let shares = shares.map(|(i, pair)| up_to(pair[1]) - if i == 0 { 0.0 } else { up_to(pair[0]) }).collect();
    Histogram {
        title: title.to_owned(),
        axis: axis.to_owned(),
        unit,
        above: 1.0 - up_to(end),
        edges,
        shares,
        note: String::new(),
    }
}

/// Assigned against realised tiers.
pub fn tiers(rows: &[Tested]) -> Confusion {
    let place = |tier: Tier| Tier::ALL.iter().position(|other| *other == tier).unwrap_or_default();
    let mut counts = vec![vec![0; Tier::ALL.len()]; Tier::ALL.len()];
    for row in rows {
        counts[place(row.tier)][place(row.realised)] += 1;
    }
    Confusion { names: Tier::ALL.map(|tier| tier.to_string()).to_vec(), counts }
}

/// A feature's frozen reference as a chart: the bin of exact zeros stands before the others.
pub fn drift(feature: &str, unit: &str, bins: &DriftBins) -> Drift {
    let zero = (bins.zero > 0.0).then_some((0.0, bins.zero));
    let (mut edges, mut shares): (Vec<f64>, Vec<f64>) = zero.into_iter().unzip();
    edges.extend(&bins.edges);
    shares.extend(&bins.shares);
    Drift { feature: feature.to_owned(), unit: unit.to_owned(), edges, shares, missing: bins.missing }
}

/// Rows in ten bins of equal mass by a score, the lowest first.
fn bins(score: &[f64]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|a, b| score[*a].total_cmp(&score[*b]));
    let edge = |k: usize| k * order.len() / BINS;
    (0..BINS).map(|k| order[edge(k)..edge(k + 1)].to_vec()).filter(|rows| !rows.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(actual: f64, high: f64, group: &str) -> Tested {
        Tested {
            actual,
            value: actual,
            intervals: vec![(0.0, high)],
            risk: None,
            confidence: None,
            tier: Tier::Low,
            realised: if actual > 5.0 { Tier::High } else { Tier::Low },
            group: group.to_owned(),
        }
    }

    #[test]
    fn a_gain_curve_runs_from_nothing_to_all() {
        let actual: Vec<f64> = (0..200).map(f64::from).collect();
        let gain = gain("spend", &actual, &actual.iter().map(|y| -y).collect::<Vec<_>>());
        assert_eq!((gain.model[0], gain.model[GAIN_POINTS]), ([0.0, 0.0], [1.0, 1.0]));
        assert!(gain.perfect.iter().zip(&gain.model).all(|(best, worst)| best[1] >= worst[1]));
    }

    #[test]
    fn bootstrap_bars_hold_the_mean_and_repeat() {
        let actual: Vec<f64> = (0..1000).map(|i| f64::from(i * 37 % 101)).collect();
        let predicted: Vec<f64> = (0..1000).map(f64::from).collect();
        let found = deciles(&actual, &predicted);
        assert_eq!(found, deciles(&actual, &predicted));
        assert_eq!(found.len(), 10);
        assert!(found.iter().all(|d| d.n == 100 && d.low < d.actual && d.actual < d.high), "{found:?}");
    }

    #[test]
    fn coverage_and_tiers_count() {
        let rows = [tested(1.0, 2.0, "a"), tested(9.0, 2.0, "b"), tested(2.0, 2.0, "a")];
        let found = coverage(&rows, 0, 0.9);
        let counts: Vec<_> = found.groups.iter().map(|one| (one.label.as_str(), one.n, one.inside)).collect();
        assert_eq!(counts, [("all customers", 3, 2), ("best tenth by prediction", 1, 0), ("a", 2, 2), ("b", 1, 0)]);
        assert_eq!(tiers(&rows).counts, [[2, 0, 1], [0, 0, 0], [0, 0, 0]]);
    }

    #[test]
    fn shares_add_up() {
        let values: Vec<f64> = (0..500).map(f64::from).collect();
        let found = histogram("Width", "width", Unit::Usd, &values);
        assert!((found.shares.iter().sum::<f64>() + found.above - 1.0).abs() < 1e-9);
        let bins = DriftBins::of(vec![10.0], &[0.0, 5.0, 50.0, f64::NAN]).expect("values");
        let drift = drift("recency_days", "days", &bins);
        assert_eq!((drift.edges, drift.shares, drift.missing), (vec![0.0, 10.0], vec![0.25; 3], 0.25));
    }
}
