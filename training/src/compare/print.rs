//! The table as text, Markdown or CSV.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::bootstrap::{Estimate, FIGURES};
use super::{Line, Standing};

/// How a figure is written.
#[derive(Clone, Copy)]
enum Unit {
    /// Three digits after the point, two in the interval.
    Share,
    /// Money: one digit after the point, none in the interval.
    Amount,
    Percent,
    /// The same of what is never negative.
    Size,
}

/// Heading, name in CSV, unit; in the order of `bootstrap::Figures`.
const COLUMNS: [(&str, &str, Unit); FIGURES] = [
    ("nGini", "normalized_gini", Unit::Share),
    ("Spearman", "spearman", Unit::Share),
    ("RMSE", "rmse", Unit::Amount),
    ("MAE", "mae", Unit::Amount),
    ("total error", "total_error", Unit::Percent),
    ("decile error", "decile_error", Unit::Size),
];

/// What a table file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Markdown,
}

impl Format {
    /// By the ending of the file's name.
    pub(crate) fn of(path: &Path) -> anyhow::Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("md") => Ok(Self::Markdown),
            Some(_) | None => anyhow::bail!("`{}` must end in .csv or .md", path.display()),
        }
    }
}

/// Prints the tables on standard output.
pub(crate) fn print(standings: &[Standing]) -> anyhow::Result<()> {
    std::io::stdout().lock().write_all(text(standings)?.as_bytes()).context("cannot write to standard output")
}

/// Writes the tables to a file.
pub(crate) fn write(standings: &[Standing], format: Format, path: &Path) -> anyhow::Result<()> {
    let bytes = match format {
        Format::Csv => csv(standings)?,
        Format::Markdown => markdown(standings)?.into_bytes(),
    };
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn text(standings: &[Standing]) -> anyhow::Result<String> {
    let mut text = String::new();
    for standing in standings {
        let rows = rows(standing);
        // A remark may run on over the columns it leaves empty.
        let cells =
            |column: usize| rows.iter().filter(move |row| column == 0 || row.len() > 2).map(move |row| row.get(column));
        let width = |column: usize| cells(column).flatten().map(String::len).max().unwrap_or(0);
        let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
        writeln!(text, "{}", standing.title)?;
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:width$}  ")?;
            }
            writeln!(text, "{}", line.trim_end())?;
        }
        for note in fits(standing) {
            writeln!(text, "{note}")?;
        }
        writeln!(text)?;
    }
    text.push_str(NOTE);
    text.push('\n');
    Ok(text)
}

fn markdown(standings: &[Standing]) -> anyhow::Result<String> {
    let mut text = String::new();
    for standing in standings {
        writeln!(text, "{}\n", standing.title)?;
        for (i, row) in rows(standing).iter().enumerate() {
            writeln!(text, "| {} |", row.join(" | "))?;
            if i == 0 {
                writeln!(text, "|{}", "---|".repeat(row.len()))?;
            }
        }
        writeln!(text)?;
        for note in fits(standing) {
            writeln!(text, "- {note}")?;
        }
        writeln!(text)?;
    }
    writeln!(text, "{NOTE}")?;
    Ok(text)
}

const NOTE: &str = "[low, high]: 95 % of the bootstrap draws of customers. The decile error of a draw is mostly above the \
                    measured one: drawing adds noise to each decile, and no sign cancels it. dGini: nGini minus that of \
                    the last row, on the same draws. seconds: to fit and predict once.";

/// The heading, then a row for each model; one without figures is shorter.
fn rows(standing: &Standing) -> Vec<Vec<String>> {
    let mut rows = vec![vec!["model".to_owned()]];
    rows[0].extend(COLUMNS.iter().map(|(heading, _, _)| (*heading).to_owned()));
    rows[0].extend(["dGini".to_owned(), "seconds".to_owned()]);
    for Line { label, measured, seconds, .. } in &standing.lines {
        let mut row = vec![(*label).to_owned()];
        match measured {
            Ok(measured) => {
                row.extend(COLUMNS.iter().zip(&measured.figures).map(|((_, _, unit), of)| cell(*unit, of)));
                row.push(difference(&measured.beside_last[0]));
                row.push(format!("{seconds:.1}"));
            }
            Err(why) => row.push(why.clone()),
        }
        rows.push(row);
    }
    rows
}

