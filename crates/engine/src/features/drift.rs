//! Drift bins: where the training rows of one feature (or of the score) lay, frozen in the bundle.
//!
//! Missing values and exact zeros have bins of their own, the rest goes by quantiles: plain quantile bins collapse
//! on a feature that is mostly zero and then see nothing. A categorical feature, whose value is the index of its
//! category, fits the same form with one bin per index.

use serde::{Deserialize, Serialize};

/// Most bins of the values that are neither missing nor zero.
const QUANTILE_BINS: usize = 10;
/// How far the shares may be from summing to one: they are written with few digits.
const SUM_TOLERANCE: f64 = 1e-3;

/// Bins of one column with the share of the training rows in each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftBins {
    /// Upper edges, ascending, on the raw scale: bin `k` holds what is above edge `k - 1` and at most edge `k`, the last
    /// bin everything above the last edge. Zero and missing values are in none of them.
    pub edges: Vec<f64>,
    /// Shares of those bins: one more than there are edges.
    pub shares: Vec<f64>,
    /// Share of exact zeros.
    pub zero: f64,
    /// Share of missing values.
    pub missing: f64,
}

/// Edges at the deciles of the values that are neither missing nor zero: at most nine, fewer where values repeat.
pub fn quantile_edges(values: &[f64]) -> Vec<f64> {
    let mut rest: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan() && *value != 0.0).collect();
    rest.sort_unstable_by(f64::total_cmp);
    let Some(last) = rest.last().copied() else { return Vec::new() };
    let mut edges: Vec<f64> = Vec::new();
    for k in 1..QUANTILE_BINS {
        let edge = rest[k * rest.len() / QUANTILE_BINS];
        // An edge at the largest value would leave nothing above it.
        if edge < last && edges.last().is_none_or(|before| edge > *before) {
            edges.push(edge);
        }
    }
    edges
}

/// Edges that give every index of `categories` categories a bin: index 0 is the zero bin.
pub fn category_edges(categories: usize) -> Vec<f64> {
    (1..categories.saturating_sub(1)).map(|index| index as f64).collect()
}

impl DriftBins {
    /// The shares of `values` in bins with these edges; `NaN` is missing. `None` without values.
    pub fn of(edges: Vec<f64>, values: &[f64]) -> Option<Self> {
        let mut bins = Self { shares: vec![0.0; edges.len() + 1], edges, zero: 0.0, missing: 0.0 };
        let mut counts = vec![0_u64; bins.cells()];
        for value in values {
            counts[bins.cell(*value)] += 1;
        }
        let share = |count: u64| count as f64 / values.len() as f64;
        bins.missing = share(counts[MISSING]);
        bins.zero = share(counts[ZERO]);
        bins.shares = counts[ZERO + 1..].iter().map(|count| share(*count)).collect();
        (!values.is_empty()).then_some(bins)
    }

    /// Number of cells: missing, zero, then the bins.
    pub fn cells(&self) -> usize {
        self.edges.len() + 3
    }

    /// The cell of a value: 0 missing, 1 zero, then the bins.
    pub fn cell(&self, value: f64) -> usize {
        cell(&self.edges, value)
    }

    /// The training share of every cell, in the order of `cell`.
    pub fn cell_shares(&self) -> Vec<f64> {
        [self.missing, self.zero].into_iter().chain(self.shares.iter().copied()).collect()
    }

    /// The median of the known values, exact to the bin's upper edge; `None` where the bins do not say.
    pub fn median(&self) -> Option<f64> {
        let half = 0.5 * (1.0 - self.missing);
        let mut below = 0.0;
        let mut zero = (self.zero > 0.0).then_some(self.zero);
        for (bin, share) in self.shares.iter().enumerate() {
            let upper = self.edges.get(bin).copied();
            // Zeros stand before the first bin that reaches above them.
            if upper.is_none_or(|upper| upper > 0.0)
                && let Some(zero) = zero.take()
            {
                below += zero;
                if below >= half {
                    return Some(0.0);
                }
            }
            below += share;
            if below >= half {
                return upper.or_else(|| self.edges.last().copied());
            }
        }
        None
    }

    /// The position that was seen most, of a feature with so many categories.
    pub fn most_common(&self, categories: usize) -> usize {
        let shares = self.cell_shares();
        let share = |position: &usize| shares[self.cell(*position as f64)];
        (0..categories).max_by(|a, b| share(a).total_cmp(&share(b)).then(b.cmp(a))).unwrap_or_default()
    }

