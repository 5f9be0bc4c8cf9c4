//! `scoreline replay`: questions that were answered before, put to another version. The offline twin of a shadow.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;

use super::score::sink::{Output, Target};
use super::score::source::Length;
use super::score::{TerminalBar, load};
use super::{Failure, print};
use crate::app::stored;
use crate::config::Settings;
use crate::monitoring::replay_log::LoggedQuestion;
use crate::scoring::replay::{Replay, Replayed};
use scoreline_domain::durable::PRIVATE;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{ModelName, ModelVersion, Tier};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::manifest::Task;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct ReplayArgs {
    /// Version to put the questions to
    #[arg(long, value_name = "VERSION", value_parser = ModelVersion::parse, required_unless_present = "save")]
    against: Option<ModelVersion>,
    /// Its model; `models.clv_model` when left out
    #[arg(long, value_parser = ModelName::parse)]
    model: Option<ModelName>,
    /// Write the store's log into a file instead, to replay it on another machine
    #[arg(long, value_name = "FILE", conflicts_with_all = ["against", "model", "files"])]
    save: Option<PathBuf>,
    /// Files that --save wrote; the store's log when left out
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

const HELP: &str = "\
Examples:
  scoreline replay --against v1.3            what the server was asked lately
  scoreline replay --save questions.ndjson   take it elsewhere
  scoreline replay --against v1.3 questions.ndjson

A server keeps its newest questions with `monitoring.replay_questions`: features, answers and customers as \
keyed hashes. Each is put to the version in `models.dir`, which need not serve, and its answer is held \
against the one that was given:

  value    new minus old: the mean, the mean of its size, quantiles
  order    rank correlation of old and new: 1 when nobody overtakes anybody
  tiers    who goes up and who down; a row for each old tier, by the new one
  time     of a run on this machine
  sources  what answered, and what would: the model, a baseline (cold_start),
           nobody (refused, failed)
  missing  features that the new version reads and nobody sent: it imputes them

A shadow (`models.candidates`) says the same of live questions. It runs beside a server and changes \
nothing. A saved file names no customer, not even by a hash, so erasing one does not reach into it: \
delete it when you are done.

Exit codes: 0 done, 1 nothing to replay or failed, 64 wrong usage or settings";

/// Questions of the store that are read at a time.
const PAGE: usize = 1024;
/// Longest line of a file: a question takes about a kilobyte.
const LINE_LIMIT: u64 = 1 << 20;
/// A signal is looked for after so many questions.
const PAUSE_AFTER: u64 = 256;

impl ReplayArgs {
    pub(super) fn run(self, settings: Settings) -> Result<(), Failure> {
        if let Some(path) = &self.save {
            let saved = stored::run_until_signal(Box::pin(save(&settings, path, self.quiet)))?;
            eprintln!("saved {} -> {}", counted(saved), path.display());
            return Ok(());
        }
        let against = load(settings.clone(), self.model.as_ref(), self.against.as_ref())?;
        let mut session = Session::new(settings, against);
        stored::run_until_signal(Box::pin(async {
            match self.files.as_slice() {
                [] => session.store(self.quiet).await,
                files => session.files(files, self.quiet).await,
            }
        }))?;
        print(&session.report()?)
    }
}

/// Writes the store's log into a file; how many questions that are.
async fn save(settings: &Settings, path: &Path, quiet: bool) -> anyhow::Result<u64> {
    let (output, target) = Output::open(path, Path::new(""), PRIVATE)?;
    let mut out: Box<dyn std::io::Write> = match target {
        Target::Stdout => Box::new(BufWriter::new(std::io::stdout())),
        Target::File(file) => Box::new(BufWriter::new(file)),
    };
    let mut pages = Pages::open(settings, quiet).await?;
    let mut saved = 0;
    while let Some(page) = pages.next().await? {
        for line in page {
            writeln!(out, "{line}").context("the file cannot be written")?;
            saved += 1;
        }
    }
    out.flush().context("the file cannot be written")?;
    output.complete()?;
    Ok(saved)
}

/// The store's log, page by page.
struct Pages {
    store: scoreline_store::Store,
    bar: TerminalBar,
    seq: i64,
}

impl Pages {
    async fn open(settings: &Settings, quiet: bool) -> anyhow::Result<Self> {
        let store = stored::open_to_read(settings).await?;
        let questions = store.replay_count().await.context("the replay log cannot be read")?;
        if questions == 0 {
            store.close().await;
            bail!(
                "the store keeps no questions: set `monitoring.replay_questions`, such as 100000, and ask the server some; or \
                 name files that `--save` wrote"
            );
        }
        Ok(Self { store, bar: TerminalBar::start(&Length::Rows(questions), "questions", quiet), seq: -1 })
    }

    async fn next(&mut self) -> anyhow::Result<Option<Vec<String>>> {
        let rows = self.store.replay_after(self.seq, PAGE).await.context("the replay log cannot be read")?;
        let Some((last, _)) = rows.last() else {
            self.bar.finish();
            self.store.close().await;
            return Ok(None);
        };
        self.seq = *last;
        self.bar.advance(rows.len() as u64);
        Ok(Some(rows.into_iter().map(|(_, question)| question).collect()))
    }
}

/// One replay: what was read so far, and what was found.
struct Session {
    settings: Settings,
    against: Arc<ModelSnapshot>,
    replay: Replay,
    questions: u64,
    /// To other models.
    others: HashMap<ModelName, u64>,
    /// Of another version of this program.
    unreadable: u64,
    span: Option<(Timestamp, Timestamp)>,
}

/// A line is no question.
struct NoQuestion;

impl Session {
    fn new(settings: Settings, against: Arc<ModelSnapshot>) -> Self {
        let replay = Replay::new(Arc::clone(&against));
        Self { settings, against, replay, questions: 0, others: HashMap::new(), unreadable: 0, span: None }
    }

    async fn store(&mut self, quiet: bool) -> anyhow::Result<()> {
        let mut pages = Pages::open(&self.settings, quiet).await?;
        while let Some(page) = pages.next().await? {
            for line in page {
                if let Err(NoQuestion) = self.ask(&line).await {
                    self.unreadable += 1;
                }
            }
        }
        Ok(())
    }

    async fn files(&mut self, paths: &[PathBuf], quiet: bool) -> anyhow::Result<()> {
        let opened = paths.iter().map(|path| {
            let open = || anyhow::Ok((File::open(path)?, std::fs::metadata(path)?));
            let (file, about) = open().with_context(|| format!("`{}` cannot be opened", path.display()))?;
            anyhow::ensure!(!about.is_dir(), "`{}` is a folder, not a file", path.display());
            Ok((path, file, about.len()))
        });
        let opened = opened.collect::<anyhow::Result<Vec<_>>>()?;
        let read = Arc::new(AtomicU64::new(0));
        let total = opened.iter().map(|(_, _, bytes)| bytes).sum();
        let bar = TerminalBar::start(&Length::Bytes(total, Arc::clone(&read)), "questions", quiet);
        for (path, file, _) in opened {
            self.file(path, file, &bar, &read).await?;
        }
        bar.finish();
        Ok(())
    }

    async fn file(&mut self, path: &Path, file: File, bar: &TerminalBar, read: &AtomicU64) -> anyhow::Result<()> {
        let shown = path.display();
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let bytes = lines.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line);
            let bytes = bytes.with_context(|| format!("`{shown}` cannot be read"))?;
            if bytes == 0 {
                break;
            }
            read.fetch_add(bytes as u64, Ordering::Relaxed);
            bar.advance(1);
            let is_whole = line.last() == Some(&b'\n');
            let text = std::str::from_utf8(&line).unwrap_or_default();
            match self.ask(text).await {
                Ok(()) => {}
                Err(NoQuestion) if number > 1 && !is_whole && (bytes as u64) < LINE_LIMIT => {
                    eprintln!(
                        "warning: `{shown}` ends within line {number}, which is left out: it was not written to its end"
                    );
                }
                Err(NoQuestion) => bail!(
                    "`{shown}` is no replay log: line {number} is no question as `scoreline replay --save` writes them"
                ),
            }
        }
        Ok(())
    }

    async fn ask(&mut self, line: &str) -> Result<(), NoQuestion> {
        let question: LoggedQuestion<'_> = serde_json::from_str(line).map_err(|_| NoQuestion)?;
        if !self.replay.is_about(&question) {
            *self.others.entry(question.model).or_default() += 1;
            return Ok(());
        }
        let (from, to) = self.span.unwrap_or((question.asked_at, question.asked_at));
        self.span = Some((from.min(question.asked_at), to.max(question.asked_at)));
        let before =
            |version: &ModelVersion| load(self.settings.clone(), Some(self.against.name()), Some(version)).ok();
        self.replay.ask(&question, before).await;
        self.questions += 1;
        if self.questions.is_multiple_of(PAUSE_AFTER) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn report(&self) -> anyhow::Result<String> {
        let name = self.against.name();
        let mut others: Vec<_> = self.others.iter().map(|(model, count)| format!("{count} to `{model}`")).collect();
        others.sort();
        let Some((from, to)) = self.span else {
            let there = if others.is_empty() { "none at all".to_owned() } else { others.join(", ") };
            return Err(anyhow!("no question to `{name}` was logged; there are: {there}"));
        };
        let mut text = String::new();
        let Self { questions, unreadable, .. } = self;
        let minute = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
        let _ = writeln!(text, "{} to `{name}`, from {} to {} UTC", counted(*questions), minute(from), minute(to));
        if !others.is_empty() {
            let _ = writeln!(text, "left out: {}", others.join(", "));
        }
        if *unreadable > 0 {
            let _ = writeln!(text, "left out: {unreadable} that another version of this program wrote");
        }
        for found in self.replay.found() {
            describe(&mut text, &found, &self.against);
        }
        Ok(text)
    }
}

