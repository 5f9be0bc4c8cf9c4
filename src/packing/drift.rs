//! The drift reference of a bundle: where rows lay in a feature, and rows left out of the fit in the score.

use anyhow::Context as _;
use scoreline_engine::features::drift::{DriftBins, category_edges, quantile_edges};
use scoreline_engine::inference::manifest::DriftReference;

use crate::packing::statistics::round;

/// The reference of a model that was fitted on `rows` rows and gives `predicted` for rows it was not fitted on.
pub fn reference(rows: u32, predicted: &[f64]) -> anyhow::Result<DriftReference> {
    let score = bins(predicted).context("no calibration rows")?;
    Ok(DriftReference { rows, score_rows: u32::try_from(predicted.len())?, score: Some(score) })
}

/// Bins of a column, `NaN` for missing, with edges and shares as they are written: the shares are of the rounded edges.
/// `None` without rows.
pub fn bins(values: &[f64]) -> Option<DriftBins> {
    let mut edges: Vec<f64> = quantile_edges(values).into_iter().map(round).collect();
    edges.dedup();
    DriftBins::of(edges, values).map(rounded)
}

/// Bins of a column that may say never: those of what did happen, and the last for never.
pub fn bins_or_never(happened: &[f64], all: &[f64]) -> Option<DriftBins> {
    let mut edges: Vec<f64> = quantile_edges(happened).into_iter().map(round).collect();
    edges.extend(happened.iter().copied().reduce(f64::max));
    edges.dedup();
    DriftBins::of(edges, all).map(rounded)
}

/// Bins of a categorical column, whose values are positions among so many categories: one each.
pub fn categories(count: usize, values: &[f64]) -> Option<DriftBins> {
    DriftBins::of(category_edges(count), values).map(rounded)
}

/// As they are written: with few digits.
fn rounded(bins: DriftBins) -> DriftBins {
    let shares = bins.shares.iter().copied().map(round).collect();
    DriftBins { shares, zero: round(bins.zero), missing: round(bins.missing), ..bins }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_has_a_bin_of_its_own() {
        let days: Vec<f64> = (1..=20).map(f64::from).collect();
        let all: Vec<f64> = days.iter().copied().chain([999.0; 60]).collect();
        let bins = bins_or_never(&days, &all).expect("values");
        assert_eq!((bins.edges.last(), bins.shares.last()), (Some(&20.0), Some(&0.75)));
        assert_eq!(bins.problem(), None);
    }

    #[test]
    fn bins_are_written_with_few_digits_and_still_hold_every_row() {
        let values: Vec<f64> = (0..3000).map(|i| f64::from(i % 700) / 7.0).chain([f64::NAN; 333]).collect();
        let bins = bins(&values).expect("values");
        assert_eq!(bins.problem(), None);
        assert_eq!(bins.edges.len(), 9);
        assert!((bins.missing - 333.0 / 3333.0).abs() < 1e-9 && bins.zero > 0.0);
        assert!(bins.edges.iter().all(|edge| round(*edge) == *edge));
    }
}
