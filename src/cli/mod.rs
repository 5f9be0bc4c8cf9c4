//! Command line: what a person types, and nothing else. Every command ends here with its exit code: 0 done, 1 failed
//! at run time, 64 wrong usage or settings.

mod auth;
mod config;
mod extract;
mod features;
mod genesys;
mod models;
mod rescore;
pub mod score;
mod status;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::app::stored::SettingFault;
use crate::config::{ConfigProblems, Effective};
use crate::{app, telemetry};

/// Predicts customer lifetime value inside the process: a server for contact centres, and the same models on files.
#[derive(Debug, Parser)]
#[command(name = "scoreline", version, propagate_version = true, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// Settings file. Without it `SCORELINE_CONFIG` names one, else `scoreline.toml` is read when there is one
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  scoreline serve                                    serve the bundles in models/ on 127.0.0.1:8080
  SCORELINE__SERVER__LISTEN=127.0.0.1:8181 scoreline serve
  scoreline score --input customers.csv --output scored.csv
  scoreline models verify                            check every bundle and say what is wrong
  scoreline config show --sources                    every setting in effect and where it came from

Exit codes: 0 done, 1 failed at run time, 64 wrong usage or settings";

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer predictions over HTTP until SIGTERM or Ctrl-C
    #[command(after_help = SERVE_EXAMPLES)]
    Serve,
    /// Score a table: CSV, NDJSON or Parquet, millions of rows
    Score(Box<score::ScoreArgs>),
    /// Fetch the platform's history into the store
    Extract(extract::Extract),
    /// Compute features, score customers and write scores back, once
    Rescore(rescore::RescoreArgs),
    /// Show what is in the store, how far the jobs have come and what could not be written back
    Status(status::StatusArgs),
    /// List or check model bundles
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Show the features there are, import purchases, export training data
    #[command(subcommand)]
    Features(features::FeaturesCommand),
    /// Make, list or take back API keys and OAuth clients
    Auth(auth::Auth),
    /// Simulate a Genesys Cloud organisation
    #[command(subcommand)]
    Genesys(genesys::GenesysCommand),
    /// Check or print the settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  scoreline serve
  scoreline --config /etc/scoreline.toml serve

Then:
  curl -s 127.0.0.1:8080/v1/predict/clv -H 'content-type: application/json' -d '{\"features\":
    {\"recency_days\":12,\"frequency_count\":48,\"avg_handling_time_sec\":245,\"sentiment_score_avg\":0.65,\"topic_diversity\":7}}'
  curl -s 127.0.0.1:8081/metrics

The first signal finishes what has begun (server.drain_timeout), a second one ends at once.";

/// Why a command did not succeed.
enum Failure {
    /// Wrong usage or settings: exit code 64.
    Usage(String),
    /// Everything else: exit code 1.
    Runtime(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(err: E) -> Self {
        let err = err.into();
        match err.downcast::<ConfigProblems>() {
            Ok(problems) => Self::Usage(problems.to_string()),
            Err(err) if err.is::<SettingFault>() => Self::Usage(format!("{err:#}")),
            Err(err) => Self::Runtime(err),
        }
    }
}

const EXIT_USAGE: u8 = 64;
const EXIT_FAILURE: u8 = 1;
/// Requests were drained before; what is left on the runtime's threads has nothing to finish.
const RUNTIME_SHUTDOWN: Duration = Duration::from_secs(1);

/// Runs the command that `arguments` (the program's name first) ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(err) => {
            // `--help` and `--version` come this way too and are no mistake.
            let code = if err.use_stderr() { EXIT_USAGE } else { 0 };
            drop(err.print());
            return ExitCode::from(code);
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Runtime(err)) => {
            eprintln!("error: {err:#}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

impl Cli {
    fn run(self) -> Result<(), Failure> {
        if matches!(self.command, Command::Models(models::ModelsCommand::Probe)) {
            return models::probe();
        }
        if let Command::Genesys(command) = self.command {
            return command.run();
        }
        if let Command::Auth(auth) = self.command {
            let standing = auth.stands_alone();
            let read = || crate::config::explain(self.config.as_deref(), crate::config::environment());
            let effective = if standing { None } else { Some(read()?) };
            return auth.run(effective.as_ref().map(|effective| &effective.settings));
        }
        let effective = crate::config::explain(self.config.as_deref(), crate::config::environment())?;
        match self.command {
            Command::Serve => serve(effective),
            Command::Score(score) => score.run(effective.settings),
            Command::Extract(extract) => extract.run(&effective.settings),
            Command::Rescore(rescore) => rescore.run(&effective.settings),
            Command::Status(status) => status.run(&effective.settings),
            Command::Models(command) => command.run(&effective.settings),
            Command::Features(command) => command.run(&effective.settings),
            Command::Config(command) => command.run(&effective),
            Command::Auth(auth) => auth.run(Some(&effective.settings)),
            // Has run above, without settings.
            Command::Genesys(command) => command.run(),
        }
    }
}

fn serve(Effective { settings, .. }: Effective) -> Result<(), Failure> {
    let log = telemetry::init(&settings.log)?;
    let metrics = telemetry::install_metrics()?;
    let runtime = app::runtime(&settings).context("runtime cannot start")?;
    let ended = runtime.block_on(Box::pin(app::serve(settings, metrics)));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    drop(log);
    Ok(ended?)
}

/// Writes a command's answer. A reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(err).context("standard output cannot be written").into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
