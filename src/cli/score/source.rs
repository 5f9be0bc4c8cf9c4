//! Reading tables: CSV, NDJSON, Parquet and Arrow as one stream of chunks.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use arrow_schema::{DataType, SchemaRef};
use csv::ByteRecord;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::arrow;
use super::chunk::{CHUNK_ROWS, Chunk, Lines, Records, object};

/// The kinds of tables there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TableFormat {
    Csv,
    Ndjson,
    Parquet,
    /// Arrow IPC: a stream or a file
    Arrow,
}

/// The names by which formats are known, for messages.
pub(in crate::cli) const NAMED: &str = ".csv, .ndjson, .parquet or .arrow";

impl TableFormat {
    /// By the end of the file's name.
    pub(in crate::cli) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" | "tsv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" | "pq" => Some(Self::Parquet),
            "arrow" | "arrows" => Some(Self::Arrow),
            _ => None,
        }
    }
}

/// Longest line of NDJSON that is read: a file that is not NDJSON must not end up in memory whole.
const LINE_LIMIT: u64 = 16 << 20;
pub(super) const READ_BUFFER: usize = 1 << 18;

/// An input that was opened, with what is known of it before the first row.
pub(in crate::cli) struct Input {
    pub(in crate::cli) layout: Layout,
    pub(in crate::cli) rows: Box<dyn Source>,
    pub(in crate::cli) length: Length,
}

/// The columns of an input. NDJSON has those of its first chunk.
pub(in crate::cli) struct Layout {
    pub(in crate::cli) columns: Vec<String>,
    /// What they hold, where the input says so.
    pub(in crate::cli) schema: Option<SchemaRef>,
}

/// How much there is to read, as far as it can be known.
pub(in crate::cli) enum Length {
    /// Bytes in all, and how many of them were read.
    Bytes(u64, Arc<AtomicU64>),
    Rows(u64),
    Unknown,
}

/// A stream of chunks.
pub(in crate::cli) trait Source: Send {
    /// The next rows; `None` at the end.
    fn next(&mut self) -> anyhow::Result<Option<Chunk>>;
}

/// Opens `path` (`-` is standard input) and reads as much as is needed to know its columns.
pub(in crate::cli) fn open(path: &Path, format: TableFormat, delimiter: u8) -> anyhow::Result<Input> {
    match format {
        TableFormat::Parquet => return open_parquet(path),
        TableFormat::Arrow => return arrow::open(path),
        TableFormat::Csv | TableFormat::Ndjson => {}
    }
    let (bytes, length): (Box<dyn Read + Send>, _) = if path.as_os_str() == "-" {
        (Box::new(io::stdin()), Length::Unknown)
    } else {
        let file = open_file(path)?;
        let total = file.metadata()?.len();
        let read = Arc::new(AtomicU64::new(0));
        (Box::new(Counted { inner: file, read: Arc::clone(&read) }), Length::Bytes(total, read))
    };
    let bytes = without_mark(bytes).with_context(|| format!("`{}` cannot be read", path.display()))?;
    match format {
        TableFormat::Csv => open_csv(bytes, delimiter, length),
        TableFormat::Ndjson | TableFormat::Parquet | TableFormat::Arrow => open_ndjson(bytes, length),
    }
    .with_context(|| format!("`{}` cannot be read", path.display()))
}

/// The text behind a byte order mark, which spreadsheets and .NET write and no column's name begins with.
fn without_mark(mut bytes: Box<dyn Read + Send>) -> anyhow::Result<Box<dyn Read + Send>> {
    let mut first = Vec::with_capacity(3);
    bytes.by_ref().take(3).read_to_end(&mut first)?;
    if first.starts_with(&[0xff, 0xfe]) || first.starts_with(&[0xfe, 0xff]) {
        bail!("the file is UTF-16: save it as UTF-8");
    }
    let text = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&first).to_vec();
    Ok(Box::new(io::Cursor::new(text).chain(bytes)))
}

pub(super) fn open_file(path: &Path) -> anyhow::Result<File> {
    let file = File::open(path).with_context(|| format!("`{}` cannot be opened", path.display()))?;
    if file.metadata()?.is_dir() {
        bail!("`{}` is a folder, not a file", path.display());
    }
    Ok(file)
}

