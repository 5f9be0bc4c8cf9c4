//! `scoreline genesys simulate`: a contact-centre platform on this machine, to try the whole pipeline without an account.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, print};
use crate::lifecycle::Signals;
use scoreline_simulator::{FaultPlan, JobSettings, PRESETS, PlatformLimits, Simulator, SimulatorSettings};

#[derive(Debug, Args)]
#[command(after_help = HELP, after_long_help = LONG_HELP)]
pub(in crate::cli) struct Simulate {
    /// Customers of the simulated centre
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..1 << 28))]
    customers: u32,
    /// Days of history before today
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(0..=3650))]
    days: u32,
    /// Mean conversations of a customer in a year
    #[arg(long, value_name = "N", default_value_t = 50.0)]
    interactions_per_customer: f64,
    /// What everything generated follows from: the same seed, the same centre
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// What goes wrong: a TOML file, or one of the plans that --help lists
    #[arg(long, value_name = "FILE|PLAN")]
    faults: Option<String>,
    /// Conversations from a file besides the generated ones: NDJSON, each value a conversation or a page of them
    #[arg(long, value_name = "FILE")]
    recorded: Option<PathBuf>,
    /// Write every request to this file, as NDJSON
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Requests of a token in any minute
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_minute: u32,
    /// Threads that answer
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
}

const HELP: &str = "\
Examples:
  scoreline genesys simulate
  scoreline genesys simulate --customers 100000 --requests-per-minute 100000
  scoreline genesys simulate --faults rough --log requests.ndjson

It prints the settings that point scoreline at it, and ends on Ctrl-C. --help says more about faults.";

const LONG_HELP: &str = "\
Examples:
  scoreline genesys simulate
  scoreline genesys simulate --customers 100000 --requests-per-minute 100000
  scoreline genesys simulate --faults rough --log requests.ndjson

It prints the settings that point scoreline at it, and ends on Ctrl-C.

Fault plans that come with it:
  rough    a bad day: a little of everything
  limits   429 in all its forms, and the token endpoint's 400
  outage   the first fifty requests are answered with 503
  jobs     jobs that fail, expire and never end
  paging   query pages that repeat rows and totals that move
  hostile  redirects, huge answers, pages for people

