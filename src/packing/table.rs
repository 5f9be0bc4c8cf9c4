//! A table of customers: a row for each, or for each time they were seen, features beside the outcome. The CSV that
//! `scoreline features export` and `scoreline-training features` write and `scoreline models pack` reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;

use crate::packing::split::Split;

/// Columns that are not features.
const CUSTOMER: &str = "customer";
const AS_OF: &str = "as_of";
const SPLIT: &str = "split";
const HORIZON: &str = "horizon_days";
const SPEND: &str = "spend_usd";
const CHANNEL: &str = "acquisition_channel";
const SEGMENT: &str = "segment";

/// As many as a bundle may list.
const MOST_CATEGORIES: usize = 1024;

/// Rows of features in one order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub features: Vec<String>,
    /// Of each feature that is a text, its values in order: rows hold their positions.
    pub categories: BTreeMap<String, Vec<String>>,
    /// Days whose spend is the outcome, where the table says so.
    pub horizon_days: Option<u32>,
    pub rows: Vec<Row>,
}

/// One customer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub customer: String,
    /// When they were seen; empty in a table of one time.
    pub as_of: String,
    pub split: Split,
    /// In the order of the table's features; `NaN` is missing.
    pub values: Vec<f64>,
    /// The outcome: spend within the horizon.
    pub spend_usd: f64,
    pub acquisition_channel: String,
    pub segment: String,
}

impl Table {
    pub fn part(&self, split: Split) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.split == split).collect()
    }

    pub fn position(&self, feature: &str) -> Option<usize> {
        self.features.iter().position(|name| name == feature)
    }

    /// A missing value is an empty field.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let problem = || format!("cannot write {}", path.display());
        let mut writer = csv::Writer::from_path(path).with_context(problem)?;
        let names = self.features.iter().map(String::as_str);
        let horizon = self.horizon_days.map(|_| HORIZON);
        let first = [CUSTOMER, SPLIT].into_iter().chain(horizon);
        writer.write_record(first.chain(names).chain([SPEND, CHANNEL, SEGMENT]))?;
        for row in &self.rows {
            let mut record = vec![row.customer.clone(), row.split.as_str().to_owned()];
            record.extend(self.horizon_days.map(|days| days.to_string()));
            record.extend(row.values.iter().map(|v| if v.is_nan() { String::new() } else { v.to_string() }));
            record.extend([row.spend_usd.to_string(), row.acquisition_channel.clone(), row.segment.clone()]);
            writer.write_record(&record)?;
        }
        writer.flush().with_context(problem)
    }

    /// Reads what `write` wrote, what `scoreline features export` writes, or the same columns made elsewhere in any order. Time,
    /// horizon, channel and segment may be absent. A feature that holds a text anywhere is one of texts.
    ///
    /// # Errors
    /// Names the column that is missing, or the line and column that cannot be read.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let problem = || format!("cannot read {}", path.display());
        let mut reader = csv::Reader::from_path(path).with_context(problem)?;
        let headers = reader.headers().with_context(problem)?.clone();
        let column = |name: &str| headers.iter().position(|header| header == name);
        let needed = |name: &str| column(name).with_context(|| format!("{} lacks the column `{name}`", path.display()));
        let customer = needed(CUSTOMER)?;
        let split = needed(SPLIT)?;
        let spend = needed(SPEND)?;
        let channel = column(CHANNEL);
        let segment = column(SEGMENT);
        let as_of = column(AS_OF);
        let horizon = column(HORIZON);
        let others = [Some(customer), Some(split), Some(spend), as_of, horizon, channel, segment];
        let features: Vec<usize> = (0..headers.len()).filter(|i| !others.contains(&Some(*i))).collect();
        let mut columns: Vec<TextOrNumbers> = features.iter().map(|_| TextOrNumbers::Numbers(Vec::new())).collect();
        let mut horizons = BTreeSet::new();
        let mut rows = Vec::new();
        for (line, record) in (2..).zip(reader.records()) {
            let record = record.with_context(problem)?;
            let place = || format!("{} line {line}", path.display());
            for (values, &i) in columns.iter_mut().zip(&features) {
                values.push(&record[i]);
            }
            let number = |i: usize| -> anyhow::Result<f64> {
                let text = &record[i];
                text.parse().with_context(|| format!("{}: column `{}`: `{text}` is not a number", place(), &headers[i]))
            };
            let split = match &record[split] {
                "fit" => Split::Fit,
                "calibration" => Split::Calibration,
                "test" => Split::Test,
                other => anyhow::bail!("{}: `split` must be fit, calibration or test, got `{other}`", place()),
            };
            if let Some(horizon) = horizon {
                let days = number(horizon)?;
                let is_whole = days >= 1.0 && days.fract() == 0.0 && days <= f64::from(u16::MAX);
                anyhow::ensure!(is_whole, "{}: `{HORIZON}` must be a whole number of days, got `{days}`", place());
                horizons.insert(days as u32);
            }
            rows.push(Row {
                customer: record[customer].to_owned(),
                as_of: as_of.map_or(String::new(), |i| record[i].to_owned()),
                split,
                values: Vec::with_capacity(features.len()),
                spend_usd: number(spend)?,
                acquisition_channel: channel.map_or(String::new(), |i| record[i].to_owned()),
                segment: segment.map_or(String::new(), |i| record[i].to_owned()),
            });
        }
        anyhow::ensure!(horizons.len() < 2, "{} has outcomes of several horizons: {horizons:?} days", path.display());
        let mut categories = BTreeMap::new();
        for (column, &i) in columns.into_iter().zip(&features) {
            let (numbers, texts) = column.numbered();
            let name = &headers[i];
            anyhow::ensure!(
                texts.len() <= MOST_CATEGORIES,
                "{}: column `{name}` holds {} different texts, at most {MOST_CATEGORIES} can be categories",
                path.display(),
                texts.len()
            );
            for (row, number) in rows.iter_mut().zip(numbers) {
                row.values.push(number);
            }
            if !texts.is_empty() {
                categories.insert(name.to_owned(), texts);
            }
        }
        let names = features.iter().map(|&i| headers[i].to_owned()).collect();
        Ok(Self { features: names, categories, horizon_days: horizons.first().copied(), rows })
    }

    /// The table with these features alone, in this order.
    ///
    /// # Errors
    /// Names the feature that it lacks.
    pub(crate) fn only(&self, names: &[String]) -> anyhow::Result<Self> {
        let columns = names.iter().map(|name| {
            self.position(name).with_context(|| {
                format!("the model reads `{name}`, which is no column of the table: {}", self.features.join(", "))
            })
        });
        let columns: Vec<usize> = columns.collect::<Result<_, _>>()?;
        let rows = self
            .rows
            .iter()
            .map(|row| Row { values: columns.iter().map(|column| row.values[*column]).collect(), ..row.clone() });
        Ok(Self { features: names.to_vec(), rows: rows.collect(), ..self.clone() })
    }
}

