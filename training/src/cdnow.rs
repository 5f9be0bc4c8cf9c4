//! Reads purchase files: CDNOW's, and Online Retail's by customer and day.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use jiff::civil::Date;
use scoreline_domain::Purchase;
use serde::Deserialize;

/// One customer's purchases in date order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Customer {
    pub id: u64,
    pub purchases: Vec<Purchase>,
}

#[derive(Deserialize)]
struct Line {
    customer_id: u64,
    date: Date,
    #[serde(alias = "items")]
    number_of_cds: f64,
    /// In pounds for Online Retail: nothing here depends on the currency.
    #[serde(alias = "amount_gbp")]
    dollar_value: f64,
}

/// All customers of the file, by id.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Customer>> {
    let open = || format!("cannot read the purchases in {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(open)?;
    let mut customers = BTreeMap::<u64, Vec<Purchase>>::new();
    for line in reader.deserialize() {
        let Line { customer_id, date, number_of_cds, dollar_value } = line.with_context(open)?;
        let purchase = Purchase { date, amount_usd: dollar_value, items: Some(number_of_cds) };
        customers.entry(customer_id).or_default().push(purchase);
    }
    anyhow::ensure!(!customers.is_empty(), "{} holds no purchases", path.display());
    Ok(customers
        .into_iter()
        .map(|(id, mut purchases)| {
            purchases.sort_by_key(|purchase| purchase.date);
            Customer { id, purchases }
        })
        .collect())
}
