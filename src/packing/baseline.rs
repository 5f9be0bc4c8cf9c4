//! What to answer for a customer the model cannot score: the typical customer of their acquisition channel or
//! segment, shrunk towards everybody by empirical Bayes.

use std::collections::BTreeMap;

use jiff::civil::Date;
use scoreline_domain::Probability;
use scoreline_engine::inference::manifest::{Baseline, Baselines, TierThresholds};

use crate::packing::calibrate::{LEVEL, upper_rank};
use crate::packing::statistics::round;

/// A customer of the population that baselines describe.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    pub spend_usd: f64,
    pub acquisition_channel: &'a str,
    pub segment: &'a str,
}

/// The neutral answer and the tables by channel and segment. A peer without a channel or segment counts for neutral
/// only.
pub(crate) fn baselines(
    peers: &[Peer<'_>],
    tiers: TierThresholds,
    as_of: Option<Date>,
) -> anyhow::Result<(Baseline, Baselines)> {
    anyhow::ensure!(!peers.is_empty(), "no customer to make a baseline from");
    let everybody = Group::of(peers.iter().map(|peer| peer.spend_usd).collect());
    let neutral = everybody.figures(tiers).baseline(everybody.spend.len(), 1.0);
    let by = |name: fn(&Peer<'_>) -> String| {
        let mut groups = BTreeMap::<String, Vec<f64>>::new();
        for peer in peers {
            groups.entry(name(peer)).or_default().push(peer.spend_usd);
        }
        groups.remove("");
        shrunk(groups, &everybody, tiers)
    };
    let tables = Baselines {
        note: "value, bounds and shares of each group are mixed with those of all customers by weight = \
               tau2 / (tau2 + s2 / n), tau2 by moments (empirical Bayes); the upper bound is the 90 % quantile of \
               spend, the lower 0 because most spend nothing"
            .to_owned(),
        as_of,
        segment: by(|peer| peer.segment.to_owned()),
        channel: by(|peer| peer.acquisition_channel.to_owned()),
    };
    Ok((neutral, tables))
}

/// Weight of each group's own mean: tau2 is how much true means differ between groups, s2 how much customers differ
/// within one.
pub fn weights(groups: &[(usize, f64)], s2: f64) -> Vec<f64> {
    let n: f64 = groups.iter().map(|(n, _)| *n as f64).sum();
    let k = groups.len() as f64;
    let mean = groups.iter().map(|(n, mean)| *n as f64 * mean).sum::<f64>() / n;
    let between = groups.iter().map(|(n, group)| *n as f64 * (group - mean).powi(2)).sum::<f64>();
    let typical = (n - groups.iter().map(|(n, _)| (*n as f64).powi(2)).sum::<f64>() / n) / (k - 1.0);
    let tau2 = if k > 1.0 { ((between / (k - 1.0) - s2) / typical).max(0.0) } else { 0.0 };
    groups.iter().map(|(n, _)| if tau2 > 0.0 { tau2 / (tau2 + s2 / *n as f64) } else { 0.0 }).collect()
}

fn shrunk(groups: BTreeMap<String, Vec<f64>>, everybody: &Group, tiers: TierThresholds) -> BTreeMap<String, Baseline> {
    let groups: Vec<(String, Group)> = groups.into_iter().map(|(name, spend)| (name, Group::of(spend))).collect();
    let n: usize = groups.iter().map(|(_, group)| group.spend.len()).sum();
    let within: f64 = groups.iter().map(|(_, group)| group.square()).sum();
    let s2 = within / (n.saturating_sub(groups.len())).max(1) as f64;
    let sizes: Vec<_> = groups.iter().map(|(_, group)| (group.spend.len(), group.mean())).collect();
    let overall = everybody.figures(tiers);
    groups
        .into_iter()
        .zip(weights(&sizes, s2))
        .map(|((name, group), weight)| {
            let mixed = group.figures(tiers).mixed(&overall, weight);
            (name, mixed.baseline(group.spend.len(), weight))
        })
        .collect()
}

struct Group {
    /// Ascending.
    spend: Vec<f64>,
}

/// Value, low, high, risk, share in Low, Medium and High.
struct Figures([f64; 7]);

impl Group {
    fn of(mut spend: Vec<f64>) -> Self {
        spend.sort_unstable_by(f64::total_cmp);
        Self { spend }
    }

    fn mean(&self) -> f64 {
        self.spend.iter().sum::<f64>() / self.spend.len() as f64
    }

    fn square(&self) -> f64 {
        let mean = self.mean();
        self.spend.iter().map(|spend| (spend - mean).powi(2)).sum()
    }

    fn figures(&self, tiers: TierThresholds) -> Figures {
        let share = |holds: &dyn Fn(f64) -> bool| {
            self.spend.iter().filter(|spend| holds(**spend)).count() as f64 / self.spend.len() as f64
        };
        Figures([
            self.mean(),
            0.0,
            upper_rank(&self.spend, LEVEL).max(self.mean()),
            share(&|spend| spend <= 0.0),
            share(&|spend| spend < tiers.medium),
            share(&|spend| spend >= tiers.medium && spend < tiers.high),
            share(&|spend| spend >= tiers.high),
        ])
    }
}

impl Figures {
    fn mixed(&self, other: &Self, weight: f64) -> Self {
        let mut mixed = [0.0; 7];
        for ((mixed, own), other) in mixed.iter_mut().zip(self.0).zip(other.0) {
            *mixed = weight * own + (1.0 - weight) * other;
        }
        Self(mixed)
    }

    fn baseline(&self, n: usize, weight: f64) -> Baseline {
        let [value, low, high, risk, shares @ ..] = self.0.map(round);
        let probability = |share: f64| Probability::clamped(share).expect("a share of a non-empty group is a number");
        Baseline {
            value,
            low,
            high,
            risk: probability(risk),
            tier_share: shares.map(probability),
            n: u32::try_from(n).unwrap_or(u32::MAX),
            weight: round(weight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_the_evidence() {
        // Means 10 and 30 of 50 customers each, s2 = 100: between mean square 10,000, tau2 = (10,000 - 100) / 50
        // = 198, weight 198 / (198 + 2) = 0.99.
        let sure = weights(&[(50, 10.0), (50, 30.0)], 100.0);
        assert!(sure.iter().all(|weight| (weight - 0.99).abs() < 1e-12), "{sure:?}");
        // Means that differ less than chance would make them say nothing.
        assert_eq!(weights(&[(50, 19.9), (50, 20.1)], 10_000.0), [0.0, 0.0]);
        assert_eq!(weights(&[(50, 19.9)], 1.0), [0.0], "one group cannot differ from itself");
        let unequal = weights(&[(1000, 10.0), (10, 30.0)], 100.0);
        assert!(unequal[0] > unequal[1], "more customers, more weight");
    }

    #[test]
    fn a_baseline_holds_the_figures_of_its_group() {
        let peer = |spend_usd, segment| Peer { spend_usd, acquisition_channel: "", segment };
        let peers: Vec<_> =
            (0..40).map(|i| if i % 2 == 0 { peer(0.0, "small") } else { peer(100.0, "large") }).collect();
        let tiers = TierThresholds { medium: 50.0, high: 200.0 };
        let (neutral, tables) = baselines(&peers, tiers, None).expect("baselines");
        assert_eq!((neutral.value, neutral.low, neutral.high, neutral.risk.get()), (50.0, 0.0, 100.0, 0.5));
        assert_eq!(neutral.tier_share.map(Probability::get), [0.5, 0.5, 0.0]);
        assert!(tables.channel.is_empty(), "no channel, no table");
        let large = &tables.segment["large"];
        // No spread within the groups: each mean stands for itself.
        assert_eq!((large.value, large.risk.get(), large.n, large.weight), (100.0, 0.0, 20, 1.0));
    }
}
