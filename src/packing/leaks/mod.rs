//! Leak checks: does the training data know what will only be known later? They run before a model is packed,
//! in every training command and as `scoreline-training check` on any CSV.
//!
//! A column is *refused* until it is left out or named with a reason:
//! * alone it ranks the outcome with AUC above 0.9, or
//! * alone it reaches 0.75 *and* adds more than 0.10 to the AUC of all other columns together.
//!
//! The second rule is for a leak like the length of the very call that is being predicted: 0.89 alone, and 0.27 more
//! than everything else knows. Copies of a suspect are left out of what it is compared with, so that one leak in two
//! columns cannot hide. The rule is not asked about the best tenth of an amount, which one honest column (how much
//! somebody bought before) often tells nearly alone. Honest columns that reach 0.75
//! (three public sets, two of our own tables) add at most 0.024.
//!
//! A model that does much better on random rows than on the latest ones is *reported*, as is one that does much better
//! on customers it has seen.

pub mod additive;
pub mod alone;
pub mod frame;
pub mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::packing::html::lead::Scored;
use crate::packing::leaks::additive::Additive;
use crate::packing::leaks::alone::{Alone, design};
use crate::packing::leaks::frame::Frame;
use crate::packing::metrics::{auc, spearman};
use crate::packing::split::{Split, mix};
use crate::packing::statistics::FeaturePlan;
use crate::packing::table::Table;

/// No honest column ranks an outcome better than this on its own.
pub(crate) const ALONE_LIMIT: f64 = 0.9;

/// From here on a column must also say what others say.
pub(crate) const SUSPECT_FROM: f64 = 0.75;

/// What a suspect may add to the AUC of all other columns together.
pub(crate) const GAIN_LIMIT: f64 = 0.10;

/// Two columns are copies when what they say of the rows is so alike (rank correlation).
const COPY_FROM: f64 = 0.95;

/// A larger loss of AUC from random rows to the latest ones, or to unknown groups, is reported.
pub(crate) const GAP_LIMIT: f64 = 0.05;

/// Share of the rows, the latest, that the time split is measured on.
const LATEST: f64 = 0.3;

const FOLDS: u64 = 5;

/// Blocks of time that AUC is shown for.
const BLOCKS: usize = 10;

/// The additive model is fitted on at most so many rows, evenly taken: enough to see differences of 0.05.
const MOST_ROWS: usize = 12_000;

/// What is to be predicted, as an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub label: String,
    pub happened: Vec<bool>,
    pub kind: TargetKind,
}

/// Where the event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// Something that happens or does not.
    Event,
    /// The upper part of an amount, cut off by us.
    HighAmount,
}

/// What the caller knows about the data.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Columns that may look like leaks, and why.
    pub allow: BTreeMap<String, String>,
    /// Rows from the oldest to the latest, when that is known.
    pub order: Option<Vec<usize>>,
    /// Whose row it is, when several rows can belong to one.
    pub groups: Option<Vec<String>>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeakReport {
    pub rows: usize,
    pub targets: Vec<TargetReport>,
    /// Checks of how the data was made.
    pub checks: Vec<Check>,
}

/// What one outcome showed.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetReport {
    pub label: String,
    /// Share of the rows in which it happened.
    pub share: f64,
    pub columns: Vec<ColumnReport>,
    /// AUC of an additive model of the accepted columns on random rows, on groups it has not seen, and on the latest
    /// rows.
    pub random_auc: f64,
    pub group_auc: Option<f64>,
    pub time_auc: Option<f64>,
    /// The rows that model was judged on: the latest last, where their order is known.
    pub scored: Scored,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnReport {
    pub name: String,
    pub distinct: usize,
    pub alone: Alone,
    /// AUC that a suspect adds to all columns but its copies.
    pub gain: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Accepted,
    /// It names rows; no model should read it.
    Identifier,
    Refused(Reason),
    /// Named by the caller with a reason.
    Allowed(Reason, String),
}

/// Which rule a column broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Alone,
    Gain,
}

/// The outcome of a check of how the data was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub passed: bool,
    /// What was looked at, or what is wrong and what to do. Names no customer.
    pub detail: String,
}

/// Looks at every column against every outcome.
///
/// # Errors
/// When an outcome always or never happens, or `--allow` names an unknown column.
pub fn check(frame: &Frame, targets: &[Target], settings: &Settings) -> anyhow::Result<LeakReport> {
    for name in settings.allow.keys() {
        frame.position(name)?;
    }
    let targets = targets.iter().map(|target| against(frame, target, settings)).collect::<Result<_, _>>()?;
    Ok(LeakReport { rows: frame.rows, targets, checks: Vec::new() })
}

