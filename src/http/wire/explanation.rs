//! Reason codes as they stand on the wire, beside the prediction.

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::scoring::explanation::{Contribution, Explanation, NotExplained, RoundedExplanation};
use crate::scoring::task::{Score, ScoreUnit};
use crate::scoring::{Scored, Scorer};
use scoreline_engine::features::FeatureRule;

/// What came of `explain: true`.
#[derive(Debug)]
pub(crate) struct Explained {
    outcome: Result<Explanation, NotExplained>,
    /// Features that are named.
    top: usize,
}

/// Amounts are named by their unit: `base_value_usd` and `contribution_usd`, or `base_points` and
/// `contribution_points`.
pub(super) struct ExplanationBody<'a> {
    written: RoundedExplanation,
    unit: ScoreUnit,
    rules: &'a [FeatureRule],
    method: &'static str,
}

struct ContributionBody<'a> {
    contribution: Contribution,
    unit: ScoreUnit,
    rule: &'a FeatureRule,
}

impl Serialize for ExplanationBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (base, others) = match self.unit {
            ScoreUnit::Usd => ("base_value_usd", "others_usd"),
            ScoreUnit::Points => ("base_points", "others_points"),
        };
        let contributions: Vec<_> = self
            .written
            .top
            .iter()
            .map(|contribution| ContributionBody {
                contribution: *contribution,
                unit: self.unit,
                rule: &self.rules[contribution.position],
            })
            .collect();
        let mut body = serializer.serialize_struct("Explanation", 4)?;
        body.serialize_field(base, &self.written.base)?;
        body.serialize_field("contributions", &contributions)?;
        body.serialize_field(others, &self.written.others)?;
        body.serialize_field("method", self.method)?;
        body.end()
    }
}

impl Serialize for ContributionBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let amount = match self.unit {
            ScoreUnit::Usd => "contribution_usd",
            ScoreUnit::Points => "contribution_points",
        };
        let mut body = serializer.serialize_struct("Contribution", 3)?;
        body.serialize_field("feature", &self.rule.name)?;
        // As it was given; a feature that was not has none.
        if let Some(given) = self.contribution.given {
            match self.rule.categories.get(given as usize) {
                Some(category) => body.serialize_field("value", category)?,
                None => body.serialize_field("value", &given)?,
            }
        }
        body.serialize_field(amount, &self.contribution.amount)?;
        body.end()
    }
}

impl Explained {
    pub(crate) fn new(outcome: Result<Explanation, NotExplained>, scorer: &Scorer) -> Self {
        Self { outcome, top: scorer.explain_top() }
    }

    pub(super) fn body<'a, E: Score>(&self, scored: &'a Scored<E>) -> Option<ExplanationBody<'a>> {
        let explanation = self.outcome.as_ref().ok()?;
        // Dollars to the cent; points are percent of a probability.
        let scale = match E::UNIT {
            ScoreUnit::Usd => 1e2,
            ScoreUnit::Points => 1e4,
        };
        Some(ExplanationBody {
            written: explanation.written(self.top, scale),
            unit: E::UNIT,
            rules: scored.snapshot.schema().rules(),
            method: explanation.method.as_str(),
        })
    }

    /// Why there is no explanation, if there is none.
    pub(super) fn missing(&self) -> Option<NotExplained> {
        self.outcome.as_ref().err().copied()
    }
}
