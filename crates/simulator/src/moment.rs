//! Moments as the platform writes them: UTC, to the millisecond. Pages hold tens of thousands, so they are written
//! without the calendar's machinery.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

pub(super) const DAY_MS: i64 = 86_400_000;

/// Milliseconds since 1970, of the years 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) i64);

impl Moment {
    /// Days since 1970.
    pub(super) fn day(self) -> i64 {
        self.0.div_euclid(DAY_MS)
    }

    pub(super) fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(Timestamp::MAX)
    }

    fn write(self, out: &mut [u8; 24]) -> &str {
        let (year, month, day) = civil(self.day());
        let of_day = self.0.rem_euclid(DAY_MS) as u32;
        out.copy_from_slice(b"0000-00-00T00:00:00.000Z");
        digits(&mut out[0..4], year);
        digits(&mut out[5..7], month);
        digits(&mut out[8..10], day);
        digits(&mut out[11..13], of_day / 3_600_000);
        digits(&mut out[14..16], of_day / 60_000 % 60);
        digits(&mut out[17..19], of_day / 1000 % 60);
        digits(&mut out[20..23], of_day % 1000);
        str::from_utf8(out).unwrap_or_default()
    }
}

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self(at.as_millisecond())
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.write(&mut [0; 24]))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.write(&mut [0; 24]))
    }
}

fn digits(out: &mut [u8], mut value: u32) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar: years begin in March, so that the leap day is the
/// last of its year, and 400 of them are one era of 146,097 days.
fn civil(day: i64) -> (u32, u32, u32) {
    let day = (day + 719_468) as u32;
    let era = day / 146_097;
    let of_era = day % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u32::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_calendar_has_them() {
        for day in (0..60_000).step_by(13).chain([11_016, 11_017, 19_782, 19_783]) {
            let moment = Moment(day * DAY_MS + 40_271_009 + day);
            assert_eq!(moment.to_string(), format!("{:.3}", moment.timestamp()));
        }
    }
}
