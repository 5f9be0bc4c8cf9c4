//! `scoreline push`: brings scores of leads to the dialer, and says how they get on.
//!
//! Rows go through the code that answers `POST /v1/leads/score`: in this process, or in the server that has the store's file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use serde::Deserialize;
use tokio::time::sleep;

use super::beside::{ReplyError, StoreServer, body_of};
use super::score::chunk::Cell;
use super::score::source::{self, NAMED, TableFormat};
use super::score::{TerminalBar, delimiter, for_the_log};
use super::{Failure, print};
use crate::app::{jobs, stored};
use crate::config::Settings;
use crate::http::{LeadIntake, LeadReport, LeadTally, PushBody, look};
use crate::leads::LeadDesk;
use crate::scoring::Scorer;
use scoreline_domain::privacy::IdHasher;
use scoreline_domain::time::SystemClock;
use scoreline_engine::inference::registry::{Patience, Registry};
use scoreline_store::StoreError;

/// Rows of a commit.
const BATCH: usize = 5_000;
/// Mistakes that are shown.
const SHOWN: usize = 20;
/// How often a watched folder is looked at.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = HELP, args_conflicts_with_subcommands = true)]
pub(super) struct PushArgs {
    #[command(subcommand)]
    command: Option<PushCommand>,
    /// Leads to score and push: .csv, .ndjson, .parquet, .arrow, or - for standard input
    #[arg(long, value_name = "FILE", required_unless_present = "watch", conflicts_with = "watch")]
    input: Option<PathBuf>,
    /// Take each file that appears in this folder, then move it to done/ or failed/ below it
    #[arg(long, value_name = "DIR")]
    watch: Option<PathBuf>,
    /// Format of the input, when its name does not say
    #[arg(long, value_name = "FORMAT")]
    format: Option<TableFormat>,
    /// Separator of CSV columns
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = delimiter)]
    delimiter: u8,
    /// Column of the lead's identifier, which is the contact's id on the platform
    #[arg(long, value_name = "NAME", default_value = "leadId")]
    id_column: String,
    /// Column of a score that is taken as it is; without it the lead model scores the other columns
    #[arg(long, value_name = "NAME", default_value = "priority_score")]
    score_column: String,
    /// Column of that score's time
    #[arg(long, value_name = "NAME", default_value = "last_calculated_at")]
    time_column: String,
    /// Read and score, keep and push nothing
    #[arg(long)]
    dry_run: bool,
    /// Neither progress bar nor summary
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum PushCommand {
    /// Show how scores stand in each target
    Status {
        /// As JSON, as GET /admin/push
        #[arg(long)]
        json: bool,
    },
    /// Show what is known of one lead, and why it is not called next
    Inspect {
        #[arg(value_name = "LEAD")]
        lead: String,
    },
    /// Try again what was given up, and leads that a target had not
    Retry,
}

const HELP: &str = "\
Examples:
  scoreline push --input leads.csv
  scoreline push --input scores.parquet --id-column contact_id \\
    --score-column score --time-column scored_at
  scoreline push --watch /srv/leads
  scoreline push status
  scoreline push inspect 10000045

With columns `priority_score` and `last_calculated_at` (or those that are named) scores are taken as they are; otherwise the \
lead model scores the other columns. An older score than the kept one changes nothing. While a server of the same user has \
the SQLite file, it is told the rows, and pushes them; otherwise this command pushes them itself. Where they go says \
`push.sink`.";

