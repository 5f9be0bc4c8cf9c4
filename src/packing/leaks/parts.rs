//! Fit, calibration and test rows keep apart: no customer is in two of them, and what is learned from the fit rows does
//! not change with the others.

use std::collections::BTreeMap;

use crate::packing::leaks::Check;
use crate::packing::split::Split;
use crate::packing::statistics::{self, FeaturePlan};
use crate::packing::table::{Row, Table};

/// No customer in two parts.
pub(crate) fn one_part_each(table: &Table) -> Check {
    let mut parts: BTreeMap<&str, Split> = BTreeMap::new();
    let mut torn = 0;
    for row in &table.rows {
        if *parts.entry(&row.customer).or_insert(row.split) != row.split {
            torn += 1;
        }
    }
    let customers = parts.len();
    let detail = if torn == 0 {
        format!("each of {customers} customers is in one part only")
    } else {
        format!(
            "{torn} rows belong to customers who are in another part too: the test would know them from the fit. Give \
             all rows of a customer the same `split`"
        )
    };
    Check { name: "split by customer", passed: torn == 0, detail }
}

/// Ranges, means, deviations and bins are the same whatever the calibration and test rows hold.
///
/// # Errors
/// When the statistics cannot be computed at all.
pub(crate) fn statistics_of_fit_rows(plans: &[FeaturePlan], table: &Table) -> anyhow::Result<Check> {
    unchanged(table, |table| statistics::rules(plans, &table.part(Split::Fit)))
}

/// Anything learned from a table, with and without nonsense in the rows that must not be learned from.
///
/// # Errors
/// When it cannot be learned at all.
pub(crate) fn unchanged<T: PartialEq>(
    table: &Table,
    learn: impl Fn(&Table) -> anyhow::Result<T>,
) -> anyhow::Result<Check> {
    let spoil = |row: &Row| match row.split {
        Split::Fit => row.clone(),
        Split::Calibration | Split::Test => Row {
            values: row.values.iter().map(|value| if value.is_nan() { 1e6 } else { value * -7.0 - 1e6 }).collect(),
            spend_usd: row.spend_usd * 11.0 + 1e6,
            ..row.clone()
        },
    };
    let spoiled = Table { rows: table.rows.iter().map(spoil).collect(), ..table.clone() };
    let passed = learn(table)? == learn(&spoiled)?;
    let others = table.rows.iter().filter(|row| row.split != Split::Fit).count();
    let detail = if passed {
        format!("scaling, imputation and bins do not change when {others} calibration and test rows do")
    } else {
        "scaling, imputation or bins change with the calibration and test rows: compute them from the fit rows only"
            .to_owned()
    };
    Ok(Check { name: "fitted on fit rows", passed, detail })
}

#[cfg(test)]
mod tests {
    use scoreline_engine::features::Impute;
    use scoreline_engine::features::schema::Transform;

    use super::*;

    fn table(rows: &[(&str, Split, f64)]) -> Table {
        let row = |(customer, split, value): &(&str, Split, f64)| Row {
            customer: (*customer).to_owned(),
            as_of: String::new(),
            split: *split,
            values: vec![*value],
            spend_usd: 1.0,
            acquisition_channel: String::new(),
            segment: String::new(),
        };
        Table { features: vec!["monetary_avg".into()], rows: rows.iter().map(row).collect(), ..Table::default() }
    }

    #[test]
    fn a_customer_in_two_parts_is_found() {
        let kept = table(&[("a", Split::Fit, 1.0), ("a", Split::Fit, 2.0), ("b", Split::Test, 1.0)]);
        assert!(one_part_each(&kept).passed);
        let torn = one_part_each(&table(&[("a", Split::Fit, 1.0), ("a", Split::Test, 2.0)]));
        assert!(!torn.passed && torn.detail.starts_with("1 rows") && !torn.detail.contains("`a`"));
    }

    #[test]
    fn statistics_of_all_rows_are_found_out() {
        let table = table(&[("a", Split::Fit, 1.0), ("b", Split::Fit, 3.0), ("c", Split::Test, 8.0)]);
        let name = "monetary_avg".to_owned();
        let plan = FeaturePlan { name, required: true, impute: Impute::default(), transform: Transform::Identity };
        assert!(statistics_of_fit_rows(&[plan], &table).expect("computes").passed);
        let everybody = |table: &Table| Ok(table.rows.iter().map(|row| row.values[0]).sum::<f64>());
        assert!(!unchanged(&table, everybody).expect("computes").passed);
    }
}
