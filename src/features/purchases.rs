//! Purchases of one customer, folded into features as of a day.
