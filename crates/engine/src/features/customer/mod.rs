//! Everything known about one customer as of a time, folded into all catalogued features, with the time from which they
//! are no longer true.
//!
//! A purchase has a day and no time, so as of a time those of days that are over (UTC) are known. Days are counted since
//! the last interaction (`recency_days`) and since the last purchase (`purchase_recency_days`); a model of purchases alone
//! calls the second one `recency_days`, and is given that.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::civil::Date;

use super::catalogue_row;
use super::interactions::{EndsBeforeStart, InteractionHistory, QueueSentiment};
use super::purchases::{PurchaseError, PurchaseHistory, known_from, last_whole_day};
use scoreline_domain::feature::CatalogueRow;
use scoreline_domain::{InteractionId, InteractionRow, Purchase};

/// A customer's features as of a time.
#[derive(Clone, Debug)]
pub struct CustomerVector {
    pub as_of: Timestamp,
    pub values: CatalogueRow,
    /// The first later time at which the values differ though nothing new is known about this customer: until then they
    /// are what a new computation would give. `None` when that never happens.
    pub next_change_at: Option<Timestamp>,
    /// Whether the sentiment is that of the customer's queues: then the values also change with other customers'
    /// interactions.
    pub depends_on_queues: bool,
}

/// Folds one customer's interactions, in any order, and purchases, in the order of their days.
#[derive(Clone, Debug)]
pub struct CustomerFold {
    as_of: Timestamp,
    interactions: InteractionHistory,
    purchases: PurchaseHistory,
    /// The last day whose purchases are known.
    today: Date,
    /// The first day with a purchase that is not known yet.
    next_purchase: Option<Date>,
}

impl CustomerFold {
    /// A customer of whom nothing is known, as of `as_of`.
    pub fn as_of(as_of: Timestamp) -> Self {
        let today = last_whole_day(as_of);
        Self {
            as_of,
            interactions: InteractionHistory::as_of(as_of),
            purchases: PurchaseHistory::as_of(today),
            today,
            next_purchase: None,
        }
    }

    /// Leaves out the interaction that a prediction is asked for, whatever the platform says of its end.
    #[must_use]
    pub fn excluding(mut self, live: Option<InteractionId>) -> Self {
        self.interactions = self.interactions.excluding(live);
        self
    }

    /// Forgets the customer, for the next one as of the same time; what was allocated is kept.
    pub fn clear(&mut self) {
        self.interactions.clear();
        self.purchases = PurchaseHistory::as_of(self.today);
        self.next_purchase = None;
    }

    /// Adds an interaction; one that does not count as of the time changes no feature.
    ///
    /// # Errors
    /// When it ends before it starts. Nothing has changed then.
    #[inline]
    pub fn interaction(&mut self, interaction: &InteractionRow<'_>) -> Result<(), EndsBeforeStart> {
        self.interactions.add(interaction)
    }

    /// Adds a purchase of a day that is not before the last one added; one of a day that is not over changes no feature.
    ///
    /// # Errors
    /// When it comes out of order, or an amount or a number of items is impossible. Nothing has changed then.
    pub fn purchase(&mut self, purchase: &Purchase) -> Result<(), PurchaseError> {
        if purchase.date > self.today {
            self.next_purchase = Some(self.next_purchase.map_or(purchase.date, |next| next.min(purchase.date)));
        }
        self.purchases.add(purchase)
    }

    /// The features as of the time. `queues` are those as of the same time.
    pub fn vector(&self, queues: &QueueSentiment) -> CustomerVector {
        let interactions = self.interactions.features(queues);
        let purchases = self.purchases.features();
        // Days since purchases, and what decays with them, change as each day ends.
        let next_day = purchases.and_then(|_| self.today.tomorrow().ok()).or(self.next_purchase).and_then(known_from);
        let changes = [self.interactions.next_change_at(), next_day];
        CustomerVector {
            as_of: self.as_of,
            values: catalogue_row::row(interactions.as_ref(), purchases.as_ref()),
            next_change_at: changes.into_iter().flatten().min(),
            depends_on_queues: self.interactions.depends_on_queues(),
        }
    }
}

impl CustomerVector {
    /// Whether nothing is known that counts as of the time: the customer is new.
    pub fn is_unknown(&self) -> bool {
        // The count of interactions is always there.
        catalogue_row::same(&self.values, &catalogue_row::row(None, None))
    }

    /// Whether nothing counts, now or later: there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.next_change_at.is_none() && self.is_unknown()
    }
}
