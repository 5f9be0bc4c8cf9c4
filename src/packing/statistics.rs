//! A bundle's feature rules from the rows that fit its model: range, mean and deviation, drift bins. No other row is
//! looked at.

use scoreline_engine::features::schema::Transform;
use scoreline_engine::features::{DerivedRule, Factor, FeatureRule, FeatureSchema, Impute};

use crate::packing::drift;
use crate::packing::table::Row;

/// What a recipe says about a feature; the figures come from the data.
#[derive(Clone, Debug, PartialEq)]
pub struct FeaturePlan {
    pub name: String,
    pub required: bool,
    pub impute: Impute,
    pub transform: Transform,
}

/// A column derived from features.
#[derive(Clone, Debug, PartialEq)]
pub struct DerivedPlan {
    pub name: String,
    pub factors: Vec<Factor>,
}

/// The rules of the planned features, from rows whose values are in the order of the plans.
pub fn rules(plans: &[FeaturePlan], rows: &[&Row]) -> anyhow::Result<Vec<FeatureRule>> {
    plans.iter().enumerate().map(|(column, plan)| rule(plan, column, rows)).collect()
}

/// The schema of planned features and derived columns, from rows whose values are in the order of the plans.
pub fn schema(
    plans: &[FeaturePlan],
    derived: &[DerivedPlan],
    rows: &[&Row],
    standardize: bool,
) -> anyhow::Result<FeatureSchema> {
    let features = rules(plans, rows)?;
    let plain = |plan: &DerivedPlan| DerivedRule {
        name: plan.name.clone(),
        factors: plan.factors.clone(),
        mean: 0.0,
        std: 1.0,
    };
    // Bent by the code that serves, then measured.
    let unscaled = FeatureSchema::with_derived(features.clone(), derived.iter().map(plain).collect(), false)?;
    let mut columns = vec![Vec::with_capacity(rows.len()); derived.len()];
    let mut prepared = vec![0.0; unscaled.columns()];
    for row in rows {
        unscaled.prepare(&row.values, &mut prepared);
        for (column, value) in columns.iter_mut().zip(&prepared[features.len()..]) {
            if !value.is_nan() {
                column.push(*value);
            }
        }
    }
    let scaled = derived.iter().zip(columns).map(|(plan, values)| {
        anyhow::ensure!(!values.is_empty(), "derived column `{}` is missing in every row", plan.name);
        let (mean, std) = moments(&values);
        Ok(DerivedRule { mean, std, ..plain(plan) })
    });
    Ok(FeatureSchema::with_derived(features, scaled.collect::<Result<_, _>>()?, standardize)?)
}

fn rule(plan: &FeaturePlan, column: usize, rows: &[&Row]) -> anyhow::Result<FeatureRule> {
    let given: Vec<f64> = rows.iter().map(|row| row.values[column]).collect();
    let mut values: Vec<f64> = given.iter().copied().filter(|value| !value.is_nan()).collect();
    anyhow::ensure!(!values.is_empty(), "feature `{}` is missing in every fit row", plan.name);
    values.sort_unstable_by(f64::total_cmp);
    let transformed: Vec<f64> = values.iter().map(|value| plan.transform.apply(*value)).collect();
    let (mean, std) = moments(&transformed);
    Ok(FeatureRule {
        name: plan.name.clone(),
        unit: scoreline_domain::catalogued(&plan.name).map_or(String::new(), |known| known.unit.to_owned()),
        required: plan.required,
        impute: plan.impute,
        transform: plan.transform,
        min: values[0],
        max: values[values.len() - 1],
        never: None,
        mean,
        std,
        lowest: None,
        highest: None,
        drift: drift::bins(&given),
        categories: Vec::new(),
        group: None,
    })
}

/// Mean and population deviation. A constant column says nothing; it must not divide by zero either.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
    (round(mean), if deviation > 1e-12 { round(deviation) } else { 1.0 })
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
    use crate::packing::split::Split;

    fn rows(values: &[f64]) -> Vec<Row> {
        let row = |value: &f64| Row {
            customer: String::new(),
            as_of: String::new(),
            split: Split::Fit,
            values: vec![*value],
            spend_usd: 0.0,
            acquisition_channel: String::new(),
            segment: String::new(),
        };
        values.iter().map(row).collect()
    }

    fn plan(transform: Transform) -> FeaturePlan {
        FeaturePlan { name: "monetary_avg".into(), required: true, impute: Impute::default(), transform }
    }

    #[test]
    fn only_present_values_count() {
        let rows = rows(&[1.0, 3.0, f64::NAN]);
        let rows: Vec<&Row> = rows.iter().collect();
        let rule = &rules(&[plan(Transform::Identity)], &rows).expect("rules")[0];
        assert_eq!([rule.min, rule.max, rule.mean, rule.std], [1.0, 3.0, 2.0, 1.0]);
        assert_eq!(rule.unit, "USD");
        let log = &rules(&[plan(Transform::Log1p)], &rows).expect("rules")[0];
        assert!((log.mean - 8.0_f64.ln() / 2.0).abs() < 1e-8, "mean after the transform, range before it");
        assert_eq!([log.min, log.max], [1.0, 3.0]);
        assert!(rules(&[plan(Transform::Identity)], &rows[2..]).is_err(), "missing in every row");
    }

    #[test]
    fn derived_columns_are_measured_as_they_are_served() {
        use scoreline_engine::features::Bend;
        let rows = rows(&[1.0, 3.0]);
        let rows: Vec<&Row> = rows.iter().collect();
        let factors = vec![Factor { of: "monetary_avg".into(), over: None, apply: Bend::AboveOne }];
        let derived = [DerivedPlan { name: "above_one".into(), factors }];
        let schema = schema(&[plan(Transform::Log1p)], &derived, &rows, true).expect("a schema");
        assert_eq!((schema.derived()[0].mean, schema.derived()[0].std), (0.5, 0.5));
    }
}
