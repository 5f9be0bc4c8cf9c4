//! Personal data in a text: card and phone numbers, e-mail addresses, social security numbers, IBANs.
//!
//! A second line of defence behind the schema, which has no field for a name: what stands in the few fields that are
//! text is looked at once, byte by byte, without a copy. What other systems make up as identifiers (hashes, UUIDs,
//! ULIDs, prefixed and plain numbers) is not mistaken for it, see the tests.

mod card;
mod email;
mod iban;
mod run;

use run::{Glue, Run};

/// What a text looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Personal {
    /// 13 to 19 digits of a known card scheme with a valid check digit (ISO/IEC 7812-1, Luhn).
    Card,
    /// `+` and 7 to 15 digits (ITU-T E.164), or a form in which people write national numbers.
    Phone,
    Email,
    /// A United States social security number, `123-45-6789`.
    SocialSecurity,
    /// A bank account of a known country with valid check digits (ISO 13616, ISO 7064 MOD 97-10).
    Iban,
}

impl Personal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Card => "a card number",
            Self::Phone => "a phone number",
            Self::Email => "an e-mail address",
            Self::SocialSecurity => "a social security number",
            Self::Iban => "a bank account number",
        }
    }
}

/// The first personal datum in `text`. ASCII texts are looked at where they are; others, and those with `%` escapes,
/// are folded to ASCII first, without allocating up to 256 bytes.
pub fn find(text: &str) -> Option<Personal> {
    if is_plain(text.as_bytes()) {
        return None;
    }
    match scan(text.as_bytes()) {
        Scan::Found(personal) => Some(personal),
        Scan::Clean => None,
        Scan::NeedsFolding => find_folded(text),
    }
}

const DIGIT: u8 = 1;
const LETTER: u8 = 2;
/// What people put between groups of digits.
const JOIN: u8 = 4;
const PLUS: u8 = 8;
const AT: u8 = 16;
/// Not ASCII, or an escape.
const FOLD: u8 = 32;
/// Beside one of the others: a hexadecimal digit.
const HEX: u8 = 64;

/// Most bytes between two groups of one number.
const WIDEST_JOIN: usize = 3;
const UUID_BYTES: usize = 36;
/// Fewest digits of anything that is looked for by its digits.
const LEAST_DIGITS: usize = 7;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT | HEX,
            b'a'..=b'f' | b'A'..=b'F' => LETTER | HEX,
            b'g'..=b'z' | b'G'..=b'Z' => LETTER,
            b' ' | b'\t' | b'\n' | b'\r' | b'-' | b'.' | b'/' | b'(' | b')' | b'_' => JOIN,
            b'+' => PLUS,
            b'@' => AT,
            b'%' | 128..=255 => FOLD,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

fn class(text: &[u8], at: usize) -> u8 {
    text.get(at).map_or(0, |byte| CLASSES[usize::from(*byte)] & !HEX)
}

enum Scan {
    Found(Personal),
    Clean,
    NeedsFolding,
}

/// Whether there is too little in a text to be anything: the usual case. Without branches, so that a compiler can look at
/// many bytes at once.
fn is_plain(text: &[u8]) -> bool {
    let mut digits = 0_usize;
    let mut special = false;
    for byte in text {
        digits += usize::from(byte.is_ascii_digit());
        special |= *byte == b'@';
        special |= *byte == b'%';
        special |= *byte >= 128;
    }
    digits < LEAST_DIGITS && !special
}

/// Goes from token to token: a token is a longest run of letters and digits.
fn scan(text: &[u8]) -> Scan {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match CLASSES[usize::from(*byte)] & !HEX {
            DIGIT | LETTER => {
                if is_uuid(text, at) {
                    at += UUID_BYTES;
                    continue;
                }
                let ScrubToken { end, turns, digits } = ScrubToken::read(text, at);
                if digits > 0 && iban::is_at(text, at) {
                    return Scan::Found(Personal::Iban);
                }
                // Letters and digits in turn are made up, and letters alone hold no number.
                if turns > 1 || digits == 0 {
                    at = end;
                    continue;
                }
                let first = skip(text, at, LETTER);
                let (run, next) = Run::read(text, first, Glue::before(text, at, first));
                if let Some(personal) = run.judge() {
                    return Scan::Found(personal);
                }
                at = next;
            }
            PLUS => {
                if run::is_international(text, at) {
                    return Scan::Found(Personal::Phone);
                }
                at += 1;
            }
            AT => {
                if email::is_around(text, at) {
                    return Scan::Found(Personal::Email);
                }
                at += 1;
            }
            FOLD => return Scan::NeedsFolding,
            _ => at += 1,
        }
    }
    Scan::Clean
}

