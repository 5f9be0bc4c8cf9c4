//! A table of customers: one row each, features beside the outcome. The CSV that `features` writes and `pack` reads.

use std::path::Path;

use anyhow::Context as _;

use crate::packing::split::Split;

/// Columns that are not features.
const CUSTOMER: &str = "customer";
const SPLIT: &str = "split";
const SPEND: &str = "spend_usd";
const CHANNEL: &str = "acquisition_channel";
const SEGMENT: &str = "segment";

/// Rows of features in one order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub features: Vec<String>,
    pub rows: Vec<Row>,
}

/// One customer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub customer: String,
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
        writer.write_record([CUSTOMER, SPLIT].into_iter().chain(names).chain([SPEND, CHANNEL, SEGMENT]))?;
        for row in &self.rows {
            let mut record = vec![row.customer.clone(), row.split.as_str().to_owned()];
            record.extend(row.values.iter().map(|v| if v.is_nan() { String::new() } else { v.to_string() }));
            record.extend([row.spend_usd.to_string(), row.acquisition_channel.clone(), row.segment.clone()]);
            writer.write_record(&record)?;
        }
        writer.flush().with_context(problem)
    }

    /// Reads what `write` wrote, or the same columns made elsewhere in any order. Channel and segment may be absent.
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
        let features: Vec<usize> = (0..headers.len())
            .filter(|i| ![Some(customer), Some(split), Some(spend), channel, segment].contains(&Some(*i)))
            .collect();
        let mut rows = Vec::new();
        for (line, record) in (2..).zip(reader.records()) {
            let record = record.with_context(problem)?;
            let place = || format!("{} line {line}", path.display());
            let number = |i: usize| -> anyhow::Result<f64> {
                let text = &record[i];
                text.parse().with_context(|| format!("column `{}`: `{text}` is not a number", &headers[i]))
            };
            let values = features.iter().map(|&i| if record[i].is_empty() { Ok(f64::NAN) } else { number(i) });
            let split = match &record[split] {
                "fit" => Split::Fit,
                "calibration" => Split::Calibration,
                "test" => Split::Test,
                other => anyhow::bail!("{}: `split` must be fit, calibration or test, got `{other}`", place()),
            };
            rows.push(Row {
                customer: record[customer].to_owned(),
                split,
                values: values.collect::<Result<_, _>>().with_context(place)?,
                spend_usd: number(spend).with_context(place)?,
                acquisition_channel: channel.map_or(String::new(), |i| record[i].to_owned()),
                segment: segment.map_or(String::new(), |i| record[i].to_owned()),
            });
        }
        Ok(Self { features: features.iter().map(|&i| headers[i].to_owned()).collect(), rows })
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
            split,
            values: vec![1.5, value],
            spend_usd: 12.25,
            acquisition_channel: "social".into(),
            segment: "first_order_under_15".into(),
        };
        let table = Table {
            features: vec!["recency_days".into(), "tenure_days".into()],
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
        assert!(refused("customer,split,spend_usd,a\n1,fit,2,x\n").contains("line 2: column `a`: `x` is not"));
    }
}
