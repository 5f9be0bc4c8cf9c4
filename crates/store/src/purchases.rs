//! Purchases beside interactions, each kept once.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::civil::Date;
use sha2::{Digest as _, Sha256};

use super::Store;
use super::customers::{ensure, mark_dirty};
use super::db::BulkColumn;
use super::error::StoreError;
use super::leases::Lease;
use super::positions::check_lease;
use scoreline_domain::{CustomerKey, SealedId};

/// What tells a customer's purchases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PurchaseId([u8; 16]);

/// A purchase as it was imported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewPurchase {
    pub customer: CustomerKey,
    pub id: PurchaseId,
    pub day: Date,
    /// US dollars, finite, >= 0.
    pub amount_usd: f64,
    /// Items bought, finite, >= 0.
    pub items: f64,
}

/// What became of purchases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurchasesRecorded {
    /// New ones and ones that differ from what was kept.
    pub written: u64,
    /// Told again without news.
    pub same: u64,
    /// Passed over: their customer was erased.
    pub refused: u64,
    /// Passed over: an amount or a number of items that cannot be.
    pub impossible: u64,
}

impl PurchaseId {
    /// Of a purchase with a name of its own, such as an order number. Only a digest is kept.
    pub fn named(name: &str) -> Self {
        Self::digest(&[b"name", name.as_bytes()])
    }

    /// Of a purchase without one: by what it says. `repetition` counts equal ones of the customer from 0, so that an import
    /// told again finds each of them.
    pub fn line(day: Date, amount_usd: f64, items: f64, repetition: u32) -> Self {
        let day = format!("{day}");
        let (amount, items) = (amount_usd.to_bits().to_le_bytes(), items.to_bits().to_le_bytes());
        Self::digest(&[b"line", day.as_bytes(), &amount, &items, &repetition.to_le_bytes()])
    }

    fn digest(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

/// How often purchases without a name of their own were told that say the same. 24 bytes for each distinct one: half a
/// key and a hash of the rest tell them apart well enough.
#[derive(Default)]
pub struct Repetitions(HashMap<(u64, u64), u32>);

impl Repetitions {
    /// How many of the customer's purchases that say the same came before this one.
    pub fn count(&mut self, customer: &CustomerKey, day: Date, amount_usd: f64, items: f64) -> u32 {
        let mut rest = DefaultHasher::new();
        (customer.as_bytes(), day, amount_usd.to_bits(), items.to_bits()).hash(&mut rest);
        let told = self.0.entry((customer.prefix(), rest.finish())).or_default();
        *told += 1;
        *told - 1
    }

    /// The id of the next purchase that says this.
    pub fn next(&mut self, customer: &CustomerKey, day: Date, amount_usd: f64, items: f64) -> PurchaseId {
        PurchaseId::line(day, amount_usd, items, self.count(customer, day, amount_usd, items))
    }
}

impl Store {
    /// Records purchases, whole or not at all; the last told of one id holds. Telling them again changes nothing.
    ///
    /// # Errors
    /// When nothing was recorded, or that is not known: then they are told again.
    pub async fn record_purchases(
        &self,
        purchases: &[NewPurchase],
        lease: Option<&Lease>,
    ) -> Result<PurchasesRecorded, StoreError> {
        const UPSERT: &str = "INSERT INTO purchases (customer, id, day, amount_usd, items) {rows} \
                              ON CONFLICT (customer, id) DO UPDATE SET day = excluded.day, \
                              amount_usd = excluded.amount_usd, items = excluded.items \
                              WHERE purchases.day <> excluded.day OR purchases.amount_usd <> excluded.amount_usd \
                              OR purchases.items <> excluded.items RETURNING customer";
        let possible =
            |purchase: &&NewPurchase| [purchase.amount_usd, purchase.items].iter().all(|value| value.is_finite());
        let told: Vec<_> = purchases.iter().filter(possible).collect();
        let wanted: HashMap<CustomerKey, Option<&SealedId>> =
            told.iter().map(|purchase| (purchase.customer, None)).collect();
        let mut tx = self.write("written").await?;
        check_lease(&mut tx, lease).await?;
        let numbers = ensure(&mut tx, &wanted).await?;
        let mut last = BTreeMap::new();
        let mut refused = 0;
        for purchase in &told {
            match numbers.get(&purchase.customer) {
                Some(number) => drop(last.insert((*number, purchase.id), *purchase)),
                None => refused += 1,
            }
        }
        let columns = [
            BulkColumn::Ints(last.keys().map(|(number, _)| *number).collect()),
            BulkColumn::Ids(last.keys().map(|(_, id)| id.0).collect()),
            BulkColumn::Ints(last.values().map(|purchase| day_number(purchase.day)).collect()),
            BulkColumn::Reals(last.values().map(|purchase| purchase.amount_usd).collect()),
            BulkColumn::Reals(last.values().map(|purchase| purchase.items).collect()),
        ];
        let rows = tx.bulk_rows(UPSERT, &columns).await?;
        let customers: Vec<_> = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
        let written = customers.len() as u64;
        mark_dirty(&mut tx, customers).await?;
        tx.commit().await?;
        Ok(PurchasesRecorded {
            written,
            same: told.len() as u64 - refused - written,
            refused,
            impossible: (purchases.len() - told.len()) as u64,
        })
    }
}

const EPOCH: Date = Date::constant(1970, 1, 1);
const SECONDS_A_DAY: i64 = 86_400;

/// Days since 1970-01-01.
fn day_number(day: Date) -> i64 {
    day.duration_since(EPOCH).as_secs() / SECONDS_A_DAY
}

pub(super) fn day(number: i64) -> Result<Date, StoreError> {
    let unreadable = || StoreError::Unreadable { column: "purchases.day", value: number.to_string() };
    let days = number.checked_mul(SECONDS_A_DAY).map(jiff::SignedDuration::from_secs).ok_or_else(unreadable)?;
    EPOCH.checked_add(days).map_err(|_| unreadable())
}
