//! What is refused at the edge: personal data in texts, and identifiers that are not hashed where only hashes are taken.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::scrub::{self, Personal};
use crate::template::is_unfilled;

/// Which identifiers of customers and leads are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Identifiers {
    /// Any, as long as it is not personal data itself.
    #[default]
    Any,
    /// SHA-256 hashes only, in hexadecimal or Base64.
    Hashed,
}

impl Identifiers {
    /// As the settings call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Hashed => "hashed",
        }
    }
}

/// Whether an identifier of digits alone is looked at for the shape of a phone or card number. One account number in two
/// has such a shape, so that looking refuses customers by chance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NumericIds {
    /// Digits alone are an account number.
    #[default]
    Taken,
    /// They are refused when they could be a phone or card number.
    Screened,
}

impl NumericIds {
    /// As the settings call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Screened => "screened",
        }
    }
}

/// What is looked for in the texts of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Screen {
    pub identifiers: Identifiers,
    pub numeric_ids: NumericIds,
    pub refuse_pii: bool,
}

/// Why a text is refused. The text itself is not repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefusedText {
    #[error("looks like {}; send a customer's number or a hash instead", .0.as_str())]
    Personal(Personal),
    #[error("must be a SHA-256 hash: 64 hexadecimal digits, or 43 characters of Base64, with or without its `=`")]
    NotHashed,
    #[error("is the text of a template that nobody filled in; leave it out when there is no identifier")]
    Unfilled,
}

impl Default for Screen {
    fn default() -> Self {
        Self { identifiers: Identifiers::Any, numeric_ids: NumericIds::Taken, refuse_pii: true }
    }
}

impl Screen {
    /// Looks at an identifier of a customer or lead.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn identifier(self, id: &str) -> Result<(), RefusedText> {
        if is_unfilled(id) {
            return Err(RefusedText::Unfilled);
        }
        match self.identifiers {
            Identifiers::Any => self.reference(id, Self::text),
            Identifiers::Hashed if hash_in(id).is_some() => Ok(()),
            Identifiers::Hashed => match scrub::find(id) {
                Some(personal) => Err(RefusedText::Personal(personal)),
                None => Err(RefusedText::NotHashed),
            },
        }
    }

    /// Looks at the identifier of a conversation, which says nothing of a customer.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn conversation(self, id: &str) -> Result<(), RefusedText> {
        self.reference(id, Self::text)
    }

    /// Looks at the identifier of a request, which is logged and given back as it is.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn request(self, id: &str) -> Result<(), RefusedText> {
        self.reference(id, |_, id| public(id))
    }

    /// Digits alone are a number of somebody's books, unless they are asked to be looked at like other texts.
    fn reference(self, id: &str, otherwise: fn(Self, &str) -> Result<(), RefusedText>) -> Result<(), RefusedText> {
        let is_number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && self.numeric_ids == NumericIds::Taken { Ok(()) } else { otherwise(self, id) }
    }

    /// Looks at any other text.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn text(self, text: &str) -> Result<(), RefusedText> {
        if !self.refuse_pii {
            return Ok(());
        }
        public(text)
    }
}

/// Looks at a text that is logged and given back as it is, whatever the settings say.
///
/// # Errors
/// Why it is not taken.
pub fn public(text: &str) -> Result<(), RefusedText> {
    scrub::find(text).map_or(Ok(()), |personal| Err(RefusedText::Personal(personal)))
}

/// The SHA-256 digest that a text writes in hexadecimal or Base64.
pub(super) fn hash_in(text: &str) -> Option<[u8; 32]> {
    if text.len() == 64 {
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(pairs) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = (digit(0)? * 16 + digit(1)?) as u8;
        }
        return Some(digest);
    }
    let bare = if text.len() == 44 { text.strip_suffix('=')? } else { text };
    let (standard, url_safe) = (STANDARD_NO_PAD.decode(bare), URL_SAFE_NO_PAD.decode(bare));
    standard.or(url_safe).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_every_spelling_are_taken_and_nothing_else() {
        let strict = Screen { identifiers: Identifiers::Hashed, ..Screen::default() };
        for hash in [
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08",
            "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg",
            "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
        ] {
            assert_eq!(strict.identifier(hash), Ok(()), "{hash}");
            assert_eq!(Screen::default().identifier(hash), Ok(()), "{hash}");
        }
        for other in ["CUST-1", "", "550e8400-e29b-41d4-a716-446655440000", &"g".repeat(64), &"a".repeat(63)] {
            assert_eq!(strict.identifier(other), Err(RefusedText::NotHashed), "{other}");
        }
        assert_eq!(strict.identifier("+14155550123"), Err(RefusedText::Personal(Personal::Phone)));
        assert_eq!(strict.text("paid_search"), Ok(()), "only identifiers must be hashes");
    }

    #[test]
    fn an_identifier_of_digits_alone_has_no_shape_unless_it_is_asked_for() {
        let screened = Screen { numeric_ids: NumericIds::Screened, ..Screen::default() };
        for number in ["4155550123", "4111111111111111", "738529527931269425", "10000045", "4222222222222"] {
            assert_eq!(Screen::default().identifier(number), Ok(()), "{number}");
            assert_eq!(Screen::default().conversation(number), Ok(()), "{number}");
            assert_eq!(Screen::default().request(number), Ok(()), "{number}");
        }
        let card = Err(RefusedText::Personal(Personal::Card));
        assert_eq!(screened.identifier("4111111111111111"), card);
        assert_eq!(screened.conversation("4111111111111111"), card);
        assert_eq!(screened.request("4111111111111111"), card);
        assert_eq!(Screen::default().text("4111111111111111"), card, "only identifiers may be digits");
        for personal in ["+14155550123", "415-555-0123", "4111 1111 1111 1111", "a@example.com"] {
            assert!(Screen::default().identifier(personal).is_err(), "{personal}");
        }
    }

    #[test]
    fn a_template_that_was_not_filled_in_is_nobodys_identifier() {
        for screen in [Screen::default(), Screen { identifiers: Identifiers::Hashed, ..Screen::default() }] {
            assert_eq!(screen.identifier("$!{input.customerId}"), Err(RefusedText::Unfilled));
        }
    }

    #[test]
    fn a_refusal_can_be_switched_off_but_not_for_what_is_logged() {
        let open = Screen { refuse_pii: false, ..Screen::default() };
        assert_eq!(open.identifier("+14155550123"), Ok(()));
        assert_eq!(open.conversation("+14155550123"), Ok(()));
        let refused = open.request("+14155550123").expect_err("logged");
        assert!(!refused.to_string().contains("4155"), "{refused}");
    }
}
