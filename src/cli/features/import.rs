//! `scoreline features import-purchases`: a log of purchases into the store.
//!
//! The log is read twice: first every line is looked at, so that a log with a mistake in it changes nothing, then it is
//! written. Telling the same log again changes nothing either.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::super::Failure;
use super::super::beside::{ReplyError, StoreServer, body_of};
use super::super::score::chunk::Cell;
use super::super::score::purchases::{CUSTOMER, Places, customer, purchase};
use super::super::score::source::{self, NAMED, TableFormat};
use super::super::score::{TerminalBar, delimiter, for_the_log};
use crate::app::stored;
use crate::config::Settings;
use scoreline_domain::CustomerKey;
use scoreline_domain::Purchase;
use scoreline_domain::privacy::{IdHasher, Tombstones};
use scoreline_domain::text::with_causes;
use scoreline_engine::features::purchases::{LARGEST, fits};
use scoreline_store::{NewPurchase, PurchaseId, PurchasesRecorded, Repetitions, Store, StoreError};

/// A purchase's own name, for those that are told again with another amount.
const PURCHASE: [&str; 2] = ["purchase_id", "order_id"];
/// Mistakes that are shown.
const SHOWN: usize = 20;
/// Purchases of one transaction.
const BATCH: usize = 20_000;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct Import {
    /// Log to read: .csv, .ndjson, .parquet or .arrow
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Format of the log, when its name does not say
    #[arg(long, value_name = "FORMAT")]
    format: Option<TableFormat>,
    /// Separator of CSV columns
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = delimiter)]
    delimiter: u8,
    /// Items of every line, for a log that does not tell
    #[arg(long, value_name = "N")]
    items: Option<u32>,
    /// Take nothing when one line cannot be taken
    #[arg(long)]
    strict: bool,
    /// Neither progress bar nor summary
    #[arg(long, short)]
    quiet: bool,
}

const HELP: &str = "\
Examples:
  scoreline features import-purchases purchases.csv
  scoreline features import-purchases orders.parquet --items 1

Columns: customer_id, date, amount (or amount_usd, dollar_value) in US dollars, items (or number_of_cds); optionally \
purchase_id (or order_id). With it a purchase told again takes the place of the one before; without it purchases of the \
same customer, day, amount and items are told apart by counting them. A customer's identifier is hashed at once and must \
be the one that predictions are asked with. Amounts are net: one below 0 is a refund. A time with an offset counts for its \
day in UTC. Lines that cannot be taken are named and left out; with --strict nothing is taken then. From a database: have its own client \
write a CSV of the columns above. While a server of the same user has the SQLite file, it is told the purchases \
instead, as by POST /v1/purchases.";

impl Import {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        let find = || {
            Failure::Usage(format!(
                "format of `{}` is not known: name it {NAMED}, or give `--format`",
                self.file.display()
            ))
        };
        let format = self.format.or_else(|| TableFormat::of(&self.file)).ok_or_else(find)?;
        if self.file.as_os_str() == "-" {
            return Err(Failure::Usage("a log of purchases is read twice: give a file, not standard input".to_owned()));
        }
        // Nothing of what is looked at first is kept: any key will do.
        let log = Log { import: &self, format, hasher: IdHasher::new(&settings.privacy) };
        let Checked { lines, wrong } = log.check()?;
        let recorded = stored::run_until_signal(async {
            let opened = match stored::open_for_command(settings).await {
                Ok(opened) => opened,
                Err(err) => return log.tell(settings, err).await,
            };
            let recorded = Log { hasher: opened.hasher(), ..log }.write(&opened.store, &opened.tombstones).await;
            let closed = stored::close(&opened.store, &opened.tombstones).await;
            let recorded = recorded.and_then(|recorded| closed.map(|()| recorded));
            recorded.context("not all purchases were taken in; the same command does the rest")
        })?;
        if !self.quiet {
            let PurchasesRecorded { written, same, refused, impossible } = recorded;
            eprintln!(
                "read {lines} purchases: {written} new or changed, {same} known already, {} of erased customers, {wrong} not \
                 taken in",
                refused + impossible
            );
        }
        Ok(())
    }
}

/// Tells purchases to the server that has the store.
///
/// # Errors
/// When they are not taken, or that is not known: telling them again changes nothing.
async fn tell(server: &StoreServer, purchases: &[ToldPurchase]) -> anyhow::Result<PurchasesRecorded> {
    let rows: Vec<Vec<u8>> = purchases.iter().map(serde_json::to_vec).collect::<Result<_, _>>()?;
    let PurchasesReply { purchases, errors } = server.post("/v1/purchases", &body_of(&rows)).await?;
    if let Some(first) = errors.first() {
        bail!("the server that has the store refuses {} purchases: {}", errors.len(), first.error.message);
    }
    let ReplyCounts { written, same, erased } = purchases;
    Ok(PurchasesRecorded { written, same, refused: erased, impossible: 0 })
}