    /// What a cell holds, in words.
    pub fn cell_name(&self, cell: usize) -> String {
        let bin = match cell {
            MISSING => return "missing".to_owned(),
            ZERO => return "zero".to_owned(),
            bin => bin - ZERO - 1,
        };
        match (bin.checked_sub(1).and_then(|below| self.edges.get(below)), self.edges.get(bin)) {
            (None, None) => "any other value".to_owned(),
            (None, Some(high)) => format!("up to {high}"),
            (Some(low), None) => format!("above {low}"),
            (Some(low), Some(high)) => format!("above {low} up to {high}"),
        }
    }

    /// What is wrong with bins that somebody wrote, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        let shares = self.cell_shares();
        if !self.edges.is_sorted_by(|a, b| a < b) || !self.edges.iter().all(|edge| edge.is_finite()) {
            Some("must have `edges` that are finite and ascend")
        } else if self.shares.len() != self.edges.len() + 1 {
            Some("must have one more of `shares` than of `edges`")
        } else if !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
            Some("must have shares from 0 to 1")
        } else if (shares.iter().sum::<f64>() - 1.0).abs() > SUM_TOLERANCE {
            Some("must have `shares`, `zero` and `missing` that sum to 1")
        } else {
            None
        }
    }
}

const MISSING: usize = 0;
const ZERO: usize = 1;

/// As [`DriftBins::cell`], for edges that are kept elsewhere.
pub fn cell(edges: &[f64], value: f64) -> usize {
    if value.is_nan() {
        return MISSING;
    }
    if value == 0.0 {
        return ZERO;
    }
    // A dozen edges: counting all of them has no branch to mispredict.
    ZERO + 1 + edges.iter().map(|edge| usize::from(value > *edge)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_zero_have_bins_of_their_own() {
        let mut values = vec![f64::NAN; 100];
        values.extend([0.0; 400]);
        values.extend((1..=500).map(f64::from));
        let edges = quantile_edges(&values);
        assert_eq!(edges, [51.0, 101.0, 151.0, 201.0, 251.0, 301.0, 351.0, 401.0, 451.0]);
        let bins = DriftBins::of(edges, &values).expect("values");
        assert_eq!((bins.missing, bins.zero, bins.shares.len()), (0.1, 0.4, 10));
        assert_eq!(bins.shares[0], 0.051, "1 to 51");
        assert_eq!(bins.shares[9], 0.049, "452 to 500");
        assert_eq!(bins.problem(), None);
        assert_eq!([f64::NAN, 0.0, -0.0, -7.0, 51.0, 51.5, 9e9].map(|value| bins.cell(value)), [0, 1, 1, 2, 2, 3, 11]);
        let names = [0, 1, 2, 3, 11].map(|cell| bins.cell_name(cell));
        assert_eq!(names, ["missing", "zero", "up to 51", "above 51 up to 101", "above 451"]);
    }

    #[test]
    fn repeated_values_share_a_bin_and_a_constant_has_one() {
        assert_eq!(quantile_edges(&[7.0; 20]), [0.0; 0]);
        assert_eq!(quantile_edges(&[0.0; 20]), [0.0; 0]);
        let constant = DriftBins::of(Vec::new(), &[7.0; 20]).expect("values");
        assert_eq!((constant.shares.as_slice(), constant.cells()), (&[1.0][..], 3));
        let steps: Vec<f64> = [1.0; 80].into_iter().chain([2.0; 15]).chain([3.0; 5]).collect();
        assert_eq!(quantile_edges(&steps), [1.0, 2.0]);
        assert_eq!(DriftBins::of(Vec::new(), &[]), None);
    }

    #[test]
    fn every_category_has_a_bin() {
        for categories in 1..6 {
            let values: Vec<f64> = (0..categories).map(|index| index as f64).collect();
            let bins = DriftBins::of(category_edges(categories), &values).expect("values");
            let shares = bins.cell_shares();
            let full = shares.iter().filter(|share| **share > 0.0).count();
            assert_eq!(full, categories, "{categories} categories: {shares:?}");
        }
    }

    #[test]
    fn bins_that_can_not_be_used_are_named() {
        let good = DriftBins { edges: vec![1.0], shares: vec![0.5, 0.25], zero: 0.25, missing: 0.0 };
        assert_eq!(good.problem(), None);
        let problem = |bins: DriftBins| bins.problem().expect("a problem");
        assert!(problem(DriftBins { edges: vec![f64::NAN], ..good.clone() }).contains("finite and ascend"));
        assert!(problem(DriftBins { shares: vec![0.75], ..good.clone() }).contains("one more"));
        assert!(problem(DriftBins { shares: vec![1.5, -0.75], ..good.clone() }).contains("from 0 to 1"));
        assert!(problem(DriftBins { missing: 0.5, ..good }).contains("sum to 1"));
    }
}
