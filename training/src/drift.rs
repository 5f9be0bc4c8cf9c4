//! The drift reference of a bundle: where the fit rows lay in every feature, and the calibration rows in the score.

use anyhow::Context as _;
use scoreline::features::drift::{DriftBins, quantile_edges};
use scoreline::inference::manifest::{DriftReference, Manifest};

use crate::statistics::round;
use crate::table::Row;

/// Freezes the reference. `fit` is in the order of the manifest's features and without customers the model is not asked
/// about; `predicted` are the model's values for rows it was not fitted on.
pub fn freeze(manifest: &mut Manifest, fit: &[&Row], predicted: &[f64]) -> anyhow::Result<()> {
    for (column, rule) in manifest.features.iter_mut().enumerate() {
        let values: Vec<f64> = fit.iter().map(|row| row.values[column]).collect();
        rule.drift = Some(bins(&values).context("no fit rows")?);
    }
    manifest.drift = Some(DriftReference {
        rows: u32::try_from(fit.len())?,
        score_rows: u32::try_from(predicted.len())?,
        score: Some(bins(predicted).context("no calibration rows")?),
    });
    Ok(())
}

/// Bins with edges and shares as they are written: the shares are of the rounded edges.
fn bins(values: &[f64]) -> Option<DriftBins> {
    let mut edges: Vec<f64> = quantile_edges(values).into_iter().map(round).collect();
    edges.dedup();
    let bins = DriftBins::of(edges, values)?;
    let shares = bins.shares.iter().copied().map(round).collect();
    Some(DriftBins { shares, zero: round(bins.zero), missing: round(bins.missing), ..bins })
}

#[cfg(test)]
mod tests {
    use super::*;

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
