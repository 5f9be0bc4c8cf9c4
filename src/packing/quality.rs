//! How good a bundle's answers are, on customers that neither fitted nor calibrated it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use scoreline_domain::{Estimate, Probability, Tier};
use scoreline_engine::inference::bundle::ModelSnapshot;
use scoreline_engine::inference::manifest::Luck;

use crate::packing::assemble::raw;
use crate::packing::calibrate::{Grouping, LEVEL, LEVELS};
use crate::packing::luck;
use crate::packing::metrics;
use crate::packing::order;
use crate::packing::table::Row;
use crate::scoring::estimate::{Wish, distribution_rows, estimate_rows};
use crate::scoring::predictive::HurdleLogNormal;

/// A customer as a bundle answers about them, beside what they did.
#[derive(Clone, Debug)]
pub struct Judged<'r> {
    pub row: &'r Row,
    pub estimate: Estimate,
    /// The tier their spend puts them in.
    pub realised: Tier,
    /// What they had spent before, US dollars; not a number where the model does not read it.
    pub spent_before: f64,
    /// Bounds at each of `LEVELS`; absent for a bundle without calibration.
    pub bounds: Option<[(f64, f64); LEVELS.len()]>,
    /// What the bundle says about the whole range of their spend; absent where it gives no distribution.
    pub distribution: Option<HurdleLogNormal>,
}

/// The figures of some judged customers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quality {
    /// Empty for the whole; else what the callers left out.
    pub label: String,
    pub metrics: BTreeMap<String, f64>,
    /// What a perfect model shows on the same rows, of the figures that luck moves most.
    pub luck: BTreeMap<String, Luck>,
}

/// Largest errors of a model that makes sense: of the total spend, and of the deciles beside the overall mean.
const MOST_TOTAL_ERROR: f64 = 0.25;
const MOST_DECILE_ERROR: f64 = 0.5;

/// Refuses figures of a model that makes no sense, unless `reason` says why it is wanted all the same; what to note of
/// the reason, which is nothing where none was needed.
///
/// # Errors
/// Says both figures and what usually lies behind them.
pub fn refuse_nonsense(whole: &Quality, reason: Option<&str>) -> anyhow::Result<String> {
    let figure = |key: &str| whole.metrics.get(key).copied().unwrap_or(f64::NAN);
    let (total, deciles) = (figure("total_error"), figure("decile_error"));
    // Not a number is no small error.
    if total.abs() <= MOST_TOTAL_ERROR && deciles <= MOST_DECILE_ERROR {
        return Ok(String::new());
    }
    let most = |error: f64| format!("{:.0} %", error * 100.0);
    reason.map(str::to_owned).with_context(|| {
        format!(
            "not published: the total error is {:+.1} % (at most {}) and the decile error {:.1} % (at most {}), on {} \
             customers it had not seen. Usual causes are an export that lost its last step (`--apply value=exp`), trees \
             that are summed where they should be averaged, and another horizon; `--check` compares it with what its \
             library predicts. `--accept REASON` publishes it all the same",
            total * 100.0,
            most(MOST_TOTAL_ERROR),
            deciles * 100.0,
            most(MOST_DECILE_ERROR),
            figure("customers")
        )
    })
}

/// What the bundle answers about each row when some features are left out.
pub fn judge<'r>(snapshot: &ModelSnapshot, rows: &[&'r Row], blank: &[usize]) -> anyhow::Result<Vec<Judged<'r>>> {
    let raw = raw(snapshot.schema(), rows, blank);
    let at = |level: f64| -> anyhow::Result<Vec<Estimate>> {
        let wish = Wish { level: Some(level), previous: None };
        Ok(estimate_rows(snapshot, &raw, wish)?.into_iter().collect::<Result<_, _>>()?)
    };
    let answers = at(LEVEL)?;
    let levels = LEVELS.iter().map(|level| at(*level)).collect::<Result<Vec<_>, _>>()?;
    let spent = snapshot.schema().position("total_spend_usd");
    let distributions = distribution_rows(snapshot, &raw)?;
    let judged = rows.iter().zip(answers).enumerate().map(|(i, (row, estimate))| {
        let mut bounds = [(0.0, 0.0); LEVELS.len()];
        let mut complete = true;
        for (bounds, answers) in bounds.iter_mut().zip(&levels) {
            match answers[i].interval {
                Some(interval) => *bounds = (interval.low(), interval.high()),
                None => complete = false,
            }
        }
        let realised = snapshot.standard(&raw[i * row.values.len()..][..row.values.len()]).limits.tier(row.spend_usd);
        let spent_before = spent.map_or(f64::NAN, |column| row.values[column]);
        Judged {
            row,
            estimate,
            realised,
            spent_before,
            bounds: complete.then_some(bounds),
            distribution: distributions[i],
        }
    });
    Ok(judged.collect())
}

