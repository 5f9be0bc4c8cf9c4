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