impl PushArgs {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        match &self.command {
            Some(PushCommand::Status { json }) => status(settings, *json),
            Some(PushCommand::Inspect { lead }) => inspect(settings, lead),
            Some(PushCommand::Retry) => retry(settings),
            None => self.take(settings),
        }
    }

    fn take(&self, settings: &Settings) -> Result<(), Failure> {
        if let Some(folder) = &self.watch {
            if !folder.is_dir() {
                return Err(Failure::Usage(format!("`--watch` must name a folder, `{}` is none", folder.display())));
            }
            return Ok(stored::run_until_signal(self.watch(settings, folder))?);
        }
        let Some(file) = &self.input else { return Ok(()) };
        let format = self.format_of(file)?;
        let taken = stored::run_until_signal(self.push(settings, file, format))?;
        if !self.quiet {
            eprintln!("{}", taken.summary(self.dry_run));
        }
        taken.result()?;
        Ok(())
    }

    fn format_of(&self, file: &Path) -> Result<TableFormat, Failure> {
        self.format.or_else(|| TableFormat::of(file)).ok_or_else(|| {
            let file = file.display();
            Failure::Usage(format!("format of `{file}` is not known: name it {NAMED}, or give `--format`"))
        })
    }

    /// Takes the rows of one file, and pushes them unless a server does.
    async fn push(&self, settings: &Settings, file: &Path, format: TableFormat) -> anyhow::Result<Taken> {
        match stored::open_for_command(settings).await {
            Ok(opened) => {
                let taken = async {
                    let (scorer, desk) = jobs::lead_command(settings, &opened).await?;
                    let place = Place::Here { scorer: &scorer, hasher: &opened.hasher(), desk: &desk };
                    let mut taken = self.take_file(settings, scorer.registry(), &place, file, format).await?;
                    taken.goes_nowhere = jobs::lead_targets(settings).is_empty();
                    if !self.dry_run {
                        jobs::keep_lead_places(&opened, &scorer).await?;
                        taken.paused = self.deliver(settings, &opened).await?;
                    }
                    anyhow::Ok(taken)
                };
                let taken = Box::pin(taken).await;
                let closed = stored::close(&opened.store, &opened.tombstones).await;
                taken.and_then(|taken| closed.map(|()| taken))
            }
            Err(err) => {
                let Some(StoreError::Locked { path, process, .. }) = err.downcast_ref() else {
                    return Err(err.context("no lead was taken"));
                };
                if self.dry_run {
                    bail!("`--dry-run` needs the store, and process {process} has it: ask without, or stop it");
                }
                let server = StoreServer::of(path, process, settings).await;
                let server = server.context("no lead was taken")?;
                let registry = crate::app::registry(settings);
                registry.scan(Patience::Now);
                self.take_file(settings, &registry, &Place::Server(&server), file, format).await
            }
        }
    }

    async fn deliver(&self, settings: &Settings, opened: &stored::Opened) -> anyhow::Result<Vec<String>> {
        if jobs::lead_targets(settings).is_empty() {
            return Ok(Vec::new());
        }
        let quiet = self.quiet;
        let observe = move |waiting: u64| {
            if !quiet && waiting > 0 {
                eprintln!("{waiting} scores wait to be written");
            }
        };
        let paused = jobs::push_once(settings, opened, observe).await?;
        Ok(paused.into_iter().map(|(target, pause)| format!("`{target}`: {}", pause.reason)).collect())
    }

    async fn take_file(
        &self,
        settings: &Settings,
        registry: &Registry,
        place: &Place<'_>,
        file: &Path,
        format: TableFormat,
    ) -> anyhow::Result<Taken> {
        let mut input = source::open(file, format, self.delimiter)?;
        let columns = std::mem::take(&mut input.layout.columns);
        let at = |name: &str| columns.iter().position(|column| column == name);
        let id = at(&self.id_column).ok_or_else(|| {
            anyhow!("`{}` has no column `{}`: name the lead's with `--id-column`", file.display(), self.id_column)
        })?;
        let given = match (at(&self.score_column), at(&self.time_column)) {
            (Some(score), Some(time)) => Some((score, time)),
            (None, None) => None,
            (Some(_), None) => bail!("scores need their time: name its column with `--time-column`"),
            (None, Some(_)) => {
                bail!("`{}` is the time of a score: name its column with `--score-column`", self.time_column)
            }
        };
        let lead_model = registry.serving(&settings.models.lead_model);
        let is_word = |column: &String| {
            let rules = lead_model.iter().flat_map(|model| model.schema().rules());
            rules.clone().any(|rule| rule.name == *column && !rule.categories.is_empty())
        };
        let words: Vec<bool> = columns.iter().map(is_word).collect();
        let table = LeadTable { columns, words, id, given };
        let bar = TerminalBar::start(&input.length, "leads", self.quiet);
        let mut taken = Taken::default();
        while let Some(chunk) = input.rows.next()? {
            let rows: Vec<Vec<u8>> = chunk.cells(&table.columns)?.into_iter().map(|cells| table.row(cells)).collect();
            for part in rows.chunks(place.rows()) {
                place.take(part, self.dry_run, &mut taken).await?;
            }
            bar.advance(rows.len() as u64);
        }
        bar.finish();
        if taken.rows == 0 {
            bail!("`{}` has no leads", file.display());
        }
        Ok(taken)
    }

    /// Takes files as they appear, until a signal.
    async fn watch(&self, settings: &Settings, folder: &Path) -> anyhow::Result<()> {
        let mut seen: BTreeMap<PathBuf, (u64, SystemTime)> = BTreeMap::new();
        eprintln!("watching `{}`; Ctrl-C ends it", folder.display());
        loop {
            let found = files(folder).with_context(|| format!("`{}` cannot be looked at", folder.display()))?;
            for (file, look) in &found {
                // Two looks that agree: whoever writes it has ended.
                if seen.get(file) == Some(look) {
                    self.take_watched(settings, folder, file).await?;
                }
            }
            seen = found;
            sleep(LOOK).await;
        }
    }

    async fn take_watched(&self, settings: &Settings, folder: &Path, file: &Path) -> anyhow::Result<()> {
        let name = file.file_name().unwrap_or_default();
        let shown = for_the_log(&name.to_string_lossy()).to_string();
        let taken = match self.format.or_else(|| TableFormat::of(file)) {
            Some(format) => self.push(settings, file, format).await,
            None => Err(anyhow!("format is not known: name it {NAMED}")),
        };
        let taken = taken.and_then(|taken| {
            eprintln!("{shown}: {}", taken.summary(self.dry_run));
            taken.result().map(|()| taken)
        });
        let below = folder.join(if taken.is_ok() { "done" } else { "failed" });
        fs::create_dir_all(&below).with_context(|| format!("`{}` cannot be made", below.display()))?;
        if let Err(err) = &taken {
            eprintln!("{shown}: {err:#}");
            let mut errors = name.to_os_string();
            errors.push(".errors.txt");
            fs::write(below.join(errors), format!("{err:#}\n")).context("the errors cannot be written down")?;
        }
        fs::rename(file, below.join(name)).with_context(|| format!("`{}` cannot be moved", file.display()))
    }
}

