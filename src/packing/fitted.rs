//! Which rows fitted a model, as far as a bundle can say it: a sample of their hashes.
//!
//! Rows that fitted a model are no witnesses of how right it is on others: intervals calibrated on them are too narrow. A
//! bundle keeps the smallest hashes of the rows that fitted its model (a bottom-k sketch, Cohen and Kaplan 2007): of any other
//! table, the share of them that is found there estimates how many of its model's rows are in it. No row can be read from
//! its hash.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;

use crate::packing::split::{Split, mix};
use crate::packing::table::{Row, Table};

/// Hashes that are kept.
const SAMPLE: usize = 64;
/// Equal rows are found by chance too: many customers bought once, on the same day, and never again.
const LARGEST_SHARE: f64 = 0.1;

/// The smallest hashes of the rows that fitted a model, whose values are in the order of its features.
pub fn sample(rows: &[&Row]) -> Vec<String> {
    let mut hashes: Vec<u64> = rows.iter().map(|row| hash(row)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes.iter().take(SAMPLE).map(|hash| format!("{hash:016x}")).collect()
}

fn hash(row: &Row) -> u64 {
    let bits = |value: &f64| if value.is_nan() { 0x6d69_7373_696e_6700 } else { (value + 0.0).to_bits() };
    row.values.iter().chain([&row.spend_usd]).fold(0, |hash, value| mix(hash ^ bits(value)))
}

/// The share of a bundle's sample that is among the calibration and test rows of a table. `None` of a bundle without one.
fn share(sample: &[String], table: &Table) -> Option<f64> {
    let rows = table.rows.iter().filter(|row| row.split != Split::Fit);
    let there: HashSet<String> = rows.map(|row| format!("{:016x}", hash(row))).collect();
    let found = sample.iter().filter(|hash| there.contains(*hash)).count();
    (!sample.is_empty()).then(|| found as f64 / sample.len() as f64)
}

/// Refuses to calibrate and measure a model on rows that fitted it, unless a reason is given.
///
/// # Errors
/// Says how many of the rows are in the table.
pub(crate) fn refuse(sample: &[String], table: &Table, reason: Option<&str>) -> anyhow::Result<()> {
    let Some(share) = share(sample, table).filter(|share| *share > LARGEST_SHARE) else { return Ok(()) };
    reason.map(drop).with_context(|| {
        format!(
            "not calibrated: about {:.0} % of the rows that fitted the model are among the table's `calibration` and `test` \
             rows, on which it is more right than on others. Give customers that it was not fitted on (`split` says which). \
             `--accept REASON` calibrates all the same, with intervals that are too narrow",
            share * 100.0
        )
    })
}

/// Refuses a table whose `calibration` and `test` rows are among its `fit` rows, unless a reason is given. Rows that are equal
/// by chance are found among the fit rows as often.
///
/// # Errors
/// Says how many of the rows fitted the model.
pub(crate) fn refuse_shared(table: &Table, reason: Option<&str>) -> anyhow::Result<()> {
    let (fit, judging): (Vec<_>, Vec<_>) = table.rows.iter().partition(|row| row.split == Split::Fit);
    let mut times: HashMap<u64, u32> = HashMap::new();
    for row in &fit {
        *times.entry(hash(row)).or_default() += 1;
    }
    let of = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let twins = fit.iter().filter(|row| times[&hash(row)] > 1).count();
    let shared = judging.iter().filter(|row| times.contains_key(&hash(row))).count();
    if of(shared, judging.len()) <= of(twins, fit.len()) + LARGEST_SHARE {
        return Ok(());
    }
    reason.map(drop).with_context(|| {
        format!(
            "not packed: {shared} of {} rows of splits `calibration` and `test` are among the `fit` rows too, on which the \
             model is more right than on others. Give customers that it was not fitted on. `--accept REASON` packs all the \
             same, with intervals that are too narrow",
            judging.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(split: Split, ids: std::ops::Range<u32>) -> Table {
        let row = |id: u32| Row {
            customer: id.to_string(),
            as_of: String::new(),
            split,
            values: vec![f64::from(id), f64::NAN],
            spend_usd: f64::from(id % 7),
            acquisition_channel: String::new(),
            segment: String::new(),
        };
        Table { features: vec!["a".into(), "b".into()], rows: ids.map(row).collect(), ..Table::default() }
    }

    #[test]
    fn a_table_that_judges_by_rows_that_fitted_is_refused() {
        let both = |fit: Table, judging: Table| Table { rows: [fit.rows, judging.rows].concat(), ..judging };
        let shared = both(table(Split::Fit, 0..1000), table(Split::Calibration, 500..1500));
        let problem = refuse_shared(&shared, None).expect_err("shared").to_string();
        assert!(
            problem.contains("500 of 1000 rows of splits `calibration` and `test` are among the `fit` rows"),
            "{problem}"
        );
        refuse_shared(&shared, Some("a demonstration")).expect("accepted");
        refuse_shared(&both(table(Split::Fit, 0..1000), table(Split::Test, 1000..2000)), None).expect("others");
        // Customers of five kinds: everybody has a twin.
        let alike = |split| {
            let ids = 0..400;
            Table { rows: ids.flat_map(|id| table(split, id % 5..id % 5 + 1).rows).collect(), ..table(split, 0..0) }
        };
        refuse_shared(&both(alike(Split::Fit), alike(Split::Test)), None).expect("by chance");
    }

    #[test]
    fn rows_that_fitted_are_found_and_others_are_not() {
        let fit = table(Split::Fit, 0..5000);
        let sample = sample(&fit.part(Split::Fit));
        assert_eq!(sample.len(), 64);
        assert_eq!(share(&sample, &table(Split::Calibration, 5000..9000)), Some(0.0));
        assert_eq!(share(&sample, &table(Split::Test, 0..5000)), Some(1.0));
        assert_eq!(share(&sample, &fit), Some(0.0), "fit rows are not calibrated on");
        assert_eq!(share(&[], &fit), None);
        let half = share(&sample, &table(Split::Calibration, 2500..9000)).expect("a sample");
        assert!((0.3..0.7).contains(&half), "{half}");
    }

    #[test]
    fn they_are_refused_without_a_reason() {
        let sample = sample(&table(Split::Fit, 0..500).part(Split::Fit));
        let refused = refuse(&sample, &table(Split::Test, 0..500), None).expect_err("refused").to_string();
        assert!(refused.contains("about 100 % of the rows that fitted the model"), "{refused}");
        refuse(&sample, &table(Split::Test, 0..500), Some("a demonstration")).expect("wanted");
        refuse(&sample, &table(Split::Test, 500..900), None).expect("others");
    }
}
