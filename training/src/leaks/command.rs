//! `check`: the leak checks on any CSV.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use jiff::civil::Date;
use scoreline::cli::models::AllowArgs;
use scoreline::packing::html;
use scoreline::packing::html::data::ReportData;
use scoreline::packing::leaks::frame::{Frame, Values};
use scoreline::packing::leaks::{LeakReport, Settings, Target, TargetKind, check, spend_targets};

/// Words that name the event when `--positive` is not given.
const YES: [&str; 5] = ["yes", "y", "true", "t", "1"];

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A CSV with a header; a column of numbers is numeric, any other has levels.
    #[arg(long, value_name = "CSV")]
    data: PathBuf,
    /// The outcome: a column with two values, or an amount, which is judged as "any" and as "above its 90 % point".
    #[arg(long, value_name = "COLUMN")]
    target: String,
    /// The value of the target that counts as the event.
    #[arg(long, value_name = "VALUE")]
    positive: Option<String>,
    /// Numbers or dates (2026-01-31) that put the rows in order of time: compares random with time splits.
    #[arg(long, value_name = "COLUMN", conflicts_with = "in_order")]
    time_column: Option<String>,
    /// The rows are in order of time already, the oldest first.
    #[arg(long)]
    in_order: bool,
    /// Whose row it is (a customer, a household): rows of one stay in one fold.
    #[arg(long, value_name = "COLUMN")]
    group: Option<String>,
    #[command(flatten)]
    allow: AllowArgs,
    /// Columns to leave out.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Also write the findings as a page, with what a quick additive model of the accepted columns achieves.
    #[arg(long, value_name = "HTML")]
    report: Option<PathBuf>,
}

/// Reads and checks; what refuses is in the report.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<LeakReport> {
    let mut frame = Frame::read(&args.data)?;
    let order = match &args.time_column {
        Some(name) => Some(in_time(name, &frame.columns[frame.position(name)?].values)?),
        None => args.in_order.then(|| (0..frame.rows).collect()),
    };
    let groups = match &args.group {
        Some(name) => Some(frame.columns[frame.position(name)?].values.texts()),
        None => None,
    };
    let target = frame.position(&args.target)?;
    let targets = targets(&args.target, &frame.columns[target].values, args.positive.as_deref())?;
    let mut left_out = vec![target];
    for name in args.exclude.iter().chain(&args.time_column).chain(&args.group) {
        left_out.push(frame.position(name)?);
    }
    let mut position = 0..;
    frame.columns.retain(|_| position.next().is_none_or(|position| !left_out.contains(&position)));
    let found = check(&frame, &targets, &Settings { allow: args.allow.reasons(), order, groups })?;
    if let Some(path) = &args.report {
        let problem = || format!("cannot write the report {}", path.display());
        std::fs::write(path, html::page(&report(args, &found))).with_context(problem)?;
    }
    Ok(found)
}

/// The findings, beside the quick model of the first target.
fn report(args: &CheckArgs, found: &LeakReport) -> ReportData {
    let scored = found.targets.first().map(|target| html::lead::report(&target.scored)).unwrap_or_default();
    ReportData {
        title: format!("Leak check of {}", args.data.file_name().unwrap_or_default().to_string_lossy()),
        description: "Pictures: a quick additive logistic model of the accepted columns, each row scored by a model \
                      that was not fitted on it."
            .to_owned(),
        facts: vec![("rows".to_owned(), found.rows.to_string()), ("target".to_owned(), args.target.clone())],
        leaks: Some(found.clone()),
        ..scored
    }
}

fn targets(name: &str, values: &Values, positive: Option<&str>) -> anyhow::Result<Vec<Target>> {
    let texts = values.texts();
    let mut known = texts.clone();
    known.sort_unstable();
    known.dedup();
    let event = |value: &str| Target {
        label: format!("{name} = {value}"),
        happened: texts.iter().map(|text| text == value).collect(),
        kind: TargetKind::Event,
    };
    let list = || known.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
    if let Some(value) = positive {
        anyhow::ensure!(known.iter().any(|text| text == value), "`{name}` is never `{value}`, it holds {}", list());
        return Ok(vec![event(value)]);
    }
    if known.len() == 2 {
        let yes = known.iter().find(|text| YES.iter().any(|yes| text.eq_ignore_ascii_case(yes)));
        let yes =
            yes.with_context(|| format!("which value of `{name}` is the event? give `--positive`: {}", list()))?;
        return Ok(vec![event(yes)]);
    }
    let Values::Numbers(spend) = values else {
        anyhow::bail!("`{name}` has {} values: give the one to predict with `--positive`: {}", known.len(), list());
    };
    anyhow::ensure!(!spend.iter().any(|value| value.is_nan()), "`{name}` is missing in some rows");
    let targets = spend_targets(name, spend);
    anyhow::ensure!(!targets.is_empty(), "`{name}` is the same in every row");
    Ok(targets)
}

