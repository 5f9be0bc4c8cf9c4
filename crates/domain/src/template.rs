//! Texts of request templates that were sent as they are, because nobody gave the input they stand for.

/// Whether `text` is the text of a template that was not filled in: after blanks a `$`, then a letter, `!` or `{`, as in
/// `$input.customerId`, `$!{input.x}` or `$esc.jsonString(${input.x})`. Such a text says that a value is absent.
pub fn is_unfilled(text: &str) -> bool {
    let mut bytes = text.trim_start().bytes();
    bytes.next() == Some(b'$')
        && bytes.next().is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, b'!' | b'{'))
}

#[cfg(test)]
mod tests {
    use super::*;

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
