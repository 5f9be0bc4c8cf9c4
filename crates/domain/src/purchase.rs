//! A customer's purchase, as it is bought, kept and folded.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// One purchase, or one line of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Purchase {
    pub date: Date,
    /// US dollars, net: below 0 it is a refund. Taken to the nearest millionth.
    pub amount_usd: f64,
    /// Items bought; `None` when the purchase is known without them.
    pub items: Option<f64>,
}

/// What a line says of a purchase, as it was written: in a file, or in a request.
#[derive(Clone, Copy, Debug)]
pub struct PurchaseText<'a> {
    pub date: &'a str,
    pub amount: &'a str,
    pub items: Option<&'a str>,
}

/// What is wrong with a line. The value is not repeated: it may be personal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurchaseFault {
    /// `date`, `amount` or `items`.
    pub field: &'static str,
    pub problem: &'static str,
}

impl Purchase {
    /// Reads a line, the same wherever it comes from.
    ///
    /// # Errors
    /// Names the field and what is allowed there.
    pub fn read(text: &PurchaseText<'_>) -> Result<Self, PurchaseFault> {
        let no_day = PurchaseFault { field: "date", problem: "must be a day such as `1997-01-31` or a time" };
        let number = |field, text: &str| {
            let value = text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
            value.ok_or(PurchaseFault { field, problem: "must be a finite number" })
        };
        Ok(Self {
            date: day_of(text.date).ok_or(no_day)?,
            amount_usd: number("amount", text.amount)?,
            items: text.items.map(|items| number("items", items)).transpose()?,
        })
    }
}

/// The day of a date, or the day in UTC of a time with an offset. A time without one is taken as it stands.
fn day_of(text: &str) -> Option<Date> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.to_zoned(TimeZone::UTC).date());
    }
    // Some write the offset without a colon behind a blank; what is no date and time at all is none.
    let day = text.split(['T', 't', ' ']).next().unwrap_or(text);
    let is_time = day.len() < text.len();
    if is_time && text.parse::<DateTime>().is_err() {
        return None;
    }
    day.parse().ok()
}
