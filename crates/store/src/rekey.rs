//! Giving customers the keys of a new pepper, some thousands in a transaction: a kill in between leaves the rest to be done.

use std::collections::HashMap;

use super::Store;
use super::db::{Arg, BulkColumn, Tx};
use super::error::StoreError;
use scoreline_domain::{CustomerKey, SealedId};

/// A customer's new key, and what they are called on the platform, sealed anew; nothing when it could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rekeyed {
    pub key: CustomerKey,
    pub sealed: Option<SealedId>,
}

/// A table of subjects by key, with what is sealed of each.
struct SealedTable {
    find: &'static str,
    give: &'static str,
}

const SEALED: [SealedTable; 2] = [
    SealedTable {
        find: "WITH given(key) AS ({rows}) SELECT s.key, s.contact FROM given CROSS JOIN customers s WHERE s.key = given.key",
        give: "WITH given(old, new, sealed) AS ({rows}) UPDATE customers SET key = given.new, contact = given.sealed \
           FROM given WHERE customers.key = given.old",
    },
    SealedTable {
        find: "WITH given(key) AS ({rows}) SELECT l.key, l.sealed FROM given CROSS JOIN leads l WHERE l.key = given.key",
        give: "WITH given(old, new, sealed) AS ({rows}) UPDATE leads SET key = given.new, sealed = given.sealed \
               FROM given WHERE leads.key = given.old",
    },
];

/// Tables of what is kept by key.
const BY_KEY: [&str; 6] = [
    "WITH given(old, new) AS ({rows}) UPDATE predictions SET customer = given.new FROM given \
     WHERE predictions.customer = given.old",
    "WITH given(old, new) AS ({rows}) UPDATE outcomes SET customer = given.new FROM given \
     WHERE outcomes.customer = given.old",
    "WITH given(old, new) AS ({rows}) UPDATE questions SET customer = given.new FROM given \
     WHERE questions.customer = given.old",
    "WITH given(old, new) AS ({rows}) UPDATE conversations SET customer = given.new FROM given \
     WHERE conversations.customer = given.old",
    "WITH given(old, new) AS ({rows}) UPDATE last_tiers SET customer = given.new FROM given \
     WHERE last_tiers.customer = given.old",
    "WITH given(old, new) AS ({rows}) UPDATE replay_log SET customer = given.new FROM given \
     WHERE replay_log.customer = given.old",
];

impl Store {
    /// How many keys are still those of the pepper before.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn keys_to_change(&self) -> Result<u64, StoreError> {
        left(&mut self.read("counted").await?).await
    }

    /// Changes up to `most` keys; how many are left. `change` is told the key, and what is sealed for its customer.
    ///
    /// # Errors
    /// When none of these was changed, or that is not known: the next call goes on.
    pub async fn change_keys(
        &self,
        most: usize,
        mut change: impl FnMut(CustomerKey, Option<&SealedId>) -> Rekeyed + Send,
    ) -> Result<u64, StoreError> {
        const NEXT: &str = "SELECT key FROM rekeying ORDER BY key LIMIT $1";
        const DONE: &str =
            "WITH given(key) AS ({rows}) DELETE FROM rekeying WHERE key IN (SELECT given.key FROM given)";
        let mut tx = self.write("given the keys of a new pepper").await?;
        let rows = tx.rows(NEXT, &[Arg::Int(i64::try_from(most).unwrap_or(i64::MAX))]).await?;
        let old: Vec<[u8; 32]> = rows.iter().map(|row| row.array(0, "rekeying.key")).collect::<Result<_, _>>()?;
        for table in &SEALED {
            let mut sealed = HashMap::new();
            for row in tx.bulk_rows(table.find, &[BulkColumn::Keys(old.clone())]).await? {
                let contact = row.opt_bytes(1)?.map(|bytes| SealedId(bytes.into()));
                sealed.insert(row.array::<32>(0, "key")?, contact);
            }
            let given: Vec<([u8; 32], Rekeyed)> = sealed
                .into_iter()
                .map(|(key, sealed)| (key, change(CustomerKey::from_digest(key), sealed.as_ref())))
                .collect();
            let columns = [
                BulkColumn::Keys(given.iter().map(|(old, _)| *old).collect()),
                BulkColumn::Keys(given.iter().map(|(_, new)| *new.key.as_bytes()).collect()),
                BulkColumn::OptBytes(given.into_iter().map(|(_, new)| new.sealed.map(|it| it.0.into())).collect()),
            ];
            tx.bulk(table.give, &columns).await?;
        }
        let new = old.iter().map(|key| *change(CustomerKey::from_digest(*key), None).key.as_bytes()).collect();
        let pairs = [BulkColumn::Keys(old.clone()), BulkColumn::Keys(new)];
        for sql in BY_KEY {
            tx.bulk(sql, &pairs).await?;
        }
        tx.bulk(DONE, &[BulkColumn::Keys(old)]).await?;
        let left = left(&mut tx).await?;
        tx.commit().await?;
        Ok(left)
    }

    /// Some keys of customers and leads with what is sealed for them: a pepper that opens one is theirs.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn sealed_samples(&self, most: usize) -> Result<Vec<(CustomerKey, SealedId)>, StoreError> {
        const CUSTOMERS: &str =
            "SELECT key, contact FROM customers WHERE contact IS NOT NULL ORDER BY num DESC LIMIT $1";
        const LEADS: &str = "SELECT key, sealed FROM leads WHERE sealed IS NOT NULL ORDER BY num DESC LIMIT $1";
        let mut tx = self.read("read").await?;
        let most = Arg::Int(i64::try_from(most).unwrap_or(i64::MAX));
        let mut rows = tx.rows(CUSTOMERS, &[most]).await?;
        rows.extend(tx.rows(LEADS, &[most]).await?);
        let sample = |row: &super::db::DbRow| {
            Ok((CustomerKey::from_digest(row.array(0, "customers.key")?), SealedId(row.bytes(1)?.into())))
        };
        rows.iter().map(sample).collect()
    }
}

async fn left(tx: &mut Tx) -> Result<u64, StoreError> {
    let row = tx.row("SELECT COUNT(*) FROM rekeying", &[]).await?;
    row.map_or(Ok(0), |row| row.int(0).map(i64::cast_unsigned))
}
