//! What a model says about the whole range of a customer's spend: spend is 0 with some probability, else log-normal.

use scoreline_domain::normal;

/// A hurdle log-normal distribution of spend in US dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HurdleLogNormal {
    /// P(no spend).
    pub zero: f64,
    /// Mean and standard deviation of ln(spend) given any.
    pub mean: f64,
    pub sigma: f64,
}

impl HurdleLogNormal {
    /// P(spend < `limit`).
    pub fn below(&self, limit: f64) -> f64 {
        if limit <= 0.0 { 0.0 } else { self.at(limit) }
    }

    /// P(spend <= `spend`).
    pub fn at(&self, spend: f64) -> f64 {
        if spend < 0.0 {
            0.0
        } else if spend == 0.0 {
            self.zero
        } else if spend == f64::INFINITY {
            1.0
        } else {
            self.zero + (1.0 - self.zero) * normal::cdf((spend.ln() - self.mean) / self.sigma())
        }
    }

    /// The spend that is exceeded with probability `share`; 0 where no spend is.
    pub fn exceeded_with(&self, share: f64) -> f64 {
        let buyers = 1.0 - self.zero;
        if share >= buyers { 0.0 } else { (self.mean - self.sigma() * normal::quantile(share / buyers)).exp() }
    }

    /// The smallest spend with P(spend <= it) >= `share`, for a share below 1.
    pub fn quantile(&self, share: f64) -> f64 {
        if share <= self.zero {
            return 0.0;
        }
        (self.mean + self.sigma() * normal::quantile((share - self.zero) / (1.0 - self.zero))).exp()
    }

    /// The spend below which this share of those who spend anything stays.
    pub fn of_buyers(&self, share: f64) -> f64 {
        (self.mean + self.sigma() * normal::quantile(share)).exp()
    }

    /// P(spend < the other's) and P(spend > the other's), for spends that know nothing of each other. The rest is the
    /// probability that neither spends anything.
    pub fn against(&self, other: &Self) -> (f64, f64) {
        let spread = self.sigma().hypot(other.sigma());
        let more_of_buyers = normal::cdf((self.mean - other.mean) / spread);
        let both = (1.0 - self.zero) * (1.0 - other.zero);
        let less = self.zero * (1.0 - other.zero) + both * (1.0 - more_of_buyers);
        let more = other.zero * (1.0 - self.zero) + both * more_of_buyers;
        (less, more)
    }

    fn sigma(&self) -> f64 {
        self.sigma.max(1e-9)
    }
}

/// Share of a sorted sample below `limit`, linear between neighbouring points. `None` without a sample.
pub fn share_below(sorted: &[f64], limit: f64) -> Option<f64> {
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    if limit <= first {
        return Some(0.0);
    }
    if limit > last {
        return Some(1.0);
    }
    let upper = sorted.partition_point(|&residual| residual < limit);
    let below = sorted[upper - 1];
    let above = sorted[upper];
    let part = (limit - below) / (above - below);
    Some(((upper - 1) as f64 + part) / (sorted.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hurdle_distribution_matches_hand_computed_points() {
        let hurdle = HurdleLogNormal { zero: 0.7, mean: 3.0, sigma: 1.0 };
        assert_eq!((hurdle.below(0.0), hurdle.at(0.0)), (0.0, 0.7));
        assert!((hurdle.below(3.0_f64.exp()) - 0.85).abs() < 1e-12, "half of the buyers are below the median");
        assert!((hurdle.below(4.96_f64.exp()) - (0.7 + 0.3 * 0.975_002_104_851_779)).abs() < 1e-9);
        assert_eq!(hurdle.below(f64::INFINITY), 1.0);
        assert_eq!(hurdle.quantile(0.7), 0.0);
        assert!((hurdle.quantile(0.85) - 3.0_f64.exp()).abs() < 1e-9);
        assert_eq!(hurdle.exceeded_with(0.31), 0.0, "more than all buyers");
        assert!((hurdle.exceeded_with(0.15) - 3.0_f64.exp()).abs() < 1e-9);
    }

    #[test]
    fn two_customers_are_ordered_by_chance() {
        let often = HurdleLogNormal { zero: 0.2, mean: 4.0, sigma: 0.6 };
        let seldom = HurdleLogNormal { zero: 0.8, mean: 3.0, sigma: 0.8 };
        let (less, more) = often.against(&seldom);
        // 0.2 × 0.2 and, of the pairs that both spend, the share with N(1, 1) below 0: 0.8 × 0.2 × 0.1587.
        assert!((less - (0.04 + 0.16 * 0.158_655_253_931_457)).abs() < 1e-9);
        assert!((less + more + 0.16 - 1.0).abs() < 1e-12, "neither spends in 0.2 × 0.8 of the pairs");
        assert_eq!(seldom.against(&often), (more, less));
        let (less, more) = often.against(&often);
        assert!((less - more).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn quantile_and_probability_undo_each_other(zero in 0.0..0.99f64, mean in -2.0..8.0f64, sigma in 0.1..3.0f64, part in 0.001..0.999f64) {
            let hurdle = HurdleLogNormal { zero, mean, sigma };
            let share = zero + (1.0 - zero) * part;
            prop_assert!((hurdle.at(hurdle.quantile(share)) - share).abs() < 1e-9);
        }

        #[test]
        fn shares_are_monotone_and_within_bounds(mut sample in prop::collection::vec(-5.0..5.0f64, 2..40), a in -6.0..6.0f64, b in -6.0..6.0f64) {
            sample.sort_by(f64::total_cmp);
            sample.dedup();
            prop_assume!(sample.len() >= 2);
            let low = a.min(b);
            let high = a.max(b);
            let below_low = share_below(&sample, low).expect("sample");
            let below_high = share_below(&sample, high).expect("sample");
            prop_assert!((0.0..=1.0).contains(&below_low) && below_low <= below_high && below_high <= 1.0);
        }
    }
}
