//! A feature's value as a caller gives it: a number, or the name of a category.

use scoreline_domain::template::is_unfilled;

/// One value, borrowed from the request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Number(f64),
    /// A category.
    Text(&'a str),
    /// Text from a place that knows no types, such as a data action or a CSV cell: the schema decides whether it is a
    /// number or a category.
    Typed(&'a str),
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl<'a> Value<'a> {
    /// Whether it stands for nothing: an empty text, or that of a template that nobody filled in.
    pub fn is_empty(self) -> bool {
        match self {
            Self::Number(_) => false,
            Self::Text(text) | Self::Typed(text) => text.trim().is_empty() || is_unfilled(text),
        }
    }

    /// The number it is.
    ///
    /// # Errors
    /// What is allowed, for a text. The text itself is not repeated: it may be personal.
    pub fn number(self) -> Result<f64, String> {
        let parsed = match self {
            Self::Number(number) => Some(number),
            Self::Text(_) => None,
            Self::Typed(text) => text.trim().parse().ok(),
        };
        parsed.ok_or_else(|| "must be a number".to_owned())
    }

    /// The category it names, without outer spaces; `None` for a number.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Number(_) => None,
            Self::Text(text) | Self::Typed(text) => Some(text.trim()),
        }
    }
}