#[derive(Deserialize)]
struct PurchasesReply {
    purchases: ReplyCounts,
    errors: Vec<ReplyError>,
}

#[derive(Deserialize)]
struct ReplyCounts {
    written: u64,
    same: u64,
    erased: u64,
}

/// A purchase as the server is told it.
#[derive(Serialize)]
struct ToldPurchase {
    customer_id: Box<str>,
    date: String,
    amount: f64,
    items: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    purchase_id: Option<Box<str>>,
    /// How many equal ones without an id came before it in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    repetition: Option<u32>,
}

/// What a log holds.
struct Checked {
    lines: u64,
    /// Lines that cannot be taken in.
    wrong: u64,
}

/// A log and how it is read.
struct Log<'a> {
    import: &'a Import,
    format: TableFormat,
    hasher: IdHasher,
}

impl Log<'_> {
    /// Looks at every line and says which cannot be taken in.
    fn check(&self) -> anyhow::Result<Checked> {
        let mut lines = 0;
        let mut problems = Vec::new();
        let mut wrong = 0_u64;
        self.read("lines checked", |line| {
            lines += 1;
            if let Err(problem) = line {
                wrong += 1;
                if problems.len() < SHOWN {
                    problems.push(problem);
                }
            }
            Ok(())
        })?;
        if wrong > 0 {
            let more = if wrong > SHOWN as u64 { "\n  ..." } else { "" };
            let problems = problems.join("\n  ");
            if self.import.strict || wrong == lines {
                bail!("{wrong} of {lines} lines cannot be taken in, so none was:\n  {problems}{more}");
            }
            eprintln!("{wrong} of {lines} lines cannot be taken in; the rest is:\n  {problems}{more}");
        }
        if lines == 0 {
            bail!("`{}` has no purchases", self.import.file.display());
        }
        Ok(Checked { lines, wrong })
    }

    /// Tells the server that has the store's file; whatever else the matter is with the store, that is said.
    async fn tell(&self, settings: &Settings, err: anyhow::Error) -> anyhow::Result<PurchasesRecorded> {
        let Some(StoreError::Locked { path, process, .. }) = err.downcast_ref() else {
            return Err(err.context("no purchase was taken in"));
        };
        let server = match StoreServer::of(path, process, settings).await {
            Ok(server) => server,
            Err(unreached) => {
                let reason = with_causes(&*unreached);
                return Err(err.context(format!("no purchase was taken in: {reason}")));
            }
        };
        let told = self.tell_all(&server).await;
        told.context("not all purchases were taken in; the same command does the rest")
    }

    async fn tell_all(&self, server: &StoreServer) -> anyhow::Result<PurchasesRecorded> {
        let mut repetitions = Repetitions::default();
        let mut all = PurchasesRecorded::default();
        let mut reader = self.lines()?;
        let bar = TerminalBar::start(&reader.length, "purchases", self.import.quiet);
        while let Some(lines) = reader.next(self)? {
            bar.advance(lines.len() as u64);
            let told: Vec<_> = lines.into_iter().flatten().map(|line| line.told(&mut repetitions)).collect();
            for batch in told.chunks(server.rows) {
                add(&mut all, tell(server, batch).await?);
            }
        }
        bar.finish();
        Ok(all)
    }

    async fn write(&self, store: &Store, tombstones: &Tombstones) -> anyhow::Result<PurchasesRecorded> {
        let (batches, mut taken) = tokio::sync::mpsc::channel::<Vec<NewPurchase>>(2);
        let reading = async {
            let mut repetitions = Repetitions::default();
            let mut batch = Vec::with_capacity(BATCH);
            let mut reader = self.lines()?;
            let bar = TerminalBar::start(&reader.length, "purchases", self.import.quiet);
            while let Some(lines) = reader.next(self)? {
                bar.advance(lines.len() as u64);
                // What cannot be taken in was said when it was looked at.
                for line in lines.into_iter().flatten() {
                    batch.push(line.named(&mut repetitions));
                    if batch.len() == BATCH {
                        batches.send(std::mem::take(&mut batch)).await?;
                    }
                }
            }
            batches.send(batch).await?;
            bar.finish();
            drop(batches);
            anyhow::Ok(())
        };
        let writing = async {
            let mut all = PurchasesRecorded::default();
            while let Some(batch) = taken.recv().await {
                let (erased, batch): (Vec<_>, _) =
                    batch.into_iter().partition(|one| tombstones.contains(&one.customer));
                all.refused += erased.len() as u64;
                add(&mut all, store.record_purchases(&batch, None).await?);
            }
            anyhow::Ok(all)
        };
        let ((), recorded) = tokio::try_join!(reading, writing)?;
        Ok(recorded)
    }

    fn read(&self, what: &str, mut each: impl FnMut(Result<Line, String>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut reader = self.lines()?;
        let bar = TerminalBar::start(&reader.length, what, self.import.quiet);
        while let Some(lines) = reader.next(self)? {
            bar.advance(lines.len() as u64);
            lines.into_iter().try_for_each(&mut each)?;
        }
        bar.finish();
        Ok(())
    }

    fn lines(&self) -> anyhow::Result<Lines> {
        let file = &self.import.file;
        let input = source::open(file, self.format, self.import.delimiter)?;
        let places = Places::find(&input.layout).with_context(|| format!("`{}`", file.display()))?;
        let columns = input.layout.columns;
        if places.items.is_none() && self.import.items.is_none() {
            bail!(
                "`{}` has no column `items`: not known is not 0. Give `--items 1` when every line is one item",
                file.display()
            );
        }
        let name = columns.iter().position(|column| PURCHASE.contains(&column.as_str()));
        Ok(Lines { rows: input.rows, length: input.length, columns, places, name, number: 0 })
    }

    fn line(&self, places: &Places, name: Option<usize>, cells: &[Cell]) -> Result<Line, String> {
        let id = customer(places, cells)?;
        self.hasher.screen().identifier(id).map_err(|refused| format!("`{CUSTOMER}` {refused}"))?;
        let read = purchase(places, cells)?;
        let items = read.items.or(self.import.items.map(f64::from)).unwrap_or_default();
        fits(&Purchase { items: Some(items), ..read })
            .map_err(|column| format!("`{column}` must be at most {LARGEST:e}"))?;
        let name = name.map(|name| cells[name].as_text().trim()).filter(|name| !name.is_empty());
        Ok(Line {
            customer: self.hasher.key(id),
            id: id.into(),
            name: name.map(Into::into),
            day: read.date,
            amount_usd: read.amount_usd,
            items,
        })
    }
}

