//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use scoreline::cli::models::{AcceptArgs, AllowArgs, BundleArgs, version};
use scoreline::packing::html;
use scoreline::packing::report::{self, Progress};
use scoreline_domain::ModelVersion;
use scoreline_engine::inference::bundle::{LoadSettings, ModelSnapshot};

use crate::cdnow;
use crate::compare::{self, Comparison, Format, Python};
use crate::flips;
use crate::lead;
use crate::leaks::command::{self as check, CheckArgs};
use crate::train::{self, Run, Source, Which};

/// Folder of all models, below the repository's root.
const MODELS: &str = "models";

/// Trains the model bundles that scoreline serves. A model of your own needs none of it: `scoreline models pack`.
///
/// Run it from the repository's root; a run takes seconds:
///
///   cargo run -p scoreline-training -- clv-purchases --version v1.1
///
/// A run with the same seed on the same data writes the same model. A bundle appears in `models/` complete or not at
/// all, and never over an existing version unless `--force` is given.
#[derive(Debug, Parser)]
#[command(name = "scoreline-training", version)]
pub(crate) struct Cli {
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
    /// Measure the shipped recipe of `clv-purchases` beside heuristics, purchase models, regressions and trees, on CDNOW
    /// and Online Retail, and print the table.
    Compare(CompareArgs),
    /// Write the table a model is trained on as CSV, for training elsewhere and `scoreline models pack`.
    Features(FeaturesArgs),
    /// Show how often tiers would change in a year of rescoring, with and without the dead band.
    Flips(FlipsArgs),
    /// Look for columns that know the outcome, in any CSV. Training does so by itself.
    Check(CheckArgs),
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
struct TrainArgs {
    /// Version of the bundle.
    #[arg(long, default_value = "v1.0", value_parser = version)]
    version: ModelVersion,
    /// The run is given up after this time.
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    time_limit: u64,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    allow: AllowArgs,
    #[command(flatten)]
    accept: AcceptArgs,
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
    /// Fit once more on conversations that know nothing (rho 0), and refuse the run when they help.
    #[arg(long)]
    null_check: bool,
    /// The run is given up after this time.
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    time_limit: u64,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    allow: AllowArgs,
    #[command(flatten)]
    accept: AcceptArgs,
    #[command(flatten)]
    bundle: BundleArgs,
}

#[derive(Debug, Args)]
struct LeadArgs {
    /// Version of the bundle.
    #[arg(long, default_value = "v1.1", value_parser = version)]
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
    allow: AllowArgs,
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
    /// Newest rows that are first held out, to compare with the serving version and the conversion rate before them.
    #[arg(long, value_name = "ROWS", default_value_t = lead::HOLDOUT)]
    holdout: usize,
    /// How much worse than the serving version its log-loss may be on them.
    #[arg(long, value_name = "NUMBER", default_value_t = lead::MARGIN)]
    margin: f64,
    #[command(flatten)]
    allow: AllowArgs,
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
struct CompareArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Online Retail by customer and day.
    #[arg(long, value_name = "CSV", default_value = "training/data/online_retail/transactions.csv")]
    online_retail: PathBuf,
    /// Each customer of CDNOW is predicted by models that learnt from the other folds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=100))]
    folds: u64,
    /// Draws of customers behind the intervals.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..=100_000))]
    resamples: u32,
    /// Python with the packages of `training/python/requirements.txt`, for `LightGBM`.
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// What trains `LightGBM`.
    #[arg(long, value_name = "PATH", default_value = "training/python/train.py")]
    train_script: PathBuf,
    /// Minutes for each model on each data set; one that needs longer is left out.
    #[arg(long, value_name = "MINUTES", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1440))]
    time_limit: u64,
    /// Write the tables to a file too: .csv or .md.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct FlipsArgs {
    /// The CDNOW purchase file.
    #[arg(long, value_name = "CSV", default_value = "training/data/cdnow/transactions_dev.csv")]
    data: PathBuf,
    /// The purchase model whose tiers are followed.
    #[arg(long, value_name = "DIR", default_value = "models/clv-purchases/v1.0")]
    bundle: PathBuf,
    /// Customers that are followed.
    #[arg(long, default_value_t = 2000)]
    customers: usize,
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::ClvPurchases(TrainArgs { version, time_limit, data, allow, accept, bundle }) => {
            let command = format!("scoreline-training clv-purchases --version {version} --seed {}", data.seed);
            let source = Source { which: Which::ClvPurchases, purchases: data.data, seed: data.seed, rho: 0.0 };
            let run = run_of(source, version, &allow, &bundle, command, time_limit);
            train(&Run { accept: accept.accept, ..run }, &bundle)
        }
        Command::Clv(ClvArgs { version, rho, null_check, time_limit, data, allow, accept, bundle }) => {
            let seed = data.seed;
            let command = format!("scoreline-training clv --version {version} --seed {seed} --rho {rho}");
            let source = Source { which: Which::Clv, purchases: data.data, seed, rho };
            let run = run_of(source, version, &allow, &bundle, command, time_limit);
            train(&Run { null_check, accept: accept.accept, ..run }, &bundle)
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
            let table = train::data(&source, &progress)?.table;
            progress.done();
            table.write(&output)?;
            say(&format!("{} customers, {} features: {}", table.rows.len(), table.features.len(), output.display()))
        }
        Command::Compare(args) => compare(args),
        Command::Flips(args) => flips(&args),
        Command::Check(args) => {
            let found = check::run(&args)?;
            say(found.text()?.trim_end())?;
            found.refuse()
        }
    }
}

