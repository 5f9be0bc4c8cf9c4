//! A bundle's feature rules from the fit rows: range, mean and deviation. No other row is looked at.

use scoreline::features::schema::Transform;
use scoreline::features::{FeatureRule, Impute};

use crate::split::Split;
use crate::table::Table;

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
        bins: Vec::new(),
        drift: None,
    })
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
}