pub(super) struct Counted {
    pub(super) inner: File,
    pub(super) read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

struct Csv {
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: ByteRecord,
}

fn open_csv(bytes: Box<dyn Read + Send>, delimiter: u8, length: Length) -> anyhow::Result<Input> {
    // A row with too few or too many fields is an error of that row, not of the file.
    let mut builder = csv::ReaderBuilder::new();
    let mut reader = builder.flexible(true).delimiter(delimiter).buffer_capacity(READ_BUFFER).from_reader(bytes);
    let header = reader.headers().context("the first line must hold the column names")?;
    let columns: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
    if columns.iter().all(String::is_empty) {
        bail!("the file is empty: the first line must hold the column names");
    }
    Ok(Input {
        layout: Layout { columns, schema: None },
        rows: Box::new(Csv { reader, record: ByteRecord::new() }),
        length,
    })
}

impl Source for Csv {
    fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let mut records = Records::default();
        while records.len() < CHUNK_ROWS && self.reader.read_byte_record(&mut self.record)? {
            records.push(&self.record);
        }
        Ok((records.len() > 0).then_some(Chunk::Records(records)))
    }
}

struct Ndjson {
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    number: u64,
    /// Read to learn the columns, not handed out yet.
    first: Option<Lines>,
}

fn open_ndjson(bytes: Box<dyn Read + Send>, length: Length) -> anyhow::Result<Input> {
    let reader = BufReader::with_capacity(READ_BUFFER, bytes);
    let mut source = Ndjson { reader, line: Vec::new(), number: 0, first: None };
    let first = source.read()?;
    let mut columns: Vec<String> = Vec::new();
    for line in first.iter() {
        for (name, _) in object(line).unwrap_or_default() {
            if !columns.iter().any(|column| *column == name) {
                columns.push(name.into_owned());
            }
        }
    }
    if first.len() == 0 {
        bail!("the file is empty");
    }
    if columns.is_empty() {
        bail!("no line among the first {} is a JSON object with fields", first.len());
    }
    source.first = Some(first);
    Ok(Input { layout: Layout { columns, schema: None }, rows: Box::new(source), length })
}

impl Ndjson {
    fn read(&mut self) -> anyhow::Result<Lines> {
        let mut lines = Lines::default();
        while lines.len() < CHUNK_ROWS {
            self.line.clear();
            self.number += 1;
            if (&mut self.reader).take(LINE_LIMIT).read_until(b'\n', &mut self.line)? == 0 {
                break;
            }
            if self.line.len() as u64 == LINE_LIMIT && !self.line.ends_with(b"\n") {
                bail!("line {} is longer than 16 MiB: is this NDJSON, one object per line?", self.number);
            }
            let line = self.line.trim_ascii();
            if !line.is_empty() {
                lines.push(line);
            }
        }
        Ok(lines)
    }
}

impl Source for Ndjson {
    fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let lines = match self.first.take() {
            Some(lines) => lines,
            None => self.read()?,
        };
        Ok((lines.len() > 0).then_some(Chunk::Lines(lines)))
    }
}

struct Parquet {
    reader: ParquetRecordBatchReader,
}

fn open_parquet(path: &Path) -> anyhow::Result<Input> {
    if path.as_os_str() == "-" {
        bail!("Parquet cannot come from standard input: it is read from its end; give a file");
    }
    let file = open_file(path)?;
    let read = || format!("`{}` cannot be read as Parquet", path.display());
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).with_context(read)?;
    let schema = Arc::clone(builder.schema());
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let reader = builder.with_batch_size(CHUNK_ROWS).build().with_context(read)?;
    let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
    Ok(Input {
        layout: Layout { columns, schema: Some(schema) },
        rows: Box::new(Parquet { reader }),
        length: Length::Rows(rows),
    })
}

impl Source for Parquet {
    fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        Ok(self.reader.next().transpose()?.map(Chunk::Batch))
    }
}

/// Whether a typed column can hold a feature: numbers, or text that is read as numbers.
pub(in crate::cli) fn can_be_number(kind: &DataType) -> bool {
    let kind = plain(kind);
    kind.is_numeric() || kind.is_string() || kind.is_null()
}

/// The type of the values, whether or not they are kept in a dictionary.
pub(in crate::cli) fn plain(kind: &DataType) -> &DataType {
    if let DataType::Dictionary(_, values) = kind { values } else { kind }
}