fn run_of(
    source: Source,
    version: ModelVersion,
    allow: &AllowArgs,
    bundle: &BundleArgs,
    command: String,
    time_limit: u64,
) -> Run {
    Run {
        source,
        version,
        models: bundle.models(Path::new(MODELS)),
        trained_at: bundle.trained_at(),
        replace: bundle.force,
        command,
        allow: allow.reasons(),
        accept: None,
        null_check: false,
        limit: Duration::from_mins(time_limit),
    }
}

fn train(run: &Run, bundle: &BundleArgs) -> anyhow::Result<()> {
    let progress = Progress::new(6);
    let trained = train::train(run, &progress)?;
    progress.done();
    say(&trained.leaks.text()?)?;
    say(report::text(&trained)?.trim_end())?;
    say(bundle.publish(&trained.staged, &html::run::report(&trained))?.trim_end())
}

fn compare(args: CompareArgs) -> anyhow::Result<()> {
    // A name that cannot be written is refused before the work, not after it.
    let format = args.output.as_deref().map(Format::of).transpose()?;
    let comparison = Comparison {
        cdnow: args.data.data,
        online_retail: args.online_retail,
        folds: args.folds,
        resamples: args.resamples as usize,
        seed: args.data.seed,
        time_limit: Duration::from_mins(args.time_limit),
        python: Python { interpreter: args.python, script: args.train_script },
    };
    let progress = Progress::new(comparison.steps());
    let standings = comparison.run(&progress)?;
    progress.done();
    compare::print(&standings)?;
    if let (Some(format), Some(path)) = (format, args.output) {
        compare::write(&standings, format, &path)?;
    }
    Ok(())
}

fn flips(args: &FlipsArgs) -> anyhow::Result<()> {
    let progress = Progress::new(2);
    progress.step("reading purchases");
    let customers = cdnow::read(&args.data)?;
    let snapshot = ModelSnapshot::load(&args.bundle, &LoadSettings::default())
        .with_context(|| format!("{} cannot be served", args.bundle.display()))?;
    let table = flips::simulate(&snapshot, &customers, args.customers, &progress)?;
    progress.done();
    say(table.trim_end())
}

fn train_lead(args: LeadArgs) -> anyhow::Result<()> {
    let run = lead::Run {
        command: format!("scoreline-training lead --version {}", args.version),
        trained_at: args.bundle.trained_at(),
        data: args.data,
        version: args.version,
        models: args.bundle.models(Path::new(MODELS)),
        replace: args.bundle.force,
        window: args.window,
        limit: Duration::from_secs(args.time_limit),
        allow: args.allow.reasons(),
    };
    let progress = Progress::new(lead::TRAIN_STEPS);
    let lead::Trained { staged, text, report } = lead::train(&run, &progress)?;
    progress.done();
    say(&text)?;
    say(args.bundle.publish(&staged, &report)?.trim_end())
}

fn nightly(args: NightlyArgs) -> anyhow::Result<()> {
    let run = lead::Nightly {
        command: "scoreline-training lead-nightly".to_owned(),
        trained_at: args.bundle.trained_at(),
        data: args.data,
        models: args.bundle.models(Path::new(MODELS)),
        replace: args.bundle.force,
        window: args.window,
        holdout: args.holdout,
        margin: args.margin,
        allow: args.allow.reasons(),
    };
    let progress = Progress::new(lead::NIGHTLY_STEPS);
    let lead::Trained { staged, text, report } = lead::nightly(&run, &progress)?;
    progress.done();
    say(&text)?;
    say(args.bundle.publish(&staged, &report)?.trim_end())
}

fn say(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

fn rho(text: &str) -> Result<f64, String> {
    let rho = text.parse().map_err(|_| format!("must be a number from 0 to 1, got `{text}`"))?;
    if (0.0..=1.0).contains(&rho) { Ok(rho) } else { Err(format!("must be from 0 to 1, got `{rho}`")) }
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
    }
}
