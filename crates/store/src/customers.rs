//! Customers by number: short where rows are many, and meaningless once the customer is erased.

use std::collections::{HashMap, HashSet};

use super::Store;
use super::db::{BulkColumn, Tx};
use super::error::StoreError;
use scoreline_domain::privacy::Tombstone;
use scoreline_domain::{CustomerKey, SealedId};

/// A customer's number in this store. Never used for another customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CustomerNumber(pub(super) i64);

impl CustomerNumber {
    pub fn get(self) -> i64 {
        self.0
    }
}

impl Store {
    /// What is sealed of those of these customers that are known: nothing of one who was never seen on the platform.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn sealed_ids(
        &self,
        mut customers: Vec<CustomerKey>,
    ) -> Result<HashMap<CustomerKey, Option<SealedId>>, StoreError> {
        const FIND: &str = "WITH given(key) AS ({rows}) \
                            SELECT c.key, c.contact FROM given CROSS JOIN customers c WHERE c.key = given.key";
        customers.sort_unstable();
        customers.dedup();
        let keys = customers.iter().map(|key| *key.as_bytes()).collect();
        let mut tx = self.read("read").await?;
        let mut found = HashMap::with_capacity(customers.len());
        for row in tx.bulk_rows(FIND, &[BulkColumn::Keys(keys)]).await? {
            let sealed = row.opt_bytes(1)?.map(|bytes| SealedId(bytes.into()));
            found.insert(CustomerKey::from_digest(row.array(0, "customers.key")?), sealed);
        }
        Ok(found)
    }
}

/// What is kept of an erased customer: enough to refuse them, by any replica.
pub(super) fn digest(key: &CustomerKey) -> [u8; 32] {
    Tombstone::of(key).0
}

/// The numbers of those of these customers that the store knows.
pub(super) async fn numbers(tx: &mut Tx, keys: Vec<CustomerKey>) -> Result<HashMap<CustomerKey, i64>, StoreError> {
    Ok(known(tx, keys).await?.into_iter().map(|(key, (number, _))| (key, number)).collect())
}

/// Number, and whether the contact is known.
async fn known(tx: &mut Tx, keys: Vec<CustomerKey>) -> Result<HashMap<CustomerKey, (i64, bool)>, StoreError> {
    const FIND: &str = "WITH given(key) AS ({rows}) \
                        SELECT c.key, c.num, CAST(CASE WHEN c.contact IS NULL THEN 0 ELSE 1 END AS BIGINT) \
                        FROM given CROSS JOIN customers c WHERE c.key = given.key";
    let mut keys: Vec<_> = keys.into_iter().map(|key| *key.as_bytes()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut found = HashMap::with_capacity(keys.len());
    for row in tx.bulk_rows(FIND, &[BulkColumn::Keys(keys)]).await? {
        let key = CustomerKey::from_digest(row.array(0, "customers.key")?);
        found.insert(key, (row.int(1)?, row.int(2)? == 1));
    }
    Ok(found)
}

/// The numbers of these customers, new ones included, and their contacts kept where they were not known. Whoever was
/// erased has none.
pub(super) async fn ensure(
    tx: &mut Tx,
    wanted: &HashMap<CustomerKey, Option<&SealedId>>,
) -> Result<HashMap<CustomerKey, i64>, StoreError> {
    const ADD: &str = "INSERT INTO customers (num, key, contact) {rows}";
    const TELL: &str = "WITH given(num, contact) AS ({rows}) \
                        UPDATE customers SET contact = given.contact FROM given WHERE customers.num = given.num";
    let known = known(tx, wanted.keys().copied().collect()).await?;
    let mut new: Vec<_> = wanted.iter().filter(|(key, _)| !known.contains_key(key)).collect();
    let told = wanted
        .iter()
        .filter_map(|(key, contact)| Some((known.get(key).filter(|(_, has)| !has)?.0, contact.as_ref()?.0.to_vec())));
    let (told, contacts): (Vec<_>, Vec<_>) = told.unzip();
    tx.bulk(TELL, &[BulkColumn::Ints(told), BulkColumn::Bytes(contacts)]).await?;

    let mut numbers: HashMap<_, _> = known.into_iter().map(|(key, (number, _))| (key, number)).collect();
    let erased = erased(tx, new.iter().map(|(key, _)| **key).collect()).await?;
    new.retain(|(key, _)| !erased.contains(&digest(key)));
    if new.is_empty() {
        return Ok(numbers);
    }
    // The same numbers whatever order a map has.
    new.sort_unstable_by_key(|(key, _)| *key);
    let first = tx.take("customer", new.len()).await?;
    let nums: Vec<_> = (first..).take(new.len()).collect();
    numbers.extend(new.iter().zip(&nums).map(|((key, _), num)| (**key, *num)));
    let keys = new.iter().map(|(key, _)| *key.as_bytes()).collect();
    let contacts = new.iter().map(|(_, contact)| contact.map(|contact| contact.0.to_vec())).collect();
    tx.bulk(ADD, &[BulkColumn::Ints(nums), BulkColumn::Keys(keys), BulkColumn::OptBytes(contacts)]).await?;
    Ok(numbers)
}

/// Those of these customers who were erased by any replica, by digest.
pub(super) async fn erased(tx: &mut Tx, keys: Vec<CustomerKey>) -> Result<HashSet<[u8; 32]>, StoreError> {
    const FIND: &str = "WITH given(digest) AS ({rows}) \
                        SELECT t.digest FROM given CROSS JOIN tombstones t WHERE t.digest = given.digest";
    let digests = keys.iter().map(digest).collect();
    let rows = tx.bulk_rows(FIND, &[BulkColumn::Keys(digests)]).await?;
    rows.iter().map(|row| row.array(0, "tombstones.digest")).collect()
}

/// Marks customers whose features no longer tell everything. The mark grows, so that who computed features from an
/// earlier state cannot clear it.
pub(super) async fn mark_dirty(tx: &mut Tx, mut customers: Vec<i64>) -> Result<(), StoreError> {
    const MARK: &str = "INSERT INTO dirty (customer, mark) {rows} \
                        ON CONFLICT (customer) DO UPDATE SET mark = excluded.mark";
    customers.sort_unstable();
    customers.dedup();
    if customers.is_empty() {
        return Ok(());
    }
    let mark = tx.take("mark", 1).await?;
    let marks = vec![mark; customers.len()];
    tx.bulk(MARK, &[BulkColumn::Ints(customers), BulkColumn::Ints(marks)]).await?;
    Ok(())
}
