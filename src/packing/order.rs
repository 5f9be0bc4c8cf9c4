//! How right the order of tiers is for each customer, and what the badge of those who are less sure tells.
//!
//! A customer is set beside every other one of the tier they are compared with: the tier below, for the lowest the tier
//! above. Pairs that spent the same have no order and count nothing.

use scoreline_domain::{Probability, Tier};
use scoreline_engine::inference::manifest::Luck;

use crate::packing::luck;
use crate::packing::quality::Judged;

/// The confidence below which an answer carries the badge, as shipped.
const BADGE_BELOW: f64 = 0.73;

/// Bins of the calibration error, of equal numbers of customers.
const BINS: usize = 10;

/// One customer: what was said, and the shares of the pairs in which it came true and in which it did not.
struct Ordered {
    tier: Tier,
    said: f64,
    right: f64,
    wrong: f64,
}

/// What a perfect model shows of the calibration error of the confidence: each customer's pairs come out alike.
pub(crate) fn luck(judged: &[Judged<'_>]) -> Luck {
    let (said, weights): (Vec<f64>, Vec<f64>) =
        ordered(judged).into_iter().map(|one| (one.said, one.right + one.wrong)).unzip();
    luck::weighted_calibration_error(&said, &weights)
}

/// Calibration of the confidence over pairs; for each tier the share that carries the badge and how often the order is
/// right with and without it.
pub(crate) fn figures(judged: &[Judged<'_>]) -> Vec<(String, f64)> {
    let ordered = ordered(judged);
    let mut found = vec![("confidence_ece".to_owned(), calibration_error(&ordered))];
    let all: Vec<&Ordered> = ordered.iter().collect();
    found.push(("confidence_mean".to_owned(), weighted(&all, |one| one.said)));
    found.push(("order_right".to_owned(), right(&all)));
    for tier in Tier::ALL {
        let members: Vec<&Ordered> = ordered.iter().filter(|one| one.tier == tier).collect();
        if members.is_empty() {
            continue;
        }
        let count = members.len() as f64;
        let (with, without): (Vec<&Ordered>, Vec<&Ordered>) =
            members.into_iter().partition(|one| one.said < BADGE_BELOW);
        let name = tier.as_str().to_lowercase();
        found.push((format!("badge_{name}"), with.len() as f64 / count));
        found.extend((!with.is_empty()).then(|| (format!("order_right_{name}_with_badge"), right(&with))));
        found.extend((!without.is_empty()).then(|| (format!("order_right_{name}_without_badge"), right(&without))));
        found.push((format!("order_separable_{name}"), separable([with, without].concat())));
    }
    found
}

/// Shares of a tier that may carry a badge which says something.
const BADGE_SHARES: [f64; 6] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];

/// By how much the order is right more often without a badge than with it, at the best limit of the confidence: the most
/// that any badge could tell.
fn separable(mut members: Vec<&Ordered>) -> f64 {
    members.sort_by(|a, b| a.said.total_cmp(&b.said));
    let apart = BADGE_SHARES.iter().map(|share| {
        let (with, without) = members.split_at((share * members.len() as f64) as usize);
        right(without) - right(with)
    });
    apart.filter(|points| points.is_finite()).fold(0.0, f64::max)
}

fn ordered(judged: &[Judged<'_>]) -> Vec<Ordered> {
    let spends = |tier: Tier| {
        let members = judged.iter().filter(|one| one.estimate.tier == tier);
        let mut spends: Vec<f64> = members.map(|one| one.row.spend_usd).collect();
        spends.sort_unstable_by(f64::total_cmp);
        spends
    };
    let of = Tier::ALL.map(spends);
    let one = |one: &Judged<'_>| {
        let tier = one.estimate.tier;
        let rivals = match tier {
            Tier::Low | Tier::High => &of[1],
            Tier::Medium => &of[0],
        };
        let spend = one.row.spend_usd;
        let count = rivals.len().max(1) as f64;
        let below = rivals.partition_point(|rival| *rival < spend) as f64 / count;
        let above = 1.0 - rivals.partition_point(|rival| *rival <= spend) as f64 / count;
        let [right, wrong] = if tier == Tier::Low { [above, below] } else { [below, above] };
        let said = one.estimate.confidence.map_or(f64::NAN, Probability::get);
        Ordered { tier, said, right, wrong: if rivals.is_empty() { 0.0 } else { wrong } }
    };
    judged.iter().map(one).collect()
}

fn weighted(members: &[&Ordered], of: impl Fn(&Ordered) -> f64) -> f64 {
    let weight = |one: &&Ordered| one.right + one.wrong;
    members.iter().map(|one| weight(one) * of(one)).sum::<f64>() / members.iter().map(weight).sum::<f64>()
}

/// The share of the pairs that differ whose order is right.
fn right(members: &[&Ordered]) -> f64 {
    members.iter().map(|one| one.right).sum::<f64>() / members.iter().map(|one| one.right + one.wrong).sum::<f64>()
}

fn calibration_error(ordered: &[Ordered]) -> f64 {
    let mut sorted: Vec<&Ordered> = ordered.iter().collect();
    sorted.sort_by(|a, b| a.said.total_cmp(&b.said));
    let edge = |bin: usize| bin * sorted.len() / BINS;
    let weight = |bin: &[&Ordered]| bin.iter().map(|one| one.right + one.wrong).sum::<f64>();
    let bins = (0..BINS).map(|bin| &sorted[edge(bin)..edge(bin + 1)]).filter(|bin| weight(bin) > 0.0);
    bins.map(|bin| weight(bin) * (weighted(bin, |one| one.said) - right(bin)).abs()).sum::<f64>() / weight(&sorted)
}
