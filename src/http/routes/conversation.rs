//! What of an answer is noted for the agent's page: the answer itself, and the values it was made from.

use crate::conversations::{ConversationKey, GivenAnswer, GivenBaseline, GivenScore};
use crate::http::state::HttpState;
use crate::scoring::task::Score;
use crate::scoring::{Scored, Warning};
use scoreline_domain::{CustomerKey, Estimate, LeadScore, Source};
use scoreline_engine::features::Value;

/// The conversation that a question names, and what the question says.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub conversation: &'a str,
    /// Customer or lead.
    pub customer: Option<CustomerKey>,
    pub features: Option<&'a [(&'a str, Option<Value<'a>>)]>,
}

impl Asked<'_> {
    /// Notes an answer about a customer; the address of its page, where there is one.
    pub(super) fn note_customer(&self, app: &HttpState, scored: &Scored) -> Option<String> {
        self.note(app, scored, |row| given_clv(app, scored, row))
    }

    /// As `note_customer`, about a lead.
    pub(super) fn note_lead(&self, app: &HttpState, scored: &Scored<LeadScore>) -> Option<String> {
        let LeadScore { priority, probability } = scored.estimate;
        self.note(app, scored, |_| GivenScore::Lead { priority, probability: probability.get() })
    }

    fn note<E: Score>(
        &self,
        app: &HttpState,
        scored: &Scored<E>,
        score: impl FnOnce(Option<&[f64]>) -> GivenScore,
    ) -> Option<String> {
        let widget = app.widget.as_ref()?;
        let conversation = ConversationKey::of(&app.hasher, self.conversation);
        let is_old = |warning: &Warning| matches!(warning, Warning::StoredStale | Warning::Stale(_));
        let row = app.scorer.row_behind(self.features, self.customer, scored);
        let answer = GivenAnswer {
            score: score(row.as_deref()),
            source: scored.source,
            model: scored.snapshot.name().clone(),
            version: scored.version.clone(),
            scored_at: scored.scored_at,
            features_as_of: scored.features_as_of,
            is_old_history: scored.warnings.iter().any(is_old),
            baseline: scored
                .baseline
                .as_ref()
                .map(|used| GivenBaseline { level: used.level.to_owned(), name: used.name.clone() }),
            row,
        };
        widget.book.note(conversation, self.customer, answer);
        Some(widget.link(&conversation, self.customer.as_ref(), app.scorer.now()))
    }
}

/// Tiers begin where they do for customers of whom as much is known; a baseline is judged as if all were. Where the row of a
/// model's answer is not known, neither are they.
fn given_clv(app: &HttpState, scored: &Scored, row: Option<&[f64]>) -> GivenScore {
    let Estimate { value, interval, tier_probability, tier, .. } = scored.estimate;
    let manifest = scored.snapshot.manifest();
    let thresholds = match (row, scored.source) {
        (Some(row), _) => Some(scored.snapshot.standard(row).limits),
        (None, Source::ColdStart | Source::Fallback) => Some(scored.snapshot.tiers()),
        (None, Source::Model | Source::Cache | Source::StaleCache) => None,
    };
    let limits = thresholds.map(|limits| (limits.medium, limits.high));
    GivenScore::Clv {
        value,
        interval: interval.zip(scored.interval_level).map(|(interval, level)| (interval.low(), interval.high(), level)),
        tier,
        tier_probability: tier_probability.map(scoreline_domain::Probability::get),
        low_confidence: app.policy.decide(&scored.estimate, scored.is_neutral(), None).low_confidence,
        horizon_days: manifest.horizon_days,
        limits: limits.filter(|(medium, high)| medium.is_finite() && high.is_finite()),
    }
}