/// Columns against the spend of the fit rows, and how the parts were made.
///
/// # Errors
/// When a check cannot be run. What it refuses is in the report.
pub fn of_table(plans: &[FeaturePlan], table: &Table, allow: &BTreeMap<String, String>) -> anyhow::Result<LeakReport> {
    let fit = table.part(Split::Fit);
    anyhow::ensure!(!fit.is_empty(), "the table has no `fit` rows");
    let spend: Vec<f64> = fit.iter().map(|row| row.spend_usd).collect();
    let frame = Frame::of_rows(&table.features, &fit);
    let settings = Settings { allow: allow.clone(), ..Settings::default() };
    let mut report = check(&frame, &spend_targets("spend_usd", &spend), &settings)?;
    report.checks.extend([parts::one_part_each(table), parts::statistics_of_fit_rows(plans, table)?]);
    Ok(report)
}

/// A spend as events: any at all, and a high one. The second is left out when it is the first.
pub fn spend_targets(name: &str, spend: &[f64]) -> Vec<Target> {
    let mut sorted = spend.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let high = sorted[sorted.len() * 9 / 10];
    let above = |limit: f64| spend.iter().map(|spend| *spend > limit).collect::<Vec<_>>();
    let limits = [
        (0.0, TargetKind::Event, format!("{name} > 0")),
        (high, TargetKind::HighAmount, format!("{name} > {high:.2} (its 90 % point)")),
    ];
    let mut targets: Vec<Target> = Vec::new();
    for (limit, kind, label) in limits {
        let happened = above(limit);
        let some = happened.iter().any(|is| *is) && happened.iter().any(|is| !*is);
        if some && targets.iter().all(|other| other.happened != happened) {
            targets.push(Target { label, happened, kind });
        }
    }
    targets
}

impl LeakReport {
    /// What stands in the way, one sentence each, with what to do.
    pub fn refusals(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.checks.iter().filter(|check| !check.passed).map(|check| check.detail.clone()).collect();
        let mut named = BTreeSet::new();
        for target in &self.targets {
            for column in &target.columns {
                if let Verdict::Refused(reason) = &column.verdict
                    && named.insert(&column.name)
                {
                    found.push(refusal(column, *reason, &target.label));
                }
            }
        }
        found
    }

    /// What should be looked at, and stops nothing.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for target in &self.targets {
            let random = target.random_auc;
            let cases = [
                (target.time_auc, "on the latest rows", "random splits flatter: judge the model by time"),
                (target.group_auc, "on unseen groups", "random splits leak between rows of a group: split by group"),
            ];
            for (auc, place, advice) in cases {
                if let Some(auc) = auc.filter(|auc| random - auc > GAP_LIMIT) {
                    found.push(format!(
                        "`{}`: AUC {random:.3} on random rows, {auc:.3} {place} (gap {:.3} > {GAP_LIMIT}); {advice}",
                        target.label,
                        random - auc
                    ));
                }
            }
        }
        found
    }

    /// Columns that were let through, and why: for the bundle.
    pub fn allowed(&self) -> BTreeMap<String, String> {
        let columns = self.targets.iter().flat_map(|target| &target.columns);
        let allowed = columns.filter_map(|column| match &column.verdict {
            Verdict::Allowed(_, why) => Some((column.name.clone(), why.clone())),
            Verdict::Accepted | Verdict::Identifier | Verdict::Refused(_) => None,
        });
        allowed.collect()
    }

    /// Fails with everything that stands in the way.
    pub fn refuse(&self) -> anyhow::Result<()> {
        let refusals = self.refusals();
        anyhow::ensure!(refusals.is_empty(), "the leak check refuses the data:\n  {}", refusals.join("\n  "));
        Ok(())
    }

    /// A table for people.
    pub fn text(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        for target in &self.targets {
            let share = target.share * 100.0;
            writeln!(text, "leak check against `{}`: {} rows, {share:.1} % of them", target.label, self.rows)?;
            let width = target.columns.iter().map(|column| column.name.chars().count()).max().unwrap_or(0).clamp(6, 40);
            writeln!(text, "  {:width$} {:>8} {:>7} {:>7} {:>7}", "column", "values", "ranked", "binned", "adds")?;
            let mut columns: Vec<_> = target.columns.iter().collect();
            columns.sort_by(|a, b| b.alone.best().total_cmp(&a.alone.best()));
            for ColumnReport { name, distinct, alone, gain, verdict } in columns {
                let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
                let name: String = name.chars().take(width).collect();
                let line = format!(
                    "  {name:width$} {distinct:>8} {:>7} {:>7} {:>7}  {}",
                    number(alone.ranked),
                    number(Some(alone.binned)),
                    number(*gain),
                    verdict.word()
                );
                writeln!(text, "{}", line.trim_end())?;
            }
            write!(text, "  accepted columns together: AUC {:.3} on random rows", target.random_auc)?;
            for (auc, place) in [(target.group_auc, "on unseen groups"), (target.time_auc, "on the latest 30 %")] {
                if let Some(auc) = auc {
                    write!(text, ", {auc:.3} {place}")?;
                }
            }
            writeln!(text, "\n")?;
        }
        for Check { name, passed, detail } in &self.checks {
            writeln!(text, "{} {name}: {detail}", if *passed { "passed " } else { "REFUSED" })?;
        }
        for warning in self.warnings() {
            writeln!(text, "warning: {warning}")?;
        }
        Ok(text)
    }
}

