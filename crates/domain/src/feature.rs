//! The catalogue of features scoreline knows by name: unit, possible range, meaning, and what it is known from as of a
//! time.
//!
//! The catalogue says what is *possible* (a count is not negative); a bundle says what was *seen* in training.

use FeatureGroup::{Contact, Frequency, Money, Recency, Sentiment, Topics};

/// What a feature is computed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeatureOrigin {
    Interactions,
    Purchases,
}

/// What a feature tells about. Features of a group rise and fall together, so that an answer is explained by groups: what
/// one of them did while the others stood still says nothing about a customer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FeatureGroup {
    /// How long ago, and what happened lately.
    Recency,
    /// How often and since when something is bought.
    Frequency,
    /// What is spent.
    Money,
    /// How much and by which channels there is contact.
    Contact,
    Sentiment,
    Topics,
}

impl FeatureGroup {
    pub const ALL: [Self; 6] =
        [Self::Recency, Self::Frequency, Self::Money, Self::Contact, Self::Sentiment, Self::Topics];

    /// Its name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recency => "recency",
            Self::Frequency => "frequency",
            Self::Money => "money",
            Self::Contact => "contact",
            Self::Sentiment => "sentiment",
            Self::Topics => "topics",
        }
    }

    /// The group of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == name)
    }
}

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
    pub group: FeatureGroup,
    pub origin: FeatureOrigin,
    /// What counts, as of a time, and what does not.
    pub as_of: &'static str,
}

const CLOSED: &str = "interactions ended by the time and begun in the 365 days before it; never the live one";
const SCORED: &str = "the scored ones among the interactions that count for `frequency_count`";
const LATEST: &str = "the 64 scored interactions that began last, among those that count for `frequency_count`";
const STAND_IN: &str = "the scored ones among the interactions that count for `frequency_count`; without any, the means of \
                        the customer's queues over everybody's interactions that count as of the same time";
const BOUGHT: &str = "purchases of days (UTC) that were over by the time";
const BOUGHT_IN_90: &str = "purchases of the last 90 days (UTC) that were over by the time";

const fn of_interactions(feature: Catalogued) -> Catalogued {
    Catalogued { origin: FeatureOrigin::Interactions, as_of: CLOSED, ..feature }
}

const fn known_from(feature: Catalogued, as_of: &'static str) -> Catalogued {
    Catalogued { as_of, ..feature }
}

const fn amount(group: FeatureGroup, name: &'static str, unit: &'static str, meaning: &'static str) -> Catalogued {
    let origin = FeatureOrigin::Purchases;
    Catalogued { name, unit, lowest: 0.0, highest: f64::MAX, whole: false, meaning, group, origin, as_of: BOUGHT }
}

const fn count(group: FeatureGroup, name: &'static str, meaning: &'static str) -> Catalogued {
    Catalogued { highest: 1e9, whole: true, ..amount(group, name, "count", meaning) }
}

const fn share(name: &'static str, meaning: &'static str) -> Catalogued {
    of_interactions(Catalogued { highest: 1.0, ..amount(Contact, name, "share", meaning) })
}

/// Every catalogued feature; interactions first, then purchases.
pub const CATALOGUE: &[Catalogued] = &[
    of_interactions(amount(
        Recency,
        "recency_days",
        "days",
        "whole days since the last closed interaction ended; in a purchase model, since the last purchase",
    )),
    of_interactions(count(Contact, "frequency_count", "closed interactions in the look-back window (365 days)")),
    of_interactions(amount(
        Contact,
        "avg_handling_time_sec",
        "seconds",
        "mean handling time (talk, hold and wrap-up) of handled interactions",
    )),
    known_from(
        of_interactions(Catalogued {
            lowest: -1.0,
            highest: 1.0,
            ..amount(Sentiment, "sentiment_score_avg", "score", "mean sentiment, -1 (negative) to 1 (positive)")
        }),
        STAND_IN,
    ),
    known_from(
        of_interactions(Catalogued {
            lowest: -f64::MAX,
            ..amount(
                Sentiment,
                "sentiment_trend_slope",
                "score per 30 days",
                "Theil-Sen slope of sentiment across interactions, shrunk by n/(n+8); 0 below three",
            )
        }),
        LATEST,
    ),
    known_from(of_interactions(count(Sentiment, "sentiment_n", "interactions with a sentiment score")), SCORED),
    of_interactions(count(Topics, "topic_diversity", "distinct topics discussed")),
    share("channel_preference_email", "share of interactions by e-mail, or 1 when it is the preferred channel"),
    share("channel_preference_voice", "share of interactions by voice, or 1 when it is the preferred channel"),
    share("channel_preference_chat", "share of interactions by chat, or 1 when it is the preferred channel"),
    share("channel_preference_message", "share of interactions by messaging, or 1 when it is the preferred channel"),
    count(Frequency, "purchase_count", "days with a purchase"),
    amount(Frequency, "tenure_days", "days", "days since the first purchase"),
    amount(Recency, "purchase_recency_days", "days", "days since the last purchase"),
    amount(Money, "monetary_avg", "USD", "mean spend per purchase day"),
    amount(Money, "total_spend_usd", "USD", "spend over all purchases"),
    amount(Money, "last_order_usd", "USD", "spend on the last purchase day"),
    amount(Money, "max_order_usd", "USD", "largest spend on one purchase day"),
    known_from(amount(Recency, "spend_last_90d_usd", "USD", "spend in the last 90 days"), BOUGHT_IN_90),
    known_from(count(Recency, "purchases_last_90d", "days with a purchase in the last 90 days"), BOUGHT_IN_90),
    amount(
        Frequency,
        "purchase_gap_mean_days",
        "days",
        "mean days between purchases; the tenure for a single purchase",
    ),
    amount(
        Recency,
        "purchases_decayed_30d",
        "days",
        "days with a purchase, each counting half after 30 days, a quarter after 60",
    ),
    amount(Money, "items_count", "items", "items bought over all purchases"),
];

/// A value for every catalogued feature, in the order of the catalogue; `NaN` is missing.
pub type CatalogueRow = [f64; CATALOGUE.len()];

/// Looks a feature up by name.
pub fn catalogued(name: &str) -> Option<&'static Catalogued> {
    CATALOGUE.iter().find(|feature| feature.name == name)
}

impl Catalogued {
    /// Why `value` cannot be: `None` when it can.
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