impl Quality {
    /// All figures of some judged customers. `grouped` is the column of the grouping feature where the callers know it.
    pub fn of(label: &str, judged: &[Judged<'_>], grouping: &Grouping, grouped: Option<usize>) -> anyhow::Result<Self> {
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
        let mut luck = vec![("decile_error".to_owned(), luck_of_deciles(judged, &actual, &value))];
        let all = |of: fn(&Estimate) -> Option<Probability>| -> Option<Vec<f64>> {
            judged.iter().map(|one| of(&one.estimate).map(Probability::get)).collect()
        };
        if let Some(risk) = all(|estimate| estimate.risk) {
            let gone: Vec<bool> = actual.iter().map(|spend| *spend <= 0.0).collect();
            found.push(("risk_auc".to_owned(), metrics::auc(&gone, &risk)));
            found.push(("risk_ece".to_owned(), metrics::calibration_error(&gone, &risk)));
            luck.push(("risk_ece".to_owned(), luck::calibration_error(&risk)));
        }
        if let Some(sure) = all(|estimate| estimate.tier_probability) {
            let right: Vec<bool> = judged.iter().map(|one| one.realised == one.estimate.tier).collect();
            found.push(("tier_probability_ece".to_owned(), metrics::calibration_error(&right, &sure)));
            luck.push(("tier_probability_ece".to_owned(), luck::calibration_error(&sure)));
            found.push(("tier_probability_mean".to_owned(), sure.iter().sum::<f64>() / n));
            found.push(("tier_accuracy".to_owned(), right.iter().filter(|right| **right).count() as f64 / n));
        }
        if judged.iter().all(|one| one.estimate.confidence.is_some()) {
            found.extend(order::figures(judged));
            luck.push(("confidence_ece".to_owned(), order::luck(judged)));
        }
        if let Some(bounds) = judged.iter().map(|one| one.bounds).collect::<Option<Vec<_>>>() {
            found.extend(intervals(judged, &bounds, &actual, &value, grouping, grouped)?);
            luck.extend(luck_of_coverage(judged, &value, grouping, grouped));
        }
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        let metrics = found.into_iter().map(|(name, value)| (name, rounded(value))).collect();
        let luck = luck.into_iter().map(|(name, Luck { mean, low, high })| {
            (name, Luck { mean: rounded(mean), low: rounded(low), high: rounded(high) })
        });
        Ok(Self { label: label.to_owned(), metrics, luck: luck.collect() })
    }

    /// Figures as the manifest names them: those of a partial request carry its label.
    pub(crate) fn prefixed<'q, T: Copy>(
        &'q self,
        figures: &'q BTreeMap<String, T>,
    ) -> impl Iterator<Item = (String, T)> + 'q {
        let name = |key: &String| if self.label.is_empty() { key.clone() } else { format!("{}_{key}", self.label) };
        figures.iter().map(move |(key, value)| (name(key), *value))
    }
}

