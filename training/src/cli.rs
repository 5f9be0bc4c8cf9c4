//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use scoreline::domain::time::{Clock as _, SystemClock, Timestamp};
use scoreline::domain::{ModelName, ModelVersion};
use scoreline::inference::manifest::BackendKind;

use crate::lead;
use crate::pack::{self, Mapping, Pack};
use crate::report::{self, Progress};
use crate::train::{self, Run, Source, Which};

/// Trains, calibrates and packs the model bundles that scoreline serves.
///
/// Run it from the repository's root; a run takes seconds:
///
///   cargo run -p scoreline-training -- clv-purchases --version v1.1
///
/// A run with the same seed on the same data writes the same model. A bundle appears in `models/` complete or not at
/// all, and never over an existing version unless `--force` is given.
#[derive(Debug, Parser)]
#[command(name = "scoreline-training", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train `clv-purchases`: spend in the next 273 days from real purchase history (CDNOW).
    ClvPurchases(TrainArgs),
    /// Train `clv`: the same outcome from contact-centre interactions, simulated around the real purchase customers.
    Clv(ClvArgs),
    /// Train `lead`: probability of a sale and priority of outbound calls, from real campaign data (Bank Marketing).
    Lead(LeadArgs),
    /// Retrain `lead` on the newest rows of a file and publish it under the day, unless it is worse than what serves.
    LeadNightly(NightlyArgs),
    /// Write the table a model is trained on as CSV, for training elsewhere and `pack`.
    Features(FeaturesArgs),
    /// Make a bundle of a model trained elsewhere: calibrate it, measure it, write its manifest and golden rows.
    Pack(Box<PackArgs>),
}

