//! When a window of scored rows is complete, and how windows become alarms. Pure: told the time, reads none.

use std::time::Duration;

/// A change of an alarm takes this many windows in a row, up as well as down.
const IN_A_ROW: u8 = 2;

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSettings {
    /// A window is complete when it is this old and holds `least_rows`; with fewer it stays open.
    pub length: Duration,
    pub least_rows: u64,
    /// A window is complete with this many rows, however young.
    pub most_rows: u64,
}

impl WindowSettings {
    pub fn is_complete(&self, age_seconds: u64, rows: u64) -> bool {
        rows >= self.most_rows || (rows >= self.least_rows && age_seconds >= self.length.as_secs())
    }
}

/// An alarm that one window alone neither raises nor clears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarm {
    raised: bool,
    /// Windows in a row that speak for the other state.
    against: u8,
}

/// What a window changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmChange {
    Raised,
    Cleared,
}

impl Alarm {
    pub fn is_raised(self) -> bool {
        self.raised
    }

    /// Takes in one more window, whose index was high or not.
    pub fn step(&mut self, high: bool) -> Option<AlarmChange> {
        if high == self.raised {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < IN_A_ROW {
            return None;
        }
        *self = Self { raised: high, against: 0 };
        Some(if high { AlarmChange::Raised } else { AlarmChange::Cleared })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_windows_in_a_row_raise_and_two_clear() {
        let mut alarm = Alarm::default();
        let steps = [true, false, true, true, true, false, true, false, false, false].map(|high| alarm.step(high));
        let raised = steps.iter().position(|step| *step == Some(AlarmChange::Raised));
        let cleared = steps.iter().position(|step| *step == Some(AlarmChange::Cleared));
        assert_eq!((raised, cleared), (Some(3), Some(8)), "{steps:?}");
        assert_eq!(steps.iter().flatten().count(), 2);
        assert!(!alarm.is_raised());
    }

    #[test]
    fn a_window_ends_by_time_with_enough_rows_or_by_rows() {
        let settings = WindowSettings { length: Duration::from_hours(24), least_rows: 500, most_rows: 10_000 };
        let day = 24 * 3600;
        assert!(!settings.is_complete(day, 499), "stays open until it says something");
        assert!(settings.is_complete(day, 500));
        assert!(!settings.is_complete(day - 1, 9_999));
        assert!(settings.is_complete(0, 10_000));
    }
}
