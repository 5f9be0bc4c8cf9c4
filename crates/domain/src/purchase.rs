//! A customer's purchase, as it is bought, kept and folded.

use jiff::civil::Date;

/// One purchase, or one line of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Purchase {
    pub date: Date,
    /// US dollars; 0 is a purchase (a free item), a refund is not. Taken to the nearest millionth.
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
        // A time of day may follow; the day is what counts.
        let day = text.date.split(['T', ' ']).next().unwrap_or(text.date);
        let no_day = |_| PurchaseFault { field: "date", problem: "must be a day such as `1997-01-31`" };
        let number = |field, text: &str| {
            let value = text.trim().parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
            value.ok_or(PurchaseFault { field, problem: "must be a finite number >= 0" })
        };
        Ok(Self {
            date: day.parse().map_err(no_day)?,
            amount_usd: number("amount", text.amount)?,
            items: text.items.map(|items| number("items", items)).transpose()?,
        })
    }
}
