//! `[lead]`: what turns a probability of conversion into a priority, and what stands in for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use scoreline_domain::time::Timestamp;
use scoreline_domain::{LeadScore, Probability};

/// How a lead model's probability is ranked and what answers when there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeadTable {
    /// Who the reference population is, for people.
    pub population: String,
    /// How many leads it holds.
    pub rows: u32,
    /// When its probabilities were frozen.
    pub made_at: Timestamp,
    /// Share of those leads that converted: the neutral answer.
    pub base_rate: Probability,
    /// The 1st to 99th percentile of the probability in the reference population.
    pub reference: ScoreReference,
    /// Conversion by lead source, shrunk towards all leads (beta-binomial empirical Bayes).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, SourceBaseline>,
}

/// A lead source's typical lead.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceBaseline {
    pub probability: Probability,
    /// Leads behind the figure, and the weight of their own share against everybody's.
    #[serde(default)]
    pub n: u32,
    #[serde(default)]
    pub weight: f64,
}

/// 99 cut points that never fall: the percentiles of a frozen population.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct ScoreReference(Box<[f64]>);

/// Cut points there have to be: they divide 100 places.
pub const CUTS: usize = 99;

/// Numbers that are no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`reference` must be 99 probabilities that never fall")]
pub struct NoReference;

impl ScoreReference {
    /// # Errors
    /// When the numbers are not 99 probabilities in order.
    pub fn new(cuts: Vec<f64>) -> Result<Self, NoReference> {
        let probabilities = cuts.iter().all(|cut| (0.0..=1.0).contains(cut));
        if cuts.len() == CUTS && probabilities && cuts.is_sorted() { Ok(Self(cuts.into())) } else { Err(NoReference) }
    }

    /// The percentiles of a population's probabilities, by the nearest rank. `None` for nobody.
    pub fn of(probabilities: &[f64]) -> Option<Self> {
        let mut sorted = probabilities.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let cuts =
            (1..=CUTS).map(|percent| sorted[(percent * sorted.len()).div_ceil(CUTS + 1).saturating_sub(1).min(last)]);
        Self::new(cuts.collect()).ok()
    }

    /// The place of a probability, 1 to 100: one more than the cut points at or below it. A lead exactly at a cut
    /// point stands above it; where many of the population share one probability, all places up to the highest of
    /// theirs are passed over at once.
    pub fn place(&self, probability: Probability) -> u8 {
        let passed = self.0.partition_point(|cut| *cut <= probability.get());
        u8::try_from(passed + 1).unwrap_or(100)
    }
}

impl LeadTable {
    /// A probability with its place in the frozen population, as golden rows promise it. What is served is placed among other
    /// leads (`RollingPlaces`).
    pub fn score(&self, probability: Probability) -> LeadScore {
        LeadScore { priority: self.reference.place(probability), probability }
    }
}

impl TryFrom<Vec<f64>> for ScoreReference {
    type Error = NoReference;

    fn try_from(cuts: Vec<f64>) -> Result<Self, NoReference> {
        Self::new(cuts)
    }
}

impl From<ScoreReference> for Vec<f64> {
    fn from(reference: ScoreReference) -> Self {
        reference.0.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn probability(p: f64) -> Probability {
        Probability::clamped(p).expect("a number")
    }

    #[test]
    fn seventy_one_and_above_is_the_best_thirty_percent() {
        let population: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
        let reference = ScoreReference::of(&population).expect("people");
        let best = population.iter().filter(|p| reference.place(probability(**p)) >= 71).count();
        assert_eq!(best, 301, "the cut point itself counts");
        assert_eq!((reference.place(probability(0.0)), reference.place(probability(1.0))), (1, 100));
    }

    #[test]
    fn a_lead_at_a_cut_point_stands_above_it_and_ties_pass_together() {
        let mut cuts = vec![0.1; 50];
        cuts.extend([0.4; 49]);
        let reference = ScoreReference::new(cuts).expect("in order");
        let place = |p| reference.place(probability(p));
        assert_eq!([place(0.09), place(0.1), place(0.39), place(0.4)], [1, 51, 51, 100]);
    }

    #[test]
    fn numbers_that_are_no_reference_are_refused() {
        assert!(ScoreReference::new(vec![0.5; 98]).is_err());
        assert!(ScoreReference::new(vec![1.5; 99]).is_err());
        assert!(ScoreReference::new((0..99).rev().map(|i| f64::from(i) / 100.0).collect()).is_err());
        assert_eq!(ScoreReference::of(&[]), None);
    }

    proptest! {
        #[test]
        fn more_probability_is_never_a_lower_place(
            population in prop::collection::vec(0.0..1.0f64, 1..300), a in 0.0..1.0f64, b in 0.0..1.0f64,
        ) {
            let reference = ScoreReference::of(&population).expect("people");
            let low = reference.place(probability(a.min(b)));
            let high = reference.place(probability(a.max(b)));
            prop_assert!((1..=100).contains(&low) && low <= high && high <= 100);
        }
    }
}