impl Verdict {
    /// One word and, where there is one, the reason.
    pub fn word(&self) -> String {
        match self {
            Self::Accepted => String::new(),
            Self::Identifier => "identifier: ignored".to_owned(),
            Self::Refused(_) => "REFUSED".to_owned(),
            Self::Allowed(_, why) => format!("allowed: {why}"),
        }
    }
}

fn against(frame: &Frame, target: &Target, settings: &Settings) -> anyhow::Result<TargetReport> {
    let happened = &target.happened;
    let hits = happened.iter().filter(|is| **is).count();
    anyhow::ensure!(
        hits > 0 && hits < frame.rows,
        "`{}` holds in {hits} of {} rows: there is nothing to tell apart",
        target.label,
        frame.rows
    );
    let by_row: Vec<usize> = (0..frame.rows).map(|row| (mix(row as u64) % FOLDS) as usize).collect();
    let by_group = settings.groups.as_deref().map(folds_of_groups);
    let folds = by_group.as_ref().unwrap_or(&by_row);

    let mut columns = Vec::new();
    let mut designs = Vec::new();
    let mut shares = Vec::new();
    for column in frame.columns.iter().filter(|column| column.values.distinct() > 0) {
        let (alone, share) = Alone::of(&column.values, happened, folds);
        let verdict = if alone.best() > ALONE_LIMIT {
            verdict(&column.name, Reason::Alone, settings)
        } else if column.values.identify(frame.rows) {
            Verdict::Identifier
        } else {
            Verdict::Accepted
        };
        let distinct = column.values.distinct();
        designs.push(design(&column.values));
        shares.push(share);
        columns.push(ColumnReport { name: column.name.clone(), distinct, alone, gain: None, verdict });
    }

    let thin = frame.rows.div_ceil(MOST_ROWS);
    let rows: Vec<usize> = match &settings.order {
        Some(order) => order.iter().copied().step_by(thin).collect(),
        None => (0..frame.rows).step_by(thin).collect(),
    };
    let pick = |of: &[usize]| -> Vec<usize> { rows.iter().map(|row| of[*row]).collect() };
    let designs: Vec<Vec<usize>> = designs.iter().map(|design| pick(design)).collect();
    let outcomes: Vec<bool> = rows.iter().map(|row| happened[*row]).collect();
    let folds = pick(folds);
    let together = |members: &[usize], folds: &[usize]| {
        let members: Vec<&[usize]> = members.iter().map(|i| designs[*i].as_slice()).collect();
        Additive::new(&members).cross_validated(&outcomes, folds)
    };

    let accepted: Vec<usize> = (0..columns.len()).filter(|i| columns[*i].verdict == Verdict::Accepted).collect();
    let suspects: Vec<usize> = accepted.iter().copied().filter(|i| columns[*i].alone.best() >= SUSPECT_FROM).collect();
    for &i in suspects.iter().filter(|_| target.kind == TargetKind::Event) {
        let copy = |other: &usize| suspects.contains(other) && spearman(&shares[i], &shares[*other]).abs() >= COPY_FROM;
        let others: Vec<usize> = accepted.iter().copied().filter(|other| *other != i && !copy(other)).collect();
        // Without others there is nothing to add to: a table of one column is not suspicious for it.
        if !others.is_empty() {
            let gain = together(&[&others[..], &[i]].concat(), &folds) - together(&others, &folds);
            columns[i].gain = Some(gain);
        }
    }
    for column in &mut columns {
        if column.gain.is_some_and(|gain| gain > GAIN_LIMIT) {
            column.verdict = verdict(&column.name, Reason::Gain, settings);
        }
    }

    let usable = |column: &ColumnReport| matches!(column.verdict, Verdict::Accepted | Verdict::Allowed(..));
    let used: Vec<usize> = (0..columns.len()).filter(|i| usable(&columns[*i])).collect();
    let used_designs: Vec<&[usize]> = used.iter().map(|i| designs[*i].as_slice()).collect();
    let model = Additive::new(&used_designs);
    let random_folds = pick(&by_row);
    let mut scored = Scored {
        event: target.label.clone(),
        probability: model.out_of_fold(&outcomes, &random_folds),
        ..Scored::default()
    };
    let mut time_auc = None;
    if settings.order.is_some() {
        let places: Vec<usize> = (0..rows.len()).collect();
        let (fit, test) = places.split_at((rows.len() as f64 * (1.0 - LATEST)) as usize);
        let latest = model.trained_on(&outcomes, fit, test);
        time_auc = Some(auc(&outcomes[fit.len()..], &latest)).filter(|auc| auc.is_finite());
        let score = [vec![f64::NAN; fit.len()], latest].concat();
        scored.others.push(("fitted on the oldest 70 %".to_owned(), score));
        scored.blocks = (1..=BLOCKS).map(|block| block.to_string()).collect();
        scored.block = places.iter().map(|place| place * BLOCKS / rows.len()).collect();
    }
    scored.happened.clone_from(&outcomes);
    Ok(TargetReport {
        label: target.label.clone(),
        share: hits as f64 / frame.rows as f64,
        random_auc: model.cross_validated(&outcomes, &random_folds),
        group_auc: by_group.is_some().then(|| model.cross_validated(&outcomes, &folds)),
        time_auc,
        columns,
        scored,
    })
}

