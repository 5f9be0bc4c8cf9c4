//! International bank account numbers: a country, two check digits, and that country's length.

/// Length by country, from the register of ISO 13616; sorted.
const LENGTHS: [([u8; 2], u8); 77] = [
    (*b"AD", 24),
    (*b"AE", 23),
    (*b"AL", 28),
    (*b"AT", 20),
    (*b"AZ", 28),
    (*b"BA", 20),
    (*b"BE", 16),
    (*b"BG", 22),
    (*b"BH", 22),
    (*b"BR", 29),
    (*b"BY", 28),
    (*b"CH", 21),
    (*b"CR", 22),
    (*b"CY", 28),
    (*b"CZ", 24),
    (*b"DE", 22),
    (*b"DK", 18),
    (*b"DO", 28),
    (*b"EE", 20),
    (*b"EG", 29),
    (*b"ES", 24),
    (*b"FI", 18),
    (*b"FO", 18),
    (*b"FR", 27),
    (*b"GB", 22),
    (*b"GE", 22),
    (*b"GI", 23),
    (*b"GL", 18),
    (*b"GR", 27),
    (*b"GT", 28),
    (*b"HR", 21),
    (*b"HU", 28),
    (*b"IE", 22),
    (*b"IL", 23),
    (*b"IQ", 23),
    (*b"IS", 26),
    (*b"IT", 27),
    (*b"JO", 30),
    (*b"KW", 30),
    (*b"KZ", 20),
    (*b"LB", 28),
    (*b"LC", 32),
    (*b"LI", 21),
    (*b"LT", 20),
    (*b"LU", 20),
    (*b"LV", 21),
    (*b"LY", 25),
    (*b"MC", 27),
    (*b"MD", 24),
    (*b"ME", 22),
    (*b"MK", 19),
    (*b"MR", 27),
    (*b"MT", 31),
    (*b"MU", 30),
    (*b"NL", 18),
    (*b"NO", 15),
    (*b"PK", 24),
    (*b"PL", 28),
    (*b"PS", 29),
    (*b"PT", 25),
    (*b"QA", 29),
    (*b"RO", 24),
    (*b"RS", 22),
    (*b"SA", 24),
    (*b"SC", 31),
    (*b"SE", 24),
    (*b"SI", 19),
    (*b"SK", 24),
    (*b"SM", 27),
    (*b"ST", 25),
    (*b"SV", 28),
    (*b"TL", 23),
    (*b"TN", 24),
    (*b"TR", 26),
    (*b"UA", 29),
    (*b"VA", 22),
    (*b"XK", 20),
];
/// Every country's account number has at least this many digits; words and random identifiers seldom do.
const LEAST_DIGITS: usize = 8;

/// Whether an IBAN stands at the beginning of a token, in one piece or in groups.
pub(super) fn is_at(text: &[u8], at: usize) -> bool {
    let Some([a, b, c, d]) = text.get(at..at + 4) else { return false };
    if !(a.is_ascii_alphabetic() && b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit()) {
        return false;
    }
    let country = [a.to_ascii_uppercase(), b.to_ascii_uppercase()];
    let Ok(known) = LENGTHS.binary_search_by_key(&country, |(country, _)| *country) else { return false };
    let length = usize::from(LENGTHS[known].1);

    let mut account = [0; 34];
    let mut read = 0;
    let mut rest = text[at..].iter().enumerate();
    while read < length {
        match rest.next() {
            Some((_, byte)) if byte.is_ascii_alphanumeric() => {
                account[read] = byte.to_ascii_uppercase();
                read += 1;
            }
            Some((position, b' ' | b'-')) if text[at + position - 1].is_ascii_alphanumeric() => {}
            Some(_) | None => return false,
        }
    }
    let ends = !rest.next().is_some_and(|(_, byte)| byte.is_ascii_alphanumeric());
    let account = &account[..length];
    let digits = account[4..].iter().filter(|byte| byte.is_ascii_digit()).count();
    // The countries that can be written in hexadecimal have numbers without letters: this is something else.
    let hexadecimal = account.iter().all(u8::is_ascii_hexdigit) && length - 4 - digits > 2;
    ends && digits >= LEAST_DIGITS && !hexadecimal && checks(account)
}

/// The first four characters moved to the end, letters as 10 to 35: a remainder of 1 by 97.
fn checks(account: &[u8]) -> bool {
    let (head, tail) = account.split_at(4);
    let remainder = tail.iter().chain(head).fold(0_u32, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    remainder == 1
}