/// Files of a folder that somebody may be done with, with their size and time.
fn files(folder: &Path) -> std::io::Result<BTreeMap<PathBuf, (u64, SystemTime)>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unfinished = [".part", ".tmp"].iter().any(|end| name.ends_with(end)) || name.starts_with('.');
        let about = fs::metadata(&path)?;
        if about.is_file() && !unfinished {
            found.insert(path, (about.len(), about.modified()?));
        }
    }
    Ok(found)
}

/// Columns of a table of leads.
struct LeadTable {
    columns: Vec<String>,
    /// Whether a column's feature has words for values, which may look like numbers.
    words: Vec<bool>,
    id: usize,
    /// Score and its time.
    given: Option<(usize, usize)>,
}

impl LeadTable {
    /// A row as a body of `POST /v1/leads/score`.
    fn row(&self, cells: Vec<Cell>) -> Vec<u8> {
        let mut row = serde_json::Map::new();
        let mut features = serde_json::Map::new();
        for (place, cell) in cells.into_iter().enumerate() {
            let value = if self.words[place] || place == self.id { text(cell) } else { number_or_text(cell) };
            let Some(value) = value else { continue };
            match self.given {
                _ if place == self.id => _ = row.insert("leadId".to_owned(), value),
                Some((score, _)) if place == score => _ = row.insert("priority_score".to_owned(), value),
                Some((_, time)) if place == time => _ = row.insert("last_calculated_at".to_owned(), value),
                // A given score has no features.
                Some(_) => {}
                None => _ = features.insert(self.columns[place].clone(), value),
            }
        }
        if self.given.is_none() {
            row.insert("features".to_owned(), features.into());
        }
        // Texts and numbers: there is nothing in it that cannot be written.
        serde_json::to_vec(&row).unwrap_or_default()
    }
}

