//! `scoreline models calibrate`: a bundle's model with intervals, tiers and baselines of one's own customers.

use std::path::PathBuf;

use clap::Args;

use super::super::{Failure, print};
use super::publish::{AcceptArgs, BundleArgs, version};
use super::{packing_load_settings, show};
use crate::config::Settings;
use crate::packing::calibrate::Grouping;
use crate::packing::pack::{Again, again};
use crate::packing::report::Progress;
use scoreline_domain::ModelVersion;

#[derive(Debug, Args)]
pub(in crate::cli) struct CalibrateArgs {
    /// The bundle to calibrate, e.g. models/clv/v1.3. Its model stays as it is
    bundle: PathBuf,
    /// Table of customers who did not fit the model, as `features export` writes it: those of split `calibration`
    /// calibrate, those of split `test` measure
    #[arg(long, value_name = "CSV")]
    features: PathBuf,
    /// Version of the calibrated bundle
    #[arg(long, value_parser = version)]
    version: ModelVersion,
    /// The feature that picks the calibration group; as in the bundle when left out
    #[arg(long, value_name = "FEATURE", requires = "group_starts")]
    group_by: Option<String>,
    /// Where its groups start
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "group_by")]
    group_starts: Option<Vec<f64>>,
    #[command(flatten)]
    accept: AcceptArgs,
    #[command(flatten)]
    publish: BundleArgs,
}

impl CalibrateArgs {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        let command = format!("scoreline models calibrate {} --version {}", self.bundle.display(), self.version);
        let grouping = self.group_by.zip(self.group_starts);
        let order = Again {
            load: packing_load_settings(settings),
            from: self.bundle,
            table: self.features,
            version: self.version,
            grouping: grouping.map(|(feature, starts)| Grouping {
                feature,
                with: Vec::new(),
                starts,
                value_starts: Vec::new(),
                miss_factors: Vec::new(),
                may_be_empty: false,
            }),
            command,
            trained_at: self.publish.trained_at(),
            accept: self.accept.accept,
        };
        let progress = Progress::new(1);
        progress.step("calibrating, measuring, writing");
        let trained = again(order, &self.publish.models(&settings.models.dir), self.publish.force)?;
        progress.done();
        print(&show(&trained, &self.publish)?)
    }
}
