//! Reason codes as they stand on the wire, beside the prediction.

use serde::Serialize;

use crate::scoring::explanation::{Explanation, NotExplained, Written};
use crate::scoring::{Scored, Scorer};

/// What came of `explain: true`.
#[derive(Debug)]
pub struct Explained {
    outcome: Result<Explanation, NotExplained>,
    /// Features that are named.
    top: usize,
}

#[derive(Serialize)]
pub(super) struct ExplanationBody<'a> {
    base_value_usd: f64,
    contributions: Vec<ContributionBody<'a>>,
    others_usd: f64,
    method: &'static str,
}

#[derive(Serialize)]
struct ContributionBody<'a> {
    feature: &'a str,
    /// As it was given; a feature that was not has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    contribution_usd: f64,
}

impl Explained {
    pub fn new(outcome: Result<Explanation, NotExplained>, scorer: &Scorer) -> Self {
        Self { outcome, top: scorer.explain_top() }
    }

    pub(super) fn body<'a>(&self, scored: &'a Scored) -> Option<ExplanationBody<'a>> {
        let explanation = self.outcome.as_ref().ok()?;
        let Written { base, top, others } = explanation.written(self.top, 100.0);
        let rules = scored.snapshot.schema().rules();
        let contributions = top.iter().map(|contribution| ContributionBody {
            feature: &rules[contribution.position].name,
            value: contribution.given,
            contribution_usd: contribution.amount,
        });
        Some(ExplanationBody {
            base_value_usd: base,
            contributions: contributions.collect(),
            others_usd: others,
            method: explanation.method.as_str(),
        })
    }

    /// Why there is no explanation, if there is none.
    pub(super) fn missing(&self) -> Option<NotExplained> {
        self.outcome.as_ref().err().copied()
    }
}