#[derive(Debug, Args)]
struct DataArgs {
    /// The CDNOW purchase file.
    #[arg(long, value_name = "CSV", default_value = "training/data/cdnow/transactions_dev.csv")]
    data: PathBuf,
    /// Decides everything simulated. The split into fit, calibration and test is by customer and does not depend on it.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

#[derive(Debug, Args)]
struct BundleArgs {
    /// Folder of all models.
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
    /// When the model was trained (RFC 3339); now, when it is not given.
    #[arg(long, value_name = "TIME")]
    trained_at: Option<Timestamp>,
    /// Replace the version if it exists.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct TrainArgs {
    /// Version of the bundle.
    #[arg(long, default_value = "v1.0", value_parser = version)]
    version: ModelVersion,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    bundle: BundleArgs,
}

#[derive(Debug, Args)]
struct ClvArgs {
    /// Version of the bundle.
    #[arg(long, default_value = "v1.2", value_parser = version)]
    version: ModelVersion,
    /// How much the simulated satisfaction knows of the real outcome, 0 to 1. 0 is the null set: nothing may be gained.
    #[arg(long, default_value_t = 0.3, value_parser = rho)]
    rho: f64,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    bundle: BundleArgs,
}

#[derive(Debug, Args)]
struct LeadArgs {
    /// Version of the bundle.
    #[arg(long, default_value = "v1.0", value_parser = version)]
    version: ModelVersion,
    /// Leads in date order, oldest first.
    #[arg(long, value_name = "CSV", default_value = "training/data/bank_marketing/bank_additional_dev.csv")]
    data: PathBuf,
    /// Newest rows that each retraining of the evaluation is fitted on.
    #[arg(long, value_name = "ROWS", default_value_t = lead::WINDOW)]
    window: usize,
    /// The evaluation with retraining ends after this time.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time_limit: u64,
    #[command(flatten)]
    bundle: BundleArgs,
}

#[derive(Debug, Args)]
struct NightlyArgs {
    /// Leads in date order, newest last.
    #[arg(long, value_name = "CSV")]
    data: PathBuf,
    /// Newest rows that the model is fitted on.
    #[arg(long, value_name = "ROWS", default_value_t = lead::WINDOW)]
    window: usize,
    /// Newest rows that are first held out to compare with the serving version.
    #[arg(long, value_name = "ROWS", default_value_t = 1000)]
    holdout: usize,
    /// How much worse than the serving version AUC and calibration error may be on them.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.02)]
    margin: f64,
    #[command(flatten)]
    bundle: BundleArgs,
}

#[derive(Debug, Args)]
struct FeaturesArgs {
    /// Whose table.
    which: Table,
    /// Where to write it. Columns: customer, split, the features (empty = missing), `spend_usd`, `acquisition_channel`,
    /// segment.
    #[arg(long, short, value_name = "CSV")]
    output: PathBuf,
    /// As for `clv`.
    #[arg(long, default_value_t = 0.3, value_parser = rho)]
    rho: f64,
    #[command(flatten)]
    data: DataArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Table {
    ClvPurchases,
    Clv,
}

#[derive(Debug, Args)]
struct PackArgs {
    /// The model file: ONNX, smartcore's or scoreline's own JSON. It reads the features raw, in the table's order.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Table of customers, as `features` writes it. Only the columns the model reads, in its order.
    #[arg(long, value_name = "CSV")]
    features: PathBuf,
    #[arg(long, value_parser = name)]
    name: ModelName,
    #[arg(long, value_parser = version)]
    version: ModelVersion,
    /// What runs the model.
    #[arg(long)]
    backend: BackendName,
    /// Which output of the model is what: `value` (required), `risk`, `low`, `high`, `log_mean`, `log_sigma`.
    #[arg(long = "output", value_name = "MEANING=OUTPUT", value_parser = mapping, required = true)]
    outputs: Vec<Mapping>,
    /// A last step for an output: identity, exp, expm1, complement or sigmoid.
    #[arg(long = "apply", value_name = "MEANING=STEP", value_parser = mapping)]
    applies: Vec<Mapping>,
    /// Features a request must give.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    required: Vec<String>,
    /// Leave missing values to the model instead of imputing the mean.
    #[arg(long)]
    missing_to_model: bool,
    /// The feature that picks the calibration group, and where its groups start.
    #[arg(long, value_name = "FEATURE", default_value = "purchase_count")]
    group_by: String,
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "1,2,4")]
    group_starts: Vec<f64>,
    /// A customer with 0 here has no history.
    #[arg(long, value_name = "FEATURE", default_value = "purchase_count")]
    cold_start_feature: String,
    #[arg(long, value_name = "DAYS", default_value_t = crate::cohort::HORIZON_DAYS)]
    horizon_days: u32,
    /// One sentence for people.
    #[arg(long, default_value = "")]
    description: String,
    /// What the model was trained on.
    #[arg(long, default_value = "")]
    data: String,
    /// What of it was simulated.
    #[arg(long, default_value = "")]
    synthetic: String,
    /// Its licence.
    #[arg(long, default_value = "")]
    licence: String,
    #[command(flatten)]
    bundle: BundleArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendName {
    Trees,
    Linear,
    Onnx,
    Smartcore,
}

/// Does what the command line says.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::ClvPurchases(TrainArgs { version, data, bundle }) => {
            let command = format!("scoreline-training clv-purchases --version {version} --seed {}", data.seed);
            train(Which::ClvPurchases, version, 0.0, data, &bundle, command)
        }
        Command::Clv(ClvArgs { version, rho, data, bundle }) => {
            let seed = data.seed;
            let command = format!("scoreline-training clv --version {version} --seed {seed} --rho {rho}");
            train(Which::Clv, version, rho, data, &bundle, command)
        }
        Command::Lead(args) => train_lead(args),
        Command::LeadNightly(args) => nightly(args),
        Command::Features(FeaturesArgs { which, output, rho, data }) => {
            let which = match which {
                Table::ClvPurchases => Which::ClvPurchases,
                Table::Clv => Which::Clv,
            };
            let progress = Progress::new(2);
            let source = Source { which, purchases: data.data, seed: data.seed, rho };
            let (_, table, _) = train::data(&source, &progress)?;
            progress.done();
            table.write(&output)?;
            say(&format!("{} customers, {} features: {}", table.rows.len(), table.features.len(), output.display()))
        }
        Command::Pack(args) => pack(*args),
    }
}

fn train(
    which: Which,
    version: ModelVersion,
    rho: f64,
    data: DataArgs,
    bundle: &BundleArgs,
    command: String,
) -> anyhow::Result<()> {
    let run = Run {
        source: Source { which, purchases: data.data, seed: data.seed, rho },
        version,
        models: bundle.models.clone(),
        trained_at: trained_at(bundle),
        replace: bundle.force,
        command,
    };
    let progress = Progress::new(5);
    let trained = train::train(&run, &progress)?;
    progress.done();
    report::print(&trained.staged, &trained.compared)?;
    published(trained.staged.publish()?)
}

