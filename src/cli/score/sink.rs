//! Writing tables: the input's columns as they were, the answer's columns behind them. A file appears under its name
//! only when it is complete.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use smallvec::SmallVec;

use super::answer::RowAnswer;
use super::arrow;
use super::chunk::{Cell, Chunk, object};
use super::source::{Layout, TableFormat};
use crate::scoring::task::TaskScore;
use scoreline_domain::durable::{self, Draft};
use scoreline_domain::score::{cents, round};
use scoreline_domain::{Estimate, Interval, Probability};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::manifest::Task;

/// What the output adds for a model of this task, in order: numbers, then texts.
pub(super) fn output_columns(task: Task) -> &'static [&'static str] {
    match task {
        Task::Clv => &[
            "clv_value_usd",
            "confidence_interval_low",
            "confidence_interval_high",
            "risk_score",
            "confidence_score",
            "tier_probability",
            "clv_tier",
            "source",
            "warnings",
            "error",
        ],
        Task::Lead => &["priority_score", "conversion_probability", "source", "warnings", "error"],
    }
}

/// How many of those are numbers.
fn numbers_of(task: Task) -> usize {
    match task {
        Task::Clv => 6,
        Task::Lead => 2,
    }
}

/// Rows that a Parquet writer holds before it writes them out.
const ROW_GROUP: usize = 131_072;

/// How an output is written.
pub(super) struct Encoder {
    format: TableFormat,
    task: Task,
    delimiter: u8,
    columns: Vec<String>,
    /// Of those, the ones that the model reads as numbers.
    features: Vec<bool>,
    /// Of the whole output, for Parquet and Arrow.
    schema: SchemaRef,
}

/// A chunk with its answers, ready to be written.
pub(super) enum Encoded {
    Bytes(Vec<u8>),
    Batch(RecordBatch),
}

impl Encoder {
    pub(super) fn new(format: TableFormat, delimiter: u8, layout: &Layout, snapshot: &ModelSnapshot) -> Self {
        let task = snapshot.task();
        let text = |name: &String| Arc::new(Field::new(name, DataType::Utf8, true));
        let (mut fields, metadata): (Vec<_>, _) = match &layout.schema {
            Some(schema) => (schema.fields().iter().cloned().collect(), schema.metadata().clone()),
            None => (layout.columns.iter().map(text).collect(), arrow_schema::Metadata::default()),
        };
        fields.extend(output_columns(task).iter().enumerate().map(|(position, name)| {
            let kind = if position < numbers_of(task) { DataType::Float64 } else { DataType::Utf8 };
            Arc::new(Field::new(*name, kind, true))
        }));
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let columns = layout.columns.clone();
        let rule = |column: &String| snapshot.schema().rules().iter().find(|rule| rule.name == *column);
        let is_number = |column| rule(column).is_some_and(|rule| rule.categories.is_empty());
        let features = columns.iter().map(is_number).collect();
        Self { format, task, delimiter, columns, features, schema }
    }

    /// How many rows have fields that this output has no column for. A column has to be known before the first row is
    /// written; NDJSON has no columns, and everything fits.
    pub(super) fn left_out(&self, chunk: &Chunk) -> u64 {
        match (chunk, self.format) {
            (Chunk::Lines(lines), TableFormat::Csv | TableFormat::Parquet | TableFormat::Arrow) => {
                lines.rows_with_more_than(&self.columns)
            }
            (Chunk::Lines(_), TableFormat::Ndjson) | (Chunk::Records(_) | Chunk::Batch(_) | Chunk::Customers(_), _) => {
                0
            }
        }
    }

    /// What comes before the first row.
    fn header(&self) -> anyhow::Result<Vec<u8>> {
        if self.format != TableFormat::Csv {
            return Ok(Vec::new());
        }
        let mut writer = self.csv_writer();
        writer
            .write_record(self.columns.iter().map(String::as_str).chain(output_columns(self.task).iter().copied()))?;
        Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
    }

    /// Encodes a chunk with the answers to its rows.
    pub(super) fn encode(
        &self,
        snapshot: &ModelSnapshot,
        chunk: &Chunk,
        answers: &[RowAnswer],
    ) -> anyhow::Result<Encoded> {
        match self.format {
            TableFormat::Csv => self.to_csv(snapshot, chunk, answers).map(Encoded::Bytes),
            TableFormat::Ndjson => self.to_ndjson(snapshot, chunk, answers).map(Encoded::Bytes),
            TableFormat::Parquet | TableFormat::Arrow => self.to_batch(snapshot, chunk, answers).map(Encoded::Batch),
        }
    }

