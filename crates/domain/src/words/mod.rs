//! Reasons in words, for the person who reads them in the middle of a call: `48 contacts in a year ▲ raises $68`.
//!
//! A reason names a fact the caller sent, not the feature's name, and says which way it goes by an arrow and by a word,
//! so that nobody depends on a colour. The words of every catalogued feature and group are in four languages; a feature
//! that is not catalogued is said by its own name and value.

mod features;
mod language;

use std::fmt;

pub use language::Language;

use crate::FeatureGroup;

/// What is given of a feature.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum GivenValue<'a> {
    Number(f64),
    /// The category of a categorical feature.
    Text(&'a str),
}

/// What a reason's amount is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AmountUnit {
    Usd,
    /// Points of a probability: 100 are all of it.
    Points,
}

/// Which way a reason goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Raises,
    Lowers,
}

/// A reason in words; written as one line by `Display`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReasonInWords {
    /// The fact: `48 contacts in a year`.
    pub fact: String,
    pub direction: Direction,
    /// `raises`, `lowers`.
    pub verb: &'static str,
    /// Without a sign: the verb says which way.
    pub amount: String,
}

impl Direction {
    pub fn arrow(self) -> char {
        match self {
            Self::Raises => '▲',
            Self::Lowers => '▼',
        }
    }

    pub fn verb(self, language: Language) -> &'static str {
        match self {
            Self::Raises => ["raises", "erhöht um", "suma", "ajoute"][language as usize],
            Self::Lowers => ["lowers", "senkt um", "resta", "retire"][language as usize],
        }
    }
}

impl ReasonInWords {
    /// A feature that was given and the amount that it, or its group, did. `None` when that rounds to nothing.
    pub fn new(
        feature: &str,
        given: GivenValue<'_>,
        (amount, unit): (f64, AmountUnit),
        language: Language,
    ) -> Option<Self> {
        let (smallest, written) = match unit {
            AmountUnit::Usd => (0.005, language.usd(amount.abs())),
            AmountUnit::Points => (0.05, language.points(amount.abs())),
        };
        if amount.is_nan() || amount.abs() < smallest {
            return None;
        }
        let direction = if amount > 0.0 { Direction::Raises } else { Direction::Lowers };
        let fact = fact(feature, given, language);
        Some(Self { fact, direction, verb: direction.verb(language), amount: written })
    }
}

impl fmt::Display for ReasonInWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.fact, self.direction.arrow(), self.verb, self.amount)
    }
}

/// What a feature's value says: `48 contacts in a year`; `NAME: VALUE` for a feature that is not catalogued.
pub fn fact(feature: &str, given: GivenValue<'_>, language: Language) -> String {
    match (features::words(feature), given) {
        (Some(words), GivenValue::Number(value)) => words.say(value, language),
        (None, GivenValue::Number(value)) => format!("{feature}: {}", language.figure(value)),
        (_, GivenValue::Text(text)) => format!("{feature}: {text}"),
    }
}

impl FeatureGroup {
    /// The group's heading.
    pub fn title(self, language: Language) -> &'static str {
        let titles = match self {
            Self::Recency => ["Recent activity", "Letzte Aktivität", "Actividad reciente", "Activité récente"],
            Self::Frequency => ["Purchase frequency", "Kaufhäufigkeit", "Frecuencia de compra", "Fréquence d’achat"],
            Self::Money => ["Spending", "Ausgaben", "Gasto", "Dépenses"],
            Self::Contact => ["Contacts", "Kontakte", "Contactos", "Contacts"],
            Self::Sentiment => ["Sentiment", "Stimmung", "Sentimiento", "Sentiment"],
            Self::Topics => ["Topics", "Themen", "Temas", "Sujets"],
        };
        titles[language as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::CATALOGUE;

    fn reason(feature: &str, value: f64, amount: f64) -> [String; 4] {
        let written = |language| {
            let reason = ReasonInWords::new(feature, GivenValue::Number(value), (amount, AmountUnit::Usd), language);
            reason.expect("an amount").to_string().replace('\u{a0}', " ")
        };
        Language::ALL.map(written)
    }

    #[test]
    fn a_reason_is_a_fact_an_arrow_a_word_and_an_amount() {
        assert_eq!(
            reason("frequency_count", 48.0, 68.0),
            [
                "48 contacts in a year ▲ raises $68",
                "48 Kontakte in einem Jahr ▲ erhöht um 68 $",
                "48 contactos en un año ▲ suma 68 US$",
                "48 contacts en un an ▲ ajoute 68 $US",
            ]
        );
        assert_eq!(
            reason("purchase_recency_days", 1.0, -3.5),
            [
                "last purchase 1 day ago ▼ lowers $3.50",
                "letzter Kauf vor 1 Tag ▼ senkt um 3,50 $",
                "última compra hace 1 día ▼ resta 3,50 US$",
                "dernier achat il y a 1 jour ▼ retire 3,50 $US",
            ]
        );
        assert_eq!(reason("channel_preference_email", 0.75, 20.0)[0], "75% of contacts by e-mail ▲ raises $20");
        assert_eq!(reason("avg_handling_time_sec", 245.0, -20.0)[0], "4.1 minutes a contact ▼ lowers $20");
        assert_eq!(reason("sentiment_score_avg", -0.65, -20.0)[1], "negativer Ton (-0,65) ▼ senkt um 20 $");
        assert_eq!(reason("sentiment_trend_slope", 0.1, 20.0)[3], "le ton s’améliore ▲ ajoute 20 $US");
    }

    #[test]
    fn a_foreign_feature_is_said_by_its_name_and_nothing_is_no_reason() {
        let points = (-4.25, AmountUnit::Points);
        let reason =
            ReasonInWords::new("job", GivenValue::Text("retired"), points, Language::French).expect("a reason");
        assert_eq!(reason.to_string(), "job: retired ▼ retire 4,2\u{a0}points");
        assert_eq!(fact("age", GivenValue::Number(60.0), Language::German), "age: 60");
        let none =
            |amount| ReasonInWords::new("age", GivenValue::Number(1.0), (amount, AmountUnit::Usd), Language::English);
        assert_eq!([0.004, 0.0, f64::NAN].map(none), [None, None, None]);
    }

    #[test]
    fn every_catalogued_feature_has_words_that_hold_its_value_and_differ() {
        for language in Language::ALL {
            let mut seen = std::collections::BTreeSet::new();
            for feature in CATALOGUE {
                for value in [0.0, 1.0, 37.0] {
                    let said = fact(feature.name, GivenValue::Number(value), language);
                    assert!(!said.contains(feature.name) && !said.contains('{'), "{said}");
                }
                let said = fact(feature.name, GivenValue::Number(37.0), language);
                assert!(seen.insert(said.clone()), "said twice: {said}");
            }
        }
    }

    #[test]
    fn groups_are_named_and_titled() {
        for group in FeatureGroup::ALL {
            assert_eq!(FeatureGroup::named(group.as_str()), Some(group));
            assert!(Language::ALL.iter().all(|language| !group.title(*language).is_empty()));
        }
        assert_eq!(FeatureGroup::named("age"), None);
    }
}
