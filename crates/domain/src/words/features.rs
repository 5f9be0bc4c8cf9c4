//! What each catalogued feature's value says, in every language.

use super::Language;
use FeatureWords::{Counted, Same, Signed};

/// How a value stands in its sentence.
pub(super) enum Form {
    Figure,
    Usd,
    /// A share, as percent.
    Percent,
    /// Seconds, as minutes.
    Minutes,
}

/// A feature's sentences; `{}` stands for the value.
pub(super) enum FeatureWords {
    /// One sentence for every value.
    Same(Form, [&'static str; 4]),
    /// For one of what is counted, and for any other number.
    Counted([&'static str; 4], [&'static str; 4]),
    /// For a value below the negative of the limit, one between, and one above the limit.
    Signed(f64, [[&'static str; 4]; 3]),
}

impl FeatureWords {
    pub(super) fn say(&self, value: f64, language: Language) -> String {
        let (form, sentences) = match self {
            Self::Same(form, sentences) => (form, sentences),
            Self::Counted(one, many) => (&Form::Figure, if language.is_one(value) { one } else { many }),
            Self::Signed(limit, [below, between, above]) => {
                let sentences = match value {
                    value if value < -limit => below,
                    value if value > *limit => above,
                    _ => between,
                };
                (&Form::Figure, sentences)
            }
        };
        let said = match form {
            Form::Figure => language.figure(value),
            Form::Usd => language.usd(value),
            Form::Percent => language.percent(value),
            Form::Minutes => language.number(value / 60.0, 1),
        };
        sentences[language as usize].replace("{}", &said)
    }
}

/// The words of a catalogued feature.
pub(super) fn words(feature: &str) -> Option<&'static FeatureWords> {
    WORDS.iter().find(|(name, _)| *name == feature).map(|(_, words)| words)
}

/// By feature; each list in the order of [`Language::ALL`].
const WORDS: &[(&str, FeatureWords)] = &[
    // Of contacts or of purchases, as the model has it.
    (
        "recency_days",
        Counted(
            [
                "last active {} day ago",
                "zuletzt vor {} Tag aktiv",
                "última actividad hace {} día",
                "dernière activité il y a {} jour",
            ],
            [
                "last active {} days ago",
                "zuletzt vor {} Tagen aktiv",
                "última actividad hace {} días",
                "dernière activité il y a {} jours",
            ],
        ),
    ),
    (
        "frequency_count",
        Counted(
            ["{} contact in a year", "{} Kontakt in einem Jahr", "{} contacto en un año", "{} contact en un an"],
            ["{} contacts in a year", "{} Kontakte in einem Jahr", "{} contactos en un año", "{} contacts en un an"],
        ),
    ),
    (
        "avg_handling_time_sec",
        Same(
            Form::Minutes,
            ["{} minutes a contact", "{} Minuten je Kontakt", "{} minutos por contacto", "{} minutes par contact"],
        ),
    ),
    (
        "sentiment_score_avg",
        Signed(
            0.2,
            [
                ["negative tone ({})", "negativer Ton ({})", "tono negativo ({})", "ton négatif ({})"],
                ["neutral tone ({})", "neutraler Ton ({})", "tono neutro ({})", "ton neutre ({})"],
                ["positive tone ({})", "positiver Ton ({})", "tono positivo ({})", "ton positif ({})"],
            ],
        ),
    ),
    (
        "sentiment_trend_slope",
        Signed(
            0.02,
            [
                ["tone getting worse", "Ton wird schlechter", "el tono empeora", "le ton se dégrade"],
                ["tone stays the same", "Ton bleibt gleich", "el tono se mantiene", "le ton reste stable"],
                ["tone getting better", "Ton wird besser", "el tono mejora", "le ton s’améliore"],
            ],
        ),
    ),
    (
        "sentiment_n",
        Counted(
            [
                "tone known of {} contact",
                "Ton von {} Kontakt bekannt",
                "tono conocido de {} contacto",
                "ton connu de {} contact",
            ],
            [
                "tone known of {} contacts",
                "Ton von {} Kontakten bekannt",
                "tono conocido de {} contactos",
                "ton connu de {} contacts",
            ],
        ),
    ),
    (
        "topic_diversity",
        Counted(
            ["{} topic", "{} Thema", "{} tema", "{} sujet"],
            ["{} different topics", "{} verschiedene Themen", "{} temas distintos", "{} sujets différents"],
        ),
    ),
    (
        "channel_preference_email",
        Same(
            Form::Percent,
            [
                "{} of contacts by e-mail",
                "{} der Kontakte per E-Mail",
                "{} de los contactos por correo electrónico",
                "{} des contacts par e-mail",
            ],
        ),
    ),
    (
        "channel_preference_voice",
        Same(
            Form::Percent,
            [
                "{} of contacts by phone",
                "{} der Kontakte per Telefon",
                "{} de los contactos por teléfono",
                "{} des contacts par téléphone",
            ],
        ),
    ),
    (
        "channel_preference_chat",
        Same(
            Form::Percent,
            [
                "{} of contacts by chat",
                "{} der Kontakte per Chat",
                "{} de los contactos por chat",
                "{} des contacts par chat",
            ],
        ),
    ),
    (
        "channel_preference_message",
        Same(
            Form::Percent,
            [
                "{} of contacts by messaging",
                "{} der Kontakte per Nachricht",
                "{} de los contactos por mensajería",
                "{} des contacts par messagerie",
            ],
        ),
    ),
    (
        "purchase_count",
        Counted(
            ["purchases on {} day", "an {} Tag gekauft", "compras en {} día", "achats sur {} jour"],
            ["purchases on {} days", "an {} Tagen gekauft", "compras en {} días", "achats sur {} jours"],
        ),
    ),
    (
        "tenure_days",
        Counted(
            [
                "first purchase {} day ago",
                "erster Kauf vor {} Tag",
                "primera compra hace {} día",
                "premier achat il y a {} jour",
            ],
            [
                "first purchase {} days ago",
                "erster Kauf vor {} Tagen",
                "primera compra hace {} días",
                "premier achat il y a {} jours",
            ],
        ),
    ),
    (
        "purchase_recency_days",
        Counted(
            [
                "last purchase {} day ago",
                "letzter Kauf vor {} Tag",
                "última compra hace {} día",
                "dernier achat il y a {} jour",
            ],
            [
                "last purchase {} days ago",
                "letzter Kauf vor {} Tagen",
                "última compra hace {} días",
                "dernier achat il y a {} jours",
            ],
        ),
    ),
    (
        "monetary_avg",
        Same(Form::Usd, ["{} a day with a purchase", "{} je Kauftag", "{} por día de compra", "{} par jour d’achat"]),
    ),
    (
        "total_spend_usd",
        Same(Form::Usd, ["{} spent in all", "insgesamt {} ausgegeben", "{} gastados en total", "{} dépensés au total"]),
    ),
    (
        "last_order_usd",
        Same(
            Form::Usd,
            [
                "{} on the last order",
                "{} bei der letzten Bestellung",
                "{} en el último pedido",
                "{} à la dernière commande",
            ],
        ),
    ),
    (
        "max_order_usd",
        Same(
            Form::Usd,
            [
                "{} on the largest order",
                "{} bei der größten Bestellung",
                "{} en el mayor pedido",
                "{} à la plus grosse commande",
            ],
        ),
    ),
    (
        "spend_last_90d_usd",
        Same(
            Form::Usd,
            ["{} spent in 90 days", "{} in 90 Tagen ausgegeben", "{} gastados en 90 días", "{} dépensés en 90 jours"],
        ),
    ),
    (
        "purchases_last_90d",
        Same(
            Form::Figure,
            [
                "purchases on {} of the last 90 days",
                "Käufe an {} der letzten 90 Tage",
                "compras en {} de los últimos 90 días",
                "achats sur {} des 90 derniers jours",
            ],
        ),
    ),
    (
        "purchase_gap_mean_days",
        Counted(
            ["{} day between purchases", "{} Tag zwischen Käufen", "{} día entre compras", "{} jour entre les achats"],
            [
                "{} days between purchases",
                "{} Tage zwischen Käufen",
                "{} días entre compras",
                "{} jours entre les achats",
            ],
        ),
    ),
    (
        "purchases_decayed_30d",
        Same(
            Form::Figure,
            [
                "recent purchases (weight {})",
                "jüngste Käufe (Gewicht {})",
                "compras recientes (peso {})",
                "achats récents (poids {})",
            ],
        ),
    ),
    (
        "items_count",
        Counted(
            ["{} item bought", "{} Artikel gekauft", "{} artículo comprado", "{} article acheté"],
            ["{} items bought", "{} Artikel gekauft", "{} artículos comprados", "{} articles achetés"],
        ),
    ),
];
