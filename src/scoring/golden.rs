//! Golden rows: a bundle's promised answers, checked through the whole pipeline before it may serve.

use crate::domain::{Estimate, Interval, Probability};
use crate::inference::bundle::{BundleError, Customer, GoldenAnswer, GoldenRow, ModelSnapshot};

use super::baseline::{self, Known};
use super::estimate::{Wish, estimate_rows, from_baseline};

/// Runs every golden row of the snapshot.
///
/// # Errors
/// The first row whose answer is not the promised one, with both numbers; 1-based.
pub fn verify(snapshot: &ModelSnapshot) -> Result<(), BundleError> {
    for (index, row) in snapshot.golden().iter().enumerate() {
        let failed = |problem: String| BundleError::Golden { row: index + 1, problem };
        let estimate = answer(snapshot, row).map_err(&failed)?;
        compare(&row.expect, &estimate, row.tolerance).map_err(failed)?;
    }
    Ok(())
}

/// What the snapshot answers to a golden request.
pub fn answer(snapshot: &ModelSnapshot, row: &GoldenRow) -> Result<Estimate, String> {
    let features = row.request.features.iter().map(|(name, value)| (name.as_str(), *value));
    let Customer::Known(given) = snapshot.read(features).map_err(|err| err.to_string())? else {
        let known =
            Known { channel: row.request.acquisition_channel.as_deref(), segment: row.request.segment.as_deref() };
        return Ok(from_baseline(snapshot, baseline::cold_start(snapshot, known).baseline));
    };
    let mut rows = estimate_rows(snapshot, &given.raw, Wish::default()).map_err(|err| err.to_string())?;
    rows.pop().ok_or("the model gave no row")?.map_err(|err| err.to_string())
}

/// The answer as a golden row promises it.
pub fn expectation(estimate: &Estimate) -> GoldenAnswer {
    GoldenAnswer {
        clv_value_usd: Some(estimate.value),
        confidence_interval_low: estimate.interval.map(Interval::low),
        confidence_interval_high: estimate.interval.map(Interval::high),
        risk_score: estimate.risk.map(Probability::get),
        confidence_score: estimate.confidence.map(Probability::get),
        clv_tier: Some(estimate.tier),
    }
}

fn compare(expect: &GoldenAnswer, estimate: &Estimate, tolerance: f64) -> Result<(), String> {
    let got = expectation(estimate);
    let numbers = [
        ("clv_value_usd", expect.clv_value_usd, got.clv_value_usd),
        ("confidence_interval_low", expect.confidence_interval_low, got.confidence_interval_low),
        ("confidence_interval_high", expect.confidence_interval_high, got.confidence_interval_high),
        ("risk_score", expect.risk_score, got.risk_score),
        ("confidence_score", expect.confidence_score, got.confidence_score),
    ];
    for (name, expected, got) in numbers {
        let Some(expected) = expected else { continue };
        let got = got.ok_or_else(|| format!("`{name}` must be {expected}, the model gives none"))?;
        if (got - expected).abs() > tolerance * expected.abs().max(1.0) {
            return Err(format!("`{name}` must be {expected} within {tolerance}, got {got}"));
        }
    }
    match expect.clv_tier {
        Some(tier) if tier != estimate.tier => Err(format!("`clv_tier` must be {tier}, got {}", estimate.tier)),
        _ => Ok(()),
    }
}
