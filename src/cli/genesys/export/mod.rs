//! `scoreline genesys export`: files for the platform, of which nothing is sent: a campaign for scores of leads, data actions that
//! ask for scores, the rules of the guides.

mod campaign;
mod data_action;
mod routing_rules;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::{Failure, print};
use crate::config::Settings;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ExportCommand {
    /// Print a contact list, rules and a campaign that calls leads by their score
    Campaign(campaign::Campaign),
    /// Print data actions that ask for scores, to import or for Terraform
    DataAction(data_action::DataAction),
    /// Print the routing rules of the guides for the tiers of the settings
    RoutingRules(routing_rules::RoutingRules),
}

impl ExportCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        match self {
            Self::Campaign(campaign) => campaign.run(settings),
            Self::DataAction(actions) => actions.run(settings),
            Self::RoutingRules(rules) => rules.run(settings),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    Json,
    Terraform,
    All,
}

// Its documentation would stand as that of the commands.
#[derive(Debug, Args)]
struct Target {
    /// Write files to this folder instead, and name them
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace files that are there already
    #[arg(long, requires = "out")]
    force: bool,
}

/// One file, and what to do with it.
struct Exported {
    name: String,
    purpose: Option<String>,
    text: String,
}

impl Exported {
    /// A file of another program, which knows what to do with it.
    fn new(name: impl Into<String>, text: String) -> Self {
        Self { name: name.into(), purpose: None, text }
    }

    /// A file on standard output, where others follow it.
    fn shown(&self) -> String {
        match &self.purpose {
            Some(purpose) => format!("# {}: {purpose}\n{}\n", self.name, self.text),
            None => self.text.clone(),
        }
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

impl Target {
    /// Writes the files to their folder or, where there is none, prints `whole`, or the files one after the other.
    fn put(&self, files: &[Exported], whole: Option<&Value>) -> Result<(), Failure> {
        match (&self.out, whole) {
            (Some(folder), _) => print(&write(folder, files, self.force)?),
            (None, Some(whole)) => print(&pretty(whole)),
            (None, None) => print(&files.iter().map(Exported::shown).collect::<String>()),
        }
    }
}

/// Writes all files or, where one is there already, none; says which.
fn write(folder: &Path, files: &[Exported], force: bool) -> Result<String, Failure> {
    let there: Vec<String> = files
        .iter()
        .map(|file| &file.name)
        .filter(|name| folder.join(name).exists())
        .map(|name| format!("`{name}`"))
        .collect();
    if !there.is_empty() && !force {
        let message = format!(
            "`--out`: {} already there, nothing was written: name another folder, or replace with `--force`",
            if let [one] = &there[..] { format!("{one} is") } else { format!("{} are", there.join(", ")) }
        );
        return Err(Failure::Usage(message));
    }
    let unwritten = || format!("`{}` cannot be written", folder.display());
    fs::create_dir_all(folder).with_context(unwritten)?;
    let mut text = String::new();
    for file in files {
        let path = folder.join(&file.name);
        let verb = if path.exists() { "replaced" } else { "wrote" };
        fs::write(&path, &file.text).with_context(|| format!("`{}` cannot be written", path.display()))?;
        let purpose = file.purpose.as_ref().map_or_else(String::new, |purpose| format!(": {purpose}"));
        let _ = writeln!(text, "{verb} {}{purpose}", path.display());
    }
    Ok(text)
}
