//! `scoreline extract`: fetches the platform's history into the store, once, with a progress bar.

use std::fmt::Write as _;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Failure;
use crate::app::stored::SettingFault;
use crate::app::{jobs, stored};
use crate::config::Settings;
use crate::worker::extract::{Extracted, ExtractionProgress};
use scoreline_domain::time::{Stopwatch, Timestamp};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Extract {
    /// Fetch what is new, then end; `scoreline serve` does the same every `extract.every`
    #[arg(long, required = true)]
    once: bool,
    /// Begin anew at this time, whatever was fetched before: a date, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// Neither progress bar nor summary
    #[arg(long, short)]
    quiet: bool,
}

const HELP: &str = "\
Examples:
  scoreline extract --once
  scoreline extract --once --from 2026-01-01

The first run goes back `extract.look_back_days`, the next ones fetch what is new. A run that was interrupted, killed \
even, goes on where it was. While a server runs on the same file, ask it instead:
  curl -X POST 127.0.0.1:8081/admin/jobs/extract/run";

/// Steps of the bar: its share of the window is all that is known beforehand.
const STEPS: u64 = 10_000;

fn time(text: &str) -> Result<Timestamp, String> {
    let midnight = |date: Date| date.to_zoned(TimeZone::UTC).map(|at| at.timestamp());
    let date = text.parse::<Date>().ok().filter(|_| !text.contains('T')).map(midnight);
    let time = date.unwrap_or_else(|| text.parse());
    time.map_err(|_| "must be a date such as `2026-01-01`, or a time such as `2026-01-01T00:00:00Z`".to_owned())
}

impl Extract {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        let Self { once: _, from, quiet } = self;
        if settings.genesys.is_none() {
            let message = "there is no platform to fetch from: set `genesys.region` (or `genesys.api_url` and \
                           `genesys.login_url`), `genesys.client_id` and `genesys.client_secret_file`; nothing was done";
            return Err(Failure::Usage(message.to_owned()));
        }
        let bar = bar(quiet);
        let watch = Stopwatch::start();
        let shown = bar.clone();
        let extracted = stored::run_until_signal(jobs::extract_once(settings, from, move |seen| show(&shown, seen)));
        bar.finish_and_clear();
        let extracted = extracted.map_err(|err| {
            // Nothing was fetched where the settings did not let it begin.
            let preface =
                "history could not be fetched; what was fetched is kept, and the same command goes on from there";
            if err.is::<SettingFault>() { err } else { err.context(preface) }
        })?;
        if !quiet {
            eprintln!("{}", summary(&extracted, watch.elapsed().as_secs_f64()));
        }
        Ok(())
    }
}

fn bar(quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(STEPS);
    bar.set_draw_target(if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
    let style = ProgressStyle::with_template("{wide_bar} {percent}% {msg} {elapsed} eta {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(bar: &ProgressBar, seen: &ExtractionProgress) {
    bar.set_position((seen.share * STEPS as f64) as u64);
    let tally = &seen.tally;
    let mut message = format!("{} rows, {} requests", tally.rows, tally.requests);
    if !seen.limited.is_zero() {
        let _ = write!(message, ", {:.0} s at the rate limit", seen.limited.as_secs_f64());
    }
    if let Some(wait) = seen.wait {
        let _ = write!(message, ", {} waits {:.0} s", seen.phase, wait.as_secs_f64());
    }
    bar.set_message(message);
}

/// What a person wants to know of a run: how much, how fast, and whether anything is missing.
fn summary(extracted: &Extracted, elapsed: f64) -> String {
    let Extracted { window, totals, written, missing, short_by_days, oldest_kept, limited } = extracted;
    let mut text = format!(
        "fetched {} conversations from {} to {} in {elapsed:.1} s with {} requests ({:.1} s at the rate limit): {} new, \
         {} changed, {} known already",
        totals.rows,
        window.from,
        window.to,
        totals.requests,
        limited.as_secs_f64(),
        written.new,
        written.changed,
        written.same
    );
    let left_out = [
        (totals.no_contact, "without a known customer"),
        (totals.open, "not ended yet"),
        (totals.other_media, "on other channels"),
        (totals.malformed, "not readable"),
        (written.refused, "of erased customers"),
    ];
    for (count, what) in left_out.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, "\n  left out: {count} {what}");
    }
    if let Some(oldest) = oldest_kept {
        let _ = write!(text, "\n  the store's history begins {oldest}");
    }
    if let Some(days) = short_by_days {
        let _ = write!(
            text,
            "\nwarning: that is {days} days after the time asked for: the platform may keep less than that"
        );
    }
    if *missing > 0 {
        let _ = write!(
            text,
            "\nwarning: {missing} conversations that the platform counted were not among its answers; the next run reads \
             those windows again"
        );
    }
    text
}