/// Rows from the oldest to the latest.
fn in_time(name: &str, values: &Values) -> anyhow::Result<Vec<usize>> {
    let allowed = || format!("`--time-column {name}` must hold numbers or dates like 2026-01-31 in every row");
    let times: Vec<f64> = match values {
        Values::Numbers(numbers) => numbers.clone(),
        Values::Levels { codes, names } => {
            // A time of day after the date only orders rows within it; rows of one day keep their order.
            let day = |name: &String| -> anyhow::Result<f64> {
                let date: Date = name.get(..10).unwrap_or(name).parse().with_context(allowed)?;
                Ok((Date::ZERO.duration_until(date).as_hours() / 24) as f64)
            };
            let days = names.iter().map(day).collect::<anyhow::Result<Vec<_>>>()?;
            codes.iter().map(|code| days[*code]).collect()
        }
    };
    anyhow::ensure!(times.iter().all(|time| !time.is_nan()), allowed());
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by(|a, b| times[*a].total_cmp(&times[*b]));
    Ok(order)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        check: CheckArgs,
    }

    /// 900 calls: the length of a call is known when it is over.
    fn calls() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("calls.csv");
        let mut csv = "day,job,seconds,household,sold\n".to_owned();
        for i in 0..900_u64 {
            let sold = scoreline::packing::split::mix(i).is_multiple_of(4);
            let seconds = if sold { 200 } else { 20 } + scoreline::packing::split::mix(i + 9000) % 150;
            let job = ["cook", "clerk", ""][(i % 3) as usize];
            let sold = if sold { "yes" } else { "no" };
            writeln!(csv, "2026-01-{:02},{job},{seconds},h{},{sold}", 1 + i / 30, i / 2).expect("writes");
        }
        std::fs::write(&path, csv).expect("writes");
        let path = path.display().to_string();
        (folder, path)
    }

    fn checked(path: &str, more: &[&str]) -> anyhow::Result<LeakReport> {
        let line = [&["check", "--data", path], more].concat();
        run(&Line::try_parse_from(line)?.check)
    }

    #[test]
    fn a_leak_in_a_file_is_refused_until_it_is_named_or_left_out() {
        let (_folder, path) = calls();
        let target = ["--target", "sold", "--time-column", "day", "--group", "household"];
        let found = checked(&path, &target).expect("checks");
        assert_eq!(found.refusals().len(), 1);
        assert!(found.refusals()[0].starts_with("`seconds` alone tells `sold = yes`"), "{:?}", found.refusals());
        assert_eq!(found.targets[0].columns.len(), 2, "target, time and group are no features");
        let named = checked(&path, &[&target[..], &["--allow", "seconds=planned length"]].concat()).expect("checks");
        named.refuse().expect("named");
        assert_eq!(named.allowed()["seconds"], "planned length");
        checked(&path, &[&target[..], &["--exclude", "seconds"]].concat()).expect("checks").refuse().expect("left out");
    }

    #[test]
    fn what_can_not_be_understood_is_said() {
        let (_folder, path) = calls();
        let said = |more: &[&str]| format!("{:#}", checked(&path, more).expect_err("refused"));
        assert!(said(&["--target", "job"]).contains("give the one to predict with `--positive`"));
        assert!(
            said(&["--target", "sold", "--positive", "maybe"]).contains("`sold` is never `maybe`, it holds no, yes")
        );
        assert!(said(&["--target", "sold", "--time-column", "job"]).contains("dates like 2026-01-31"));
        assert!(said(&["--target", "sold", "--allow", "seconds="]).contains("must look like"));
    }
}
