//! How the answers of one model version turned out: coverage of the intervals, totals, calibration of risk and
//! confidence, over the newest matured outcomes. Pure.

use std::collections::{BTreeMap, VecDeque};

use super::outcome::Judged;
use scoreline_domain::Tier;

/// Bins of the calibration error, of equal numbers of customers.
const CALIBRATION_BINS: usize = 10;
/// Standard normal quantile of a two-sided 95 % interval.
const Z_95: f64 = 1.959_963_984_540_054;

/// The newest outcomes of one model version.
#[derive(Clone, Debug)]
pub struct Rolling {
    most: usize,
    outcomes: VecDeque<Judged>,
}

/// A share of `n` with its 95 % Wilson bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    pub n: usize,
    pub share: f64,
    pub low: f64,
    pub high: f64,
}

/// All figures. Those without an outcome that could tell are absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    pub outcomes: usize,
    /// By interval level: the share of customers whose spend lay in their interval.
    pub coverage: Vec<(f64, Share)>,
    /// US dollars.
    pub predicted_total: f64,
    pub actual_total: f64,
    /// Predicted over actual total; absent when nobody spent anything.
    pub total_ratio: Option<f64>,
    /// Share of customers without any spend.
    pub no_purchase: Share,
    pub risk: Option<Calibrated>,
    /// Of the assigned tier.
    pub tier_probability: Option<Calibrated>,
    /// Of the order by tiers: each customer beside the nearest one told before of the tier they are compared with who
    /// spent another amount.
    pub confidence: Option<Calibrated>,
    /// What routing by value earns, where some customers were routed as if there were no score.
    pub earned: Option<Earned>,
    /// By assigned tier: the share of customers whose spend was in it.
    pub tiers: Vec<(Tier, Share)>,
}

/// The mean spend of customers who were routed by their value beside that of the control group, US dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Earned {
    pub routed: usize,
    pub control: usize,
    pub routed_mean: f64,
    pub control_mean: f64,
    /// The difference with its 95 % bounds (Welch 1947, normal quantile).
    pub difference: f64,
    pub low: f64,
    pub high: f64,
}

/// Probabilities against what happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibrated {
    pub n: usize,
    /// Mean probability.
    pub mean: f64,
    /// Share of the customers it happened to.
    pub observed: f64,
    /// Expected calibration error over ten bins of equal mass. Never 0 by chance: about 0.8 sqrt(p (1 - p) 10 / n) for
    /// a model that is right.
    pub error: f64,
}

impl Rolling {
    /// Keeps the newest `most` outcomes.
    pub fn new(most: usize) -> Self {
        Self { most, outcomes: VecDeque::new() }
    }

    pub fn add(&mut self, outcome: &Judged) {
        if self.outcomes.len() >= self.most {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(*outcome);
    }

    pub fn quality(&self) -> Quality {
        let all = || self.outcomes.iter();
        // Levels are few and come as written, such as 0.9: a hundredth of a per cent tells them apart.
        let mut levels: BTreeMap<u32, (f64, Vec<bool>)> = BTreeMap::new();
        for (level, held) in all().filter_map(|outcome| outcome.covered) {
            levels.entry((level * 1e4).round() as u32).or_insert((level, Vec::new())).1.push(held);
        }
        let predicted_total: f64 = all().map(|outcome| outcome.value).sum();
        let actual_total: f64 = all().map(|outcome| outcome.spend_usd).sum();
        let risk = all().filter_map(|outcome| Some((outcome.risk?, outcome.spend_usd <= 0.0)));
        let in_tier = all().filter_map(|outcome| Some((outcome.tier_probability?, outcome.tier?.1)));
        let tier = |tier: Tier| {
            let hits = all().filter_map(|outcome| outcome.tier).filter(|(assigned, _)| *assigned == tier);
            let hits: Vec<bool> = hits.map(|(_, hit)| hit).collect();
            (!hits.is_empty()).then(|| (tier, Share::of(hits)))
        };
        Quality {
            outcomes: self.outcomes.len(),
            coverage: levels.into_values().map(|(level, held)| (level, Share::of(held))).collect(),
            predicted_total,
            actual_total,
            total_ratio: (actual_total > 0.0).then(|| predicted_total / actual_total),
            no_purchase: Share::of(all().map(|outcome| outcome.spend_usd <= 0.0)),
            risk: Calibrated::of(risk.collect()),
            tier_probability: Calibrated::of(in_tier.collect()),
            confidence: Calibrated::of(ordered_pairs(all())),
            earned: Earned::of(all()),
            tiers: Tier::ALL.into_iter().filter_map(tier).collect(),
        }
    }
}

/// The confidence of each customer with whether they spent more than another of the tier below, in the lowest tier less than
/// one of the tier above. Each is set beside one customer: the last that differs.
fn ordered_pairs<'o>(outcomes: impl Iterator<Item = &'o Judged>) -> Vec<(f64, bool)> {
    let mut pairs = Vec::new();
    // The last two different spends of each tier: one of them differs from whatever comes.
    let mut last: BTreeMap<Tier, [Option<f64>; 2]> = BTreeMap::new();
    for outcome in outcomes {
        let Some((tier, _)) = outcome.tier else { continue };
        let spend = outcome.spend_usd;
        let rival = if tier == Tier::High {
            Tier::Medium
        } else if tier == Tier::Medium {
            Tier::Low
        } else {
            Tier::Medium
        };
        let rivals = last.get(&rival).copied().unwrap_or_default();
        let other = rivals.into_iter().flatten().find(|other| *other != spend);
        if let (Some(confidence), Some(other)) = (outcome.confidence, other) {
            pairs.push((confidence, (spend > other) == (tier != Tier::Low)));
        }
        let seen = last.entry(tier).or_default();
        if seen[0] != Some(spend) {
            *seen = [Some(spend), seen[0]];
        }
    }
    pairs
}

