//! Numbers and times as people read them.

use scoreline_domain::time::{Timestamp, seconds_between};

/// A count with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate, with a digit more where it is small.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        rate if rate >= 10.0 || rate <= 0.0 => count(rate.round() as u64),
        rate if rate < 0.1 => format!("{rate:.2}"),
        rate => format!("{rate:.1}"),
    }
}

/// A time in the unit that leaves the fewest digits; `seconds` of nothing is a dash.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds <= 0.0 => "–".to_owned(),
        seconds if seconds < 1e-3 => format!("{} µs", short(seconds * 1e6)),
        seconds if seconds < 1.0 => format!("{} ms", short(seconds * 1e3)),
        seconds if seconds < 120.0 => format!("{} s", short(seconds)),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.0} h", seconds / 3600.0),
        seconds => format!("{:.0} days", seconds / 86_400.0),
    }
}

fn short(number: f64) -> String {
    if number >= 9.95 {
        return format!("{number:.0}");
    }
    let digits = format!("{number:.1}");
    digits.strip_suffix(".0").map_or_else(|| digits.clone(), str::to_owned)
}

/// How long ago something was, to the second.
pub(super) fn age(at: Timestamp, now: Timestamp) -> String {
    match seconds_between(at, now) {
        0 => "0 s".to_owned(),
        seconds => duration(seconds as f64),
    }
}

/// A moment to the second, in UTC.
pub(super) fn moment(at: Timestamp) -> String {
    let second = Timestamp::from_second(at.as_second()).unwrap_or(at).to_string();
    second.trim_end_matches('Z').replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_may_be() {
        let counts = [0, 12, 999, 1000, 1_234_567].map(count);
        assert_eq!(counts, ["0", "12", "999", "1,000", "1,234,567"]);
        let durations = [0.0, 1e-6, 2.5e-6, 74e-6, 1.2e-3, 0.25, 90.0, 600.0, 7200.0, 259_200.0].map(duration);
        assert_eq!(durations, ["–", "1 µs", "2.5 µs", "74 µs", "1.2 ms", "250 ms", "90 s", "10 min", "2 h", "3 days"]);
        assert_eq!([0.0, 0.02, 0.25, 3.0, 1258.4].map(rate), ["0", "0.02", "0.2", "3.0", "1,258"]);
        let at = "2026-11-21T10:00:05.9Z".parse().expect("a time");
        assert_eq!(moment(at), "2026-11-21 10:00:05");
    }
}
