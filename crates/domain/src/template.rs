//! What the templates of data actions do to texts and names: a text that nobody filled in, a name that may hold no dot.

/// Whether `text` is the text of a template that was not filled in: after blanks a `$`, then a letter, `!` or `{`, as in
/// `$input.customerId`, `$!{input.x}` or `$esc.jsonString(${input.x})`. Such a text says that a value is absent.
pub fn is_unfilled(text: &str) -> bool {
    let mut bytes = text.trim_start().bytes();
    bytes.next() == Some(b'$')
        && bytes.next().is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, b'!' | b'{'))
}

/// The name under which a data action can send a feature: letters, digits, `-` and `_` behind a letter, `_` for all else.
/// `nr.employed` is sent as `nr_employed`.
pub fn input_name(feature: &str) -> String {
    input_letters(feature).collect()
}

/// Whether a data action sends a feature under `name`.
pub fn is_input_name(name: &str, feature: &str) -> bool {
    input_letters(feature).eq(name.chars())
}

fn input_letters(feature: &str) -> impl Iterator<Item = char> {
    let is_bare = feature.starts_with(|first: char| first.is_ascii_alphabetic());
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let letters = feature.chars().map(move |c| if is_allowed(c) { c } else { '_' });
    (!is_bare).then_some('n').into_iter().chain(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_has_a_name_that_data_actions_allow() {
        for (feature, name) in [
            ("nr.employed", "nr_employed"),
            ("recency_days", "recency_days"),
            ("30d spend", "n30d_spend"),
            ("Größe", "Gr__e"),
        ] {
            assert_eq!(input_name(feature), name);
            assert!(is_input_name(name, feature) && !is_input_name("other", feature), "{name}");
        }
    }

    #[test]
    fn every_notation_of_a_template_is_known_and_no_amount_is_one() {
        for text in [
            "${input.customerId}",
            "$!{input.customerId}",
            "$input.customerId",
            "$!input.customerId",
            "$esc.jsonString(${input.customerId})",
            "$!esc.jsonString($input.customerId)",
            "$esc.url(${input.customerId})",
            "$math.round(${input.recency_days})",
            "  ${input.customerId}",
            "\t$input.x",
            "\u{a0}${input.x}",
            "${",
        ] {
            assert!(is_unfilled(text), "{text}");
        }
        for text in ["", "$", "$5", "$ 5", "$-5", "5$", "CUST-$x", "US$a", "null"] {
            assert!(!is_unfilled(text), "{text}");
        }
    }
}
