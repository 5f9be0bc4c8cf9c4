//! Texts that several crates write: bytes in hexadecimal, and an error with its causes.

use std::error::Error;
use std::fmt::Write as _;

/// Bytes as lower-case hexadecimal digits, two each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An error with its causes, on one line.
pub fn with_causes(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(source) = cause {
        let _ = write!(text, ": {source}");
        cause = source.source();
    }
    text
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
}
