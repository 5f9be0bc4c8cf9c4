//! `scoreline score`: tables of millions of rows through a model, on all cores, in flat memory.

mod answer;
mod arrow;
pub(super) mod chunk;
mod draw;
mod pipeline;
pub(super) mod purchases;
pub(super) mod sink;
pub(super) mod source;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::civil::Date;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::Failure;
use crate::app;
use crate::config::Settings;
use crate::lifecycle::Signals;
use crate::scoring::estimate::Wish;
use crate::scoring::interval_level;
use scoreline_domain::durable::SHARED;
use scoreline_domain::time::{Clock as _, Stopwatch, SystemClock};
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::registry::{Patience, VersionState};

use chunk::CHUNK_ROWS;
use draw::Mapping;
use pipeline::{ChunkJob, ScoringTally};
use sink::{Encoder, Output, Sink, Target};
use source::{Length, NAMED};

pub use source::TableFormat;

/// How long a run may take to notice that it was interrupted.
const INTERRUPT_GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct ScoreArgs {
    /// Model to score with; `models.clv_model` when left out
    #[arg(long, value_parser = ModelName::parse)]
    model: Option<ModelName>,
    /// Version of the model; the serving one when left out
    #[arg(long, value_name = "VERSION", value_parser = ModelVersion::parse)]
    model_version: Option<ModelVersion>,
    /// Table to read: .csv, .ndjson, .parquet, .arrow or .arrows; `-` is standard input (all but Parquet)
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Table to write; `-` is standard output (all but Parquet)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Format of the input, when its name does not say
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<TableFormat>,
    /// Format of the output, when its name does not say
    #[arg(long, value_name = "FORMAT")]
    output_format: Option<TableFormat>,
    /// Separator of CSV columns, in and out
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = delimiter)]
    delimiter: u8,
    /// The input is a log of purchases: fold it into one row per customer first
    #[arg(long, requires = "as_of")]
    purchases: bool,
    /// With --purchases: the day from which customers are seen; later purchases do not count
    #[arg(long, value_name = "DATE", requires = "purchases")]
    as_of: Option<Date>,
    /// Level of the prediction interval, among those the model is calibrated for; the model's own when left out
    #[arg(long, value_name = "LEVEL")]
    interval_level: Option<f64>,
    /// Scoring threads; one per core when left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Exit with 1 when a row could not be scored; the output is written all the same
    #[arg(long)]
    fail_on_error: bool,
    /// Neither progress bar nor summary
    #[arg(long, short)]
    quiet: bool,
}

const HELP: &str = "\
Examples:
  scoreline score --model clv --input customers.csv --output scored.csv
  scoreline score --input customers.parquet --output out.parquet --fail-on-error
  scoreline score --model clv-purchases --purchases --as-of 1997-09-30 \\
    --input cdnow.csv --output scored.csv
  zcat big.csv.gz | scoreline score --input - --input-format csv --output - \\
    > scored.csv
  producer | scoreline score --input - --input-format arrow \\
    --output - | consumer

Columns are found by the model's feature names (`scoreline models verify` lists them); `acquisition_channel` and \
`segment` pick the baseline of customers without history. All columns are passed through unchanged, and behind them \
come clv_value_usd, confidence_interval_low, confidence_interval_high, risk_score, confidence_score, clv_tier (of a lead \
model: priority_score, conversion_probability), source (model or cold_start), warnings, error. A lead model's baselines \
go by `lead_source`. `timestamp_utc` says when the features were computed; more than a day ago, or ahead, is a warning. \
A row that cannot be scored stays, with its reason in `error`. An empty cell is a missing value. \
From CSV or NDJSON to Parquet or Arrow, columns that are passed through become text. An NDJSON table has the columns of its first \
4,096 rows when it becomes CSV, Parquet or Arrow.

Arrow is IPC: streams are read and written batch by batch, an answer for every batch before the next one has to come; a stream \
without its end mark is an error. Files of the file format are read too, and written when the output is named .arrow.

A purchase log has customer_id, date, amount (or dollar_value, amount_usd) and optionally items (or number_of_cds). It \
is held in memory, 32 bytes a purchase; tables of customers are not.";

pub(super) fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [only] => Ok(*only),
        b"\\t" | b"tab" => Ok(b'\t'),
        _ => Err("must be one ASCII character, or `tab`".to_owned()),
    }
}

