//! Texts that several crates write: bytes in hexadecimal, long names, an error with its causes, kinds of numbers in words,
//! text inside of markup.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write};

/// Bytes as lower-case hexadecimal digits, two each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A text as a message shows it: a long one as its first characters and `..`.
pub fn shown(text: &str, most_characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most_characters) {
        Some((end, _)) => Cow::Owned(format!("{}..", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Writes what it is given without any character that means something in HTML, SVG or XML: the content of an element, or an
/// attribute's value between quotes.
pub struct EscapedWriter<W>(pub W);

impl<W: Write> Write for EscapedWriter<W> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        while let Some(at) = text.find(['&', '<', '>', '"', '\'', '\0']) {
            let (before, rest) = text.split_at(at);
            self.0.write_str(before)?;
            self.0.write_str(match rest.as_bytes()[0] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                b'\'' => "&#39;",
                // No page may hold one.
                _ => "\u{fffd}",
            })?;
            text = &rest[1..];
        }
        self.0.write_str(text)
    }
}

/// An error with its causes, on one line. What an error has said of its cause itself is not said again.
pub fn with_causes(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(source) = cause {
        let reason = source.to_string();
        if !text.ends_with(&reason) {
            let _ = write!(text, ": {reason}");
        }
        cause = source.source();
    }
    text
}

/// What a type of Rust's numbers is to others; `None` for any other name.
pub fn number_in_words(name: &str) -> Option<String> {
    let most = match name {
        "f32" | "f64" => return Some("a number".to_owned()),
        "i8" | "i16" | "i32" | "i64" | "isize" => return Some("a whole number".to_owned()),
        "u8" => u8::MAX.into(),
        "u16" => u16::MAX.into(),
        "u32" => u32::MAX.into(),
        "u64" | "usize" => u64::MAX,
        _ => return None,
    };
    Some(format!("a whole number from 0 to {most}"))
}

/// The message of a parser that names what it expected as Rust does.
pub fn in_plain_words(message: &str) -> String {
    const EXPECTED: &str = "expected ";
    let Some((before, after)) = message.split_once(EXPECTED) else { return message.to_owned() };
    let end = after.find(|c: char| !c.is_alphanumeric()).unwrap_or(after.len());
    match number_in_words(&after[..end]) {
        Some(words) => format!("{before}{EXPECTED}{words}{}", &after[end..]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file cannot be read")]
    struct Unreadable(#[source] io::Error);

    #[test]
    fn every_byte_has_two_digits_and_every_cause_is_told() {
        assert_eq!((hex(&[0, 0xab, 7]).as_str(), hex(&[]).as_str()), ("00ab07", ""));
        let err = Unreadable(io::Error::other("the disk is gone"));
        assert_eq!(with_causes(&err), "the file cannot be read: the disk is gone");
    }

    #[test]
    fn no_cause_is_told_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("no answer: {0}")]
        struct Unanswered(#[source] io::Error);
        let err = Unanswered(io::Error::other("connection refused"));
        assert_eq!(with_causes(&err), "no answer: connection refused");
    }

    #[test]
    fn a_long_name_is_cut_between_two_characters() {
        assert_eq!(shown("recency_days", 12), "recency_days");
        assert_eq!(shown("recency_days", 7), "recency..");
        assert_eq!(shown("größe", 3), "grö..");
    }

    #[test]
    fn numbers_are_called_what_others_call_them() {
        for (message, plain) in [
            ("invalid type: string, expected f64", "invalid type: string, expected a number"),
            ("expected u8 at line 3", "expected a whole number from 0 to 255 at line 3"),
            ("expected i64", "expected a whole number"),
            ("expected a boolean", "expected a boolean"),
            ("unknown field", "unknown field"),
        ] {
            assert_eq!(in_plain_words(message), plain);
        }
    }
}
