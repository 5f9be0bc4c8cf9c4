//! `scoreline features export`: point-in-time training data. One row per customer and time: the features as of the time,
//! by the code that serves them, and what the customer spent in the days after it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::super::Failure;
use super::super::score::TerminalBar;
use super::super::score::sink::Output;
use super::super::score::source::{Length, TableFormat};
use super::table::{ExportRow, Table};
use crate::app::stored;
use crate::config::Settings;
use scoreline_domain::durable::SHARED;
use scoreline_domain::time::{Clock as _, Stopwatch, SystemClock};
use scoreline_engine::features::CustomerFold;
use scoreline_engine::features::interactions::{LOOK_BACK_DAYS, QueueSentiment, QueueTimeline};
use scoreline_engine::features::purchases::{known_from, last_whole_day, spent_after};
use scoreline_store::{Cursor, History, ScanRequest, Store, Which};

/// Interactions of a page: some ten megabytes.
const PAGE: usize = 50_000;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct Export {
    /// Times from which customers are seen: dates (as they begin, UTC) or RFC 3339
    #[arg(long, value_name = "TIME", required = true, value_delimiter = ',', value_parser = time)]
    as_of: Vec<Timestamp>,
    /// Days after each time whose spend is the outcome
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
    horizon_days: u16,
    /// Table to write: .csv or .parquet
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Neither progress bar nor summary
    #[arg(long, short)]
    quiet: bool,
}

const HELP: &str = "\
Examples:
  scoreline features export --as-of 2026-01-01 --output training.csv
  scoreline features export --as-of 2025-07-01,2025-10-01 --horizon-days 90 \\
    --output training.parquet

Columns: customer (a number in this store), as_of, split, horizon_days, every catalogued feature (`scoreline features \
catalogue`; missing is empty), spend_usd. `scoreline models pack` reads the table as it is. The split is the customer's: \
60 % fit a model, 25 % calibrate it, 15 % measure it. Features are as they would have been served at the time: nothing that \
ended, or was bought, later is in them. spend_usd is the spend of the horizon's days, the first of them the day the time is \
in. A customer of whom nothing was known by the time has no row. A horizon that is not over is refused: its spend is not \
known yet.";

impl Export {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        let Self { mut as_of, horizon_days, output, quiet } = self;
        as_of.sort_unstable();
        as_of.dedup();
        let format = match TableFormat::of(&output) {
            Some(format @ (TableFormat::Csv | TableFormat::Parquet)) => format,
            Some(TableFormat::Ndjson | TableFormat::Arrow) | None => {
                return Err(Failure::Usage(format!("`{}` must be named .csv or .parquet", output.display())));
            }
        };
        is_over(&as_of, horizon_days, SystemClock.now()).map_err(Failure::Usage)?;
        let watch = Stopwatch::start();
        let (opened, target) = Output::open(&output, Path::new(""), SHARED)?;
        let mut table = Table::begin(target, format)?;
        let exported = stored::run_until_signal(async {
            let store = stored::open_to_read(settings).await?;
            let exported = export(&store, &as_of, horizon_days, quiet, &mut table).await;
            store.close().await;
            exported
        })?;
        table.finish().context("output cannot be written")?;
        opened.complete()?;
        if !quiet {
            eprintln!(
                "wrote {} rows of {} customers as of {} times in {:.1} s -> {}",
                exported.rows,
                exported.customers,
                as_of.len(),
                watch.elapsed().as_secs_f64(),
                output.display()
            );
        }
        Ok(())
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    let midnight = |date: Date| date.to_zoned(TimeZone::UTC).map(|at| at.timestamp());
    let date = text.parse::<Date>().ok().filter(|_| !text.contains('T')).map(midnight);
    let time = date.unwrap_or_else(|| text.parse());
    time.map_err(|_| "must be a date such as `2026-01-01`, or a time such as `2026-01-01T00:00:00Z`".to_owned())
}

