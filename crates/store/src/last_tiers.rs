//! The tier that each customer was in last, by whichever replica answered: a value near a limit moves nobody who was in the tier
//! beside it.

use std::collections::HashMap;

use super::Store;
use super::customers::{digest, erased};
use super::db::{Arg, BulkColumn};
use super::error::StoreError;
use super::scores::tier;
use super::time;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, ModelName, Tier};

/// A customer's tier by a model, as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastTier {
    pub customer: CustomerKey,
    pub model: ModelName,
    pub tier: Tier,
    pub answered_at: Timestamp,
}

/// Tiers in the order they were told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastTiers {
    pub tiers: Vec<LastTier>,
    /// Where the next ones begin.
    pub seq: i64,
    pub more: bool,
}

impl Store {
    /// Keeps tiers where no later one is kept, and lets those go that were answered before a time. Nothing is kept of whoever
    /// was erased.
    ///
    /// # Errors
    /// When none is kept, or that is not known.
    pub async fn keep_last_tiers(&self, told: &[LastTier], since: Timestamp) -> Result<(), StoreError> {
        const KEEP: &str = "INSERT INTO last_tiers (customer, model, tier, answered_ms, seq) {rows} \
                            ON CONFLICT (customer, model) DO UPDATE SET tier = excluded.tier, \
                            answered_ms = excluded.answered_ms, seq = excluded.seq \
                            WHERE last_tiers.answered_ms < excluded.answered_ms";
        let mut tx = self.write("told last tiers").await?;
        let gone = erased(&mut tx, told.iter().map(|one| one.customer).collect()).await?;
        let mut latest: HashMap<(CustomerKey, &ModelName), &LastTier> = HashMap::new();
        for one in told.iter().filter(|one| !gone.contains(&digest(&one.customer))) {
            let kept = latest.entry((one.customer, &one.model)).or_insert(one);
            if one.answered_at >= kept.answered_at {
                *kept = one;
            }
        }
        let first = tx.take("last_tier", latest.len()).await?;
        let columns = [
            BulkColumn::Keys(latest.values().map(|one| *one.customer.as_bytes()).collect()),
            BulkColumn::Texts(latest.values().map(|one| one.model.to_string()).collect()),
            BulkColumn::Texts(latest.values().map(|one| one.tier.as_str().to_owned()).collect()),
            BulkColumn::Ints(latest.values().map(|one| one.answered_at.as_millisecond()).collect()),
            BulkColumn::Ints((first..).take(latest.len()).collect()),
        ];
        tx.bulk(KEEP, &columns).await?;
        tx.run("DELETE FROM last_tiers WHERE answered_ms < $1", &[Arg::Int(since.as_millisecond())]).await?;
        tx.commit().await
    }

    /// Tiers that were told after `seq` (0 for all), at most `limit`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn last_tiers_since(&self, seq: i64, limit: usize) -> Result<LastTiers, StoreError> {
        const SINCE: &str = "SELECT seq, customer, model, tier, answered_ms FROM last_tiers WHERE seq > $1 \
                             ORDER BY seq LIMIT $2";
        let mut tx = self.read("read").await?;
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx.rows(SINCE, &[Arg::Int(seq), Arg::Int(most)]).await?;
        let mut page = LastTiers { tiers: Vec::with_capacity(rows.len()), seq, more: rows.len() == limit };
        for row in &rows {
            let model = row.text(2)?;
            let unreadable = |_| StoreError::Unreadable { column: "last_tiers.model", value: model.to_owned() };
            page.seq = row.int(0)?;
            page.tiers.push(LastTier {
                customer: CustomerKey::from_digest(row.array(1, "last_tiers.customer")?),
                model: ModelName::parse(model).map_err(unreadable)?,
                tier: tier(row.text(3)?)?,
                answered_at: time(row.int(4)?, "last_tiers.answered_ms")?,
            });
        }
        Ok(page)
    }
}
