//! `scoreline reveal`: who the customers of a score file are, for whoever has the pepper. What the store keeps sealed is
//! opened; who was erased stays closed. It is audited before the first line is written.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::Failure;
use super::score::chunk::{Chunk, object};
use super::score::sink::{Output, Target};
use super::score::source::{self, Input, TableFormat};
use crate::app::stored::{self, Opened};
use crate::config::Settings;
use crate::telemetry;
use scoreline_domain::CustomerKey;
use scoreline_domain::durable::PRIVATE;
use scoreline_domain::privacy::Identifiers;
use scoreline_domain::privacy::audit::{self, Actor, AuditAction, AuditOutcome};
use scoreline_domain::privacy::seal::Sealer;

const KEY: &str = "customer_key";
/// The column or field that is added, in front of the others.
const ID: &str = "customer_id";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct RevealArgs {
    /// File with `customer_key`, .csv or .ndjson, such as `write_back.path`; `-` is standard input
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// File to write, readable to its owner alone; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Format of the input, when its name does not say
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<TableFormat>,
    /// Your own identifiers, one a line: names customers of whom none is kept sealed
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
}

const HELP: &str = "\
Examples:
  scoreline reveal --input scores.ndjson --output named.ndjson
  scoreline reveal --input scores.csv --ids customers.txt | join …

Every line gets `customer_id` in front: what the platform calls the customer, which the store keeps sealed under the \
pepper. Of customers who were only told by purchases or requests nothing is sealed; they are named when `--ids` lists \
them. A customer who was erased, or is not known, has none. Runs beside a server, and each run is an audit line \
(`log.audit_path`).";

/// What became of the lines.
#[derive(Default)]
struct Tally {
    lines: u64,
    named: u64,
    erased: u64,
    not_sealed: u64,
    unknown: u64,
}

/// How customers are found.
struct Book {
    opened: Opened,
    /// Absent where identifiers are hashes: nobody wants another name then.
    sealer: Option<Sealer>,
    /// Those that the command was told.
    told: HashMap<CustomerKey, SecretString>,
}

impl RevealArgs {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        let format = match self.input_format.or_else(|| TableFormat::of(&self.input)) {
            Some(format @ (TableFormat::Csv | TableFormat::Ndjson)) => format,
            Some(TableFormat::Parquet | TableFormat::Arrow) | None => {
                let path = self.input.display();
                let problem = format!("`{path}` must be named .csv or .ndjson, or give `--input-format`");
                return Err(Failure::Usage(problem));
            }
        };
        if settings.privacy.screen.identifiers == Identifiers::Hashed && self.ids.is_none() {
            let problem = "there is nothing to open: with `privacy.identifiers` = `hashed` customers are your own hashes; \
                           list those with `--ids`";
            return Err(Failure::Usage(problem.to_owned()));
        }
        let input = source::open(&self.input, format, b',')?;
        let columns = &input.layout.columns;
        let shown = self.input.display();
        if !columns.iter().any(|column| column == KEY) {
            return Err(Failure::Usage(format!("`{shown}` has no `{KEY}`: expected a file of `write_back.path`")));
        }
        if columns.iter().any(|column| column == ID) {
            return Err(Failure::Usage(format!("`{shown}` has `{ID}` already, which the output adds")));
        }
        let (output, target) = Output::open(&self.output, &self.input, PRIVATE)?;
        let log = telemetry::init(&settings.log)?;
        let tally = stored::run_until_signal(Box::pin(reveal(settings, self.ids.as_deref(), input, target)));
        // What is queued is written before what follows.
        drop(log);
        let Tally { lines, named, erased, not_sealed, unknown } = tally?;
        output.complete()?;
        eprintln!(
            "named the customers of {named} of {lines} lines; {erased} of erased customers, {not_sealed} of customers without \
             a sealed identifier, {unknown} of customers that are not known"
        );
        Ok(())
    }
}

async fn reveal(settings: &Settings, ids: Option<&Path>, input: Input, target: Target) -> anyhow::Result<Tally> {
    let opened = stored::open_to_reveal(settings).await;
    let outcome = if opened.is_ok() { AuditOutcome::Done } else { AuditOutcome::Refused };
    record(outcome)?;
    let opened = opened?;
    let store = opened.store.clone();
    let revealed = async { Book::new(opened, ids)?.copy(input, target).await }.await;
    store.close().await;
    if revealed.is_err() {
        record(AuditOutcome::Failed)?;
    }
    revealed
}

fn record(outcome: AuditOutcome) -> anyhow::Result<()> {
    let uid = std::fs::metadata("/proc/self").context("whose process this is cannot be read")?.uid();
    audit::record(&Actor::named(&format!("uid {uid}")), AuditAction::RevealCustomers, "customer", outcome, "");
    Ok(())
}