impl Earned {
    /// `None` unless both groups hold two customers.
    fn of<'o>(outcomes: impl Iterator<Item = &'o Judged>) -> Option<Self> {
        let (control, routed): (Vec<&Judged>, Vec<&Judged>) = outcomes.partition(|outcome| outcome.control);
        let [(routed, routed_mean, routed_error), (control, control_mean, control_error)] =
            [routed, control].map(|group| {
                let n = group.len() as f64;
                let mean = group.iter().map(|outcome| outcome.spend_usd).sum::<f64>() / n;
                let square: f64 = group.iter().map(|outcome| (outcome.spend_usd - mean).powi(2)).sum();
                (group.len(), mean, square / (n - 1.0) / n)
            });
        if routed < 2 || control < 2 {
            return None;
        }
        let difference = routed_mean - control_mean;
        let half = Z_95 * (routed_error + control_error).sqrt();
        Some(Self {
            routed,
            control,
            routed_mean,
            control_mean,
            difference,
            low: difference - half,
            high: difference + half,
        })
    }
}

impl Share {
    /// Bounds by E. B. Wilson (1927). 0 of 0 is 0, from 0 to 1.
    pub fn of(outcomes: impl IntoIterator<Item = bool>) -> Self {
        let mut n = 0_usize;
        let mut hits = 0_usize;
        for hit in outcomes {
            n += 1;
            hits += usize::from(hit);
        }
        if n == 0 {
            return Self { n, share: 0.0, low: 0.0, high: 1.0 };
        }
        let count = n as f64;
        let share = hits as f64 / n as f64;
        let z2 = Z_95 * Z_95 / count;
        let middle = (share + z2 / 2.0) / (1.0 + z2);
        let half = Z_95 / (1.0 + z2) * (share * (1.0 - share) / count + z2 / (4.0 * count)).sqrt();
        Self { n, share, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
    }
}

impl Calibrated {
    /// Of pairs of a probability and whether it happened; `None` without any.
    pub fn of(mut pairs: Vec<(f64, bool)>) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mean = |pairs: &[(f64, bool)]| pairs.iter().map(|pair| pair.0).sum::<f64>() / pairs.len() as f64;
        let share = |pairs: &[(f64, bool)]| pairs.iter().filter(|pair| pair.1).count() as f64 / pairs.len() as f64;
        let n = pairs.len();
        let edge = |bin: usize| bin * n / CALIBRATION_BINS;
        let bins = (0..CALIBRATION_BINS).map(|bin| &pairs[edge(bin)..edge(bin + 1)]).filter(|bin| !bin.is_empty());
        let error = bins.map(|bin| (mean(bin) - share(bin)).abs() * bin.len() as f64).sum::<f64>() / n as f64;
        Some(Self { n, mean: mean(&pairs), observed: share(&pairs), error })
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::prediction;
    use super::*;

    fn judged(spend_usd: f64) -> Judged {
        Judged::new(&prediction("2026-01-01T00:00:00Z"), spend_usd)
    }