/// A longest run of letters and digits.
struct ScrubToken {
    end: usize,
    /// How often it goes from letters to digits or back.
    turns: usize,
    digits: usize,
}

impl ScrubToken {
    fn read(text: &[u8], at: usize) -> Self {
        let mut token = Self { end: at, turns: 0, digits: 0 };
        let mut last = class(text, at);
        loop {
            let now = class(text, token.end);
            if now & (DIGIT | LETTER) == 0 {
                return token;
            }
            token.turns += usize::from(now != last);
            token.digits += usize::from(now == DIGIT);
            token.end += 1;
            last = now;
        }
    }
}

/// The first position from `at` that is not of this class.
fn skip(text: &[u8], mut at: usize, kind: u8) -> usize {
    while class(text, at) & kind != 0 {
        at += 1;
    }
    at
}

/// Whether a UUID stands at the beginning of a token: its groups of digits are no number's.
fn is_uuid(text: &[u8], at: usize) -> bool {
    let Some(uuid) = text.get(at..at + UUID_BYTES) else { return false };
    // Every byte is looked at, whatever the first is: random bytes cannot be predicted.
    let hex: u8 = uuid.iter().map(|byte| (CLASSES[usize::from(*byte)] & HEX) / HEX).sum();
    hex == 32 && [8, 13, 18, 23].iter().all(|dash| uuid[*dash] == b'-')
}

#[cold]
fn find_folded(text: &str) -> Option<Personal> {
    let mut room = [0; 256];
    let mut more;
    // No character grows when it is folded.
    let folded = if text.len() <= room.len() {
        &mut room[..]
    } else {
        more = vec![0; text.len()];
        &mut more[..]
    };
    let length = fold(text, folded);
    match scan(&folded[..length]) {
        Scan::Found(personal) => Some(personal),
        Scan::Clean | Scan::NeedsFolding => None,
    }
}

/// Writes `text` in ASCII: digits of other scripts as digits, letters as `a`, dashes and spaces as themselves, `%` escapes
/// as what they stand for, invisible characters not at all.
fn fold(text: &str, into: &mut [u8]) -> usize {
    let mut length = 0;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let byte = if c == '%' {
            let escaped = rest.as_str().get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match escaped {
                Some(byte) => {
                    rest.nth(1);
                    // Of a longer character that is spelt in escapes, each byte counts as a letter.
                    if byte.is_ascii() && byte != b'%' { byte } else { b'a' }
                }
                None => b'*',
            }
        } else {
            match fold_char(c) {
                Some(byte) => byte,
                None => continue,
            }
        };
        into[length] = byte;
        length += 1;
    }
    length
}

/// First digits of the scripts whose digits phones can type.
const ZEROS: [u32; 5] = [0xFF10, 0x0660, 0x06F0, 0x0966, 0x09E6];

fn fold_char(c: char) -> Option<u8> {
    let code = u32::from(c);
    if c.is_ascii() {
        return Some(c as u8);
    }
    if let Some(zero) = ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code)) {
        return Some(b'0' + (code - zero) as u8);
    }
    match c {
        '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}' => None,
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FE63}' | '\u{FF0D}' => Some(b'-'),
        '\u{FF0B}' => Some(b'+'),
        '\u{FF20}' | '\u{FE6B}' => Some(b'@'),
        '\u{FF0E}' | '\u{3002}' => Some(b'.'),
        '\u{FF08}' => Some(b'('),
        '\u{FF09}' => Some(b')'),
        c if c.is_whitespace() => Some(b' '),
        c if c.is_alphanumeric() => Some(b'a'),
        _ => Some(b'*'),
    }
}

#[cfg(test)]
mod tests;