/// The decile error of a perfect model: outcomes are drawn from what the bundle says, kept to its mean; without a
/// distribution from the outcomes of customers alike.
fn luck_of_deciles(judged: &[Judged<'_>], actual: &[f64], value: &[f64]) -> Luck {
    let hurdles: Option<Vec<HurdleLogNormal>> = judged.iter().map(|one| one.distribution).collect();
    match hurdles {
        Some(hurdles) => luck::decile_error(value, |row, random| {
            let HurdleLogNormal { zero, sigma, .. } = hurdles[row];
            let share = random.f64();
            if share <= zero {
                return 0.0;
            }
            let of_mean = HurdleLogNormal { zero: 0.0, mean: -0.5 * sigma * sigma, sigma };
            value[row] / (1.0 - zero) * of_mean.quantile((share - zero) / (1.0 - zero))
        }),
        None => luck::decile_error(value, luck::resampled(actual, value)),
    }
}

/// The coverage of a perfect model at the default level, for the whole and by group: each interval holds its outcome as
/// often as it says, or as often as nothing is spent where it begins at 0 and that is more.
fn luck_of_coverage(
    judged: &[Judged<'_>],
    value: &[f64],
    grouping: &Grouping,
    grouped: Option<usize>,
) -> Vec<(String, Luck)> {
    let promised: Vec<f64> = judged
        .iter()
        .map(|Judged { estimate, .. }| match (estimate.interval, estimate.risk) {
            (Some(interval), Some(risk)) if interval.low() <= 0.0 => LEVEL.max(risk.get()),
            _ => LEVEL,
        })
        .collect();
    let of = |members: &[usize]| luck::coverage(&members.iter().map(|row| promised[*row]).collect::<Vec<_>>());
    let mut found = vec![
        ("interval_coverage".to_owned(), luck::coverage(&promised)),
        ("interval_coverage_top_decile".to_owned(), of(&metrics::top_decile(value))),
    ];
    let groups = groups(judged, grouping, grouped);
    found.extend(groups.iter().map(|(name, members)| (format!("interval_coverage_{name}"), of(members))));
    let least = parts(judged, value).into_iter();
    found.extend(least.map(|(name, parts)| (least_covered(name), luck::least_coverage(&promised, &parts))));
    found
}

/// Parts whose coverage is looked at one by one: tenths by the prediction, quarters by what was spent before where that is
/// known.
fn parts(judged: &[Judged<'_>], value: &[f64]) -> Vec<(&'static str, Vec<Vec<usize>>)> {
    let before: Vec<f64> = judged.iter().map(|one| one.spent_before).collect();
    let parts = [("value_decile", value, 10), ("spend_quarter", before.as_slice(), 4)].into_iter();
    let known = parts.filter(|(_, by, _)| by.iter().all(|number| !number.is_nan()));
    known.map(|(name, by, count)| (name, equal_parts(by, count))).collect()
}

fn least_covered(part: &str) -> String {
    format!("interval_coverage_least_{part}")
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
    for (name, parts) in parts(judged, value) {
        let covered = parts.into_iter();
        let covered = covered.map(|members| metrics::coverage(members.into_iter().map(|i| (&actual[i], &shown[i]))));
        found.push((least_covered(name), covered.fold(1.0, f64::min)));
    }
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

/// Positions in `count` parts of equal size, from the smallest numbers to the largest.
fn equal_parts(numbers: &[f64], count: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    let start = |part: usize| part * order.len() / count;
    (0..count).map(|part| order[start(part)..start(part + 1)].to_vec()).filter(|part| !part.is_empty()).collect()
}

/// Members of each calibration group by the name of the group; none where the callers do not know theirs.
pub fn groups(judged: &[Judged<'_>], grouping: &Grouping, grouped: Option<usize>) -> Vec<(String, Vec<usize>)> {
    let Some(column) = grouped else { return Vec::new() };
    let mut starts = grouping.starts.clone();
    starts.dedup();
    let groups = starts.iter().enumerate().filter_map(|(i, from)| {
        let to = starts.get(i + 1).copied();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(total: f64, deciles: f64) -> Quality {
        let metrics = [("customers", 300.0), ("total_error", total), ("decile_error", deciles)];
        Quality { metrics: metrics.map(|(key, value)| (key.to_owned(), value)).into(), ..Quality::default() }
    }

    #[test]
    fn errors_that_make_no_sense_need_a_reason() {
        for (total, deciles) in [(0.0, 0.0), (0.25, 0.5), (-0.25, 0.1)] {
            assert_eq!(
                refuse_nonsense(&quality(total, deciles), Some("why")).expect("sound"),
                "",
                "no reason is needed"
            );
            refuse_nonsense(&quality(total, deciles), None).expect("sound");
        }
        for (total, deciles) in
            [(0.2501, 0.1), (-0.26, 0.1), (57.829, 60.0), (0.0, 0.51), (f64::NAN, 0.1), (0.1, f64::NAN)]
        {
            let refused = refuse_nonsense(&quality(total, deciles), None).expect_err("refused").to_string();
            assert!(refused.contains("`--accept REASON`") && refused.contains("300 customers"), "{refused}");
            assert_eq!(
                refuse_nonsense(&quality(total, deciles), Some("another year")).expect("wanted"),
                "another year"
            );
        }
        let refused = refuse_nonsense(&quality(57.829, 60.0), None).expect_err("refused").to_string();
        assert!(refused.contains("+5782.9 %") && refused.contains("6000.0 %"), "{refused}");
    }
}
