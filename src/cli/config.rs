//! `scoreline config check|show`: what is wrong with the settings, and what is in effect.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Subcommand;

use super::colours::{Colours, Tone};
use super::{Failure, print};
use crate::app;
use crate::config::{self, Effective, StrayVariable, ValueOrigin};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether the settings are valid, or everything that is wrong with them and the files they name
    #[command(after_help = "Example:\n  scoreline --config /etc/scoreline.toml config check")]
    Check,
    /// Print every setting in effect as TOML, secrets masked
    #[command(after_help = "Example:\n  SCORELINE__SCORING__DEADLINE=300ms scoreline config show --sources")]
    Show {
        /// Say at each setting where it came from
        #[arg(long)]
        sources: bool,
    },
}

impl ConfigCommand {
    /// Settings that are not valid do not get this far: they are refused when they are read.
    pub(super) fn run(self, effective: &Effective) -> Result<(), Failure> {
        match self {
            Self::Check => {
                let read = app::read_files(&effective.settings)?;
                print(&check(effective, &read, &config::stray_variables()))
            }
            Self::Show { sources } => print(&show(effective, sources, Colours::of_output())),
        }
    }
}

/// The settings as TOML; on a terminal, what is not a default stands out.
fn show(effective: &Effective, sources: bool, colours: Colours) -> String {
    if !colours.are_on {
        return effective.to_toml(sources);
    }
    let mut text = String::new();
    for line in effective.to_toml(true).lines() {
        let (setting, source) = line.rsplit_once("  # ").unwrap_or((line, ""));
        let is_default = source.is_empty() || source == ValueOrigin::Default.to_string();
        text += &match setting.chars().next() {
            Some('[') => colours.paint(Tone::Heading, setting),
            Some('#') => colours.paint(Tone::Aside, setting),
            Some(_) if !is_default => colours.paint(Tone::Good, setting),
            Some(_) | None => setting.to_owned(),
        };
        if sources && !source.is_empty() {
            text += &colours.paint(Tone::Aside, &format!("  # {source}"));
        }
        text.push('\n');
    }
    text
}

fn check(effective: &Effective, read: &[&str], strays: &[StrayVariable]) -> String {
    let mut keys: BTreeMap<&ValueOrigin, Vec<&str>> = BTreeMap::new();
    for entry in effective.entries.iter().filter(|entry| entry.value.is_some()) {
        keys.entry(&entry.origin).or_default().push(&entry.key);
    }
    let mut text = "settings are valid\n".to_owned();
    if !read.is_empty() {
        let _ = writeln!(text, "  files were read and are good: {}", read.join(", "));
    }
    for StrayVariable { variable, nearest } in strays {
        let _ = writeln!(
            text,
            "  environment variable `{variable}` is no setting and is ignored; the nearest is `{nearest}`"
        );
    }
    for (origin, keys) in keys {
        let _ = match origin {
            ValueOrigin::Default | ValueOrigin::NotSet => writeln!(text, "  {origin}: {} keys", keys.len()),
            ValueOrigin::File(_) | ValueOrigin::Environment(_) => writeln!(text, "  {origin}: {}", keys.join(", ")),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_add_nothing_to_what_is_read() {
        let variable = ("SCORELINE__MODELS__DIR".to_owned(), "a  # b".to_owned());
        let effective = config::explain(None, std::iter::once(variable)).expect("valid");
        for sources in [true, false] {
            let plain = show(&effective, sources, Colours { are_on: false });
            let painted = show(&effective, sources, Colours { are_on: true });
            let pieces = painted.split('\u{1b}').enumerate();
            let bare: String = pieces
                .map(|(place, piece)| if place == 0 { piece } else { piece.split_once('m').expect("a colour").1 })
                .collect();
            assert_eq!(bare, plain);
            assert!(painted.contains("\u{1b}[32mdir = \"a  # b\"\u{1b}[0m"), "{painted}");
            assert!(painted.contains("\u{1b}[1m[server]\u{1b}[0m"), "{painted}");
        }
    }
}
