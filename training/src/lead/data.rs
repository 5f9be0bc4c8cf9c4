//! Reads a file of leads in date order, oldest first: the columns the recipe names, and nothing else. A column that is
//! only known after the call, such as `duration`, is never read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::Context as _;
use scoreline::packing::leaks::frame::{Column, Frame, Values};

use super::recipe::{CATEGORIES, ECONOMY, NUMBERS};

/// Leads column by column.
#[derive(Clone, Debug)]
pub(super) struct Leads {
    /// In the order of `NUMBERS`.
    pub numbers: Vec<Vec<f64>>,
    /// In the order of `CATEGORIES`.
    pub texts: Vec<Texts>,
    pub converted: Vec<bool>,
    /// The day of each row, counted from 0: the file has no dates, so a day is a run of rows of one weekday in one state
    /// of the economy, which changes daily.
    pub days: Vec<usize>,
}

/// A column of names, as positions in a sorted dictionary. The dictionary is a way to store the file; which names a
/// model knows is learnt from its training rows.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    pub names: Vec<String>,
    pub codes: Vec<usize>,
}

impl Leads {
    /// # Errors
    /// Names the column that is missing or the line that cannot be read.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let problem = || format!("cannot read {}", path.display());
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator(path).with_context(problem)?)
            .from_path(path)
            .with_context(problem)?;
        let headers = reader.headers().with_context(problem)?.clone();
        let column = |name: &str| {
            let found = headers.iter().position(|header| header == name);
            found.with_context(|| format!("{} lacks the column `{name}`", path.display()))
        };
        let numbers: Vec<usize> = NUMBERS.iter().map(|name| column(name)).collect::<Result<_, _>>()?;
        let texts: Vec<usize> = CATEGORIES.iter().map(|name| column(name)).collect::<Result<_, _>>()?;
        let outcome = column("y")?;
        let mut values = vec![Vec::new(); numbers.len()];
        let mut words = vec![Vec::new(); texts.len()];
        let mut converted = Vec::new();
        for (line, record) in (2..).zip(reader.records()) {
            let record = record.with_context(problem)?;
            for (&position, values) in numbers.iter().zip(&mut values) {
                let number: f64 =
                    record[position].trim().parse().ok().filter(|number: &f64| number.is_finite()).with_context(
                        || format!("{} line {line}: `{}` must be a number", path.display(), &headers[position]),
                    )?;
                values.push(number);
            }
            for (&position, words) in texts.iter().zip(&mut words) {
                words.push(record[position].trim().to_owned());
            }
            converted.push(match &record[outcome] {
                "yes" => true,
                "no" => false,
                _ => anyhow::bail!("{} line {line}: `y` must be yes or no", path.display()),
            });
        }
        anyhow::ensure!(converted.len() >= 1000, "{} holds fewer than 1000 leads", path.display());
        let texts: Vec<Texts> = words.iter().map(|words| Texts::of(words)).collect();
        let days = days(&values, &texts);
        Ok(Self { numbers: values, texts, converted, days })
    }

    /// The columns as a leak check looks at them.
    pub(super) fn frame(&self) -> Frame {
        let numbers = NUMBERS
            .iter()
            .zip(&self.numbers)
            .map(|(name, values)| Column { name: (*name).to_owned(), values: Values::Numbers(values.clone()) });
        let texts = CATEGORIES.iter().zip(&self.texts).map(|(name, texts)| Column {
            name: (*name).to_owned(),
            values: Values::Levels { codes: texts.codes.clone(), names: texts.names.clone() },
        });
        Frame { rows: self.len(), columns: numbers.chain(texts).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.converted.len()
    }

    /// What became of these rows.
    pub(super) fn outcomes(&self, rows: &[usize]) -> Vec<bool> {
        rows.iter().map(|&row| self.converted[row]).collect()
    }
}

fn days(numbers: &[Vec<f64>], texts: &[Texts]) -> Vec<usize> {
    let weekday = CATEGORIES.iter().position(|name| *name == "day_of_week");
    let weekday = weekday.map_or(&[][..], |column| &texts[column].codes);
    let is_new = |row: usize| {
        let before = row.checked_sub(1)?;
        let same = |column: &Vec<f64>| column[row] == column[before];
        Some(weekday[row] != weekday[before] || !numbers[ECONOMY].iter().all(same))
    };
    let mut day = 0;
    let next = |row| {
        day += usize::from(is_new(row) == Some(true));
        day
    };
    (0..weekday.len()).map(next).collect()
}

/// The original of the shipped file is separated by semicolons, as are many exports.
fn separator(path: &Path) -> std::io::Result<u8> {
    let mut header = String::new();
    BufReader::new(File::open(path)?).read_line(&mut header)?;
    Ok(if header.contains(';') && !header.contains(',') { b';' } else { b',' })
}

impl Texts {
    fn of(words: &[String]) -> Self {
        let sorted: BTreeSet<&String> = words.iter().collect();
        let names: Vec<String> = sorted.into_iter().cloned().collect();
        let codes = words.iter().map(|word| names.partition_point(|name| name < word)).collect();
        Self { names, codes }
    }

    pub(super) fn text(&self, row: usize) -> &str {
        &self.names[self.codes[row]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of 1,000 leads, told apart by their age.
    fn file(separator: char, change: impl Fn(&mut Vec<String>)) -> String {
        let names: Vec<&str> = NUMBERS.iter().chain(&CATEGORIES).copied().chain(["y"]).collect();
        let mut lines = vec![names.join(&separator.to_string())];
        for row in 0..1000 {
            let mut fields: Vec<String> = NUMBERS.iter().map(|_| row.to_string()).collect();
            fields.extend(CATEGORIES.iter().map(|name| format!("{name} {}", row % 3)));
            fields.push(if row % 10 == 0 { "yes" } else { "no" }.to_owned());
            change(&mut fields);
            lines.push(fields.join(&separator.to_string()));
        }
        lines.join("\n")
    }

    #[test]
    fn commas_and_semicolons_read_alike() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |separator| {
            let path = folder.path().join("leads.csv");
            std::fs::write(&path, file(separator, |_| ())).expect("writes");
            Leads::read(&path).expect("reads")
        };
        let (commas, semicolons) = (read(','), read(';'));
        assert_eq!(
            (commas.len(), &commas.numbers, &commas.converted),
            (1000, &semicolons.numbers, &semicolons.converted)
        );
        assert_eq!(commas.texts[0].names.len(), 3);
        assert_eq!((commas.days[0], commas.days[999]), (0, 999), "the economy of this file changes with each row");
        assert_eq!(commas.frame().columns.len(), NUMBERS.len() + CATEGORIES.len());
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = |text: String| {
            let path = folder.path().join("leads.csv");
            std::fs::write(&path, text).expect("writes");
            format!("{:#}", Leads::read(&path).expect_err("refused"))
        };
        assert!(refused("age,y\n1,no\n".to_owned()).contains("lacks the column"));
        let wrong = |fields: &mut Vec<String>| fields[0] = "old".to_owned();
        assert!(refused(file(',', wrong)).contains("line 2: `age` must be a number"));
        let unsure = |fields: &mut Vec<String>| *fields.last_mut().expect("an outcome") = "perhaps".to_owned();
        assert!(refused(file(',', unsure)).contains("line 2: `y` must be yes or no"));
    }
}
