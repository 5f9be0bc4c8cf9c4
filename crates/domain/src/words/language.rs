//! The languages of people on the telephone, and how each writes numbers, amounts and shares.

/// A language reasons are written in. Its order is that of every list of words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Language {
    #[default]
    English,
    German,
    Spanish,
    French,
}

/// Keeps a number and its unit on one line.
const NO_BREAK: &str = "\u{a0}";

impl Language {
    pub const ALL: [Self; 4] = [Self::English, Self::German, Self::Spanish, Self::French];

    /// Its tag of two letters (BCP 47).
    pub fn tag(self) -> &'static str {
        ["en", "de", "es", "fr"][self as usize]
    }

    /// The language of a tag such as `de` or `de-AT`; `None` for one there are no words in.
    pub fn tagged(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    /// The first language of a list such as `fr-CH, fr;q=0.9, en;q=0.8` (RFC 9110, 12.5.4) that there are words in. Lists
    /// begin with what is wanted most, so weights are not compared.
    pub fn wanted(list: &str) -> Option<Self> {
        list.split(',').find_map(|entry| Self::tagged(entry.split(';').next()?.trim()))
    }

    /// A number with so many digits behind its decimal sign, thousands apart.
    pub fn number(self, value: f64, decimals: usize) -> String {
        let plain = format!("{:.decimals$}", value.abs());
        let (whole, part) = plain.split_once('.').unwrap_or((plain.as_str(), ""));
        let is_zero = plain.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        let mut text = String::from(if value < 0.0 && !is_zero { "-" } else { "" });
        for (at, digit) in whole.char_indices() {
            if at > 0 && (whole.len() - at).is_multiple_of(3) {
                text.push_str([",", ".", ".", "\u{202f}"][self as usize]);
            }
            text.push(digit);
        }
        if !part.is_empty() {
            text.push_str(if self == Self::English { "." } else { "," });
            text.push_str(part);
        }
        text
    }

    /// A number as it is said: whole as it is, else to one digit from 10 on and to two below.
    pub fn figure(self, value: f64) -> String {
        let decimals = match value.abs() {
            size if size.fract() == 0.0 || size >= 1000.0 => 0,
            size if size >= 10.0 => 1,
            _ => 2,
        };
        self.number(value, decimals)
    }

    /// US dollars: whole from 10 on, to the cent below.
    pub fn usd(self, amount: f64) -> String {
        self.usd_to(amount, if amount.abs() < 9.995 { 2 } else { 0 })
    }

    /// Whole US dollars: what is only estimated is not known to the cent.
    pub fn whole_usd(self, amount: f64) -> String {
        self.usd_to(amount, 0)
    }

    fn usd_to(self, amount: f64, decimals: usize) -> String {
        let number = self.number(amount.abs(), decimals);
        let sign = if self.number(amount, decimals).starts_with('-') { "-" } else { "" };
        match self {
            Self::English => format!("{sign}${number}"),
            Self::German => format!("{sign}{number}{NO_BREAK}$"),
            Self::Spanish => format!("{sign}{number}{NO_BREAK}US$"),
            Self::French => format!("{sign}{number}{NO_BREAK}$US"),
        }
    }

    /// A share from 0 to 1, in whole percent.
    pub fn percent(self, share: f64) -> String {
        let space = if self == Self::English { "" } else { NO_BREAK };
        format!("{}{space}%", self.number(100.0 * share, 0))
    }

    /// Points of a probability, to one digit.
    pub fn points(self, amount: f64) -> String {
        let unit = ["points", "Punkte", "puntos", "points"][self as usize];
        format!("{}{NO_BREAK}{unit}", self.number(amount, 1))
    }

    /// Whether a count takes the singular.
    pub(super) fn is_one(self, count: f64) -> bool {
        match self {
            Self::English | Self::German | Self::Spanish => count == 1.0,
            Self::French => count.abs() < 2.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_writes_numbers_its_own_way() {
        let written = |write: fn(Language) -> String| Language::ALL.map(write);
        assert_eq!(
            written(|of| of.number(1_234_567.891, 2)),
            ["1,234,567.89", "1.234.567,89", "1.234.567,89", "1\u{202f}234\u{202f}567,89"]
        );
        assert_eq!(written(|of| of.usd(68.4)), ["$68", "68\u{a0}$", "68\u{a0}US$", "68\u{a0}$US"]);
        assert_eq!(written(|of| of.usd(-4.5))[..2], ["-$4.50", "-4,50\u{a0}$"]);
        assert_eq!(written(|of| of.whole_usd(0.4))[..2], ["$0", "0\u{a0}$"]);
        assert_eq!(written(|of| of.percent(0.642))[..2], ["64%", "64\u{a0}%"]);
        assert_eq!(Language::German.points(3.25), "3,2\u{a0}Punkte");
    }

    #[test]
    fn figures_are_as_long_as_they_are_read() {
        let figure = |value| Language::English.figure(value);
        assert_eq!([48.0, 12.34, 0.655, 1234.5, -0.0].map(figure), ["48", "12.3", "0.66", "1,234", "0"]);
        assert_eq!((Language::English.usd(9.999), Language::English.usd(-0.001)), ("$10".into(), "$0.00".into()));
    }

    #[test]
    fn a_tag_names_a_language_with_or_without_a_region() {
        assert_eq!(
            ["de-AT", "FR", "es_MX", "en"].map(|tag| Language::tagged(tag).map(Language::tag)),
            [Some("de"), Some("fr"), Some("es"), Some("en")]
        );
        assert_eq!((Language::tagged("it"), Language::tagged("")), (None, None));
        assert_eq!(Language::wanted("it-CH, fr;q=0.9, en;q=0.8"), Some(Language::French));
        assert_eq!((Language::wanted("*"), Language::wanted("")), (None, None));
    }
}
