//! Command line: what a person types, and nothing else. Every command ends here with its exit code: 0 done, 1 failed
//! at run time, 64 wrong usage or settings.

mod auth;
mod beside;
mod colours;
mod config;
mod doctor;
mod extract;
mod features;
mod genesys;
mod init;
mod man;
pub mod models;
mod push;
mod replay;
mod rescore;
mod reveal;
pub mod score;
mod status;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::app::ServerStart;
use crate::app::stored::SettingFault;
use crate::config::{ConfigProblems, Effective, SettingsSource};
use crate::{app, telemetry};
use scoreline_domain::text::with_causes;

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
  scoreline serve                  serve models/ on 127.0.0.1:8080
  SCORELINE__SERVER__LISTEN=127.0.0.1:8181 scoreline serve
  scoreline score --input customers.csv --output scored.csv
  scoreline models verify          check every bundle and say what is wrong
  scoreline config show --sources  every setting and where it came from

Exit codes: 0 done, 1 failed at run time, 64 wrong usage or settings";

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin a server of your own: settings, pepper, a first API key, models
    Init(init::InitArgs),
    /// Say what is not right on this machine, and what to do about it
    Doctor(doctor::DoctorArgs),
    /// Answer predictions over HTTP until SIGTERM or Ctrl-C
    #[command(after_help = SERVE_EXAMPLES)]
    Serve,
    /// Score a table: CSV, NDJSON or Parquet, millions of rows
    Score(Box<score::ScoreArgs>),
    /// Fetch the platform's history into the store
    Extract(extract::Extract),
    /// Compute features, score customers and write scores back, once
    Rescore(rescore::RescoreArgs),
    /// Put questions that were answered to another version, and say what would change
    Replay(replay::ReplayArgs),
    /// Name the customers of a score file, for whoever has the pepper
    Reveal(reveal::RevealArgs),
    /// Show what is in the store, how far the jobs have come and what could not be written back
    Status(status::StatusArgs),
    /// Bring scores of leads to the dialer, and see how they get on
    Push(Box<push::PushArgs>),
    /// List, check, make or calibrate model bundles
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Show the features there are, import purchases, export training data
    #[command(subcommand)]
    Features(features::FeaturesCommand),
    /// Make, list or take back API keys and OAuth clients
    Auth(auth::Auth),
    /// Simulate a Genesys Cloud organisation, export files for one, or say what is wrong with yours
    #[command(subcommand)]
    Genesys(genesys::GenesysCommand),
    /// Check or print the settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print what a shell completes the commands with
    Completions(man::CompletionsArgs),
    /// Write the manual pages
    Man(man::ManArgs),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  scoreline serve
  scoreline --config /etc/scoreline.toml serve

Then:
  curl -s 127.0.0.1:8080/v1/predict/clv -d '{\"features\":
    {\"recency_days\":12,\"frequency_count\":48,\"avg_handling_time_sec\":245,
    \"sentiment_score_avg\":0.65,\"topic_diversity\":7}}'
  curl -s 127.0.0.1:8081/metrics

The first signal finishes what has begun (`server.drain_timeout`), a second one ends at once. SIGHUP \
ends nothing: it opens `log.audit_path` anew, takes a changed client secret of the platform, and names \
settings that wait for a restart.";

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
            Err(err) if err.is::<SettingFault>() => Self::Usage(with_causes(&*err)),
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
            eprintln!("error: {}", with_causes(&*err));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

impl Cli {
    fn run(self) -> Result<(), Failure> {
        if matches!(self.command, Command::Models(models::ModelsCommand::Probe)) {
            return models::probe();
        }
        let source = SettingsSource { file: self.config };
        let settings = || source.read().map(|effective| effective.settings);
        match self.command {
            Command::Init(init) => init.run(),
            Command::Doctor(doctor) => doctor.run(&source),
            Command::Serve => {
                let effective = source.read()?;
                serve(source, effective)
            }
            Command::Score(score) => score.run(settings()?),
            Command::Extract(extract) => extract.run(&settings()?),
            Command::Rescore(rescore) => rescore.run(&settings()?),
            Command::Replay(replay) => replay.run(settings()?),
            Command::Reveal(reveal) => reveal.run(&settings()?),
            Command::Status(status) => status.run(&settings()?),
            Command::Push(push) => push.run(&settings()?),
            Command::Models(command) => command.run(&settings()?),
            Command::Features(command) => command.run(&settings()?),
            Command::Auth(auth) => {
                let settings = if auth.stands_alone() { None } else { Some(settings()?) };
                auth.run(settings.as_ref())
            }
            Command::Genesys(command) => command.run(&source),
            Command::Config(command) => command.run(&source.read()?),
            Command::Completions(completions) => completions.run(Self::command()),
            Command::Man(man) => man.run(Self::command()),
        }
    }
}

fn serve(source: SettingsSource, effective: Effective) -> Result<(), Failure> {
    let log = telemetry::init(&effective.settings.log)?;
    for stray in crate::config::stray_variables() {
        tracing::warn!(
            variable = stray.variable,
            nearest = stray.nearest,
            "environment variable is no setting: ignored"
        );
    }
    let metrics = telemetry::install_metrics()?;
    let runtime = app::runtime(&effective.settings).context("threads of the server cannot be started")?;
    let start = ServerStart { source, effective, audit: log.audit(), metrics };
    let ended = runtime.block_on(Box::pin(app::serve(start)));
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
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Every command's help, short and long, at this width.
    fn pages(width: usize) -> Vec<(String, String)> {
        fn visit(command: &clap::Command, width: usize, found: &mut Vec<(String, String)>) {
            let mut shown = command.clone().term_width(width).max_term_width(width);
            let name = command.get_name().to_owned();
            found.push((name.clone(), shown.render_help().to_string()));
            found.push((name, shown.render_long_help().to_string()));
            command.get_subcommands().for_each(|below| visit(below, width, found));
        }
        let mut root = Cli::command();
        root.build();
        let mut found = Vec::new();
        visit(&root, width, &mut found);
        found
    }

    #[test]
    fn help_is_wrapped_once_at_every_width() {
        for width in [80, 100, 64] {
            for (name, page) in pages(width) {
                let lines: Vec<_> = page.lines().collect();
                for pair in lines.windows(2) {
                    let [line, next] = pair else { continue };
                    let is_prose = |line: &str| line.starts_with(|first: char| !first.is_whitespace());
                    let first = next.split(' ').next().unwrap_or_default();
                    let ends = line.ends_with(['.', ':', ')']);
                    let breaks_early = is_prose(line) && is_prose(next) && line.len() + 1 + first.len() <= width;
                    assert!(!breaks_early || ends, "`{name}` at {width} columns:\n{line}\n{next}");
                }
            }
        }
    }

    #[test]
    fn what_is_laid_out_by_hand_fits_a_terminal() {
        let mut broken = Vec::new();
        for ((name, narrow), (_, wide)) in pages(80).into_iter().zip(pages(1000)) {
            // Examples and tables are indented by two; the options above them are laid out anew for each width.
            let Some((_, examples)) = wide.split_once("Example") else { continue };
            for line in examples.lines().filter(|line| line.starts_with("  ")) {
                if !narrow.contains(line) {
                    broken.push(format!("{name}: {line}"));
                }
            }
        }
        assert!(broken.is_empty(), "breaks at 80 columns:\n{}", broken.join("\n"));
    }
}
