//! Groups of digits with what people put between them: `4111 1111 1111 1111`, `(415) 555-0123`, `030/1234567`.

use super::{DIGIT, JOIN, LEAST_DIGITS, LETTER, Personal, ScrubToken, WIDEST_JOIN, card, class, is_uuid, skip};

/// Most groups of a run that are looked at together: a card number digit by digit has 19.
const MOST_GROUPS: usize = 24;

/// What stands directly beside a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Glue {
    /// Nothing, a space, or punctuation: the digits stand alone.
    Free,
    /// A name and a dash, or a time of day: the digits are a part of something longer.
    Joined,
    /// Letters only.
    Letters,
}

impl Glue {
    /// Of digits that begin at `digits`, in a token that begins at `token`.
    pub(super) fn before(text: &[u8], token: usize, digits: usize) -> Self {
        if token < digits {
            return Self::Letters;
        }
        // An opening bracket belongs to the number.
        let end = text[..token].iter().rposition(|byte| *byte != b'(').map_or(0, |last| last + 1);
        match text[..end] {
            [.., before, b'-' | b'_' | b'.' | b'#' | b'/'] if before.is_ascii_alphanumeric() => Self::Joined,
            [.., before, b':'] if before.is_ascii_digit() => Self::Joined,
            _ => Self::Free,
        }
    }

    /// Of digits that end before `end` and are not followed by a letter.
    fn after(text: &[u8], end: usize) -> Self {
        match text[end..] {
            [b'-' | b'_' | b'/' | b'.' | b'#', after, ..] if after.is_ascii_alphanumeric() => Self::Joined,
            [b':', after, ..] if after.is_ascii_digit() => Self::Joined,
            _ => Self::Free,
        }
    }
}

/// Where a group of digits begins and ends.
#[derive(Clone, Copy, Default)]
pub(super) struct DigitGroup {
    start: usize,
    end: usize,
}

impl DigitGroup {
    fn len(self) -> usize {
        self.end - self.start
    }
}

/// Groups of digits that may be one number.
pub(super) struct Run<'t> {
    text: &'t [u8],
    groups: [DigitGroup; MOST_GROUPS],
    count: usize,
    left: Glue,
    right: Glue,
}

impl<'t> Run<'t> {
    /// Reads the run that begins with the digit at `at`, and where to go on.
    pub(super) fn read(text: &'t [u8], mut at: usize, left: Glue) -> (Self, usize) {
        let mut run = Self { text, groups: [DigitGroup::default(); MOST_GROUPS], count: 0, left, right: Glue::Free };
        loop {
            let group = DigitGroup { start: at, end: skip(text, at, DIGIT) };
            if class(text, group.end) == LETTER {
                let ScrubToken { end, turns, .. } = ScrubToken::read(text, at);
                if turns > 1 {
                    // A made-up identifier. What came before it stands by itself.
                    run.right = Glue::Joined;
                } else {
                    run.push(group);
                    run.right = Glue::Letters;
                }
                return (run, end);
            }
            run.push(group);
            let next = skip(text, group.end, JOIN);
            let joined = next > group.end && next - group.end <= WIDEST_JOIN && class(text, next) == DIGIT;
            if !joined || run.count == MOST_GROUPS || is_uuid(text, next) {
                run.right = Glue::after(text, group.end);
                return (run, next.max(group.end));
            }
            at = next;
        }
    }

    fn push(&mut self, group: DigitGroup) {
        self.groups[self.count] = group;
        self.count += 1;
    }

    pub(super) fn judge(&self) -> Option<Personal> {
        if self.digits() <= LEAST_DIGITS {
            None
        } else if self.holds_card() {
            Some(Personal::Card)
        } else if self.holds(&[3, 2, 4]) {
            Some(Personal::SocialSecurity)
        } else if self.holds(&[3, 3, 4]) || self.is_national() {
            Some(Personal::Phone)
        } else {
            None
        }
    }

    fn groups(&self) -> &[DigitGroup] {
        &self.groups[..self.count]
    }

    fn digits(&self) -> usize {
        self.groups().iter().map(|group| group.len()).sum()
    }

    /// What stands before a group but the first.
    fn gap(&self, group: usize) -> &[u8] {
        &self.text[self.groups[group - 1].end..self.groups[group].start]
    }