    fn csv_writer(&self) -> csv::Writer<Vec<u8>> {
        csv::WriterBuilder::new().delimiter(self.delimiter).from_writer(Vec::with_capacity(1 << 16))
    }

    fn to_csv(&self, snapshot: &ModelSnapshot, chunk: &Chunk, answers: &[RowAnswer]) -> anyhow::Result<Vec<u8>> {
        let mut writer = self.csv_writer();
        let mut text = String::new();
        if let Chunk::Records(records) = chunk {
            for (record, answer) in records.iter().zip(answers) {
                for column in 0..self.columns.len() {
                    writer.write_field(record.get(column).unwrap_or_default())?;
                }
                write_csv_answer(&mut writer, snapshot, answer, &mut text)?;
            }
        } else {
            for (cells, answer) in chunk.cells(&self.columns)?.iter().zip(answers) {
                for cell in cells {
                    writer.write_field(cell.as_text())?;
                }
                write_csv_answer(&mut writer, snapshot, answer, &mut text)?;
            }
        }
        Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
    }

    fn to_ndjson(&self, snapshot: &ModelSnapshot, chunk: &Chunk, answers: &[RowAnswer]) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(1 << 17);
        if let Chunk::Lines(lines) = chunk {
            for (line, answer) in lines.iter().zip(answers) {
                // What was written is kept letter for letter; the answer is spliced in before the closing brace.
                match line.strip_suffix(b"}") {
                    Some(open) if matches!(answer, RowAnswer::Scored { .. }) || object(line).is_ok() => {
                        out.extend_from_slice(open);
                        let is_empty = open.trim_ascii_end().ends_with(b"{");
                        write_json_answer(&mut out, snapshot, answer, !is_empty)?;
                    }
                    Some(_) | None => {
                        out.extend_from_slice(b"{\"input\":");
                        serde_json::to_writer(&mut out, &String::from_utf8_lossy(line))?;
                        write_json_answer(&mut out, snapshot, answer, true)?;
                    }
                }
            }
            return Ok(out);
        }
        for (cells, answer) in chunk.cells(&self.columns)?.into_iter().zip(answers) {
            out.push(b'{');
            let mut comma = false;
            for ((name, is_feature), cell) in self.columns.iter().zip(&self.features).zip(cells) {
                let cell = if *is_feature { cell.into_number() } else { cell };
                if cell == Cell::Absent {
                    continue;
                }
                if comma {
                    out.push(b',');
                }
                comma = true;
                serde_json::to_writer(&mut out, name)?;
                out.push(b':');
                match &cell {
                    Cell::Text(text) => serde_json::to_writer(&mut out, text)?,
                    Cell::Literal(text) => out.extend_from_slice(text.as_bytes()),
                    Cell::Absent => {}
                }
            }
            write_json_answer(&mut out, snapshot, answer, comma)?;
        }
        Ok(out)
    }

    fn to_batch(&self, snapshot: &ModelSnapshot, chunk: &Chunk, answers: &[RowAnswer]) -> anyhow::Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = if let Chunk::Batch(batch) = chunk {
            let kept =
                |column| if self.format == TableFormat::Arrow { arrow::compact(column) } else { Arc::clone(column) };
            batch.columns().iter().map(kept).collect()
        } else {
            let rows = chunk.cells(&self.columns)?;
            (0..self.columns.len()).map(|position| self.column(&rows, position)).collect()
        };
        let numbers: Vec<_> = answers.iter().map(|answer| numbers(self.task, answer)).collect();
        for position in 0..numbers_of(self.task) {
            columns.push(Arc::new(numbers.iter().map(|numbers| numbers[position]).collect::<Float64Array>()));
        }
        if self.task == Task::Clv {
            columns.push(Arc::new(answers.iter().map(tier).collect::<StringArray>()));
        }
        columns.push(Arc::new(answers.iter().map(source).collect::<StringArray>()));
        let mut text = String::new();
        let warnings = answers.iter().map(|answer| {
            warnings(snapshot, answer, &mut text);
            (!text.is_empty()).then(|| text.clone())
        });
        columns.push(Arc::new(warnings.collect::<StringArray>()));
        columns.push(Arc::new(answers.iter().map(error).collect::<StringArray>()));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// A passed-through column of cells: text, unless the input said that it holds numbers.
    fn column(&self, rows: &[Vec<Cell>], position: usize) -> ArrayRef {
        let text = |cells: &Vec<Cell>| match &cells[position] {
            Cell::Absent => None,
            Cell::Text(text) | Cell::Literal(text) => Some(text.clone()),
        };
        if *self.schema.field(position).data_type() == DataType::Float64 {
            let number = |cells| text(cells).and_then(|text| text.parse().ok());
            Arc::new(rows.iter().map(number).collect::<Float64Array>())
        } else {
            Arc::new(rows.iter().map(text).collect::<StringArray>())
        }
    }
}

