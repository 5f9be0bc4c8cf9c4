//! How good a bundle's answers are, on customers that neither fitted nor calibrated it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use scoreline::scoring::estimate::{Wish, estimate_rows};
use scoreline_domain::{Estimate, Probability, Tier};
use scoreline_engine::inference::bundle::ModelSnapshot;

use crate::assemble::raw;
use crate::calibrate::{Grouping, LEVEL, LEVELS};
use crate::metrics;
use crate::table::Row;

/// A customer as a bundle answers about them, beside what they did.
#[derive(Clone, Debug)]
pub(crate) struct Judged<'r> {
    pub row: &'r Row,
    pub estimate: Estimate,
    /// The tier their spend puts them in.
    pub realised: Tier,
    /// Bounds at each of `LEVELS`; absent for a bundle without calibration.
    pub bounds: Option<[(f64, f64); LEVELS.len()]>,
}

/// The figures of some judged customers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Quality {
    /// Empty for the whole; else what the callers left out.
    pub label: String,
    pub metrics: BTreeMap<String, f64>,
}

/// What the bundle answers about each row when some features are left out.
pub(crate) fn judge<'r>(
    snapshot: &ModelSnapshot,
    rows: &[&'r Row],
    blank: &[usize],
) -> anyhow::Result<Vec<Judged<'r>>> {
    let raw = raw(rows, blank);
    let at = |level: f64| -> anyhow::Result<Vec<Estimate>> {
        let wish = Wish { level: Some(level), previous: None };
        Ok(estimate_rows(snapshot, &raw, wish)?.into_iter().collect::<Result<_, _>>()?)
    };
    let answers = at(LEVEL)?;
    let levels = LEVELS.iter().map(|level| at(*level)).collect::<Result<Vec<_>, _>>()?;
    let judged = rows.iter().zip(answers).enumerate().map(|(i, (row, estimate))| {
        let mut bounds = [(0.0, 0.0); LEVELS.len()];
        let mut complete = true;
        for (bounds, answers) in bounds.iter_mut().zip(&levels) {
            match answers[i].interval {
                Some(interval) => *bounds = (interval.low(), interval.high()),
                None => complete = false,
            }
        }
        let realised = snapshot.tiers().tier(row.spend_usd);
        Judged { row, estimate, realised, bounds: complete.then_some(bounds) }
    });
    Ok(judged.collect())
}

