//! A stored history as the rows that features are folded from.

use super::scan::History;
use scoreline_domain::{InteractionRow, Purchase};

impl History {
    /// Its interactions, by start.
    pub fn interaction_rows(&self) -> impl Iterator<Item = InteractionRow<'_>> {
        self.interactions.iter().map(|kept| InteractionRow {
            // Whoever asks for one to be left out names a conversation that goes on, and those are not kept.
            id: None,
            start_ms: kept.start_ms,
            end_ms: Some(kept.end_ms),
            channel: kept.channel,
            handle_ms: kept.handle_ms,
            sentiment: kept.sentiment,
            topics: self.topics(kept),
            queue: kept.queue,
        })
    }

    /// Its purchases, by day.
    pub fn purchase_rows(&self) -> impl Iterator<Item = Purchase> {
        let row = |kept: &super::StoredPurchase| Purchase {
            date: kept.day,
            amount_usd: kept.amount_usd,
            items: Some(kept.items),
        };
        self.purchases.iter().map(row)
    }
}
