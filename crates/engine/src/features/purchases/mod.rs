//! Purchases to features, as of a day: one code path for training and for scoring purchase files.
//!
//! `PurchaseHistory` folds a customer's purchases as they come, in date order, into a fixed number of sums: its size
//! does not grow with the history. Purchases of the same day count as one. What comes after the as-of day changes
//! nothing.
//!
//! Amounts are net: one below zero is a refund. It is taken off what was spent, on its own day and in its own 90 days, and
//! no sum goes below zero. A day on which no more was spent than was given back is no purchase day.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use scoreline_domain::Purchase;

/// The days behind `spend_last_90d_usd` and `purchases_last_90d`, the as-of day included.
pub const WINDOW_DAYS: i32 = 90;

/// After this many days a purchase counts half in `purchases_decayed_30d`.
pub const HALF_LIFE_DAYS: f64 = 30.0;

/// Most dollars, or items, of one purchase.
pub const LARGEST: f64 = 1e12;

/// Whether a purchase is of a size that is summed exactly.
///
/// # Errors
/// The field that is too large.
pub fn fits(purchase: &Purchase) -> Result<(), &'static str> {
    let values = [("amount", purchase.amount_usd), ("items", purchase.items.unwrap_or_default())];
    values.iter().find(|(_, value)| value.abs() > LARGEST).map_or(Ok(()), |(field, _)| Err(field))
}

/// Amounts and items are summed in whole millionths: the purchases of a day may come in any order.
const SCALE: f64 = 1e6;

/// Why a purchase cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PurchaseError {
    #[error("purchase of {date} comes after one of {latest}: purchases must be in date order")]
    OutOfOrder { date: Date, latest: Date },
    #[error("purchase of {date} has `{key}` = `{value}`, allowed is a number from -1e12 to 1e12")]
    Impossible { date: Date, key: &'static str, value: f64 },
}

/// A customer's purchases up to and including one day.
#[derive(Clone, Debug)]
pub struct PurchaseHistory {
    as_of: Date,
    /// The last day seen, whose purchases may still be coming.
    today: Option<Day>,
    /// The first purchase day and, before `today`, the last.
    first: Option<Day>,
    last: Option<Day>,
    /// Over the days before `today`.
    days: u32,
    total: i128,
    largest: i128,
    items: Option<i128>,
    recent: i128,
    recent_days: u32,
    decayed: f64,
}

/// Everything bought on one day, in millionths.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Day {
    date: Date,
    amount: i128,
    items: Option<i128>,
    /// Whether something was given back.
    refunded: bool,
}

/// A customer's purchase features; names and units are in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PurchaseFeatures {
    /// `recency_days` of a purchase model, `purchase_recency_days` beside interaction features.
    pub recency_days: f64,
    pub purchase_count: f64,
    pub tenure_days: f64,
    pub monetary_avg: f64,
    pub total_spend_usd: f64,
    pub last_order_usd: f64,
    pub max_order_usd: f64,
    pub spend_last_90d_usd: f64,
    pub purchases_last_90d: f64,
    pub purchase_gap_mean_days: f64,
    /// Missing when the items of a purchase are not known.
    pub items_count: Option<f64>,
    pub purchases_decayed_30d: f64,
    /// Spend on the first purchase day. Not a model feature: it picks the segment of a customer's baseline.
    pub first_order_usd: f64,
}

impl PurchaseHistory {
    /// An empty history as of `as_of`.
    pub fn as_of(as_of: Date) -> Self {
        Self {
            as_of,
            today: None,
            first: None,
            last: None,
            days: 0,
            total: 0,
            largest: 0,
            items: Some(0),
            recent: 0,
            recent_days: 0,
            decayed: 0.0,
        }
    }

    /// Builds a history from purchases in any order; sorts them in place.
    ///
    /// # Errors
    /// When an amount or a number of items is impossible.
    pub fn from_unsorted(as_of: Date, purchases: &mut [Purchase]) -> Result<Self, PurchaseError> {
        purchases.sort_by_key(|purchase| purchase.date);
        let mut history = Self::as_of(as_of);
        for purchase in purchases {
            history.add(purchase)?;
        }
        Ok(history)
    }

    /// Adds a purchase that is not before the last one added. One after the as-of day is ignored.
    ///
    /// # Errors
    /// When it comes out of order, or an amount or a number of items is impossible. The history stays as it was.
    pub fn add(&mut self, purchase: &Purchase) -> Result<(), PurchaseError> {
        let Purchase { date, amount_usd, items } = *purchase;
        if date > self.as_of {
            return Ok(());
        }
        let whole = |key, value: f64| {
            let possible = (-LARGEST..=LARGEST).contains(&value);
            possible.then(|| (value * SCALE).round() as i128).ok_or(PurchaseError::Impossible { date, key, value })
        };
        let amount = whole("amount_usd", amount_usd)?;
        let items = items.map(|items| whole("items", items)).transpose()?;
        let refunded = amount < 0;
        match &mut self.today {
            Some(today) if date < today.date => {
                return Err(PurchaseError::OutOfOrder { date, latest: today.date });
            }
            Some(today) if date == today.date => {
                today.amount += amount;
                today.items = plus(today.items, items);
                today.refunded |= refunded;
            }
            Some(_) | None => {
                self.close_day();
                self.today = Some(Day { date, amount, items, refunded });
            }
        }
        Ok(())
    }

