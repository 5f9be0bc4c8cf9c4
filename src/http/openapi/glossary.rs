//! What the names on the wire mean. A name means the same wherever it stands, so it is said once.

use serde_json::Value;

/// By name, in requests, answers and data actions.
const MEANINGS: &[(&str, &str)] = &[
    ("acquisition_channel", "Where the customer comes from: picks the baseline of one without history."),
    ("age_seconds", "How old the answer is: more than 0 from the cache."),
    ("badge", "What an agent should know of the figure."),
    ("baseline", "What answered instead of a model."),
    ("clv_tier", "Tier of the value, by the limits of the model."),
    ("clv_value_usd", "Expected spend over `horizon_days`, in US dollars."),
    ("confidence_interval_high", "Upper bound of the interval of this customer's spend."),
    ("confidence_interval_low", "Lower bound of the interval of this customer's spend."),
    ("confidence_score", "Probability that the order by tiers is right for this customer."),
    ("conversationId", "The conversation that goes on, for the agent's page. Changes no answer."),
    ("conversation_id", "The conversation that goes on, for the agent's page. Changes no answer."),
    ("conversion_probability", "Calibrated probability that the lead converts."),
    ("customerId", "Kept as a keyed hash. Without features, those that are stored of this customer count."),
    ("customer_id", "Kept as a keyed hash. Without features, those that are stored of this customer count."),
    ("features_age_seconds", "How old the stored features are."),
    ("features_as_of", "When the features were computed."),
    ("horizon_days", "Days that the value covers."),
    ("inference_latency_ms", "Time from the question to the answer, inside the server."),
    ("interval_level", "Share of customers whose spend lies in their interval; one that the model is calibrated for."),
    ("last_calculated_at", "When the score was made."),
    ("leadId", "Kept as a keyed hash, and sealed where it is pushed."),
    ("lead_id", "Kept as a keyed hash, and sealed where it is pushed."),
    ("lead_source", "Where the lead comes from: picks the baseline of one of whom nothing is known."),
    ("low_confidence", "Whether the confidence is below the limit of the settings."),
    ("model", "Name of the model."),
    (
        "model_version",
        "Version of the model. One that is asked for and not loaded is answered by the version that serves, with a warning.",
    ),
    ("previous_tier", "The tier the customer has been in, so that a value near a limit does not move them."),
    ("priority_score", "Place among other leads, 1 to 100."),
    ("request_id", "The id that is answered under: the caller's own, or a new one."),
    ("risk_score", "Probability of no purchase within `horizon_days`."),
    ("scored_at", "When the answer was made, to the second."),
    ("segment", "Picks the baseline of a customer without history, before the channel."),
    ("skill_id", "Skill that the tier is routed to."),
    ("tier_probability", "Probability that the real spend falls in the tier."),
    ("timestamp_utc", "When the features were computed."),
    ("use_default_routing", "Whether to route as if there were no score."),
    ("valid_until", "When the score stops to count."),
    ("warnings", "What there is to say about the question: a word each, and behind a colon what it is about."),
    ("widget_url", "The agent's page of the conversation."),
];

/// Says what the properties of a schema mean that say nothing themselves.
pub(super) fn explain(schema: &mut Value) {
    for part in schema.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
        explain(part);
    }
    for (name, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let meaning = MEANINGS.iter().find(|(known, _)| known == name);
        if let (Some((_, meaning)), Some(property)) = (meaning, property.as_object_mut()) {
            property.entry("description").or_insert_with(|| (*meaning).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_there_once() {
        assert!(MEANINGS.is_sorted_by(|(a, _), (b, _)| a < b));
    }
}