fn train_lead(args: LeadArgs) -> anyhow::Result<()> {
    let run = lead::Run {
        command: format!("scoreline-training lead --version {}", args.version),
        trained_at: trained_at(&args.bundle),
        data: args.data,
        version: args.version,
        models: args.bundle.models,
        replace: args.bundle.force,
        window: args.window,
        limit: Duration::from_secs(args.time_limit),
    };
    let progress = Progress::new(lead::TRAIN_STEPS);
    let (staged, measured) = lead::train(&run, &progress)?;
    progress.done();
    say(&measured)?;
    published(staged.publish()?)
}

fn nightly(args: NightlyArgs) -> anyhow::Result<()> {
    let run = lead::Nightly {
        command: "scoreline-training lead-nightly".to_owned(),
        trained_at: trained_at(&args.bundle),
        data: args.data,
        models: args.bundle.models,
        replace: args.bundle.force,
        window: args.window,
        holdout: args.holdout,
        margin: args.margin,
    };
    let progress = Progress::new(lead::NIGHTLY_STEPS);
    let (staged, measured) = lead::nightly(&run, &progress)?;
    progress.done();
    say(&measured)?;
    published(staged.publish()?)
}

fn pack(args: PackArgs) -> anyhow::Result<()> {
    let trained_at = trained_at(&args.bundle);
    let command = format!("scoreline-training pack --name {} --version {}", args.name, args.version);
    let pack = Pack {
        model: args.model,
        table: args.features,
        name: args.name,
        version: args.version,
        backend: match args.backend {
            BackendName::Trees => BackendKind::Trees,
            BackendName::Linear => BackendKind::Linear,
            BackendName::Onnx => BackendKind::Onnx,
            BackendName::Smartcore => BackendKind::Smartcore,
        },
        outputs: pack::outputs(&args.outputs, &args.applies)?,
        required: args.required,
        missing_to_model: args.missing_to_model,
        group_by: args.group_by,
        group_starts: args.group_starts,
        cold_start_feature: args.cold_start_feature,
        horizon_days: args.horizon_days,
        description: args.description,
        data: args.data,
        synthetic: args.synthetic,
        licence: args.licence,
        command,
        trained_at,
    };
    let progress = Progress::new(2);
    progress.step("calibrating, measuring, writing");
    let staged = pack::pack(pack, &args.bundle.models, args.bundle.force)?;
    progress.done();
    report::print(&staged, &[])?;
    published(staged.publish()?)
}

fn trained_at(bundle: &BundleArgs) -> Timestamp {
    bundle.trained_at.unwrap_or_else(|| SystemClock.now())
}

fn published(folder: &Path) -> anyhow::Result<()> {
    say(&format!("\npublished: {}", folder.display()))
}

fn say(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").context("can not write to standard output")
}

fn name(text: &str) -> Result<ModelName, String> {
    ModelName::parse(text).map_err(|error| error.to_string())
}

fn version(text: &str) -> Result<ModelVersion, String> {
    ModelVersion::parse(text).map_err(|error| error.to_string())
}

fn rho(text: &str) -> Result<f64, String> {
    let rho = text.parse().map_err(|_| format!("must be a number from 0 to 1, got `{text}`"))?;
    if (0.0..=1.0).contains(&rho) { Ok(rho) } else { Err(format!("must be from 0 to 1, got `{rho}`")) }
}

fn mapping(text: &str) -> Result<Mapping, String> {
    match text.split_once('=') {
        Some((meaning, value)) if !meaning.is_empty() && !value.is_empty() => {
            Ok(Mapping { meaning: meaning.to_owned(), value: value.to_owned() })
        }
        _ => Err(format!("must look like `value=variable`, got `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_checked_at_the_edge() {
        assert_eq!(rho("1.5"), Err("must be from 0 to 1, got `1.5`".to_owned()));
        assert!(mapping("value").is_err() && mapping("=x").is_err() && mapping("value=variable").is_ok());
        assert!(version("../v1").is_err());
    }
}
