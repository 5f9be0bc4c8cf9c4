//! Golden rows: a bundle's promised answers, checked through the whole pipeline before it may serve.

use scoreline_domain::{Interval, Probability};
use scoreline_engine::inference::bundle::{BundleError, GoldenAnswer, GoldenRow, ModelSnapshot, ReadCustomer};

use super::baseline::KnownLabels;
use super::estimate::Wish;
use super::task::{TaskScore, cold_start, outcome_rows};

/// Runs every golden row of the snapshot.
///
/// # Errors
/// The first row whose answer is not the promised one, with both numbers; 1-based.
pub fn verify(snapshot: &ModelSnapshot) -> Result<(), BundleError> {
    for (index, row) in snapshot.golden().iter().enumerate() {
        let failed = |problem: String| BundleError::Golden { row: index + 1, problem };
        let outcome = answer(snapshot, row).map_err(&failed)?;
        agrees(snapshot, row, &outcome).map_err(failed)?;
    }
    Ok(())
}

/// Whether an outcome is what the row promises. Where the settings override the bundle's tier limits, tier and confidence
/// are theirs and not the bundle's to promise.
///
/// # Errors
/// Names the number that differs, with both values.
pub fn agrees(snapshot: &ModelSnapshot, row: &GoldenRow, outcome: &TaskScore) -> Result<(), String> {
    let got = expectation(outcome);
    if snapshot.has_own_limits() {
        return compare(&row.expect, &got, row.tolerance);
    }
    let expect = GoldenAnswer { clv_tier: None, confidence_score: None, ..row.expect };
    compare(&expect, &got, row.tolerance)
}

/// What the snapshot answers to a golden request.
pub fn answer(snapshot: &ModelSnapshot, row: &GoldenRow) -> Result<TaskScore, String> {
    let features = row.request.features.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
    let ReadCustomer::Known(given) = snapshot.read(features).map_err(|err| err.to_string())? else {
        let channel = row.request.acquisition_channel.as_deref().or(row.request.lead_source.as_deref());
        return Ok(cold_start(snapshot, KnownLabels { channel, segment: row.request.segment.as_deref() }).0);
    };
    let mut rows = outcome_rows(snapshot, &given.raw, Wish::default()).map_err(|err| err.to_string())?;
    rows.pop().ok_or("the model gave no row")?.map_err(|err| err.to_string())
}

/// The answer as a golden row promises it.
pub fn expectation(outcome: &TaskScore) -> GoldenAnswer {
    let estimate = match outcome {
        TaskScore::Clv(estimate) => estimate,
        TaskScore::Lead(lead) => {
            return GoldenAnswer {
                priority_score: Some(lead.priority),
                conversion_probability: Some(lead.probability.get()),
                ..GoldenAnswer::default()
            };
        }
    };
    GoldenAnswer {
        clv_value_usd: Some(estimate.value),
        confidence_interval_low: estimate.interval.map(Interval::low),
        confidence_interval_high: estimate.interval.map(Interval::high),
        risk_score: estimate.risk.map(Probability::get),
        confidence_score: estimate.confidence.map(Probability::get),
        clv_tier: Some(estimate.tier),
        ..GoldenAnswer::default()
    }
}

fn compare(expect: &GoldenAnswer, got: &GoldenAnswer, tolerance: f64) -> Result<(), String> {
    let numbers = [
        ("clv_value_usd", expect.clv_value_usd, got.clv_value_usd),
        ("confidence_interval_low", expect.confidence_interval_low, got.confidence_interval_low),
        ("confidence_interval_high", expect.confidence_interval_high, got.confidence_interval_high),
        ("risk_score", expect.risk_score, got.risk_score),
        ("confidence_score", expect.confidence_score, got.confidence_score),
        ("conversion_probability", expect.conversion_probability, got.conversion_probability),
    ];
    for (name, expected, got) in numbers {
        let Some(expected) = expected else { continue };
        let got = got.ok_or_else(|| format!("`{name}` must be {expected}, the model gives none"))?;
        if (got - expected).abs() > tolerance * expected.abs().max(1.0) {
            return Err(format!("`{name}` must be {expected} within {tolerance}, got {got}"));
        }
    }
    if let Some(place) = expect.priority_score {
        // A probability beside a cut point may fall to its other side on another processor.
        let got =
            got.priority_score.ok_or_else(|| format!("`priority_score` must be {place}, the model gives none"))?;
        if place.abs_diff(got) > 1 {
            return Err(format!("`priority_score` must be {place}, got {got}"));
        }
    }
    match (expect.clv_tier, got.clv_tier) {
        (Some(tier), None) => Err(format!("`clv_tier` must be {tier}, the model gives none")),
        (Some(tier), Some(other)) if tier != other => Err(format!("`clv_tier` must be {tier}, got {other}")),
        _ => Ok(()),
    }
}