    /// Whether neighbouring groups, as many as it takes, are a card number.
    fn holds_card(&self) -> bool {
        let groups = self.groups();
        // Random identifiers hold shorter numbers between letters now and then.
        let glued = |first, last| {
            (first == 0 && self.left == Glue::Letters) || (last + 1 == groups.len() && self.right == Glue::Letters)
        };
        (0..groups.len()).any(|first| {
            let mut digits = [0; *card::LENGTHS.end()];
            let mut length = 0;
            for (last, group) in groups.iter().enumerate().skip(first) {
                let Some(room) = digits.get_mut(length..length + group.len()) else { return false };
                room.copy_from_slice(&self.text[group.start..group.end]);
                length += group.len();
                if card::is_card(&digits[..length]) && (matches!(length, 15 | 16) || !glued(first, last)) {
                    return true;
                }
            }
            false
        })
    }

    /// Whether neighbouring groups have these lengths.
    fn holds(&self, lengths: &[usize]) -> bool {
        self.groups()
            .windows(lengths.len())
            .any(|groups| groups.iter().map(|group| group.len()).eq(lengths.iter().copied()))
    }

    /// Whether the whole run is a number as it is dialled within a country.
    fn is_national(&self) -> bool {
        if self.left != Glue::Free || self.right != Glue::Free {
            return false;
        }
        if self.count == 1 {
            return is_plain_national(&self.text[self.groups[0].start..self.groups[0].end]);
        }
        let (groups, digits) = (self.groups(), self.digits());
        let lengths = || groups.iter().map(|group| group.len());
        let split = lengths().skip(1).all(|length| length >= 2);
        let gaps = || (1..groups.len()).map(|group| self.gap(group));
        let first = &self.text[groups[0].start..groups[0].end];

        let trunk = is_trunk(first, digits) && (9..=17).contains(&digits) && (2..=6).contains(&first.len());
        let date = lengths().take(3).eq([2, 2, 4]);
        if trunk && split && !date {
            return true;
        }
        // Digits set apart by spaces or an area code in brackets; a dash between spaces is from one number to another.
        let spaced = gaps().any(|gap| gap.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b')'));
        let range = gaps().any(|gap| gap == b" - ");
        let pairs = digits == 8 && groups.len() == 4 && lengths().all(|length| length == 2);
        let years = groups.iter().all(|group| {
            let text = &self.text[group.start..group.end];
            text.len() == 4 && (text.starts_with(b"19") || text.starts_with(b"20"))
        });
        spaced && split && !range && !years && !date && ((9..=15).contains(&digits) || pairs)
    }
}

/// Whether these digits, which nothing sets apart, are dialled within a country: a North American number, or one behind
/// the prefix 0 or 00. Other plain numbers are too often a customer's number.
fn is_plain_national(digits: &[u8]) -> bool {
    let american = |digits: &[u8]| digits.len() == 10 && digits[0] >= b'2' && digits[3] >= b'2';
    match digits {
        [b'1', rest @ ..] if american(rest) => true,
        [b'0', b'0', ..] => (11..=17).contains(&digits.len()) && is_trunk(digits, digits.len()),
        [b'0', ..] => (10..=12).contains(&digits.len()) && is_trunk(digits, digits.len()),
        _ => american(digits),
    }
}

/// Whether a number begins with the prefix for other areas, or for other countries.
fn is_trunk(first: &[u8], digits: usize) -> bool {
    match first {
        [b'0', b'0'] => digits >= 10,
        [b'0', b'0', country, ..] => *country != b'0' && digits >= 10,
        [b'0', area, ..] => *area != b'0',
        _ => false,
    }
}

/// Whether the `+` at `at` begins a number in international form.
pub(super) fn is_international(text: &[u8], at: usize) -> bool {
    let mut digits = 0;
    let mut unbroken = 0;
    let mut next = at + 1;
    // The bracket of a country code.
    if matches!(text.get(next), Some(b'(' | b' ')) {
        next += 1;
    }
    if !matches!(text.get(next), Some(b'1'..=b'9')) {
        return false;
    }
    let end = loop {
        let end = skip(text, next, DIGIT);
        digits += end - next;
        if unbroken == 0 {
            unbroken = digits;
        }
        next = skip(text, end, JOIN);
        if next == end || next - end > WIDEST_JOIN || class(text, next) != DIGIT {
            break end;
        }
    };
    // `(0)` may stand for the prefix that is left out from abroad.
    let fits = (7..=16).contains(&digits);
    let ends = match text.get(end) {
        // An extension.
        Some(b'x' | b'X' | b'e' | b'E') => true,
        _ => class(text, end) != LETTER,
    };
    // In Base64 a plus is a character like any other.
    let begins = at == 0 || !(text[at - 1].is_ascii_alphanumeric() || matches!(text[at - 1], b'+' | b'/'));
    fits && ends && (begins || unbroken >= 10)
}