fn write_csv_answer(
    writer: &mut csv::Writer<Vec<u8>>,
    snapshot: &ModelSnapshot,
    answer: &RowAnswer,
    text: &mut String,
) -> anyhow::Result<()> {
    for number in numbers(snapshot.task(), answer) {
        text.clear();
        if let Some(number) = number {
            let _ = write!(text, "{number}");
        }
        writer.write_field(text.as_bytes())?;
    }
    if snapshot.task() == Task::Clv {
        writer.write_field(tier(answer).unwrap_or_default())?;
    }
    writer.write_field(source(answer).unwrap_or_default())?;
    warnings(snapshot, answer, text);
    writer.write_field(text.as_bytes())?;
    writer.write_field(error(answer).unwrap_or_default())?;
    writer.write_record(None::<&[u8]>)?;
    Ok(())
}

/// Writes the answer's fields and closes the object. Absent values are left out, as in a reply.
fn write_json_answer(
    out: &mut Vec<u8>,
    snapshot: &ModelSnapshot,
    answer: &RowAnswer,
    mut comma: bool,
) -> anyhow::Result<()> {
    let mut key = |out: &mut Vec<u8>, name: &str| {
        if comma {
            out.push(b',');
        }
        comma = true;
        write!(out, "\"{name}\":")
    };
    for (name, number) in output_columns(snapshot.task()).iter().zip(numbers(snapshot.task(), answer)) {
        if let Some(number) = number {
            key(out, name)?;
            write!(out, "{number}")?;
        }
    }
    for (name, word) in [("clv_tier", tier(answer)), ("source", source(answer))] {
        if let Some(word) = word {
            key(out, name)?;
            serde_json::to_writer(&mut *out, word)?;
        }
    }
    match answer {
        RowAnswer::Scored { warnings, .. } => {
            key(out, "warnings")?;
            out.push(b'[');
            for (position, warning) in warnings.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, &*warning.text(snapshot))?;
            }
            out.push(b']');
        }
        RowAnswer::Refused(reason) => {
            key(out, "error")?;
            serde_json::to_writer(&mut *out, reason)?;
        }
    }
    out.extend_from_slice(b"}\n");
    Ok(())
}

fn numbers(task: Task, answer: &RowAnswer) -> SmallVec<[Option<f64>; 6]> {
    let RowAnswer::Scored { outcome, .. } = answer else {
        return smallvec::smallvec![None; numbers_of(task)];
    };
    let share = |share: Option<Probability>| share.map(|share| round(share.get(), 1e4));
    match outcome {
        TaskScore::Clv(Estimate { value, interval, risk, confidence, tier_probability, .. }) => smallvec::smallvec![
            Some(cents(*value)),
            interval.map(Interval::low).map(cents),
            interval.map(Interval::high).map(cents),
            share(*risk),
            share(*confidence),
            share(*tier_probability),
        ],
        TaskScore::Lead(lead) => {
            smallvec::smallvec![Some(f64::from(lead.priority)), Some(round(lead.probability.get(), 1e6))]
        }
    }
}

fn tier(answer: &RowAnswer) -> Option<&'static str> {
    match answer {
        RowAnswer::Scored { outcome: TaskScore::Clv(estimate), .. } => Some(estimate.tier.as_str()),
        RowAnswer::Scored { outcome: TaskScore::Lead(_), .. } | RowAnswer::Refused(_) => None,
    }
}

fn source(answer: &RowAnswer) -> Option<&'static str> {
    match answer {
        RowAnswer::Scored { source, .. } => Some(source.as_str()),
        RowAnswer::Refused(_) => None,
    }
}

fn error(answer: &RowAnswer) -> Option<&str> {
    match answer {
        RowAnswer::Scored { .. } => None,
        RowAnswer::Refused(reason) => Some(reason),
    }
}

/// The warnings in one text, as a cell holds them.
fn warnings(snapshot: &ModelSnapshot, answer: &RowAnswer, text: &mut String) {
    text.clear();
    let RowAnswer::Scored { warnings, .. } = answer else { return };
    for warning in warnings {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&warning.text(snapshot));
    }
}