fn is_over(as_of: &[Timestamp], horizon_days: u16, now: Timestamp) -> Result<(), String> {
    for time in as_of {
        let last = last_whole_day(*time).checked_add(i64::from(horizon_days).days()).ok();
        let over = last.and_then(known_from);
        if over.is_none_or(|over| over > now) {
            return Err(format!(
                "`--as-of {time}` with `--horizon-days {horizon_days}` asks for spend up to {}, which is not over: give \
                 an earlier time or a shorter horizon",
                last.map_or_else(|| "beyond the calendar".to_owned(), |last| last.to_string())
            ));
        }
    }
    Ok(())
}

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Exported {
    customers: u64,
    rows: u64,
}

/// Goes over all histories twice: for the queues' sentiment as of each time, which needs everybody, then for the rows.
async fn export(
    store: &Store,
    as_of: &[Timestamp],
    horizon_days: u16,
    quiet: bool,
    table: &mut Table,
) -> anyhow::Result<Exported> {
    let customers = store.counts().await?.customers;
    let window = SignedDuration::from_hours(24 * LOOK_BACK_DAYS);
    let since = as_of.first().and_then(|first| first.checked_sub(window).ok());
    let mut timeline = QueueTimeline::over(as_of);
    pages(store, since, customers, "customers for the queues", quiet, |history| {
        history.interaction_rows().for_each(|row| timeline.add(&row));
        Ok(())
    })
    .await?;
    let queues = timeline.finish();

    let mut folds: Vec<_> = as_of.iter().map(|time| CustomerFold::as_of(*time)).collect();
    let mut exported = Exported::default();
    pages(store, since, customers, "customers", quiet, |history| {
        let mut seen = false;
        for ((fold, queues), time) in folds.iter_mut().zip(&queues).zip(as_of) {
            if let Some(row) = row(history, fold, queues, *time, horizon_days)? {
                table.push(row)?;
                exported.rows += 1;
                seen = true;
            }
        }
        exported.customers += u64::from(seen);
        Ok(())
    })
    .await?;
    Ok(exported)
}

/// A customer's row as of a time; `None` when nothing was known of them.
fn row(
    history: &History,
    fold: &mut CustomerFold,
    queues: &QueueSentiment,
    as_of: Timestamp,
    horizon_days: u16,
) -> anyhow::Result<Option<ExportRow>> {
    fold.clear();
    for interaction in history.interaction_rows() {
        fold.interaction(&interaction)?;
    }
    for purchase in history.purchase_rows() {
        fold.purchase(&purchase)?;
    }
    let vector = fold.vector(queues);
    if vector.is_unknown() {
        return Ok(None);
    }
    let spend_usd = spent_after(history.purchase_rows(), last_whole_day(as_of), horizon_days);
    Ok(Some(ExportRow { customer: history.number.get(), as_of, horizon_days, values: vector.values, spend_usd }))
}

async fn pages(
    store: &Store,
    since: Option<Timestamp>,
    customers: u64,
    what: &str,
    quiet: bool,
    mut each: impl FnMut(&History) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let bar = TerminalBar::start(&Length::Rows(customers), what, quiet);
    let mut after: Option<Cursor> = None;
    loop {
        let page = store.scan(&ScanRequest { which: Which::All, after, interactions: PAGE, since }).await?;
        page.histories.iter().try_for_each(&mut each)?;
        bar.advance(page.histories.len() as u64);
        after = page.next;
        if after.is_none() {
            bar.finish();
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_horizon_that_is_not_over_is_refused() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let now = at("2026-04-01T00:00:00Z");
        // As of the first of January the last known day is the 31st of December; 90 days later is the 31st of March.
        assert_eq!(is_over(&[at("2026-01-01T00:00:00Z")], 90, now), Ok(()));
        let refused = is_over(&[at("2026-01-01T00:00:00Z")], 91, now).expect_err("not over");
        assert!(refused.contains("`--horizon-days 91`") && refused.contains("2026-04-01"), "{refused}");
    }
}