/// The lines of a log, some thousands at a time.
struct Lines {
    rows: Box<dyn source::Source>,
    length: source::Length,
    columns: Vec<String>,
    places: Places,
    name: Option<usize>,
    number: u64,
}

impl Lines {
    fn next(&mut self, log: &Log<'_>) -> anyhow::Result<Option<Vec<Result<Line, String>>>> {
        let Some(chunk) = self.rows.next()? else { return Ok(None) };
        let mut lines = Vec::with_capacity(chunk.rows());
        for cells in chunk.cells(&self.columns)? {
            self.number += 1;
            let line = log.line(&self.places, self.name, &cells);
            // What is wrong is said without the cell: it may be personal, and messages end up in logs.
            lines.push(line.map_err(|problem| format!("row {}: {}", self.number, for_the_log(&problem))));
        }
        Ok(Some(lines))
    }
}

/// One purchase.
struct Line {
    customer: CustomerKey,
    /// The customer as the log names them, for a server that hashes them itself.
    id: Box<str>,
    name: Option<Box<str>>,
    day: jiff::civil::Date,
    amount_usd: f64,
    items: f64,
}

impl Line {
    fn named(self, repetitions: &mut Repetitions) -> NewPurchase {
        let Self { customer, id: _, name, day, amount_usd, items } = self;
        let id = match name {
            Some(name) => PurchaseId::named(&name),
            None => repetitions.next(&customer, day, amount_usd, items),
        };
        NewPurchase { customer, id, day, amount_usd, items }
    }

    fn told(self, repetitions: &mut Repetitions) -> ToldPurchase {
        let Self { customer, id, name, day, amount_usd, items } = self;
        let repetition = name.is_none().then(|| repetitions.count(&customer, day, amount_usd, items));
        ToldPurchase {
            customer_id: id,
            date: day.to_string(),
            amount: amount_usd,
            items,
            purchase_id: name,
            repetition,
        }
    }
}

fn add(all: &mut PurchasesRecorded, more: PurchasesRecorded) {
    let PurchasesRecorded { written, same, refused, impossible } = more;
    all.written += written;
    all.same += same;
    all.refused += refused;
    all.impossible += impossible;
}