impl Book {
    fn new(opened: Opened, ids: Option<&Path>) -> anyhow::Result<Self> {
        let mut told = HashMap::new();
        if let Some(path) = ids {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("`{}` cannot be read", path.display()))?;
            let hasher = opened.hasher();
            let ids = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|id| !id.is_empty());
            told.extend(ids.map(|id| (hasher.key(id), SecretString::from(id.to_owned()))));
        }
        let hashed = opened.privacy.screen.identifiers == Identifiers::Hashed;
        let sealer = (!hashed).then(|| Sealer::new(&opened.privacy));
        Ok(Self { opened, sealer, told })
    }

    /// Writes every line with the name of its customer.
    async fn copy(&self, mut input: Input, target: Target) -> anyhow::Result<Tally> {
        const UNWRITABLE: &str = "output cannot be written";
        let mut out: Box<dyn Write> = match target {
            Target::Stdout => Box::new(io::stdout()),
            Target::File(file) => Box::new(BufWriter::new(file)),
        };
        let column = input.layout.columns.iter().position(|column| column == KEY).unwrap_or_default();
        let mut tally = Tally::default();
        let mut header = Some(input.layout.columns);
        while let Some(chunk) = input.rows.next().context("input cannot be read")? {
            let names = self.names(&keys(&chunk, column), &mut tally).await?;
            let text = match &chunk {
                Chunk::Records(records) => {
                    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
                    if let Some(header) = header.take() {
                        writer.write_record(std::iter::once(ID).chain(header.iter().map(String::as_str)))?;
                    }
                    for (record, name) in records.iter().zip(&names) {
                        writer.write_field(name.as_ref().map_or("", |name| name.expose_secret()))?;
                        for field in (0..record.len()).filter_map(|field| record.get(field)) {
                            writer.write_field(field)?;
                        }
                        writer.write_record(None::<&[u8]>)?;
                    }
                    writer.into_inner().map_err(csv::IntoInnerError::into_error)?
                }
                Chunk::Lines(lines) => {
                    let mut text = Vec::new();
                    for (line, name) in lines.iter().zip(&names) {
                        write_line(&mut text, line, name.as_ref())?;
                    }
                    text
                }
                Chunk::Batch(_) | Chunk::Customers(_) => bail!("the input is neither CSV nor NDJSON"),
            };
            out.write_all(&text).context(UNWRITABLE)?;
        }
        out.flush().context(UNWRITABLE)?;
        Ok(tally)
    }

    async fn names(
        &self,
        keys: &[Option<CustomerKey>],
        tally: &mut Tally,
    ) -> anyhow::Result<Vec<Option<SecretString>>> {
        let asked: Vec<_> = keys.iter().flatten().copied().collect();
        let sealed = self.opened.store.sealed_ids(asked).await?;
        let mut names = Vec::with_capacity(keys.len());
        for key in keys {
            tally.lines += 1;
            let key = key.as_ref();
            let told = key.and_then(|key| self.told.get(key));
            let kept = key.and_then(|key| Some((key, sealed.get(key)?)));
            let name = if key.is_some_and(|key| self.opened.tombstones.contains(key)) {
                tally.erased += 1;
                None
            } else if let Some(told) = told {
                Some(told.clone())
            } else if let Some((key, kept)) = kept {
                let opened = self.sealer.as_ref().zip(kept.as_ref()).and_then(|(sealer, id)| sealer.open(key, id).ok());
                tally.not_sealed += u64::from(opened.is_none());
                opened
            } else {
                tally.unknown += 1;
                None
            };
            tally.named += u64::from(name.is_some());
            names.push(name);
        }
        Ok(names)
    }
}

/// The keys in a chunk, in the order of its rows.
fn keys(chunk: &Chunk, column: usize) -> Vec<Option<CustomerKey>> {
    match chunk {
        Chunk::Records(records) => records.iter().map(|record| key(record.get(column)?)).collect(),
        Chunk::Lines(lines) => lines.iter().map(key_of_line).collect(),
        Chunk::Batch(_) | Chunk::Customers(_) => Vec::new(),
    }
}

fn key_of_line(line: &[u8]) -> Option<CustomerKey> {
    let fields = object(line).ok()?;
    let (_, value) = fields.iter().find(|(name, _)| name == KEY)?;
    key(serde_json::from_str::<String>(value.get()).ok()?.as_bytes())
}

/// A key from its 64 hexadecimal digits.
fn key(text: &[u8]) -> Option<CustomerKey> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.trim_ascii().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect();
    let digest = bytes.filter(|_| rest.is_empty())?.try_into().ok()?;
    Some(CustomerKey::from_digest(digest))
}

/// A line with the name in front; one that is no object with fields stays as it is.
fn write_line(out: &mut Vec<u8>, line: &[u8], name: Option<&SecretString>) -> anyhow::Result<()> {
    if object(line).is_ok_and(|fields| !fields.is_empty()) {
        write!(out, "{{\"{ID}\":")?;
        serde_json::to_writer(&mut *out, &name.map(ExposeSecret::expose_secret))?;
        out.push(b',');
        out.extend_from_slice(line.trim_ascii().strip_prefix(b"{").unwrap_or_default());
    } else {
        out.extend_from_slice(line);
    }
    out.push(b'\n');
    Ok(())
}