    #[test]
    fn the_figures_of_four_customers_by_hand() {
        let mut rolling = Rolling::new(10);
        for spend in [0.0, 20.0, 45.0, 55.0] {
            rolling.add(&judged(spend));
        }
        let quality = rolling.quality();
        assert_eq!(quality.outcomes, 4);
        let (level, held) = quality.coverage[0];
        assert_eq!((level, held.n, held.share), (0.9, 4, 0.75), "55 is above 50");
        assert_eq!((quality.predicted_total, quality.actual_total), (80.0, 120.0));
        assert_eq!(quality.total_ratio, Some(80.0 / 120.0));
        assert_eq!(quality.no_purchase.share, 0.25);
        let risk = quality.risk.expect("given");
        assert_eq!((risk.n, risk.mean, risk.observed), (4, 0.25, 0.25));
        let in_tier = quality.tier_probability.expect("given");
        assert_eq!((in_tier.mean, in_tier.observed), (0.5, 0.25), "only 20 is in 10..40");
        assert_eq!((quality.confidence, quality.earned), (None, None), "no confidence and no control group was told");
        assert_eq!(quality.tiers.len(), 1);
        assert_eq!((quality.tiers[0].0, quality.tiers[0].1.share), (Tier::Medium, 0.25));
    }

    #[test]
    fn an_order_is_right_where_two_of_neighbouring_tiers_differ_as_it_says() {
        let told = |tier: Tier, spend_usd: f64| Judged {
            tier: Some((tier, true)),
            confidence: Some(0.8),
            ..judged(spend_usd)
        };
        let mut rolling = Rolling::new(10);
        for (tier, spend) in
            [(Tier::Low, 0.0), (Tier::Medium, 0.0), (Tier::Medium, 30.0), (Tier::Low, 40.0), (Tier::High, 50.0)]
        {
            rolling.add(&told(tier, spend));
        }
        // Medium at 0 has nobody who differs; 30 beats 0; Low at 40 is above 30; High beats 30.
        let confidence = rolling.quality().confidence.expect("pairs");
        assert!(confidence.n == 3 && (confidence.mean - 0.8).abs() < 1e-12, "{confidence:?}");
        assert!((confidence.observed - 2.0 / 3.0).abs() < 1e-12, "{confidence:?}");
    }

    #[test]
    fn what_routing_earns_is_the_difference_of_the_means() {
        let mut rolling = Rolling::new(10);
        for (spend, control) in [(10.0, false), (20.0, false), (30.0, false), (8.0, true), (12.0, true)] {
            rolling.add(&Judged { control, ..judged(spend) });
        }
        let earned = rolling.quality().earned.expect("both groups");
        assert_eq!((earned.routed, earned.control, earned.routed_mean, earned.control_mean), (3, 2, 20.0, 10.0));
        // Variances of the means: 100 / 3 and 8 / 2.
        let half = 1.959_963_984_540_054 * (100.0_f64 / 3.0 + 4.0).sqrt();
        assert!((earned.low - (10.0 - half)).abs() < 1e-9 && (earned.high - (10.0 + half)).abs() < 1e-9, "{earned:?}");
    }

    #[test]
    fn only_the_newest_outcomes_count() {
        let mut rolling = Rolling::new(2);
        for spend in [1000.0, 20.0, 20.0] {
            rolling.add(&judged(spend));
        }
        assert_eq!((rolling.quality().outcomes, rolling.quality().actual_total), (2, 40.0));
        let empty = Rolling::new(2).quality();
        assert_eq!((empty.total_ratio, empty.risk, empty.coverage.len()), (None, None, 0));
    }

    #[test]
    fn shares_have_wilson_bounds() {
        // statsmodels.stats.proportion.proportion_confint(90, 100, method="wilson").
        let share = Share::of((0..100).map(|i| i < 90));
        assert!((share.low - 0.825_634).abs() < 1e-6 && (share.high - 0.944_771).abs() < 1e-6, "{share:?}");
    }

    #[test]
    fn the_calibration_error_is_the_mean_gap_of_ten_bins() {
        let honest: Vec<_> =
            (0..1000).map(|i| (f64::from(i / 100) / 10.0 + 0.05, i % 100 < (i / 100) * 10 + 5)).collect();
        let error = Calibrated::of(honest.clone()).expect("pairs").error;
        assert!(error < 1e-12, "{error}");
        let boastful = honest.iter().map(|(p, hit)| ((p + 0.05).min(1.0), *hit)).collect();
        let error = Calibrated::of(boastful).expect("pairs").error;
        assert!((error - 0.05).abs() < 1e-12, "{error}");
    }
}