A plan of your own is a TOML file with one [[fault]] for each rule; the first rule that strikes decides:
  path         endpoint, such as \"/api/v2/users/*\"; * is one segment,
               ** at the end the rest
  method       any when left out
  on           which of the matching requests, from 1: [1, 4]
  every        every so many of them
  probability  share of them, 0 to 1, by the seed
  times        at most so often
  applied      true: the endpoint does its work and only the answer is lost
  kind         and what belongs to it:
    too_many_requests   retry_after (\"seconds\", \"date\", \"missing\"),
                        retry_after_secs, limit_key
    status              status (400 to 599)
    slow                delay_ms
    late                delay_ms until the work is done, whoever waits
    cut                 bytes of the body before the connection ends; else half
    token_expired       the request's token is not valid any more
    token_rate_limit    the token endpoint's 400
    job_expired, job_failed, job_stuck
    repeat_rows, skip_rows, moving_total   rows (query pages)
    missing_sentiment   nothing was analysed
    wrong_content_type, oversized (bytes), redirect (location)

Example:
  [[fault]]
  path = \"/api/**\"
  kind = \"too_many_requests\"
  retry_after_secs = 5
  probability = 0.02";

/// How often the line with the count is written anew.
const REFRESH: Duration = Duration::from_millis(250);

impl Simulate {
    pub(super) fn run(self) -> Result<(), Failure> {
        let settings = self.settings()?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime cannot start")?;
        runtime.block_on(async {
            // Before it says that it listens: whoever reads that may stop it.
            let signals = Signals::listen();
            let simulator = Simulator::start(settings).context("simulator cannot start")?;
            print(&how_to_use(&simulator))?;
            watch(&simulator, signals).await;
            print(&summary(&simulator))?;
            simulator.shutdown();
            Ok(())
        })
    }

    fn settings(self) -> Result<SimulatorSettings, Failure> {
        if !self.interactions_per_customer.is_finite() || self.interactions_per_customer < 0.0 {
            let got = self.interactions_per_customer;
            return Err(Failure::Usage(format!("`--interactions-per-customer` must be at least 0, got `{got}`")));
        }
        let faults = self.faults.as_deref().map(faults).transpose()?.unwrap_or_default();
        let limits = PlatformLimits { requests: self.requests_per_minute, ..PlatformLimits::default() };
        // A job takes three seconds on the platform, as people have seen.
        let jobs = JobSettings { looks: 1, time: Duration::from_secs(3), ..JobSettings::default() };
        Ok(SimulatorSettings {
            listen: self.listen,
            threads: usize::from(self.threads),
            seed: self.seed,
            customers: self.customers,
            interactions_per_customer: self.interactions_per_customer,
            days: self.days,
            limits,
            jobs,
            faults,
            recorded: self.recorded,
            log_file: self.log,
            ..SimulatorSettings::default()
        })
    }
}

/// A plan by its name, else from a file.
fn faults(named: &str) -> Result<FaultPlan, Failure> {
    let refused = |err: &dyn std::error::Error| {
        let cause = err.source().map_or_else(String::new, |cause| format!(": {cause}"));
        Failure::Usage(format!("`--faults {named}`: {err}{cause}"))
    };
    if PRESETS.iter().any(|(name, ..)| *name == named) || !std::path::Path::new(named).exists() {
        return FaultPlan::preset(named).map_err(|err| refused(&err));
    }
    let text = std::fs::read_to_string(named).with_context(|| format!("`{named}` cannot be read"))?;
    FaultPlan::parse(&text).map_err(|err| refused(&err))
}

fn how_to_use(simulator: &Simulator) -> String {
    let settings = simulator.settings();
    format!(
        "simulated platform on {url}: {customers} customers, {days} days, seed {seed}\n\n\
         To use it:\n  \
           (umask 077 && printf {secret} > simulated-secret)\n  \
           export SCORELINE__GENESYS__API_URL={api} SCORELINE__GENESYS__LOGIN_URL={login}\n  \
           export SCORELINE__GENESYS__ALLOW_PLAIN_HTTP=true\n  \
           export SCORELINE__GENESYS__CLIENT_ID={client} SCORELINE__GENESYS__CLIENT_SECRET_FILE=simulated-secret\n\n\
         Contact list {list}, campaign {campaign}\n\
         Ctrl-C ends it\n",
        url = simulator.api_url(),
        customers = settings.customers,
        days = settings.days,
        seed = settings.seed,
        secret = settings.client_secret,
        client = settings.client_id,
        api = simulator.api_url(),
        login = simulator.login_url(),
        list = simulator.contact_list(),
        campaign = simulator.campaign(),
    )
}

/// Counts requests on a terminal until a signal comes.
async fn watch(simulator: &Simulator, mut signals: Signals) {
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    loop {
        let (requests, refused) = simulator.requests();
        bar.set_message(format!("{requests} requests, {refused} of them refused with 429"));
        if let Some(err) = simulator.log_failure() {
            bar.println(format!("warning: the log file is not written any more: {err}"));
        }
        tokio::select! {
            _ = signals.next() => break,
            () = tokio::time::sleep(REFRESH) => {}
        }
    }
    bar.finish_and_clear();
}

/// Requests by endpoint and status.
fn summary(simulator: &Simulator) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for entry in simulator.log() {
        *counts.entry((entry.template, entry.method, entry.status)).or_insert(0_u64) += 1;
    }
    let (requests, refused) = simulator.requests();
    let mut text = format!("{requests} requests, {refused} refused with 429\n");
    for ((template, method, status), count) in counts {
        let _ = writeln!(text, "{count:>9}  {status}  {method:<6} {template}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_plan() {
        for (name, what, _) in PRESETS {
            assert!(LONG_HELP.contains(&format!("  {name:<8} {what}\n")), "{name}");
        }
    }
}
