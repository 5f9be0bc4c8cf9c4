//! What the commands that write a bundle have in common: where it goes, its report, and reasons for what is out of the
//! ordinary. Training uses the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::packing::assemble::Staged;
use crate::packing::html::{self, data::ReportData};
use scoreline_domain::time::{Clock as _, SystemClock, Timestamp};
use scoreline_domain::{ModelName, ModelVersion};

/// Where a bundle and its report go.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// Folder of all models; `models.dir` when left out
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// When the model was trained (RFC 3339); now, when it is not given
    #[arg(long, value_name = "TIME")]
    trained_at: Option<Timestamp>,
    /// Replace the version if it exists
    #[arg(long)]
    pub force: bool,
    /// Where the report goes; `reports/<model>-<version>.html` when it is not given
    #[arg(long, value_name = "HTML", conflicts_with = "no_report")]
    report: Option<PathBuf>,
    /// Write no report
    #[arg(long)]
    no_report: bool,
}

/// A reason to publish what makes no sense.
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// Publish although the total error is above 25 %, the decile error above 50 %, or rows that fitted the model judge it; the
    /// reason goes into the manifest
    #[arg(long, value_name = "REASON", value_parser = reason)]
    pub accept: Option<String>,
}

/// Columns that may look like leaks.
#[derive(Clone, Debug, Default, Args)]
pub struct AllowArgs {
    /// Accept a column that looks like a leak, and say why it is known in time; the reason goes into the bundle
    #[arg(long, value_name = "NAME=REASON", value_parser = named_reason)]
    allow: Vec<(String, String)>,
}

impl AllowArgs {
    /// Reasons by column.
    pub fn reasons(&self) -> BTreeMap<String, String> {
        self.allow.iter().cloned().collect()
    }
}

impl BundleArgs {
    /// The folder of all models, which is `default` unless another was given.
    pub fn models(&self, default: &Path) -> PathBuf {
        self.models.clone().unwrap_or_else(|| default.to_owned())
    }

    /// When the model was trained.
    pub fn trained_at(&self) -> Timestamp {
        self.trained_at.unwrap_or_else(|| SystemClock.now())
    }

    /// Puts a bundle in its place and writes its report, unless nobody wants one; says where both are.
    ///
    /// # Errors
    /// When either cannot be written.
    pub fn publish(&self, staged: &Staged, report: &ReportData) -> anyhow::Result<String> {
        let folder = staged.publish()?.display();
        if self.no_report {
            return Ok(format!("\npublished: {folder}\n"));
        }
        let manifest = &staged.manifest;
        let named = || PathBuf::from(format!("reports/{}-{}.html", manifest.name, manifest.version));
        let path = self.report.clone().unwrap_or_else(named);
        let problem = || format!("{folder} is published, but its report {} cannot be written", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(problem)?;
        }
        std::fs::write(&path, html::page(report)).with_context(problem)?;
        Ok(format!("\npublished: {folder}\nreport: {}\n", path.display()))
    }
}

/// The name of a model, for the command line.
///
/// # Errors
/// What a name may be.
pub fn name(text: &str) -> Result<ModelName, String> {
    ModelName::parse(text).map_err(|error| error.to_string())
}

/// A model's version, for the command line.
///
/// # Errors
/// What a version may be.
pub fn version(text: &str) -> Result<ModelVersion, String> {
    ModelVersion::parse(text).map_err(|error| error.to_string())
}

fn reason(text: &str) -> Result<String, String> {
    let reason = text.trim();
    if reason.is_empty() { Err("must say why".to_owned()) } else { Ok(reason.to_owned()) }
}

fn named_reason(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, why)) if !name.trim().is_empty() && !why.trim().is_empty() => {
            Ok((name.trim().to_owned(), why.trim().to_owned()))
        }
        _ => Err(format!("must look like `duration=known before the call`, got `{text}`")),
    }
}
