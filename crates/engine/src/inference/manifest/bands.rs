//! `[tiers.bands]`: what customers spent who were predicted so much. Whatever the limits are, it says what each tier is worth
//! and how sure its order is.

use serde::{Deserialize, Serialize};

use super::TierThresholds;

/// Calibration customers in bands of equal size by their prediction, which a model made that was not fitted on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bands {
    /// Calibration customers in all bands.
    pub n: u32,
    /// The smallest prediction of each band, US dollars, ascending.
    pub from: Vec<f64>,
    /// The largest prediction of the last band.
    pub to: f64,
    /// Mean prediction and mean spend of each band, US dollars.
    pub said: Vec<f64>,
    pub spent: Vec<f64>,
    /// Share of each band that spent nothing.
    pub zero: Vec<f64>,
    /// Mean and standard deviation of ln(spend) of the others.
    pub log_mean: Vec<f64>,
    pub log_sigma: Vec<f64>,
}

/// What customers of one tier spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TierOutcome {
    /// Share of all customers, and of all dollars.
    pub share: f64,
    pub dollars: f64,
    /// Mean prediction and mean spend, US dollars.
    pub said: f64,
    pub spent: f64,
    /// Share that spent nothing.
    pub zero: f64,
    /// Mean and standard deviation of ln(spend) of the others.
    pub log_mean: f64,
    pub log_sigma: f64,
}

impl Bands {
    /// What is wrong with bands that somebody wrote, if anything.
    pub(in crate::inference) fn problem(&self) -> Option<&'static str> {
        let count = self.from.len();
        let columns = [&self.said, &self.spent, &self.zero, &self.log_mean, &self.log_sigma];
        let numbers = || columns.into_iter().flatten().chain(&self.from).chain([&self.to]);
        if count == 0 || columns.iter().any(|column| column.len() != count) {
            Some("must have as many `said`, `spent`, `zero`, `log_mean` and `log_sigma` as `from`")
        } else if !numbers().all(|number| number.is_finite()) {
            Some("must have finite numbers")
        } else if !self.from.iter().chain([&self.to]).is_sorted() {
            Some("must have `from` that ascends to `to`")
        } else if !self.zero.iter().all(|share| (0.0..=1.0).contains(share)) {
            Some("must have `zero` from 0 to 1")
        } else if !self.log_sigma.iter().all(|sigma| *sigma >= 0.0) {
            Some("must have `log_sigma` of 0 or more")
        } else {
            None
        }
    }

    /// The share of customers whose prediction is below `value`, straight within a band.
    fn share_below(&self, value: f64) -> f64 {
        let count = self.from.len();
        let Some(band) = self.from.partition_point(|from| *from <= value).checked_sub(1) else { return 0.0 };
        let from = self.from[band];
        let to = self.from.get(band + 1).copied().unwrap_or(self.to);
        let part = if to > from { ((value - from) / (to - from)).min(1.0) } else { f64::from(u8::from(value > to)) };
        (band as f64 + part) / count as f64
    }

    /// The prediction that this share of the customers is at or above.
    pub fn limit(&self, share: f64) -> f64 {
        let count = self.from.len();
        let at = (1.0 - share.clamp(0.0, 1.0)) * count as f64;
        let band = (at as usize).min(count - 1);
        let from = self.from[band];
        let to = self.from.get(band + 1).copied().unwrap_or(self.to);
        from + (at - band as f64) * (to - from)
    }

    /// What the tiers between these limits are worth, from Low to High. A tier without customers is all zeros.
    pub fn outcomes(&self, limits: TierThresholds) -> [TierOutcome; 3] {
        let edges = [0.0, self.share_below(limits.medium), self.share_below(limits.high), 1.0];
        let count = self.from.len() as f64;
        let all: f64 = self.spent.iter().sum::<f64>() / count;
        std::array::from_fn(|tier| {
            let mut found = TierOutcome { share: edges[tier + 1] - edges[tier], ..TierOutcome::default() };
            if found.share <= 0.0 {
                return TierOutcome::default();
            }
            let mut buyers = 0.0;
            let mut square = 0.0;
            for band in 0..self.from.len() {
                let from = (band as f64 / count).max(edges[tier]);
                let to = ((band + 1) as f64 / count).min(edges[tier + 1]);
                let weight = (to - from).max(0.0) / found.share;
                let bought = weight * (1.0 - self.zero[band]);
                found.said += weight * self.said[band];
                found.spent += weight * self.spent[band];
                found.zero += weight * self.zero[band];
                found.log_mean += bought * self.log_mean[band];
                square += bought * (self.log_sigma[band].powi(2) + self.log_mean[band].powi(2));
                buyers += bought;
            }
            found.dollars = if all > 0.0 { found.share * found.spent / all } else { 0.0 };
            if buyers > 0.0 {
                found.log_mean /= buyers;
                found.log_sigma = (square / buyers - found.log_mean.powi(2)).max(0.0).sqrt();
            }
            found
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bands() -> Bands {
        Bands {
            n: 400,
            from: vec![0.0, 10.0, 20.0, 40.0],
            to: 80.0,
            said: vec![5.0, 15.0, 30.0, 60.0],
            spent: vec![4.0, 16.0, 30.0, 50.0],
            zero: vec![0.9, 0.7, 0.5, 0.2],
            log_mean: vec![3.0, 3.0, 4.0, 4.0],
            log_sigma: vec![1.0, 1.0, 1.0, 0.5],
        }
    }

    #[test]
    fn tiers_are_worth_what_their_bands_are() {
        let [low, medium, high] = bands().outcomes(TierThresholds { medium: 20.0, high: 40.0 });
        assert_eq!((low.share, medium.share, high.share), (0.5, 0.25, 0.25));
        assert_eq!((low.said, low.spent, low.zero), (10.0, 10.0, 0.8));
        assert_eq!((high.spent, high.dollars, high.log_mean, high.log_sigma), (50.0, 0.5, 4.0, 0.5));
        let [low, _, high] = bands().outcomes(TierThresholds { medium: 15.0, high: 60.0 });
        assert_eq!((low.share, high.share), (0.375, 0.125), "half a band counts half");
        let [_, _, none] = bands().outcomes(TierThresholds { medium: 15.0, high: 1e9 });
        assert_eq!(none, TierOutcome::default());
    }

    #[test]
    fn a_share_is_at_or_above_its_limit() {
        for (share, limit) in [(0.25, 40.0), (0.5, 20.0), (0.125, 60.0), (1.0, 0.0), (0.0, 80.0)] {
            assert_eq!(bands().limit(share), limit);
            assert!((bands().share_below(limit) - (1.0 - share)).abs() < 1e-12);
        }
    }

    #[test]
    fn bands_that_cannot_be_used_are_named() {
        assert_eq!(bands().problem(), None);
        assert!(Bands { said: vec![1.0], ..bands() }.problem().expect("a problem").contains("as many"));
        assert!(Bands { to: 1.0, ..bands() }.problem().expect("a problem").contains("ascends"));
        assert!(Bands { zero: vec![2.0; 4], ..bands() }.problem().expect("a problem").contains("`zero`"));
    }
}
