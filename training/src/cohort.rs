//! The customers of a training run: what is known of each as of one day, and what they spent afterwards.

use anyhow::Context as _;
use jiff::ToSpan as _;
use jiff::civil::{Date, date};
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use scoreline::features::purchases::{PurchaseFeatures, PurchaseHistory};

use crate::cdnow::Customer;
use crate::generator;
use crate::split::{Split, mix};

/// Features are known as of this day: 39 weeks of history.
pub const AS_OF: Date = date(1997, 9, 30);

/// The outcome is the spend in the 39 weeks after it.
pub const HORIZON_DAYS: u32 = 273;

/// One customer.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: u64,
    pub split: Split,
    pub purchases: PurchaseFeatures,
    pub spend_usd: f64,
    /// Simulated; see `generator`.
    pub acquisition_channel: &'static str,
    /// Band of the real first order.
    pub segment: &'static str,
}

/// Everybody who had bought by the as-of day. The seed only decides the simulated acquisition channels.
pub fn members(customers: &[Customer], seed: u64) -> anyhow::Result<Vec<Member>> {
    let end = AS_OF.checked_add(i64::from(HORIZON_DAYS).days())?;
    let mut members = Vec::with_capacity(customers.len());
    for customer in customers {
        let mut history = PurchaseHistory::as_of(AS_OF);
        let mut spend_usd = 0.0;
        for purchase in &customer.purchases {
            history.add(purchase).with_context(|| format!("customer {}", customer.id))?;
            if purchase.date > AS_OF && purchase.date <= end {
                spend_usd += purchase.amount_usd;
            }
        }
        let Some(purchases) = history.features() else { continue };
        members.push(Member {
            id: customer.id,
            split: Split::of(customer.id),
            purchases,
            spend_usd,
            acquisition_channel: "",
            segment: segment(purchases.first_order_usd),
        });
    }
    anyhow::ensure!(!members.is_empty(), "no customer bought by {AS_OF}");
    generator::assign_channels(&mut members, seed);
    Ok(members)
}

/// A generator of random numbers for one customer and one purpose: nobody's numbers depend on who else is there.
pub fn randomness(seed: u64, purpose: u64, customer: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(mix(mix(mix(seed) ^ purpose) ^ customer))
}

fn segment(first_order_usd: f64) -> &'static str {
    if first_order_usd < 15.0 {
        "first_order_under_15"
    } else if first_order_usd < 40.0 {
        "first_order_15_to_40"
    } else {
        "first_order_over_40"
    }
}
