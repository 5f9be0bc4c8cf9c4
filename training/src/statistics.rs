//! A bundle's feature rules from the fit rows: range, mean and deviation, drift bins. No other row is looked at.

use scoreline::features::schema::Transform;
use scoreline::features::{FeatureRule, Impute};

use crate::split::Split;
use crate::table::Table;

/// Upper bound on the number of drift bins of the non-zero values.
const BINS: usize = 10;

/// What a recipe says about a feature; the figures come from the data.
#[derive(Clone, Debug, PartialEq)]
pub struct FeaturePlan {
    pub name: String,
    pub required: bool,
    pub impute: Impute,
    pub transform: Transform,
}

/// The rules of the planned features.
pub fn rules(plans: &[FeaturePlan], table: &Table) -> anyhow::Result<Vec<FeatureRule>> {
    plans.iter().map(|plan| rule(plan, table)).collect()
}

fn rule(plan: &FeaturePlan, table: &Table) -> anyhow::Result<FeatureRule> {
    let column = table
        .position(&plan.name)
        .ok_or_else(|| anyhow::anyhow!("feature `{}` is not a column of the table", plan.name))?;
    let mut values: Vec<f64> =
        table.part(Split::Fit).iter().map(|row| row.values[column]).filter(|value| !value.is_nan()).collect();
    anyhow::ensure!(!values.is_empty(), "feature `{}` is missing in every fit row", plan.name);
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len() as f64;
    let mean = values.iter().map(|value| plan.transform.apply(*value)).sum::<f64>() / n;
    let square = values.iter().map(|value| (plan.transform.apply(*value) - mean).powi(2)).sum::<f64>() / n;
    let deviation = square.sqrt();
    Ok(FeatureRule {
        name: plan.name.clone(),
        unit: scoreline::domain::catalogued(&plan.name).map_or(String::new(), |known| known.unit.to_owned()),
        required: plan.required,
        impute: plan.impute,
        transform: plan.transform,
        min: values[0],
        max: values[values.len() - 1],
        mean: round(mean),
        // A constant column says nothing; it must not divide by zero either.
        std: if deviation > 1e-12 { round(deviation) } else { 1.0 },
        lowest: None,
        highest: None,
        bins: drift_bins(&values),
        categories: Vec::new(),
    })
}

/// Upper edges of the drift bins of sorted values: zero has a bin of its own, the others go by deciles. What lies
/// above the last edge is the last bin.
fn drift_bins(sorted: &[f64]) -> Vec<f64> {
    let mut edges = Vec::new();
    let mut rest: Vec<f64> = sorted.to_vec();
    if sorted.contains(&0.0) && sorted[0] >= 0.0 {
        edges.push(0.0);
        rest.retain(|value| *value != 0.0);
    }
    for k in 1..BINS {
        if rest.is_empty() {
            break;
        }
        let edge = round(rest[(k * rest.len() / BINS).min(rest.len() - 1)]);
        if edges.last().is_none_or(|last| edge > *last) {
            edges.push(edge);
        }
    }
    edges
}

/// Nine significant digits: what a reader can check by eye and a file can be compared by.
pub fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    format!("{value:.8e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Row;

    fn table(values: &[(Split, f64)]) -> Table {
        let row = |(split, value): &(Split, f64)| Row {
            customer: String::new(),
            split: *split,
            values: vec![*value],
            spend_usd: 0.0,
            acquisition_channel: String::new(),
            segment: String::new(),
        };
        Table { features: vec!["monetary_avg".into()], rows: values.iter().map(row).collect() }
    }

    fn plan(transform: Transform) -> FeaturePlan {
        FeaturePlan { name: "monetary_avg".into(), required: true, impute: Impute::default(), transform }
    }

    #[test]
    fn only_fit_rows_and_present_values_count() {
        let table = table(&[
            (Split::Fit, 1.0),
            (Split::Fit, 3.0),
            (Split::Fit, f64::NAN),
            (Split::Calibration, 1e9),
            (Split::Test, -1e9),
        ]);
        let rule = &rules(&[plan(Transform::Identity)], &table).expect("rules")[0];
        assert_eq!([rule.min, rule.max, rule.mean, rule.std], [1.0, 3.0, 2.0, 1.0]);
        assert_eq!(rule.unit, "USD");
        let log = &rules(&[plan(Transform::Log1p)], &table).expect("rules")[0];
        assert!((log.mean - 8.0_f64.ln() / 2.0).abs() < 1e-8, "mean after the transform, range before it");
        assert_eq!([log.min, log.max], [1.0, 3.0]);
        let missing = FeaturePlan { name: "tenure_days".into(), ..plan(Transform::Identity) };
        assert!(rules(&[missing], &table).is_err());
    }

    #[test]
    fn zero_has_a_drift_bin_of_its_own() {
        let mut values = vec![0.0; 500];
        values.extend((1..=500).map(f64::from));
        let edges = drift_bins(&values);
        assert_eq!(edges, [0.0, 51.0, 101.0, 151.0, 201.0, 251.0, 301.0, 351.0, 401.0, 451.0]);
        assert_eq!(drift_bins(&[7.0; 20]), [7.0], "a constant collapses");
    }
}