/// What is worth knowing of the fits.
fn fits(standing: &Standing) -> impl Iterator<Item = String> {
    let noted = standing.lines.iter().filter(|line| !line.fit.is_empty());
    noted.map(|line| format!("{} (first fold): {}", line.label, line.fit))
}

fn cell(unit: Unit, Estimate { value, low, high }: &Estimate) -> String {
    if value.is_nan() {
        return "-".to_owned();
    }
    let percent = |share: f64| share * 100.0;
    match unit {
        Unit::Share => format!("{value:.3} [{low:.2}, {high:.2}]"),
        Unit::Amount => format!("{value:.1} [{low:.0}, {high:.0}]"),
        Unit::Size => format!("{:.1} % [{:.1}, {:.1}]", percent(*value), percent(*low), percent(*high)),
        Unit::Percent => format!("{:+.1} % [{:+.1}, {:+.1}]", percent(*value), percent(*low), percent(*high)),
    }
}

fn difference(Estimate { value, low, high }: &Estimate) -> String {
    format!("{value:+.3} [{low:+.3}, {high:+.3}]")
}

/// One line for each model and data set: every figure with its interval, then every difference from the last model's.
fn csv(standings: &[Standing]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut heading = vec!["data".to_owned(), "model".to_owned(), "remark".to_owned(), "seconds".to_owned()];
    for prefix in ["", "difference_"] {
        for (_, name, _) in COLUMNS {
            heading.extend(["", "_low", "_high"].map(|suffix| format!("{prefix}{name}{suffix}")));
        }
    }
    writer.write_record(&heading)?;
    for standing in standings {
        for Line { label, measured, seconds, .. } in &standing.lines {
            let data = standing.title.split(':').next().unwrap_or_default();
            let remark = measured.as_ref().err().cloned().unwrap_or_default();
            let mut record = vec![data.to_owned(), (*label).to_owned(), remark, format!("{seconds:.3}")];
            match measured {
                Ok(measured) => {
                    for Estimate { value, low, high } in measured.figures.iter().chain(&measured.beside_last) {
                        record.extend([value, low, high].map(|figure| format!("{figure:.6}")));
                    }
                }
                Err(_) => record.resize(heading.len(), String::new()),
            }
            writer.write_record(&record)?;
        }
    }
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::super::bootstrap::Measured;
    use super::*;

    fn standing() -> Standing {
        let at = |value: f64| Estimate { value, low: value - 0.25, high: value + 0.25 };
        let figures = [0.7, 0.43, 91.25, 34.5, -0.02, 0.074].map(at);
        let mut constant = figures;
        constant[1] = Estimate { value: f64::NAN, low: f64::NAN, high: f64::NAN };
        let line = |label, measured| Line { label, measured, seconds: 1.25, fit: String::new() };
        let measured = |figures| Ok(Measured { figures, beside_last: [at(0.0); FIGURES] });
        Standing {
            title: "CDNOW: some".into(),
            lines: vec![
                line("mean", measured(constant)),
                line("LightGBM hurdle", Err("stopped".into())),
                line("shipped", measured(figures)),
            ],
        }
    }

    #[test]
    fn a_table_is_aligned_and_says_what_has_no_figures() {
        let text = text(&[standing()]).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "CDNOW: some");
        assert_eq!(lines[1].find("Spearman"), lines[2].find("-  "));
        assert_eq!(lines[3], "LightGBM hurdle  stopped");
        assert!(lines[4].contains("0.700 [0.45, 0.95]") && lines[4].contains("-2.0 % [-27.0, +23.0]"), "{}", lines[4]);
        assert!(lines[4].ends_with("+0.000 [-0.250, +0.250]  1.2"), "{}", lines[4]);
    }

    #[test]
    fn files_hold_the_same_table() {
        assert_eq!(Format::of(Path::new("a.csv")).ok(), Some(Format::Csv));
        assert!(Format::of(Path::new("a.txt")).is_err());
        let markdown = markdown(&[standing()]).expect("markdown");
        assert!(markdown.contains("| shipped | 0.700 [0.45, 0.95] |") && markdown.contains("|---|---|"));
        let csv = String::from_utf8(csv(&[standing()]).expect("csv")).expect("text");
        let fields: Vec<_> = csv.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(fields, [4 + 2 * 3 * FIGURES; 4]);
        assert!(csv.contains("CDNOW,LightGBM hurdle,stopped,1.250,,"));
    }
}
