//! Any CSV as columns of numbers and levels: what a leak check looks at. Which is which is read off the values.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use crate::packing::table::Row;

/// Texts that stand for no value, whatever their case.
const MISSING: [&str; 6] = ["", "na", "nan", "null", "none", "?"];

/// Columns of one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    pub rows: usize,
    pub columns: Vec<Column>,
}

/// A named column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub values: Values,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// `NaN` is missing.
    Numbers(Vec<f64>),
    /// A level for each row, into the names. Missing is a level with an empty name.
    Levels { codes: Vec<usize>, names: Vec<String> },
}

impl Frame {
    /// Reads a CSV with a header. A column whose every present value is a number is numeric.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let problem = || format!("cannot read {}", path.display());
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).with_context(problem)?;
        let names: Vec<String> = reader.headers().with_context(problem)?.iter().map(str::to_owned).collect();
        let mut texts: Vec<Vec<String>> = vec![Vec::new(); names.len()];
        for record in reader.records() {
            for (column, field) in texts.iter_mut().zip(&record.with_context(problem)?) {
                column.push(field.to_owned());
            }
        }
        let rows = texts.first().map_or(0, Vec::len);
        anyhow::ensure!(rows > 0, "{} has no rows", path.display());
        let columns = names.into_iter().zip(texts).map(|(name, texts)| Column { name, values: values(texts) });
        Ok(Self { rows, columns: columns.collect() })
    }

    /// The features of a table of customers.
    pub(crate) fn of_rows(features: &[String], rows: &[&Row]) -> Self {
        let column = |(i, name): (usize, &String)| Column {
            name: name.clone(),
            values: Values::Numbers(rows.iter().map(|row| row.values[i]).collect()),
        };
        Self { rows: rows.len(), columns: features.iter().enumerate().map(column).collect() }
    }

    pub fn position(&self, name: &str) -> anyhow::Result<usize> {
        self.columns.iter().position(|column| column.name == name).with_context(|| {
            let known: Vec<_> = self.columns.iter().map(|column| column.name.as_str()).collect();
            format!("no column `{name}`: there are {}", known.join(", "))
        })
    }
}

impl Values {
    /// Different present values.
    pub fn distinct(&self) -> usize {
        match self {
            Self::Numbers(values) => {
                let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
                sorted.sort_unstable_by(f64::total_cmp);
                sorted.dedup();
                sorted.len()
            }
            Self::Levels { names, .. } => names.iter().filter(|name| !name.is_empty()).count(),
        }
    }

    /// Whether the values name rows instead of describing them: texts or whole numbers that hardly ever repeat.
    pub(crate) fn identify(&self, rows: usize) -> bool {
        let distinct = self.distinct();
        match self {
            Self::Levels { .. } => distinct * 2 > rows,
            Self::Numbers(values) => {
                let whole = |value: &f64| value.is_nan() || value.fract() == 0.0;
                distinct * 100 > rows * 95 && values.iter().all(whole)
            }
        }
    }

    /// A text for each row, to group by.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Numbers(values) => values.iter().map(f64::to_string).collect(),
            Self::Levels { codes, names } => codes.iter().map(|code| names[*code].clone()).collect(),
        }
    }
}

fn values(mut texts: Vec<String>) -> Values {
    for text in &mut texts {
        if MISSING.iter().any(|missing| text.eq_ignore_ascii_case(missing)) {
            text.clear();
        }
    }
    let number = |text: &String| {
        if text.is_empty() { Some(f64::NAN) } else { text.parse().ok().filter(|x: &f64| x.is_finite()) }
    };
    if let Some(numbers) = texts.iter().map(number).collect::<Option<Vec<f64>>>() {
        return Values::Numbers(numbers);
    }
    let mut known = BTreeMap::new();
    let mut names = Vec::new();
    let codes = texts.into_iter().map(|text| {
        *known.entry(text).or_insert_with_key(|text| {
            names.push(text.clone());
            names.len() - 1
        })
    });
    let codes = codes.collect();
    Values::Levels { codes, names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_off_the_values_and_missing_is_told_from_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("any.csv");
        std::fs::write(&path, "id,age,job\na1, 30 ,cook\na2,NA,\na3,?,cook\n").expect("writes");
        let frame = Frame::read(&path).expect("reads");
        let Values::Numbers(ages) = &frame.columns[1].values else { panic!("age is numeric") };
        assert_eq!(ages[0], 30.0);
        assert!(ages[1].is_nan() && ages[2].is_nan());
        let jobs = Values::Levels { codes: vec![0, 1, 0], names: vec!["cook".into(), String::new()] };
        assert_eq!((&frame.columns[2].values, jobs.distinct()), (&jobs, 1));
        assert!(frame.columns[0].values.identify(3) && !jobs.identify(3));
        assert!(frame.position("wage").expect_err("unknown").to_string().contains("there are id, age, job"));
    }
}