impl ScoreArgs {
    pub(super) fn run(self, settings: Settings) -> Result<(), Failure> {
        let formats = self.formats()?;
        let snapshot = load(settings, self.model.as_ref(), self.model_version.as_ref())?;
        // Before there is a partial file, which an interrupted run takes away.
        let interrupts = Interrupts::listen()?;
        let (output, target) = Output::open(&self.output, &self.input, SHARED)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (quiet, fail_on_error) = (self.quiet, self.fail_on_error);
        let (shown, name) = (self.output.display().to_string(), format!("{} {}", snapshot.name(), snapshot.version()));

        let watch = Stopwatch::start();
        let tally = interrupts.until_the_end_of(&stop, {
            let stop = Arc::clone(&stop);
            move || self.score(&snapshot, formats, target, &stop)
        })?;
        output.complete()?;
        let elapsed = watch.elapsed().as_secs_f64();

        if !quiet {
            eprintln!("{}", summary(&tally, elapsed, &name, &shown));
        }
        match tally.first_error {
            Some((row, reason)) if fail_on_error => {
                let reason = for_the_log(&reason);
                Err(anyhow!("{} rows could not be scored, the first is row {row}: {reason}", tally.errors).into())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn formats(&self) -> Result<(TableFormat, TableFormat), Failure> {
        let find = |given: Option<TableFormat>, path: &Path, option: &str| {
            given.or_else(|| TableFormat::of(path)).ok_or_else(|| {
                let path = path.display();
                Failure::Usage(format!("format of `{path}` is not known: name it {NAMED}, or give `{option}`"))
            })
        };
        let input = find(self.input_format, &self.input, "--input-format")?;
        let piped = self.output.as_os_str() == "-" && input != TableFormat::Parquet;
        let output = match self.output_format {
            None if piped => input,
            given => find(given, &self.output, "--output-format")?,
        };
        Ok((input, output))
    }

    fn score(
        &self,
        snapshot: &ModelSnapshot,
        (input_format, output_format): (TableFormat, TableFormat),
        target: Target,
        stop: &AtomicBool,
    ) -> anyhow::Result<ScoringTally> {
        let schema = snapshot.schema();
        let mut input = source::open(&self.input, input_format, self.delimiter)?;
        if self.purchases {
            let as_of = self.as_of.context("`--purchases` needs `--as-of`")?;
            let bar = TerminalBar::start(&input.length, "purchases", self.quiet);
            input = purchases::fold(input, as_of, schema, |rows| bar.advance(rows as u64))?;
            bar.finish();
        }
        let mapping = Mapping::find(snapshot, &input.layout)
            .with_context(|| format!("`{}` cannot be scored with {}", self.input.display(), snapshot.name()))?;
        let encoder = Encoder::new(output_format, self.delimiter, &input.layout, snapshot);
        let mut sink = Sink::begin(target, &self.output, &encoder)?;
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = self.threads.map_or_else(cores, usize::from);
        let bar = TerminalBar::start(&input.length, "rows", self.quiet);
        let wish = Wish { level: interval_level(snapshot, self.interval_level)?, previous: None };
        let now = SystemClock.now();
        let job = ChunkJob { snapshot, wish, now, mapping: &mapping, encoder: &encoder, workers, stop };
        let tally = job.run(input.rows, &mut sink, |rows| bar.advance(rows))?;
        sink.finish().context("output cannot be written")?;
        bar.finish();
        // A table whose columns are known may be empty, as the partition of an engine often is.
        let may_be_empty = matches!(input_format, TableFormat::Parquet | TableFormat::Arrow) && !self.purchases;
        if tally.rows == 0 && !may_be_empty {
            bail!("the input has no rows");
        }
        Ok(tally)
    }
}

/// Loads a model as the server would: a version of it, or the one that serves. `models.clv_model` when no model is named.
///
/// # Errors
/// Names the versions there are when it is none of them, and the reason when it is refused.
pub(super) fn load(
    mut settings: Settings,
    model: Option<&ModelName>,
    version: Option<&ModelVersion>,
) -> Result<Arc<ModelSnapshot>, Failure> {
    let name = model.cloned().unwrap_or_else(|| settings.models.clv_model.clone());
    if let Some(version) = version {
        settings.models.pins.insert(name.clone(), version.clone());
    }
    let registry = app::registry(&settings);
    if version.is_none() {
        registry.follow(app::stored::promotions(&settings));
    }
    registry.scan(Patience::Now);
    if let Some(snapshot) = registry.serving(&name) {
        return Ok(snapshot);
    }
    let mut known = Vec::new();
    for status in registry.status().into_iter().filter(|status| status.model == name) {
        if let VersionState::Refused { reason, .. } = &status.state
            && version.is_none_or(|version| *version == status.version)
        {
            return Err(anyhow!("model `{name}` {} is refused: {reason}", status.version).into());
        }
        known.push(status.version.to_string());
    }
    let dir = settings.models.dir.display();
    Err(Failure::Usage(match version {
        Some(version) if !known.is_empty() => {
            format!("no version {version} of model `{name}` in `{dir}`; there are: {}", known.join(", "))
        }
        Some(_) | None => format!("no model `{name}` in `{dir}`; there are: {}", registry.serving_names()),
    }))
}

/// Scores the table `input` into `output`, as the command does with one thread, without progress and summary. With
/// `as_of` the input is a log of purchases and that is the day from which customers are seen. Returns the rows written.
///
/// # Errors
/// As the command: the input cannot be read or holds nothing that the model knows, or the output cannot be written.
pub fn table(
    snapshot: &ModelSnapshot,
    (input, input_format): (&Path, TableFormat),
    (output, output_format): (&Path, TableFormat),
    as_of: Option<Date>,
) -> anyhow::Result<u64> {
    let command = ScoreArgs {
        model: None,
        model_version: None,
        input: input.to_owned(),
        output: output.to_owned(),
        input_format: Some(input_format),
        output_format: Some(output_format),
        delimiter: b',',
        purchases: as_of.is_some(),
        as_of,
        interval_level: None,
        threads: Some(1),
        fail_on_error: false,
        quiet: true,
    };
    let (opened, target) = Output::open(output, input, SHARED)?;
    let tally = command.score(snapshot, (input_format, output_format), target, &AtomicBool::new(false))?;
    opened.complete()?;
    Ok(tally.rows)
}

/// Signals that end a run. From when they are listened to they no longer end the process.
struct Interrupts {
    runtime: Runtime,
    signals: Signals,
}

impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("runtime cannot start")?;
        let signals = runtime.block_on(async { Signals::listen() });
        Ok(Self { runtime, signals })
    }

    /// Runs `work` on a thread of its own until it is done or a signal comes.
    fn until_the_end_of<T: Send + 'static>(
        self,
        stop: &AtomicBool,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let Self { runtime, mut signals } = self;
        runtime.block_on(async {
            let (done, mut result) = oneshot::channel();
            std::thread::Builder::new().name("score".to_owned()).spawn(move || done.send(work()))?;
            let ended = tokio::select! {
                ended = &mut result => ended,
                signal = signals.next() => {
                    stop.store(true, Ordering::Relaxed);
                    // A thread that waits for input does not notice; it ends with the process.
                    let _ = tokio::time::timeout(INTERRUPT_GRACE, &mut result).await;
                    bail!("interrupted by {signal}: no output was written");
                }
            };
            ended.unwrap_or_else(|_| Err(anyhow!("scoring panicked")))
        })
    }
}