/// What would change for the questions that one version answered.
fn describe(text: &mut String, found: &Replayed, against: &ModelSnapshot) {
    let unit = match against.task() {
        Task::Clv => "USD",
        Task::Lead => "points",
    };
    let (before, now) = (&found.before, against.version());
    let _ = writeln!(text, "\n{before} -> {now}: {}", counted(found.questions));
    if let Some(summary) = &found.summary {
        let _ = writeln!(
            text,
            "  value    {:+.2} {unit} in the mean, {:.2} whatever the sign; 5 % are below {:+.2}, half below {:+.2}, 95 % below {:+.2}",
            summary.mean, summary.mean_abs, summary.p05, summary.p50, summary.p95
        );
        let order = summary.rank_correlation.map_or_else(
            || "one of them says the same of everybody".to_owned(),
            |order| format!("rank correlation {order:.4}"),
        );
        let _ = writeln!(text, "  order    {order}");
        if let Some(flips) = &summary.flips {
            let _ = writeln!(text, "  tiers    {} go up, {} go down", percent(flips.up), percent(flips.down));
            let _ = writeln!(
                text,
                "           {:<14}{}",
                "",
                Tier::ALL.map(|tier| format!("{:>14}", tier.as_str())).concat()
            );
            for (tier, row) in Tier::ALL.iter().zip(&found.tiers) {
                let _ = writeln!(
                    text,
                    "           {:<14}{}",
                    tier.as_str(),
                    row.map(|rows| format!("{rows:>14}")).concat()
                );
            }
        }
        let [before_us, now_us] = [summary.serving_seconds, summary.candidate_seconds].map(|seconds| seconds * 1e6);
        let _ = if before_us.is_nan() {
            writeln!(text, "  time     {now_us:.1} us a row; {before} is not there to compare with")
        } else {
            writeln!(text, "  time     {before_us:.1} us a row -> {now_us:.1} us")
        };
    }
    let sources = found.sources.iter().map(|((was, would), rows)| format!("{was} -> {would} {rows}"));
    let _ = writeln!(text, "  sources  {}", sources.collect::<Vec<_>>().join(", "));
    if let Some(reason) = &found.refusal {
        let _ = writeln!(text, "           the first that is not answered: {reason}");
    }
    let mut missing: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for (name, rows) in &found.missing {
        missing.entry(*rows).or_default().push(name);
    }
    for (rows, names) in missing.iter().rev() {
        let _ = writeln!(text, "  missing  in {}: {}", percent(*rows as f64 / found.known as f64), names.join(", "));
    }
    if found.differing > 0 {
        let rows = found.differing;
        let _ = writeln!(
            text,
            "  note     {rows} rows are answered otherwise by the {before} of this machine: its bundle, or the tiers in \
             `[routing]`, are not those that answered"
        );
    }
}

fn counted(questions: u64) -> String {
    format!("{questions} question{}", if questions == 1 { "" } else { "s" })
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