fn verdict(column: &str, reason: Reason, settings: &Settings) -> Verdict {
    match settings.allow.get(column) {
        Some(why) => Verdict::Allowed(reason, why.clone()),
        None => Verdict::Refused(reason),
    }
}

fn refusal(column: &ColumnReport, reason: Reason, target: &str) -> String {
    let ColumnReport { name, alone, gain, .. } = column;
    let finding = match reason {
        Reason::Alone => format!("with AUC {:.3}, above {ALONE_LIMIT}", alone.best()),
        Reason::Gain => format!(
            "with AUC {:.3} and adds {:.3} (> {GAIN_LIMIT}) to what the other columns know together",
            alone.best(),
            gain.unwrap_or(f64::NAN)
        ),
    };
    format!(
        "`{name}` alone tells `{target}` {finding}: it may only be known after the outcome. Leave the column out, or \
         name it with the reason why it is known before: `--allow '{name}=REASON'`"
    )
}

/// All rows of a group in one fold.
fn folds_of_groups(groups: &[String]) -> Vec<usize> {
    let mut known: BTreeMap<&str, u64> = BTreeMap::new();
    let mut folds = Vec::with_capacity(groups.len());
    for group in groups {
        let next = known.len() as u64;
        let number = *known.entry(group).or_insert(next);
        folds.push((mix(number) % FOLDS) as usize);
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::leaks::frame::{Column, Values};

    /// 3,000 rows: an honest signal, its consequence recorded afterwards twice, a level that follows the outcome, noise.
    fn planted() -> (Frame, Target) {
        let draw = |row: usize, salt: u64| (mix(row as u64 * 64 + salt) % 10_000) as f64 / 10_000.0;
        let rows = 3000;
        let honest: Vec<f64> = (0..rows).map(|row| draw(row, 1)).collect();
        let happened: Vec<bool> = (0..rows).map(|row| draw(row, 2) < 0.1 + 0.3 * honest[row]).collect();
        let minutes: Vec<f64> =
            (0..rows).map(|row| draw(row, 3) * 10.0 + if happened[row] { 5.5 } else { 0.0 }).collect();
        let seconds: Vec<f64> = minutes.iter().map(|x| (x * 60.0).round()).collect();
        let tag: Vec<usize> = (0..rows).map(|row| usize::from(happened[row]) * 2 + row % 2).collect();
        let names = ["busy", "ringing", "will revert", "closed"].map(str::to_owned).to_vec();
        let noise: Vec<f64> = (0..rows).map(|row| (draw(row, 4) * 9.0).floor()).collect();
        let id: Vec<f64> = (0..rows).map(|row| row as f64).collect();
        let column = |name: &str, values| Column { name: name.into(), values };
        let columns = vec![
            column("id", Values::Numbers(id)),
            column("honest", Values::Numbers(honest)),
            column("minutes", Values::Numbers(minutes)),
            column("seconds", Values::Numbers(seconds)),
            column("tag", Values::Levels { codes: tag, names }),
            column("noise", Values::Numbers(noise)),
        ];
        (Frame { rows, columns }, Target { label: "bought".into(), happened, kind: TargetKind::Event })
    }

    fn verdicts(report: &LeakReport) -> BTreeMap<&str, &Verdict> {
        report.targets[0].columns.iter().map(|column| (column.name.as_str(), &column.verdict)).collect()
    }

    #[test]
    fn planted_leaks_are_refused_and_honest_columns_are_not() {
        let (frame, target) = planted();
        let report = check(&frame, std::slice::from_ref(&target), &Settings::default()).expect("checks");
        let found = verdicts(&report);
        assert_eq!(*found["tag"], Verdict::Refused(Reason::Alone));
        assert_eq!(*found["minutes"], Verdict::Refused(Reason::Gain), "hides behind its copy no more");
        assert_eq!(*found["seconds"], Verdict::Refused(Reason::Gain));
        assert_eq!([found["honest"], found["noise"]], [&Verdict::Accepted; 2]);
        assert_eq!(*found["id"], Verdict::Identifier);
        let refusals = report.refusals();
        assert_eq!(refusals.len(), 3);
        assert!(refusals.iter().all(|refusal| refusal.contains("`--allow '")), "{refusals:?}");
        assert!(
            report.refuse().expect_err("refused").to_string().contains("`tag` alone tells `bought` with AUC 1.000")
        );
    }

    #[test]
    fn what_is_named_with_a_reason_passes_and_is_remembered() {
        let (frame, target) = planted();
        let allow = ["tag", "minutes", "seconds"].map(|name| (name.to_owned(), "known before".to_owned())).into();
        let settings = Settings { allow, ..Settings::default() };
        let report = check(&frame, std::slice::from_ref(&target), &settings).expect("checks");
        report.refuse().expect("all named");
        assert_eq!(report.allowed().len(), 3);
        assert!(report.text().expect("prints").contains("allowed: known before"));
        let unknown = Settings { allow: [("wage".to_owned(), String::new())].into(), ..Settings::default() };
        assert!(check(&frame, &[target], &unknown).is_err());
    }

    #[test]
    fn a_drifting_column_flatters_random_splits_and_is_reported() {
        let rows = 4000;
        // The season decides, and each season is over before the next begins.
        let season: Vec<f64> = (0..rows).map(|row| (row / 200) as f64).collect();
        let happened = (0..rows).map(|row| mix(row as u64) % 100 < 25 + 30 * (mix(row as u64 / 200 + 7) % 2)).collect();
        let frame = Frame { rows, columns: vec![Column { name: "season".into(), values: Values::Numbers(season) }] };
        let target = Target { label: "bought".into(), happened, kind: TargetKind::Event };
        let settings = Settings { order: Some((0..rows).collect()), ..Settings::default() };
        let report = check(&frame, &[target], &settings).expect("checks");
        let found = &report.targets[0];
        assert!(found.random_auc - found.time_auc.expect("ordered") > 0.15, "{found:?}");
        assert!(report.warnings()[0].contains("on the latest rows"), "{:?}", report.warnings());
    }

    #[test]
    fn rows_of_one_group_flatter_random_splits_and_are_reported() {
        let rows = 3000;
        let group = |row: usize| row % 300;
        let names: Vec<String> = (0..300).map(|i| format!("household {i}")).collect();
        let codes = (0..rows).map(|row| group(row) % 40).collect();
        let happened = (0..rows).map(|row| mix(group(row) as u64 % 40).is_multiple_of(2) || row % 9 == 0).collect();
        let values = Values::Levels { codes, names: names[..40].to_vec() };
        let frame = Frame { rows, columns: vec![Column { name: "street".into(), values }] };
        let groups = (0..rows).map(|row| names[group(row) % 40].clone()).collect();
        let settings = Settings { groups: Some(groups), ..Settings::default() };
        let report = check(&frame, &[Target { label: "bought".into(), happened, kind: TargetKind::Event }], &settings)
            .expect("checks");
        assert!(report.warnings()[0].contains("on unseen groups"), "{report:?}");
    }

    #[test]
    fn a_spend_is_two_events_unless_they_are_one() {
        let spend: Vec<f64> = (0..100).map(|i| f64::from((i - 60).max(0))).collect();
        let labels = |spend: &[f64]| spend_targets("spend_usd", spend).into_iter().map(|t| t.label).collect::<Vec<_>>();
        assert_eq!(labels(&spend), ["spend_usd > 0", "spend_usd > 30.00 (its 90 % point)"]);
        assert_eq!(labels(&[0.0; 10].map(|x: f64| x + 1.0)), Vec::<String>::new());
    }
}