impl Quality {
    /// All figures of some judged customers. `grouped` is the column of the grouping feature where the callers know it.
    pub(crate) fn of(
        label: &str,
        judged: &[Judged<'_>],
        grouping: &Grouping,
        grouped: Option<usize>,
    ) -> anyhow::Result<Self> {
        let n = judged.len() as f64;
        let actual: Vec<f64> = judged.iter().map(|one| one.row.spend_usd).collect();
        let value: Vec<f64> = judged.iter().map(|one| one.estimate.value).collect();
        let mut found = vec![
            ("customers".to_owned(), n),
            ("mean_spend_usd".to_owned(), actual.iter().sum::<f64>() / n),
            ("normalized_gini".to_owned(), metrics::normalized_gini(&actual, &value)),
            ("total_error".to_owned(), metrics::total_error(&actual, &value)),
            ("decile_error".to_owned(), metrics::decile_error(&actual, &value)),
            ("rmse_usd".to_owned(), metrics::rmse(&actual, &value)),
            ("spearman".to_owned(), metrics::spearman(&actual, &value)),
        ];
        let all = |of: fn(&Estimate) -> Option<Probability>| -> Option<Vec<f64>> {
            judged.iter().map(|one| of(&one.estimate).map(Probability::get)).collect()
        };
        if let Some(risk) = all(|estimate| estimate.risk) {
            let gone: Vec<bool> = actual.iter().map(|spend| *spend <= 0.0).collect();
            found.push(("risk_auc".to_owned(), metrics::auc(&gone, &risk)));
            found.push(("risk_ece".to_owned(), metrics::calibration_error(&gone, &risk)));
        }
        if let Some(sure) = all(|estimate| estimate.confidence) {
            let right: Vec<bool> = judged.iter().map(|one| one.realised == one.estimate.tier).collect();
            found.push(("confidence_ece".to_owned(), metrics::calibration_error(&right, &sure)));
            found.push(("confidence_mean".to_owned(), sure.iter().sum::<f64>() / n));
            found.push(("tier_accuracy".to_owned(), right.iter().filter(|right| **right).count() as f64 / n));
        }
        if let Some(bounds) = judged.iter().map(|one| one.bounds).collect::<Option<Vec<_>>>() {
            found.extend(intervals(judged, &bounds, &actual, &value, grouping, grouped)?);
        }
        let metrics = found.into_iter().map(|(name, value)| (name, (value * 1e4).round() / 1e4)).collect();
        Ok(Self { label: label.to_owned(), metrics })
    }

    /// The metrics as the manifest names them: those of a partial request carry its label.
    pub(crate) fn prefixed(&self) -> Vec<(String, f64)> {
        let name = |key: &String| if self.label.is_empty() { key.clone() } else { format!("{}_{key}", self.label) };
        self.metrics.iter().map(|(key, value)| (name(key), *value)).collect()
    }
}

/// Coverage at every level, by group and in the top decile; width and interval score at the default one.
fn intervals(
    judged: &[Judged<'_>],
    bounds: &[[(f64, f64); LEVELS.len()]],
    actual: &[f64],
    value: &[f64],
    grouping: &Grouping,
    grouped: Option<usize>,
) -> anyhow::Result<Vec<(String, f64)>> {
    let default = LEVELS.iter().position(|level| *level == LEVEL).context("the default level is one of the levels")?;
    let at = |position: usize| -> Vec<(f64, f64)> { bounds.iter().map(|levels| levels[position]).collect() };
    let shown = at(default);
    let width = shown.iter().map(|(low, high)| high - low).sum::<f64>() / judged.len() as f64;
    let mut found = vec![
        ("interval_width_usd".to_owned(), width),
        ("interval_score".to_owned(), metrics::interval_score(actual, &shown, LEVEL)),
    ];
    let groups = groups(judged, grouping, grouped);
    let top = metrics::top_decile(value);
    for (position, level) in LEVELS.iter().enumerate() {
        let suffix = if position == default { String::new() } else { format!("_at_{:.0}", level * 100.0) };
        let shown = at(position);
        let of = |members: &[usize]| metrics::coverage(members.iter().map(|i| (&actual[*i], &shown[*i])));
        found.push((format!("interval_coverage{suffix}"), metrics::coverage(actual.iter().zip(&shown))));
        found.push((format!("interval_coverage{suffix}_top_decile"), of(&top)));
        for (name, members) in &groups {
            found.push((format!("interval_coverage{suffix}_{name}"), of(members)));
        }
    }
    Ok(found)
}

/// Members of each calibration group by the name of the group; none where the callers do not know theirs.
pub(crate) fn groups(judged: &[Judged<'_>], grouping: &Grouping, grouped: Option<usize>) -> Vec<(String, Vec<usize>)> {
    let Some(column) = grouped else { return Vec::new() };
    let groups = grouping.starts.iter().enumerate().filter_map(|(i, from)| {
        let to = grouping.starts.get(i + 1).copied();
        let holds = |value: f64| value >= *from && to.is_none_or(|to| value < to);
        let members: Vec<usize> = (0..judged.len()).filter(|at| holds(judged[*at].row.values[column])).collect();
        let to = match to {
            None => "_up".to_owned(),
            Some(to) if to - from > 1.0 => format!("_to_{}", to - 1.0),
            Some(_) => String::new(),
        };
        (!members.is_empty()).then(|| (format!("{}_{from}{to}", grouping.feature), members))
    });
    groups.collect()
}