fn text(cell: Cell) -> Option<serde_json::Value> {
    match cell {
        Cell::Absent => None,
        Cell::Text(text) | Cell::Literal(text) if text.trim().is_empty() => None,
        Cell::Text(text) | Cell::Literal(text) => Some(text.into()),
    }
}

fn number_or_text(cell: Cell) -> Option<serde_json::Value> {
    match cell.into_number() {
        Cell::Absent => None,
        Cell::Literal(text) => Some(serde_json::from_str(&text).unwrap_or_else(|_| text.into())),
        Cell::Text(text) => Some(text.into()),
    }
}

/// Where rows are taken.
enum Place<'a> {
    Here { scorer: &'a Scorer, hasher: &'a IdHasher, desk: &'a LeadDesk },
    Server(&'a StoreServer),
}

/// What became of the rows so far.
#[derive(Default)]
struct Taken {
    rows: u64,
    tally: LeadTally,
    /// The first mistakes.
    problems: Vec<String>,
    is_told: bool,
    goes_nowhere: bool,
    /// Targets that pause, and why.
    paused: Vec<String>,
}

#[derive(Deserialize)]
struct LeadsReply {
    results: Vec<RowReply>,
    metadata: LeadCounts,
}

#[derive(Deserialize)]
struct RowReply {
    #[serde(default)]
    row: usize,
    #[serde(flatten)]
    error: Option<ReplyError>,
}

#[derive(Deserialize)]
struct LeadCounts {
    stored: u64,
    unchanged: u64,
    conflicts: u64,
    not_stored: u64,
    errors: u64,
}

impl Place<'_> {
    /// Rows that are taken at a time.
    fn rows(&self) -> usize {
        match self {
            Self::Here { .. } => BATCH,
            Self::Server(server) => server.rows,
        }
    }

    async fn take(&self, rows: &[Vec<u8>], dry_run: bool, taken: &mut Taken) -> anyhow::Result<()> {
        let before = taken.rows;
        taken.rows += rows.len() as u64;
        match self {
            Self::Here { scorer, hasher, desk } => {
                let intake = LeadIntake { scorer, hasher, desk };
                let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
                let leads = if dry_run {
                    intake.check(&rows).await
                } else {
                    intake.take(&rows).await.map_err(|err| anyhow!(err.message))?
                };
                taken.add(leads.tally());
                leads.faults().for_each(|(row, problem)| taken.problem(before, row, problem));
            }
            Self::Server(server) => {
                taken.is_told = true;
                let LeadsReply { results, metadata } = server.post("/v1/leads/score", &body_of(rows)).await?;
                let LeadCounts { stored, unchanged, conflicts, not_stored, errors } = metadata;
                taken.add(LeadTally { stored, unchanged, conflicts, not_stored, errors });
                for RowReply { row, error } in results {
                    if let Some(error) = error {
                        taken.problem(before, row, &error.error.message);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Taken {
    fn add(&mut self, more: LeadTally) {
        let LeadTally { stored, unchanged, conflicts, not_stored, errors } = more;
        self.tally.stored += stored;
        self.tally.unchanged += unchanged;
        self.tally.conflicts += conflicts;
        self.tally.not_stored += not_stored;
        self.tally.errors += errors;
    }

    fn problem(&mut self, before: u64, row: usize, problem: &str) {
        if self.problems.len() < SHOWN {
            self.problems.push(format!("row {}: {}", before + row as u64 + 1, for_the_log(problem)));
        }
    }

    fn summary(&self, dry_run: bool) -> String {
        let LeadTally { stored, unchanged, conflicts, not_stored, errors } = self.tally;
        let rows = self.rows;
        if dry_run {
            return format!("read {rows} leads: {not_stored} could be taken, {errors} not; nothing was kept");
        }
        let mut text = format!(
            "read {rows} leads: {stored} new scores, {unchanged} as before, {conflicts} older than what is kept, \
             {not_stored} not kept, {errors} not taken"
        );
        if self.is_told {
            text += "; the server that has the store pushes them";
        }
        if self.goes_nowhere {
            text += "; kept, and pushed nowhere: `push.sink` is `none`";
        }
        for paused in &self.paused {
            let _ = write!(text, "\nwaits: {paused}; a server goes on, or the same command");
        }
        if errors > 0 {
            let more = if errors > self.problems.len() as u64 { "\n  ..." } else { "" };
            let _ = write!(text, "\n  {}{more}", self.problems.join("\n  "));
        }
        text
    }

    /// # Errors
    /// When no row could be taken.
    fn result(&self) -> anyhow::Result<()> {
        if self.tally.errors == self.rows {
            let first = self.problems.first().map_or("", String::as_str);
            bail!("none of {} leads could be taken; {first}", self.rows);
        }
        Ok(())
    }
}

/// Reads from the store beside whoever writes to it.
fn reading<T>(
    settings: &Settings,
    look: impl AsyncFnOnce(&LeadDesk, &IdHasher) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    stored::run_until_signal(async {
        let opened = stored::open_to_reveal(settings).await?;
        let desk = jobs::lead_desk(settings, opened.store.clone(), &opened.privacy);
        let looked = look(&desk, &opened.hasher()).await;
        opened.store.close().await;
        looked
    })
}

fn status(settings: &Settings, json: bool) -> Result<(), Failure> {
    let body = reading(settings, async |desk, _| look(desk).await.map_err(|err| anyhow!(err.message)))?;
    if json {
        let text = serde_json::to_string_pretty(&body)?;
        return print(&format!("{text}\n"));
    }
    print(&shown(&body))
}

fn shown(body: &PushBody) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "leads         {} fresh, {} too old to count", body.leads.fresh, body.leads.stale);
    if body.targets.is_empty() {
        let _ = writeln!(text, "targets       none: `push.sink` is `none`");
    }
    for target in &body.targets {
        let _ = writeln!(text, "{}", target.target);
        let _ = writeln!(
            text,
            "  {} written, {} waiting, {} of them read first, {} without a contact, {} given up",
            target.applied, target.pending, target.unknown, target.absent, target.dead
        );
        if let Some(age) = target.oldest_pending_seconds {
            let _ = writeln!(text, "  the oldest that waits is {age} s old");
        }
        if target.drift > 0 {
            let _ = writeln!(text, "  drift: {} leads are called by an old score", target.drift);
        }
        if let Some(sweep) = &target.sweep {
            let _ = writeln!(text, "  a sweep of old scores runs since {}", sweep.started_at);
        }
        for failure in &target.failures {
            let again = failure.next_at.as_ref().map_or_else(|| "given up".to_owned(), |at| format!("again {at}"));
            let _ = writeln!(text, "  {} {again} after {} attempts: {}", failure.key, failure.attempts, failure.reason);
        }
    }
    text
}

fn inspect(settings: &Settings, lead: &str) -> Result<(), Failure> {
    let text = reading(settings, async |desk, hasher| {
        let lead = lead.trim();
        hasher.screen().identifier(lead).map_err(|why| anyhow!("the lead's id {why}"))?;
        let (store, key) = (desk.store()?, hasher.key(lead));
        let Some(report) = LeadReport::of(desk, store, &key).await? else {
            bail!("no score of this lead is kept: it was never told, or told under another id");
        };
        let ahead = match store.lead(&key).await? {
            Some(kept) => store.leads_before(&kept, desk.settings().stale_before(desk.now())).await?,
            None => 0,
        };
        Ok(chain(&report, ahead))
    })?;
    print(&text)
}

/// What is known of a lead, step by step, and one sentence why it is not called next.
fn chain(report: &LeadReport, ahead: u64) -> String {
    let lead = &report.lead;
    let mut text = String::new();
    let version = if lead.model_version.is_empty() { String::new() } else { format!(" ({})", lead.model_version) };
    let _ =
        writeln!(text, "score         {} from {}{version}, {} s old", lead.stored_score, lead.source, lead.age_seconds);
    let _ = writeln!(text, "counts as     {}, until {}", lead.priority_score, lead.valid_until);
    if !lead.stale {
        let _ = writeln!(text, "place         {ahead} fresh leads come before it");
    }
    for push in &report.push {
        let reason = push.reason.as_ref().map_or_else(String::new, |reason| format!(", {reason}"));
        let _ = writeln!(text, "{}", push.target);
        let _ = writeln!(text, "  should say  {}, {}{reason}", push.says, push.state);
        if let Some(platform) = &push.platform {
            let _ = writeln!(text, "  says        {} as of {}", platform.says, platform.last_calculated_at);
        }
    }
    for entry in &report.history {
        let at = if entry.target.is_empty() { "came".to_owned() } else { format!("written to {}", entry.target) };
        let before = if entry.previous.is_empty() { "nothing" } else { &entry.previous };
        let _ = writeln!(text, "history       {} {at}: {} after {before} ({})", entry.at, entry.says, entry.cause);
    }
    let _ = writeln!(text, "{}", why_not_next(report, ahead));
    text
}

fn why_not_next(report: &LeadReport, ahead: u64) -> String {
    if report.lead.stale {
        return "It is not called next because its score is too old to count: score it again.".to_owned();
    }
    if report.push.is_empty() {
        return "Its score goes nowhere: `push.sink` is `none`.".to_owned();
    }
    for push in &report.push {
        let told = match push.state {
            "applied" => continue,
            "absent" => "has no contact of this id, and none is made: import the lead into the list",
            "dead" => "refused its score: see the reason above, then `scoreline push retry`",
            _ => "was not told its score yet: `scoreline push status` says what it waits for",
        };
        return format!("It is not called by its score because `{}` {told}.", push.target);
    }
    if ahead == 0 {
        return "No fresh lead comes before it: if it is not called, see `scoreline genesys doctor`.".to_owned();
    }
    format!("It is not called next because {ahead} fresh leads have a higher score, or an equal newer one.")
}

fn retry(settings: &Settings) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Retried {
        retried: u64,
    }
    let retried = stored::run_until_signal(async {
        match stored::open_for_command(settings).await {
            Ok(opened) => {
                let mut retried = 0;
                for target in jobs::lead_targets(settings) {
                    retried +=
                        opened.store.retry_writes(&target, scoreline_domain::time::Clock::now(&SystemClock)).await?;
                }
                stored::close(&opened.store, &opened.tombstones).await?;
                Ok(retried)
            }
            Err(err) => {
                let Some(StoreError::Locked { path, process, .. }) = err.downcast_ref() else { return Err(err) };
                let server = StoreServer::of(path, process, settings).await?;
                Ok(server.post::<Retried>("/admin/push/retry", b"").await?.retried)
            }
        }
    })?;
    eprintln!("{retried} scores are tried again");
    Ok(())
}
