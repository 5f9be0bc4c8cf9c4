//! The catalogue of features scoreline knows by name: unit, possible range, meaning.
//!
//! The catalogue says what is *possible* (a count is not negative); a bundle says what was *seen* in training.

/// A feature the catalogue knows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Catalogued {
    pub name: &'static str,
    pub unit: &'static str,
    /// Smallest possible value, inclusive.
    pub lowest: f64,
    /// Largest possible value, inclusive.
    pub highest: f64,
    /// Only whole numbers are possible.
    pub whole: bool,
    pub meaning: &'static str,
}

const fn amount(name: &'static str, unit: &'static str, meaning: &'static str) -> Catalogued {
    Catalogued { name, unit, lowest: 0.0, highest: f64::MAX, whole: false, meaning }
}

const fn count(name: &'static str, meaning: &'static str) -> Catalogued {
    Catalogued { name, unit: "count", lowest: 0.0, highest: 1e9, whole: true, meaning }
}

const fn share(name: &'static str, meaning: &'static str) -> Catalogued {
    Catalogued { name, unit: "share", lowest: 0.0, highest: 1.0, whole: false, meaning }
}

/// Every catalogued feature; interactions first, then purchases.
pub const CATALOGUE: &[Catalogued] = &[
    amount("recency_days", "days", "days since the last closed interaction, or the last purchase in a purchase model"),
    count("frequency_count", "closed interactions in the look-back window (365 days)"),
    amount("avg_handling_time_sec", "seconds", "mean handling time (talk, hold and wrap-up) of handled interactions"),
    Catalogued {
        name: "sentiment_score_avg",
        unit: "score",
        lowest: -1.0,
        highest: 1.0,
        whole: false,
        meaning: "mean sentiment, -1 (negative) to 1 (positive)",
    },
    Catalogued {
        name: "sentiment_trend_slope",
        unit: "score per 30 days",
        lowest: -f64::MAX,
        highest: f64::MAX,
        whole: false,
        meaning: "Theil-Sen slope of sentiment across interactions, shrunk by n/(n+8); 0 below three",
    },
    count("sentiment_n", "interactions with a sentiment score"),
    count("topic_diversity", "distinct topics discussed"),
    share("channel_preference_email", "share of interactions by e-mail, or 1 when it is the preferred channel"),
    share("channel_preference_voice", "share of interactions by voice, or 1 when it is the preferred channel"),
    share("channel_preference_chat", "share of interactions by chat, or 1 when it is the preferred channel"),
    share("channel_preference_message", "share of interactions by messaging, or 1 when it is the preferred channel"),
    count("purchase_count", "days with a purchase"),
    amount("tenure_days", "days", "days since the first purchase"),
    amount("purchase_recency_days", "days", "days since the last purchase"),
    amount("monetary_avg", "USD", "mean spend per purchase day"),
    amount("total_spend_usd", "USD", "spend over all purchases"),
    amount("last_order_usd", "USD", "spend on the last purchase day"),
    amount("max_order_usd", "USD", "largest spend on one purchase day"),
    amount("spend_last_90d_usd", "USD", "spend in the last 90 days"),
    count("purchases_last_90d", "days with a purchase in the last 90 days"),
    amount("purchase_gap_mean_days", "days", "mean days between purchases; the tenure for a single purchase"),
    amount(
        "purchases_decayed_30d",
        "days",
        "days with a purchase, each counting half after 30 days, a quarter after 60",
    ),
    amount("items_count", "items", "items bought over all purchases"),
];

/// A value for every catalogued feature, in the order of the catalogue; `NaN` is missing.
pub type CatalogueRow = [f64; CATALOGUE.len()];

/// Looks a feature up by name.
pub fn catalogued(name: &str) -> Option<&'static Catalogued> {
    CATALOGUE.iter().find(|feature| feature.name == name)
}

impl Catalogued {
    /// Why `value` can not be: `None` when it can.
    pub fn impossible(&self, value: f64) -> Option<String> {
        impossible(value, self.lowest, self.highest, self.whole)
    }
}

/// Why `value` is not a possible value of a feature from `lowest` to `highest`: `None` when it is.
pub fn impossible(value: f64, lowest: f64, highest: f64, whole: bool) -> Option<String> {
    if !value.is_finite() {
        Some("must be a finite number".to_owned())
    } else if value < lowest || value > highest {
        Some(match (lowest > -f64::MAX, highest < f64::MAX) {
            (true, true) => format!("must be from {lowest} to {highest}, got `{value}`"),
            (true, false) => format!("must be >= {lowest}, got `{value}`"),
            _ => format!("must be <= {highest}, got `{value}`"),
        })
    } else if whole && value.fract() != 0.0 {
        Some(format!("must be a whole number, got `{value}`"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, feature) in CATALOGUE.iter().enumerate() {
            assert!(CATALOGUE[..i].iter().all(|other| other.name != feature.name), "{}", feature.name);
        }
    }

    #[test]
    fn impossible_values_say_what_is_allowed() {
        let count = catalogued("frequency_count").expect("catalogued");
        assert_eq!(count.impossible(-3.0).as_deref(), Some("must be from 0 to 1000000000, got `-3`"));
        assert_eq!(count.impossible(1.5).as_deref(), Some("must be a whole number, got `1.5`"));
        let sentiment = catalogued("sentiment_score_avg").expect("catalogued");
        assert_eq!(sentiment.impossible(1.01).as_deref(), Some("must be from -1 to 1, got `1.01`"));
        assert_eq!(sentiment.impossible(f64::NAN).as_deref(), Some("must be a finite number"));
        let recency = catalogued("recency_days").expect("catalogued");
        assert_eq!(recency.impossible(-1.0).as_deref(), Some("must be >= 0, got `-1`"));
        assert_eq!(recency.impossible(12.5), None);
    }
}