    /// The features as of the day; `None` for a customer without a purchase.
    pub fn features(&self) -> Option<PurchaseFeatures> {
        let mut closed = self.clone();
        closed.close_day();
        let (first, last) = closed.first.zip(closed.last)?;
        let count = f64::from(closed.days);
        let tenure_days = days_between(first.date, self.as_of);
        let gap = if closed.days > 1 { days_between(first.date, last.date) / (count - 1.0) } else { tenure_days };
        Some(PurchaseFeatures {
            recency_days: days_between(last.date, self.as_of),
            purchase_count: count,
            tenure_days,
            monetary_avg: unscaled(closed.total) / count,
            total_spend_usd: unscaled(closed.total),
            last_order_usd: unscaled(last.amount),
            max_order_usd: unscaled(closed.largest),
            spend_last_90d_usd: unscaled(closed.recent),
            purchases_last_90d: f64::from(closed.recent_days),
            purchase_gap_mean_days: gap,
            items_count: closed.items.map(unscaled),
            purchases_decayed_30d: closed.decayed,
            first_order_usd: unscaled(first.amount),
        })
    }

    /// Folds the last day into the sums: from here on nothing can be added to it.
    fn close_day(&mut self) {
        let Some(day) = self.today.take() else { return };
        let age = days_between(day.date, self.as_of);
        let is_recent = age < f64::from(WINDOW_DAYS);
        self.total += day.amount;
        self.items = plus(self.items, day.items);
        if is_recent {
            self.recent += day.amount;
        }
        if day.refunded && day.amount <= 0 {
            return;
        }
        self.first.get_or_insert(day);
        self.last = Some(day);
        self.days += 1;
        self.largest = self.largest.max(day.amount);
        self.decayed += (-age / HALF_LIFE_DAYS).exp2();
        if is_recent {
            self.recent_days += 1;
        }
    }
}

impl PurchaseFeatures {
    /// By catalogue name for a purchase model, where `recency_days` is that of the last purchase; `None` is missing.
    pub fn named(&self) -> [(&'static str, Option<f64>); 12] {
        self.with_recency_as("recency_days")
    }

    /// By catalogue name for a model of interactions and purchases, where `recency_days` is that of the last
    /// interaction; `None` is missing.
    pub fn named_beside_interactions(&self) -> [(&'static str, Option<f64>); 12] {
        self.with_recency_as("purchase_recency_days")
    }

    fn with_recency_as(&self, recency: &'static str) -> [(&'static str, Option<f64>); 12] {
        [
            (recency, Some(self.recency_days)),
            ("purchase_count", Some(self.purchase_count)),
            ("tenure_days", Some(self.tenure_days)),
            ("monetary_avg", Some(self.monetary_avg)),
            ("total_spend_usd", Some(self.total_spend_usd)),
            ("last_order_usd", Some(self.last_order_usd)),
            ("max_order_usd", Some(self.max_order_usd)),
            ("spend_last_90d_usd", Some(self.spend_last_90d_usd)),
            ("purchases_last_90d", Some(self.purchases_last_90d)),
            ("purchase_gap_mean_days", Some(self.purchase_gap_mean_days)),
            ("items_count", self.items_count),
            ("purchases_decayed_30d", Some(self.purchases_decayed_30d)),
        ]
    }
}

/// The last day that is over at `as_of`, in UTC: what is bought on a day is known when the day is over, because a purchase
/// has a day and no time.
///
/// At midnight that is the day that just ended.
pub fn last_whole_day(as_of: Timestamp) -> Date {
    let today = as_of.to_zoned(TimeZone::UTC).date();
    // The day before the calendar begins is not one that anybody asks for.
    today.yesterday().unwrap_or(Date::MIN)
}

/// When the purchases of a day become known: as the day ends.
pub fn known_from(day: Date) -> Option<Timestamp> {
    Some(day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// US dollars spent on the `horizon_days` days after `day`: an outcome, never a feature.
pub fn spent_after(purchases: impl IntoIterator<Item = Purchase>, day: Date, horizon_days: u16) -> f64 {
    let within = purchases.into_iter().filter(|purchase| {
        let days = days_between(day, purchase.date);
        days > 0.0 && days <= f64::from(horizon_days)
    });
    unscaled(within.map(|purchase| (purchase.amount_usd * SCALE).round() as i128).sum())
}

fn plus(sum: Option<i128>, more: Option<i128>) -> Option<i128> {
    Some(sum? + more?)
}

/// Nobody spends less than nothing over all.
fn unscaled(millionths: i128) -> f64 {
    millionths.max(0) as f64 / SCALE
}

fn days_between(earlier: Date, later: Date) -> f64 {
    f64::from(earlier.duration_until(later).as_hours() as i32 / 24)
}
