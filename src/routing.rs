//! The tier policy: a score's tier becomes a skill, a priority and a warning badge. Which skill is configuration; the
//! rule is here.

use serde::{Deserialize, Serialize};

use scoreline_domain::{CustomerKey, Estimate, Tier};

/// What an interaction of one tier gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierRoute {
    pub skill_id: String,
    /// Routing priority; on Genesys Cloud one point is one minute of waiting.
    pub priority: u32,
    /// Queue to use instead of the flow's own; absent means the flow decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
}

/// Settings of the tier policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingSettings {
    pub high: TierRoute,
    pub medium: TierRoute,
    pub low: TierRoute,
    /// Below this confidence the answer carries the badge.
    pub low_confidence_below: f64,
    /// The share of customers that is routed as if there were no score, always the same ones: what the others earn beside
    /// them is what routing by value earns.
    pub control_share: f64,
}

/// What to do with an interaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing<'a> {
    pub tier: Tier,
    pub route: &'a TierRoute,
    /// The tier is more a guess than a statement.
    pub low_confidence: bool,
    /// The flow should do what it would do without a score.
    pub use_default: bool,
    /// It should because the customer is in the control group.
    pub control: bool,
}

/// Shown beside a score whose confidence is low.
const BADGE_INDICATIVE: &str = "indicative";

/// Turns scores into routing.
#[derive(Clone, Debug)]
pub struct TierPolicy {
    settings: RoutingSettings,
}

impl TierPolicy {
    pub fn new(settings: RoutingSettings) -> Self {
        Self { settings }
    }

    /// What to do with an interaction of this estimate of a customer. A neutral one says nothing of them.
    pub fn decide(&self, estimate: &Estimate, is_neutral: bool, customer: Option<CustomerKey>) -> Routing<'_> {
        if is_neutral {
            return self.decide_neutral(estimate);
        }
        if customer.is_some_and(|customer| self.is_control(customer)) {
            let low_confidence = self.is_low_confidence(estimate);
            return Routing { control: true, low_confidence, ..self.decide_neutral(estimate) };
        }
        let route = match estimate.tier {
            Tier::High => &self.settings.high,
            Tier::Medium => &self.settings.medium,
            Tier::Low => &self.settings.low,
        };
        Routing {
            tier: estimate.tier,
            route,
            low_confidence: self.is_low_confidence(estimate),
            use_default: false,
            control: false,
        }
    }

    /// Whether a customer is in the control group.
    pub fn is_control(&self, customer: CustomerKey) -> bool {
        customer.is_in_share(self.settings.control_share)
    }

    /// Nothing of its own, behind everybody of whom something is known.
    fn decide_neutral(&self, estimate: &Estimate) -> Routing<'_> {
        let RoutingSettings { high, medium, low, .. } = &self.settings;
        let route = if high.priority < medium.priority.min(low.priority) {
            high
        } else if medium.priority < low.priority {
            medium
        } else {
            low
        };
        Routing { tier: estimate.tier, route, low_confidence: true, use_default: true, control: false }
    }

    /// A score without a confidence is not trusted either.
    fn is_low_confidence(&self, estimate: &Estimate) -> bool {
        estimate.confidence.is_none_or(|confidence| confidence.get() < self.settings.low_confidence_below)
    }
}

impl Routing<'_> {
    pub fn badge(&self) -> Option<&'static str> {
        self.low_confidence.then_some(BADGE_INDICATIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scoreline_domain::Probability;

    fn policy() -> TierPolicy {
        let route = |skill: &str, priority| TierRoute { skill_id: skill.into(), priority, queue: None };
        TierPolicy::new(RoutingSettings {
            high: route("SKILL_PREMIUM_SUPPORT", 10),
            medium: route("SKILL_PRIORITY_SUPPORT", 5),
            low: route("SKILL_GENERAL_SUPPORT", 0),
            low_confidence_below: 0.7,
            control_share: 0.0,
        })
    }

    fn estimate(tier: Tier, confidence: Option<f64>) -> Estimate {
        let confidence = confidence.and_then(Probability::clamped);
        Estimate { value: 1.0, interval: None, risk: None, confidence, tier_probability: None, tier }
    }

    #[test]
    fn high_value_goes_to_premium_support_with_priority_ten() {
        let policy = policy();
        let routing = policy.decide(&estimate(Tier::High, Some(0.9)), false, None);
        assert_eq!((routing.route.skill_id.as_str(), routing.route.priority), ("SKILL_PREMIUM_SUPPORT", 10));
        assert_eq!(routing.badge(), None);
    }

    #[test]
    fn nobody_knows_whom_a_neutral_estimate_is_about_so_they_wait_behind_everybody_else() {
        let policy = policy();
        let routing = policy.decide(&estimate(Tier::High, Some(0.9)), true, None);
        assert_eq!((routing.route.priority, routing.use_default), (0, true));
        assert_eq!((routing.tier, routing.badge()), (Tier::High, Some("indicative")));
        assert!(!policy.decide(&estimate(Tier::Low, Some(0.9)), false, None).use_default);
    }

    #[test]
    fn the_badge_shows_below_the_limit_and_without_a_confidence() {
        let policy = policy();
        assert_eq!(policy.decide(&estimate(Tier::Low, Some(0.69)), false, None).badge(), Some("indicative"));
        assert_eq!(policy.decide(&estimate(Tier::Low, Some(0.7)), false, None).badge(), None);
        assert_eq!(policy.decide(&estimate(Tier::Low, None), false, None).badge(), Some("indicative"));
    }

    #[test]
    fn a_fixed_share_of_customers_is_routed_as_if_there_were_no_score() {
        let settings = RoutingSettings { control_share: 0.1, ..policy().settings };
        let policy = TierPolicy::new(settings);
        let key = |number: u32| {
            let mut digest = [0; 32];
            digest[24..].copy_from_slice(&u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
            CustomerKey::from_digest(digest)
        };
        let estimate = estimate(Tier::High, Some(0.9));
        let control = (0..10_000).filter(|number| policy.decide(&estimate, false, Some(key(*number))).control).count();
        assert!((900..1100).contains(&control), "{control} of 10,000");
        let one = (0..10_000).map(key).find(|key| policy.is_control(*key)).expect("one in ten");
        let routing = policy.decide(&estimate, false, Some(one));
        assert_eq!((routing.route.skill_id.as_str(), routing.use_default), ("SKILL_GENERAL_SUPPORT", true));
        assert_eq!((routing.tier, routing.low_confidence), (Tier::High, false), "what is known is still said");
        assert!(!policy.decide(&estimate, false, None).control, "nobody in particular");
    }
}