/// A column as far as it is read.
enum TextOrNumbers {
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

impl TextOrNumbers {
    fn push(&mut self, text: &str) {
        if let Self::Numbers(numbers) = self {
            match text.parse() {
                _ if text.is_empty() => return numbers.push(f64::NAN),
                Ok(number) => return numbers.push(number),
                Err(_) => {
                    let said = |number: &f64| if number.is_nan() { String::new() } else { number.to_string() };
                    *self = Self::Texts(numbers.iter().map(said).collect());
                }
            }
        }
        if let Self::Texts(texts) = self {
            texts.push(text.trim().to_owned());
        }
    }

    /// The numbers, or positions among the texts there are, which are in order; an empty text is missing.
    fn numbered(self) -> (Vec<f64>, Vec<String>) {
        match self {
            Self::Numbers(numbers) => (numbers, Vec::new()),
            Self::Texts(texts) => {
                let known: Vec<String> = texts
                    .iter()
                    .filter(|text| !text.is_empty())
                    .cloned()
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect();
                let number = |text: &String| known.binary_search(text).map_or(f64::NAN, |position| position as f64);
                (texts.iter().map(number).collect(), known)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_back_as_written_and_says_what_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("features.csv");
        let row = |customer: &str, split, value| Row {
            customer: customer.into(),
            as_of: String::new(),
            split,
            values: vec![1.5, value],
            spend_usd: 12.25,
            acquisition_channel: "social".into(),
            segment: "first_order_under_15".into(),
        };
        let table = Table {
            features: vec!["recency_days".into(), "tenure_days".into()],
            categories: BTreeMap::new(),
            horizon_days: Some(90),
            rows: vec![row("1", Split::Fit, 3.0), row("2", Split::Test, 0.1)],
        };
        table.write(&path).expect("writes");
        assert_eq!(Table::read(&path).expect("reads"), table);
        let missing = Table { rows: vec![row("1", Split::Calibration, f64::NAN)], ..table };
        missing.write(&path).expect("writes");
        assert!(Table::read(&path).expect("reads").rows[0].values[1].is_nan());

        let refused = |text: &str| {
            std::fs::write(&path, text).expect("writes");
            format!("{:#}", Table::read(&path).expect_err("refused"))
        };
        assert!(refused("customer,spend_usd\n").contains("lacks the column `split`"));
        assert!(refused("customer,split,spend_usd\n1,train,2\n").contains("line 2: `split` must be fit"));
        assert!(refused("customer,split,spend_usd,a\n1,fit,x,2\n").contains("line 2: column `spend_usd`: `x` is not"));
        assert!(
            refused("customer,split,spend_usd,horizon_days\n1,fit,2,90\n2,fit,2,30\n").contains("several horizons")
        );
        assert!(refused("customer,split,spend_usd,horizon_days\n1,fit,2,9.5\n").contains("a whole number of days"));
    }

    #[test]
    fn a_column_with_a_text_is_one_of_categories() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("features.csv");
        let text = "customer,as_of,split,plan,spend_usd,age\n1,2026-01-01,fit,gold,2,30\n1,2026-04-01,fit,,2,\n2,,test,7,0,40\n";
        std::fs::write(&path, text).expect("writes");
        let table = Table::read(&path).expect("reads");
        assert_eq!(table.features, ["plan", "age"]);
        assert_eq!(table.categories["plan"], ["7", "gold"]);
        assert_eq!((table.categories.len(), table.horizon_days), (1, None));
        let values: Vec<_> = table.rows.iter().map(|row| row.values.clone()).collect();
        assert_eq!((values[0].as_slice(), values[2].as_slice()), (&[1.0, 30.0][..], &[0.0, 40.0][..]));
        assert!(values[1].iter().all(|value| value.is_nan()));
        assert_eq!(table.rows[1].as_of, "2026-04-01");
        let age = table.only(&["age".to_owned()]).expect("a column");
        assert_eq!((age.features.as_slice(), age.rows[2].values.as_slice()), (&["age".to_owned()][..], &[40.0][..]));
        let Err(refused) = table.only(&["height".to_owned()]) else { panic!("no such column") };
        assert!(refused.to_string().contains("the model reads `height`, which is no column of the table: plan, age"));
    }
}
