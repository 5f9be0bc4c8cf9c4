//! Payment card numbers: scheme by first digits and length, then the check digit.

/// Fewest and most digits of a card number.
pub(super) const LENGTHS: std::ops::RangeInclusive<usize> = 13..=19;

/// Whether `digits` (ASCII) are a card number. Ranges as the schemes publish them; several overlap.
pub(super) fn is_card(digits: &[u8]) -> bool {
    LENGTHS.contains(&digits.len()) && has_scheme(digits) && passes_luhn(digits)
}

fn has_scheme(digits: &[u8]) -> bool {
    let first_four = digits[..4].iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    let length = digits.len();
    match first_four {
        // Visa.
        4000..=4999 => matches!(length, 13 | 16 | 18 | 19),
        // American Express.
        3400..=3499 | 3700..=3799 => length == 15,
        // Diners Club.
        3000..=3059 | 3090..=3099 | 3600..=3699 | 3800..=3999 => matches!(length, 14 | 16..=19),
        // Mastercard.
        5100..=5599 | 2221..=2720 => length == 16,
        // Maestro, Verve and other debit schemes.
        5000..=5099 | 5600..=5899 | 6304 | 6390 | 6759 | 6761..=6763 => true,
        // JCB; Mir; Discover, UnionPay, RuPay, Maestro; Troy.
        3528..=3589 | 2200..=2204 | 6000..=6999 | 8100..=8299 | 9792 => length >= 16,
        _ => false,
    }
}

/// Every second digit from the right but one doubled, digits summed: a multiple of ten.
fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(position, digit)| {
            let digit = u32::from(digit - b'0');
            match (position % 2, digit) {
                (0, digit) => digit,
                (_, digit @ 0..=4) => 2 * digit,
                (_, digit) => 2 * digit - 9,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}