/// Where encoded chunks go.
pub(super) enum Sink {
    Bytes(Box<dyn Write + Send>),
    Parquet(Box<ArrowWriter<File>>),
    Arrow(arrow::Writer),
}

impl Sink {
    /// Begins the output on `target`, which is called `path`.
    pub(super) fn begin(target: Target, path: &Path, encoder: &Encoder) -> anyhow::Result<Self> {
        match (encoder.format, target) {
            (TableFormat::Parquet, Target::Stdout) => bail!("Parquet cannot go to standard output: give a file"),
            (TableFormat::Parquet, Target::File(file)) => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_max_row_group_row_count(Some(ROW_GROUP))
                    .build();
                let writer = ArrowWriter::try_new(file, Arc::clone(&encoder.schema), Some(properties))?;
                Ok(Self::Parquet(Box::new(writer)))
            }
            // By these names the two forms are told apart everywhere.
            (TableFormat::Arrow, Target::File(file)) if path.extension().is_some_and(|end| end == "arrow") => {
                arrow::Writer::file(file, &encoder.schema).map(Self::Arrow)
            }
            (TableFormat::Arrow, target) => arrow::Writer::stream(target.buffered(), &encoder.schema).map(Self::Arrow),
            (TableFormat::Csv | TableFormat::Ndjson, target) => {
                let mut out = target.buffered();
                out.write_all(&encoder.header()?)?;
                Ok(Self::Bytes(out))
            }
        }
    }

    pub(super) fn write(&mut self, encoded: Encoded) -> anyhow::Result<()> {
        match (self, encoded) {
            (Self::Bytes(out), Encoded::Bytes(bytes)) => {
                out.write_all(&bytes)?;
                // Whoever reads from a pipe gets what there is.
                Ok(out.flush()?)
            }
            (Self::Parquet(writer), Encoded::Batch(batch)) => Ok(writer.write(&batch)?),
            (Self::Arrow(writer), Encoded::Batch(batch)) => writer.write(&batch),
            (Self::Bytes(_), Encoded::Batch(_)) | (Self::Parquet(_) | Self::Arrow(_), Encoded::Bytes(_)) => {
                bail!("the output was begun in another format")
            }
        }
    }

    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Bytes(mut out) => Ok(out.flush()?),
            Self::Parquet(writer) => Ok(writer.close().map(drop)?),
            Self::Arrow(writer) => writer.finish(),
        }
    }
}

/// An opened output.
pub(in crate::cli) enum Target {
    Stdout,
    File(File),
}

impl Target {
    fn buffered(self) -> Box<dyn Write + Send> {
        match self {
            Self::Stdout => Box::new(BufWriter::new(io::stdout())),
            Self::File(file) => Box::new(BufWriter::with_capacity(1 << 18, file)),
        }
    }
}

/// The file that becomes the output once it is complete; nothing, where it goes into a pipe or a device.
pub(in crate::cli) struct Output(Option<Draft>);

impl Output {
    /// Opens what `path` (`-` is standard output) will be written through; a new file has the permissions `mode`.
    ///
    /// # Errors
    /// When the folder is missing or not writable, the path is a folder, or it is the input.
    pub(in crate::cli) fn open(path: &Path, input: &Path, mode: u32) -> anyhow::Result<(Self, Target)> {
        if path.as_os_str() == "-" {
            return Ok((Self(None), Target::Stdout));
        }
        let shown = path.display();
        if path.is_dir() {
            bail!("output `{shown}` is a folder: name a file");
        }
        if let (Ok(output), Ok(input)) = (path.canonicalize(), input.canonicalize())
            && output == input
        {
            bail!("output `{shown}` is the input: it would be overwritten while it is read");
        }
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            // A device or a pipe cannot be replaced by renaming.
            let file = OpenOptions::new().write(true).open(path);
            let file = file.with_context(|| format!("output `{shown}` cannot be opened"))?;
            return Ok((Self(None), Target::File(file)));
        }
        path.file_name().with_context(|| format!("output `{shown}` has no file name"))?;
        let folder = durable::folder_of(path);
        if !folder.is_dir() {
            bail!("folder `{}` of the output does not exist: create it first", folder.display());
        }
        let draft = Draft::create(path, mode);
        let draft = draft.with_context(|| format!("output `{shown}` cannot be created"))?;
        let file = draft.writer()?;
        Ok((Self(Some(draft)), Target::File(file)))
    }

    /// Gives the finished file its name, once it is on disk.
    pub(in crate::cli) fn complete(self) -> anyhow::Result<()> {
        self.0.map_or(Ok(()), Draft::complete).context("output cannot be put in its place")
    }
}
