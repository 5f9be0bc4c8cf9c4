//! What the agent's page says, in each language. A name in braces is filled in.

use scoreline_domain::words::Language;

/// The sentences of one language.
pub(super) struct Words {
    pub customer: &'static str,
    pub lead: &'static str,
    /// Low, medium, high.
    pub tiers: [&'static str; 3],
    pub expected: &'static str,
    pub likely: &'static str,
    pub limits: &'static str,
    pub indicative: &'static str,
    /// Where the probability is not known.
    pub a_guess: &'static str,
    pub new_by_channel: &'static str,
    pub new_by_segment: &'static str,
    pub new_lead: &'static str,
    pub fallback: &'static str,
    pub old_history: &'static str,
    pub earlier: &'static str,
    pub reasons: &'static str,
    pub calculated: &'static str,
    pub just_now: &'static str,
    pub history: &'static str,
    pub courtesy: &'static str,
    /// First, soon, in turn, last.
    pub calls: [&'static str; 4],
    pub better_than: &'static str,
    pub convert: &'static str,
    pub hardly_convert: &'static str,
    pub lead_courtesy: &'static str,
    pub erased: &'static str,
    pub unknown: &'static str,
    pub nothing_known: &'static str,
    pub expired: &'static str,
    pub not_framed: &'static str,
    pub again: &'static str,
}

impl Words {
    pub(super) fn of(language: Language) -> &'static Self {
        match language {
            Language::English => &ENGLISH,
            Language::German => &GERMAN,
            Language::Spanish => &SPANISH,
            Language::French => &FRENCH,
        }
    }
}

/// A sentence with its names in braces filled in.
pub(super) fn filled(sentence: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(sentence.len() + 32);
    let mut rest = sentence;
    while let Some((before, from)) = rest.split_once('{') {
        text.push_str(before);
        let (name, after) = from.split_once('}').unwrap_or((from, ""));
        let value = values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
        text.push_str(value);
        rest = after;
    }
    text + rest
}

const ENGLISH: Words = Words {
    customer: "Customer value",
    lead: "Lead priority",
    tiers: ["Low value", "Medium value", "High value"],
    expected: "expected spend in the next {months} months",
    likely: "{share} in 100 such customers spend between {low} and {high}",
    limits: "medium from {medium} · high from {high}",
    indicative: "Indicative – the tier is right in {share} of 100 such cases",
    a_guess: "Indicative – the tier is more a guess than a statement",
    new_by_channel: "New customer – estimate from others who came through “{name}”",
    new_by_segment: "New customer – estimate from others of the segment “{name}”",
    new_lead: "New lead – estimate from others that came through “{name}”",
    fallback: "Temporary estimate – the model did not answer",
    old_history: "From the history of {age} ago – it could not be read since",
    earlier: "Score of {age} ago – the model did not answer this time",
    reasons: "What moved it",
    calculated: "calculated {age} ago",
    just_now: "calculated just now",
    history: "history up to {day}",
    courtesy: "Treat every customer with the same courtesy; the score decides the queue, not the answer.",
    calls: ["Call first", "Call soon", "Call in turn", "Call last"],
    better_than: "better than {share} of 100 leads",
    convert: "about {share} of 100 such leads convert",
    hardly_convert: "fewer than 1 of 100 such leads convert",
    lead_courtesy: "The score decides when somebody is called, not how.",
    erased: "Data of this customer was erased on request. No score.",
    unknown: "No score for this conversation yet.",
    nothing_known: "Nothing is known of this customer yet. No score.",
    expired: "This view has expired. Reopen the conversation.",
    not_framed: "This view opens beside the conversation, on the agent's desktop.",
    again: "Try again",
};

const GERMAN: Words = Words {
    customer: "Kundenwert",
    lead: "Priorität des Leads",
    tiers: ["Niedriger Wert", "Mittlerer Wert", "Hoher Wert"],
    expected: "erwarteter Umsatz in den nächsten {months} Monaten",
    likely: "{share} von 100 vergleichbaren Kunden geben {low} bis {high} aus",
    limits: "mittel ab {medium} · hoch ab {high}",
    indicative: "Nur ein Anhaltspunkt – die Stufe stimmt in {share} von 100 solchen Fällen",
    a_guess: "Nur ein Anhaltspunkt – die Stufe ist eher geraten als bekannt",
    new_by_channel: "Neukunde – Schätzung nach Kunden, die über „{name}“ kamen",
    new_by_segment: "Neukunde – Schätzung nach Kunden des Segments „{name}“",
    new_lead: "Neuer Lead – Schätzung nach anderen, die über „{name}“ kamen",
    fallback: "Vorläufige Schätzung – das Modell hat nicht geantwortet",
    old_history: "Nach dem Verlauf von vor {age} – er konnte seitdem nicht gelesen werden",
    earlier: "Wert von vor {age} – das Modell hat diesmal nicht geantwortet",
    reasons: "Was den Wert bewegt hat",
    calculated: "berechnet vor {age}",
    just_now: "gerade berechnet",
    history: "Verlauf bis {day}",
    courtesy: "Alle Kunden werden gleich freundlich bedient; der Wert bestimmt nur die Warteschlange.",
    calls: ["Zuerst anrufen", "Bald anrufen", "Der Reihe nach anrufen", "Zuletzt anrufen"],
    better_than: "besser als {share} von 100 Leads",
    convert: "etwa {share} von 100 solchen Leads schließen ab",
    hardly_convert: "weniger als 1 von 100 solchen Leads schließt ab",
    lead_courtesy: "Der Wert bestimmt, wann jemand angerufen wird, nicht wie.",
    erased: "Die Daten dieses Kunden wurden auf Wunsch gelöscht. Kein Wert.",
    unknown: "Für diese Konversation gibt es noch keinen Wert.",
    nothing_known: "Über diesen Kunden ist noch nichts bekannt. Kein Wert.",
    expired: "Diese Ansicht ist abgelaufen. Öffnen Sie die Konversation erneut.",
    not_framed: "Diese Ansicht öffnet sich neben der Konversation, auf dem Desktop des Agenten.",
    again: "Erneut versuchen",
};

const SPANISH: Words = Words {
    customer: "Valor del cliente",
    lead: "Prioridad del contacto",
    tiers: ["Valor bajo", "Valor medio", "Valor alto"],
    expected: "gasto esperado en los próximos {months} meses",
    likely: "{share} de cada 100 clientes parecidos gastan entre {low} y {high}",
    limits: "medio desde {medium} · alto desde {high}",
    indicative: "Orientativo: el nivel acierta en {share} de cada 100 casos así",
    a_guess: "Orientativo: el nivel es más una suposición que un dato",
    new_by_channel: "Cliente nuevo: estimación a partir de quienes llegaron por «{name}»",
    new_by_segment: "Cliente nuevo: estimación a partir de otros del segmento «{name}»",
    new_lead: "Contacto nuevo: estimación a partir de otros que llegaron por «{name}»",
    fallback: "Estimación provisional: el modelo no respondió",
    old_history: "Según el historial de hace {age}: desde entonces no se pudo leer",
    earlier: "Valor de hace {age}: esta vez el modelo no respondió",
    reasons: "Qué lo ha movido",
    calculated: "calculado hace {age}",
    just_now: "calculado ahora mismo",
    history: "historial hasta el {day}",
    courtesy: "Todos los clientes reciben el mismo trato; el valor solo decide la cola.",
    calls: ["Llamar primero", "Llamar pronto", "Llamar por orden", "Llamar al final"],
    better_than: "mejor que {share} de cada 100 contactos",
    convert: "unos {share} de cada 100 contactos así compran",
    hardly_convert: "menos de 1 de cada 100 contactos así compra",
    lead_courtesy: "El valor decide cuándo se llama, no cómo.",
    erased: "Los datos de este cliente se borraron a petición suya. Sin valor.",
    unknown: "Todavía no hay valor para esta conversación.",
    nothing_known: "Aún no se sabe nada de este cliente. Sin valor.",
    expired: "Esta vista ha caducado. Vuelva a abrir la conversación.",
    not_framed: "Esta vista se abre junto a la conversación, en el escritorio del agente.",
    again: "Reintentar",
};

const FRENCH: Words = Words {
    customer: "Valeur client",
    lead: "Priorité du prospect",
    tiers: ["Valeur faible", "Valeur moyenne", "Valeur élevée"],
    expected: "dépense attendue dans les {months} prochains mois",
    likely: "{share} clients comparables sur 100 dépensent entre {low} et {high}",
    limits: "moyenne à partir de {medium} · élevée à partir de {high}",
    indicative: "Indicatif\u{a0}: le niveau est juste dans {share} cas sur 100",
    a_guess: "Indicatif\u{a0}: le niveau est plutôt une supposition",
    new_by_channel: "Nouveau client\u{a0}: estimation d’après ceux venus par «\u{a0}{name}\u{a0}»",
    new_by_segment: "Nouveau client\u{a0}: estimation d’après d’autres du segment «\u{a0}{name}\u{a0}»",
    new_lead: "Nouveau prospect\u{a0}: estimation d’après d’autres venus par «\u{a0}{name}\u{a0}»",
    fallback: "Estimation provisoire\u{a0}: le modèle n’a pas répondu",
    old_history: "D’après l’historique d’il y a {age}\u{a0}: il n’a pas pu être lu depuis",
    earlier: "Valeur d’il y a {age}\u{a0}: cette fois, le modèle n’a pas répondu",
    reasons: "Ce qui l’a fait varier",
    calculated: "calculé il y a {age}",
    just_now: "calculé à l’instant",
    history: "historique jusqu’au {day}",
    courtesy: "Chaque client est servi avec les mêmes égards\u{a0}; la valeur ne décide que de la file.",
    calls: ["Appeler en premier", "Appeler bientôt", "Appeler à son tour", "Appeler en dernier"],
    better_than: "mieux que {share} prospects sur 100",
    convert: "environ {share} prospects comparables sur 100 concluent",
    hardly_convert: "moins de 1 prospect comparable sur 100 conclut",
    lead_courtesy: "La valeur décide quand on appelle, pas comment.",
    erased: "Les données de ce client ont été effacées à sa demande. Pas de valeur.",
    unknown: "Pas encore de valeur pour cette conversation.",
    nothing_known: "On ne sait encore rien de ce client. Pas de valeur.",
    expired: "Cette vue a expiré. Rouvrez la conversation.",
    not_framed: "Cette vue s’ouvre à côté de la conversation, sur le bureau de l’agent.",
    again: "Réessayer",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_filled_by_name() {
        assert_eq!(filled("{share} of {share}, {low}", &[("share", "9"), ("low", "{share}")]), "9 of 9, {share}");
        assert_eq!(filled("nothing", &[]), "nothing");
    }

    #[test]
    fn sentences_have_the_same_names_in_every_language() {
        let names = |sentence: &str| {
            let mut names: Vec<_> =
                sentence.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0.to_owned())).collect();
            names.sort();
            names
        };
        let sentences = |words: &Words| {
            [
                words.expected,
                words.likely,
                words.limits,
                words.indicative,
                words.new_by_channel,
                words.new_by_segment,
                words.new_lead,
                words.old_history,
                words.earlier,
                words.calculated,
                words.history,
                words.better_than,
                words.convert,
            ]
            .map(names)
        };
        for language in Language::ALL {
            assert_eq!(sentences(Words::of(language)), sentences(&ENGLISH), "{language:?}");
        }
    }
}
