//! Colours of what a person reads: on a terminal that wants them, and nowhere else.

use std::io::{IsTerminal as _, stdout};

use crate::config;

/// Set to anything, it switches colours off (no-color.org).
const SWITCH: &str = "NO_COLOR";

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Caution,
    Bad,
    Heading,
    Aside,
}

/// Whether standard output gets colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Colours {
    pub(super) are_on: bool,
}

impl Colours {
    pub(super) fn of_output() -> Self {
        let is_unwanted = config::variable(SWITCH).is_some_and(|value| !value.is_empty());
        Self { are_on: stdout().is_terminal() && !is_unwanted }
    }

    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.are_on {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Caution => "33",
            Tone::Bad => "1;31",
            Tone::Heading => "1",
            Tone::Aside => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}
