//! What a column or a field says, read with some patience: people and importers write them too.

use super::SeenScore;
use scoreline_domain::time::Timestamp;

/// So much of somebody else's value is told.
const TOLD: usize = 40;

/// A score as text: `87`, ` 87 ` and `87.0` are the same; nothing is no score; anything else is somebody else's.
pub(crate) fn score(score: Option<&str>, time: Option<&str>) -> SeenScore {
    let text = score.map_or("", str::trim);
    if text.is_empty() {
        return SeenScore::Never;
    }
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=100.0).contains(number) && number.fract() == 0.0);
    match number {
        Some(number) => {
            // Within 0 and 100, and whole.
            let score = number as u8;
            SeenScore::At { score, calculated_at: time.and_then(moment) }
        }
        None => SeenScore::Foreign { value: text.chars().take(TOLD).collect::<String>().into() },
    }
}

/// A time as we write it, or as others do: with or without a fraction, of any offset.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    text.trim().parse().ok()
}

/// A time as it is written: to the millisecond.
pub(super) fn written(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_read_however_it_is_written() {
        let time = Some("2026-11-28T10:00:00.123Z");
        let at = SeenScore::At { score: 87, calculated_at: time.and_then(moment) };
        for text in ["87", " 87 ", "87.0", "+87", "8.7e1"] {
            assert_eq!(score(Some(text), time), at, "{text}");
        }
        for text in [None, Some(""), Some("  ")] {
            assert_eq!(score(text, time), SeenScore::Never);
        }
        for text in ["n/a", "87.5", "101", "-1", "NaN", "inf", "87%"] {
            assert!(matches!(score(Some(text), time), SeenScore::Foreign { .. }), "{text}");
        }
        let SeenScore::Foreign { value } = score(Some(&"ä".repeat(500)), None) else { panic!("foreign") };
        assert_eq!(value.chars().count(), TOLD);
        for odd in [None, Some(""), Some("yesterday"), Some("0")] {
            assert_eq!(score(Some("0"), odd), SeenScore::At { score: 0, calculated_at: None });
        }
        assert_eq!(moment("2026-11-28T12:00:00+02:00"), moment(" 2026-11-28T10:00:00Z "));
        assert_eq!(moment("2026-11-28T10:00:00.123Z").map(written).as_deref(), Some("2026-11-28T10:00:00.123Z"));
    }
}
