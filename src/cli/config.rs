//! `scoreline config check|show`: what is wrong with the settings, and what is in effect.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Subcommand;

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
            Self::Show { sources } => print(&effective.to_toml(sources)),
        }
    }
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
