//! What of an answer is noted for the agent's page: the answer itself, and the values it was made from.

use crate::conversations::{ConversationKey, GivenAnswer, GivenBaseline, GivenScore};
use crate::http::state::HttpState;
use crate::scoring::task::Score;
use crate::scoring::{Scored, Warning};
use scoreline_domain::{CustomerKey, Estimate, LeadScore};
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
        self.note(app, scored, || given_clv(app, scored))
    }

    /// As `note_customer`, about a lead.
    pub(super) fn note_lead(&self, app: &HttpState, scored: &Scored<LeadScore>) -> Option<String> {
        let LeadScore { priority, probability } = scored.estimate;
        self.note(app, scored, || GivenScore::Lead { priority, probability: probability.get() })
    }

    fn note<E: Score>(
        &self,
        app: &HttpState,
        scored: &Scored<E>,
        score: impl FnOnce() -> GivenScore,
    ) -> Option<String> {
        let widget = app.widget.as_ref()?;
        let conversation = ConversationKey::of(&app.hasher, self.conversation);
        let is_old = |warning: &Warning| matches!(warning, Warning::StoredStale | Warning::Stale(_));
        let answer = GivenAnswer {
            score: score(),
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
            row: app.scorer.row_behind(self.features, self.customer, scored),
        };
        widget.book.note(conversation, self.customer, answer);
        Some(widget.link(&conversation, self.customer.as_ref(), app.scorer.now()))
    }
}

fn given_clv(app: &HttpState, scored: &Scored) -> GivenScore {
    let Estimate { value, interval, tier_probability, tier, .. } = scored.estimate;
    let manifest = scored.snapshot.manifest();
    let thresholds = scored.snapshot.tiers();
    let limits = [thresholds.medium, thresholds.high].iter().all(|limit| limit.is_finite());
    GivenScore::Clv {
        value,
        interval: interval.zip(scored.interval_level).map(|(interval, level)| (interval.low(), interval.high(), level)),
        tier,
        confidence: tier_probability.map(scoreline_domain::Probability::get),
        low_confidence: app.policy.decide(&scored.estimate, scored.is_neutral(), None).low_confidence,
        horizon_days: manifest.horizon_days,
        limits: limits.then_some((thresholds.medium, thresholds.high)),
    }
}
