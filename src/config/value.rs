//! How one value is written: durations and sizes with units, addresses, names, secrets.
//!
//! A value from the environment arrives as text, so every type can be read from text as well as from TOML.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use toml::Value;

use crate::http::admission::WhenOverloaded;
use crate::telemetry::LogFormat;
use scoreline_domain::ModelName;

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// What is allowed, for the message: "must be ...".
    const ALLOWED: &'static str;
    /// Whether messages may repeat what was written.
    const SECRET: bool = false;

    fn read(value: &Value) -> Option<Self>;

    /// The value as TOML.
    fn render(&self) -> String;
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_largest_unit(self.0, &SIZE_UNITS))
    }
}

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl Setting for Duration {
    const ALLOWED: &'static str = "a duration with a unit, such as `500ms`, `10s`, `5m` or `24h`";

    fn read(value: &Value) -> Option<Self> {
        with_unit(value.as_str()?, &DURATION_UNITS).map(Self::from_millis)
    }

    fn render(&self) -> String {
        quoted(&in_largest_unit(self.as_millis() as u64, &DURATION_UNITS))
    }
}

impl Setting for Bytes {
    const ALLOWED: &'static str = "a size with a unit, such as `512B`, `64KiB`, `4MiB` or `1GiB`";

    fn read(value: &Value) -> Option<Self> {
        with_unit(value.as_str()?, &SIZE_UNITS).map(Self)
    }

    fn render(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for SocketAddr {
    const ALLOWED: &'static str =
        "an IP address and port such as `127.0.0.1:8080` or `[::1]:8080` (host names are not looked up)";

    fn read(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn render(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for bool {
    const ALLOWED: &'static str = "`true` or `false`";

    fn read(value: &Value) -> Option<Self> {
        value.as_bool().or_else(|| value.as_str()?.parse().ok())
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

impl Setting for u32 {
    const ALLOWED: &'static str = "a whole number from 0 to 4294967295";

    fn read(value: &Value) -> Option<Self> {
        let written = || value.as_str()?.parse().ok();
        value.as_integer().and_then(|n| Self::try_from(n).ok()).or_else(written)
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

impl Setting for f64 {
    const ALLOWED: &'static str = "a finite number";

    fn read(value: &Value) -> Option<Self> {
        let whole = || value.as_integer().map(|n| n as Self);
        let written = || value.as_str()?.parse().ok();
        value.as_float().or_else(whole).or_else(written).filter(|number: &Self| number.is_finite())
    }

    fn render(&self) -> String {
        Value::Float(*self).to_string()
    }
}

impl Setting for String {
    const ALLOWED: &'static str = "text that is not empty";

    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn render(&self) -> String {
        quoted(self)
    }
}

impl Setting for PathBuf {
    const ALLOWED: &'static str = "a path";

    fn read(value: &Value) -> Option<Self> {
        String::read(value).map(Self::from)
    }

    fn render(&self) -> String {
        quoted(&self.display().to_string())
    }
}

impl Setting for SecretString {
    const ALLOWED: &'static str = "text that is not empty";
    const SECRET: bool = true;

    fn read(value: &Value) -> Option<Self> {
        String::read(value).map(Self::from)
    }

    fn render(&self) -> String {
        quoted("********")
    }
}

impl Setting for ModelName {
    const ALLOWED: &'static str =
        "a model name: 1 to 64 letters, digits, `.`, `_` or `-`, starting with a letter or digit";

    fn read(value: &Value) -> Option<Self> {
        Self::parse(value.as_str()?).ok()
    }

    fn render(&self) -> String {
        quoted(self.as_str())
    }
}

impl Setting for WhenOverloaded {
    const ALLOWED: &'static str = "`fallback` or `refuse`";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "fallback" => Some(Self::Fallback),
            "refuse" => Some(Self::Refuse),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(match self {
            Self::Fallback => "fallback",
            Self::Refuse => "refuse",
        })
    }
}

impl Setting for LogFormat {
    const ALLOWED: &'static str = "`auto`, `human` or `json`";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "auto" => Some(Self::Auto),
            "human" => Some(Self::Human),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(match self {
            Self::Auto => "auto",
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

/// `text` as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// What was written, for a message.
pub(super) fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Integer(whole) => whole.to_string(),
        Value::Float(float) => float.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn in_largest_unit(amount: u64, units: &[(&str, u64)]) -> String {
    let fitting = units.iter().rev().find(|(_, factor)| amount > 0 && amount.is_multiple_of(*factor));
    let (unit, factor) = fitting.unwrap_or(&units[0]);
    format!("{}{unit}", amount / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(text: &str) -> Option<Duration> {
        Setting::read(&Value::from(text))
    }

    #[test]
    fn durations_need_a_unit_and_come_back_as_written() {
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("24h", 86_400_000), ("0ms", 0)] {
            let read = duration(text).expect(text);
            assert_eq!(read, Duration::from_millis(millis));
            assert_eq!(read.render(), format!("\"{text}\""));
        }
        for bad in ["500", "", "ms", "-1s", "1.5s", "10 parsecs", "99999999999999999999s", "9999999999999999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(Duration::read(&Value::from(500)), None, "a bare number");
    }

    #[test]
    fn sizes_are_binary_and_need_a_unit() {
        let size = |text: &str| Bytes::read(&Value::from(text)).map(|bytes| bytes.0);
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("4 MiB"), Some(4 << 20));
        assert_eq!(size("64KB"), None);
        assert_eq!(size("64"), None);
        assert_eq!(Bytes(1536).render(), "\"1536B\"");
        assert_eq!(Bytes(2048).render(), "\"2KiB\"");
    }

    #[test]
    fn numbers_are_read_from_toml_and_from_text() {
        assert_eq!(u32::read(&Value::from(7)), Some(7));
        assert_eq!(u32::read(&Value::from("7")), Some(7));
        assert_eq!(u32::read(&Value::from(-7)), None);
        assert_eq!(f64::read(&Value::from(1)), Some(1.0));
        assert_eq!(f64::read(&Value::from("0.25")), Some(0.25));
        assert_eq!(f64::read(&Value::from("nan")), None);
        assert_eq!(bool::read(&Value::from("true")), Some(true));
        assert_eq!(bool::read(&Value::from(1)), None);
    }
}
