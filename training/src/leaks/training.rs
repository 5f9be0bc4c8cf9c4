//! The leak checks of a training run, on the data it was given and the functions it computes features with.

use scoreline::packing::leaks::Check;
use scoreline_engine::features::interactions::{InteractionHistory, QueueSentiment};
use scoreline_engine::features::purchases::PurchaseHistory;

use crate::cdnow::Customer;
use crate::cohort::{AS_OF, Member};
use crate::generator::{self, Expectation, Simulation};
use crate::leaks::as_of;

/// Our purchase features against purchases after the as-of day.
///
/// # Errors
/// When the features cannot be computed.
pub(crate) fn purchases_as_of(customers: &[Customer]) -> anyhow::Result<Check> {
    as_of::purchases(customers.iter().map(|customer| customer.purchases.as_slice()), AS_OF, |purchases| {
        let mut history = PurchaseHistory::as_of(AS_OF);
        for purchase in purchases {
            history.add(purchase)?;
        }
        Ok(history.features())
    })
}

/// Our interaction features against conversations that end after the as-of time. One expectation a member, as for
/// `generator::interaction_features`.
///
/// # Errors
/// When the features cannot be computed.
pub(crate) fn interactions_as_of(
    members: &[Member],
    customers: &[Customer],
    expectations: &[Expectation],
    simulation: Simulation,
) -> anyhow::Result<Check> {
    let time = generator::as_of_time()?;
    let step = members.len().div_ceil(as_of::SAMPLE).max(1);
    let mut told = Vec::new();
    for (member, expectation) in members.iter().zip(expectations).step_by(step) {
        let purchases = generator::purchases_of(member, customers)?;
        told.push(generator::conversations(member, purchases, *expectation, simulation)?);
    }
    let histories = told.iter().map(|told| told.iter().map(generator::Conversation::as_interaction).collect());
    as_of::interactions(histories, time, |interactions| {
        let mut history = InteractionHistory::as_of(time);
        let ended = Some(time.as_millisecond());
        let mut queues = QueueSentiment::default();
        for interaction in interactions {
            history.add(interaction)?;
            if let (true, Some(queue), Some(sentiment)) =
                (interaction.end_ms <= ended, interaction.queue, interaction.sentiment)
            {
                queues.observe(queue, sentiment);
            }
        }
        Ok(history.features(&queues))
    })
}
