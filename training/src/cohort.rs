//! The customers of a training run: what is known of each as of one day, and what they spent afterwards.

use anyhow::Context as _;
use jiff::ToSpan as _;
use jiff::civil::{Date, date};
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use scoreline::packing::split::{Split, mix};
use scoreline_engine::features::purchases::{PurchaseFeatures, PurchaseHistory};

use crate::cdnow::Customer;
use crate::generator;

/// Features are known as of this day: 39 weeks of history.
pub(crate) const AS_OF: Date = date(1997, 9, 30);

/// The outcome is the spend in the 39 weeks after it.
pub(crate) const HORIZON_DAYS: u32 = 273;

/// What is known, and what is asked: everything up to a day, and the spend after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The last day that is known.
    pub as_of: Date,
    /// The outcome is the spend in this many days after it.
    pub horizon_days: u32,
}

/// One customer.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub id: u64,
    pub split: Split,
    pub purchases: PurchaseFeatures,
    pub spend_usd: f64,
    /// Simulated; see `generator`.
    pub acquisition_channel: &'static str,
    /// Band of the real first order.
    pub segment: &'static str,
}

impl Window {
    /// The window of the shipped models.
    pub(crate) const CDNOW: Self = Self { as_of: AS_OF, horizon_days: HORIZON_DAYS };

    /// What a customer spent in the horizon.
    fn outcome(self, customer: &Customer) -> anyhow::Result<f64> {
        let end = self.as_of.checked_add(i64::from(self.horizon_days).days())?;
        Ok(spent(customer, self.as_of, end))
    }
}

/// The customers of the shipped models.
pub(crate) fn members(customers: &[Customer], seed: u64) -> anyhow::Result<Vec<Member>> {
    members_in(customers, Window::CDNOW, seed)
}

/// Everybody who had bought by the as-of day. The seed only decides the simulated acquisition channels.
pub(crate) fn members_in(customers: &[Customer], window: Window, seed: u64) -> anyhow::Result<Vec<Member>> {
    let mut members = Vec::with_capacity(customers.len());
    for customer in customers {
        let mut history = PurchaseHistory::as_of(window.as_of);
        for purchase in &customer.purchases {
            history.add(purchase).with_context(|| format!("customer {}", customer.id))?;
        }
        let Some(purchases) = history.features() else { continue };
        members.push(Member {
            id: customer.id,
            split: Split::of(customer.id),
            purchases,
            spend_usd: window.outcome(customer)?,
            acquisition_channel: "",
            segment: segment(purchases.first_order_usd),
        });
    }
    anyhow::ensure!(!members.is_empty(), "no customer bought by {}", window.as_of);
    generator::assign_channels(&mut members, seed);
    Ok(members)
}

/// What a customer spent on the days after `after`, up to and including `until`.
pub(crate) fn spent(customer: &Customer, after: Date, until: Date) -> f64 {
    let within = customer.purchases.iter().filter(|purchase| purchase.date > after && purchase.date <= until);
    // The sum of nothing is -0, which a table would show.
    within.map(|purchase| purchase.amount_usd).sum::<f64>() + 0.0
}

/// A generator of random numbers for one customer and one purpose: nobody's numbers depend on who else is there.
pub(crate) fn randomness(seed: u64, purpose: u64, customer: u64) -> Xoshiro256PlusPlus {
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
