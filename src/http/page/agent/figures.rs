//! Ages and days as people of each language write them. A page without script has no `Intl`, so the server does it.

use scoreline_domain::time::Timestamp;
use scoreline_domain::words::Language;

/// Between a number and what belongs to it: never broken.
const NO_BREAK: char = '\u{a0}';

/// A span in its largest unit, such as `19 h`.
pub(super) fn age(language: Language, seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..60 => (seconds, ["s", "Sek.", "s", "s"]),
        60..3600 => (seconds / 60, ["min", "Min.", "min", "min"]),
        3600..172_800 => (seconds / 3600, ["h", "Std.", "h", "h"]),
        _ => (seconds / 86_400, ["days", "Tagen", "días", "jours"]),
    };
    format!("{number}{NO_BREAK}{}", unit[language as usize])
}

const MONTHS: [[&str; 12]; 4] = [
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    ["Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez."],
    ["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sept", "oct", "nov", "dic"],
    ["janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc."],
];

/// A day in UTC; with its year where that is another than now.
pub(super) fn day(language: Language, time: Timestamp, now: Timestamp) -> String {
    let utc = |time: Timestamp| time.to_zoned(jiff::tz::TimeZone::UTC).date();
    let (date, today) = (utc(time), utc(now));
    let month = MONTHS[language as usize][date.month().unsigned_abs() as usize - 1];
    let dot = if language == Language::German { "." } else { "" };
    let text = format!("{}{dot}{NO_BREAK}{month}", date.day());
    if date.year() == today.year() { text } else { format!("{text}{NO_BREAK}{}", date.year()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        let english = |seconds| age(Language::English, seconds);
        assert_eq!(
            [0, 59, 60, 3599, 3600].map(english),
            ["0\u{a0}s", "59\u{a0}s", "1\u{a0}min", "59\u{a0}min", "1\u{a0}h"]
        );
        assert_eq!([172_799, 172_800].map(english), ["47\u{a0}h", "2\u{a0}days"]);
        assert_eq!(age(Language::German, 300_000), "3\u{a0}Tagen");
    }

    #[test]
    fn a_day_has_its_year_where_that_is_another() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let now = at("2026-11-28T10:00:00Z");
        let written = |time| Language::ALL.map(|language| day(language, at(time), now));
        assert_eq!(written("2026-11-27T23:59:59Z"), ["27\u{a0}Nov", "27.\u{a0}Nov.", "27\u{a0}nov", "27\u{a0}nov."]);
        assert_eq!(written("2025-08-01T00:00:00Z")[3], "1\u{a0}août\u{a0}2025");
    }
}