/// A reason without the cell it repeats, unless that is a number: the output stays beside the table, but what is printed
/// ends up in logs.
pub(super) fn for_the_log(reason: &str) -> &str {
    match reason.split_once(", got `") {
        Some((_, cell)) if cell.trim_end_matches('`').parse::<f64>().is_ok() => reason,
        Some((reason, _)) => reason,
        None => reason,
    }
}

fn summary(tally: &ScoringTally, elapsed: f64, model: &str, output: &str) -> String {
    let ScoringTally { rows, by_model, cold_start, errors, left_out, first_error } = tally;
    let speed = *rows as f64 / elapsed.max(1e-9);
    let mut text = format!(
        "scored {rows} rows with {model} in {elapsed:.2} s ({speed:.0} rows/s): {by_model} by the model, {cold_start} \
         cold start, {errors} errors -> {output}"
    );
    if let Some((row, reason)) = first_error {
        let reason = for_the_log(reason);
        let _ = write!(text, "\nwarning: {errors} rows could not be scored, the first is row {row}: {reason}");
    }
    if *left_out > 0 {
        let _ = write!(
            text,
            "\nwarning: {left_out} rows have fields that none of the first {CHUNK_ROWS} rows has: they have no column and \
             were left out"
        );
    }
    text
}

/// A progress bar on a terminal, nothing elsewhere.
pub(super) struct TerminalBar {
    bar: ProgressBar,
    /// Bytes read so far, when that is what the bar shows.
    read: Option<Arc<AtomicU64>>,
}

impl TerminalBar {
    pub(super) fn start(length: &Length, what: &str, quiet: bool) -> Self {
        let (bar, template, read) = match length {
            Length::Bytes(total, read) => (
                ProgressBar::new(*total),
                "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                Some(Arc::clone(read)),
            ),
            Length::Rows(total) => {
                (ProgressBar::new(*total), "{wide_bar} {human_pos}/{human_len} {msg} {per_sec} {eta}", None)
            }
            Length::Unknown => (ProgressBar::no_length(), "{spinner} {human_pos} {msg} {per_sec}", None),
        };
        bar.set_draw_target(if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
        bar.set_message(what.to_owned());
        // The templates above are constants; should one be wrong, the plain bar does.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, read }
    }

    pub(super) fn advance(&self, rows: u64) {
        match &self.read {
            Some(read) => self.bar.set_position(read.load(Ordering::Relaxed)),
            None => self.bar.inc(rows),
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
